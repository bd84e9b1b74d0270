# Zig from PyPI: builds the C and the Zig example (its `zig cc` is a C compiler with a WASI libc).

part_version() { digest_of "$PINS/zig.txt"; }
part_works() { [[ $("$TOOLS/bin/zig" version 2>/dev/null) == "$(sed -n 's/^ziglang==//p' "$PINS/zig.txt")" ]]; }

part_install() {
    python_env zig "$PINS/zig.txt"
    link_tool zig "$TOOLS"/zig/lib/python*/site-packages/ziglang/zig
    # The first build for WASI compiles its libc, for half a minute: better here than in a test with a deadline.
    local probe
    probe=$(mktemp -d)
    echo 'int main(void) { return 0; }' >"$probe/probe.c"
    "$TOOLS/bin/zig" cc --target=wasm32-wasi -Oz -flto -o "$probe/probe.wasm" "$probe/probe.c" ||
        die "zig cannot compile C to WebAssembly" "see its message above"
    rm -rf "$probe"
}
