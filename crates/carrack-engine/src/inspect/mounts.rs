//! Mounts of `docker container inspect`: as asked for in `HostConfig`, as they are in `Mounts`.

use std::path::Path;

use carrack_container::{MountDepth, MountOrigin, MountPoint, MountSettings, MountSource};
use serde_json::{Map, Value, json};

/// The fields of `HostConfig`: binds and named volumes of `--volume` as texts, those of `--mount` as objects.
pub fn asked(mounts: &MountSettings) -> Value {
    let of = |origin| mounts.points.iter().filter(move |point| point.origin == origin);
    let tmpfs =
        mounts.tmpfs.iter().map(|mount| (mount.destination.display().to_string(), json!(mount.options)));
    json!({
        "Binds": of(MountOrigin::Volume).filter_map(bind_text).collect::<Vec<_>>(),
        "Mounts": of(MountOrigin::Mount).map(mount_object).collect::<Vec<_>>(),
        "VolumesFrom": if mounts.volumes_from.is_empty() { Value::Null } else { json!(mounts.volumes_from) },
        "ReadonlyRootfs": mounts.read_only,
        "Tmpfs": tmpfs.collect::<Map<_, _>>(),
        "ShmSize": mounts.shm_size_bytes.unwrap_or(64 << 20),
    })
}

fn bind_text(point: &MountPoint) -> Option<String> {
    let source = match &point.source {
        MountSource::Bind { path } => path.display().to_string(),
        MountSource::Volume { name, anonymous: false } => name.clone(),
        _ => return None,
    };
    let mode = if point.mode.is_empty() { String::new() } else { format!(":{}", point.mode) };
    Some(format!("{source}:{}{mode}", point.destination.display()))
}

fn mount_object(point: &MountPoint) -> Value {
    let mut object = json!({
        "Type": type_of(&point.source),
        "Source": match &point.source {
            MountSource::Bind { path } => path.display().to_string(),
            MountSource::Volume { name, .. } => name.clone(),
            MountSource::Image { image } => image.clone(),
            MountSource::Glob { pattern } => pattern.clone(),
            MountSource::Tmpfs { .. } | MountSource::Devpts { .. } => String::new(),
        },
        "Target": point.destination,
        "ReadOnly": point.read_only,
    });
    let subpath = point.subpath.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    match &point.source {
        MountSource::Bind { .. } | MountSource::Glob { .. } => {
            object["BindOptions"] = json!({
                "Propagation": point.propagation.as_deref().unwrap_or("rprivate"),
                "NonRecursive": point.depth == MountDepth::Single,
                "ReadOnlyNonRecursive": point.depth == MountDepth::Writable,
                "ReadOnlyForceRecursive": point.depth == MountDepth::ReadOnly,
                "CreateMountpoint": point.make_source,
            });
        }
        MountSource::Volume { .. } => {
            object["VolumeOptions"] = json!({"NoCopy": point.no_copy, "Subpath": subpath});
        }
        MountSource::Image { .. } => object["ImageOptions"] = json!({"Subpath": subpath}),
        MountSource::Tmpfs { options } | MountSource::Devpts { options } => {
            object["TmpfsOptions"] = tmpfs_options(options);
        }
    }
    object
}

/// Docker's two fields where they are asked for, and everything else as options.
fn tmpfs_options(options: &[String]) -> Value {
    let mut fields = Map::new();
    let mut others = Vec::new();
    for option in options {
        let pair = option.split_once('=').unwrap_or((option, ""));
        let mode = u32::from_str_radix(pair.1, 8).ok();
        match (pair, pair.1.parse::<u64>().ok()) {
            (("size", _), Some(bytes)) => drop(fields.insert("SizeBytes".to_owned(), json!(bytes))),
            (("mode", _), _) if mode.is_some() => drop(fields.insert("Mode".to_owned(), json!(mode))),
            ((key, ""), _) => others.push(json!([key])),
            ((key, value), _) => others.push(json!([key, value])),
        }
    }
    if !others.is_empty() {
        fields.insert("Options".to_owned(), Value::Array(others));
    }
    Value::Object(fields)
}

/// `Config.Volumes`: the places of volumes that have no name of the user's.
pub fn own_volumes(mounts: &MountSettings) -> Value {
    let is_own = |point: &&MountPoint| matches!(point.source, MountSource::Volume { anonymous: true, .. });
    let places: Map<_, _> = mounts
        .points
        .iter()
        .filter(is_own)
        .map(|point| (point.destination.display().to_string(), json!({})))
        .collect();
    if places.is_empty() { Value::Null } else { Value::Object(places) }
}

/// The field `Mounts`; `volumes` is the folder of all volumes.
pub fn effective(mounts: &MountSettings, volumes: &Path) -> Value {
    Value::Array(mounts.points.iter().map(|point| mount_json(point, volumes)).collect())
}

fn mount_json(point: &MountPoint, volumes: &Path) -> Value {
    let mut object = Map::new();
    object.insert("Type".to_owned(), json!(type_of(&point.source)));
    let is_bind = matches!(point.source, MountSource::Bind { .. });
    let is_volume = matches!(point.source, MountSource::Volume { .. });
    let source = match &point.source {
        MountSource::Bind { path } => json!(path),
        MountSource::Volume { name, .. } => {
            object.insert("Name".to_owned(), json!(name));
            json!(volumes.join(name).join("_data"))
        }
        MountSource::Image { image } => json!(image),
        _ => json!(""),
    };
    object.insert("Source".to_owned(), source);
    object.insert("Destination".to_owned(), json!(point.destination));
    if is_volume {
        object.insert("Driver".to_owned(), json!("local"));
    }
    // Docker's default for named volumes of --volume.
    let is_plain_volume = is_volume && point.mode.is_empty() && point.origin != MountOrigin::Inherited;
    let default = if is_plain_volume && !own(point) { "z" } else { "" };
    object.insert("Mode".to_owned(), json!(if point.mode.is_empty() { default } else { &point.mode }));
    object.insert("RW".to_owned(), json!(!point.read_only));
    let propagation = if is_bind { point.propagation.as_deref().unwrap_or("rprivate") } else { "" };
    object.insert("Propagation".to_owned(), json!(propagation));
    Value::Object(object)
}

fn own(point: &MountPoint) -> bool {
    matches!(point.source, MountSource::Volume { anonymous: true, .. })
}

fn type_of(source: &MountSource) -> &'static str {
    match source {
        MountSource::Bind { .. } => "bind",
        MountSource::Glob { .. } => "glob",
        MountSource::Volume { .. } => "volume",
        MountSource::Tmpfs { .. } => "tmpfs",
        MountSource::Image { .. } => "image",
        MountSource::Devpts { .. } => "devpts",
    }
}
