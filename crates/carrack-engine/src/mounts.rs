//! What `create` settles about mounts: where they come from, in which order they are made, and what volumes hold at
//! first.
//!
//! Invariant: a record names volumes that exist and images by their ID; no two mounts have the same destination.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use carrack_container::{
    ImageVolumes, MountDepth, MountOrigin, MountPoint, MountSettings, MountSource, Relabel, TmpfsMount,
    Volume, VolumeName,
};
use carrack_layer::{ArchiveOptions, ExtractOptions};
use carrack_oci::Empty;
use carrack_snapshot::SnapshotKey;
use carrack_sys::lock::Lock;
use carrack_sys::rooted::Root;
use carrack_sys::{IoContext, tree};
use globset::GlobBuilder;

use crate::volumes::{VolumeContent, volume_content};
use crate::{Engine, Error, Result};

/// The mounts of a container that is being created, and what keeps their volumes until its record is written.
pub(crate) struct Settled {
    _volumes: Option<Lock>,
    /// Volumes that were made for this container alone.
    own: Vec<VolumeName>,
}

impl Engine {
    /// Settles the mounts of a container whose files are the snapshot `key`; `volumes` are those of its image.
    pub(crate) fn settle_mounts(
        &self,
        mounts: &mut MountSettings,
        volumes: Option<&BTreeMap<String, Empty>>,
        key: &SnapshotKey,
    ) -> Result<Settled> {
        for text in std::mem::take(&mut mounts.volumes_from) {
            self.take_mounts_of(&text, mounts)?;
            mounts.volumes_from.push(text);
        }
        for path in volumes.into_iter().flat_map(BTreeMap::keys) {
            let destination = clean(Path::new(path));
            if destination == Path::new("/") || has(mounts, &destination) {
                continue;
            }
            let origin = MountOrigin::Inherited;
            match mounts.image_volumes {
                ImageVolumes::Anonymous => {
                    mounts.points.push(MountPoint { destination, origin, ..MountPoint::default() });
                }
                ImageVolumes::Tmpfs => {
                    mounts.tmpfs.push(TmpfsMount { destination, options: "exec".to_owned() });
                }
                ImageVolumes::Ignore => {}
            }
        }
        expand_patterns(&mut mounts.points)?;
        refuse_doubles(mounts)?;
        // What lies below another mount is mounted after it.
        mounts.points.sort_by_key(|point| point.destination.components().count());
        let has_volume = mounts.points.iter().any(|point| point.volume().is_some());
        let held = has_volume.then(|| self.volumes.hold()).transpose()?;
        let mut settled = Settled { _volumes: held, own: Vec::new() };
        for point in &mut mounts.points {
            if let Err(error) = self.settle_point(point, key, &mut settled.own) {
                self.forget_mounts(&settled)?;
                return Err(error);
            }
        }
        Ok(settled)
    }

    /// Removes the volumes that were made for a container which there will not be.
    pub(crate) fn forget_mounts(&self, settled: &Settled) -> Result<()> {
        settled.own.iter().try_for_each(|name| Ok(self.volumes.remove(name)?))
    }

    fn settle_point(
        &self,
        point: &mut MountPoint,
        key: &SnapshotKey,
        own: &mut Vec<VolumeName>,
    ) -> Result<()> {
        match &mut point.source {
            MountSource::Bind { path } => require_source(path, point.make_source),
            MountSource::Image { image } => {
                *image = self.images.find(image)?.record.id().to_string();
                Ok(())
            }
            MountSource::Volume { name, anonymous } => {
                let is_new = name.is_empty();
                let id = if is_new { VolumeName::random()? } else { name.parse()? };
                let volume = self.volume_of(&id, is_new)?;
                if is_new {
                    own.push(id.clone());
                    *anonymous = true;
                }
                *name = id.to_string();
                let wants_content = !point.no_copy && !point.overlay && point.subpath.is_none();
                match wants_content && volume_content(&volume.record)? == VolumeContent::Data {
                    true => self.copy_up(&volume, &point.destination, key),
                    false => Ok(()),
                }
            }
            MountSource::Glob { .. } | MountSource::Tmpfs { .. } | MountSource::Devpts { .. } => Ok(()),
        }
    }

    /// `NAME[:OPTIONS]` of `--volumes-from`
    fn take_mounts_of(&self, text: &str, mounts: &mut MountSettings) -> Result<()> {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let (mut read_only, mut relabel) = (None, None);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = Some(true),
                "rw" => read_only = Some(false),
                "z" => relabel = Some(Relabel::Shared),
                _ => {
                    let message = format!("invalid option {option:?} of --volumes-from {text}");
                    return Err(Error::refused(message, "expected ro, rw or z"));
                }
            }
        }
        let other = self.containers.find(name)?;
        for point in other.record.host.mounts.points {
            let is_shared = matches!(point.source, MountSource::Bind { .. } | MountSource::Volume { .. });
            if !is_shared || has(mounts, &point.destination) {
                continue;
            }
            let source = match point.source {
                // It stays when the other container goes.
                MountSource::Volume { name, .. } => MountSource::Volume { name, anonymous: false },
                other => other,
            };
            mounts.points.push(MountPoint {
                source,
                origin: MountOrigin::Inherited,
                read_only: read_only.unwrap_or(point.read_only),
                relabel: relabel.or(point.relabel),
                mode: if options.is_empty() { point.mode } else { options.to_owned() },
                ..point
            });
        }
        Ok(())
    }

    /// Puts what the image has at `destination` into a volume that is empty, with owners and modes: Docker's way. A
    /// volume that no container has yet gets all of it at once; after a crash it is empty or full.
    fn copy_up(&self, volume: &Volume, destination: &Path, key: &SnapshotKey) -> Result<()> {
        let data = volume.data();
        if fs::read_dir(&data).during("list", &data)?.next().is_some() {
            return Ok(());
        }
        let root = self.snapshots.mount(key)?.read_only().open_root()?;
        let Ok(from) = root.open_dir(destination) else { return Ok(()) };
        let name = volume.record.name.as_str();
        let is_seen = |container: &carrack_container::Container| {
            container.record.host.mounts.points.iter().any(|point| point.volume() == Some(name))
        };
        if self.containers.list()?.iter().any(is_seen) {
            return copy_tree(&from, &Root::open(&data)?);
        }
        let copying = volume.folder.join(format!(".copying-{key}"));
        tree::remove_tree(&copying)?;
        fs::create_dir(&copying).during("create the folder", &copying)?;
        let target = Root::open(&copying)?;
        copy_tree(&from, &target)?;
        rustix::fs::syncfs(&target).during("sync", &copying)?;
        // Over an empty folder. One that somebody has filled meanwhile keeps what it has.
        match fs::rename(&copying, &data) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(tree::remove_tree(&copying)?),
            result => Ok(result.during("rename to", &data)?),
        }
    }
}

/// Copies all below `from` to `to`, and what `from` itself looks like.
fn copy_tree(from: &Root, to: &Root) -> Result<()> {
    let (reader, writer) = std::io::pipe().during("create", "a pipe")?;
    std::thread::scope(|scope| {
        let archive = scope.spawn(move || carrack_layer::archive(from, &ArchiveOptions::default(), writer));
        let extracted = carrack_layer::extract(reader, to, &ExtractOptions::default());
        let archived = archive.join().expect("the thread does not panic");
        // A copy that cannot be written breaks the pipe, and is the reason then.
        extracted.and(archived.map(drop))
    })?;
    if let Some(own) = from.at("")?.metadata()? {
        let place = to.at("")?;
        place.set_owner(own.uid, own.gid)?;
        place.set_mode(own.mode)?;
        place.set_mtime(own.mtime)?;
    }
    Ok(())
}

fn has(mounts: &MountSettings, destination: &Path) -> bool {
    mounts.points.iter().any(|point| point.destination == destination)
        || mounts.tmpfs.iter().any(|tmpfs| tmpfs.destination == destination)
}

fn refuse_doubles(mounts: &MountSettings) -> Result<()> {
    let mut seen: Vec<&Path> = Vec::new();
    let destinations = mounts.points.iter().map(|point| point.destination.as_path());
    for destination in destinations.chain(mounts.tmpfs.iter().map(|tmpfs| tmpfs.destination.as_path())) {
        if seen.contains(&destination) {
            let message = format!("duplicate mount point: {}", destination.display());
            return Err(Error::refused(message, "two mounts cannot have the same destination"));
        }
        seen.push(destination);
    }
    Ok(())
}

/// A source of the host is there, or a folder is made of it.
pub(crate) fn require_source(path: &Path, make: bool) -> Result<()> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound && make => {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
            Ok(made.during("create the folder", path)?)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let message = format!("bind source path does not exist: {}", path.display());
            Err(Error::refused(message, "make it first, or use --volume, which makes a folder"))
        }
        Err(error) => Ok(Err(error).during("examine", path)?),
    }
}

fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

/// Each pattern becomes a bind for what it names, below the destination, or at the same place without one.
fn expand_patterns(points: &mut Vec<MountPoint>) -> Result<()> {
    for point in std::mem::take(points) {
        let MountSource::Glob { pattern } = &point.source else {
            points.push(point);
            continue;
        };
        let found = matches_of(pattern)?;
        if found.is_empty() {
            let message = format!("the pattern {pattern:?} of a mount names no file");
            return Err(Error::refused(message, "quote it, so that the shell leaves it alone"));
        }
        for path in found {
            let destination = match path.file_name() {
                Some(name) if point.destination != Path::new("") => point.destination.join(name),
                _ => path.clone(),
            };
            let source = MountSource::Bind { path };
            points.push(MountPoint { destination, source, ..point.clone() });
        }
    }
    Ok(())
}

/// The paths of the host that a pattern names, sorted: `*`, `?` and `[...]` in any of its names.
fn matches_of(pattern: &str) -> Result<Vec<PathBuf>> {
    let absolute = std::path::absolute(pattern).during("resolve", pattern)?;
    let mut found = vec![PathBuf::from("/")];
    for part in absolute.components() {
        let Component::Normal(name) = part else { continue };
        let text = name.to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|path| path.push(name));
            found.retain(|path| path.exists());
            continue;
        }
        let glob = GlobBuilder::new(&text).literal_separator(true).build();
        let glob = glob.map_err(|error| Error::refused(format!("invalid pattern: {error}"), ""))?;
        let matcher = glob.compile_matcher();
        let names = |folder: &PathBuf| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let is_meant = |name: &std::ffi::OsString| {
                let is_hidden = name.as_encoded_bytes().starts_with(b".");
                matcher.is_match(name) && (!is_hidden || text.starts_with('.'))
            };
            entries.map(|entry| entry.file_name()).filter(is_meant).map(|name| folder.join(name)).collect()
        };
        found = found.iter().flat_map::<Vec<PathBuf>, _>(names).collect();
    }
    found.sort();
    Ok(found)
}

/// Whether mounts below a source are seen too.
pub(crate) fn is_recursive(point: &MountPoint) -> bool {
    point.depth != MountDepth::Single
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["one/lib1.so", "one/lib2.so", "two/lib3.so", "two/.lib4.so", "two/other"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let pattern = folder.path().join("*/*lib?.so");
        let found = matches_of(pattern.to_str().unwrap()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(folder.path()).unwrap()).collect();
        assert_eq!(names, ["one/lib1.so", "one/lib2.so", "two/lib3.so"].map(Path::new));
        let source = MountSource::Glob { pattern: pattern.to_str().unwrap().into() };
        let mut points = vec![MountPoint { destination: "/d".into(), source, ..MountPoint::default() }];
        expand_patterns(&mut points).unwrap();
        assert_eq!(points.len(), 3);
        assert_eq!(points[0].destination, Path::new("/d/lib1.so"));
        assert!(
            expand_patterns(&mut vec![MountPoint {
                source: MountSource::Glob { pattern: "/no/such*".into() },
                ..MountPoint::default()
            }])
            .is_err()
        );
    }

    #[test]
    fn two_mounts_at_one_place_are_refused() {
        let point = MountPoint { destination: "/a".into(), ..MountPoint::default() };
        let mut mounts = MountSettings { points: vec![point.clone()], ..MountSettings::default() };
        assert!(refuse_doubles(&mounts).is_ok());
        mounts.points.push(point);
        assert!(refuse_doubles(&mounts).is_err());
    }

    #[test]
    fn a_copied_tree_has_owners_modes_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/file"), "x").unwrap();
        std::os::unix::fs::symlink("/outside", from.join("link")).unwrap();
        std::os::unix::fs::chown(&from, Some(7), Some(8)).unwrap();
        copy_tree(&Root::open(&from).unwrap(), &Root::open(&to).unwrap()).unwrap();
        assert_eq!(fs::read_to_string(to.join("sub/file")).unwrap(), "x");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/outside"));
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(&to).unwrap()), 7);
    }
}
