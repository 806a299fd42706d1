//! Update: other limits for a container, at once where it runs, and for its later starts.
//!
//! After a crash a running container may have the new limits until it ends, and its record the old ones.

use carrack_container::{Container, Resources, RestartPolicy};
use oci_spec::runtime::LinuxResources;

use crate::error::OperationContext;
use crate::{Engine, Error, Result, limits, spec};

impl Engine {
    /// Gives the container the restart policy, and those limits that `changes` names; all others stay.
    pub fn update_container(
        &self,
        text: &str,
        policy: Option<RestartPolicy>,
        changes: &Resources,
    ) -> Result<()> {
        let container = self.containers.find(text)?;
        if let Some(policy) = policy {
            self.set_restart_policy(text, policy)?;
        }
        if *changes != Resources::default() {
            self.update_found(&container, changes).operation("update container", text)?;
        }
        self.container_event(&container.record, "update", &[]);
        Ok(())
    }

    fn update_found(&self, container: &Container, changes: &Resources) -> Result<()> {
        let locked = self.containers.lock(&container.record.id)?;
        let Container { record, state } = locked.get()?;
        let merged = merged(&record.host.resources, changes);
        limits::check(&merged)?;
        if state.status.has_process() {
            let cgroup = limits::require_cgroup(record.id.as_str(), &merged)?;
            let before = self.changed_limits(&record.host.resources, changes)?;
            let after = self.changed_limits(&merged, changes)?;
            match cgroup.update(&after) {
                Ok(unsupported) => limits::check_supported(changes, &unsupported)?,
                Err(error) => {
                    // Those that were set before one failed.
                    let _ = cgroup.update(&before);
                    return Err(error.into());
                }
            }
        } else if state.status.is_active() {
            return Err(Error::refused("it is being started", "try again when it runs"));
        }
        locked.change_record(|record| record.host.resources = merged)?;
        Ok(())
    }

    /// Of all limits, the kinds that change.
    fn changed_limits(&self, all: &Resources, changes: &Resources) -> Result<LinuxResources> {
        let settings = &self.environment.settings.containers;
        let mut limits = LinuxResources::default();
        limits.set_devices(None);
        let mut changed = limits.clone();
        spec::configure_limits(&mut limits, all, settings)?;
        let mut asked = changed.clone();
        spec::configure_limits(&mut asked, changes, settings)?;
        if asked.memory().is_some() {
            changed.set_memory(*limits.memory());
        }
        if asked.cpu().is_some() {
            changed.set_cpu(limits.cpu().clone());
        }
        if changes.pids_limit.is_some() {
            changed.set_pids(*limits.pids());
        }
        if asked.block_io().is_some() {
            changed.set_block_io(limits.block_io().clone());
        }
        Ok(changed)
    }
}

/// The old limits with the new in their places.
fn merged(old: &Resources, new: &Resources) -> Resources {
    fn list<T: Clone>(old: &[T], new: &[T]) -> Vec<T> {
        if new.is_empty() { old.to_vec() } else { new.to_vec() }
    }
    // A limit of CPUs and a quota take each other's place.
    let has_quota = new.cpu_quota_us.is_some() || new.cpu_period_us.is_some();
    let (nano_cpus, period, quota) = match new.nano_cpus {
        Some(cpus) => (Some(cpus), new.cpu_period_us, new.cpu_quota_us),
        None if has_quota => {
            (None, new.cpu_period_us.or(old.cpu_period_us), new.cpu_quota_us.or(old.cpu_quota_us))
        }
        None => (old.nano_cpus, old.cpu_period_us, old.cpu_quota_us),
    };
    Resources {
        memory_bytes: new.memory_bytes.or(old.memory_bytes),
        memory_swap_bytes: new.memory_swap_bytes.or(old.memory_swap_bytes),
        memory_reservation_bytes: new.memory_reservation_bytes.or(old.memory_reservation_bytes),
        memory_swappiness: new.memory_swappiness.or(old.memory_swappiness),
        oom_kill_disable: new.oom_kill_disable.or(old.oom_kill_disable),
        nano_cpus,
        cpu_shares: new.cpu_shares.or(old.cpu_shares),
        cpu_period_us: period,
        cpu_quota_us: quota,
        cpu_rt_period_us: new.cpu_rt_period_us.or(old.cpu_rt_period_us),
        cpu_rt_runtime_us: new.cpu_rt_runtime_us.or(old.cpu_rt_runtime_us),
        cpuset_cpus: new.cpuset_cpus.clone().or_else(|| old.cpuset_cpus.clone()),
        cpuset_mems: new.cpuset_mems.clone().or_else(|| old.cpuset_mems.clone()),
        pids_limit: new.pids_limit.or(old.pids_limit),
        blkio_weight: new.blkio_weight.or(old.blkio_weight),
        blkio_weight_devices: list(&old.blkio_weight_devices, &new.blkio_weight_devices),
        device_read_bps: list(&old.device_read_bps, &new.device_read_bps),
        device_write_bps: list(&old.device_write_bps, &new.device_write_bps),
        device_read_iops: list(&old.device_read_iops, &new.device_read_iops),
        device_write_iops: list(&old.device_write_iops, &new.device_write_iops),
        ..old.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays_and_a_quota_replaces_a_number_of_cpus() {
        let old = Resources {
            memory_bytes: Some(1),
            nano_cpus: Some(2),
            cgroup_parent: Some("/a".into()),
            ..Resources::default()
        };
        let new = Resources { cpu_quota_us: Some(5000), pids_limit: Some(3), ..Resources::default() };
        let result = merged(&old, &new);
        assert_eq!((result.memory_bytes, result.nano_cpus, result.cpu_quota_us), (Some(1), None, Some(5000)));
        assert_eq!((result.pids_limit, result.cgroup_parent.as_deref()), (Some(3), Some("/a")));
        let back = merged(&result, &Resources { nano_cpus: Some(7), ..Resources::default() });
        assert_eq!((back.nano_cpus, back.cpu_quota_us), (Some(7), None));
    }
}
