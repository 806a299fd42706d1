//! Slows down whoever guesses passwords.
//!
//! Invariant: after [`FREE_FAILURES`] failures from an address, each further one doubles the time for which the
//! address is not listened to; a success clears it. Memory is bounded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FREE_FAILURES: u32 = 10;
const LONGEST: Duration = Duration::from_secs(300);
const MAX_ADDRESSES: usize = 10_000;

struct Record {
    failures: u32,
    last: Instant,
}

impl Record {
    fn wait(&self, now: Instant) -> Duration {
        let Some(excess) = self.failures.checked_sub(FREE_FAILURES) else { return Duration::ZERO };
        let penalty = Duration::from_secs(1 << excess.min(16)).min(LONGEST);
        penalty.saturating_sub(now.saturating_duration_since(self.last))
    }
}

/// Failures by address.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<HashMap<IpAddr, Record>>);

impl Throttle {
    /// How long `peer` has to wait before a password of its is looked at.
    pub(crate) fn wait(&self, peer: IpAddr, now: Instant) -> Duration {
        self.records().get(&network(peer)).map_or(Duration::ZERO, |record| record.wait(now))
    }

    /// Counts a wrong password.
    pub(crate) fn fail(&self, peer: IpAddr, now: Instant) {
        let mut records = self.records();
        if records.len() >= MAX_ADDRESSES {
            records.retain(|_, record| record.wait(now) > Duration::ZERO);
        }
        if records.len() >= MAX_ADDRESSES {
            records.clear();
        }
        let record = records.entry(network(peer)).or_insert(Record { failures: 0, last: now });
        if now.saturating_duration_since(record.last) > 2 * LONGEST {
            record.failures = 0;
        }
        record.failures = record.failures.saturating_add(1);
        record.last = now;
    }

    /// Forgets the failures of an address that has shown a right password.
    pub(crate) fn forgive(&self, peer: IpAddr) {
        self.records().remove(&network(peer));
    }

    fn records(&self) -> MutexGuard<'_, HashMap<IpAddr, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One IPv6 user has a whole /64.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_a_success_ends_them() {
        let (throttle, peer, now) = (Throttle::default(), "192.0.2.1".parse().unwrap(), Instant::now());
        for _ in 0..FREE_FAILURES - 1 {
            throttle.fail(peer, now);
        }
        assert_eq!(throttle.wait(peer, now), Duration::ZERO);
        throttle.fail(peer, now);
        assert_eq!(throttle.wait(peer, now), Duration::from_secs(1));
        throttle.fail(peer, now);
        assert_eq!(throttle.wait(peer, now), Duration::from_secs(2));
        assert_eq!(throttle.wait(peer, now + Duration::from_secs(3)), Duration::ZERO);
        for _ in 0..100 {
            throttle.fail(peer, now);
        }
        assert_eq!(throttle.wait(peer, now), LONGEST);
        assert_eq!(throttle.wait("192.0.2.2".parse().unwrap(), now), Duration::ZERO);
        throttle.forgive(peer);
        assert_eq!(throttle.wait(peer, now), Duration::ZERO);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..FREE_FAILURES {
            throttle.fail(format!("2001:db8::{number}").parse().unwrap(), now);
        }
        assert!(throttle.wait("2001:db8::ffff".parse().unwrap(), now) > Duration::ZERO);
        assert_eq!(throttle.wait("2001:db8:1::1".parse().unwrap(), now), Duration::ZERO);
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..3 * MAX_ADDRESSES as u32 {
            throttle.fail(IpAddr::V4(number.into()), now);
        }
        assert!(throttle.records().len() <= MAX_ADDRESSES);
    }
}
