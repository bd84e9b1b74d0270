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
