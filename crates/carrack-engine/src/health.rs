//! Health checks: a stage for each, started by the container's monitor or by a user.
//!
//! The stage joins the container as `exec` does, waits at most for the check's timeout, judges, and writes down what it
//! found under the container's lock. A check that outlives its container changes nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use carrack_container::attach::{Client, Ended, Event, Peer};
use carrack_container::health::{CheckResult, HealthStatus, KEPT_OUTPUT_BYTES};
use carrack_container::monitor::{Chore, Stdio};
use carrack_container::{
    Container, ContainerId, ContainerRecord, HealthCheck, Program, Status, StopRequest, UnhealthyAction,
};
use carrack_oci::Healthcheck;
use carrack_runtime::Running;
use carrack_sys::IoContext;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::OperationContext;
use crate::exec::ExecTask;
use crate::stage::{Task, report_failure};
use crate::stop::StopWish;
use crate::supervise::REPORT_LIMIT;
use crate::{Engine, Error, Result, signal};

/// The exit code of a stage after which the interval of the start period holds.
const STILL_STARTING: i32 = 3;
/// How long what a check left running may hold its output open.
const DRAIN: Duration = Duration::from_millis(100);

/// Docker's defaults.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: u32 = 3;
/// Docker's least time of each kind. Each check is a process: a shorter pause, which an image may ask for, would be a
/// host that does nothing else.
const LEAST: Duration = Duration::from_millis(1);

/// What a user says about health checks with flags; `None` is as the image says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthRequest {
    /// A command for the shell, or `none`.
    pub command: Option<String>,
    /// Between two checks.
    pub interval: Option<Duration>,
    /// How long one may take.
    pub timeout: Option<Duration>,
    /// How long failures do not count.
    pub start_period: Option<Duration>,
    /// Between two checks in that time.
    pub start_interval: Option<Duration>,
    /// How many failures count as one.
    pub retries: Option<u32>,
    /// No checks, whatever the image says.
    pub disabled: bool,
}

/// What a command of the user's is as the test of an image: for the shell; or, as podman has it, a list of words in JSON,
/// with or without the kind before them.
fn test_of(command: &str) -> Vec<String> {
    match serde_json::from_str::<Vec<String>>(command) {
        Ok(words) if matches!(words.first().map(String::as_str), Some("CMD" | "CMD-SHELL" | "NONE")) => words,
        Ok(words) => [vec!["CMD".to_owned()], words].concat(),
        Err(_) => vec!["CMD-SHELL".to_owned(), command.to_owned()],
    }
}

/// What is checked: the user's wishes over the image's, and Docker's defaults.
pub(crate) fn merged_check(
    request: &HealthRequest,
    image: Option<&Healthcheck>,
) -> Result<Option<HealthCheck>> {
    let has_flags = HealthRequest { disabled: false, ..request.clone() } != HealthRequest::default();
    if request.disabled && has_flags {
        return Err(Error::refused("--no-healthcheck conflicts with the other --health flags", ""));
    }
    let test = match request.command.as_deref() {
        _ if request.disabled => return Ok(None),
        Some("none") => return Ok(None),
        Some("") => return Err(Error::refused("--health-cmd is empty", "give a command, or none")),
        Some(command) => test_of(command),
        None => image.map(|image| image.test.clone()).unwrap_or_default(),
    };
    match test.first().map(String::as_str) {
        None | Some("NONE") => return Ok(None),
        Some("CMD" | "CMD-SHELL") if test.len() > 1 => {}
        Some(_) => {
            let message = format!("the health check {test:?} has no form that is known");
            return Err(Error::refused(message, "replace it by --health-cmd, or use --no-healthcheck"));
        }
    }
    let of_image = |time: fn(&Healthcheck) -> u64| image.map(time);
    let retries = image.and_then(|image| u32::try_from(image.retries).ok()).filter(|retries| *retries > 0);
    Ok(Some(HealthCheck {
        test,
        interval_ns: time("interval", request.interval, of_image(|image| image.interval), DEFAULT_INTERVAL)?,
        timeout_ns: time("timeout", request.timeout, of_image(|image| image.timeout), DEFAULT_INTERVAL)?,
        start_period_ns: time(
            "start-period",
            request.start_period,
            of_image(|image| image.start_period),
            Duration::ZERO,
        )?,
        start_interval_ns: time(
            "start-interval",
            request.start_interval,
            of_image(|image| image.start_interval),
            DEFAULT_START_INTERVAL,
        )?,
        retries: request.retries.filter(|retries| *retries > 0).or(retries).unwrap_or(DEFAULT_RETRIES),
    }))
}

/// The flag's time, else the image's, else the default, which 0 means too, as in Docker.
///
/// What is too short is refused, of an image too: a time of our choice in its place would be a check that neither the
/// image nor the user has asked for, and a flag says what is meant.
fn time(kind: &str, flag: Option<Duration>, image: Option<u64>, default: Duration) -> Result<u64> {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let flag = flag.map(nanoseconds).filter(|time| *time > 0);
    let chosen = flag.or(image).filter(|time| *time > 0);
    match chosen {
        Some(short) if short < nanoseconds(LEAST) => {
            let whose = if flag.is_some() { "" } else { "that the image asks for " };
            let message = format!(
                "the {kind} of health checks {whose}is too short: expected at least {LEAST:?}, got {short} ns"
            );
            let hint = format!("give a longer one with --health-{kind}, or use --no-healthcheck");
            Err(Error::refused(message, hint))
        }
        chosen => Ok(chosen.unwrap_or(nanoseconds(default))),
    }
}

impl Engine {
    /// Checks the health of a running container now; whether it is well.
    pub fn check_health(&self, text: &str) -> Result<bool> {
        let container = self.containers.find(text)?;
        let checked = self.check_now(&container).operation("check the health of container", text)?;
        Ok(checked)
    }

    fn check_now(&self, container: &Container) -> Result<bool> {
        if container.record.host.lifecycle.health.is_none() {
            let hint = "create it with --health-cmd, or from an image with HEALTHCHECK";
            return Err(Error::refused("it has no health check", hint));
        }
        if container.state.status != Status::Running {
            return Err(Error::refused("it is not running", ""));
        }
        let id = &container.record.id;
        let client: Client =
            self.start_stage(&Task::Health(id.clone()), &format!("health {}", id.short()), &[])?;
        let mut packet = Vec::new();
        match client.receive(&mut packet)? {
            Some(Event::Exited { code }) => Ok(code == 0),
            Some(Event::Failed { code, message }) => {
                let (message, exit_code) = (message.to_owned(), code.try_into().unwrap_or(125));
                Err(Error::Program { message, exit_code })
            }
            _ => Err(Error::Stage(format!("the stage ended without a report: {:?}", Ended::Lost))),
        }
    }

    /// What the last checks said, for `inspect`.
    pub(crate) fn checks(&self, id: &ContainerId) -> Result<Vec<CheckResult>> {
        Ok(self.containers.checks(id)?.results)
    }

    /// The checks that a monitor has done.
    pub(crate) fn health_chore(&self, record: &ContainerRecord) -> Option<Chore> {
        let check = record.host.lifecycle.health.as_ref()?;
        let interval = Duration::from_nanos(check.interval_ns);
        let start_interval = Duration::from_nanos(check.start_interval_ns);
        let (id, environment) = (record.id.clone(), self.environment.clone());
        let title = format!("health {}", id.short());
        let start = move || {
            crate::stage::spawn_background(&environment, &Task::Health(id.clone()), &title)
                .map_err(std::io::Error::other)
        };
        Some(Chore {
            first: if check.start_period_ns > 0 { start_interval } else { interval },
            start: Box::new(start),
            pause: Box::new(move |code| if code == Some(STILL_STARTING) { start_interval } else { interval }),
        })
    }

    /// The stage of one check; its exit code is for the monitor, its report for a user.
    pub(crate) fn health_stage(&self, id: &ContainerId, peer: &Peer) -> Result<u8> {
        match self.run_check(id) {
            Ok((code, still_starting)) => {
                peer.send(&Event::Exited { code }, REPORT_LIMIT);
                Ok(if still_starting { STILL_STARTING as u8 } else { u8::from(code != 0) })
            }
            Err(error) => {
                report_failure(peer, &error);
                Err(error)
            }
        }
    }

    /// Checks once; the exit code, and whether the start period goes on.
    fn run_check(&self, id: &ContainerId) -> Result<(i32, bool)> {
        let Container { record, state } = self.containers.get(id)?;
        let check = record.host.lifecycle.health.clone();
        let check = check.ok_or_else(|| Error::refused("it has no health check", ""))?;
        if state.status != Status::Running {
            return Err(Error::refused("it is not running", ""));
        }
        let start = Timestamp::now();
        let (exit_code, output) = self.execute_check(id, &record, &check);
        let end = Timestamp::now();
        let locked = self.containers.lock(id)?;
        let now = locked.get()?.state;
        let started_at = now.started_at.filter(|_| now.status == Status::Running && now.init == state.init);
        let Some(started_at) = started_at else {
            return Err(Error::refused("it has ended meanwhile", ""));
        };
        let before = now.health.unwrap_or_default();
        let after = before.judge(&check, started_at, start, exit_code);
        let mut checks = self.containers.checks(id)?;
        checks.push(CheckResult { start, end, exit_code, output });
        locked.write_checks(&checks)?;
        if now.health != Some(after) {
            locked.update(|state| {
                state.health = Some(after);
                Ok(())
            })?;
        }
        drop(locked);
        if before.status != after.status || now.health.is_none() {
            self.container_event(&record, &format!("health_status: {}", after.status.name()), &[]);
        }
        if after.status == HealthStatus::Unhealthy && before.status != after.status {
            self.act_on_unhealthy(id)?;
        }
        let still_starting =
            after.status == HealthStatus::Starting && after.is_starting(&check, started_at, end);
        Ok((exit_code, still_starting))
    }

    /// Does what is to follow. When the program ends by it, its monitor may end this stage before it returns.
    fn act_on_unhealthy(&self, id: &ContainerId) -> Result<()> {
        let container = self.containers.get(id)?;
        match container.record.host.lifecycle.on_unhealthy {
            UnhealthyAction::None => Ok(()),
            UnhealthyAction::Kill => self.kill_found(&container, signal::KILL),
            UnhealthyAction::Restart => self.end_for_restart(&container, &StopWish::default()),
            UnhealthyAction::Stop => self.stop_requested(&container, &StopWish::default(), StopRequest::User),
        }
    }

    /// Runs the check's command; its exit code and the beginning of its output, or -1 and why there is none.
    fn execute_check(
        &self,
        id: &ContainerId,
        record: &ContainerRecord,
        check: &HealthCheck,
    ) -> (i32, String) {
        let command = match &check.test[..] {
            [kind, text] if kind == "CMD-SHELL" => ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
            [_, words @ ..] => words.to_vec(),
            [] => Vec::new(),
        };
        let program = Program {
            entrypoint: Vec::new(),
            command,
            tty: false,
            open_stdin: false,
            ..record.program.clone()
        };
        let task = ExecTask { container: id.clone(), program, privileged: false, exec_id: None };
        let sandbox = match self.join(&task, Vec::new()) {
            Ok(joined) => joined,
            Err(error) => return (-1, error.with_causes()),
        };
        let timeout = Duration::from_nanos(check.timeout_ns);
        match collect(sandbox.running, sandbox.stdio, timeout) {
            Ok((Some(code), output)) => (code, output),
            Ok((None, _)) => (-1, format!("Health check exceeded timeout ({timeout:?})")),
            Err(error) => (-1, error.with_causes()),
        }
    }
}

/// Waits for a program at most for `timeout`, then kills it; its exit code and the beginning of what it printed.
fn collect(mut running: Running, stdio: Stdio, timeout: Duration) -> Result<(Option<i32>, String)> {
    let Stdio::Pipes { stdout, stderr, .. } = stdio else {
        return Err(Error::Stage("a check has no pipes".to_owned()));
    };
    let deadline = Instant::now() + timeout;
    let mut open = vec![stdout, stderr];
    let mut output = Vec::new();
    let mut ended = None;
    loop {
        let until = ended.map_or(deadline, |at: Instant| deadline.min(at + DRAIN));
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || (ended.is_some() && open.is_empty()) {
            break;
        }
        let mut polled: Vec<_> = open.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        if ended.is_none() {
            polled.push(PollFd::from_borrowed_fd(running.pidfd(), PollFlags::IN));
        }
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => Err(error).during("wait for", "a health check")?,
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ended.is_none() && ready.last() == Some(&true) {
            ended = Some(Instant::now());
        }
        let mut index = 0;
        open.retain(|fd| {
            index += 1;
            !ready[index - 1] || read_some(fd, &mut output)
        });
    }
    if ended.is_none() {
        running.kill(signal::KILL)?;
    }
    let status = running.wait()?;
    Ok((ended.map(|_| status.code()), String::from_utf8_lossy(&output).into_owned()))
}

/// Takes a piece of output, and keeps it while there is room; whether more may come.
fn read_some(fd: &OwnedFd, output: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    match rustix::io::read(fd.as_fd(), &mut buffer) {
        Ok(0) => false,
        Ok(length) => {
            let room = KEPT_OUTPUT_BYTES.saturating_sub(output.len());
            output.extend_from_slice(&buffer[..length.min(room)]);
            true
        }
        Err(error) => matches!(error, Errno::INTR | Errno::AGAIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_image_and_defaults_fill_the_rest() {
        let image = Healthcheck {
            test: vec!["CMD".into(), "check".into()],
            interval: 7_000_000,
            retries: 9,
            ..Healthcheck::default()
        };
        let merged = |request: HealthRequest| merged_check(&request, Some(&image)).unwrap();
        let check = merged(HealthRequest { retries: Some(2), ..HealthRequest::default() }).unwrap();
        assert_eq!((check.test, check.interval_ns, check.retries), (image.test.clone(), 7_000_000, 2));
        assert_eq!((check.timeout_ns, check.start_period_ns), (30_000_000_000, 0));
        let own = HealthRequest { command: Some("true".into()), ..HealthRequest::default() };
        assert_eq!(merged(own).unwrap().test, ["CMD-SHELL", "true"]);
        for (list, test) in [
            (r#"["true", "a b"]"#, &["CMD", "true", "a b"][..]),
            (r#"["CMD", "true"]"#, &["CMD", "true"]),
            (r#"["CMD-SHELL", "a | b"]"#, &["CMD-SHELL", "a | b"]),
            ("[ -e /well ]", &["CMD-SHELL", "[ -e /well ]"]),
        ] {
            let request = HealthRequest { command: Some(list.into()), ..HealthRequest::default() };
            assert_eq!(merged(request).unwrap().test, test);
        }
        let empty = HealthRequest { command: Some("[]".into()), ..HealthRequest::default() };
        assert!(merged_check(&empty, None).unwrap_err().to_string().contains("has no form"));
        assert_eq!(merged(HealthRequest { disabled: true, ..HealthRequest::default() }), None);
        assert_eq!(merged_check(&HealthRequest::default(), None).unwrap(), None);
        let none = Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() };
        assert_eq!(merged_check(&HealthRequest::default(), Some(&none)).unwrap(), None);
        let both = HealthRequest { disabled: true, retries: Some(1), ..HealthRequest::default() };
        assert!(merged_check(&both, None).is_err());
    }

    #[test]
    fn checks_without_a_pause_are_refused() {
        let of_image = |change: fn(&mut Healthcheck), request: &HealthRequest| {
            let mut image =
                Healthcheck { test: vec!["CMD".into(), "check".into()], ..Healthcheck::default() };
            change(&mut image);
            merged_check(request, Some(&image)).map(|_| ()).map_err(|error| error.to_string())
        };
        let silent = HealthRequest::default();
        type Change = fn(&mut Healthcheck);
        let changes: [(&str, Change); 4] = [
            ("interval", |image| image.interval = 1),
            ("timeout", |image| image.timeout = 999_999),
            ("start-period", |image| image.start_period = 1),
            ("start-interval", |image| image.start_interval = 1),
        ];
        for (kind, change) in changes {
            let error = of_image(change, &silent).unwrap_err();
            assert!(error.contains(&format!("{kind} of health checks that the image")), "{error}");
        }
        let at_least = of_image(|image| image.interval = 1_000_000, &silent);
        assert_eq!(at_least, Ok(()));
        let flag = HealthRequest { interval: Some(Duration::from_secs(1)), ..HealthRequest::default() };
        assert_eq!(of_image(|image| image.interval = 1, &flag), Ok(()), "a flag replaces what is wrong");
        let short = HealthRequest { interval: Some(Duration::from_micros(999)), ..HealthRequest::default() };
        assert!(of_image(|_| {}, &short).unwrap_err().contains("expected at least 1ms, got 999000 ns"));
    }
}
