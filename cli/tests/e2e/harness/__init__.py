"""What the end-to-end tests stand on. Nothing here knows Dunlin's code: it knows its files, ports and public contract."""
