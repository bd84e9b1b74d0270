"""What the benchmarks share. They are programs of their own in this folder's parent; nothing here runs by itself."""
