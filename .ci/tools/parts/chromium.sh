# A Chromium (the machine's, else Debian's package), playwright-core to drive it and axe-core to judge what it shows: for the
# tests of the pages. The browser found is linked as .tools/bin/chromium.

part_version() { digest_of "$PINS/node/package.json"; }

part_works() {
    [[ -d $TOOLS/node/node_modules/playwright-core && -f $TOOLS/node/node_modules/axe-core/axe.min.js ]] && node_is_new_enough &&
        "$TOOLS/bin/chromium" --version >/dev/null 2>&1
}

part_install() {
    local found
    found=$(find_browser) || { apt_install chromium fonts-dejavu-core && found=$(find_browser); } ||
        die "no Chromium was found" "install Chromium or Chrome"
    link_tool chromium "$found"
    npm_env node
}

find_browser() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        PATH=${PATH//"$TOOLS/bin:"/} command -v "$name" && return
    done
    return 1
}
