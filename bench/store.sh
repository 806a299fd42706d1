#!/bin/bash
# Measures what carrack's store and those of its peers cost, side by side, in one run, and prints one markdown table:
# pull, first run, start, save, load, commit, rmi and the disk that ten versions of an app take.
#
#   bench/store.sh CARRACK [CASE...]      cases: pull start save commit load disk rmi (all of them without one)
#
# The floor of a pull is `carrack-floor` beside CARRACK, made by `cargo build --release -p carrack-floor`.
# Images are made once, from packages of Debian 12, which needs a network; the rest happens in private namespaces and
# one temporary folder. A slow machine never makes it fail; an operation that goes wrong does.
#
#   PEERS=DIR          the peers of a tree that bench/peers.sh made, in place of the machine's own
#   BENCH_SMALL=1      small images, to see whether all works
#   BENCH_IMAGES=DIR   where the images are kept (target/bench-images or target/bench-images-small)
#   BENCH_TOOLS=...    names of those to measure: carrack floor podman docker containerd skopeo+umoci (all of them that
#                      are there on ext4; carrack, floor and podman on root)
#   BENCH_PLACES=...   filesystems: ext4 (a fresh journaled one in a file) and root (that of the temporary folder)
#   BENCH_ROUNDS=N     rounds of the cheap cases (2); heavy ones have one
#   BENCH_KEEP=FILE    also write every sample to FILE, one JSON object a line
#   TMPDIR             where the temporary folder goes; it takes about 25 GB
set -u

case "${1:-}" in
    '' | -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=bench/private.sh
. "$here/private.sh"
export BENCH_IMAGES=${BENCH_IMAGES:-$here/../target/bench-images${BENCH_SMALL:+-small}}
mkdir -p "$BENCH_IMAGES" || exit 1
BENCH_IMAGES=$(cd "$BENCH_IMAGES" && pwd)
unshare --mount --propagation private python3 -B "$here/store_images.py" "$BENCH_IMAGES" || exit 1
run_private store.py "$@"
