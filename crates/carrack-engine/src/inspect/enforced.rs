//! What the kernel was told to hold a container to, read from the spec that it was last started from.

use carrack_runtime::Landlock;
use oci_spec::runtime::{Capabilities, LinuxNamespaceType, Spec};
use serde_json::{Value, json};

/// Adds it to the JSON of a container, in the fields that Docker and podman have, and in `Security`. A container that
/// was not started since the host was has nothing of it.
pub fn add(value: &mut Value, spec: Option<&Spec>, landlock: Option<&Landlock>) {
    let process = spec.and_then(|spec| spec.process().as_ref());
    let linux = spec.and_then(|spec| spec.linux().as_ref());
    let sets = process.and_then(|process| process.capabilities().as_ref());
    let text = |field: Option<&String>| field.cloned().unwrap_or_default();
    value["EffectiveCaps"] = names(sets.and_then(|sets| sets.effective().as_ref()));
    value["BoundingCaps"] = names(sets.and_then(|sets| sets.bounding().as_ref()));
    value["AppArmorProfile"] = json!(text(process.and_then(|process| process.apparmor_profile().as_ref())));
    value["ProcessLabel"] = json!(text(process.and_then(|process| process.selinux_label().as_ref())));
    value["MountLabel"] = json!(text(linux.and_then(|linux| linux.mount_label().as_ref())));
    let host = &mut value["HostConfig"];
    host["MaskedPaths"] = json!(linux.and_then(|linux| linux.masked_paths().clone()));
    host["ReadonlyPaths"] = json!(linux.and_then(|linux| linux.readonly_paths().clone()));
    let (Some(spec), Some(process), Some(linux)) = (spec, process, linux) else {
        value["Security"] = Value::Null;
        return;
    };
    let seccomp = linux.seccomp().as_ref();
    let namespaces = linux.namespaces().iter().flatten();
    let own: Vec<String> = namespaces.map(|namespace| namespace.typ().to_string()).collect();
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().as_ref());
    value["Security"] = json!({
        "NoNewPrivileges": process.no_new_privileges().unwrap_or(false),
        "Seccomp": seccomp.map_or("unconfined".to_owned(), |profile| profile.default_action().to_string()),
        "ReadonlyRootfs": spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
        "UserNamespace": own.contains(&LinuxNamespaceType::User.to_string()),
        "Namespaces": own,
        "Uid": process.user().uid(),
        "Gid": process.user().gid(),
        "AdditionalGids": process.user().additional_gids(),
        "DeviceRules": rules,
        "Landlock": landlock.map(Landlock::rules),
    });
}

/// `["CAP_CHOWN"]`, in order.
fn names(set: Option<&Capabilities>) -> Value {
    let mut names: Vec<String> =
        set.into_iter().flatten().map(|capability| format!("CAP_{capability}")).collect();
    names.sort();
    json!(names)
}
