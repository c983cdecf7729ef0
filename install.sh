#!/usr/bin/env bash
# Builds lfs-delta from this folder and installs it for the current user; --help says the rest.

main() {
    set -euo pipefail

    local root prefix=${PREFIX:-} action=install demo=no
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

    say() { echo "install.sh: $*"; }
    fail() {
        echo "install.sh: $*" >&2
        exit 1
    }

    usage() {
        cat <<'TEXT'
usage: ./install.sh [--prefix DIR] [--demo | --uninstall]

Builds lfs-delta, installs it as DIR/bin/lfs-delta and registers it with git (`lfs-delta install`).
Run it again to update. Needs Rust, a C compiler, git and git-lfs; git-lfs is installed with apt-get where
there is one (the only step that may ask for sudo).

  --prefix DIR   where to install; default $PREFIX, else ~/.local
  --demo         afterwards push, clone and compare the versions in fixtures/, in a temporary folder, and
                 print what was stored and sent
  --uninstall    take lfs-delta out of git's configuration and remove the program; your stores stay as they are
  --help         this text
TEXT
    }

    read_arguments() {
        while [[ $# -gt 0 ]]; do
            case $1 in
                --prefix)
                    [[ -n ${2:-} ]] || fail "--prefix needs a folder"
                    prefix=$2
                    shift
                    ;;
                --prefix=?*) prefix=${1#*=} ;;
                --demo) demo=yes ;;
                --uninstall) action=uninstall ;;
                -h | --help)
                    usage
                    exit 0
                    ;;
                *) fail "unknown argument $1 (--help lists them)" ;;
            esac
            shift
        done
        [[ $action == install || $demo == no ]] || fail "--uninstall and --demo exclude each other"
        [[ -n $prefix ]] || prefix=${HOME:?install.sh: HOME is not set; name a folder with --prefix}/.local
        [[ $prefix == /* ]] || prefix=$PWD/$prefix
    }

    # True if version $1 is at least version $2.
    at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]; }

    check_rust() {
        local needed found
        needed=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")
        [[ -n $needed ]] || fail "Cargo.toml names no rust-version"
        command -v cargo >/dev/null ||
            fail "cargo is missing: install Rust $needed or newer (rustup is the usual way), then run this again"
        found=$(cd "$root" && rustc --version | cut -d' ' -f2) || fail "rustc does not run: repair the Rust installation"
        at_least "${found%%-*}" "$needed" ||
            fail "Rust $found is too old, $needed or newer is needed: run \`rustup update\`, then run this again"
        say "Rust $found"
    }

    check_tools() {
        command -v "${CC:-cc}" >/dev/null ||
            fail "no C compiler (${CC:-cc}): install gcc or clang (Debian, Ubuntu: apt-get install gcc libc6-dev)"
        command -v git >/dev/null || fail "git is missing: install it first"
    }

    as_root() {
        if [[ $EUID -eq 0 ]]; then
            "$@"
        else
            sudo "$@"
        fi
    }

    ensure_git_lfs() {
        if git lfs version >/dev/null 2>&1; then
            return
        fi
        command -v apt-get >/dev/null ||
            fail "git-lfs is missing: install it with your system's package manager (macOS: brew install git-lfs)"
        [[ $EUID -eq 0 ]] || command -v sudo >/dev/null ||
            fail "git-lfs is missing and there is no sudo: ask an administrator to run apt-get install git-lfs"
        say "git-lfs is missing: installing it with apt-get"
        as_root apt-get install --yes --quiet git-lfs >/dev/null ||
            { as_root apt-get update --quiet && as_root apt-get install --yes --quiet git-lfs; } ||
            fail "apt-get could not install git-lfs: install it by hand, then run this again"
    }

    build() {
        local target=${CARGO_TARGET_DIR:-$root/target}
        say "building (the first time takes a few minutes)"
        (cd "$root" && cargo build --release --locked --quiet --target-dir "$target") || fail "the build failed"
        built=$target/release/lfs-delta
    }

    # Replaces the program in one step, so that an agent that is running keeps its own.
    place() {
        local what="installed"
        if [[ -e $program ]]; then
            what="replaced"
        fi
        if cmp -s "$built" "$program"; then
            say "$program is up to date"
            return
        fi
        mkdir -p "$prefix/bin" || fail "cannot make $prefix/bin: choose another folder with --prefix"
        install -m 755 "$built" "$program.new.$$" ||
            fail "cannot write to $prefix/bin: choose another folder with --prefix"
        mv -f "$program.new.$$" "$program"
        say "$what $program"
    }

    tell_about_path() {
        case :$PATH: in
            *":$prefix/bin:"*) ;;
            *)
                say "$prefix/bin is not in your PATH; add it:"
                say "  echo 'export PATH=\"$prefix/bin:\$PATH\"' >> ~/.profile"
                ;;
        esac
    }

    register() {
        "$program" install || fail "\`lfs-delta install\` failed"
        say "ready: run \`lfs-delta init\` in a repository (README.md shows how)"
    }

    uninstall() {
        [[ -e $program ]] || {
            say "nothing to do: $program does not exist"
            return
        }
        "$program" uninstall || fail "\`lfs-delta uninstall\` failed; the program stays"
        rm "$program"
        say "removed $program"
    }

    read_arguments "$@"
    local program=$prefix/bin/lfs-delta built
    if [[ $action == uninstall ]]; then
        uninstall
        return
    fi
    check_rust
    check_tools
    ensure_git_lfs
    build
    place
    tell_about_path
    register
    if [[ $demo == yes ]]; then
        say "demo: pushing the versions in fixtures/ in a temporary folder"
        "$root/fixtures/demo.sh" "$program"
    fi
}

main "$@"
