//! `--log-driver journald` with a real journal: systemd-journald alone, in a mount namespace of the test's own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use carrack_testkit::{Run, Store};

use crate::eventually;
use crate::kit::{IMAGE, LIMIT, store};

/// A journal in memory: nothing of it is seen outside the namespace, and it ends with the shell's input.
const JOURNAL: &str = r#"
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\nForwardToWall=no\n' > /run/journald.conf
mount --bind /run/journald.conf /etc/systemd/journald.conf
if ! test -s /etc/machine-id; then
    echo 0123456789abcdef0123456789abcdef > /run/machine-id
    touch /etc/machine-id
    mount --bind /run/machine-id /etc/machine-id
fi
/lib/systemd/systemd-journald &
journal=$!
trap 'kill $journal' EXIT
until test -S /run/systemd/journal/socket; do sleep 0.02; done
echo ready
cat > /dev/null
"#;

struct Journal {
    shell: Child,
}

impl Journal {
    fn start() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", JOURNAL]);
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "systemd-journald runs: it is in Debian's package systemd");
        Self { shell }
    }

    /// Runs a program that sees the journal.
    #[track_caller]
    fn run(&self, program: &str, arguments: &[&str]) -> Run {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.shell.id())).arg(program).args(arguments);
        Run::of(&mut command, LIMIT)
    }

    #[track_caller]
    fn carrack(&self, store: &Store, arguments: &[&str]) -> Run {
        let inner = store.command();
        let of_store: Vec<_> = inner.get_args().map(|word| word.to_str().unwrap()).collect();
        self.run(inner.get_program().to_str().unwrap(), &[&of_store, arguments].concat())
    }

    /// The entries of a container that are filed.
    fn entries(&self, container: &str) -> Vec<serde_json::Value> {
        self.run("journalctl", &["--sync"]).success();
        let by_name = format!("CONTAINER_NAME={container}");
        let entries =
            self.run("journalctl", &["--quiet", "--all", "--output=json", &by_name]).success().stdout;
        entries.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

#[test]
fn the_journal_has_entries_as_docker_writes_them() {
    let (store, journal) = (store(), Journal::start());
    let script = "echo out; sleep 0.1; echo err >&2; sleep 0.1; printf rest";
    let run =
        ["run", "--name", "one", "--network", "none", "--log-driver", "journald", "--label", "tier=front"];
    let options = ["--log-opt", "labels=tier", IMAGE, "sh", "-c", script];
    let seen = journal.carrack(&store, &[&run[..], &options].concat()).success();
    assert_eq!((seen.stdout.as_str(), seen.stderr.as_str()), ("out\nrest", "err\n"));
    let id = store.carrack(["inspect", "--format", "{{.Id}}", "one"]).line();

    let entries = journal.entries("one");
    let texts: Vec<_> = entries.iter().map(|entry| entry["MESSAGE"].as_str().unwrap()).collect();
    assert_eq!(texts, ["out", "err", "rest"]);
    for entry in &entries {
        for (field, expected) in [
            ("CONTAINER_ID", &id[..12]),
            ("CONTAINER_ID_FULL", &id),
            ("CONTAINER_NAME", "one"),
            ("CONTAINER_TAG", &id[..12]),
            ("SYSLOG_IDENTIFIER", &id[..12]),
            ("IMAGE_NAME", IMAGE),
            ("TIER", "front"),
            ("_TRANSPORT", "journal"),
        ] {
            assert_eq!(entry[field], expected, "{field} of {entry}");
        }
    }
    let of_each = |field: &str| entries.iter().map(|entry| entry[field].clone()).collect::<Vec<_>>();
    assert_eq!(of_each("PRIORITY"), ["6", "3", "6"]);
    use serde_json::Value::Null;
    assert_eq!(of_each("CONTAINER_PARTIAL_MESSAGE"), [Null, Null, "true".into()]);

    let logs = journal.carrack(&store, &["logs", "one"]).success();
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("out\nrest", "err\n"));
    assert_eq!(journal.carrack(&store, &["logs", "--tail", "1", "one"]).success().stdout, "rest");
    assert_eq!(journal.carrack(&store, &["logs", "--since", "10s", "--until", "5s", "one"]).line(), "");
    let detailed = journal.carrack(&store, &["logs", "--details", "--tail", "3", "one"]).success().stdout;
    assert!(detailed.starts_with("tier=front out"), "{detailed}");
    store.carrack(["rm", "one"]).success();
}

#[test]
fn a_log_in_the_journal_is_followed_and_nobody_else_adds_to_it() {
    let (store, journal) = (store(), Journal::start());
    let script = "for i in $(seq 500); do echo line $i; done; printf 'a\\001b\\n'; yes | head -c 100000 | tr -d '\\n'; echo";
    let run = ["run", "-d", "--name", "one", "--network", "none", "--log-driver", "journald"];
    let id = journal.carrack(&store, &[&run[..], &[IMAGE, "sh", "-c", script]].concat()).line();
    let followed = journal.carrack(&store, &["logs", "--follow", "one"]).success().stdout;
    let lines: Vec<_> = followed.lines().collect();
    let expected: Vec<_> = (1..=500).map(|number| format!("line {number}")).collect();
    assert_eq!(lines[..500], expected);
    assert_eq!((lines[500], lines[501].len(), lines.len()), ("a\u{1}b", 50_000, 502));
    // An entry of another user that says it is of the container.
    let forge = format!(
        "import os, socket; os.setuid(65534); s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
         s.connect('/run/systemd/journal/socket'); \
         s.send(b'MESSAGE=forged\\nPRIORITY=6\\nCONTAINER_NAME=one\\nCONTAINER_ID_FULL={id}\\n')"
    );
    journal.run("python3", &["-c", &forge]).success();
    eventually("the forged entry is filed", || {
        journal.entries("one").iter().any(|entry| entry["MESSAGE"] == "forged")
    });
    assert_eq!(journal.carrack(&store, &["logs", "one"]).success().stdout, followed);
}
