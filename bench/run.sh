#!/bin/bash
# Measures carrack, podman, buildah and crun side by side, in one run, and prints one markdown table.
#
#   bench/run.sh CARRACK [CASE...]        cases: version run build pull-ext4 pull (all of them without one)
#
# All of it happens in private mount, network and pid namespaces and one temporary folder, so that nothing is left
# behind, whatever happens. A slow machine never makes it fail; an operation that goes wrong does.
#
#   BENCH_ROUNDS=N   rounds of each case, in place of its own number
#   BENCH_FILES=N    files of the image that is pulled (80000)
#   BENCH_KEEP=FILE  also write every sample to FILE, one JSON object a line
#   TMPDIR           where the temporary folder goes: the filesystem of the pull case
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case "${1:-}" in
    '' | -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "bench/run.sh: needs root" >&2; exit 2; }
carrack=$(readlink -f -- "$1")
[ -x "$carrack" ] || { echo "bench/run.sh: $1 is not a program" >&2; exit 2; }
shift

work=$(mktemp -d "${TMPDIR:-/tmp}/carrack-bench.XXXXXX") || exit 1
child=
# Every cgroup below the two folders that the run's tools make, deepest first. Only rmdir: a cgroup in use stays.
remove_cgroups() {
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
        [ -d "$hierarchy/${work##*/}" ] && find "$hierarchy/${work##*/}" -depth -type d -exec rmdir {} + 2>/dev/null
    done
}
# shellcheck disable=SC2317
cleanup() {
    trap '' INT TERM
    if [ -n "$child" ]; then kill -KILL "$child" 2>/dev/null; wait "$child" 2>/dev/null; fi
    # A detached loop device or overlay lets go of its files a moment after the namespace has ended.
    for _ in 1 2 3 4 5; do rm -rf --one-file-system "$work" 2>/dev/null && break; sleep 0.5; done
    remove_cgroups
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The binary is copied, so that a rebuild during the run does not change what is measured.
cp -- "$carrack" "$work/carrack" || exit 1
export BENCH_WORK=$work BENCH_CARRACK=$work/carrack
# shellcheck disable=SC2016
unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private /bin/bash -c '
    set -eu
    # crun refuses a hybrid of both cgroup versions as long as it sees the second one.
    if [ -d /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified 2>/dev/null || true; fi
    # State that the peers keep outside of their --root and --runroot.
    for folder in /dev/shm /run /var/lib/containers; do
        [ -d "$folder" ] && mount -t tmpfs -o mode=755 bench "$folder"
    done
    mkdir -p /run/lock
    ip link set lo up
    exec python3 -B "$1/bench.py" "${@:2}"
' bench "$here" "$@" &
child=$!
wait "$child"
status=$?
child=
exit "$status"
