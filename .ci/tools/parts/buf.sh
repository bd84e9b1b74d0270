# buf from npm: lints the .proto files and guards them against breaking changes.

part_version() { digest_of "$PINS/buf/package.json"; }
part_works() { "$TOOLS/bin/buf" --version >/dev/null 2>&1; }

part_install() {
    npm_env buf
    link_tool buf "$TOOLS/buf/node_modules/.bin/buf"
}
