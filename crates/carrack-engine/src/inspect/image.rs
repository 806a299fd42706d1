//! `docker image inspect`.

use carrack_image::{Found, Image};
use carrack_oci::{ContainerConfig, Reference};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ZERO_TIME;

/// What Docker wrote into configs before the OCI specification and still shows.
#[derive(Default, Deserialize)]
pub struct LegacyConfig {
    #[serde(default)]
    container: String,
    #[serde(default)]
    docker_version: String,
}

/// The image as JSON; `legacy` are the old fields of its config.
pub fn image_json(found: &Found, image: &Image, legacy: &LegacyConfig) -> Value {
    let names: Vec<&Reference> = found.names.iter().filter_map(|record| record.reference.as_ref()).collect();
    let tagged = names.iter().filter(|name| name.tag().is_some());
    let digests = found.names.iter().filter_map(|record| record.repo_digest());
    let (config, record) = (&image.config, &found.record);
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    // Without a remark of its own an image has that of its last step.
    let last_remark = || config.history.last().and_then(|step| step.comment.clone());
    let comment = config.comment.clone().filter(|comment| !comment.is_empty()).or_else(last_remark);
    let last_tag = found.names.iter().filter_map(|record| record.tagged).max();
    let mut value = json!({
        "Id": record.id().to_string(),
        "RepoTags": tagged.map(|name| name.familiar()).collect::<Vec<_>>(),
        "RepoDigests": digests.map(|name| name.familiar()).collect::<std::collections::BTreeSet<_>>(),
        "Parent": "",
        "Comment": text(&comment),
        "Created": config.created.as_deref().unwrap_or(ZERO_TIME),
        "Container": legacy.container,
        "DockerVersion": legacy.docker_version,
        "Author": text(&config.author),
        "Config": image_config_json(&config.config),
        "Architecture": config.architecture,
        "Variant": text(&config.variant),
        "Os": config.os,
        "Size": record.size_bytes,
        "VirtualSize": record.size_bytes,
        "GraphDriver": null,
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
        "Metadata": {"LastTagTime": last_tag.map_or_else(|| ZERO_TIME.to_owned(), |time| time.to_string())},
        "Descriptor": record.target,
    });
    if let Some(version) = &config.os_version {
        value["OsVersion"] = json!(version);
    }
    value
}

/// Docker prints every field of an image's config, also the empty ones.
fn image_config_json(config: &ContainerConfig) -> Value {
    let mut fields: Map<String, Value> = [
        ("User", json!("")),
        ("Env", json!([])),
        ("Cmd", Value::Null),
        ("Volumes", Value::Null),
        ("WorkingDir", json!("")),
        ("Entrypoint", Value::Null),
        ("OnBuild", Value::Null),
        ("Labels", Value::Null),
        ("ExposedPorts", Value::Null),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    if let Ok(Value::Object(given)) = serde_json::to_value(config) {
        fields.extend(given);
    }
    Value::Object(fields)
}
