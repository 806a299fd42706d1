//! Containers looked at from inside. Each starts in a process of one thread, `stage.rs` beside this file.

mod cgroups;
mod fixture;
mod hostile;
mod landlock;
mod limits;
mod own_namespaces;
mod process_settings;
mod processes;
mod seccomp;
mod special_mounts;

use std::fs;
use std::process::Output;

use fixture::Container;
use oci_spec::runtime::{LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(destination.into()).set_typ(Some(kind.into())).set_source(Some(source.into()));
    mount.set_options(Some(options.iter().map(ToString::to_string).collect()));
    mount
}

#[test]
fn the_program_is_process_1_and_sees_no_other() {
    let container = Container::shell("echo $$; ls /proc | grep -c '^[0-9]'");
    // The shell and ls; grep where it has begun.
    let seen = container.stdout();
    assert!(["1\n2", "1\n3"].contains(&seen.as_str()), "{seen}");
}

#[test]
fn no_mount_of_the_host_is_visible() {
    let container = Container::new(&["cat", "/proc/self/mountinfo"]);
    let text = container.stdout();
    let places: Vec<&str> = text.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    assert_eq!(places.iter().filter(|place| **place == "/").count(), 1, "{text}");
    for place in places {
        let known = ["/", "/proc", "/sys", "/dev"].iter().any(|known| {
            place == *known
                || *known != "/" && place.strip_prefix(known).is_some_and(|rest| rest.starts_with('/'))
        });
        assert!(known, "{text}");
    }
}

#[test]
fn namespaces_are_the_containers_own() {
    let container =
        Container::shell("for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done");
    let inside = container.stdout();
    for (name, inside) in ["mnt", "pid", "net", "ipc", "uts", "cgroup"].into_iter().zip(inside.lines()) {
        let host = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(host.to_str().unwrap(), inside);
    }
    let mut container = Container::shell("hostname; echo own > /proc/sys/kernel/hostname || echo kept");
    container.spec.set_hostname(Some("ship".into()));
    assert_eq!(container.stdout(), "ship\nkept", "and /proc/sys is read-only");
}

#[test]
fn capabilities_are_exactly_the_eleven() {
    let container = Container::new(&["grep", "^Cap", "/proc/self/status"]);
    // chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot setfcap
    let eleven = "00000000800405fb";
    let expected = format!(
        "CapInh:\t{0}\nCapPrm:\t{eleven}\nCapEff:\t{eleven}\nCapBnd:\t{eleven}\nCapAmb:\t{0}",
        "0000000000000000"
    );
    assert_eq!(container.stdout(), expected);
}

#[test]
fn another_user_has_no_effective_capability_and_its_groups() {
    let mut container = Container::shell("id; grep CapEff /proc/self/status; echo x > /dev/stdout");
    let user = container.process().user_mut();
    user.set_uid(1000).set_gid(1001).set_additional_gids(Some(vec![7, 8]));
    let sets = oci_spec::runtime::LinuxCapabilitiesBuilder::default()
        .bounding(carrack_runtime::capabilities::DEFAULT)
        .effective([])
        .permitted([])
        .inheritable([])
        .ambient([])
        .build()
        .unwrap();
    container.process().set_capabilities(Some(sets));
    let text = container.stdout();
    let expected = "uid=1000 gid=1001 groups=1001,7,8\nCapEff:\t0000000000000000\nx";
    assert_eq!(text.replace(" groups=7,8", " groups=1001,7,8"), expected);
}

#[test]
fn refused_system_calls_say_eperm_and_uninspectable_ones_enosys() {
    let container = Container::shell("unshare -U true 2>&1; probe probe clone3; mount -t tmpfs x /tmp 2>&1");
    let output = container.run();
    let text = stdout(&output);
    assert!(text.contains("unshare"), "{text}");
    assert_eq!(
        text.matches("Operation not permitted").count() + text.matches("permission denied").count(),
        2,
        "{text}"
    );
    assert!(text.lines().any(|line| line == "38"), "{text}");
    let status = Container::new(&["grep", "Seccomp:", "/proc/self/status"]);
    assert_eq!(status.stdout(), "Seccomp:\t2");
}

#[test]
fn kernel_files_are_masked_and_read_only() {
    let container = Container::shell(
        "dd if=/proc/kcore bs=16 count=1 2>/dev/null | wc -c; ls /sys/firmware | wc -l
         for f in /proc/sys/kernel/domainname /sys/kernel/rcu_normal; do
           echo h > $f && echo written; done 2>&1 | grep -c Read-only
         touch /sys/firmware/x 2>&1 | grep -c Read-only
         mkdir /sys/fs/cgroup/x 2>&1 | grep -c Read-only",
    );
    assert_eq!(container.stdout(), "0\n0\n2\n1\n1");
}

#[test]
fn devices_are_the_default_ones_and_work() {
    let container = Container::shell(
        "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c
         readlink /dev/ptmx; readlink /dev/fd; ls /dev | tr '\\n' ' '",
    );
    fs::write(container.path("/dev/of-the-image"), "").unwrap();
    std::os::unix::fs::symlink("busybox", container.path("/bin/tr")).unwrap();
    let expected = "3\n3\npts/ptmx\n/proc/self/fd\nfd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(container.stdout(), expected);
}

#[test]
fn the_cgroup_view_begins_at_the_container() {
    let container =
        Container::shell("cat /proc/self/cgroup; ls /sys/fs/cgroup; cat /sys/fs/cgroup/pids/pids.max");
    let text = container.stdout();
    assert!(text.lines().any(|line| line.ends_with(":pids:/")), "{text}");
    assert!(text.lines().any(|line| line == "0::/"), "{text}");
    assert!(text.ends_with("2048"), "{text}");
}

#[test]
fn files_folders_and_memory_are_mounted_where_asked() {
    let mut container = Container::shell(
        "cat /etc/one /data/in/two; touch /data/in/x 2>&1 | grep -c Read-only; touch /var/state/x && echo made
         grep -c '/var/state.*size=64k' /proc/self/mountinfo; touch /scratch/y",
    );
    let source = container.outside("source");
    fs::create_dir_all(source.join("below")).unwrap();
    fs::write(source.join("two"), "two\n").unwrap();
    fs::write(container.outside("one"), "one\n").unwrap();
    let (source, file) = (source.to_str().unwrap().to_owned(), container.outside("one"));
    container.spec.mounts_mut().as_mut().unwrap().extend([
        mount("/etc/one", "bind", file.to_str().unwrap(), &["rbind", "ro"]),
        mount("/data/in", "bind", &source, &["rbind", "ro"]),
        mount("/scratch", "bind", &source, &["rbind", "rw"]),
        mount("/var/state", "tmpfs", "tmpfs", &["nosuid", "nodev", "size=64k"]),
    ]);
    assert_eq!(container.stdout(), "one\ntwo\n1\nmade\n1");
    assert!(container.outside("source/y").exists());
}

#[test]
fn a_read_only_root_is_read_only_but_its_mounts_are_not() {
    let mut container = Container::shell("touch /x 2>&1 | grep -c Read-only; touch /run/x && echo made");
    container.spec.root_mut().as_mut().unwrap().set_readonly(Some(true));
    container.spec.mounts_mut().as_mut().unwrap().push(mount("/run", "tmpfs", "tmpfs", &[]));
    assert_eq!(container.stdout(), "1\nmade");
}

#[test]
fn a_missing_bind_source_is_an_error_that_names_it() {
    let mut container = Container::new(&["true"]);
    container.spec.mounts_mut().as_mut().unwrap().push(mount("/x", "bind", "/no/such/source", &["rbind"]));
    let output = container.run();
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("/no/such/source"), "{}", stderr(&output));
}

#[test]
fn kernel_parameters_of_own_namespaces_are_set_and_others_refused() {
    let mut container = Container::new(&["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"]);
    let sysctl = [("net.ipv4.ip_unprivileged_port_start".to_owned(), "80".to_owned())];
    container.spec.linux_mut().as_mut().unwrap().set_sysctl(Some(sysctl.into()));
    assert_eq!(container.stdout(), "80");
    let sysctl = [("kernel.core_pattern".to_owned(), "|/tmp/x".to_owned())];
    container.spec.linux_mut().as_mut().unwrap().set_sysctl(Some(sysctl.into()));
    let output = container.run();
    assert!(stderr(&output).contains("kernel.core_pattern"), "{}", stderr(&output));
}

#[test]
fn a_joined_network_namespace_is_that_of_the_other_container() {
    let mut first = Container::new(&["sleep", "30"]);
    let pid = first.start(&[]);
    let path = format!("/proc/{pid}/ns/net");
    let mut second = Container::new(&["readlink", "/proc/self/ns/net"]);
    let namespaces = second.spec.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap();
    let network = namespaces.iter_mut().find(|one| one.typ() == LinuxNamespaceType::Network).unwrap();
    network.set_path(Some(path.clone().into()));
    assert_eq!(second.stdout(), fs::read_link(path).unwrap().to_str().unwrap());
}

#[test]
fn a_user_namespace_maps_root_to_an_ordinary_user() {
    let mut container =
        Container::shell("id -u; cat /proc/self/uid_map; touch /tmp/x; echo x > /dev/null && echo null");
    let linux = container.spec.linux_mut().as_mut().unwrap();
    let user = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::User).build().unwrap();
    linux.namespaces_mut().as_mut().unwrap().push(user);
    let mapping = LinuxIdMappingBuilder::default().container_id(0u32).host_id(200_000u32).size(65_536u32);
    let mapping = vec![mapping.build().unwrap()];
    linux.set_uid_mappings(Some(mapping.clone())).set_gid_mappings(Some(mapping));
    std::os::unix::fs::chown(container.path("/tmp"), Some(200_000), Some(200_000)).unwrap();
    for folder in ["", "dev", "proc", "sys"] {
        std::os::unix::fs::chown(container.path(folder), Some(200_000), Some(200_000)).unwrap();
    }
    let text = container.stdout();
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "0", "200000", "65536", "null"]);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(container.path("/tmp/x")).unwrap().uid(), 200_000);
}
