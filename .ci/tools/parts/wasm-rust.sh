# Rust's WebAssembly targets: by rustup where it can fetch them, else a compiler and its libraries from Debian's testing
# suite, unpacked beside the machine's own and started through their own loader, so that nothing is installed system-wide.
# DUNLIN_WASM_FROM=debian takes the second way at once.

TARGETS=(wasm32-wasip2 wasm32-wasip1)
HERE=$TOOLS/wasm-rust

part_version() { (cd "$REPO" && printf '%s 1 %s' "$(rustc --version)" "${DUNLIN_WASM_FROM-}"); }

# has_targets RUSTC: whether this compiler finds a standard library for every target.
has_targets() {
    local target dir
    for target in "${TARGETS[@]}"; do
        dir=$(cd "$REPO" && "$1" --print target-libdir --target "$target" 2>/dev/null) || return
        compgen -G "$dir/libstd-*.rlib" >/dev/null || return
    done
}

part_works() {
    local probe
    has_targets "$HERE/bin/rustc" || return
    probe=$(mktemp -d)
    echo 'fn main() { println!("hello") }' >"$probe/probe.rs"
    "$HERE/bin/rustc" --target wasm32-wasip2 -o "$probe/probe.wasm" "$probe/probe.rs" && [[ -s $probe/probe.wasm ]]
    local outcome=$?
    rm -rf "$probe"
    return $outcome
}

part_install() {
    command -v rustc >/dev/null || die "rustc is missing" "install Rust: https://rustup.rs"
    rm -rf "$HERE"
    mkdir -p "$HERE/bin"
    if [[ ${DUNLIN_WASM_FROM-} != debian ]] && { has_targets rustc || add_by_rustup; }; then
        plain_wrapper
    else
        say "rustup cannot fetch the WebAssembly targets: taking Debian's compiler (about 190 MB)"
        unpack_debian
        loader_wrapper
    fi
}

# The download is tried only where its server answers: rustup itself waits for minutes.
add_by_rustup() {
    command -v rustup >/dev/null || return
    local server=${RUSTUP_DIST_SERVER:-https://static.rust-lang.org}
    python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)' \
        "$server/dist/channel-rust-stable.toml.sha256" >/dev/null 2>&1 || return
    (cd "$REPO" && timeout 900 rustup target add "${TARGETS[@]}" >&2) && has_targets rustc
}

# The repository pins its toolchain; guests are built with the same one wherever their folder is.
plain_wrapper() {
    local rustc
    rustc=$(cd "$REPO" && rustc --print sysroot)/bin/rustc
    [[ -x $rustc ]] || rustc=$(command -v rustc)
    printf '#!/bin/sh\nexec %q "$@"\n' "$rustc" >"$HERE/bin/rustc"
    chmod +x "$HERE/bin/rustc"
}

# The archive that this machine's own apt uses: the first 'deb' entry whose path is Debian's main archive.
debian_archive() {
    local found
    found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -v '^[[:space:]]*#' | grep -E '^(deb[[:space:]]|URIs:)' |
        grep -oE '(https?|mirror\+[a-z]+|file)://[^][:space:]]+/debian/?([[:space:]]|$)' | head -n 1 | tr -d '[:space:]')
    [[ -n $found ]] || die "this machine's apt names no Debian archive; run 'rustup target add ${TARGETS[*]}' where rustup can fetch"
    printf '%s' "$found"
}

# A private apt: its own lists, cache and (empty) package status; the machine's proxy and transport settings still apply.
private_apt() {
    local home=$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg archive
    archive=$(debian_archive)
    [[ -f $keyring ]] || apt_install debian-archive-keyring
    mkdir -p "$home"/{state/lists/partial,cache/archives/partial,none}
    : >"$home/state/status"
    printf 'deb [signed-by=%s] %s testing main\n' "$keyring" "$archive" >"$home/sources.list"
    cat >"$home/apt.conf" <<CONF
Dir::State "$home/state";
Dir::State::status "$home/state/status";
Dir::Cache "$home/cache";
Dir::Etc::sourcelist "$home/sources.list";
Dir::Etc::sourceparts "$home/none";
Dir::Etc::preferencesparts "$home/none";
Acquire::Languages "none";
APT::Sandbox::User "$(id -un)";
CONF
    export APT_CONFIG=$home/apt.conf
    apt-get -qq update >&2 || die "apt-get update of Debian's testing suite failed" "check the network, or make 'rustup target add ${TARGETS[*]}' work"
}

# What rustc needs to run and compile, out of all that its package would pull in: the host's own C compiler links.
needed_packages() {
    apt-get -y --no-install-recommends --print-uris install rustc libstd-rust-dev-wasm32 2>/dev/null |
        sed -nE "s/^'[^']+' ([a-z0-9.+-]+)_.*/\1/p" |
        grep -vE '^(binutils|cpp|gcc-[0-9]+$|gcc-[0-9]+-x|gcc-x|gcc$|gcc-[0-9]+-base|lib.*(asan|lsan|tsan|ubsan|hwasan|itm|gomp|cc1|atomic|quadmath|gprofng|ctf|sframe|binutils|isl|mpc|mpfr)|libgcc-.*-dev|libc6-dev|libc-dev|linux-libc|libjansson|libc-gconv)'
}

unpack_debian() {
    command -v dpkg >/dev/null && command -v apt-get >/dev/null ||
        die "rustup cannot fetch ${TARGETS[*]}, and this is no Debian" "make 'rustup target add ${TARGETS[*]}' work"
    local work=$HERE/apt packages deb
    (
        private_apt "$work"
        mapfile -t packages < <(needed_packages)
        [[ ${#packages[@]} -gt 5 ]] || die "Debian's testing suite does not offer rustc with wasm32" "make 'rustup target add ${TARGETS[*]}' work"
        mkdir -p "$work/debs" && cd "$work/debs"
        apt-get -qq download "${packages[@]}" >&2 || die "Debian's packages could not be downloaded" "check the network and run .ci/setup wasm-rust again"
        for deb in *.deb; do dpkg -x "$deb" "$HERE/root"; done
    )
    rm -rf "$work"
}

# Debian's rustc wants a newer C library than this machine may have, so it runs through the one unpacked with it. The
# linkers come with the machine's own Rust toolchain.
loader_wrapper() {
    local root=$HERE/root loader linkers name
    loader=$(find "$root" -name 'ld-linux*.so.*' -print -quit)
    linkers=$(cd "$REPO" && dirname "$(rustc --print target-libdir)")/bin
    mkdir -p "$HERE/linkers"
    for name in rust-lld wasm-component-ld gcc-ld/wasm-ld; do
        [[ -x $linkers/$name ]] || die "the Rust toolchain has no $name" "install Rust by rustup (https://rustup.rs): its toolchains carry it"
        ln -sf "$linkers/$name" "$HERE/linkers/$(basename "$name")"
    done
    local libraries
    libraries=$(find "$root" -name '*.so*' -printf '%h\n' | grep -v rustlib | sort -u | paste -sd:)
    cat >"$HERE/bin/rustc" <<WRAPPER
#!/bin/sh
# Debian's rustc through its own loader; see .ci/tools/parts/wasm-rust.sh.
PATH=$(printf %q "$HERE/linkers"):\$PATH
export PATH
exec $(printf %q "$loader") --library-path $(printf %q "$libraries") --argv0 rustc $(printf %q "$root/usr/bin/rustc") --sysroot $(printf %q "$root/usr") "\$@"
WRAPPER
    chmod +x "$HERE/bin/rustc"
}
