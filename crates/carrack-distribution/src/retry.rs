//! When to try again: exponential back-off with jitter, and `Retry-After` within bounds (RFC 9110, 10.2.3).
//!
//! Invariant: a sequence of failures ends after [`RetryPolicy::attempts`], and no single pause is longer than
//! [`RetryPolicy::max_delay`].

use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use crate::{Error, Result};

/// How often and how fast a failed request is repeated.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// The number of attempts in all, at least 1.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each further one.
    pub initial_delay: Duration,
    /// The longest pause. A registry that asks for a longer one (`Retry-After`) is not waited for.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, initial_delay: Duration::from_millis(200), max_delay: Duration::from_secs(30) }
    }
}

/// The failures of one operation so far.
pub(crate) struct Retries<'a> {
    policy: &'a RetryPolicy,
    failures: u32,
}

impl<'a> Retries<'a> {
    pub(crate) fn new(policy: &'a RetryPolicy) -> Self {
        Self { policy, failures: 0 }
    }

    /// Forgets the failures: the operation came further.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
    }

    /// Sleeps before the next attempt, or gives `error` back when there is none.
    pub(crate) fn pause(&mut self, error: Error) -> Result<()> {
        self.failures += 1;
        let Some(delay) = self.delay(&error) else { return Err(error) };
        tracing::debug!(%error, ?delay, attempt = self.failures, "trying again");
        thread::sleep(delay);
        Ok(())
    }

    fn delay(&self, error: &Error) -> Option<Duration> {
        if !error.is_transient() || self.failures >= self.policy.attempts {
            return None;
        }
        if let Error::Status { retry_after: Some(asked), .. } = error {
            return (*asked <= self.policy.max_delay).then_some(*asked);
        }
        let doubled = self.policy.initial_delay.saturating_mul(1 << (self.failures - 1).min(16));
        Some(jittered(doubled.min(self.policy.max_delay)))
    }
}

/// Between half of `delay` and all of it, so that clients that failed together do not return together.
fn jittered(delay: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    let half = delay / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Reads `Retry-After`: seconds, or a date.
pub(crate) fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exchange;

    fn status(status: u16, retry_after: Option<u64>) -> Error {
        let exchange = Exchange { method: "GET".to_owned(), url: "http://host.example/".to_owned() };
        Error::Status {
            exchange,
            status,
            messages: vec![],
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn doubles_within_bounds_and_ends() {
        let policy = RetryPolicy {
            attempts: 5,
            initial_delay: Duration::from_secs(4),
            max_delay: Duration::from_secs(10),
        };
        let mut retries = Retries::new(&policy);
        for (failures, low, high) in [(1, 2, 4), (2, 4, 8), (3, 5, 10), (4, 5, 10)] {
            retries.failures = failures;
            let delay = retries.delay(&status(503, None)).unwrap();
            assert!((low..=high).contains(&delay.as_secs()), "{delay:?} after {failures} failures");
        }
        retries.failures = 5;
        assert_eq!(retries.delay(&status(503, None)), None);
    }

    #[test]
    fn waits_as_asked_but_not_for_ever() {
        let policy = RetryPolicy::default();
        let retries = Retries { policy: &policy, failures: 1 };
        assert_eq!(retries.delay(&status(429, Some(3))), Some(Duration::from_secs(3)));
        assert_eq!(retries.delay(&status(429, Some(3600))), None);
        assert_eq!(retries.delay(&status(404, None)), None);
    }

    #[test]
    fn reads_seconds_and_dates() {
        let now = "1994-11-06T08:49:00Z".parse().unwrap();
        let parse = |text| parse_retry_after(text, now);
        assert_eq!(parse(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(37)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO), "the past is now");
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("-1"), None);
    }
}
