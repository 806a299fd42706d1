//! Limits that hold: memory and processes.

use carrack_testkit::Run;

use crate::inspect;
use crate::kit::{IMAGE, LIMIT, run, store};

#[test]
fn too_much_memory_is_killed_and_said() {
    let store = store();
    let flags = ["run", "--name", "one", "--network", "none", "-m", "16m", "--memory-swap", "16m"];
    store.carrack([&flags[..], &[IMAGE, "tail", "/dev/zero"]].concat()).code(137);
    assert_eq!(inspect(&store, "one", "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137");
    store.carrack(["run", "--name", "two", "--network", "none", "-m", "16m", IMAGE, "true"]).success();
    assert_eq!(inspect(&store, "two", "{{.State.OOMKilled}}"), "false");
}

#[test]
fn the_limit_of_processes_holds() {
    let store = store();
    let script = "i=0; while [ $i -lt 30 ]; do sleep 60 & i=$((i + 1)); done; echo made $i";
    let refused = run(&store, &["--pids-limit", "10"], script);
    assert!(refused.stderr.contains("can't fork"), "{}{}", refused.stdout, refused.stderr);
    assert_eq!(run(&store, &["--pids-limit", "40"], script).line(), "made 30");
}

#[test]
fn a_limit_that_cannot_hold_is_refused_and_not_forgotten() {
    let store = store();
    store.carrack(["run", "--rm", "--network", "none", "--memory-swap", "32m", IMAGE, "true"]).code(125);
    for (flags, code) in
        [(&["-m", "16m"][..], 125), (&["--pids-limit", "10"], 125), (&["--cpus", "1"], 125), (&[], 0)]
    {
        let carrack = store.command();
        let mut command = std::process::Command::new("unshare");
        // A host without cgroups.
        command.args(["--mount", "sh", "-c", "umount -R /sys/fs/cgroup && exec \"$@\"", "sh"]);
        command.arg(carrack.get_program()).args(carrack.get_args()).args([
            "run",
            "--rm",
            "--network",
            "none",
        ]);
        let ran = Run::of(command.args(flags).args([IMAGE, "true"]), LIMIT).code(code);
        assert!(code == 0 || ran.stderr.contains("cannot hold the limit"), "{}", ran.stderr);
    }
}
