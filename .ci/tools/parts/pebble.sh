# Pebble, an authority for tests of ACME (RFC 8555): the machine's where there is one, else Debian's package unpacked into
# .tools/pebble.

part_version() { printf 1; }
# The whole of the help is taken: where a reader leaves early, the writer fails, and with it the pipe.
part_works() { [[ $("$TOOLS/bin/pebble" -help 2>&1) == *dnsserver* ]]; }

part_install() {
    local found
    if found=$(command -v pebble) && [[ $found != "$TOOLS"/* ]]; then
        link_tool pebble "$found"
        return
    fi
    command -v apt-get >/dev/null || die "pebble was not found" "install pebble 2.4 or newer, so that it is on PATH"
    rm -rf "$TOOLS/pebble"
    unpack_missing "$TOOLS/pebble" pebble
    link_tool pebble "$TOOLS/pebble/root/usr/bin/pebble"
}
