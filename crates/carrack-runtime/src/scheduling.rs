//! How the kernel is to run a process: scheduler, I/O priority, personality, processors.
//!
//! Invariant: what the kernel would misread is refused by the parent, before there is a process.

use carrack_sys::IoContext;
use carrack_sys::scheduling as sys;
use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, Linux, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, Process, Scheduler,
};
use rustix::thread::CpuSet;

use crate::{Error, Result};

/// What a process gets before it becomes its program.
#[derive(Debug, Default)]
pub(crate) struct Scheduling {
    scheduler: Option<sys::Scheduling>,
    /// Class and level.
    io_priority: Option<(u16, u16)>,
    personality: Option<u32>,
}

impl Scheduling {
    pub fn plan(process: &Process, linux: Option<&Linux>) -> Result<Self> {
        let personality = linux.and_then(|linux| linux.personality().as_ref());
        if personality.is_some_and(|one| one.flags().as_ref().is_some_and(|flags| !flags.is_empty())) {
            return Err(Error::spec("expected a personality without flags: the specification knows none"));
        }
        let domain = |domain| match domain {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        };
        let io_priority = process.io_priority().as_ref().map(|priority| {
            let class = match priority.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            let level = u16::try_from(priority.priority()).ok().filter(|level| *level < 8);
            let found = priority.priority();
            let wrong = || Error::spec(format!("expected an I/O priority from 0 to 7, got {found}"));
            Ok::<_, Error>((class, level.ok_or_else(wrong)?))
        });
        Ok(Self {
            scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
            io_priority: io_priority.transpose()?,
            personality: personality.map(|one| domain(one.domain())),
        })
    }

    /// Child: while it has all rights, and no filter is in the way.
    pub fn apply(&self) -> Result<()> {
        if let Some(scheduler) = self.scheduler {
            let policy = format!("policy {} for the process", scheduler.policy);
            sys::set_scheduler(scheduler).during("set the scheduling", policy)?;
        }
        if let Some((class, level)) = self.io_priority {
            let priority = format!("class {class}, level {level} for the process");
            sys::set_io_priority(class, level).during("set the I/O priority", priority)?;
        }
        if let Some(domain) = self.personality {
            sys::set_personality(domain).during("set the personality", domain.to_string())?;
        }
        Ok(())
    }
}

fn scheduler(scheduler: &Scheduler) -> Result<sys::Scheduling> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
        LinuxSchedulerPolicy::SchedIso => {
            return Err(Error::spec("the scheduling policy SCHED_ISO does not exist in Linux"));
        }
    };
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(Error::spec(format!("expected a nice value from -20 to 19, got {nice}")));
    }
    let priority = scheduler.priority().unwrap_or(0);
    let is_realtime = matches!(policy, 1 | 2);
    let range = if is_realtime { 1..=99 } else { 0..=0 };
    if !range.contains(&priority) {
        let (first, last) = (range.start(), range.end());
        return Err(Error::spec(format!(
            "expected a scheduling priority from {first} to {last}, got {priority}"
        )));
    }
    let times = [scheduler.runtime(), scheduler.deadline(), scheduler.period()];
    if policy != 6 && times.iter().any(|time| time.is_some_and(|time| time > 0)) {
        return Err(Error::spec("runtime, deadline and period belong to SCHED_DEADLINE only"));
    }
    let flags = scheduler.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSchedulerFlag::SchedResetOnFork => 0x01,
                LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
                LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
                LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
                LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
            }
    });
    Ok(sys::Scheduling {
        size: 0,
        policy,
        flags,
        nice,
        priority: priority.unsigned_abs(),
        runtime: times[0].unwrap_or(0),
        deadline: times[1].unwrap_or(0),
        period: times[2].unwrap_or(0),
    })
}

/// The processors that a further process of a container runs on, before and after it is in the container's cgroup.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    first: Option<CpuSet>,
    last: Option<CpuSet>,
}

impl Affinity {
    pub fn plan(affinity: Option<&ExecCPUAffinity>) -> Result<Self> {
        let set = |text: &Option<String>| {
            text.as_deref().filter(|text| !text.is_empty()).map(processors).transpose()
        };
        let Some(affinity) = affinity else { return Ok(Self::default()) };
        Ok(Self { first: set(affinity.initial())?, last: set(affinity.cpu_affinity_final())? })
    }

    /// The process that makes the other, which inherits it.
    pub fn apply_first(&self) -> Result<()> {
        apply(self.first.as_ref())
    }

    /// Child, once it is in its cgroup.
    pub fn apply_last(&self) -> Result<()> {
        apply(self.last.as_ref())
    }
}

fn apply(set: Option<&CpuSet>) -> Result<()> {
    let Some(set) = set else { return Ok(()) };
    Ok(rustix::thread::sched_setaffinity(None, set).during("set the processors of", "the process")?)
}

/// "0-3,7"
fn processors(list: &str) -> Result<CpuSet> {
    let wrong = || Error::spec(format!("expected a list of processors as in 0-3,7, got {list:?}"));
    let number = |text: &str| -> Result<usize> {
        text.parse().ok().filter(|number| *number < CpuSet::MAX_CPU).ok_or_else(wrong)
    };
    let mut set = CpuSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        (first..=last).for_each(|number| set.set(number));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_lists_of_ranges() {
        let set = processors("0-2,7").unwrap();
        assert_eq!((0..9).filter(|one| set.is_set(*one)).collect::<Vec<_>>(), [0, 1, 2, 7]);
        for text in ["", "a", "3-1", "1,", "-", "5000", "0--1"] {
            assert!(processors(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_kernel_has_not_is_refused() {
        let with = |change: &dyn Fn(&mut Scheduler)| {
            let mut asked = Scheduler::default();
            change(&mut asked);
            scheduler(&asked)
        };
        let fifo = |priority| {
            with(&|asked| {
                asked.set_policy(LinuxSchedulerPolicy::SchedFifo).set_priority(Some(priority));
            })
        };
        assert_eq!(fifo(10).unwrap().priority, 10);
        assert!(fifo(0).is_err() && fifo(100).is_err());
        let changes: [&dyn Fn(&mut Scheduler); 3] =
            [&|asked| _ = asked.set_nice(Some(20)), &|asked| _ = asked.set_runtime(Some(5)), &|asked| {
                _ = asked.set_policy(LinuxSchedulerPolicy::SchedIso)
            }];
        assert!(changes.into_iter().all(|change| with(change).is_err()));
    }
}
