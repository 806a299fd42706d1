#!/bin/bash
# Makes a Debian tree with the newest packaged peers in it, for `PEERS=DIR bench/store.sh` and `PEERS=DIR bench/run.sh`.
#
#   bench/peers.sh DIR [MIRROR]           about 1.2 GB in DIR, which must not exist or be such a tree already
#
# The packages come from Debian's unstable suite, by this machine's settings of apt; MIRROR is another place of them.
set -eu

case "${1:-}" in
    '' | -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
tree=$1
if [ -x "$tree/usr/bin/podman" ]; then
    echo "$tree is there" >&2
    exit 0
fi
packages=podman,buildah,skopeo,umoci,crun,runc,conmon,netavark,aardvark-dns,containerd,docker.io,docker-cli
packages=$packages,docker-registry,busybox-static,python3,e2fsprogs,mount,iproute2,iptables,nftables,ca-certificates
# The suite's list of packages may be a copy that is older than its lists say they may be.
mmdebstrap --quiet --mode=root --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' \
    --include="$packages" sid "$tree" ${2:+"$2"}
# What a machine's administrator sets for a root without CAP_SYS_RESOURCE and a host with cgroups of version 1.
mkdir -p "$tree/etc/containers"
cat > "$tree/etc/containers/containers.conf" <<'SETTINGS'
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
SETTINGS
