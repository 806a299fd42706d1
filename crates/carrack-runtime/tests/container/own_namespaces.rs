//! User and time namespaces, and namespaces of others, in every combination that needs an order.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use carrack_runtime::owners::mapping;
use oci_spec::runtime::{
    LinuxNamespace, LinuxNamespaceType as Kind, LinuxTimeOffset, LinuxTimeOffsetBuilder,
};

use crate::fixture::Container;
use crate::{mount, stderr, stdout};

/// The first id on the host of the containers with a user namespace.
const FIRST: u32 = 300_000;

fn namespace(container: &mut Container, kind: Kind, path: Option<String>) {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path.map(Into::into));
    let linux = container.spec.linux_mut().as_mut().unwrap();
    let namespaces = linux.namespaces_mut().as_mut().unwrap();
    namespaces.retain(|one| one.typ() != kind);
    namespaces.push(namespace);
}

/// Gives the container's files to the ids that its root is outside.
fn own_files(container: &Container) {
    for folder in ["", "dev", "proc", "sys", "tmp", "etc"] {
        chown(container.path(folder), Some(FIRST), Some(FIRST)).unwrap();
    }
}

fn with_users(script: &str) -> Container {
    let mut container = Container::shell(script);
    namespace(&mut container, Kind::User, None);
    let mappings = vec![mapping(0, FIRST, 65_536)];
    let linux = container.spec.linux_mut().as_mut().unwrap();
    linux.set_uid_mappings(Some(mappings.clone())).set_gid_mappings(Some(mappings));
    own_files(&container);
    container
}

fn link(pid: &str, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_time_namespace_has_its_clocks_set_off() {
    let mut container = Container::shell("cat /proc/uptime | cut -d. -f1; readlink /proc/self/ns/time");
    std::os::unix::fs::symlink("busybox", container.path("/bin/cut")).unwrap();
    namespace(&mut container, Kind::Time, None);
    let offset: LinuxTimeOffset = LinuxTimeOffsetBuilder::default().secs(1_000_000i64).build().unwrap();
    let linux = container.spec.linux_mut().as_mut().unwrap();
    linux.set_time_offsets(Some([("boottime".to_owned(), offset)].into()));
    let text = container.stdout();
    let (uptime, namespace) = text.split_once('\n').unwrap();
    assert!(uptime.parse::<u64>().unwrap() >= 1_000_000, "{text}");
    assert_ne!(namespace, link("self", "time"));

    let linux = container.spec.linux_mut().as_mut().unwrap();
    linux.namespaces_mut().as_mut().unwrap().retain(|one| one.typ() != Kind::Time);
    assert!(stderr(&container.run()).contains("new time namespace"));
}

#[test]
fn a_time_namespace_of_a_user_namespace_is_set_too_and_joined_by_exec() {
    let mut container = with_users("exec sleep 30");
    namespace(&mut container, Kind::Time, None);
    let offset: LinuxTimeOffset = LinuxTimeOffsetBuilder::default().secs(2_000_000i64).build().unwrap();
    let linux = container.spec.linux_mut().as_mut().unwrap();
    linux.set_time_offsets(Some([("boottime".to_owned(), offset)].into()));
    let pid = container.start(&[]);
    let process = container.other_process(&["sh", "-c", "head -c 7 /proc/uptime; id -u"]);
    let output = container.exec(&pid, &process, &[]);
    let text = stdout(&output);
    assert!(text[..7].parse::<u64>().is_ok_and(|uptime| uptime >= 2_000_000), "{text} {}", stderr(&output));
    assert!(text.ends_with('0'), "{text}");
}

#[test]
fn other_namespaces_belong_to_a_new_user_namespace() {
    // Only who owns them may do this.
    let script = "hostname own && hostname; mount -t tmpfs x /tmp && echo mounted; \
                  echo 1 > /proc/sys/net/ipv4/ip_forward && echo forwards";
    let mut container = with_users(script);
    let all = Some(carrack_runtime::capabilities::ALL.into_iter().collect());
    let mut sets = container.process().capabilities().clone().unwrap();
    sets.set_bounding(all.clone()).set_effective(all.clone()).set_permitted(all);
    container.process().set_capabilities(Some(sets));
    container.spec.linux_mut().as_mut().unwrap().set_seccomp(None).set_readonly_paths(None);
    assert_eq!(container.stdout(), "own\nmounted\nforwards");
}

#[test]
fn a_user_namespace_is_joined_before_others_are_made() {
    let mut first = with_users("exec sleep 30");
    let pid = first.start(&[]);
    let script = "id -u; hostname second && hostname; touch /tmp/made; readlink /proc/self/ns/user; \
                  readlink /proc/self/ns/net; echo $$";
    let mut second = Container::shell(script);
    own_files(&second);
    namespace(&mut second, Kind::User, Some(format!("/proc/{pid}/ns/user")));
    let all = Some(carrack_runtime::capabilities::ALL.into_iter().collect());
    let mut sets = second.process().capabilities().clone().unwrap();
    sets.set_bounding(all.clone()).set_effective(all.clone()).set_permitted(all);
    second.process().set_capabilities(Some(sets));
    second.spec.linux_mut().as_mut().unwrap().set_seccomp(None);
    let text = second.stdout();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["0", "second", &link(&pid, "user")], "{text}");
    assert_ne!(lines[3], link(&pid, "net"));
    assert_eq!(lines[4], "1");
    assert_eq!(fs::metadata(second.path("/tmp/made")).unwrap().uid(), FIRST);
}

#[test]
fn all_namespaces_of_another_container_can_be_shared() {
    let mut first = with_users("exec sleep 30");
    first.spec.set_hostname(Some("ship".into()));
    let pid = first.start(&[]);
    let mut second = Container::shell(
        "hostname; for n in user net ipc uts pid; do readlink /proc/self/ns/$n; done; head -c 5 /proc/1/cmdline",
    );
    own_files(&second);
    let kinds = [
        (Kind::User, "user"),
        (Kind::Network, "net"),
        (Kind::Ipc, "ipc"),
        (Kind::Uts, "uts"),
        (Kind::Pid, "pid"),
    ];
    for (kind, name) in kinds {
        namespace(&mut second, kind, Some(format!("/proc/{pid}/ns/{name}")));
    }
    let text = second.stdout();
    let expected = kinds.map(|(_, name)| link(&pid, name)).join("\n");
    assert_eq!(text, format!("ship\n{expected}\nsleep"));
}

#[test]
fn a_new_user_namespace_can_be_in_the_network_of_another_container() {
    let mut first = Container::new(&["sleep", "30"]);
    let pid = first.start(&[]);
    let path = format!("/proc/{pid}/ns/net");
    let mut second = with_users("readlink /proc/self/ns/net; id -u; ls /sys | head -n 1");
    namespace(&mut second, Kind::Network, Some(path.clone()));
    let text = second.stdout();
    assert_eq!(text, format!("{}\n0\nblock", link(&pid, "net")), "and /sys is the host's");
}

#[test]
fn the_hosts_processes_are_seen_through_its_own_proc() {
    let mut container = with_users("ls -d /proc/$OUTSIDE; id -u");
    container.process().set_env(Some(vec!["PATH=/bin".into(), format!("OUTSIDE={}", std::process::id())]));
    let linux = container.spec.linux_mut().as_mut().unwrap();
    linux.namespaces_mut().as_mut().unwrap().retain(|one| one.typ() != Kind::Pid);
    assert_eq!(container.stdout(), format!("/proc/{}\n0", std::process::id()));
}

#[test]
fn owners_of_a_bind_mount_are_mapped() {
    let mut container =
        with_users("ls -ln /data | tail -n 1; touch /data/new; touch /plain/x || echo refused");
    let source = container.outside("source");
    let plain = container.outside("plain");
    fs::create_dir(&source).unwrap();
    fs::create_dir(&plain).unwrap();
    fs::write(source.join("file"), "").unwrap();
    let mounts = container.spec.mounts_mut().as_mut().unwrap();
    mounts.push(mount("/data", "bind", source.to_str().unwrap(), &["rbind", "idmap"]));
    mounts.push(mount("/plain", "bind", plain.to_str().unwrap(), &["rbind"]));
    let text = container.stdout();
    assert_eq!(text.split_whitespace().collect::<Vec<_>>()[2..4], ["0", "0"], "{text}");
    assert!(text.ends_with("refused"), "{text}");
    assert_eq!(fs::metadata(source.join("new")).unwrap().uid(), 0);
}

#[test]
fn a_mount_has_mappings_of_its_own_without_a_user_namespace() {
    let mut container = Container::shell("stat -c %u:%g /data /data/file");
    std::os::unix::fs::symlink("busybox", container.path("/bin/stat")).unwrap();
    let source = container.outside("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    chown(source.join("file"), Some(5), Some(6)).unwrap();
    let mut data = mount("/data", "bind", source.to_str().unwrap(), &["bind", "ridmap"]);
    data.set_uid_mappings(Some(vec![mapping(0, 7000, 100)]));
    container.spec.mounts_mut().as_mut().unwrap().push(data.clone());
    assert!(stderr(&container.run()).contains("both users and groups"));
    data.set_gid_mappings(Some(vec![mapping(0, 8000, 100)]));
    *container.spec.mounts_mut().as_mut().unwrap().last_mut().unwrap() = data.clone();
    assert_eq!(container.stdout(), "7000:8000\n7005:8006");
    data.set_uid_mappings(None).set_gid_mappings(None);
    *container.spec.mounts_mut().as_mut().unwrap().last_mut().unwrap() = data;
    assert!(stderr(&container.run()).contains("needs mappings of its own"));
}

#[test]
fn a_user_namespace_without_mappings_is_refused() {
    let mut container = Container::new(&["true"]);
    namespace(&mut container, Kind::User, None);
    assert!(stderr(&container.run()).contains("needs 1 to 340 mappings"), "{}", stderr(&container.run()));
}
