# componentize-js from npm, in the JavaScript example's own folder, as its build expects it; fetches Node when missing.

EXAMPLE=$REPO/examples/javascript

part_version() { digest_of "$EXAMPLE/package.json"; }
part_works() { node_is_new_enough && [[ -d $EXAMPLE/node_modules/@bytecodealliance/componentize-js ]]; }

part_install() {
    need_node
    npm_install "$EXAMPLE"
}
