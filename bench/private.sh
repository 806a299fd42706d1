# shellcheck shell=bash
# Runs a program of this folder as process 1 of private mount, network and pid namespaces, with one temporary folder, so
# that nothing is left behind, whatever happens. Read by run.sh and store.sh:
#
#   run_private PROGRAM.py CARRACK [ARGUMENT...]
#
# With PEERS=DIR, a tree made by peers.sh, the tree is the root filesystem, entered by pivot_root.

work=
child=

# Every cgroup below the folder that the run's tools make, deepest first. Only rmdir: a cgroup in use stays.
remove_cgroups() {
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
        [ -d "$hierarchy/${work##*/}" ] && find "$hierarchy/${work##*/}" -depth -type d -exec rmdir {} + 2>/dev/null
    done
}

# shellcheck disable=SC2317
cleanup() {
    trap '' INT TERM
    if [ -n "$child" ]; then kill -KILL "$child" 2>/dev/null; wait "$child" 2>/dev/null; fi
    [ -n "$work" ] || return
    if [ -n "${BENCH_KEEP:-}" ] && [ -s "$work/samples" ]; then cat "$work/samples" >> "$BENCH_KEEP"; fi
    # A detached loop device or overlay lets go of its files a moment after the namespace has ended.
    for _ in 1 2 3 4 5; do rm -rf --one-file-system "$work" 2>/dev/null && break; sleep 0.5; done
    # The place of the folder in the tree of the peers.
    [ -z "${PEERS:-}" ] || rmdir "$PEERS$work" 2>/dev/null
    remove_cgroups
}

run_private() {
    local name=${0##*/} program=$1 carrack here
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    [ "$(id -u)" = 0 ] || { echo "$name: needs root" >&2; exit 2; }
    carrack=$(readlink -f -- "$2")
    [ -x "$carrack" ] || { echo "$name: $2 is not a program" >&2; exit 2; }
    [ -z "${PEERS:-}" ] || [ -x "$PEERS/usr/bin/python3" ] ||
        { echo "$name: $PEERS is no tree of bench/peers.sh" >&2; exit 2; }
    shift 2
    work=$(mktemp -d "${TMPDIR:-/tmp}/carrack-bench.XXXXXX") || exit 1
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM

    # Copies, so that a rebuild during the run does not change what is measured, and that a tree of peers sees them.
    mkdir "$work/bench" "$work/images" || exit 1
    cp -- "$carrack" "$work/carrack" && cp -- "$here"/*.py "$work/bench/" || exit 1
    local floor=${carrack%/*}/carrack-floor
    [ -x "$floor" ] && cp -- "$floor" "$work/carrack-floor"
    export BENCH_WORK=$work BENCH_CARRACK=$work/carrack
    # shellcheck disable=SC2016
    unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private /bin/bash -c '
        set -eu
        program=$1 images=$2 tree=$3
        shift 3
        [ -z "$images" ] || mount --bind "$images" "$BENCH_WORK/images"
        # crun refuses a hybrid of both cgroup versions as long as it sees the second one.
        if [ -d /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified 2>/dev/null || true; fi
        if [ -n "$tree" ]; then
            mount --rbind "$tree" "$tree"
            for folder in dev sys; do mount --rbind "/$folder" "$tree/$folder"; done
            mount -t proc proc "$tree/proc"
            mkdir -p "$tree$BENCH_WORK"
            mount --rbind "$BENCH_WORK" "$tree$BENCH_WORK"
            mount -t tmpfs -o mode=755 bench "$tree/run"
            mkdir "$tree/run/old"
            cd "$tree"
            pivot_root . run/old
            cd /
            umount -l /run/old
        fi
        # State that the peers keep outside of their own folders.
        for folder in /dev/shm /run /var/lib/containers; do
            [ -d "$folder" ] && mount -t tmpfs -o mode=755 bench "$folder"
        done
        mkdir -p /run/lock
        ip link set lo up
        exec python3 -B "$BENCH_WORK/bench/$program" "$@"
    ' bench "$program" "${BENCH_IMAGES:-}" "${PEERS:+$(readlink -f -- "$PEERS")}" "$@" &
    child=$!
    wait "$child"
    local status=$?
    child=
    exit "$status"
}
