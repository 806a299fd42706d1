#!/bin/sh
# The main job on real input, with nothing but the embedded defaults: demo.sh CARRACK
#
# Everything lives in a folder of its own, which is removed at the end, also after a failure.
set -eu

carrack_binary=$(realpath "${1:?the carrack binary}")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/carrack-demo.XXXXXX")
registry_pid=
export DOCKER_CONFIG="$work/docker"

carrack() { "$carrack_binary" --root "$work/root" --runroot "$work/run" "$@"; }

step() { printf '\n\033[1m== %s\033[0m\n' "$*" | { [ -t 1 ] && cat || sed 's/\x1b\[[0-9;]*m//g'; }; }
show() { printf '$ carrack %s\n' "$*"; carrack "$@"; }

clean_up() {
    status=$?
    trap - EXIT INT TERM
    carrack rm --force --all >/dev/null 2>&1 || true
    [ -z "$registry_pid" ] || { kill "$registry_pid" 2>/dev/null && wait "$registry_pid" 2>/dev/null; } || true
    rm -rf "$work"
    [ "$status" = 0 ] || echo "demo: failed with exit code $status" >&2
    exit "$status"
}
trap clean_up EXIT INT TERM

[ "$(id -u)" = 0 ] || { echo "demo: run it as root (it makes containers with a network)" >&2; exit 1; }

step "1. A Debian tree, made by mmdebstrap, becomes a base image"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m1 '/debian/\?$' || true)
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
mmdebstrap --quiet --variant=minbase "$suite" "$work/base.tar" ${mirror:+"$mirror"}
show import --message "Debian $suite by mmdebstrap" --change 'CMD ["bash"]' "$work/base.tar" debian:demo

step "2. A build with two stages: a compiler in the first, the service alone in the second"
mkdir "$work/app"
cp "$here"/demo/* "$work/app/"
cat "$work/app/Dockerfile"
show build -t demo-app "$work/app"

step "3. The same build again comes from the cache"
show build -t demo-app "$work/app"

step "4. A registry with a password"
htpasswd -Bbn demo secret > "$work/users"
# Not through the function: its process id would be that of a subshell.
"$carrack_binary" --root "$work/registry" --runroot "$work/run" registry serve --listen 127.0.0.1:0 \
    --htpasswd "$work/users" > "$work/registry.log" &
registry_pid=$!
until grep -q '^listening' "$work/registry.log"; do sleep 0.05; done
registry=$(sed -n 's/^listening on //p' "$work/registry.log")
echo "listening on $registry"

step "5. Log in and push"
echo secret | carrack login --username demo --password-stdin "$registry"
show tag demo-app "$registry/team/app:1.0"
show push --digestfile "$work/digest" "$registry/team/app:1.0"

step "6. Remove the local image, and pull it by digest"
show rmi demo-app "$registry/team/app:1.0"
show pull "$registry/team/app@$(cat "$work/digest")"
show images --digests

step "7. Run it under limits, with a published port"
show run -d --name web -p 127.0.0.1::8080 --memory 64m --pids-limit 50 "$registry/team/app@$(cat "$work/digest")"
port=$(carrack inspect --format '{{(index (index .NetworkSettings.Ports "8080/tcp") 0).HostPort}}' web)
echo "\$ curl http://127.0.0.1:$port/"
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    curl --silent --fail "http://127.0.0.1:$port/" && break
    [ "$attempt" != 10 ] || exit 1
    sleep 0.1
done

step "8. Look at it"
show ps
show logs web
show exec web id
show inspect --format '{{.Name}} {{.State.Status}} {{.NetworkSettings.IPAddress}} memory={{.HostConfig.Memory}} pids={{.HostConfig.PidsLimit}}' web

step "9. Stop it and leave nothing behind"
show stop --time 2 web
show rm web
carrack rmi --force "$(carrack images -q | head -1)" >/dev/null
if grep -q "$work" /proc/self/mounts; then echo "demo: a mount is left" >&2; exit 1; fi
step "Done"
