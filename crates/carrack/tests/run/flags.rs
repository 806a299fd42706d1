//! What the flags of `run` change, as the program sees it.

use std::fs;

use carrack_testkit::{Run, Store};

use crate::folder;
use crate::kit::{IMAGE, run, store};

/// The lines of `/proc/self/status` that begin with `field`, without it.
#[track_caller]
fn status(store: &Store, flags: &[&str], field: &str) -> String {
    run(store, flags, &format!("grep ^{field}: /proc/self/status | cut -f 2")).line()
}

#[test]
fn variables_come_from_flags_files_and_the_caller() {
    let store = store();
    let files = folder(&store, "files", &[("env", "# comment\nFILE=1\nBOTH=file\nQUOTED=\"x\"\n")]);
    let file = files.join("env");
    let mut command = store.command();
    command.env("OF_CALLER", "from outside").env("OTHER", "x");
    command.args(["run", "--rm", "--network", "none", "--env-file", file.to_str().unwrap()]);
    command.args([
        "-e",
        "FLAG=a=b",
        "-e",
        "BOTH=flag",
        "-e",
        "OF_CALLER",
        "-e",
        "UNSET_OUTSIDE",
        IMAGE,
        "env",
    ]);
    let output = Run::of(&mut command, crate::kit::LIMIT).line();
    let mut lines: Vec<&str> = output.lines().filter(|line| !line.starts_with("HOSTNAME=")).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "BOTH=flag",
            "FILE=1",
            "FLAG=a=b",
            "HOME=/root",
            "OF_CALLER=from outside",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "QUOTED=\"x\"",
        ]
    );
}

#[test]
fn folder_user_host_name_and_entrypoint() {
    let store = store();
    assert_eq!(run(&store, &["-w", "/new/folder"], "pwd").line(), "/new/folder");
    assert_eq!(run(&store, &["-u", "nobody"], "id -u; id -g; echo $HOME").line(), "65534\n65534\n/");
    assert_eq!(run(&store, &["-u", "12:34", "--group-add", "56"], "id -u; id -G").line(), "12\n34 56");
    run(&store, &["-u", "absent"], "true").code(125);
    let names = "hostname; cat /etc/hostname; echo $HOSTNAME";
    assert_eq!(run(&store, &["-h", "ship"], names).line(), "ship\nship\nship");
    let entrypoint = ["run", "--rm", "--network", "none", "--entrypoint", "echo", IMAGE, "a", "b"];
    assert_eq!(store.carrack(entrypoint).line(), "a b");
    let list = ["run", "--rm", "--network", "none", "--entrypoint", r#"["echo","-n"]"#, IMAGE, "a"];
    assert_eq!(store.carrack(list).success().stdout, "a");
}

#[test]
fn a_read_only_root_has_writable_places_in_memory() {
    let store = store();
    let script = "touch /root/x && exit 1; touch /etc/hosts && exit 2; mkdir /new && exit 3; echo x >/dev/shm/x; echo y >/scratch/y";
    let seen = run(&store, &["--read-only", "--tmpfs", "/scratch:size=1m,mode=1770"], script).success();
    assert_eq!(seen.stderr.matches("Read-only file system").count(), 3, "{}", seen.stderr);
    let script = "stat -c %a /scratch; dd if=/dev/zero of=/scratch/big bs=64k count=32 2>&1 | grep -c 'No space'; \
                  cp /bin/busybox /tmp; /tmp/busybox true";
    let run = run(&store, &["--tmpfs", "/scratch:size=1m,mode=1770", "--tmpfs", "/tmp"], script).code(126);
    assert_eq!(run.stdout, "1770\n1\n", "{}", run.stderr);
    assert!(run.stderr.contains("Permission denied"), "programs on it are not executed: {}", run.stderr);
}

#[test]
fn volumes_are_shared_and_read_only_ones_are_not_written() {
    let store = store();
    let shared = folder(&store, "shared", &[("in", "from outside"), ("below/deep", "")]);
    let at = |options: &str| format!("{}:/data{options}", shared.display());
    let script = "cat /data/in; echo -n from inside >/data/out";
    assert_eq!(run(&store, &["-v", &at("")], script).line(), "from outside");
    assert_eq!(fs::read_to_string(shared.join("out")).unwrap(), "from inside");
    let script =
        "cat /data/out; touch /data/x || touch /data/below/x || mount -o remount,rw /data || rm /data/in";
    let refused = run(&store, &["-v", &at(":ro")], script).code(1);
    assert_eq!(refused.stdout, "from inside");
    assert!(refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
    assert!(shared.join("in").exists());
    let file = format!("{}:/etc/passwd:ro", shared.join("in").display());
    assert_eq!(run(&store, &["-v", &file], "cat /etc/passwd").line(), "from outside");
    run(&store, &["--mount", "type=bind,src=/no/such/source,dst=/data"], "true").code(125);
}

#[test]
fn capabilities_are_dockers_and_can_be_changed() {
    let store = store();
    // chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot setfcap
    assert_eq!(
        status(&store, &[], "Cap..."),
        ["0000000000000000", "00000000800405fb", "00000000800405fb", "00000000800405fb", "0000000000000000"]
            .join("\n")
    );
    let none = ["--cap-drop", "ALL"];
    assert_eq!(status(&store, &none, "CapEff"), "0000000000000000");
    assert_eq!(status(&store, &none, "CapBnd"), "0000000000000000");
    let two = ["--cap-drop", "all", "--cap-add", "chown", "--cap-add", "CAP_SYS_TIME"];
    assert_eq!(status(&store, &two, "CapEff"), "0000000002000001");
    assert_eq!(status(&store, &["--cap-drop", "SYS_CHROOT"], "CapBnd"), "00000000800005fb");
    assert_eq!(status(&store, &["-u", "1"], "CapEff"), "0000000000000000");
    run(&store, &["--cap-add", "NOPE"], "true").code(125);
    run(&store, &["--cap-drop", "CHOWN"], "chown 1 /tmp").code(1);
}

#[test]
fn limits_of_processes() {
    let store = store();
    let flags = ["--ulimit", "nofile=123:456", "--ulimit", "core=0"];
    assert_eq!(run(&store, &flags, "ulimit -Sn; ulimit -Hn; ulimit -c").line(), "123\n456\n0");
    run(&store, &["--ulimit", "nofile=x"], "true").code(125);
    run(&store, &["--ulimit", "nope=1"], "true").code(125);
}

#[test]
fn init_reaps_what_loses_its_parent() {
    let store = store();
    // The inner shell ends before its child, which is then a child of process 1.
    let script = "test $$ -ne 1 || exit 1; sh -c 'sleep 0.05 &'; sleep 0.3; grep -l 'State:.Z' /proc/[0-9]*/status; true";
    assert_eq!(run(&store, &["--init"], script).line(), "");
    let id = crate::detached(&store, &["--init"], crate::UNTIL_TERM);
    crate::await_ready(&store, &id);
    store.carrack(["stop", &id]).success();
    assert_eq!(store.carrack(["wait", &id]).line(), "7", "the signal is forwarded");
}

#[test]
fn security_options() {
    let store = store();
    assert_eq!(status(&store, &[], "NoNewPrivs"), "0");
    assert_eq!(status(&store, &["--security-opt", "no-new-privileges"], "NoNewPrivs"), "1");
    assert_eq!(status(&store, &[], "Seccomp"), "2");
    assert_eq!(status(&store, &["--security-opt", "seccomp=unconfined"], "Seccomp"), "0");
    run(&store, &["--security-opt", "label=disable-everything"], "true").code(125);
}

#[test]
fn kernel_parameters_and_shared_memory() {
    let store = store();
    let flags = ["--sysctl", "net.ipv4.ip_unprivileged_port_start=7", "--shm-size", "1m"];
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; df -k /dev/shm | awk 'END { print $2 }'";
    assert_eq!(run(&store, &flags, script).line(), "7\n1024");
    run(&store, &["--sysctl", "kernel.panic=1"], "true").code(125);
}

#[test]
fn the_hosts_network_brings_the_hosts_name_unless_another_is_given() {
    let store = store();
    let names = |flags: &[&str]| {
        let script = ["sh", "-c", "hostname; echo $HOSTNAME; cat /etc/hostname"];
        store.carrack([&["run", "--rm", "--network", "host"], flags, &[IMAGE], &script[..]].concat()).line()
    };
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(names(&[]), [own.as_str(); 3].join("\n"));
    assert_eq!(names(&["-h", "sailor"]), ["sailor"; 3].join("\n"));
    assert_eq!(rustix::system::uname().nodename().to_string_lossy(), own);
}

#[test]
fn landlock_rules_hold_for_the_program_and_for_exec() {
    let store = store();
    let rules = ["--security-opt", "landlock=ro:/bin,ro:/proc", "--security-opt", "landlock=rw:/tmp,rw:/dev"];
    let script = format!("cat /etc/hosts; echo x >/bin/x; echo written >/tmp/file; {}", crate::UNTIL_TERM);
    crate::detached(&store, &[&["--name", "one"], &rules[..]].concat(), &script);
    crate::await_ready(&store, "one");
    let refused = store.carrack(["logs", "one"]).success().stderr;
    assert_eq!(refused.matches("Permission denied").count(), 2, "{refused}");
    assert_eq!(store.carrack(["exec", "one", "cat", "/tmp/file"]).line(), "written");
    let refused = store.carrack(["exec", "--privileged", "one", "cat", "/etc/hosts"]).code(1);
    assert!(refused.stderr.contains("Permission denied"), "{}", refused.stderr);
    let shown = crate::inspect(&store, "one", "{{json .Security.Landlock}}");
    assert_eq!(shown, r#"["ro:/bin","ro:/proc","rw:/tmp","rw:/dev"]"#);

    for wrong in ["landlock=", "landlock=/bin", "landlock=wo:/bin", "landlock=ro:bin", "landlock=ro:/a/.."] {
        let refused = store.carrack(["create", "--security-opt", wrong, IMAGE]).code(125);
        assert!(refused.stderr.contains("invalid Landlock rules"), "{wrong}: {}", refused.stderr);
    }
    let refused = run(&store, &["--security-opt", "landlock=ro:/bin,rw:/absent"], "true").code(125);
    assert!(refused.stderr.contains("no such file in the container"), "{}", refused.stderr);
    run(&store, &["--security-opt", "landlock=rw:/tmp"], "true").code(126);
}

#[test]
fn what_follows_the_image_is_the_programs() {
    let store = store();
    let echo = |words: &[&str]| {
        let flags = ["run", "--rm", "--network", "none", "--entrypoint", "/bin/echo", IMAGE];
        store.carrack([&flags, words].concat()).line()
    };
    assert_eq!(echo(&["--privileged", "-it", "--", "--help"]), "--privileged -it -- --help");
    assert_eq!(echo(&["-c", "x", "--root", "/nowhere"]), "-c x --root /nowhere");
    assert_eq!(echo(&[]), "");
    store.carrack(["run", "-d", "--network", "none", "--name", "one", IMAGE, "sleep", "1000"]).success();
    let run = store.carrack(["exec", "one", "--privileged", "true"]).code(127);
    assert!(run.stderr.contains("--privileged"), "{}", run.stderr);
    assert_eq!(store.carrack(["exec", "one", "echo", "--help", "--", "-it"]).line(), "--help -- -it");
    store.carrack(["exec", "one"]).code(125);
    store.carrack(["run"]).code(125);
    store.carrack(["run", "--nonsense", IMAGE]).code(125);
    store.carrack(["rm", "--force", "one"]).success();
}
