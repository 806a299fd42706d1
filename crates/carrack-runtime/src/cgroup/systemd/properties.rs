//! Limits as properties of a systemd unit (systemd.resource-control(5)), by the names that runc and crun use.
//!
//! The files of the cgroup have the last word: they are written after. systemd must know the limits all the same, or it
//! would write its own over them when it next looks at the unit.

use oci_spec::runtime::{LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources};

use super::message::Value;
use crate::cgroup::{Layout, v2};
use crate::{Error, Result};

pub type Properties = Vec<(&'static str, Value)>;

const INFINITY: u64 = u64::MAX;

/// What a scope has beside its limits: its processes, and that its cgroup is the container's to divide.
pub fn of_scope(slice: &str, description: &str, pid: u32, layout: &Layout) -> Properties {
    let is_v1 = layout.v1_of("blkio").is_some();
    vec![
        ("Description", Value::Text(description.to_owned())),
        ("Slice", Value::Text(slice.to_owned())),
        ("Delegate", Value::Bool(true)),
        ("PIDs", Value::Numbers(vec![pid])),
        ("MemoryAccounting", Value::Bool(true)),
        ("CPUAccounting", Value::Bool(true)),
        (if is_v1 { "BlockIOAccounting" } else { "IOAccounting" }, Value::Bool(true)),
        ("TasksAccounting", Value::Bool(true)),
        // It neither waits for the host's boot nor conflicts with its shutdown: the monitor sees to that.
        ("DefaultDependencies", Value::Bool(false)),
    ]
}

/// The limits that `resources` names.
pub fn of_limits(resources: &LinuxResources, layout: &Layout) -> Result<Properties> {
    let mut properties = Properties::new();
    if let Some(memory) = resources.memory() {
        memory_limits(memory, layout, &mut properties);
    }
    if let Some(cpu) = resources.cpu() {
        cpu_limits(cpu, layout, &mut properties)?;
    }
    if let Some(pids) = resources.pids() {
        let most = u64::try_from(pids.limit()).ok().filter(|most| *most > 0);
        properties.push(("TasksMax", Value::Number(most.unwrap_or(INFINITY))));
    }
    if let Some(weight) = resources.block_io().as_ref().and_then(|block_io| block_io.weight())
        && weight > 0
        && layout.v1_of("blkio").is_some()
    {
        properties.push(("BlockIOWeight", Value::Number(u64::from(weight))));
    }
    if let Some(rules) = resources.devices() {
        properties.extend(devices(rules));
    }
    Ok(properties)
}

fn limit(bytes: i64) -> Value {
    Value::Number(u64::try_from(bytes).unwrap_or(INFINITY))
}

fn memory_limits(memory: &LinuxMemory, layout: &Layout, properties: &mut Properties) {
    let is_v1 = layout.v1_of("memory").is_some();
    let most = memory.limit().filter(|bytes| *bytes != 0);
    properties.extend(most.map(|bytes| (if is_v1 { "MemoryLimit" } else { "MemoryMax" }, limit(bytes))));
    if is_v1 {
        return;
    }
    let reservation = memory.reservation().filter(|bytes| *bytes != 0);
    properties.extend(reservation.map(|bytes| ("MemoryLow", limit(bytes))));
    // The specification's number is the sum of memory and swap.
    match (memory.swap().filter(|sum| *sum != 0), most) {
        (Some(..0), _) => properties.push(("MemorySwapMax", Value::Number(INFINITY))),
        (Some(sum), Some(most)) if sum >= most && most > 0 => {
            properties.push(("MemorySwapMax", limit(sum - most)));
        }
        _ => {}
    }
}

fn cpu_limits(cpu: &LinuxCpu, layout: &Layout, properties: &mut Properties) -> Result<()> {
    let is_v1 = layout.v1_of("cpu").is_some();
    if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
        properties.push(match is_v1 {
            true => ("CPUShares", Value::Number(shares)),
            false => ("CPUWeight", Value::Number(v2::weight(shares))),
        });
    }
    let period = cpu.period().filter(|period| *period > 0);
    properties.extend(period.map(|period| ("CPUQuotaPeriodUSec", Value::Number(period))));
    if cpu.quota().is_some() || period.is_some() {
        let quota = cpu.quota().and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota > 0);
        let a_second = quota.map_or(INFINITY, |quota| per_second(quota, period.unwrap_or(100_000)));
        properties.push(("CPUQuotaPerSecUSec", Value::Number(a_second)));
    }
    if !is_v1 {
        for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
            if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
                properties.push((name, Value::Bytes(bits(list)?)));
            }
        }
    }
    Ok(())
}

/// systemd counts in whole percents of a processor; more is given rather than less.
fn per_second(quota: u64, period: u64) -> u64 {
    const PERCENT: u64 = 10_000;
    let exact = u128::from(quota) * 1_000_000 / u128::from(period);
    u64::try_from(exact).unwrap_or(INFINITY / 2).next_multiple_of(PERCENT)
}

/// `0-2,9` as a mask, the lowest number in the lowest bit of the first byte.
fn bits(list: &str) -> Result<Vec<u8>> {
    const MOST: usize = 1 << 13;
    let wrong = || Error::spec(format!("expected a list of numbers below {MOST} as in 0-2,9, got {list:?}"));
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) =
            (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last || last >= MOST {
            return Err(wrong());
        }
        mask.resize(mask.len().max(last / 8 + 1), 0_u8);
        (first..=last).for_each(|number| mask[number / 8] |= 1 << (number % 8));
    }
    Ok(mask)
}

/// What systemd lets through; without it, it would open all devices when it writes the cgroup anew. It knows no
/// exceptions from what is allowed: those are in the cgroup's own rules alone.
fn devices(rules: &[LinuxDeviceCgroup]) -> Properties {
    let is_all = |rule: &LinuxDeviceCgroup| {
        rule.typ().is_none_or(|kind| kind == LinuxDeviceType::A) && numbers(rule) == (None, None)
    };
    let last = rules.iter().rposition(is_all);
    let rest = &rules[last.map_or(0, |last| last + 1)..];
    if last.is_some_and(|last| rules[last].allow()) {
        let nothing = Value::Pairs(Vec::new());
        return vec![("DevicePolicy", Value::Text("auto".to_owned())), ("DeviceAllow", nothing)];
    }
    let allowed = rest.iter().filter(|rule| rule.allow()).filter_map(entry).collect();
    vec![("DevicePolicy", Value::Text("strict".to_owned())), ("DeviceAllow", Value::Pairs(allowed))]
}

fn numbers(rule: &LinuxDeviceCgroup) -> (Option<i64>, Option<i64>) {
    (rule.major().filter(|number| *number >= 0), rule.minor().filter(|number| *number >= 0))
}

/// A device by its numbers, all of a driver, or all of a kind; a number of any driver has no name there.
fn entry(rule: &LinuxDeviceCgroup) -> Option<(String, String)> {
    let kind = match rule.typ()? {
        LinuxDeviceType::B => "block",
        LinuxDeviceType::C | LinuxDeviceType::U => "char",
        _ => return None,
    };
    let path = match numbers(rule) {
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (Some(major), None) => format!("{kind}-{major}"),
        (None, None) => format!("{kind}-*"),
        (None, Some(_)) => return None,
    };
    Some((path, rule.access().clone().unwrap_or_else(|| "rwm".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Hierarchy;
    use oci_spec::runtime::{LinuxBlockIo, LinuxPids};

    fn resources() -> LinuxResources {
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(64 << 20)).set_swap(Some(96 << 20)).set_reservation(Some(32 << 20));
        let mut cpu = LinuxCpu::default();
        cpu.set_shares(Some(1024))
            .set_quota(Some(15_001))
            .set_period(Some(10_000))
            .set_cpus(Some("0-2,9".into()));
        let mut pids = LinuxPids::default();
        pids.set_limit(7);
        let mut block_io = LinuxBlockIo::default();
        block_io.set_weight(Some(500));
        let mut resources = LinuxResources::default();
        resources
            .set_memory(Some(memory))
            .set_cpu(Some(cpu))
            .set_pids(Some(pids))
            .set_block_io(Some(block_io))
            .set_devices(None);
        resources
    }

    fn v1() -> Layout {
        let hierarchy =
            |name: &str| Hierarchy { controllers: name.to_owned(), folder: format!("/x/{name}").into() };
        Layout { v1: ["memory", "cpu,cpuacct", "blkio"].map(hierarchy).to_vec(), ..Layout::default() }
    }

    fn named(properties: &Properties, name: &str) -> Option<Value> {
        properties.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn limits_have_the_names_of_v1_or_of_v2() {
        let old = of_limits(&resources(), &v1()).unwrap();
        let new = of_limits(&resources(), &Layout::default()).unwrap();
        let number = |number: u64| Some(Value::Number(number));
        assert_eq!(named(&old, "MemoryLimit"), number(64 << 20));
        assert_eq!(named(&new, "MemoryMax"), number(64 << 20));
        assert_eq!(
            (named(&new, "MemorySwapMax"), named(&new, "MemoryLow")),
            (number(32 << 20), number(32 << 20))
        );
        assert_eq!((named(&old, "CPUShares"), named(&new, "CPUWeight")), (number(1024), number(39)));
        assert_eq!((named(&old, "BlockIOWeight"), named(&new, "BlockIOWeight")), (number(500), None));
        for properties in [&old, &new] {
            assert_eq!(named(properties, "CPUQuotaPerSecUSec"), number(1_510_000), "rounded up");
            assert_eq!(named(properties, "CPUQuotaPeriodUSec"), number(10_000));
            assert_eq!(named(properties, "TasksMax"), number(7));
        }
        assert_eq!(named(&new, "AllowedCPUs"), Some(Value::Bytes(vec![0b111, 0b10])));
        assert_eq!(named(&old, "AllowedCPUs"), None);
        let accounting = of_scope("a.slice", "", 1, &v1());
        assert!(
            named(&accounting, "BlockIOAccounting").is_some() && named(&accounting, "IOAccounting").is_none()
        );
    }

    #[test]
    fn what_has_no_limit_is_infinite() {
        let mut pids = LinuxPids::default();
        pids.set_limit(-1);
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(-1)).set_swap(Some(-1));
        let mut cpu = LinuxCpu::default();
        cpu.set_quota(Some(-1));
        let mut resources = LinuxResources::default();
        resources.set_pids(Some(pids)).set_memory(Some(memory)).set_cpu(Some(cpu)).set_devices(None);
        let properties = of_limits(&resources, &Layout::default()).unwrap();
        for name in ["TasksMax", "MemoryMax", "MemorySwapMax", "CPUQuotaPerSecUSec"] {
            assert_eq!(named(&properties, name), Some(Value::Number(INFINITY)), "{name}");
        }
        assert!(bits("2-1").is_err() && bits("x").is_err() && bits("99999").is_err());
    }

    #[test]
    fn devices_are_a_list_of_what_is_allowed() {
        let rule = |allow, kind, major, minor, access: &str| {
            let mut rule = LinuxDeviceCgroup::default();
            rule.set_allow(allow).set_typ(Some(kind)).set_major(major).set_minor(minor);
            rule.set_access(Some(access.to_owned()));
            rule
        };
        use LinuxDeviceType::{A, B, C};
        let rules = [
            rule(true, B, Some(8), None, "r"),
            rule(false, A, None, None, "rwm"),
            rule(true, C, Some(1), Some(3), "rwm"),
            rule(true, C, Some(136), None, "rw"),
            rule(true, B, Some(-1), None, "m"),
            rule(true, C, None, Some(7), "r"),
        ];
        let allowed = [("/dev/char/1:3", "rwm"), ("char-136", "rw"), ("block-*", "m")];
        let allowed = allowed.map(|(path, access)| (path.to_owned(), access.to_owned())).to_vec();
        let properties = devices(&rules);
        assert_eq!(named(&properties, "DevicePolicy"), Some(Value::Text("strict".into())));
        assert_eq!(named(&properties, "DeviceAllow"), Some(Value::Pairs(allowed)));
        let everything = devices(&[rule(false, A, None, None, "rwm"), rule(true, A, None, None, "rwm")]);
        assert_eq!(named(&everything, "DevicePolicy"), Some(Value::Text("auto".into())));
    }
}
