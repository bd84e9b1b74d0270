# The PostgreSQL server: the machine's where there is one, else Debian's packages unpacked into .tools/postgres (installing
# them would start a server that nobody asked for). .ci/tools/with-postgres runs it.

part_version() { printf 2; }
part_works() { "$REPO/.ci/tools/with-postgres" true >/dev/null 2>&1; }

part_install() {
    if part_works; then return; fi
    command -v apt-get >/dev/null ||
        die "no PostgreSQL server was found" "install PostgreSQL 14 or newer, so that initdb and postgres are on PATH"
    rm -rf "$TOOLS/postgres"
    unpack_missing "$TOOLS/postgres" postgresql
    "$REPO/.ci/tools/with-postgres" true || die "PostgreSQL does not start" "its message is above; run .ci/tools/with-postgres true"
}

# unpack_missing FOLDER PACKAGE...: unpacks these packages, and what they need that this machine lacks.
unpack_missing() {
    local into=$1 deb missing
    shift
    mapfile -t missing < <(apt-get -y --no-install-recommends --print-uris install "$@" 2>/dev/null | sed -nE "s/^'[^']+' ([a-z0-9.+-]+)_.*/\1/p")
    if [[ ${#missing[@]} -eq 0 ]]; then
        as_root apt-get -qq update >&2 || die "apt-get update failed" "check the network and /etc/apt/sources.list.d"
        mapfile -t missing < <(apt-get -y --no-install-recommends --print-uris install "$@" 2>/dev/null | sed -nE "s/^'[^']+' ([a-z0-9.+-]+)_.*/\1/p")
    fi
    [[ ${#missing[@]} -gt 0 ]] || die "apt-get does not know: $*" "check /etc/apt/sources.list.d"
    mkdir -p "$into/debs"
    (cd "$into/debs" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "${missing[@]}" >&2) || die "apt-get could not download: ${missing[*]}" "see apt's message above"
    for deb in "$into"/debs/*.deb; do dpkg -x "$deb" "$into/root"; done
    rm -rf "$into/debs"
}
