//! The health of a running container, as its checks find it.
//!
//! Invariant: what is kept is bounded: the last checks, and the beginning of what each printed.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::HealthCheck;

/// How many checks are remembered.
pub const KEPT_CHECKS: usize = 5;
/// How much of what a check prints is kept.
pub const KEPT_OUTPUT_BYTES: usize = 4096;

/// How a container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthStatus {
    /// Not known yet.
    #[default]
    Starting,
    /// The last check succeeded.
    Healthy,
    /// Too many checks in a row failed.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What the checks since the start say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// How the container is.
    pub status: HealthStatus,
    /// How many checks in a row have failed and counted.
    pub failing_streak: u32,
}

impl Health {
    /// What a check changes that began at `at` and ended with `exit_code`, in a container that runs since
    /// `started_at`. As Docker has it: until the first success, failures within the start period do not count.
    pub fn judge(self, check: &HealthCheck, started_at: Timestamp, at: Timestamp, exit_code: i32) -> Self {
        if exit_code == 0 {
            return Self { status: HealthStatus::Healthy, failing_streak: 0 };
        }
        if self.is_starting(check, started_at, at) {
            return self;
        }
        let failing_streak = self.failing_streak.saturating_add(1);
        let status =
            if failing_streak >= check.retries.max(1) { HealthStatus::Unhealthy } else { self.status };
        Self { status, failing_streak }
    }

    /// Whether the start period holds: it ends early with the first success.
    pub fn is_starting(self, check: &HealthCheck, started_at: Timestamp, at: Timestamp) -> bool {
        let period = SignedDuration::from_nanos(i64::try_from(check.start_period_ns).unwrap_or(i64::MAX));
        self.status == HealthStatus::Starting && at.duration_since(started_at) < period
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckResult {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// 0 is healthy; -1 when it took too long or could not be run.
    pub exit_code: i32,
    /// The beginning of what it printed, or why there is nothing.
    pub output: String,
}

/// The last checks of a start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckLog {
    /// Oldest first.
    pub results: Vec<CheckResult>,
}

impl CheckLog {
    /// Adds a check, and forgets the oldest ones.
    pub fn push(&mut self, mut result: CheckResult) {
        result.output.truncate(result.output.floor_char_boundary(KEPT_OUTPUT_BYTES));
        self.results.push(result);
        let surplus = self.results.len().saturating_sub(KEPT_CHECKS);
        self.results.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(retries: u32, start_period_ns: u64) -> HealthCheck {
        HealthCheck {
            test: vec!["CMD".into(), "true".into()],
            interval_ns: 1,
            timeout_ns: 1,
            start_period_ns,
            start_interval_ns: 1,
            retries,
        }
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let now = Timestamp::now();
        let judge = |health: Health, code| health.judge(&check(2, 0), now, now, code);
        let once = judge(Health::default(), 1);
        assert_eq!((once.status, once.failing_streak), (HealthStatus::Starting, 1));
        let twice = judge(once, -1);
        assert_eq!((twice.status, twice.failing_streak), (HealthStatus::Unhealthy, 2));
        let well = judge(twice, 0);
        assert_eq!((well.status, well.failing_streak), (HealthStatus::Healthy, 0));
        assert_eq!(judge(well, 1).status, HealthStatus::Healthy, "one failure is none");
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_until_a_success() {
        let now = Timestamp::now();
        let check = check(1, u64::MAX);
        assert_eq!(Health::default().judge(&check, now, now, 1), Health::default());
        let well = Health::default().judge(&check, now, now, 0);
        assert_eq!(well.judge(&check, now, now, 1).status, HealthStatus::Unhealthy);
    }

    #[test]
    fn the_log_is_bounded() {
        let mut log = CheckLog::default();
        for exit_code in 0..20 {
            let now = Timestamp::now();
            log.push(CheckResult { start: now, end: now, exit_code, output: "ä".repeat(KEPT_OUTPUT_BYTES) });
        }
        let codes: Vec<_> = log.results.iter().map(|result| result.exit_code).collect();
        assert_eq!(codes, [15, 16, 17, 18, 19]);
        assert!(log.results.iter().all(|result| result.output.len() <= KEPT_OUTPUT_BYTES));
    }
}
