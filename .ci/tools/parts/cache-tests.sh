# The tests of HTTP caches that npm has as http-cache-tests, into .tools/cache-tests; fetches Node when missing.

SUITE=$TOOLS/cache-tests/node_modules/http-cache-tests

part_version() { digest_of "$PINS/cache-tests/package.json"; }
part_works() { node_is_new_enough && [[ -f $SUITE/cli.mjs && -d $TOOLS/cache-tests/node_modules/node-fetch ]]; }

part_install() { npm_env cache-tests; }
