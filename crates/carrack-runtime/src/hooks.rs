//! Hooks of the runtime specification: programs that run at six moments of a container's life, in the runtime's
//! namespaces or the container's, with the container's state on their standard input.
//!
//! Invariant: a hook has the environment that the spec gives it and no descriptor of the runtime, and one that takes
//! longer than its timeout is killed.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use carrack_sys::IoContext;
use carrack_sys::mount::{attach, attach_over_root};
use carrack_sys::process::close_on_exec_from;
use oci_spec::runtime::{Hook, Hooks};
use rustix::fs::{MemfdFlags, Mode, OFlags, open};
use rustix::io::Errno;

use crate::oci::{State, Status};
use crate::{Error, Result};

/// The moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runtime's namespaces; the mounts are made. The older name of the next.
    Prestart,
    /// Runtime's namespaces; the mounts are made, the root is not entered.
    CreateRuntime,
    /// Container's namespaces, paths of the host; the mounts are made, the root is not entered.
    CreateContainer,
    /// In the container, just before its program, with what its program may do.
    StartContainer,
    /// Runtime's namespaces; the program runs.
    Poststart,
    /// Runtime's namespaces; the container is deleted.
    Poststop,
}

impl Kind {
    /// In the order of a container's life.
    pub const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];

    /// As the spec writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    fn of(self, hooks: &Hooks) -> &[Hook] {
        #[allow(deprecated, reason = "the spec still asks runtimes to run prestart hooks")]
        let list = match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::CreateContainer => hooks.create_container(),
            Self::StartContainer => hooks.start_container(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        };
        list.as_deref().unwrap_or_default()
    }

    /// Those in the container's pid namespace are told its process id there.
    fn is_inside(self) -> bool {
        matches!(self, Self::CreateContainer | Self::StartContainer)
    }
}

/// The hooks of a container that is made, and where they find its root.
#[derive(Clone, Debug)]
pub struct LaunchHooks {
    /// The folder of the host at which hooks find the root filesystem: the `root.path` of the `config.json` in the
    /// state's bundle.
    pub place: PathBuf,
    /// The spec's hooks.
    pub hooks: Hooks,
    /// What hooks are told.
    pub state: State,
}

impl LaunchHooks {
    /// Parent, with the container's mounts made and its root not yet entered: what runs in the runtime's namespaces.
    pub fn run_outside(&self) -> Result<()> {
        PlannedHooks::new(Kind::Prestart, &self.hooks, &self.state).run()?;
        PlannedHooks::new(Kind::CreateRuntime, &self.hooks, &self.state).run()
    }

    /// Parent, when the program runs.
    pub fn run_poststart(&self) -> Result<()> {
        let state = State { status: Status::Running, ..self.state.clone() };
        PlannedHooks::new(Kind::Poststart, &self.hooks, &state).run()
    }

    /// Child: makes the rootfs visible to hooks. Without a pivot it must lie over the root.
    pub(crate) fn attach(&self, rootfs: BorrowedFd<'_>, pivots: bool) -> Result<()> {
        if !pivots {
            return Ok(attach_over_root(rootfs)?);
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
        match open(&self.place, flags, Mode::empty()) {
            Ok(place) => Ok(attach(rootfs, place.as_fd())?),
            // The root of a user namespace may not go through folders that are closed to others. A hook in the
            // container could then not find the root, and would change that of the host.
            Err(Errno::ACCESS) if !Kind::CreateContainer.of(&self.hooks).is_empty() => {
                Err(Error::spec(format!(
                    "the root of the user namespace may not reach {}, where createContainer hooks find the root",
                    self.place.display()
                )))
            }
            Err(Errno::ACCESS) => Ok(attach_over_root(rootfs)?),
            Err(error) => Err(error).during("open", &self.place)?,
        }
    }

    /// Child, before it enters the root.
    pub(crate) fn run_create_hooks(&self) -> Result<()> {
        // Mounts and devices were made with none.
        let own = rustix::process::umask(Mode::from_raw_mode(0o022));
        let result = PlannedHooks::new(Kind::CreateContainer, &self.hooks, &self.state).run();
        rustix::process::umask(own);
        result
    }

    /// What the first process runs just before its program.
    pub(crate) fn start_hooks(&self) -> PlannedHooks {
        let state = State { status: Status::Created, ..self.state.clone() };
        PlannedHooks::new(Kind::StartContainer, &self.hooks, &state)
    }
}

/// The hooks of one moment with what they are told.
#[derive(Clone, Debug)]
pub struct PlannedHooks {
    kind: Kind,
    hooks: Vec<Hook>,
    state: State,
}

/// Refuses hooks that cannot be run, before anything is made.
pub fn check(hooks: &Hooks) -> Result<()> {
    for kind in Kind::ALL {
        for hook in kind.of(hooks) {
            let failed = |reason: &str| Err(failure(kind, hook, reason.to_owned()));
            if !hook.path().is_absolute() {
                return failed("expected an absolute path");
            }
            if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                return failed("expected a timeout of at least one second");
            }
        }
    }
    Ok(())
}

impl PlannedHooks {
    /// The hooks of `kind`.
    pub fn new(kind: Kind, hooks: &Hooks, state: &State) -> Self {
        Self { kind, hooks: kind.of(hooks).to_vec(), state: state.clone() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Runs one after the other, up to the first that fails.
    pub fn run(&self) -> Result<()> {
        self.hooks.iter().try_for_each(|hook| self.run_one(hook))
    }

    /// Runs all; those that fail are logged, as the specification has it for `poststop`.
    pub fn run_all(&self) {
        for hook in &self.hooks {
            if let Err(error) = self.run_one(hook) {
                tracing::warn!("{error}");
            }
        }
    }

    fn run_one(&self, hook: &Hook) -> Result<()> {
        let mut state = self.state.clone();
        if self.kind.is_inside() {
            state.pid = Some(rustix::process::getpid().as_raw_pid());
        }
        let json = serde_json::to_vec(&state).expect("a state has string keys only");
        run(hook, &json).map_err(|reason| failure(self.kind, hook, reason))
    }
}

fn failure(kind: Kind, hook: &Hook, reason: String) -> Error {
    Error::Hook { kind: kind.name(), path: hook.path().display().to_string(), reason }
}

/// Runs one hook to its end. Files in memory and not pipes: a hook that does not read, or that leaves a process behind
/// which holds its output, keeps nobody waiting.
fn run(hook: &Hook, state: &[u8]) -> std::result::Result<(), String> {
    let mut input = memory_file("hook-state")?;
    input.write_all(state).and_then(|()| input.rewind()).map_err(|error| error.to_string())?;
    let mut output = memory_file("hook-output")?;
    let copy = |file: &File| file.try_clone().map_err(|error| error.to_string());
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    for entry in hook.env().iter().flatten() {
        if let Some((name, value)) = entry.split_once('=') {
            command.env(name, value);
        }
    }
    // What the caller may have left open is not for hooks.
    close_on_exec_from(3).map_err(|error| error.to_string())?;
    let child = command.stdin(Stdio::from(input)).stdout(copy(&output)?).stderr(copy(&output)?).spawn();
    let child = child.map_err(|error| error.to_string())?;
    let limit = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let reason = match wait(child, limit)? {
        Some(status) if status.success() => return Ok(()),
        Some(status) => status.to_string(),
        None => format!("it took longer than {} s", limit.unwrap_or_default().as_secs()),
    };
    let said = tail(&mut output);
    Err(if said.is_empty() { reason } else { format!("{reason}: {said}") })
}

fn memory_file(name: &str) -> std::result::Result<File, String> {
    rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).map(File::from).map_err(|error| error.to_string())
}

/// `None` when the time was up; the child is then killed.
fn wait(mut child: Child, limit: Option<Duration>) -> std::result::Result<Option<ExitStatus>, String> {
    // Some timeouts are longer than a clock goes.
    let Some(deadline) = limit.and_then(|limit| Instant::now().checked_add(limit)) else {
        return child.wait().map(Some).map_err(|error| error.to_string());
    };
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(None);
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// The last of what a hook said, on one line.
fn tail(output: &mut File) -> String {
    const MAX_BYTES: u64 = 1024;
    let length = output.metadata().map_or(0, |data| data.len());
    let mut bytes = Vec::new();
    let _ = output.seek(std::io::SeekFrom::Start(length.saturating_sub(MAX_BYTES)));
    let _ = output.take(MAX_BYTES).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).trim().replace('\n', "; ");
    text.chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Status;

    fn state() -> State {
        State {
            oci_version: "1.2.0".into(),
            id: "one".into(),
            status: Status::Creating,
            pid: Some(7),
            bundle: "/b".into(),
            annotations: std::collections::BTreeMap::default(),
        }
    }

    fn hook(script: &str, timeout: Option<i64>) -> Hook {
        let mut hook = Hook::default();
        hook.set_path("/bin/sh".into()).set_timeout(timeout);
        hook.set_args(Some(["name", "-c", script].map(str::to_owned).to_vec()));
        hook.set_env(Some(vec!["A=1".into()]));
        hook
    }

    fn planned(hook: Hook) -> PlannedHooks {
        PlannedHooks { kind: Kind::Prestart, hooks: vec![hook], state: state() }
    }

    #[test]
    fn a_hook_gets_the_state_its_environment_and_its_name() {
        let script = r#"state=$(cat); case "$state$A$0" in *'"pid":7'*1name) ;; *) echo "$state"; exit 3;; esac
                        test -z "$CARGO_MANIFEST_DIR" || exit 4; test "$(ls /proc/self/fd | wc -l)" = 4 || exit 5"#;
        planned(hook(script, None)).run().unwrap();
    }

    #[test]
    fn a_failure_has_the_exit_code_and_the_last_words() {
        let error = planned(hook("echo why >&2; exit 4", None)).run().unwrap_err().to_string();
        assert!(error.contains("prestart") && error.contains("4") && error.contains("why"), "{error}");
    }

    #[test]
    fn a_hook_that_hangs_is_killed() {
        let error = planned(hook("exec sleep 600", Some(1))).run().unwrap_err().to_string();
        assert!(error.contains("longer than 1 s"), "{error}");
    }

    #[test]
    fn relative_paths_and_timeouts_of_nothing_are_refused() {
        let with = |hook: Hook| {
            let mut hooks = Hooks::default();
            hooks.set_poststop(Some(vec![hook]));
            check(&hooks)
        };
        let mut relative = hook("", None);
        relative.set_path("bin/sh".into());
        assert!(with(relative).is_err() && with(hook("", Some(0))).is_err());
        with(hook("", Some(1))).unwrap();
    }
}
