//! Capabilities as the kernel numbers them, and the step that takes away all that a process is not granted.

use carrack_sys::IoContext;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use crate::Result;

/// All capabilities; the place in the list is the kernel's number (`linux/capability.h`).
#[rustfmt::skip]
pub const ALL: [Capability; 41] = [
    Capability::Chown, Capability::DacOverride, Capability::DacReadSearch, Capability::Fowner,
    Capability::Fsetid, Capability::Kill, Capability::Setgid, Capability::Setuid,
    Capability::Setpcap, Capability::LinuxImmutable, Capability::NetBindService, Capability::NetBroadcast,
    Capability::NetAdmin, Capability::NetRaw, Capability::IpcLock, Capability::IpcOwner,
    Capability::SysModule, Capability::SysRawio, Capability::SysChroot, Capability::SysPtrace,
    Capability::SysPacct, Capability::SysAdmin, Capability::SysBoot, Capability::SysNice,
    Capability::SysResource, Capability::SysTime, Capability::SysTtyConfig, Capability::Mknod,
    Capability::Lease, Capability::AuditWrite, Capability::AuditControl, Capability::Setfcap,
    Capability::MacOverride, Capability::MacAdmin, Capability::Syslog, Capability::WakeAlarm,
    Capability::BlockSuspend, Capability::AuditRead, Capability::Perfmon, Capability::Bpf,
    Capability::CheckpointRestore,
];

/// What a container has unless the user says otherwise: Podman's default list.
pub const DEFAULT: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// The capability called `name`, with or without `CAP_`, in any case.
pub fn parse(name: &str) -> Option<Capability> {
    let upper = name.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    ALL.into_iter().find(|capability| capability.to_string() == name)
}

/// The five sets of a process as bit masks; a set that the spec leaves out is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl Grant {
    pub fn new(spec: Option<&LinuxCapabilities>) -> Self {
        // What this process itself may not do, it cannot grant; asking for it would fail the start (as in crun).
        let own = rustix::thread::capabilities(None).map_or(CapabilitySet::all(), |sets| sets.permitted);
        let grant = |set: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
            spec.and_then(|spec| set(spec).as_ref()).map_or(CapabilitySet::empty(), mask) & own
        };
        Self {
            bounding: grant(LinuxCapabilities::bounding),
            effective: grant(LinuxCapabilities::effective),
            permitted: grant(LinuxCapabilities::permitted),
            inheritable: grant(LinuxCapabilities::inheritable),
            ambient: grant(LinuxCapabilities::ambient),
        }
    }

    /// Shrinks the bounding set; before the user changes, while CAP_SETPCAP is there.
    pub fn drop_bounding(&self) -> Result<()> {
        for number in 0..64 {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if self.bounding.contains(capability) {
                continue;
            }
            match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                Err(Errno::INVAL) => break, // above the last one that this kernel knows
                Err(error) => Err(error).during("drop", "a capability from the bounding set")?,
            }
        }
        Ok(())
    }

    /// Sets all other sets; after the user changed.
    pub fn apply(&self) -> Result<()> {
        let sets = CapabilitySets {
            effective: self.effective,
            permitted: self.permitted,
            inheritable: self.inheritable,
        };
        set_capabilities(None, sets).during("set", "the capabilities")?;
        clear_ambient_capability_set().during("clear", "the ambient capabilities")?;
        for capability in (self.ambient & self.permitted & self.inheritable).iter() {
            configure_capability_in_ambient_set(capability, true).during("set", "an ambient capability")?;
        }
        Ok(())
    }
}

fn mask(set: &Capabilities) -> CapabilitySet {
    let numbers = set.iter().filter_map(|capability| ALL.iter().position(|known| known == capability));
    numbers.fold(CapabilitySet::empty(), |mask, number| mask | CapabilitySet::from_bits_retain(1 << number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_in_every_usual_form() {
        for name in ["CAP_SYS_ADMIN", "sys_admin", "cap_Sys_Admin"] {
            assert_eq!(parse(name), Some(Capability::SysAdmin), "{name}");
        }
        assert_eq!(parse("CAP_CAP_KILL"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(mask(&[Capability::SysAdmin].into()), CapabilitySet::SYS_ADMIN);
        assert_eq!(
            mask(&[Capability::CheckpointRestore, Capability::Chown].into()),
            CapabilitySet::CHECKPOINT_RESTORE | CapabilitySet::CHOWN
        );
    }
}
