//! A backend of plain folders: a layer is the tar of all that its file system has, and `RUN` is the host's shell in
//! that folder (so commands of tests use relative paths).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use carrack_build::{
    Backend, BackendResult, BaseImage, BuildPlan, Built, CacheKey, Context, Error, Event, Layer, Outcome,
    RunStep, StepMountKind, Stream, Workspace, build,
};
use carrack_dockerfile::{RunNetwork, parse};
use carrack_layer::{DiffOptions, ExtractOptions, diff, extract};
use carrack_oci::{Descriptor, DiffId, ImageConfig, Platform, Reference, media_type};
use carrack_sys::rooted::Root;
use tempfile::TempDir;

pub const TIMESTAMP: i64 = 1_700_000_000;

pub struct Folder {
    pub dir: TempDir,
    root: Root,
}

impl Workspace for Folder {
    fn root(&self) -> &Root {
        &self.root
    }
}

/// Images, layers and cache; lives longer than one build.
#[derive(Default)]
pub struct Store {
    layers: HashMap<DiffId, Vec<u8>>,
    cache: HashMap<CacheKey, Outcome>,
    pub images: HashMap<String, BaseImage>,
    pub urls: HashMap<String, Vec<u8>>,
    /// What was run, and with which environment and mounts.
    pub runs: Vec<String>,
    /// Called before each file system is prepared.
    pub on_prepare: Option<Box<dyn Fn()>>,
}

impl Store {
    fn folder(&self, layers: &[Layer]) -> Folder {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = Root::open(dir.path()).unwrap();
        for layer in layers {
            extract(&self.layers[&layer.diff_id][..], &root, &ExtractOptions::default()).unwrap();
        }
        Folder { dir, root }
    }

    /// Puts an image into the store, as another build made it.
    pub fn add_image(&mut self, name: &str, built: &Built) {
        let image = BaseImage { config: built.config.clone(), layers: built.layers.clone() };
        self.images.insert(name.parse::<Reference>().unwrap().or_latest().to_string(), image);
    }

    /// The files of an image, one on a line.
    pub fn tree(&self, built: &Built) -> String {
        let folder = self.folder(&built.layers);
        let mut text = String::new();
        list(folder.dir.path(), Path::new(""), &mut text);
        text
    }

    pub fn path_in(&self, built: &Built) -> Folder {
        self.folder(&built.layers)
    }
}

fn list(base: &Path, path: &Path, text: &mut String) {
    let mut names: Vec<_> =
        fs::read_dir(base.join(path)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = path.join(name);
        let full = base.join(&path);
        let metadata = fs::symlink_metadata(&full).unwrap();
        let mode = metadata.mode() & 0o7777;
        let owner = format!("{}:{}", metadata.uid(), metadata.gid());
        let shown = path.display();
        if metadata.is_dir() {
            writeln!(text, "{shown}/ {mode:o} {owner}").unwrap();
            list(base, &path, text);
        } else if metadata.is_symlink() {
            writeln!(text, "{shown} -> {} {owner}", fs::read_link(&full).unwrap().display()).unwrap();
        } else {
            let content = fs::read(&full).unwrap();
            writeln!(text, "{shown} {mode:o} {owner} {:?}", String::from_utf8_lossy(&content)).unwrap();
        }
    }
}

impl Backend for Store {
    type Workspace = Folder;

    fn base(&mut self, name: &str, _: &Platform) -> BackendResult<BaseImage> {
        let reference = name.parse::<Reference>().unwrap().or_latest();
        self.images.get(&reference.to_string()).cloned().ok_or_else(|| format!("no image {reference}").into())
    }

    fn cached(&mut self, key: &CacheKey) -> BackendResult<Option<Outcome>> {
        Ok(self.cache.get(key).cloned())
    }

    fn record(&mut self, key: &CacheKey, outcome: &Outcome) -> BackendResult<()> {
        self.cache.insert(key.clone(), outcome.clone());
        Ok(())
    }

    fn prepare(&mut self, layers: &[Layer]) -> BackendResult<Folder> {
        if let Some(hook) = &self.on_prepare {
            hook();
        }
        Ok(self.folder(layers))
    }

    fn view(&mut self, layers: &[Layer]) -> BackendResult<Folder> {
        Ok(self.folder(layers))
    }

    fn run(
        &mut self,
        workspace: &mut Folder,
        step: &RunStep<'_>,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> BackendResult<i32> {
        let mut shown = step.argv.join(" ");
        for mount in &step.mounts {
            write!(shown, " [{}", mount.target)?;
            match &mount.kind {
                StepMountKind::Bind { root, path, .. } => {
                    let bound = fs::canonicalize(format!("/proc/self/fd/{}", as_raw(root)))?;
                    let mut text = String::new();
                    list(&bound.join(path.trim_start_matches('/')), Path::new(""), &mut text);
                    write!(shown, " bind {}", text.trim_end().replace('\n', ", "))?;
                }
                StepMountKind::File { content, .. } => {
                    write!(shown, " file {:?}", String::from_utf8_lossy(content))?
                }
                StepMountKind::Cache { id, .. } => write!(shown, " cache {id}")?,
                other => write!(shown, " {other:?}")?,
            }
            shown.push(']');
        }
        self.runs.push(shown);
        let folder = workspace.dir.path().join(step.working_dir.trim_start_matches('/'));
        let env = step.env.iter().filter_map(|entry| entry.split_once('='));
        let result = Command::new(&step.argv[0])
            .args(&step.argv[1..])
            .current_dir(folder)
            .env_clear()
            .envs(env)
            .output()?;
        output(Stream::Stdout, &result.stdout);
        output(Stream::Stderr, &result.stderr);
        Ok(result.status.code().unwrap_or(1))
    }

    fn commit(&mut self, workspace: Folder, timestamp_unix: i64) -> BackendResult<Layer> {
        let mut tar = Vec::new();
        let summary = diff(
            &workspace.root,
            &DiffOptions { max_mtime: Some(timestamp_unix), ..DiffOptions::default() },
            &mut tar,
        )?;
        let descriptor = Descriptor::of(media_type::OCI_LAYER, &tar);
        self.layers.insert(summary.diff_id.clone(), tar);
        Ok(Layer { diff_id: summary.diff_id, descriptor })
    }

    fn fetch(&mut self, url: &str) -> BackendResult<File> {
        let mut file = tempfile::tempfile()?;
        file.write_all(self.urls.get(url).ok_or("404")?)?;
        std::io::Seek::rewind(&mut file)?;
        Ok(file)
    }
}

fn as_raw(root: &Root) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(&root.as_fd())
}

/// One build, described in one expression.
pub struct Build {
    pub context: TempDir,
    dockerfile: String,
    target: Option<String>,
    build_args: BTreeMap<String, String>,
    no_cache: bool,
    timestamp_unix: Option<i64>,
}

/// What happened.
pub struct Report {
    pub built: Built,
    pub steps: Vec<String>,
    pub warnings: Vec<String>,
    pub output: String,
}

impl Build {
    pub fn new(dockerfile: &str) -> Self {
        let context = tempfile::tempdir().unwrap();
        let build_args = BTreeMap::new();
        Self {
            context,
            dockerfile: dockerfile.to_owned(),
            target: None,
            build_args,
            no_cache: false,
            timestamp_unix: Some(TIMESTAMP),
        }
    }

    pub fn dockerfile(mut self, text: &str) -> Self {
        text.clone_into(&mut self.dockerfile);
        self
    }

    /// Makes a file of the context, with its folders.
    pub fn file(self, path: &str, content: &str) -> Self {
        let path = self.context.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        self
    }

    pub fn mode(self, path: &str, mode: u32) -> Self {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub fn link(self, path: &str, target: &str) -> Self {
        std::os::unix::fs::symlink(target, self.path(path)).unwrap();
        self
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.context.path().join(path)
    }

    pub fn target(mut self, target: &str) -> Self {
        self.target = Some(target.to_owned());
        self
    }

    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.build_args.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Lets the base image date the build.
    pub fn dated_by_base(mut self) -> Self {
        self.timestamp_unix = None;
        self
    }

    pub fn no_cache(mut self, no_cache: bool) -> Self {
        self.no_cache = no_cache;
        self
    }

    pub fn plan(&self) -> BuildPlan {
        BuildPlan {
            dockerfile: parse(&self.dockerfile).unwrap(),
            target: self.target.clone(),
            build_args: self.build_args.clone(),
            labels: BTreeMap::new(),
            platform: "linux/amd64".parse().unwrap(),
            build_platform: "linux/amd64".parse().unwrap(),
            context: Context::open(self.context.path(), None).unwrap(),
            timestamp_unix: self.timestamp_unix,
            no_cache: self.no_cache,
            network: RunNetwork::Default,
        }
    }

    pub fn run(&self, store: &mut Store) -> Result<Report, Error> {
        let (steps, warnings) = (RefCell::<Vec<String>>::default(), RefCell::<Vec<String>>::default());
        let output = RefCell::<String>::default();
        let progress = |event: Event<'_>| match event {
            Event::Step { number, total, stage, text } => {
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                steps.borrow_mut().push(format!("{number}/{total} {stage}: {text}"));
            }
            Event::Cached { .. } => {
                steps.borrow_mut().last_mut().map_or((), |step: &mut String| step.push_str(" CACHED"))
            }
            Event::Output { bytes, .. } => {
                let _ = (&mut &bytes[..]).read_to_string(&mut output.borrow_mut());
            }
            Event::Done { .. } => {}
            Event::Warning { message, .. } => warnings.borrow_mut().push(message.to_owned()),
        };
        let built = build(&self.plan(), store, &progress)?;
        assert_eq!(built.config.rootfs.diff_ids.len(), built.layers.len());
        let filled = built.config.history.iter().filter(|entry| !entry.empty_layer).count();
        assert_eq!(filled, built.layers.len(), "the history has an entry for each layer");
        Ok(Report {
            built,
            steps: steps.into_inner(),
            warnings: warnings.into_inner(),
            output: output.into_inner(),
        })
    }

    /// The files of the image, or the error with all its causes.
    pub fn tree(&self) -> String {
        let mut store = Store::default();
        match self.run(&mut store) {
            Ok(report) => store.tree(&report.built),
            Err(error) => causes(&error),
        }
    }
}

pub fn causes(error: &Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        writeln!(text, "  caused by: {cause}").unwrap();
        next = cause.source();
    }
    text
}

pub fn config(built: &Built) -> &ImageConfig {
    &built.config
}
