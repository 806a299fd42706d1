//! The last steps of every process of a container, the first and those of `exec`: give up what it may not have,
//! then become the program.
//!
//! Everything that can be computed is computed by the parent; here are system calls only.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::process as sys;
use carrack_sys::seccomp::{Instruction, load, load_with_listener};
use oci_spec::runtime::{Box as Size, Linux, LinuxSeccomp, LinuxSeccompFilterFlag, Process};
use rustix::fs::{FileType, Gid, Mode, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::capabilities::Grant;
use crate::channel::Channel;
use crate::hooks::PlannedHooks;
use crate::labels::{LabelFiles, Labels};
use crate::rlimits::Rlimits;
use crate::scheduling::Scheduling;
use crate::{Error, Landlock, Result, reaper};

/// Standard input, output and error of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Descriptors of the caller.
    Streams {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A terminal in the container's devpts, of the size that the spec's process has; the caller gets its master.
    Console,
}

/// What a process takes over from the process that starts it, beside its standard streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// The session keyring; else it gets an empty one of its own.
    pub session_keyring: bool,
    /// Further descriptors, by the numbers that they keep.
    pub descriptors: Vec<u32>,
}

/// The most descriptors that are passed on.
const MAX_DESCRIPTORS: u32 = 1 << 16;

/// The numbers of `count` descriptors from 3 on; one more than may be passed on where there are too many.
pub fn descriptors_from_3(count: u32) -> Vec<u32> {
    (3..=2 + count.min(MAX_DESCRIPTORS + 1)).collect()
}

/// Refuses to pass on descriptors that are not all open. With `seal` a program that is executed meanwhile does not get
/// them.
pub fn check_descriptors(numbers: &[u32], seal: bool) -> Result<()> {
    if numbers.len() > MAX_DESCRIPTORS as usize {
        return Err(Error::spec(format!("expected at most {MAX_DESCRIPTORS} descriptors to pass on")));
    }
    for number in numbers {
        let change = if seal { sys::close_on_exec } else { sys::keep_on_exec };
        change(*number).during("pass on the descriptor", number.to_string())?;
    }
    Ok(())
}

/// A process of the spec in the form that system calls take.
#[derive(Debug)]
pub(crate) struct PlannedProcess {
    program: String,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    search_path: String,
    pub cwd: PathBuf,
    pub uid: u32,
    gid: u32,
    groups: Vec<Gid>,
    umask: Mode,
    pub grant: Grant,
    no_new_privileges: bool,
    filter: Option<Filter>,
    pub labels: Labels,
    pub label_files: LabelFiles,
    scheduling: Scheduling,
    pub rlimits: Rlimits,
    pub console_size: Option<Size>,
    pub stdio: Stdio,
    /// Whether a reaper stays as the parent of the program.
    reaper: bool,
    /// What it keeps of its starter.
    pub inherited: Inherited,
    /// What of its root it may reach.
    pub landlock: Option<Landlock>,
    /// What runs in its place just before it.
    pub start_hooks: Option<PlannedHooks>,
}

/// A filter that is to be loaded.
#[derive(Debug)]
struct Filter {
    code: Vec<Instruction>,
    flags: u32,
    notifies: bool,
}

/// Where programs are sought when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl PlannedProcess {
    pub fn new(process: &Process, linux: Option<&Linux>, stdio: Stdio, reaper: bool) -> Result<Self> {
        let arguments = process.args().as_deref().unwrap_or_default();
        let program = arguments.first().filter(|program| !program.is_empty());
        let program =
            program.ok_or_else(|| Error::spec("expected a program to run, got no arguments"))?.clone();
        let environment = process.env().as_deref().unwrap_or_default();
        let path = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
        let rlimits = process.rlimits().as_deref().unwrap_or_default();
        let twice = |at: usize| rlimits[..at].iter().any(|other| other.typ() == rlimits[at].typ());
        if let Some(at) = (0..rlimits.len()).find(|at| twice(*at)) {
            return Err(Error::spec(format!("expected each limit once, got {} twice", rlimits[at].typ())));
        }
        let own = rustix::thread::capabilities(None).during("read", "the own capabilities")?;
        let user = process.user();
        // To the kernel it means "as it is", so the process would stay root.
        let mut ids =
            [user.uid(), user.gid()].into_iter().chain(user.additional_gids().iter().flatten().copied());
        if ids.any(|id| id == u32::MAX) {
            return Err(Error::spec(format!("expected users and groups below {0}, got {0}", u32::MAX)));
        }
        if !process.cwd().is_absolute() {
            let shown = process.cwd().display();
            return Err(Error::spec(format!("expected an absolute working directory, got {shown}")));
        }
        if let Some(limit) = rlimits.iter().find(|limit| limit.soft() > limit.hard()) {
            let (name, soft, hard) = (limit.typ(), limit.soft(), limit.hard());
            return Err(Error::spec(format!(
                "expected a soft limit {name} up to the hard one, got {soft} and {hard}"
            )));
        }
        let groups = user.additional_gids().iter().flatten();
        let seccomp = linux.and_then(|linux| linux.seccomp().as_ref());
        Ok(Self {
            arguments: strings(arguments)?,
            environment: strings(environment)?,
            search_path: path.filter(|path| !path.is_empty()).unwrap_or(DEFAULT_PATH).to_owned(),
            cwd: process.cwd().clone(),
            uid: user.uid(),
            gid: user.gid(),
            groups: groups.map(|gid| Gid::from_raw(*gid)).collect(),
            umask: Mode::from_raw_mode(user.umask().unwrap_or(0o022) & 0o777),
            grant: Grant::new(process.capabilities().as_ref()),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            filter: seccomp.map(filter).transpose()?,
            labels: Labels::plan(process)?,
            label_files: LabelFiles::default(),
            scheduling: Scheduling::plan(process, linux)?,
            rlimits: Rlimits::plan(rlimits, own.effective.contains(CapabilitySet::SYS_RESOURCE)),
            console_size: process.console_size(),
            program,
            stdio,
            reaper,
            inherited: Inherited::default(),
            landlock: None,
            start_hooks: None,
        })
    }

    /// The descriptors that it still needs when all others are closed.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut numbers: Vec<RawFd> = self.label_files.descriptors().collect();
        if let Stdio::Streams { stdin, stdout, stderr } = &self.stdio {
            numbers.extend([stdin, stdout, stderr].map(AsRawFd::as_raw_fd));
        }
        numbers.extend(self.inherited.descriptors.iter().filter_map(|number| RawFd::try_from(*number).ok()));
        numbers
    }

    pub fn wants_console(&self) -> bool {
        matches!(self.stdio, Stdio::Console)
    }

    /// Child: makes the streams of the caller those of the process.
    pub fn take_streams(&self) -> Result<()> {
        let Stdio::Streams { stdin, stdout, stderr } = &self.stdio else { return Ok(()) };
        for stream in [stdin, stdout, stderr] {
            self.own_pipe(stream)?;
        }
        let dup = |result: rustix::io::Result<()>| result.during("duplicate", "a standard stream");
        dup(rustix::stdio::dup2_stdin(stdin))?;
        dup(rustix::stdio::dup2_stdout(stdout))?;
        Ok(dup(rustix::stdio::dup2_stderr(stderr))?)
    }

    /// A program that is not root opens /dev/stdout anew, which for a pipe needs its permission.
    fn own_pipe(&self, stream: &OwnedFd) -> Result<()> {
        let mode = fstat(stream).during("examine", "a standard stream")?.st_mode;
        if self.uid != 0 && FileType::from_raw_mode(mode) == FileType::Fifo {
            match fchown(stream.as_fd(), Some(Uid::from_raw(self.uid)), None) {
                Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
                Err(error) => Err(error).during("change the owner of", "a standard stream")?,
            }
        }
        Ok(())
    }

    /// Child: becomes the program; returns only the reason why not.
    pub fn run(&self, channel: Channel) -> (Error, Channel) {
        let result = self
            .give_up_privileges(&channel)
            .and_then(|()| if self.reaper { self.execute_below_reaper(&channel) } else { self.execute() });
        let Err(error) = result;
        (error, channel)
    }

    fn give_up_privileges(&self, channel: &Channel) -> Result<()> {
        sys::reset_signals().during("reset", "the signals")?;
        self.rlimits.apply()?;
        self.scheduling.apply()?;
        self.labels.label_keyring(&self.label_files)?;
        if !self.inherited.session_keyring {
            leave_session_keyring()?;
        }
        sys::close_on_exec_from(3).during("close", "the descriptors")?;
        self.labels.label_exec(&self.label_files)?;
        if let Some(landlock) = &self.landlock {
            // Before the user may lack the right to look for the files, and needs no_new_privs for it.
            landlock.restrict()?;
        }
        if !self.no_new_privileges {
            // Loading needs CAP_SYS_ADMIN then, so that a set-uid program is not started below a filter that
            // confuses it; the calls that follow are therefore filtered too.
            self.load_filter(channel)?;
        }
        self.grant.drop_bounding()?;
        self.become_user()?;
        self.grant.apply()?;
        self.enter_working_directory()?;
        rustix::process::umask(self.umask);
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).during("set", "no_new_privs")?;
        }
        let start_hooks = self.start_hooks.as_ref().filter(|hooks| !hooks.is_empty());
        let notifies = self.filter.as_ref().is_some_and(|filter| filter.notifies);
        let is_loaded = !self.no_new_privileges;
        if !is_loaded && (notifies || start_hooks.is_some()) {
            // What a hook leaves behind must be able to do no more than the program.
            self.load_filter(channel)?;
        }
        start_hooks.map_or(Ok(()), PlannedHooks::run)?;
        self.keep_descriptors()?;
        if is_loaded || notifies || start_hooks.is_some() {
            return channel.executing();
        }
        // The last call before the exec, so that the filter need not allow any other.
        channel.executing()?;
        self.load_filter(channel)
    }

    /// Last, so that no hook has them.
    fn keep_descriptors(&self) -> Result<()> {
        let numbers = &self.inherited.descriptors;
        numbers.iter().try_for_each(|number| Ok(sys::keep_on_exec(*number).during("keep", "a descriptor")?))
    }

    fn load_filter(&self, channel: &Channel) -> Result<()> {
        let Some(Filter { code, flags, notifies }) = &self.filter else { return Ok(()) };
        if !notifies {
            return Ok(load(code, *flags).during("load", "the seccomp filter")?);
        }
        let listener = load_with_listener(code, *flags).during("load", "the seccomp filter")?;
        channel.offer_listener(listener)
    }

    fn become_user(&self) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::thread::set_keep_capabilities(true).during("keep", "the capabilities")?;
        rustix::thread::set_thread_groups(&self.groups).during("set", "the supplementary groups")?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).during("set", format!("the group {}", self.gid))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).during("set", format!("the user {}", self.uid))?;
        Ok(())
    }

    /// As the user that the process runs as. The kernel's own name of the folder must lie below the root: a
    /// descriptor of a folder of the host, reached through /proc/self/fd, would not (CVE-2024-21626).
    fn enter_working_directory(&self) -> Result<()> {
        rustix::process::chdir(&self.cwd).during("enter the working directory", &self.cwd)?;
        let name = sys::kernel_working_directory().during("examine the working directory", &self.cwd)?;
        if name.starts_with(b"/") {
            return Ok(());
        }
        let shown = self.cwd.display();
        Err(Error::spec(format!("expected a working directory in the container, got {shown} outside of it")))
    }

    fn execute_below_reaper(&self, channel: &Channel) -> Result<Infallible> {
        match reaper::split().during("fork", "the program")? {
            reaper::Side::Program => self.execute(),
            // The end of the socket is how the starter knows that the program runs.
            reaper::Side::Reaper(child) => reaper::run(child, channel),
        }
    }

    /// The files that the program's name may mean.
    fn candidates(&self) -> Vec<PathBuf> {
        if self.program.contains('/') {
            return vec![PathBuf::from(&self.program)];
        }
        self.search_path.split(':').map(|folder| Path::new(folder).join(&self.program)).collect()
    }

    /// Child, in the container's root: whether there is a program to execute. The exec has the last word, but whoever
    /// creates a container wants to know of a misspelt program before he starts it.
    pub fn require_program(&self) -> Result<()> {
        let mut denied = None;
        for candidate in self.candidates() {
            // A relative name counts from the working directory.
            let candidate = self.cwd.join(candidate);
            let Ok(status) = rustix::fs::stat(&candidate) else { continue };
            match FileType::from_raw_mode(status.st_mode) {
                FileType::RegularFile if status.st_mode & 0o111 != 0 => return Ok(()),
                FileType::Directory => denied = denied.or(Some(Errno::ISDIR)),
                _ => denied = Some(Errno::ACCESS),
            }
        }
        let program = self.program.clone();
        Err(match denied {
            Some(errno) => Error::NotExecutable { program, source: errno.into() },
            None => Error::NotFound { program },
        })
    }

    /// As execvp(3): every folder of PATH, and "not executable" rather than "not found" when one has it.
    fn execute(&self) -> Result<Infallible> {
        let mut denied = None;
        for candidate in self.candidates() {
            let path = CString::new(candidate.into_os_string().into_encoded_bytes()).unwrap_or_default();
            let error = sys::execute(&path, &self.arguments, &self.environment);
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
                io::ErrorKind::PermissionDenied => denied = Some(error),
                _ => return Err(Error::NotExecutable { program: self.program.clone(), source: error }),
            }
        }
        let program = self.program.clone();
        Err(match denied {
            Some(source) => Error::NotExecutable { program, source },
            None => Error::NotFound { program },
        })
    }
}

fn leave_session_keyring() -> Result<()> {
    match sys::join_new_session_keyring() {
        Ok(()) => Ok(()),
        // No keyrings in this kernel, or no room for another: the process then has none of ours to see.
        Err(error) if is_any(&error, &[Errno::NOSYS, Errno::DQUOT, Errno::PERM]) => Ok(()),
        Err(error) => Err(error).during("join", "a new session keyring")?,
    }
}

fn is_any(error: &io::Error, errnos: &[Errno]) -> bool {
    errnos.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn strings(texts: &[String]) -> Result<Vec<CString>> {
    let convert = |text: &String| CString::new(text.as_str());
    let strings = texts.iter().map(convert).collect::<std::result::Result<_, _>>();
    strings.map_err(|_| Error::spec("expected arguments and environment without zero bytes"))
}

fn filter(profile: &LinuxSeccomp) -> Result<Filter> {
    let notifies = crate::seccomp::notifies(profile);
    let flags = profile.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                // There is one thread. Together with a listener the kernel would refuse it.
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => u32::from(!notifies),
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => 2,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 4,
                // Without a listener nobody waits, and the kernel refuses it.
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => u32::from(notifies) << 5,
            }
    });
    Ok(Filter { code: crate::seccomp::compile(profile)?, flags, notifies })
}
