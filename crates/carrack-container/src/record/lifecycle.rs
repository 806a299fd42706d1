//! What becomes of a container while it runs and after it ends: restarts, health checks, where its output goes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::StopRequest;

/// Restarts, health checks and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifecycleSettings {
    /// When it is started again.
    pub restart: RestartPolicy,
    /// How its health is checked; `None` where neither user nor image says how.
    pub health: Option<HealthCheck>,
    /// What follows when it becomes unhealthy.
    pub on_unhealthy: UnhealthyAction,
    /// After how many seconds it is killed; `None` lets it run as long as it likes.
    pub timeout_seconds: Option<u32>,
    /// Where its output goes.
    pub log: LogSettings,
}

/// When a container is started again that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When it has failed, at most so often in a row; 0 is without a limit.
    OnFailure(u32),
    /// Unless a user has stopped it; after a reboot also then.
    Always,
    /// Unless a user has stopped it, before a reboot or after.
    UnlessStopped,
}

impl RestartPolicy {
    /// The word for it, without the limit.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// How often in a row it may restart; 0 is without a limit.
    pub fn limit(self) -> u32 {
        if let Self::OnFailure(limit) = self { limit } else { 0 }
    }

    /// Whether a container that has ended with `exit_code`, after `count` restarts, is started again at once.
    pub fn restarts(self, exit_code: i32, count: u32, stop_requested: Option<StopRequest>) -> bool {
        match self {
            Self::No => false,
            _ if stop_requested.is_some() => false,
            Self::OnFailure(limit) => exit_code != 0 && (limit == 0 || count < limit),
            Self::Always | Self::UnlessStopped => true,
        }
    }

    /// Whether a container that has ended with `exit_code` is started again with the host.
    pub fn starts_with_host(self, exit_code: i32, stop_requested: Option<StopRequest>) -> bool {
        let stopped_by_user = stop_requested == Some(StopRequest::User);
        match self {
            Self::No => false,
            Self::OnFailure(_) => exit_code != 0 && !stopped_by_user,
            Self::Always => true,
            Self::UnlessStopped => !stopped_by_user,
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, limit) = text.split_once(':').map_or((text, None), |(name, limit)| (name, Some(limit)));
        match (name, limit) {
            ("" | "no", None) => Ok(Self::No),
            ("always", None) => Ok(Self::Always),
            ("unless-stopped", None) => Ok(Self::UnlessStopped),
            ("on-failure", None) => Ok(Self::OnFailure(0)),
            ("on-failure", Some(limit)) => limit
                .parse()
                .map(Self::OnFailure)
                .map_err(|_| format!("expected a number of restarts behind on-failure:, got {limit:?}")),
            _ => Err(format!(
                "{text:?} is no restart policy: expected no, on-failure[:NUMBER], always or unless-stopped"
            )),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit() {
            0 => formatter.write_str(self.name()),
            limit => write!(formatter, "{}:{limit}", self.name()),
        }
    }
}

/// How the health of a container is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// `["CMD", ...]` or `["CMD-SHELL", text]`, as Docker has it.
    pub test: Vec<String>,
    /// Between the end of a check and the next one.
    pub interval_ns: u64,
    /// How long a check may take.
    pub timeout_ns: u64,
    /// How long after the start failures do not count.
    pub start_period_ns: u64,
    /// In place of the interval in that time.
    pub start_interval_ns: u64,
    /// How many failures in a row make the container unhealthy.
    pub retries: u32,
}

/// What follows when the health checks of a container have failed as often as makes it unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnhealthyAction {
    /// It is shown.
    #[default]
    None,
    /// It is killed, and its restart policy leaves it alone, as after a `kill`.
    Kill,
    /// It is asked to end, killed if it does not, and started again.
    Restart,
    /// It is stopped.
    Stop,
}

impl UnhealthyAction {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::None, Self::Kill, Self::Restart, Self::Stop];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }
}

impl FromStr for UnhealthyAction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|action| action.name() == text);
        known.ok_or_else(|| format!("expected none, kill, restart or stop, got {text:?}"))
    }
}

/// Where output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// Lines of JSON in a file, as Docker writes them.
    #[default]
    JsonFile,
    /// Lines as Kubernetes has them, in a file.
    K8sFile,
    /// The journal of systemd.
    Journald,
    /// Nowhere.
    None,
    /// The standard streams of whoever starts the container.
    Passthrough,
}

impl LogDriver {
    /// Every driver.
    pub const ALL: [Self; 5] = [Self::JsonFile, Self::K8sFile, Self::Journald, Self::None, Self::Passthrough];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::K8sFile => "k8s-file",
            Self::Journald => "journald",
            Self::None => "none",
            Self::Passthrough => "passthrough",
        }
    }
}

impl FromStr for LogDriver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|driver| driver.name() == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("unknown log driver {text:?}: expected one of {names}")
        })
    }
}

/// A log driver with its options as given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSettings {
    /// The driver.
    pub driver: LogDriver,
    /// Its options, known and checked when the container was created.
    pub options: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_written_as_docker_has_them() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        for text in ["never", "always:3", "on-failure:", "on-failure:-1", "on-failure:x", "Always"] {
            assert!(text.parse::<RestartPolicy>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn who_is_started_again() {
        let restarts = |policy: &str, code, count| {
            let policy = policy.parse::<RestartPolicy>().unwrap();
            assert!(!policy.restarts(code, count, Some(StopRequest::User)), "a user has stopped it");
            assert!(!policy.restarts(code, count, Some(StopRequest::Host)), "the host goes down");
            policy.restarts(code, count, None)
        };
        assert!(!restarts("no", 1, 0));
        assert!(restarts("always", 0, 100) && restarts("unless-stopped", 0, 100));
        assert!(restarts("on-failure", 1, 100) && !restarts("on-failure", 0, 0));
        assert!(restarts("on-failure:2", 1, 1) && !restarts("on-failure:2", 1, 2));
    }

    #[test]
    fn who_is_started_with_the_host() {
        let starts =
            |policy: &str, code, stop| policy.parse::<RestartPolicy>().unwrap().starts_with_host(code, stop);
        let (user, host) = (Some(StopRequest::User), Some(StopRequest::Host));
        assert!(!starts("no", 255, None));
        assert!(starts("always", 0, user) && starts("always", 0, host));
        assert!(starts("unless-stopped", 0, host) && !starts("unless-stopped", 0, user));
        assert!(starts("on-failure", 255, None) && !starts("on-failure", 0, host));
        assert!(!starts("on-failure", 137, user));
    }
}
