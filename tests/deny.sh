#!/usr/bin/env bash
# Checks what is built into the program by cargo-deny and `deny.toml`: licences, sources, bans. Installs cargo-deny
# if it is missing (some minutes, once), and prints the number of dependencies.
#
#   tests/deny.sh [--advisories]
#
# --advisories   also asks the RustSec database, which is fetched from its own repository: that needs a network that
#                reaches it, so it is for a schedule and for releases, not for every change
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.20.2
target=${CARGO_TARGET_DIR:-target}
tools=$(realpath -m "$target")/test-tools
deny=$tools/cargo-deny-$version/bin/cargo-deny

say() { printf '==> %s\n' "$*"; }

if [[ $("$deny" --version 2> /dev/null) != "cargo-deny $version" ]]; then
    say "building cargo-deny $version"
    cargo install cargo-deny --version "$version" --locked --quiet \
        --root "$tools/cargo-deny-$version" --target-dir "$tools/cargo-deny-build"
    rm -rf "$tools/cargo-deny-build"
fi

checks=(bans licenses sources)
[[ ${1:-} != --advisories ]] || checks+=(advisories)
say "cargo deny check ${checks[*]}"
"$deny" --locked check --hide-inclusion-graph "${checks[@]}"
count=$(cargo tree --locked --edges normal --prefix none --no-dedupe | sort -u | grep -vc '(\*)')
say "dependencies in the program: $((count - 1))"
