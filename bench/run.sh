#!/bin/bash
# Measures carrack, podman, docker, buildah, crun, runc and the floor side by side, in one run, and prints one table.
#
#   bench/run.sh CARRACK [CASE...]        cases, all of them without one:
#                                         version run run-bridge exec life sequence at-once idle images
#                                         build pull-ext4 pull
#
# All of it happens in private mount, network and pid namespaces and one temporary folder, so that nothing is left
# behind, whatever happens. A slow machine never makes it fail; an operation that goes wrong does.
#
#   PEERS=DIR        the peers of a tree that bench/peers.sh made, in place of the machine's own
#   BENCH_ROUNDS=N   rounds of each case, in place of its own number
#   BENCH_FILES=N    files of the image that is pulled (80000)
#   BENCH_KEEP=FILE  also write every sample to FILE, one JSON object a line
#   TMPDIR           where the temporary folder goes: the filesystem of the pull case
set -u

case "${1:-}" in
    '' | -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
# shellcheck source=bench/private.sh
. "$(dirname "${BASH_SOURCE[0]}")/private.sh"
BENCH_IMAGES= run_private bench.py "$@"
