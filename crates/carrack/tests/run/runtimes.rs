//! Containers that another OCI runtime starts: runc, crun, and carrack's own runtime as a program. What a user sees is
//! the same; what the runtime says of the container is asked of the runtime.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use carrack_testkit::{Run, Store};

use crate::crash::kill_monitor;
use crate::kit::{CARRACK, IMAGE, LIMIT, store};
use crate::network::Sea;
use crate::{
    UNTIL_TERM, assert_no_container_is_left, await_ready, cgroup_file, cgroups, eventually, folder, inspect,
};

/// Runs the rest of its words where cgroups are those of version 2 alone: crun 1.8 refuses hosts that have both.
const HIDING_V1: [&str; 5] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "test ! -d /sys/fs/cgroup/unified || mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup; exec \"$0\" \"$@\"",
];

/// The program of `store` behind the words of `wrapper`.
fn wrapped(wrapper: &[&str], store: &Store) -> Command {
    let inner = store.command();
    let Some((program, words)) = wrapper.split_first() else { return inner };
    let mut command = Command::new(program);
    command.args(words).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// A store, and a runtime for its containers.
struct Yard {
    store: Store,
    runtime: String,
    /// What stands before each command of carrack.
    wrapper: &'static [&'static str],
}

impl Yard {
    fn new(runtime: &str) -> Self {
        Self { store: store(), runtime: runtime.to_owned(), wrapper: &[] }
    }

    #[track_caller]
    fn carrack(&self, arguments: &[&str]) -> Run {
        Run::of(wrapped(self.wrapper, &self.store).args(arguments), LIMIT)
    }

    /// `carrack run --runtime RUNTIME --network none FLAGS IMAGE sh -c SCRIPT`
    #[track_caller]
    fn run(&self, flags: &[&str], script: &str) -> Run {
        let own = ["run", "--runtime", &self.runtime, "--network", "none"];
        self.carrack(&[&own, flags, &[IMAGE, "sh", "-c", script]].concat())
    }

    /// What the runtime itself says of a container.
    #[track_caller]
    fn state(&self, id: &str) -> serde_json::Value {
        let root = self.store.runroot().join("containers").join(id).join("runtime");
        let mut command = Command::new(&self.runtime);
        let state = Run::of(command.arg("--root").arg(root).args(["state", id]), LIMIT).success();
        serde_json::from_str(&state.stdout).unwrap()
    }

    /// From `run` to `rm`, with all that a user does in between.
    #[track_caller]
    fn life(&self) -> String {
        let id = self.run(&["-d", "--name", "one"], UNTIL_TERM).line();
        await_ready(&self.store, "one");
        assert_eq!(inspect(&self.store, "one", "{{.HostConfig.Runtime}}"), self.runtime);
        assert_eq!(
            self.carrack(&["exec", "one", "sh", "-c", "echo ahoy $(cat /proc/1/comm)"]).line(),
            "ahoy sh"
        );
        self.carrack(&["exec", "one", "sh", "-c", "exit 5"]).code(5);
        self.carrack(&["exec", "one", "no-such-program"]).code(127);
        assert_eq!(self.carrack(&["exec", "-t", "one", "sh", "-c", "test -t 1 && echo tty"]).line(), "tty");
        assert!(self.carrack(&["top", "one"]).success().stdout.contains("sleep"));
        self.carrack(&["stop", "one"]).success();
        assert_eq!(inspect(&self.store, "one", "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
        self.carrack(&["start", "one"]).success();
        assert_eq!(self.carrack(&["kill", "--signal", "TERM", "one"]).line(), "one");
        assert_eq!(self.carrack(&["wait", "one"]).line(), "7");
        let logs = self.carrack(&["logs", "one"]).success().stdout;
        assert_eq!(logs.matches("ready").count(), 2, "{logs}");
        self.carrack(&["start", "one"]).success();
        self.carrack(&["pause", "one"]).success();
        assert_eq!(inspect(&self.store, "one", "{{.State.Status}}"), "paused");
        self.carrack(&["unpause", "one"]).success();
        assert_eq!(self.carrack(&["exec", "one", "echo", "goes on"]).line(), "goes on");
        self.carrack(&["kill", "one"]).success();
        assert_eq!(self.carrack(&["wait", "one"]).line(), "137");
        self.carrack(&["start", "one"]).success();
        self.carrack(&["rm", "--force", "one"]).success();
        self.run(&["--rm"], "exit 9").code(9);
        assert_eq!(self.run(&["--rm", "-t"], "test -t 0 && echo tty").line(), "tty");
        assert_no_container_is_left(&self.store, &id);
        id
    }

    #[track_caller]
    fn failures(&self) {
        let run = |flags: &[&str], command: &[&str]| {
            let own = ["run", "--rm", "--runtime", &self.runtime, "--network", "none"];
            self.carrack(&[&own, flags, &[IMAGE], command].concat())
        };
        let absent = run(&[], &["no-such-program"]).code(127);
        assert!(absent.stderr.contains("the OCI runtime"), "{}", absent.stderr);
        run(&[], &["/etc"]).code(126);
        assert_eq!(self.carrack(&["ps", "--all", "--quiet"]).line(), "");
    }
}

#[test]
fn runc_starts_containers() {
    let yard = Yard::new("runc");
    yard.life();
    yard.failures();
}

#[test]
fn crun_starts_containers() {
    let yard = Yard { wrapper: &HIDING_V1, ..Yard::new("crun-plain") };
    // What it loads for device rules of v2 takes a right over limits that not every root has.
    let settings =
        "[runtimes.crun-plain]\npath = \"/usr/bin/crun\"\nargs = [\"--cgroup-manager=disabled\"]\n";
    fs::create_dir_all(yard.store.path().join("home/.config/carrack")).unwrap();
    fs::write(yard.store.path().join("home/.config/carrack/carrack.toml"), settings).unwrap();
    yard.life();
    yard.failures();
}

#[test]
fn carracks_own_runtime_starts_containers_as_a_program() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("carrack-runtime");
    symlink(CARRACK, &program).unwrap();
    let yard = Yard::new(program.to_str().unwrap());
    yard.life();
    yard.failures();
}

#[test]
fn a_runtime_knows_the_container_under_its_limits() {
    let yard = Yard::new("runc");
    let flags = ["-d", "--name", "one", "--memory", "64m", "--pids-limit", "40"];
    let id = yard.run(&flags, "echo ready; sleep 1000").line();
    await_ready(&yard.store, "one");
    assert_eq!(yard.state(&id)["status"], "running");
    assert_eq!(cgroup_file(&id, &["memory.limit_in_bytes", "memory.max"]), (64 << 20).to_string());
    assert_eq!(cgroup_file(&id, &["pids.max"]), "40");
    let pid = inspect(&yard.store, "one", "{{.State.Pid}}");
    assert_eq!(yard.state(&id)["pid"].to_string(), pid);
    for folder in cgroups(&id) {
        let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap();
        assert!(members.lines().any(|member| member == pid), "{} has {members}", folder.display());
    }
    yard.carrack(&["rm", "--force", "one"]).success();
    let killed = yard.run(&["--rm", "--memory", "32m", "--memory-swap", "32m"], "tail /dev/zero");
    killed.code(137);
}

#[test]
fn a_runtime_sees_every_kind_of_mount() {
    let yard = Yard::new("runc");
    let files = folder(&yard.store, "files", &[("greeting", "ahoy"), ("below/one", "1")]);
    let bind = format!("{}:/files:ro", files.display());
    let file = format!("{}:/greeting", files.join("greeting").display());
    let flags = ["--rm", "-v", &bind, "-v", &file, "-v", "kept:/kept", "--tmpfs", "/memory"];
    let script = "cat /greeting /files/below/one; touch /files/new && echo written; echo stays > /kept/it; \
                  busybox stat -f -c %T /memory; cat /etc/hostname";
    let out = yard.run(&[&flags[..], &["--hostname", "boat"]].concat(), script).success();
    assert_eq!(out.stdout.split_whitespace().collect::<Vec<_>>(), ["ahoy1tmpfs", "boat"]);
    assert_eq!(yard.run(&["--rm", "-v", "kept:/kept:ro"], "cat /kept/it").line(), "stays");
    assert_eq!(yard.run(&["--rm", "--read-only"], "touch /new || echo refused").line(), "refused");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(yard.store.path().to_str().unwrap()), "the host sees a mount: {mounts}");
}

#[test]
fn a_killed_monitor_leaves_nothing_with_the_runtime() {
    let yard = Yard::new("runc");
    let id = yard.run(&["-d", "--name", "one"], UNTIL_TERM).line();
    await_ready(&yard.store, "one");
    kill_monitor(&yard.store, &id);
    let status = yard.carrack(&["ps", "--all", "--format", "{{.Status}}"]).line();
    assert!(status.starts_with("Exited (255)"), "{status}");
    assert!(cgroups(&id).is_empty(), "{:?}", cgroups(&id));
    let state = yard.store.runroot().join("containers").join(&id).join("runtime");
    assert!(!state.exists(), "the runtime still knows it");
    yard.carrack(&["start", "one"]).success();
    yard.carrack(&["stop", "one"]).success();
    yard.carrack(&["rm", "one"]).success();
    assert_no_container_is_left(&yard.store, &id);
}

#[test]
fn restarts_and_health_checks_go_through_the_runtime() {
    let yard = Yard::new("runc");
    yard.run(&["-d", "--name", "again", "--restart", "on-failure:2"], "echo turn; exit 3").success();
    eventually("it has given up", || inspect(&yard.store, "again", "{{.State.Status}}") == "exited");
    assert_eq!(inspect(&yard.store, "again", "{{.RestartCount}} {{.State.ExitCode}}"), "2 3");
    assert_eq!(yard.carrack(&["logs", "again"]).success().stdout, "turn\nturn\nturn\n");
    let check = ["-d", "--name", "well", "--health-cmd", "test -e /proc/1", "--health-interval", "100ms"];
    yard.run(&check, "sleep 1000").success();
    eventually("it is healthy", || inspect(&yard.store, "well", "{{.State.Health.Status}}") == "healthy");
    yard.carrack(&["rm", "--force", "again", "well"]).success();
}

#[test]
fn the_settings_name_runtimes_and_the_default() {
    let yard = Yard::new("runc");
    let settings = yard.store.path().join("carrack.toml");
    fs::write(
        &settings,
        "[containers]\nruntime = \"loud\"\n[runtimes.loud]\npath = \"/usr/sbin/runc\"\nargs = [\"--debug\"]\n",
    )
    .unwrap();
    let run = |flags: &[&str], command: &[&str]| {
        let own = ["--settings", settings.to_str().unwrap(), "run", "--name", "one", "--network", "none"];
        yard.carrack(&[&own, flags, &[IMAGE], command].concat())
    };
    run(&["-d"], &["sleep", "1000"]).success();
    assert_eq!(inspect(&yard.store, "one", "{{.HostConfig.Runtime}}"), "loud");
    yard.carrack(&["rm", "--force", "one"]).success();
    run(&["-d", "--runtime", "carrack"], &["sleep", "1000"]).success();
    assert_eq!(inspect(&yard.store, "one", "{{.HostConfig.Runtime}}"), "carrack");
    yard.carrack(&["rm", "--force", "one"]).success();
    let info = ["--settings", settings.to_str().unwrap(), "info", "--format", "{{.DefaultRuntime}}"];
    assert_eq!(yard.carrack(&info).line(), "loud");
}

#[test]
fn what_another_runtime_cannot_do_is_refused_at_create() {
    let yard = Yard::new("runc");
    let refused = |flags: &[&str]| {
        let create = yard.carrack(&[&["create"], flags, &[IMAGE, "true"]].concat()).code(125);
        create.stderr
    };
    for flags in [
        &["--init"][..],
        &["--userns", "auto"],
        &["--cgroups", "disabled"],
        &["--mount", "type=bind,source=/bin,target=/b,idmap=uids=0-0-1;gids=0-0-1"],
    ] {
        let error = refused(&[&["--runtime", "runc"], flags].concat());
        assert!(error.contains("needs carrack's own runtime"), "{flags:?}: {error}");
    }
    for (runtime, expected) in
        [("no-such-runtime", "no OCI runtime"), ("/etc/passwd", "is no program"), ("./runc", "is no program")]
    {
        let error = refused(&["--runtime", runtime]);
        assert!(error.contains(expected), "{runtime}: {error}");
    }
    assert_eq!(yard.carrack(&["ps", "--all", "--quiet"]).line(), "");
}

#[test]
fn a_program_that_is_no_runtime_fails_the_start() {
    let yard = Yard::new("/bin/false");
    let failed = yard.run(&["--rm"], "true").code(125);
    assert!(failed.stderr.contains("the OCI runtime /bin/false cannot create it"), "{}", failed.stderr);
    let id = yard.run(&["-d", "--name", "one"], "true").code(125);
    assert!(id.stderr.contains("/bin/false"), "{}", id.stderr);
    yard.carrack(&["rm", "one"]).success();
    assert_eq!(yard.store.container_ids(), Vec::<String>::new());
}

#[test]
fn a_container_of_runc_has_its_place_on_the_bridge() {
    let sea = Sea::new();
    let namespace = format!("--net=/run/netns/{}", sea.ship);
    // Unlike `ip netns exec` it leaves the cgroups where they are.
    let carrack =
        |arguments: &[&str]| Run::of(wrapped(&["nsenter", &namespace], &sea.store).args(arguments), LIMIT);
    let script = "cat /etc/hosts; busybox ip -4 -o address show eth0; busybox nc -w 5 10.87.0.1 9 </dev/null 2>&1; true";
    let out = carrack(&["run", "--rm", "--runtime", "runc", "--ip", "10.87.0.9", IMAGE, "sh", "-c", script]);
    let out = out.success().stdout;
    assert!(out.contains("10.87.0.9\t") && out.contains("inet 10.87.0.9/16"), "{out}");
    assert!(out.contains("refused"), "the host is not reached: {out}");
    let links = carrack(&["ps", "--all", "--quiet"]).line();
    assert_eq!(links, "");
}
