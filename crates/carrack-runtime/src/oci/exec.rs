//! `exec`: a further process in a container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use oci_spec::runtime::{Capability, LinuxCapabilities, Process, User};
use rustix::fs::{Mode, OFlags, open};

use super::bundle::{read_process, read_spec};
use super::create::{has_home, home, stdio, write_pid};
use super::{Container, Status};
use crate::console_socket::send_console;
use crate::process::Inherited;
use crate::{Error, Exec, Result, Running};

/// The process, and how it is run.
#[derive(Debug, Default)]
pub struct Command {
    /// A file with a process of the specification; what stands below it is then not looked at, but for how it is run.
    pub process_file: Option<PathBuf>,
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// Variables beside those of the container's own process.
    pub env: Vec<String>,
    /// Working folder.
    pub cwd: Option<PathBuf>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Further capabilities.
    pub capabilities: Vec<Capability>,
    /// Whether it can gain no privileges.
    pub no_new_privileges: bool,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// SELinux label.
    pub process_label: Option<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// Whether nobody could get the master of a terminal.
    pub detached_without_console: bool,
    /// Whether it may be started while the container is paused; it then waits with it.
    pub ignore_paused: bool,
    /// What it keeps of the caller.
    pub inherited: Inherited,
}

/// A process that runs.
#[derive(Debug)]
pub struct Executed {
    /// The process.
    pub running: Running,
    /// The master of its terminal, where nobody else was to get it.
    pub console: Option<OwnedFd>,
}

impl Container {
    /// Starts a process in the container. The caller is a process of one thread that was started from
    /// [`crate::executable::read_only`] and does nothing else.
    pub fn exec(
        &self,
        command: &Command,
        console_socket: Option<&Path>,
        pid_file: Option<&Path>,
    ) -> Result<Executed> {
        let status = self.status()?;
        match status {
            Status::Created | Status::Running => {}
            Status::Paused if command.ignore_paused => {}
            Status::Paused => return Err(self.wrong_status("exec in", "it is paused")),
            status => {
                return Err(
                    self.wrong_status("exec in", format!("expected it to run, it is {}", status.name()))
                );
            }
        }
        let spec = read_spec(&self.folder.join("config.json"))?;
        let not_running = || self.wrong_status("exec in", "container not running");
        let target = self.record.pidfd().ok_or_else(not_running)?;
        let own = spec.process().clone().unwrap_or_default();
        let mut process = self.process(command, own)?;
        if !has_home(&process)
            && let Some(home) = home(self.root()?.as_fd(), &process)
        {
            let mut env = process.env().clone().unwrap_or_default();
            env.push(home);
            process.set_env(Some(env));
        }
        let cgroup = self.record.cgroup()?;
        let mut running = crate::exec(Exec {
            target: target.as_fd(),
            spec: &spec,
            process: &process,
            stdio: stdio(Some(&process))?,
            cgroup: Some(&cgroup),
            state: &self.record.state(status),
            inherited: command.inherited.clone(),
            landlock: None,
        })?;
        let mut console = running.console.take();
        if let (Some(master), Some(socket)) = (&console, console_socket) {
            send_console(master.as_fd(), socket)?;
            console = None;
        }
        if let Some(file) = pid_file {
            write_pid(file, running.pid())?;
        }
        Ok(Executed { running, console })
    }

    fn process(&self, command: &Command, own: Process) -> Result<Process> {
        if let Some(path) = &command.process_file {
            let process = read_process(path)?;
            if command.detached_without_console && process.terminal().unwrap_or(false) {
                return Err(Error::spec("a detached process with a terminal needs a console socket"));
            }
            return Ok(process);
        }
        let mut process = own;
        if command.arguments.is_empty() {
            return Err(Error::spec("expected a program to run, got no arguments"));
        }
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(command.env.iter().cloned());
        if let Some(user) = &command.user {
            let user = self.user(user)?;
            process.set_user(user);
        }
        if !command.groups.is_empty() {
            let mut groups = process.user().additional_gids().clone().unwrap_or_default();
            groups.extend(&command.groups);
            process.user_mut().set_additional_gids(Some(groups));
        }
        add_capabilities(&mut process, &command.capabilities);
        let cwd = command.cwd.clone().unwrap_or_else(|| process.cwd().clone());
        let no_new_privileges = command.no_new_privileges || process.no_new_privileges().unwrap_or(false);
        process
            .set_args(Some(command.arguments.clone()))
            .set_env(Some(env))
            .set_cwd(cwd)
            .set_terminal(Some(command.terminal))
            .set_console_size(None)
            .set_no_new_privileges(Some(no_new_privileges));
        if command.process_label.is_some() {
            process.set_selinux_label(command.process_label.clone());
        }
        if command.apparmor.is_some() {
            process.set_apparmor_profile(command.apparmor.clone());
        }
        Ok(process)
    }

    /// The root of the container as its first process sees it.
    fn root(&self) -> Result<OwnedFd> {
        let pid = self.record.process.map_or(0, |(pid, _)| pid);
        let path = format!("/proc/{pid}/root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(open(&path, flags, Mode::empty()).during("open", &path)?)
    }

    /// Resolves a user by the container's own files.
    fn user(&self, text: &str) -> Result<User> {
        let found = crate::resolve_user(self.root()?.as_fd(), text)?;
        let mut user = User::default();
        user.set_uid(found.uid).set_gid(found.gid).set_additional_gids(Some(found.groups));
        Ok(user)
    }
}

fn add_capabilities(process: &mut Process, added: &[Capability]) {
    if added.is_empty() {
        return;
    }
    let mut sets = process.capabilities().clone().unwrap_or_else(|| {
        let mut none = LinuxCapabilities::default();
        none.set_bounding(None)
            .set_effective(None)
            .set_permitted(None)
            .set_inheritable(None)
            .set_ambient(None);
        none
    });
    let with = |set: &Option<oci_spec::runtime::Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(added.iter().copied());
        Some(set)
    };
    let (bounding, effective, permitted) =
        (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    process.set_capabilities(Some(sets));
}
