//! Images and processes that try to get out. Each test names the guard that it is about.

use std::fs;
use std::os::unix::fs::symlink;

use crate::fixture::Container;
use crate::{mount, stderr, stdout};

/// `rootfs.rs`, `Links::at`.
#[test]
fn kernel_folders_that_are_links_are_refused() {
    for name in ["dev", "proc", "sys"] {
        let container = Container::new(&["true"]);
        fs::remove_dir(container.path(name)).unwrap();
        symlink("/tmp", container.path(name)).unwrap();
        let output = container.run();
        assert_eq!(output.status.code(), Some(125), "/{name}: {}", stderr(&output));
        assert!(stderr(&output).contains(&format!("/{name}")), "{}", stderr(&output));
        assert_eq!(
            fs::read_dir(container.path("tmp")).unwrap().count(),
            0,
            "nothing was made behind the link"
        );
    }
}

/// `rootfs.rs`: destinations are resolved in the root.
#[test]
fn a_mount_destination_behind_a_link_stays_in_the_root() {
    let mut container = Container::shell("ls /inner; cat /etc/passwd");
    let outside = container.outside("victim");
    fs::create_dir(&outside).unwrap();
    let source = container.outside("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    // As seen on the host: a link to a folder of the host.
    symlink(&outside, container.path("/inner")).unwrap();
    let source = source.to_str().unwrap().to_owned();
    container.spec.mounts_mut().as_mut().unwrap().push(mount("/inner", "bind", &source, &["rbind"]));
    assert!(stdout(&container.run()).contains("file"), "the link leads to the same name in the root");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

/// `process.rs`, `enter_working_directory` (CVE-2024-21626). A container makes its working directory, which fails
/// first; a further process does not, and has the folder of its cgroup open.
#[test]
fn a_working_directory_through_a_descriptor_of_the_host_is_refused() {
    let mut container = Container::new(&["sleep", "30"]);
    let pid = container.start(&[]);
    let mut refused = 0;
    for number in 0..20 {
        let mut process = container.other_process(&["ls", "../../../../../etc/shadow"]);
        process.set_cwd(format!("/proc/self/fd/{number}").into());
        let output = container.exec(&pid, &process, &[]);
        assert!(!output.status.success(), "{number}: {}", stdout(&output));
        assert!(!stderr(&output).contains("outside of it"), "a process that joins has none of the host's");
        container.process().set_cwd(format!("/proc/self/fd/{number}").into());
        let first = container.command(&[]).output().unwrap();
        assert!(!first.status.success(), "{number}: {}", stdout(&first));
        refused += usize::from(stderr(&first).contains("outside of it"));
    }
    assert!(refused > 0, "some descriptor was a folder of the host");
}

/// `masks.rs`: the container's own /dev/null is not what masks are made of (CVE-2025-31133).
#[test]
fn a_false_null_device_does_not_unmask() {
    let mut container = Container::shell("head -c 1 /proc/kcore | wc -c; head -c 1 /proc/timer_list | wc -c");
    let source = container.outside("null");
    fs::write(&source, "not null").unwrap();
    let source = source.to_str().unwrap().to_owned();
    container.spec.mounts_mut().as_mut().unwrap().push(mount("/dev/null", "bind", &source, &["bind"]));
    assert_eq!(container.stdout(), "0\n0");
}

/// `console.rs`, `Console::open` (CVE-2025-52565).
#[test]
fn a_terminal_of_a_replaced_devpts_is_refused() {
    let mut container = Container::shell("exec sleep 30");
    let fake = container.outside("pts");
    fs::create_dir(&fake).unwrap();
    fs::write(fake.join("ptmx"), "").unwrap();
    let mounts = container.spec.mounts_mut().as_mut().unwrap();
    mounts.retain(|mount| mount.destination() != std::path::Path::new("/dev/pts"));
    mounts.push(mount("/dev/pts", "bind", fake.to_str().unwrap(), &["bind"]));
    let pid = container.start(&[]);
    let output = container.exec(&pid, &container.other_process(&["true"]), &["--console"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("devpts"), "{}", stderr(&output));
}

/// `executable.rs` (CVE-2019-5736).
#[test]
fn the_runtimes_own_program_cannot_be_written_from_inside() {
    let container = Container::new(&["/script"]);
    // Runs the runtime's program inside the container, where it can open its own file.
    fs::write(container.path("/script"), "#!/proc/self/exe probe\n").unwrap();
    fs::set_permissions(container.path("/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let output = container.run();
    assert!(stdout(&output).contains("read-only: true"), "{} {}", stdout(&output), stderr(&output));

    let output = container.run_with(&["--writable"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("writable through /proc/self/exe"), "{}", stderr(&output));
}

/// `init.rs`: not dumpable until the exec; the reaper of `--init` is our program.
#[test]
fn the_reaper_cannot_be_looked_into() {
    let container = Container::shell("readlink /proc/1/exe; ls /proc/1/fd; head -c 1 /proc/1/mem; echo end");
    assert_eq!(stdout(&container.run_with(&["--init"])), "end");
}

/// `exec.rs`: the spec's seccomp profile and capabilities hold for later processes as well.
#[test]
fn a_further_process_cannot_do_what_the_first_cannot() {
    let mut container = Container::new(&["sleep", "30"]);
    let pid = container.start(&[]);
    let output = container.exec(&pid, &container.other_process(&["unshare", "-U", "true"]), &[]);
    assert!(stderr(&output).contains("Operation not permitted"), "{}", stderr(&output));
}

/// `mounts.rs`: mounts are private, whatever the source's mount is.
#[test]
fn nothing_of_a_container_stays_in_the_hosts_mount_table() {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut container = Container::new(&["true"]);
    let source = container.outside("source");
    fs::create_dir(&source).unwrap();
    let source = source.to_str().unwrap().to_owned();
    container.spec.mounts_mut().as_mut().unwrap().push(mount(
        "/data",
        "bind",
        &source,
        &["rbind", "rshared"],
    ));
    container.stdout();
    let name = container.outside("").to_str().unwrap().to_owned();
    let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!before.contains(&name) && !after.contains(&name), "{after}");
}
