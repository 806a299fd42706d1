//! Flags for what a container sees beside its image: `--volume`, `--tmpfs` and what they share with `--mount`.
//!
//! Invariant: an option that is not known is refused by its name; none is ignored.

use std::path::{Component, Path, PathBuf};

use carrack_engine::{
    ImageVolumes, MountDepth, MountOrigin, MountPoint, MountSettings, MountSource, OwnerMap, Relabel,
    TmpfsMount,
};
use clap::Args;

use super::mount_spec;
use crate::failure::{Result, invalid};
use crate::units;

#[derive(Args)]
pub struct MountFlags {
    /// Show a file or folder of the host, or a volume, in the container
    #[arg(short, long, value_name = "[SOURCE:]DESTINATION[:OPTIONS]")]
    volume: Vec<String>,
    /// Mount something: type=bind, volume, tmpfs, image, devpts or glob, and its options
    #[arg(long, value_name = "type=TYPE,KEY=VALUE...")]
    mount: Vec<String>,
    /// Show the volumes and binds of another container
    #[arg(long, value_name = "CONTAINER[:OPTIONS]")]
    volumes_from: Vec<String>,
    /// Mount an empty filesystem in memory
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// What the volumes become that the image declares: anonymous (also called bind), tmpfs or ignore
    #[arg(long, value_name = "KIND", default_value = "anonymous", value_parser = image_volumes)]
    image_volume: ImageVolumes,
    /// Make the root filesystem read-only
    #[arg(long)]
    read_only: bool,
    /// With --read-only: give the container /run, /tmp and /var/tmp in memory to write to
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    read_only_tmpfs: bool,
    /// Size of /dev/shm, as in 64m
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    shm_size: Option<u64>,
}

impl MountFlags {
    /// What is asked of the engine.
    pub fn settings(&self) -> Result<MountSettings> {
        let mut points = self.volume.iter().map(|text| volume(text)).collect::<Result<Vec<_>>>()?;
        for text in &self.mount {
            points.push(mount_spec::mount(text)?);
        }
        Ok(MountSettings {
            points,
            tmpfs: self.tmpfs.iter().map(|text| tmpfs(text)).collect::<Result<_>>()?,
            image_volumes: self.image_volume,
            systemd: false,
            volumes_from: self.volumes_from.clone(),
            read_only: self.read_only,
            read_only_tmpfs: self.read_only_tmpfs,
            shm_size_bytes: self.shm_size,
        })
    }
}

fn image_volumes(text: &str) -> Result<ImageVolumes, String> {
    match text {
        "anonymous" | "bind" | "" => Ok(ImageVolumes::Anonymous),
        "tmpfs" => Ok(ImageVolumes::Tmpfs),
        "ignore" => Ok(ImageVolumes::Ignore),
        _ => Err("expected anonymous, bind, tmpfs or ignore".to_owned()),
    }
}

/// `[SOURCE:]DESTINATION[:OPTIONS]`
fn volume(text: &str) -> Result<MountPoint> {
    let wrong = |expected: &str| invalid("--volume", text, expected);
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [destination] => ("", destination, ""),
        [source, destination] => (source, destination, ""),
        [source, destination, options] => (source, destination, options),
        _ => return Err(wrong("[SOURCE:]DESTINATION[:OPTIONS]")),
    };
    let is_path = source.starts_with(['/', '.']);
    if !is_path && source.contains('/') {
        return Err(wrong("a path that begins with / or ., or the name of a volume"));
    }
    let source = match source {
        "" if parts.len() == 1 => MountSource::default(),
        "" => return Err(wrong("a source before the colon")),
        path if is_path => MountSource::Bind {
            path: std::path::absolute(path).map_err(|_| wrong("a source that is a path"))?,
        },
        name => MountSource::Volume { name: name.to_owned(), anonymous: false },
    };
    let destination = destination_of(destination).map_err(wrong)?;
    let mut point = MountPoint {
        destination,
        source,
        origin: MountOrigin::Volume,
        mode: options.to_owned(),
        make_source: is_path,
        ..MountPoint::default()
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        take_option(&mut point, option).map_err(|expected| wrong(&expected))?;
    }
    check(&point).map_err(|expected| wrong(&expected))?;
    Ok(point)
}

/// An option that `--volume` and `--mount` share.
pub fn take_option(point: &mut MountPoint, option: &str) -> Result<(), String> {
    match option {
        "ro" | "rro" => point.read_only = true,
        "rw" | "rrw" => point.read_only = false,
        "z" => point.relabel = Some(Relabel::Shared),
        "Z" => point.relabel = Some(Relabel::Private),
        "U" => point.chown = true,
        "O" => point.overlay = true,
        "nocopy" => point.no_copy = true,
        "copy" => point.no_copy = false,
        "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable" => {
            point.propagation = Some(option.to_owned());
        }
        "nosuid" | "suid" | "nodev" | "dev" | "noexec" | "exec" => point.attributes.push(option.to_owned()),
        "rbind" => point.depth = MountDepth::Recursive,
        "bind" | "bind-nonrecursive" | "norecursive" => point.depth = MountDepth::Single,
        // Of Docker Desktop's shared folders, which no Linux has.
        "consistent" | "cached" | "delegated" | "default" => {}
        _ => match option.strip_prefix("idmap") {
            Some(rest) => point.idmap = Some(owner_map(rest.strip_prefix('=').unwrap_or(rest))?),
            None => return Err(format!("options as ro, rw, z, Z, U, O, rslave, nocopy, got {option:?}")),
        },
    }
    Ok(())
}

/// Options that contradict each other or the kind of mount.
pub fn check(point: &MountPoint) -> Result<(), String> {
    let is_volume = matches!(point.source, MountSource::Volume { .. });
    let is_bind = matches!(point.source, MountSource::Bind { .. } | MountSource::Glob { .. });
    let wrong = |text: &str| Err(text.to_owned());
    if point.overlay && point.read_only {
        return wrong("either O or ro");
    }
    if point.overlay && point.propagation.is_some() {
        return wrong("no propagation together with O");
    }
    if point.no_copy && !is_volume {
        return wrong("nocopy for volumes only");
    }
    if point.propagation.is_some() && !is_bind && !is_volume {
        return wrong("propagation for binds only");
    }
    if point.depth == MountDepth::ReadOnly && !point.read_only {
        return wrong("readonly together with bind-recursive=readonly");
    }
    if point.depth == MountDepth::ReadOnly && point.propagation.as_deref() != Some("rprivate") {
        return wrong("bind-propagation=rprivate together with bind-recursive=readonly");
    }
    Ok(())
}

/// `uids=FROM-TO-COUNT#...;gids=...`; the same for both when there is only one list.
fn owner_map(text: &str) -> Result<OwnerMap, String> {
    const EXPECTED: &str = "idmap=uids=FROM-TO-COUNT[#...];gids=FROM-TO-COUNT[#...]";
    let mut map = OwnerMap::default();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (kind, ranges) = part.split_once('=').ok_or(EXPECTED)?;
        let ranges = ranges.split('#').map(range).collect::<Option<Vec<_>>>().ok_or(EXPECTED)?;
        match kind {
            "uids" => map.users = ranges,
            "gids" => map.groups = ranges,
            _ => return Err(EXPECTED.to_owned()),
        }
    }
    if map.users.is_empty() || map.groups.is_empty() {
        return Err(EXPECTED.to_owned());
    }
    Ok(map)
}

fn range(text: &str) -> Option<[u32; 3]> {
    let numbers: Vec<u32> =
        text.trim_start_matches('@').split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
    numbers.try_into().ok()
}

/// A path in the container, without `.` and `..`.
pub fn destination_of(text: &str) -> Result<PathBuf, &'static str> {
    if !text.starts_with('/') {
        return Err("a destination that is an absolute path");
    }
    let mut clean = PathBuf::from("/");
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    match clean == Path::new("/") {
        true => Err("a destination other than /"),
        false => Ok(clean),
    }
}

/// `DIR[:OPTIONS]`
fn tmpfs(text: &str) -> Result<TmpfsMount> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    let wrong = |expected: &str| invalid("--tmpfs", text, expected);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        check_tmpfs_option(option).map_err(|expected| wrong(&expected))?;
    }
    Ok(TmpfsMount { destination: destination_of(destination).map_err(wrong)?, options: options.to_owned() })
}

/// What tmpfs(5) and mount(8) know, and `tmpcopyup`.
pub fn check_tmpfs_option(option: &str) -> Result<(), String> {
    const FLAGS: [&str; 24] = [
        "rw",
        "ro",
        "nosuid",
        "suid",
        "nodev",
        "dev",
        "noexec",
        "exec",
        "sync",
        "async",
        "dirsync",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "tmpcopyup",
        "notmpcopyup",
        "noswap",
        "private",
        "rprivate",
    ];
    const KEYS: [&str; 8] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "huge", "mpol"];
    let is_known = match option.split_once('=') {
        Some((key, value)) => KEYS.contains(&key) && !value.is_empty(),
        None => FLAGS.contains(&option),
    };
    match is_known {
        true => Ok(()),
        false => Err(format!("options of tmpfs, as in size=64m,mode=1777, got {option:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_binds_and_volumes_as_docker() {
        let bind = volume("/a:/b/./c/../d:ro,rslave").unwrap();
        assert_eq!(bind.source, MountSource::Bind { path: "/a".into() });
        assert_eq!(
            (bind.destination.to_str(), bind.read_only, bind.mode.as_str()),
            (Some("/b/d"), true, "ro,rslave")
        );
        assert_eq!(bind.propagation.as_deref(), Some("rslave"));
        let named = volume("data:/b:nocopy").unwrap();
        assert_eq!((named.volume(), named.no_copy), (Some("data"), true));
        let own = volume("/b").unwrap();
        assert_eq!(own.source, MountSource::Volume { name: String::new(), anonymous: true });
        for text in [
            "a",
            ":/b",
            "/a:b",
            "/a:/",
            "/a:/b:nope",
            "/a:/b:ro:x",
            "/a:/b:nocopy",
            "/a:/b:O,ro",
            "/a:/b:idmap=x",
        ] {
            assert!(volume(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn reads_mappings_of_owners() {
        let map = owner_map("uids=0-1000-1#1-2000-10;gids=0-1-2").unwrap();
        assert_eq!((map.users, map.groups), (vec![[0, 1000, 1], [1, 2000, 10]], vec![[0, 1, 2]]));
        assert!(owner_map("").is_err() && owner_map("uids=0-1;gids=0-1-2").is_err());
    }

    #[test]
    fn options_of_tmpfs_are_checked() {
        assert!(tmpfs("/x:size=1m,mode=1770,uid=3,exec,tmpcopyup").is_ok());
        assert!(tmpfs("/x:nope").is_err() && tmpfs("x").is_err() && tmpfs("/x:size=").is_err());
    }
}
