# cargo-deny, compiled from its source: checks licences, sources and bans. Takes some minutes the first time.

DENY=0.20.2

part_version() { printf %s "$DENY"; }
part_works() { [[ $("$TOOLS/bin/cargo-deny" --version 2>/dev/null) == "cargo-deny $DENY" ]]; }

part_install() {
    local found
    if found=$(command -v cargo-deny) && [[ $found != "$TOOLS"/* && $("$found" --version) == "cargo-deny $DENY" ]]; then
        link_tool cargo-deny "$found"
        return
    fi
    say "compiling cargo-deny $DENY"
    # Speed of building matters more here than speed of running.
    (cd "$REPO" && unset CARGO_TARGET_DIR RUSTFLAGS && CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256 CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=true \
        cargo install --quiet --locked --force --root "$TOOLS/deny" "cargo-deny@$DENY" >&2) ||
        die "cargo-deny could not be compiled" "see cargo's message above"
    link_tool cargo-deny "$TOOLS/deny/bin/cargo-deny"
}
