//! What a process is given beside its arguments: capabilities, scheduling, labels, masks.

use std::io::Write;

use oci_spec::runtime::{
    Capability, ExecCPUAffinityBuilder, IOPriorityClass, LinuxCapabilitiesBuilder, LinuxIOPriorityBuilder,
    LinuxPersonalityBuilder, LinuxPersonalityDomain, LinuxSchedulerPolicy, SchedulerBuilder,
};

use crate::fixture::Container;
use crate::{stderr, stdout};

#[test]
fn ambient_capabilities_survive_the_exec_of_another_user() {
    let mut container =
        Container::shell("grep ^Cap /proc/self/status | cut -f2; mknod /tmp/x c 1 3 || echo none");
    std::os::unix::fs::symlink("busybox", container.path("/bin/cut")).unwrap();
    let two = [Capability::NetBindService, Capability::Chown];
    let one = [Capability::NetBindService];
    let sets = LinuxCapabilitiesBuilder::default().bounding(two).permitted(two).effective(two);
    container.process().set_capabilities(Some(sets.inheritable(one).ambient(two).build().unwrap()));
    container.process().user_mut().set_uid(1000).set_gid(1000);
    // Ambient is only what is permitted and inheritable too.
    let (bind, both) = ("0000000000000400", "0000000000000401");
    assert_eq!(container.stdout(), format!("{bind}\n{bind}\n{bind}\n{both}\n{bind}\nnone"));
}

#[test]
fn scheduler_io_priority_and_personality_are_set() {
    let mut container = Container::shell("ionice -p 1; uname -m; cut -d' ' -f19,41 /proc/1/stat");
    for applet in ["ionice", "uname", "cut"] {
        std::os::unix::fs::symlink("busybox", container.path("/bin").join(applet)).unwrap();
    }
    let batch = SchedulerBuilder::default().policy(LinuxSchedulerPolicy::SchedBatch).nice(7);
    let priority = LinuxIOPriorityBuilder::default().class(IOPriorityClass::IoprioClassIdle).priority(0);
    container.process().set_scheduler(Some(batch.build().unwrap()));
    container.process().set_io_priority(Some(priority.build().unwrap()));
    let personality = LinuxPersonalityBuilder::default().domain(LinuxPersonalityDomain::PerLinux32);
    let linux = container.spec.linux_mut().as_mut().unwrap();
    linux.set_personality(Some(personality.build().unwrap()));
    let text = container.stdout();
    assert!(text.contains("idle"), "{text}");
    assert!(text.contains("i686") || !cfg!(target_arch = "x86_64"), "{text}");
    assert!(text.ends_with("\n7 3"), "nice value and policy: {text}");
}

#[test]
fn a_further_process_runs_on_the_processors_asked_for() {
    let mut container = Container::new(&["sleep", "30"]);
    let pid = container.start(&[]);
    let mut process = container.other_process(&["grep", "Cpus_allowed_list", "/proc/self/status"]);
    let affinity = ExecCPUAffinityBuilder::default().initial("0").cpu_affinity_final("1");
    process.set_exec_cpu_affinity(Some(affinity.build().unwrap()));
    if std::thread::available_parallelism().unwrap().get() < 2 {
        writeln!(std::io::stderr(), "skipped: one processor cannot be told from another").unwrap();
        return;
    }
    let output = container.exec(&pid, &process, &[]);
    assert!(stdout(&output).ends_with("\t1"), "{} {}", stdout(&output), stderr(&output));
    let first = ExecCPUAffinityBuilder::default().initial("0").build().unwrap();
    process.set_exec_cpu_affinity(Some(first));
    assert!(stdout(&container.exec(&pid, &process, &[])).ends_with("\t0"));
}

#[test]
fn the_umask_and_the_oom_score_are_the_processes_own() {
    let mut container = Container::shell("umask; cat /proc/self/oom_score_adj");
    container.process().user_mut().set_umask(Some(0o077));
    container.process().set_oom_score_adj(Some(500));
    assert_eq!(container.stdout(), "0077\n500");
    container.process().set_oom_score_adj(Some(-900));
    let text = container.stdout();
    let may_lower = rustix::thread::capabilities(None).unwrap().effective;
    let lowered = may_lower.contains(rustix::thread::CapabilitySet::SYS_RESOURCE);
    assert_eq!(text.ends_with("\n-900"), lowered, "{text}");
}

#[test]
fn host_and_domain_name_are_the_containers() {
    let mut container = Container::shell("hostname; cat /proc/sys/kernel/domainname");
    container.spec.set_hostname(Some("ship".into())).set_domainname(Some("sea.example".into()));
    assert_eq!(container.stdout(), "ship\nsea.example");
    let namespaces = container.spec.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap();
    namespaces.retain(|one| one.typ() != oci_spec::runtime::LinuxNamespaceType::Uts);
    assert!(stderr(&container.run()).contains("UTS namespace"));
}

#[test]
fn labels_of_a_module_that_is_off_are_refused() {
    use carrack_runtime::labels::{apparmor_is_enabled, selinux_is_enabled};
    if !apparmor_is_enabled() {
        let mut container = Container::new(&["true"]);
        container.process().set_apparmor_profile(Some("docker-default".into()));
        let output = container.run();
        assert!(stderr(&output).contains("AppArmor is off on this host"), "{}", stderr(&output));
    }
    if !selinux_is_enabled() {
        let mut container = Container::new(&["true"]);
        container.process().set_selinux_label(Some("system_u:system_r:container_t:s0".into()));
        assert!(stderr(&container.run()).contains("process label cannot be set: SELinux is off"));
        let mut container = Container::new(&["true"]);
        let label = "system_u:object_r:container_file_t:s0";
        container.spec.linux_mut().as_mut().unwrap().set_mount_label(Some(label.into()));
        assert!(stderr(&container.run()).contains("mount label cannot be set: SELinux is off"));
    }
}

#[test]
fn devices_have_the_owner_and_mode_of_the_spec() {
    let mut container = Container::shell("stat -c '%a %u %g %t:%T' /dev/mine /dev/pipe; readlink /dev/stdin");
    std::os::unix::fs::symlink("busybox", container.path("/bin/stat")).unwrap();
    let device = |json: &str| serde_json::from_str(json).unwrap();
    let devices = vec![
        device(r#"{"path":"/dev/mine","type":"c","major":1,"minor":3,"fileMode":432,"uid":5,"gid":6}"#),
        device(r#"{"path":"/dev/pipe","type":"p","fileMode":384}"#),
    ];
    container.spec.linux_mut().as_mut().unwrap().set_devices(Some(devices));
    assert_eq!(container.stdout(), "660 5 6 1:3\n600 0 0 0:0\n/proc/self/fd/0");
}

#[test]
fn a_device_takes_the_place_of_nothing_else() {
    let device = |major: u32| {
        let json = format!(r#"{{"path":"/etc/mine","type":"c","major":{major},"minor":3}}"#);
        vec![serde_json::from_str(&json).unwrap()]
    };
    let mut container = Container::shell("echo started");
    container.spec.linux_mut().as_mut().unwrap().set_devices(Some(device(1)));
    assert_eq!(container.stdout(), "started");
    assert_eq!(container.stdout(), "started", "it is there from before");
    container.spec.linux_mut().as_mut().unwrap().set_devices(Some(device(2)));
    assert!(stderr(&container.run()).contains("/etc/mine cannot be made: another file is there"));
}

#[test]
fn a_resource_limit_is_given_once() {
    let mut container = Container::new(&["true"]);
    let limit = || serde_json::from_str(r#"{"type":"RLIMIT_NOFILE","soft":64,"hard":64}"#).unwrap();
    container.process().set_rlimits(Some(vec![limit(), limit()]));
    assert!(stderr(&container.run()).contains("expected each limit once"), "{}", stderr(&container.run()));
}

#[test]
fn what_is_not_supported_is_refused() {
    let mut container = Container::new(&["true"]);
    let linux = container.spec.linux_mut().as_mut().unwrap();
    linux.set_intel_rdt(Some(serde_json::from_str(r#"{"closID":"x"}"#).unwrap()));
    assert!(stderr(&container.run()).contains("linux.intelRdt is not supported"));
}
