# Prometheus and its promtool, which read the metrics in a test as everybody's does: the machine's where there are both, else
# Debian's package unpacked into .tools/prometheus.

part_version() { printf 1; }
part_works() { "$TOOLS/bin/promtool" --version >/dev/null 2>&1 && "$TOOLS/bin/prometheus" --version >/dev/null 2>&1; }

part_install() {
    local server tool
    if server=$(command -v prometheus) && tool=$(command -v promtool) && [[ $server != "$TOOLS"/* && $tool != "$TOOLS"/* ]]; then
        link_tool prometheus "$server"
        link_tool promtool "$tool"
        return
    fi
    command -v apt-get >/dev/null || die "prometheus was not found" "install prometheus 2.40 or newer, so that it and promtool are on PATH"
    rm -rf "$TOOLS/prometheus"
    unpack_missing "$TOOLS/prometheus" prometheus
    link_tool prometheus "$TOOLS/prometheus/root/usr/bin/prometheus"
    link_tool promtool "$TOOLS/prometheus/root/usr/bin/promtool"
}
