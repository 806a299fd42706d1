//! Resource limits: lowered to what this process may set, never a failure.

use carrack_sys::IoContext;
use oci_spec::runtime::{PosixRlimit, PosixRlimitType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Result;

/// A limit that was asked for and could not be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit {name} is {granted} and not {wanted}: raising it above the own hard limit needs CAP_SYS_RESOURCE"
)]
pub struct ClampedRlimit {
    /// As in the spec, e.g. "RLIMIT_NOFILE".
    pub name: String,
    /// The hard limit asked for.
    pub wanted: u64,
    /// The hard limit that the process gets.
    pub granted: u64,
}

/// Limits to set just before the exec.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rlimits {
    limits: Vec<(Resource, Rlimit)>,
    pub clamped: Vec<ClampedRlimit>,
}

impl Rlimits {
    /// `may_raise`: whether this process has CAP_SYS_RESOURCE.
    pub fn plan(wanted: &[PosixRlimit], may_raise: bool) -> Self {
        let mut plan = Self::default();
        for limit in wanted {
            let resource = resource(limit.typ());
            // `None` is "unlimited" on both sides.
            let ceiling = if may_raise { u64::MAX } else { getrlimit(resource).maximum.unwrap_or(u64::MAX) };
            let hard = limit.hard().min(ceiling);
            let soft = limit.soft().min(hard);
            if hard < limit.hard() {
                let (name, wanted) = (limit.typ().to_string(), limit.hard());
                plan.clamped.push(ClampedRlimit { name, wanted, granted: hard });
            }
            plan.limits.push((resource, Rlimit { current: finite(soft), maximum: finite(hard) }));
        }
        plan
    }

    pub fn apply(&self) -> Result<()> {
        for (resource, limit) in &self.limits {
            setrlimit(*resource, *limit).during("set", format!("the limit {resource:?}"))?;
        }
        Ok(())
    }
}

fn finite(limit: u64) -> Option<u64> {
    (limit != u64::MAX).then_some(limit)
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::PosixRlimitBuilder;

    fn limit(soft: u64, hard: u64) -> PosixRlimit {
        let builder = PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile);
        builder.soft(soft).hard(hard).build().unwrap()
    }

    #[test]
    fn a_limit_above_the_own_is_lowered_with_a_word() {
        let own = getrlimit(Resource::Nofile).maximum.unwrap();
        let plan = Rlimits::plan(&[limit(u64::MAX, u64::MAX)], false);
        assert_eq!(plan.limits[0].1, Rlimit { current: Some(own), maximum: Some(own) });
        assert_eq!(plan.clamped[0].granted, own);
        assert_eq!(plan.clamped[0].name, "RLIMIT_NOFILE");
    }

    #[test]
    fn a_limit_below_the_own_is_kept_and_soft_is_at_most_hard() {
        let plan = Rlimits::plan(&[limit(64, 32)], false);
        assert_eq!(plan.limits[0].1, Rlimit { current: Some(32), maximum: Some(32) });
        assert!(plan.clamped.is_empty());
    }
}
