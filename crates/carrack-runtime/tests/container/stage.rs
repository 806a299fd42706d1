//! What the binary's hidden stages are in carrack, in small, for the tests of this crate: a process of one thread
//! that starts a container as its arguments say and ends as the container does.
//!
//! ```text
//! stage run SPEC ROOTFS [--cgroup PATH] [--console] [--init] [--landlock RULES] [--report FILE]   # FILE gets the pid on the host
//! stage exec SPEC PROCESS PID [--cgroup PATH] [--console] [--landlock RULES]
//! stage bench COUNT SPEC ROOTFS [--cgroup]    # prints microseconds of create + start + wait
//! stage probe clone3                          # inside a container: prints what the kernel says
//! stage probe                                 # whether this program's file could be written
//! ```

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, exit};
use std::time::Instant;

use carrack_runtime::cgroup::Cgroup;
use carrack_runtime::oci::{State, Status};
use carrack_runtime::{Exec, Inherited, Landlock, Launch, Running, Stdio, create, exec, executable};
use oci_spec::runtime::{Process, Spec};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("probe") => probe(&arguments[1..]),
        _ => sealed().and_then(|()| match arguments.first().map(String::as_str) {
            Some("run") => run(&arguments[1..]),
            Some("exec") => run_exec(&arguments[1..]),
            Some("bench") => bench(&arguments[1..]),
            _ => Err("expected run, exec, bench or probe".into()),
        }),
    };
    match outcome {
        Ok(code) => exit(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            exit(
                error.downcast_ref::<carrack_runtime::Error>().map_or(125, carrack_runtime::Error::exit_code),
            )
        }
    }
}

/// Executes itself again from a place that containers cannot write to.
fn sealed() -> Result<()> {
    if std::env::args().any(|argument| argument == "--writable") || executable::is_read_only()? {
        return Ok(());
    }
    let program = executable::read_only()?;
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    Err(Command::new(path).args(std::env::args().skip(1)).exec().into())
}

fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let place = arguments.iter().position(|argument| argument == name)?;
    arguments.get(place + 1).map(String::as_str)
}

fn stdio(arguments: &[String]) -> Result<Stdio> {
    if arguments.iter().any(|argument| argument == "--console") {
        return Ok(Stdio::Console);
    }
    Ok(Stdio::Streams {
        stdin: io::stdin().as_fd().try_clone_to_owned()?,
        stdout: io::stdout().as_fd().try_clone_to_owned()?,
        stderr: io::stderr().as_fd().try_clone_to_owned()?,
    })
}

fn landlock(arguments: &[String]) -> Result<Option<Landlock>> {
    let Some(text) = option(arguments, "--landlock") else { return Ok(None) };
    let mut landlock = Landlock::default();
    landlock.extend(text)?;
    Ok(Some(landlock))
}

fn rootfs(path: &str) -> Result<OwnedFd> {
    Ok(carrack_sys::mount::clone_path(Path::new(path), false)?)
}

fn json<T: serde::de::DeserializeOwned>(path: &str) -> Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn run(arguments: &[String]) -> Result<i32> {
    let spec: Spec = json(&arguments[0])?;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
    let cgroup = option(arguments, "--cgroup").map(|path| Cgroup::create(Path::new(path), &resources));
    let cgroup = cgroup.transpose()?;
    let init = create(Launch {
        spec: &spec,
        rootfs: rootfs(&arguments[1])?,
        stdio: stdio(arguments)?,
        cgroup: cgroup.as_ref(),
        reaper: arguments.iter().any(|argument| argument == "--init"),
        state: &State::new("stage", Status::Creating, "/bundle".into()),
        inherited: Inherited::default(),
        landlock: landlock(arguments)?,
        hooks: None,
        tells_ready: false,
        standby: None,
    })?;
    for clamped in init.clamped_rlimits() {
        writeln!(io::stderr(), "warning: {clamped}")?;
    }
    init.network_namespace()?;
    let running = init.start()?;
    if let Some(file) = option(arguments, "--report") {
        fs::write(format!("{file}.new"), running.pid().to_string())?;
        fs::rename(format!("{file}.new"), file)?;
    }
    finish(running)
}

fn run_exec(arguments: &[String]) -> Result<i32> {
    let spec: Spec = json(&arguments[0])?;
    let process: Process = json(&arguments[1])?;
    let pid = rustix::process::Pid::from_raw(arguments[2].parse()?).ok_or("not a pid")?;
    let target = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let cgroup = option(arguments, "--cgroup").map(|path| Cgroup::open(Path::new(path))).transpose()?;
    finish(exec(Exec {
        target: target.as_fd(),
        spec: &spec,
        process: &process,
        stdio: stdio(arguments)?,
        cgroup: cgroup.as_ref(),
        state: &State {
            pid: Some(pid.as_raw_pid()),
            ..State::new("stage", Status::Running, "/bundle".into())
        },
        inherited: Inherited::default(),
        landlock: landlock(arguments)?,
    })?)
}

fn finish(mut running: Running) -> Result<i32> {
    if let Some(master) = running.console.take() {
        let mut master = File::from(master);
        let mut buffer = [0; 4096];
        // EIO is how a terminal says that its other side was closed.
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            io::stdout().write_all(&buffer[..count])?;
        }
    }
    Ok(running.wait()?.code())
}

fn bench(arguments: &[String]) -> Result<i32> {
    let spec: Spec = json(&arguments[1])?;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
    let mut times = Vec::new();
    for number in 0..arguments[0].parse()? {
        let begin = Instant::now();
        let path = format!("/carrack-bench-{}/{number}", std::process::id());
        let cgroup = arguments.iter().any(|argument| argument == "--cgroup");
        let cgroup = cgroup.then(|| Cgroup::create(Path::new(&path), &resources)).transpose()?;
        let (rootfs, stdio) = (rootfs(&arguments[2])?, stdio(arguments)?);
        let init = create(Launch {
            spec: &spec,
            rootfs,
            stdio,
            cgroup: cgroup.as_ref(),
            reaper: false,
            state: &State::new("bench", Status::Creating, "/bundle".into()),
            inherited: Inherited::default(),
            landlock: None,
            hooks: None,
            tells_ready: false,
            standby: None,
        })?;
        let mut running = init.start()?;
        let code = running.wait()?.code();
        times.push(begin.elapsed().as_micros());
        drop(running);
        if let Some(cgroup) = cgroup {
            cgroup.delete()?;
        }
        if code != 0 {
            return Err(format!("the program ended with {code}").into());
        }
    }
    if let Ok(parent) = Cgroup::open(Path::new(&format!("/carrack-bench-{}", std::process::id()))) {
        parent.delete()?;
    }
    times.sort_unstable();
    let middle = times[times.len() / 2];
    writeln!(io::stdout(), "create + start + wait: minimum {} us, median {middle} us", times[0])?;
    Ok(0)
}

fn probe(arguments: &[String]) -> Result<i32> {
    match arguments.first().map(String::as_str) {
        Some("clone3") => {
            let error = carrack_sys::process::clone_process(0, None).err();
            writeln!(io::stdout(), "{}", error.and_then(|error| error.raw_os_error()).unwrap_or(0))?;
        }
        _ => {
            // This very program is busy now, which hides whether it could be written later; its mount tells.
            writeln!(io::stdout(), "read-only: {}", executable::is_read_only()?)?;
        }
    }
    Ok(0)
}
