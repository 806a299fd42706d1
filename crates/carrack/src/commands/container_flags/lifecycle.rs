//! Flags for what becomes of a container while it runs and after it ends: restarts, health checks, logs.

use std::time::Duration;

use carrack_engine::{
    HealthRequest, LifecycleSettings, LogDriver, LogSettings, RestartPolicy, UnhealthyAction,
};
use clap::Args;

use crate::failure::{Result, invalid};

#[derive(Args)]
pub struct LifecycleFlags {
    /// When to start it again: no, on-failure[:NUMBER], always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: RestartPolicy,
    /// Command that tells by its exit code whether the container is well, for the shell or as a list of words in JSON; none
    /// takes the image's away
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between two health checks (30s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_interval: Option<Duration>,
    /// Time a health check may take (30s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy (3)
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<u32>,
    /// Time after the start in which failures do not count (0s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_start_period: Option<Duration>,
    /// Time between two health checks in that time (5s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_start_interval: Option<Duration>,
    /// What follows when it becomes unhealthy: none, kill, restart or stop
    #[arg(long, value_name = "ACTION", default_value = "none")]
    health_on_failure: UnhealthyAction,
    /// Seconds after which the container is killed; 0 lets it run
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    timeout: u32,
    /// Do not check its health, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
    /// Where its output goes: json-file, k8s-file, journald, none or passthrough
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<LogDriver>,
    /// Option of the log driver: max-size, max-file, path, tag, labels, env
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
}

impl LifecycleFlags {
    /// What is asked of the engine; the log driver and the health check are settled there.
    pub fn settings(&self) -> Result<LifecycleSettings> {
        let mut log = LogSettings::default();
        for text in &self.log_opt {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| invalid("--log-opt", text, "NAME=VALUE, as in max-size=10m"))?;
            log.options.insert(name.to_owned(), value.to_owned());
        }
        Ok(LifecycleSettings {
            restart: self.restart,
            health: None,
            on_unhealthy: self.health_on_failure,
            timeout_seconds: Some(self.timeout).filter(|seconds| *seconds > 0),
            log,
        })
    }

    /// The log driver, if one is chosen.
    pub fn log_driver(&self) -> Option<LogDriver> {
        self.log_driver
    }

    /// What is said about health checks.
    pub fn health(&self) -> HealthRequest {
        HealthRequest {
            command: self.health_cmd.clone(),
            interval: self.health_interval,
            timeout: self.health_timeout,
            start_period: self.health_start_period,
            start_interval: self.health_start_interval,
            retries: self.health_retries,
            disabled: self.no_healthcheck,
        }
    }
}

/// A duration as Go writes it: `30s`, `1m30s`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: expected one as in 30s, 1m30s or 500ms");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest == "0" {
        return Ok(total);
    }
    while !rest.is_empty() {
        let digits = rest.find(|symbol: char| !symbol.is_ascii_digit() && symbol != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let units =
            [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, seconds) = units.into_iter().find(|(unit, _)| tail.starts_with(unit)).ok_or_else(wrong)?;
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &tail[unit.len()..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
        for text in ["", "5", "s", "1d", "-1s", "1s2", "1e3s", "1..5s", "999999999999999999999h"] {
            assert!(duration(text).is_err(), "{text} was accepted");
        }
    }
}
