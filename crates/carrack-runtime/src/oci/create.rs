//! `create`: a bundle becomes a container whose first process waits for its start.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};
use carrack_sys::process::start_time_ticks;
use oci_spec::runtime::{Process, Spec};
use rustix::fs::{Mode, OFlags};

use super::{Bundle, Container, Details, Record, Runtime, Status, lock};
use crate::cgroup::{Cgroup, Layout, Place, Scope};
use crate::console_socket::send_console;
use crate::hooks::LaunchHooks;
use crate::process::{Inherited, Stdio};
use crate::spec::indispensable_devices;
use crate::standby::{Standby, listener};
use crate::{Error, Init, Launch, Result, Running};

/// What is created how.
#[derive(Debug)]
pub struct Creation<'a> {
    /// The id.
    pub id: &'a str,
    /// What it is made of.
    pub bundle: &'a Bundle,
    /// Who gets the master of the terminal.
    pub console: Console<'a>,
    /// File that gets the pid.
    pub pid_file: Option<&'a Path>,
    /// What the first process keeps of the caller.
    pub inherited: Inherited,
    /// Whether the root is exchanged by pivot_root.
    pub pivots: bool,
    /// Whether systemd makes the cgroup.
    pub systemd: bool,
}

/// Who gets the master of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console<'a> {
    /// There must be no terminal.
    Nobody,
    /// Who listens on this socket.
    Socket(&'a Path),
    /// The caller.
    Caller,
}

/// A container that was created, for a caller who stays its parent.
#[derive(Debug)]
pub struct Created {
    /// The first process; dropping it does not end it.
    pub running: Running,
    /// The master of its terminal, where the caller was to get it.
    pub console: Option<OwnedFd>,
    /// The container.
    pub container: Container,
}

impl Runtime {
    /// Creates a container. The caller is a process of one thread that was started from
    /// [`crate::executable::read_only`]; its working directory becomes the bundle.
    ///
    /// When this fails nothing of the container is left; after a crash its record is, by which `delete` finds the rest.
    pub fn create(&self, creation: &Creation<'_>) -> Result<Created> {
        let spec = &creation.bundle.spec;
        let details = details(creation)?;
        check_terminal(spec, creation.console)?;
        let folder = self.claim(creation.id)?;
        if let Err(error) = require_empty(&details.cgroup_place()) {
            fs::remove_dir(&folder).during("remove the folder", &folder)?;
            return Err(error);
        }
        let lock = lock(&folder)?;
        let record = Record { id: creation.id.to_owned(), details, process: None, complete: false };
        record.write(&folder)?;
        let mut container = Container { folder, record };
        match container.make(creation) {
            Ok((running, console)) => {
                // The container's first process has a copy until it executes its program.
                lock.release()?;
                Ok(Created { running, console, container })
            }
            Err(error) => {
                if let Err(second) = container.destroy(spec) {
                    tracing::warn!("{second}");
                }
                Err(error)
            }
        }
    }
}

impl Container {
    fn make(&mut self, creation: &Creation<'_>) -> Result<(Running, Option<OwnedFd>)> {
        let Creation { bundle, .. } = creation;
        let spec = &bundle.spec;
        self.keep_spec(spec)?;
        // Relative sources of mounts count from the bundle (config.md, "Mounts").
        rustix::process::chdir(&bundle.folder).during("enter", &bundle.folder)?;
        let cgroup = make_cgroup(&self.record.details.cgroup_place(), spec)?;
        let standby = Standby { listener: listener(&self.folder)?, pivots: creation.pivots };
        let hooks = LaunchHooks {
            place: bundle.rootfs.clone(),
            hooks: spec.hooks().clone().unwrap_or_default(),
            state: self.record.state(Status::Creating),
        };
        let with_home;
        let spec = match home_of(spec, &bundle.rootfs) {
            Some(home) => {
                with_home = add_variable(spec, home);
                &with_home
            }
            None => spec,
        };
        let mut init = crate::create(Launch {
            spec,
            rootfs: bundle.mount()?,
            stdio: stdio(spec.process().as_ref())?,
            cgroup: Some(&cgroup),
            reaper: false,
            state: &self.record.state(Status::Creating),
            inherited: creation.inherited.clone(),
            landlock: None,
            hooks: Some(hooks),
            tells_ready: true,
            standby: Some(standby),
        })?;
        for clamped in init.clamped_rlimits() {
            tracing::warn!("{clamped}");
        }
        self.note_process(&init)?;
        init.run_hooks()?;
        init.wait_ready()?;
        let mut console = init.take_console();
        if let (Some(master), Console::Socket(socket)) = (&console, creation.console) {
            send_console(master.as_fd(), socket)?;
            console = None;
        }
        self.record.complete = true;
        self.record.write(&self.folder)?;
        if let Some(file) = creation.pid_file {
            write_pid(file, init.pid())?;
        }
        Ok((init.leave(), console))
    }

    fn keep_spec(&self, spec: &Spec) -> Result<()> {
        let path = self.folder.join("config.json");
        let bytes = serde_json::to_vec(spec).expect("a spec has string keys only");
        Ok(fs::write(&path, bytes).during("write", &path)?)
    }

    fn note_process(&mut self, init: &Init) -> Result<()> {
        let started = start_time_ticks(init.pid()).during("examine", "the container's first process")?;
        self.record.process = Some((init.pid(), started));
        self.record.write(&self.folder)
    }
}

fn details(creation: &Creation<'_>) -> Result<Details> {
    let spec = &creation.bundle.spec;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let annotations: BTreeMap<_, _> = spec.annotations().clone().unwrap_or_default().into_iter().collect();
    let place = cgroup_place(creation.id, spec, creation.systemd)?;
    Ok(Details {
        bundle: creation.bundle.folder.clone(),
        rootfs: creation.bundle.rootfs.clone(),
        annotations,
        cgroup: place.path(),
        scope: match place {
            Place::Path(_) => None,
            Place::Scope(scope) => Some(scope),
        },
        created_seconds: since_epoch.as_secs(),
        owner: rustix::process::getuid().as_raw(),
    })
}

/// Where systemd makes the cgroup, a path means nothing; without one it is a scope of the container's name.
fn cgroup_place(id: &str, spec: &Spec, systemd: bool) -> Result<Place> {
    if !systemd {
        return Ok(Place::Path(cgroup_path(id, spec)?));
    }
    let asked = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    let asked = asked.and_then(Path::to_str).unwrap_or_default();
    Ok(Place::Scope(match asked {
        "" => Scope::new("system.slice", "carrack", id)?,
        asked => Scope::parse(asked)?,
    }))
}

/// An absolute path counts from the root of each hierarchy, a relative one from a cgroup of ours.
fn cgroup_path(id: &str, spec: &Spec) -> Result<PathBuf> {
    let own = Path::new("/carrack-runtime");
    let asked = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let Some(asked) = asked.filter(|path| !path.as_os_str().is_empty()) else { return Ok(own.join(id)) };
    let text = asked.display().to_string();
    if !asked.is_absolute() && text.matches(':').count() == 2 {
        return Err(Error::spec(format!(
            "the cgroupsPath {text} is in systemd's form: expected a path, or the option --systemd-cgroup"
        )));
    }
    let path = if asked.is_absolute() { asked } else { own.join(asked) };
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::spec(format!("expected a cgroupsPath without .., got {text}")));
    }
    Ok(path)
}

/// `HOME` as the container's own files have it for its user, where the spec says nothing: callers rely on it, as runc and
/// crun do it.
fn home_of(spec: &Spec, rootfs: &Path) -> Option<String> {
    let process = spec.process().as_ref().filter(|process| !has_home(process))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(rootfs, flags, Mode::empty()).ok()?;
    home(root.as_fd(), process)
}

fn add_variable(spec: &Spec, variable: String) -> Spec {
    let mut spec = spec.clone();
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.push(variable);
        process.set_env(Some(env));
    }
    spec
}

/// Whether the environment says where the user is at home.
pub(super) fn has_home(process: &Process) -> bool {
    process.env().iter().flatten().any(|entry| entry.starts_with("HOME="))
}

/// The variable for the user of a process by the files below `root`. What cannot be read says nothing.
pub(super) fn home(root: BorrowedFd<'_>, process: &Process) -> Option<String> {
    let user = crate::resolve_user(root, &process.user().uid().to_string()).ok()?;
    Some(format!("HOME={}", user.home.display()))
}

/// Makes the cgroup with the spec's limits; refuses those that this host cannot hold.
fn make_cgroup(place: &Place, spec: &Spec) -> Result<Cgroup> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    let mut resources = resources.unwrap_or_default();
    let mut rules = resources.devices().clone().unwrap_or_default();
    rules.extend(indispensable_devices());
    resources.set_devices(Some(rules));
    let cgroup = match place {
        Place::Path(path) => Cgroup::create_everywhere(&Layout::host()?, path, &resources)?,
        Place::Scope(_) => Cgroup::create_at(place, &resources)?,
    };
    match cgroup.unsupported().iter().find(|controller| **controller != "devices") {
        None => Ok(cgroup),
        Some(controller) => {
            let error =
                Error::spec(format!("this host has no cgroup controller {controller} for its limits"));
            let _ = cgroup.delete();
            Err(error)
        }
    }
}

/// A container ends with all processes of its cgroup, so they must be its own.
fn require_empty(place: &Place) -> Result<()> {
    match Cgroup::open_at(place)?.processes()?.len() {
        0 => Ok(()),
        count => Err(Error::spec(format!(
            "expected a cgroup without processes, {} has {count}: give the container a cgroupsPath of its own",
            place.path().display()
        ))),
    }
}

fn check_terminal(spec: &Spec, console: Console<'_>) -> Result<()> {
    let terminal = spec.process().as_ref().and_then(Process::terminal).unwrap_or(false);
    match (terminal, console) {
        (true, Console::Nobody) => {
            Err(Error::spec("a process with a terminal needs a console socket, got none"))
        }
        (false, Console::Socket(_)) => {
            Err(Error::spec("a console socket needs a process with a terminal, got one without"))
        }
        _ => Ok(()),
    }
}

/// The streams of this process, or a terminal.
pub(super) fn stdio(process: Option<&Process>) -> Result<Stdio> {
    if process.and_then(Process::terminal).unwrap_or(false) {
        return Ok(Stdio::Console);
    }
    let own = |stream: BorrowedFd<'_>| -> Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(stream, 3).during("duplicate", "a standard stream")?)
    };
    Ok(Stdio::Streams {
        stdin: own(rustix::stdio::stdin())?,
        stdout: own(rustix::stdio::stdout())?,
        stderr: own(rustix::stdio::stderr())?,
    })
}

/// Callers wait for the file, so it comes whole.
pub(super) fn write_pid(path: &Path, pid: i32) -> Result<()> {
    Ok(atomic::write(path, pid.to_string().as_bytes(), 0o644, Durability::Volatile)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_paths_are_absolute_and_stay_below_the_root() {
        let with = |path: &str| {
            let mut linux = oci_spec::runtime::Linux::default();
            linux.set_cgroups_path(Some(path.into()));
            let mut spec = Spec::default();
            spec.set_linux(Some(linux));
            cgroup_path("one", &spec).map(|path| path.display().to_string())
        };
        assert_eq!(with("").unwrap(), "/carrack-runtime/one");
        assert_eq!(with("/a/b").unwrap(), "/a/b");
        assert_eq!(with("a/b").unwrap(), "/carrack-runtime/a/b");
        assert!(with("system.slice:runc:one").unwrap_err().to_string().contains("--systemd-cgroup"));
        assert!(with("/a/../../b").is_err());
    }
}
