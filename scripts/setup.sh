#!/bin/sh
# Installs what a make target needs and what is missing, on a Debian-like machine: setup.sh build|demo|test|fuzz|bench|lint
set -eu

toolchain() { sed -n 's/^channel = "\(.*\)"/\1/p' "$(dirname "$0")/../rust-toolchain.toml"; }

# packages PROGRAM=PACKAGE...: installs the packages whose program is not there.
packages() {
    missing=
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || missing="$missing ${pair#*=}"
    done
    [ -z "$missing" ] && return
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# Outside the checkout, because its cargo settings are for the binary, not for tools.
tool() {
    command -v "$1" >/dev/null 2>&1 || (cd / && cargo "+$(toolchain)" install --quiet --locked --debug "$1")
}

target() {
    if command -v rustup >/dev/null 2>&1; then
        rustup toolchain list | grep -q "^$(toolchain)" || rustup toolchain install --profile minimal "$(toolchain)"
        rustup target list --installed --toolchain "$(toolchain)" | grep -q musl ||
            rustup target add --toolchain "$(toolchain)" x86_64-unknown-linux-musl
    fi
    packages musl-gcc=musl-tools
}

case "${1:?build, demo, test, fuzz, bench or lint}" in
    build) target ;;
    demo) packages mmdebstrap=mmdebstrap curl=curl htpasswd=apache2-utils ;;
    test)
        packages podman=podman buildah=buildah skopeo=skopeo crun=crun runc=runc umoci=umoci \
            docker-registry=docker-registry containerd=containerd busybox=busybox-static \
            mmdebstrap=mmdebstrap strace=strace htpasswd=apache2-utils ip=iproute2 nft=nftables curl=curl \
            fsck.erofs=erofs-utils journalctl=systemd python3=python3
        tool cargo-nextest
        ;;
    bench)
        packages podman=podman buildah=buildah skopeo=skopeo crun=crun runc=runc umoci=umoci \
            docker-registry=docker-registry busybox=busybox-static mmdebstrap=mmdebstrap python3=python3 \
            mkfs.ext4=e2fsprogs
        ;;
    fuzz)
        target
        packages g++=g++ zstd=zstd bzip2=bzip2 xz=xz-utils
        ;;
    lint)
        target
        tool cargo-deny
        ;;
    *) echo "setup.sh: unknown target $1" >&2; exit 2 ;;
esac
