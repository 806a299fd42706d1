//! Commit: what a container has changed becomes the top layer of a new image.
//!
//! Invariant: the container stays as it is. It stands still only while its changes are read, and goes on also when
//! the commit fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use carrack_container::{Container, ContainerRecord, MountPoint, MountSource, SecretPlace};
use carrack_image::transport::Location;
use carrack_image::{Image, ImageRecord};
use carrack_layer::{DiffOptions, DiffSummary};
use carrack_oci::{
    ContainerConfig, Descriptor, DiffId, Digest, Empty, History, ImageConfig, Manifest, Reference, media_type,
};
use carrack_snapshot::SnapshotKey;
use carrack_sys::rooted::Root;

use crate::error::OperationContext;
use crate::event::{Event, Observer, Phase};
use crate::push::PushOptions;
use crate::{Engine, Error, Result, mount_points, ports};

/// The kind of an image's documents; both say the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// OCI image-spec.
    #[default]
    Oci,
    /// Docker's manifest schema 2.
    Docker,
}

/// What a user asks for with `commit`.
#[derive(Debug, Default)]
pub struct CommitRequest {
    /// The container: a name or ID.
    pub container: String,
    /// The name of the new image; without one it is reached by ID.
    pub reference: Option<Reference>,
    /// Who made the image.
    pub author: Option<String>,
    /// The remark in the image's history.
    pub message: Option<String>,
    /// Dockerfile instructions (`CMD`, `ENV` ...) that are applied to the config.
    pub changes: Vec<String>,
    /// Whether a running container stands still meanwhile.
    pub pause: bool,
    /// One layer of all the container's files, in place of one more on those of its image.
    pub squash: bool,
    /// The kind of the manifest.
    pub format: Format,
    /// The date of the image and the latest date of a file in its layer; now, and as they are, by default.
    pub timestamp_unix: Option<i64>,
}

/// The changes of a container, stored.
struct Changes {
    summary: DiffSummary,
    blob: Digest,
}

impl Engine {
    /// Makes an image of a container. After a crash there is nothing, or the whole image.
    pub fn commit(&self, request: &CommitRequest, observer: Observer<'_>) -> Result<ImageRecord> {
        let committed = self.commit_container(request, observer);
        let record = self.clear_after_refusal(committed).operation("commit container", &request.container)?;
        self.record_event("create", &record);
        if let Ok(container) = self.containers.find(&request.container) {
            let details = [("imageID", record.id().to_string())];
            self.container_event(&container.record, "commit", &details);
        }
        self.enforce_size_cap(&[record.id()], observer)?;
        Ok(record)
    }

    /// Makes an image of a container and pushes it, without a name on this machine.
    pub fn commit_to(
        &self,
        request: &CommitRequest,
        destination: &Location,
        observer: Observer<'_>,
    ) -> Result<Digest> {
        let existing: BTreeSet<Digest> =
            self.images.list()?.into_iter().map(|record| record.id().clone()).collect();
        let record = self.commit(request, observer)?;
        let pushed = self.push(record.id().as_str(), destination, &PushOptions::default(), observer);
        let removed = match existing.contains(record.id()) {
            true => Ok(()),
            false => self.remove_image(record.id().as_str(), true).map(drop),
        };
        pushed.and(removed).map(|()| record.id().clone())
    }

    fn commit_container(&self, request: &CommitRequest, observer: Observer<'_>) -> Result<ImageRecord> {
        let _operation = self.operation()?;
        self.recover()?;
        let container = self.containers.find(&request.container)?;
        let base = self.base_of(&container.record)?;
        // What can be refused is refused before the container has to stand still.
        let mut config = committed_config(&base.config, &container.record, request)?;
        let changes = self.changes(&container, &base, request)?;
        let mut layers = if request.squash { Vec::new() } else { base.manifest.layers.clone() };
        let top = changes.map(|changes| {
            let layer = Descriptor::new(media_type::OCI_LAYER, changes.blob, changes.summary.size_bytes);
            layers.push(layer.clone());
            (layer, changes.summary.diff_id)
        });
        finish_config(&mut config, request, top.as_ref().map(|(_, diff_id)| diff_id));
        let image = self.write_image_as(request.format, &config, layers)?;
        if let Some((layer, _)) = &top {
            observer(Event::Blob { digest: &layer.digest, phase: Phase::Unpacking });
            self.ensure_image(&image)?;
            observer(Event::Blob { digest: &layer.digest, phase: Phase::Complete });
        }
        self.record_image(&image, request.reference.clone())
    }

    /// The image that a container was made of; it is there as long as the container is.
    pub(crate) fn base_of(&self, record: &ContainerRecord) -> Result<Image> {
        if let Some(folder) = &record.root_folder {
            let message = format!("it is made of the folder {}, not of an image", folder.path.display());
            return Err(Error::refused(message, "export it, and import that"));
        }
        let found = self.images.find(record.image_id.as_str())?;
        Ok(Image::load(&self.content, &found.record.manifest)?)
    }

    /// Stores what the container has changed, or all its files; `None` when it has changed nothing.
    fn changes(
        &self,
        container: &Container,
        base: &Image,
        request: &CommitRequest,
    ) -> Result<Option<Changes>> {
        let mount_points = self.made_mount_points(container, base, request.squash)?;
        let options = DiffOptions { max_mtime: request.timestamp_unix, mount_points };
        let mut writer = self.content.writer()?;
        let frozen = if request.pause { self.freeze(container)? } else { None };
        let summary = match request.squash {
            true => carrack_layer::diff(&self.open_merged(container)?, &options, &mut writer)?,
            false => {
                let key = SnapshotKey::new(&container.record.snapshot)?;
                self.store_of(&key)?.get().diff(&key, &options, &mut writer)?
            }
        };
        drop(frozen);
        if summary.entries == 0 {
            return Ok(None);
        }
        let (blob, _) = writer.commit()?;
        Ok(Some(Changes { summary, blob }))
    }

    /// What the sandbox has made in the container's files to mount over it, and the folders that look changed only
    /// because of that.
    pub(crate) fn made_mount_points(
        &self,
        container: &Container,
        base: &Image,
        squash: bool,
    ) -> Result<BTreeSet<PathBuf>> {
        let merged = self.open_merged(container)?;
        let host = &container.record.host;
        let binds = host.mounts.points.iter().map(|point| point.destination.as_path());
        let tmpfs = host.mounts.tmpfs.iter().map(|mount| mount.destination.as_path());
        let of_secrets = host.secrets.iter().filter_map(|secret| match &secret.place {
            SecretPlace::File { target, .. } => Some(target.as_path()),
            SecretPlace::Variable { .. } => None,
        });
        let wanted = mount_points::wanted(
            binds.chain(tmpfs).chain(of_secrets).chain(mount_points::in_memory(&host.mounts)),
        );
        let Some(chain) = base.chain_id() else { return made(&wanted, None, &merged, squash) };
        self.ensure_image(base)?;
        let key = SnapshotKey::unique("commit");
        let view = self.snapshots.view(&key, &chain)?.open_root();
        let made = view.map_err(Error::from).and_then(|view| made(&wanted, Some(&view), &merged, squash));
        self.snapshots.discard(&key)?;
        made
    }

    /// Stores config and manifest of an image that was made here, in the given format.
    fn write_image_as(&self, format: Format, config: &ImageConfig, layers: Vec<Descriptor>) -> Result<Image> {
        let bytes = serde_json::to_vec(config).expect("a config has string keys only");
        self.content.put(&bytes)?;
        let manifest = format.manifest(&Descriptor::of(media_type::OCI_CONFIG, &bytes), layers)?;
        let bytes = serde_json::to_vec(&manifest).expect("a manifest has string keys only");
        self.content.put(&bytes)?;
        let descriptor = Descriptor::of(format.manifest_type(), &bytes);
        Ok(Image { descriptor, manifest, config: config.clone() })
    }
}

impl Format {
    /// The media type of the manifest.
    pub(crate) fn manifest_type(self) -> &'static str {
        match self {
            Self::Oci => media_type::OCI_MANIFEST,
            Self::Docker => media_type::DOCKER_MANIFEST,
        }
    }

    /// A manifest of a config and layers of either kind.
    pub(crate) fn manifest(self, config: &Descriptor, layers: Vec<Descriptor>) -> Result<Manifest> {
        let config_type = match self {
            Self::Oci => media_type::OCI_CONFIG,
            Self::Docker => media_type::DOCKER_CONFIG,
        };
        let config = Descriptor::new(config_type, config.digest.clone(), config.size);
        let layer = |layer: Descriptor| Ok(Descriptor { media_type: self.layer_type(&layer)?, ..layer });
        let layers = layers.into_iter().map(layer).collect::<Result<_>>()?;
        Ok(Manifest { media_type: Some(self.manifest_type().to_owned()), ..Manifest::oci(config, layers) })
    }

    fn layer_type(self, layer: &Descriptor) -> Result<String> {
        let kinds = [
            (media_type::OCI_LAYER, media_type::DOCKER_LAYER),
            (media_type::OCI_LAYER_GZIP, media_type::DOCKER_LAYER_GZIP),
        ];
        let own = layer.media_type.as_str();
        let kind = kinds.into_iter().find(|(oci, docker)| own == *oci || own == *docker);
        match (self, kind) {
            (Self::Oci, Some((oci, _))) => Ok(oci.to_owned()),
            (Self::Docker, Some((_, docker))) => Ok(docker.to_owned()),
            (Self::Oci, None) => Ok(own.to_owned()),
            (Self::Docker, None) => {
                let message = format!("Docker's manifest cannot name layer {} of type {own}", layer.digest);
                Err(Error::refused(message, "use the OCI format"))
            }
        }
    }
}

/// Which of `wanted` the image lacks, as paths without links; unless all files are wanted, also the folders around
/// them that are otherwise as in the image.
fn made(
    wanted: &[PathBuf],
    image: Option<&Root>,
    merged: &Root,
    all_files: bool,
) -> Result<BTreeSet<PathBuf>> {
    let mut made = BTreeSet::new();
    for path in wanted {
        let is_of_image = image.map_or(Ok(false), |image| mount_points::exists(image, path))?;
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
        if is_of_image || !mount_points::exists(merged, path)? {
            continue;
        }
        let folder = merged.canonical_dir(folder)?;
        made.insert(folder.join(name));
        if !all_files && folder != Path::new("") && is_same_folder(image, merged, &folder)? {
            made.insert(folder);
        }
    }
    Ok(made)
}

/// Whether a folder differs from the image's by its time at most.
fn is_same_folder(image: Option<&Root>, merged: &Root, folder: &Path) -> Result<bool> {
    let Some(image) = image else { return Ok(false) };
    if !mount_points::exists(image, folder)? {
        return Ok(false);
    }
    let looks = |root: &Root| -> Result<_> {
        Ok(root.at(folder)?.metadata()?.map(|own| (own.kind, own.mode, own.uid, own.gid)))
    };
    Ok(looks(image)? == looks(merged)?)
}

/// The config of the image as Docker merges it: how the container was run, then the changes.
fn committed_config(
    base: &ImageConfig,
    record: &ContainerRecord,
    request: &CommitRequest,
) -> Result<ImageConfig> {
    let program = &record.program;
    let words = |words: &Vec<String>| Some(words.clone()).filter(|words| !words.is_empty());
    let mut exposed = base.config.exposed_ports.clone().unwrap_or_default();
    let network = &record.host.network;
    let ports = network.ports.iter().map(ports::container_side).chain(network.exposed.iter().cloned());
    exposed.extend(ports.map(|port| (port, Empty::default())));
    let mut volumes = base.config.volumes.clone().unwrap_or_default();
    let is_own = |point: &&MountPoint| matches!(point.source, MountSource::Volume { anonymous: true, .. });
    let own = record.host.mounts.points.iter().filter(is_own);
    volumes.extend(own.map(|point| (point.destination.display().to_string(), Empty::default())));
    let mut config = base.clone();
    config.author = None;
    config.config = ContainerConfig {
        user: program.user.clone(),
        exposed_ports: Some(exposed).filter(|ports| !ports.is_empty()),
        volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
        env: program.env.clone(),
        entrypoint: words(&program.entrypoint),
        cmd: words(&program.command),
        working_dir: program.working_dir.clone(),
        labels: Some(record.labels.clone()).filter(|labels| !labels.is_empty()),
        stop_signal: program.stop_signal.clone(),
        stop_timeout: program.stop_timeout_seconds.map(u64::from),
        // Triggers were for the build of this image, not for those on top of it.
        on_build: None,
        ..base.config.clone()
    };
    carrack_build::apply_changes(&mut config, &request.changes)?;
    config.author = request.author.clone().or(config.author);
    config.comment.clone_from(&request.message);
    config.history.push(History {
        created_by: Some(program.command.join(" ")),
        author: request.author.clone(),
        comment: request.message.clone(),
        ..History::default()
    });
    Ok(config)
}

/// Adds what is known only when the container has been read: the layer and the date.
fn finish_config(config: &mut ImageConfig, request: &CommitRequest, layer: Option<&DiffId>) {
    let fixed = request.timestamp_unix.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let now = fixed.unwrap_or_else(jiff::Timestamp::now).to_string();
    config.created = Some(now.clone());
    if request.squash {
        config.rootfs.diff_ids.clear();
        config.history.iter_mut().for_each(|step| step.empty_layer = true);
    }
    config.rootfs.diff_ids.extend(layer.cloned());
    if let Some(step) = config.history.last_mut() {
        step.created = Some(now);
        step.empty_layer = layer.is_none();
    }
}
