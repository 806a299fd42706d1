//! Restarts, health and logs in `docker container inspect`.

use carrack_container::health::{CheckResult, Health};
use carrack_container::{HealthCheck, LifecycleSettings};
use serde_json::{Value, json};

/// The part of `HostConfig`.
pub fn lifecycle_json(lifecycle: &LifecycleSettings) -> Value {
    let LifecycleSettings { restart, log, .. } = lifecycle;
    json!({
        "RestartPolicy": {"Name": restart.name(), "MaximumRetryCount": restart.limit()},
        "LogConfig": {"Type": log.driver.name(), "Config": log.options},
    })
}

/// `Config.Healthcheck`
pub fn check_json(check: &HealthCheck) -> Value {
    json!({
        "Test": check.test,
        "Interval": check.interval_ns,
        "Timeout": check.timeout_ns,
        "StartPeriod": check.start_period_ns,
        "StartInterval": check.start_interval_ns,
        "Retries": check.retries,
    })
}

/// `State.Health`
pub fn health_json(health: Health, checks: &[CheckResult]) -> Value {
    json!({"Status": health.status.name(), "FailingStreak": health.failing_streak, "Log": checks})
}
