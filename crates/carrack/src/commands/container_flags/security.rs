//! Flags for what the processes of a container may do.

use carrack_engine::SecuritySettings;
use clap::{ArgAction, Args};

#[derive(Args)]
pub struct SecurityFlags {
    /// Let the container do what root of the host may: all capabilities, no seccomp, nothing masked, all devices
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, value_name = "BOOL")]
    privileged: bool,
    /// Grant a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=unconfined|FILE, apparmor=PROFILE, label=disable|type:TYPE ..., mask=PATHS,
    /// unmask=ALL|PATHS, systempaths=unconfined, proc-opts=OPTIONS, landlock=ro:PATH,rw:PATH
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
}

impl SecurityFlags {
    /// What is asked of the engine.
    pub fn settings(&self) -> SecuritySettings {
        SecuritySettings {
            privileged: self.privileged,
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            options: self.security_opt.clone(),
            contexts: None,
        }
    }
}
