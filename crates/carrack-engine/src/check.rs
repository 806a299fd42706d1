//! Check: is everything that a record names there, and is it what it should be?
//!
//! Invariant: a check changes nothing, and one thing that is wrong hides no other.

use std::collections::BTreeSet;
use std::path::PathBuf;

use carrack_container::{ContainerId, ContainerName, MountPoint, VolumeName};
use carrack_image::{Image, ImageRecord, Layer};
use carrack_oci::{ChainId, Digest};
use carrack_snapshot::{Driver, SnapshotKey, SnapshotName};

use crate::leftovers::Leftovers;
use crate::{Engine, Result};

/// How closely a check looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckDepth {
    /// Records, and whether what they name is there.
    Quick,
    /// Also every byte of blobs and snapshots.
    Full,
}

/// What a check has seen.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Number of images.
    pub images: usize,
    /// Number of blobs.
    pub blobs: usize,
    /// Number of committed and active snapshots.
    pub snapshots: usize,
    /// Number of containers.
    pub containers: usize,
    /// Number of volumes.
    pub volumes: usize,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What the next collection takes, which is not wrong; `None` when an operation was at work.
    pub leftovers: Option<Leftovers>,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    /// What it is wrong with, as in "image app:1".
    pub object: String,
    /// What was expected and what is there.
    pub reason: String,
    pub(crate) damage: Damage,
}

/// What a repair has to deal with.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    /// A file that nothing can be made of.
    Stray(PathBuf),
    /// The same, where users put files of their own.
    Foreign(PathBuf),
    Blob(Digest),
    /// A record that cannot be read.
    Record(PathBuf),
    /// A manifest list that cannot be read.
    List(PathBuf),
    /// A part of the image is not in the store.
    Image(Box<ImageRecord>),
    /// The image has all its bytes; a snapshot of them is missing.
    Stack(Box<ImageRecord>),
    Snapshot(carrack_snapshot::Problem),
    Container(ContainerId),
    /// The container is whole, but not to be found by its name.
    Name(ContainerId, ContainerName),
    /// Its content is there, as far as there ever was one.
    Volume(VolumeName),
    /// Of which only the user can say what it held.
    LostVolume(String),
    /// A lease that cannot be read.
    Lease(PathBuf),
    Events,
    /// In the store of another driver than the one in use.
    Elsewhere(Driver, Box<Damage>),
}

impl Damage {
    /// What a user can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Image(record) => match &record.reference {
                Some(reference) => format!("pull it again: carrack pull {}", reference.familiar()),
                None => format!("remove it: carrack rmi {}", record.id().short()),
            },
            Self::LostVolume(name) => format!("make it anew: carrack volume create {name}"),
            Self::Foreign(path) => {
                format!("move {} away, or run carrack system check --repair --force", path.display())
            }
            Self::Elsewhere(_, damage) => damage.remedy(),
            Self::Container(id) => format!("remove the container: carrack rm --force {}", id.short()),
            _ => "run carrack system check --repair".to_owned(),
        }
    }
}

impl Problem {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        self.damage.remedy()
    }
}

impl Engine {
    /// Looks for everything that is wrong in the store. Operations go on meanwhile; only collections wait.
    pub fn check(&self, depth: CheckDepth) -> Result<CheckReport> {
        // Damage can make it impossible to say what is named.
        let leftovers = self.leftovers().unwrap_or_default();
        let _operation = self.operation()?;
        Ok(CheckReport { leftovers, ..self.examine(depth)? })
    }

    /// [`Engine::check`] without leftovers; needs that no collection runs.
    pub(crate) fn examine(&self, depth: CheckDepth) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        self.examine_blobs(depth, &mut report)?;
        self.examine_snapshots(&mut report)?;
        self.examine_images(depth, &mut report)?;
        for (path, error) in self.lists.damaged()? {
            let reason = format!("it is no manifest list: {error}");
            report.add(format!("file {}", path.display()), reason, Damage::List(path));
        }
        self.examine_containers(&mut report)?;
        self.examine_volumes(&mut report)?;
        self.examine_other_drivers(depth, &mut report)?;
        self.examine_run_state(&mut report)?;
        Ok(report)
    }

    fn examine_blobs(&self, depth: CheckDepth, report: &mut CheckReport) -> Result<()> {
        for path in self.content.strays()? {
            report.add(format!("file {}", path.display()), "it is no blob", Damage::Stray(path));
        }
        let blobs = self.content.list()?;
        report.blobs = blobs.len();
        for (digest, _) in blobs.into_iter().filter(|_| depth == CheckDepth::Full) {
            if let Err(error) = self.content.verify(&digest) {
                report.add(format!("blob {digest}"), error, Damage::Blob(digest));
            }
        }
        Ok(())
    }

    pub(crate) fn examine_snapshots(&self, report: &mut CheckReport) -> Result<()> {
        for problem in self.snapshots.check()? {
            let object = match &problem.snapshot {
                Some(SnapshotName::Committed(id)) => format!("snapshot {id}"),
                Some(SnapshotName::Key(key)) => format!("snapshot {key}"),
                None => format!("file {}", problem.path.display()),
            };
            let damage = match problem.snapshot.as_ref().and_then(container_of) {
                Some(id) => Damage::Container(id),
                None => Damage::Snapshot(problem.clone()),
            };
            report.add(object, &problem.reason, damage);
        }
        Ok(())
    }

    fn examine_images(&self, depth: CheckDepth, report: &mut CheckReport) -> Result<()> {
        let scan = self.images.scan()?;
        report.images = scan.records.len();
        for (path, error) in scan.damaged {
            report.add(format!("file {}", path.display()), error, Damage::Record(path));
        }
        let mut compared = BTreeSet::new();
        for record in scan.records {
            let name = record
                .reference
                .as_ref()
                .map_or_else(|| record.id().short().to_owned(), |name| name.familiar());
            match self.image_damage(&record) {
                Ok(None) => {}
                Ok(Some((reason, damage))) => {
                    report.add(format!("image {name}"), reason, damage);
                    continue;
                }
                Err(error) => {
                    report.add(format!("image {name}"), error.with_causes(), Damage::Image(Box::new(record)));
                    continue;
                }
            }
            if depth == CheckDepth::Full {
                self.compare_layers(&record, &mut compared, report)?;
            }
        }
        Ok(())
    }

    /// Whether something that a record names is not there.
    fn image_damage(&self, record: &ImageRecord) -> Result<Option<(String, Damage)>> {
        let image = Image::load(&self.content, &record.manifest)?;
        if self.content.size(&record.target.digest)?.is_none() {
            let reason = format!("the blob {} is not in the store", record.target.digest);
            return Ok(Some((reason, Damage::Image(Box::new(record.clone())))));
        }
        let mut damage = None;
        for (position, layer) in image.layers().iter().enumerate() {
            let number = format!("layer {} of {}", position + 1, image.manifest.layers.len());
            if !self.has_bytes(layer)? {
                let reason = format!("{number} ({}) is not in the store", layer.descriptor.digest);
                return Ok(Some((reason, Damage::Image(Box::new(record.clone())))));
            }
            if damage.is_none() && !self.snapshots.contains(&layer.chain_id)? {
                let reason = format!("the snapshot of {number} is not in the store");
                damage = Some((reason, Damage::Stack(Box::new(record.clone()))));
            }
        }
        Ok(damage)
    }

    pub(crate) fn has_bytes(&self, layer: &Layer<'_>) -> Result<bool> {
        self.has_layer(&layer.descriptor.digest, layer.diff_id)
    }

    /// Compares the snapshots of an image with its layers; those that `compared` has were compared already.
    pub(crate) fn compare_layers(
        &self,
        record: &ImageRecord,
        compared: &mut BTreeSet<ChainId>,
        report: &mut CheckReport,
    ) -> Result<()> {
        let image = Image::load(&self.content, &record.manifest)?;
        for layer in image.layers() {
            // Another driver may have made it; this one makes it when it is needed.
            if !compared.insert(layer.chain_id.clone()) || !self.snapshots.contains(&layer.chain_id)? {
                continue;
            }
            let mut tar = self.open_layer_tar(&layer.descriptor.digest, layer.diff_id)?;
            let object = format!("snapshot {}", layer.chain_id);
            match self.snapshots.verify(&layer.chain_id, &mut tar) {
                Ok(None) => {}
                Ok(Some(problem)) => report.add(object, &problem.reason, Damage::Snapshot(problem.clone())),
                // A damaged blob is reported as such.
                Err(carrack_snapshot::Error::Layer(_)) if report.has_blob(&layer) => {}
                Err(error) => report.add(object, error, Damage::Image(Box::new(record.clone()))),
            }
        }
        Ok(())
    }

    /// Volumes that cannot be read, and those that a container names and nobody has.
    fn examine_volumes(&self, report: &mut CheckReport) -> Result<()> {
        let names = self.volumes.names()?;
        let _held = if names.is_empty() { None } else { Some(self.volumes.hold()?) };
        report.volumes = names.len();
        for path in self.volumes.strays()? {
            report.add(format!("file {}", path.display()), "it is no volume", Damage::Foreign(path));
        }
        for name in &names {
            if let Some(reason) = self.volumes.damage(name)? {
                report.add(format!("volume {name}"), reason, Damage::Volume(name.clone()));
            }
        }
        for container in self.containers.list()? {
            let points = &container.record.host.mounts.points;
            let missing = points.iter().filter_map(MountPoint::volume);
            let missing = missing.filter(|name| !names.iter().any(|known| known.as_str() == *name));
            for name in missing {
                let object = format!("container {}", container.record.name);
                let reason = format!("its volume {name} is not in the store");
                report.add(object, reason, Damage::LostVolume(name.to_owned()));
            }
        }
        Ok(())
    }

    fn examine_containers(&self, report: &mut CheckReport) -> Result<()> {
        let scan = self.containers.scan()?;
        report.containers = scan.containers.len();
        for (id, error) in scan.damaged {
            report.add(format!("container {}", id.short()), error, Damage::Container(id));
        }
        for (id, name) in scan.unlinked {
            let reason = format!("the link of its name ({name}) is damaged");
            report.add(format!("container {}", id.short()), reason, Damage::Name(id, name));
        }
        for path in scan.strays {
            report.add(
                format!("file {}", path.display()),
                "it is no name of a container",
                Damage::Stray(path),
            );
        }
        report.snapshots = self.snapshots.list().map_or(0, |snapshots| snapshots.len());
        let others = self.other_snapshots()?;
        let stores = self.with_own(&others);
        for container in scan.containers {
            let record = container.record;
            // One that has been removed meanwhile has no snapshot any more, and that is no damage.
            let name = SnapshotName::Key(SnapshotKey::new(&record.snapshot)?);
            let is_there = stores.iter().any(|store| {
                let paths = store.paths(&name);
                !paths.is_empty() && paths.iter().all(|path| path.exists())
            });
            if !is_there && self.containers.get(&record.id).is_ok() {
                let object = format!("container {}", record.name);
                report.add(object, "its snapshot is not in the store", Damage::Container(record.id));
            }
        }
        Ok(())
    }
}

/// The container that a snapshot's key belongs to.
pub(crate) fn container_of(snapshot: &SnapshotName) -> Option<ContainerId> {
    match snapshot {
        SnapshotName::Committed(_) => None,
        SnapshotName::Key(key) => key.as_str().strip_prefix("container-")?.parse().ok(),
    }
}

impl CheckReport {
    pub(crate) fn add(&mut self, object: String, reason: impl ToString, damage: Damage) {
        self.problems.push(Problem { object, reason: reason.to_string(), damage });
    }

    fn has_blob(&self, layer: &Layer<'_>) -> bool {
        self.problems.iter().any(|problem| {
            matches!(&problem.damage, Damage::Blob(digest)
                if *digest == layer.descriptor.digest || *digest == layer.diff_id.0)
        })
    }
}
