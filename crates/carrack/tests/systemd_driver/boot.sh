# Becomes a host with systemd as process 1: a layer over this machine's own files, in namespaces of its own, whose cgroup
# tree begins at CGROUP. Runs INSIDE and ends with its exit code. TREE is hybrid or unified.
set -e
for hierarchy in $(ls -d /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null); do
    own=${hierarchy%/cgroup.procs}
    mkdir "$own/$CGROUP"
    # A cpuset without processors takes no process.
    for file in cpuset.cpus cpuset.mems; do
        test -s "$own/$CGROUP/$file" -o ! -e "$own/$CGROUP/$file" || cat "$own/$file" >"$own/$CGROUP/$file"
    done
    echo $$ >"$own/$CGROUP/cgroup.procs"
done
cat >"$FOLDER/first.sh" <<'END'
set -e
mkdir -p "$FOLDER/host"
mount -t tmpfs tmpfs "$FOLDER/host"
cd "$FOLDER/host"
mkdir upper work files
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work files
cd files
mount -t proc proc proc
# Process 1 would set the host's own parameters.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs sysfs sys -o ro
for folder in run tmp dev; do mount -t tmpfs tmpfs $folder -o mode=755; done
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=666
ln -s pts/ptmx dev/ptmx
if [ "$TREE" = unified ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs tmpfs sys/fs/cgroup -o mode=755
    for hierarchy in /sys/fs/cgroup/*/cgroup.procs; do
        name=$(basename "${hierarchy%/cgroup.procs}")
        mkdir "sys/fs/cgroup/$name"
        case $name in
        unified) mount -t cgroup2 cgroup2 "sys/fs/cgroup/$name" ;;
        systemd) mount -t cgroup -o none,name=systemd cgroup "sys/fs/cgroup/$name" ;;
        *) mount -t cgroup -o "$name" cgroup "sys/fs/cgroup/$name" ;;
        esac
    done
    # Process 1 would mount the hierarchies that this machine has not.
    mount -o remount,bind,ro sys/fs/cgroup
fi
mkdir -p ".$FOLDER"
mount --bind "$FOLDER" ".$FOLDER"
rm -rf etc/systemd/system
mkdir -p etc/systemd/system
cat >etc/systemd/system/inside.service <<UNIT
[Unit]
DefaultDependencies=no
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
Environment=FOLDER=$FOLDER
ExecStart=/bin/sh -e $FOLDER/inside.sh
StandardOutput=file:$FOLDER/output
StandardError=file:$FOLDER/messages
UNIT
mkdir -p old
pivot_root . old
umount -l old
export container=test
exec /lib/systemd/systemd --system --unit=inside.service --log-target=null --show-status=0 </dev/null
END
exec unshare --mount --pid --cgroup --uts --ipc --fork --kill-child sh "$FOLDER/first.sh"
