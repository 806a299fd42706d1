//! Build: the engine's part of building an image. carrack-build decides what happens; this gives it base images,
//! filesystems, commands in sandboxes, and the cache.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use carrack_build::{
    Backend, BackendResult, BaseImage, BuildPlan, CacheKey, Context, Layer, Outcome, RunStep, StatCache,
    Stream,
};
use carrack_container::NetworkMode;
use carrack_dockerfile::{Dockerfile, RunNetwork};
use carrack_image::{Image, ImageRecord};
use carrack_layer::DiffOptions;
use carrack_oci::{ChainId, Descriptor, DiffId, Platform, Reference, media_type};
use carrack_snapshot::SnapshotKey;
use carrack_sys::rooted::Root;
use carrack_sys::{IoContext, atomic};

use crate::error::OperationContext;
use crate::event::{Event, Observer};
use crate::images::check_new_name;
use crate::{Engine, Error, PullPolicy, Result};

/// The largest Dockerfile that is read.
const MAX_DOCKERFILE_BYTES: usize = 16 << 20;

/// What a user asks for with `build`.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The folder that `COPY` and `ADD` take files from.
    pub context: PathBuf,
    /// The Dockerfile; without it `Dockerfile` or `Containerfile` in the context.
    pub dockerfile: Option<PathBuf>,
    /// Names of the image.
    pub tags: Vec<Reference>,
    /// The stage to build; the last by default.
    pub target: Option<String>,
    /// Values of `ARG`s.
    pub build_args: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// What the image runs on.
    pub platform: Platform,
    /// Run every step again.
    pub no_cache: bool,
    /// The network of a `RUN` that does not say.
    pub network: NetworkMode,
    /// When base images are pulled.
    pub pull: PullPolicy,
    /// The date of the image and the latest date of a file in its layers; `None` is that of the base image.
    pub timestamp_unix: Option<i64>,
}

impl Engine {
    /// Builds an image and names it.
    pub fn build(&self, request: BuildRequest, observer: Observer<'_>) -> Result<ImageRecord> {
        let context = request.context.display().to_string();
        request.tags.iter().try_for_each(check_new_name).operation("build", &context)?;
        let record = self.build_image(request, observer).operation("build", context)?;
        self.enforce_size_cap(&[record.id()], observer)?;
        Ok(record)
    }

    fn build_image(&self, request: BuildRequest, observer: Observer<'_>) -> Result<ImageRecord> {
        let _operation = self.operation()?;
        self.recover_steps()?;
        let (path, dockerfile) = read_dockerfile(&request)?;
        let cache_file = self.environment.paths.root.join("build-files.cache");
        let context =
            Context::open(&request.context, Some(&path))?.with_stat_cache(StatCache::open(&cache_file));
        let plan = BuildPlan {
            dockerfile,
            target: request.target,
            build_args: request.build_args,
            labels: request.labels,
            platform: request.platform,
            build_platform: Platform::host(),
            context,
            timestamp_unix: request.timestamp_unix,
            no_cache: request.no_cache,
            network: RunNetwork::Default,
        };
        let mut backend = EngineBackend {
            engine: self,
            observer,
            pull: request.pull,
            network: request.network,
            chains: HashMap::new(),
        };
        let built = carrack_build::build(&plan, &mut backend, &|event| forward(event, observer))?;
        plan.context.save_stat_cache()?;
        if let Some(top) = backend.ensure_stack(&built.layers)? {
            self.snapshots.seal(&top)?;
        }
        let layers = built.layers.into_iter().map(|layer| layer.descriptor).collect();
        let image = self.write_image(&built.config, layers)?;
        self.name_image(&image, request.tags)
    }

    /// Records an image under all its names, or under none.
    fn name_image(&self, image: &Image, tags: Vec<Reference>) -> Result<ImageRecord> {
        let mut tags = tags.into_iter();
        let record = self.record_image(image, tags.next())?;
        for tag in tags {
            self.record_image(image, Some(tag))?;
        }
        Ok(record)
    }
}

/// Reads and parses the Dockerfile; a syntax error is shown with its line and a caret.
fn read_dockerfile(request: &BuildRequest) -> Result<(PathBuf, Dockerfile)> {
    let path = match &request.dockerfile {
        Some(path) => path.clone(),
        None => {
            let names = ["Dockerfile", "Containerfile"].map(|name| request.context.join(name));
            let found = names.iter().find(|path| path.exists());
            found.cloned().ok_or_else(|| {
                let message = format!("there is no Dockerfile in {}", request.context.display());
                Error::refused(message, "name the file with --file")
            })?
        }
    };
    let bytes = atomic::read(&path)?.ok_or_else(|| {
        Error::refused(format!("there is no file {}", path.display()), "check the path of --file")
    })?;
    if bytes.len() > MAX_DOCKERFILE_BYTES {
        let message =
            format!("{} has {} bytes: expected at most {MAX_DOCKERFILE_BYTES}", path.display(), bytes.len());
        return Err(Error::refused(message, ""));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::refused(format!("{} is not UTF-8 text", path.display()), ""))?;
    let dockerfile = carrack_dockerfile::parse(&text)
        .map_err(|error| Error::Dockerfile { rendered: error.render(&path.display().to_string(), &text) })?;
    Ok((path, dockerfile))
}

fn forward(event: carrack_build::Event<'_>, observer: Observer<'_>) {
    match event {
        carrack_build::Event::Step { number, total, text, .. } => {
            observer(Event::Step { number, total, instruction: text });
        }
        carrack_build::Event::Cached { .. } => observer(Event::StepCached),
        carrack_build::Event::Done { duration, .. } => observer(Event::StepDone { duration }),
        carrack_build::Event::Output { bytes, .. } => observer(Event::Output(bytes)),
        carrack_build::Event::Warning { line: Some(line), message } => {
            observer(Event::Warning(&format!("line {line}: {message}")));
        }
        carrack_build::Event::Warning { line: None, message } => observer(Event::Warning(message)),
    }
}

/// The state of one build.
struct EngineBackend<'a> {
    engine: &'a Engine,
    observer: Observer<'a>,
    pull: PullPolicy,
    network: NetworkMode,
    /// The stacks that this build made, by their topmost layer, for the cache.
    chains: HashMap<DiffId, ChainId>,
}

/// A snapshot that a step works in; discarded when dropped.
pub(crate) struct Workspace<'a> {
    engine: &'a Engine,
    key: SnapshotKey,
    parent: Option<ChainId>,
    /// The mount, while this process has it.
    root: Option<Root>,
}

impl Workspace<'_> {
    pub(crate) fn key(&self) -> &SnapshotKey {
        &self.key
    }

    /// Lets go of the mount while another process has one of the same snapshot: two overlays on one upper folder
    /// would not see each other's changes.
    pub(crate) fn close(&mut self) {
        self.root = None;
    }

    /// Takes the mount up again.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        self.root = Some(self.engine.snapshots.mount(&self.key)?.volatile().open_root()?);
        Ok(())
    }
}

impl carrack_build::Workspace for Workspace<'_> {
    fn root(&self) -> &Root {
        self.root.as_ref().expect("files of a workspace are used only while it is open")
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.engine.snapshots.discard(&self.key) {
            tracing::warn!(%error, "a snapshot of the build is left for garbage collection");
        }
    }
}

impl<'a> EngineBackend<'a> {
    /// Makes sure that the snapshot of a stack exists: its layers may come from the cache, or may never have stood
    /// on each other in this way.
    fn ensure_stack(&self, layers: &[Layer]) -> Result<Option<ChainId>> {
        self.engine.ensure_stack(layers.iter().map(|layer| (&layer.descriptor.digest, &layer.diff_id)))
    }

    fn commit_workspace(&mut self, mut workspace: Workspace<'a>, timestamp_unix: i64) -> Result<Layer> {
        let engine = workspace.engine;
        // The mount must be gone before its folder becomes a lower one of others.
        workspace.close();
        let mut writer = engine.content.writer()?;
        let options = DiffOptions { max_mtime: Some(timestamp_unix), ..DiffOptions::default() };
        let summary = engine.snapshots.diff(&workspace.key, &options, &mut writer)?;
        let (digest, size_bytes) = writer.commit()?;
        let id = ChainId::child(workspace.parent.as_ref(), &summary.diff_id);
        engine.snapshots.commit(&workspace.key, &id, &summary.diff_id)?;
        self.chains.insert(summary.diff_id.clone(), id);
        Ok(Layer {
            diff_id: summary.diff_id,
            descriptor: Descriptor::new(media_type::OCI_LAYER, digest, size_bytes),
        })
    }

    fn open_workspace(&self, layers: &[Layer], is_writable: bool) -> Result<Workspace<'a>> {
        let parent = self.ensure_stack(layers)?;
        let key = SnapshotKey::unique("build");
        let snapshots = &self.engine.snapshots;
        let mount = match (&parent, is_writable) {
            (Some(parent), false) => snapshots.view(&key, parent)?,
            _ => snapshots.prepare(&key, parent.as_ref())?.volatile(),
        };
        Ok(Workspace { engine: self.engine, key, parent, root: Some(mount.open_root()?) })
    }
}

impl<'a> Backend for EngineBackend<'a> {
    type Workspace = Workspace<'a>;

    fn base(&mut self, name: &str, platform: &Platform) -> BackendResult<BaseImage> {
        let record = self.engine.obtain(name, Some(platform), self.pull, self.observer)?.record;
        let image = Image::load(&self.engine.content, &record.manifest).map_err(Error::from)?;
        let layers = image
            .layers()
            .into_iter()
            .map(|layer| Layer { diff_id: layer.diff_id.clone(), descriptor: layer.descriptor.clone() });
        Ok(BaseImage { layers: layers.collect(), config: image.config })
    }

    fn cached(&mut self, key: &CacheKey) -> BackendResult<Option<Outcome>> {
        match self.engine.build_cache().get(key)? {
            Some(Outcome { layer: Some(layer) })
                if !self.engine.has_layer(&layer.descriptor.digest, &layer.diff_id)? =>
            {
                Ok(None)
            }
            outcome => Ok(outcome),
        }
    }

    fn record(&mut self, key: &CacheKey, outcome: &Outcome) -> BackendResult<()> {
        let chain = outcome.layer.as_ref().and_then(|layer| self.chains.get(&layer.diff_id).cloned());
        Ok(self.engine.build_cache().put(key, outcome, chain)?)
    }

    fn prepare(&mut self, layers: &[Layer]) -> BackendResult<Workspace<'a>> {
        Ok(self.open_workspace(layers, true)?)
    }

    fn view(&mut self, layers: &[Layer]) -> BackendResult<Workspace<'a>> {
        Ok(self.open_workspace(layers, false)?)
    }

    fn run(
        &mut self,
        workspace: &mut Workspace<'a>,
        step: &RunStep<'_>,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> BackendResult<i32> {
        Ok(self.engine.run_step(workspace, step, &self.network, output)?)
    }

    fn commit(&mut self, workspace: Workspace<'a>, timestamp_unix: i64) -> BackendResult<Layer> {
        Ok(self.commit_workspace(workspace, timestamp_unix)?)
    }

    fn fetch(&mut self, url: &str) -> BackendResult<File> {
        let mut file = tempfile_in(&self.engine.environment.paths.root)?;
        std::io::copy(&mut self.engine.open_url(url)?, &mut file).during("download", url)?;
        std::io::Seek::rewind(&mut file).during("rewind", url)?;
        Ok(file)
    }
}

/// A file without a name, on the disk that has room for layers.
fn tempfile_in(folder: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
    let mut options = File::options();
    Ok(options
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(folder)
        .during("create a file in", folder)?)
}
