# What loads, pesters and audits a gateway from outside: h2load (of nghttp2), slowhttptest and testssl, the machine's or Debian's.

part_version() { printf 2; }
# It ends its help with an error.
part_works() {
    "$TOOLS/bin/h2load" --version >/dev/null 2>&1 && [[ $("$TOOLS/bin/slowhttptest" -h 2>&1) == *'slow read'* ]] &&
        [[ $("$TOOLS/bin/testssl" --help 2>&1) == *--server-defaults* ]]
}

part_install() {
    local name
    command -v h2load >/dev/null || apt_install nghttp2-client
    command -v slowhttptest >/dev/null || apt_install slowhttptest
    command -v testssl >/dev/null || apt_install testssl.sh
    # A link of an earlier set-up is none to itself.
    for name in h2load slowhttptest testssl; do link_tool "$name" "$(PATH=${PATH#"$TOOLS/bin:"} command -v "$name")"; done
}
