//! Control groups: one folder in each v1 hierarchy that the container's limits need, and one in the v2 tree.
//!
//! A cgroup is created before the first process and deleted after the last one; both may be repeated.

mod controllers;
mod devices;
mod entrance;
mod freezer;
mod layout;
mod stats;
mod systemd;
mod v1;
mod v2;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use carrack_sys::IoContext;
use carrack_sys::mount::{Attributes, Propagation, clone_path, set_attributes};
use oci_spec::runtime::{LinuxHugepageLimit, LinuxRdma, LinuxResources, LinuxWeightDevice};
use rustix::mount::MountAttrFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

pub(crate) use entrance::Entrances;
pub use layout::{Hierarchy, Layout};
pub use stats::{BlockIo, Cpu, Interface, Memory, Stats, Tasks, network_interfaces};
pub use systemd::Scope;

use crate::{Error, Result};
use systemd::Placeholder;

/// The cgroup of one container.
#[derive(Clone, Debug)]
pub struct Cgroup {
    /// Where the host's hierarchies are.
    layout: Layout,
    /// The path below the root of each.
    relative: PathBuf,
    /// Folders in v1 hierarchies.
    v1: Vec<Hierarchy>,
    /// Folder in the v2 tree.
    v2: Option<PathBuf>,
    /// Limits for which the host has no controller.
    unsupported: Vec<&'static str>,
    /// Of one that systemd makes: its unit, and what keeps that alive until a process of the container is in it.
    scope: Option<Scope>,
    placeholder: Arc<Mutex<Option<Placeholder>>>,
}

/// Where a cgroup is, and who makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// We, at this absolute path below the root of each hierarchy.
    Path(PathBuf),
    /// systemd.
    Scope(Scope),
}

impl Place {
    /// The path below the root of each hierarchy.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Scope(scope) => scope.path(),
        }
    }
}

impl Cgroup {
    /// Makes the cgroup at `place`. Where systemd does, the caller has one thread.
    pub fn create_at(place: &Place, resources: &LinuxResources) -> Result<Self> {
        match place {
            Place::Path(path) => Self::create(path, resources),
            Place::Scope(scope) => Self::create_scope(scope, resources),
        }
    }

    fn create_scope(scope: &Scope, resources: &LinuxResources) -> Result<Self> {
        let layout = Layout::host()?;
        let placeholder = Placeholder::start()?;
        scope.start(placeholder.pid(), resources, &layout)?;
        let relative = relative(&scope.path())?.to_owned();
        let placeholder = Arc::new(Mutex::new(Some(placeholder)));
        let scope = Some(scope.clone());
        let mut cgroup = Self { scope, placeholder, ..Self::empty(layout, relative) };
        cgroup.fill(&with_placeholder(resources))?;
        Ok(cgroup)
    }

    /// The process of the container `pid` is in, or about to enter: a scope of systemd needs no placeholder any more.
    pub(crate) fn settle(&self, pid: i32, resources: Option<&LinuxResources>) -> Result<()> {
        let placeholder = self.placeholder.lock().unwrap_or_else(PoisonError::into_inner).take();
        if placeholder.is_none() {
            return Ok(());
        }
        // The hierarchy by which systemd knows that the scope is in use, where there is no v2 tree.
        if let Some(named) = self.v1.iter().find(|hierarchy| hierarchy.has(NAMED)) {
            write(&named.folder, "cgroup.procs", &pid.to_string())?;
        }
        drop(placeholder);
        let Some(pids) = resources.and_then(|resources| *resources.pids()) else { return Ok(()) };
        let mut limit = LinuxResources::default();
        limit.set_devices(None).set_pids(Some(pids));
        self.apply(&limit)
    }

    /// The existing cgroup at `place`.
    pub fn open_at(place: &Place) -> Result<Self> {
        let scope = match place {
            Place::Path(_) => None,
            Place::Scope(scope) => Some(scope.clone()),
        };
        Ok(Self { scope, ..Self::open(&place.path())? })
    }

    fn empty(layout: Layout, relative: PathBuf) -> Self {
        let (v1, unsupported) = (Vec::new(), Vec::new());
        Self { layout, relative, v1, v2: None, unsupported, scope: None, placeholder: Arc::default() }
    }

    /// Makes the cgroup `path` (absolute, below the roots of the host's hierarchies) with the limits of `resources`.
    pub fn create(path: &Path, resources: &LinuxResources) -> Result<Self> {
        Self::create_in(&Layout::host()?, path, resources)
    }

    /// [`Self::create`] in hierarchies at another place. What was made is removed when it fails.
    pub fn create_in(layout: &Layout, path: &Path, resources: &LinuxResources) -> Result<Self> {
        let mut cgroup = Self::empty(layout.clone(), relative(path)?.to_owned());
        cgroup.fill(resources)?;
        Ok(cgroup)
    }

    /// [`Self::create_in`] in every hierarchy that has controllers, needed or not: whoever drives an OCI runtime reads
    /// there what a container uses, and would take the numbers of the hierarchy's root for it.
    pub fn create_everywhere(layout: &Layout, path: &Path, resources: &LinuxResources) -> Result<Self> {
        // A hierarchy with a name in place of controllers is its owner's.
        let has_controllers =
            |one: &&Hierarchy| one.controllers != "systemd" && !one.controllers.contains('=');
        let relative = relative(path)?.to_owned();
        let all = layout.v1.iter().filter(has_controllers).map(|one| one.below(&relative)).collect();
        let mut cgroup = Self { v1: all, ..Self::empty(layout.clone(), relative) };
        cgroup.fill(resources)?;
        Ok(cgroup)
    }

    /// Makes folders and limits; when that fails, nothing is left.
    fn fill(&mut self, resources: &LinuxResources) -> Result<()> {
        self.make_folders(resources).and_then(|()| self.apply(resources)).inspect_err(|_| {
            let _ = self.delete();
        })
    }

    fn make_folders(&mut self, resources: &LinuxResources) -> Result<()> {
        let Controllers { mut v1, v2, unsupported } = self.controllers(resources);
        if self.layout.v2.is_none() {
            // What the v2 tree has for every cgroup: standing still, and the count of CPU time.
            let basic = ["freezer", "cpuacct"].iter().filter_map(|name| self.layout.v1_of(name));
            for hierarchy in basic.map(|hierarchy| hierarchy.below(&self.relative)) {
                if !v1.contains(&hierarchy) {
                    v1.push(hierarchy);
                }
            }
        }
        self.unsupported = unsupported;
        if self.scope.is_some() {
            v1.extend(self.layout.v1_of(NAMED).map(|hierarchy| hierarchy.below(&self.relative)));
        }
        v1.retain(|hierarchy| !self.v1.contains(hierarchy));
        self.v1.extend(v1);
        for Hierarchy { folder, .. } in &self.v1 {
            fs::create_dir_all(folder).during("create the cgroup", folder)?;
        }
        if let Some(root) = &self.layout.v2 {
            self.v2 = Some(root.join(&self.relative));
            v2::make_folder(root, &self.relative, &v2)?;
        }
        Ok(())
    }

    /// Where the controllers are that limits need.
    fn controllers(&self, resources: &LinuxResources) -> Controllers {
        let layout = &self.layout;
        let has_v2 = |name: &str| layout.v2_controllers.iter().any(|one| one == name);
        let mut found = Controllers { v1: Vec::new(), v2: Vec::new(), unsupported: Vec::new() };
        for name in controllers::needed(resources) {
            if let Some(hierarchy) = layout.v1_of(name) {
                let hierarchy = hierarchy.below(&self.relative);
                if !found.v1.contains(&hierarchy) {
                    found.v1.push(hierarchy);
                }
            } else if let Some(name) = controllers::in_v2(name).filter(|name| has_v2(name)) {
                found.v2.push(name);
            } else if name != "devices" || layout.v2.is_none() {
                // In the v2 tree a program holds device rules, without a controller.
                found.unsupported.push(name);
            }
        }
        for name in controllers::ACCOUNTING {
            if has_v2(name) && !found.v2.contains(&name) {
                found.v2.push(name);
            }
        }
        found
    }

    /// The existing cgroup `path`: after a restart of the command, or to put a further process into it.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_in(&Layout::host()?, path)
    }

    /// [`Self::open`] in hierarchies at another place.
    pub fn open_in(layout: &Layout, path: &Path) -> Result<Self> {
        let relative = relative(path)?;
        let v1 = layout.v1.iter().map(|hierarchy| hierarchy.below(relative));
        let v1 = v1.filter(|hierarchy| hierarchy.folder.is_dir()).collect();
        let v2 = layout.v2.as_ref().map(|root| root.join(relative)).filter(|folder| folder.is_dir());
        Ok(Self { v1, v2, ..Self::empty(layout.clone(), relative.to_owned()) })
    }

    /// Sets the limits that `resources` names and keeps all others; returns the controllers that they need and the
    /// host does not have.
    ///
    /// A v1 hierarchy that the container was not in is joined by all its processes. What they have in memory already
    /// is not counted there; limits hold for what they take from then on.
    pub fn update(&self, resources: &LinuxResources) -> Result<Vec<&'static str>> {
        if let Some(scope) = &self.scope {
            scope.update(resources, &self.layout)?;
        }
        let Controllers { v1, v2, unsupported } = self.controllers(resources);
        let joined: Vec<_> = v1.into_iter().filter(|hierarchy| !self.v1.contains(hierarchy)).collect();
        for hierarchy in &joined {
            fs::create_dir_all(&hierarchy.folder).during("create the cgroup", &hierarchy.folder)?;
        }
        if let (Some(root), true) = (&self.layout.v2, self.v2.is_some()) {
            v2::make_folder(root, &self.relative, &v2)?;
        }
        let all = Self { v1: [self.v1.clone(), joined.clone()].concat(), ..self.clone() };
        all.apply(resources)?;
        joined.iter().try_for_each(|hierarchy| self.move_processes(hierarchy))?;
        Ok(unsupported)
    }

    fn apply(&self, resources: &LinuxResources) -> Result<()> {
        if self.layout.v2.is_none() && resources.unified().as_ref().is_some_and(|keys| !keys.is_empty()) {
            return Err(Error::spec("unified: expected a host with cgroup v2, got one with v1 alone"));
        }
        for hierarchy in &self.v1 {
            v1::apply(hierarchy, resources)?;
        }
        let of_v1 = |controller: &str| self.layout.v1_of(controller).is_some();
        self.v2.as_ref().map_or(Ok(()), |folder| v2::apply(folder, resources, &of_v1))
    }

    /// Puts every process of the cgroup into a further hierarchy; those that they fork meanwhile are seen again.
    fn move_processes(&self, hierarchy: &Hierarchy) -> Result<()> {
        for _ in 0..100 {
            let there = read(&hierarchy.folder, "cgroup.procs")?.unwrap_or_default();
            let is_there = |pid: &Pid| there.lines().any(|line| line.parse() == Ok(pid.as_raw_pid()));
            let missing: Vec<_> = self.processes()?.into_iter().filter(|pid| !is_there(pid)).collect();
            if missing.is_empty() {
                break;
            }
            for pid in missing {
                match write(&hierarchy.folder, "cgroup.procs", &pid.as_raw_pid().to_string()) {
                    // It has ended.
                    Err(Error::Sys(error)) if error.source.raw_os_error() == Some(ESRCH) => {}
                    result => result?,
                }
            }
        }
        Ok(())
    }

    /// Controllers that limits were asked of and the host does not have; those limits are not in force.
    pub fn unsupported(&self) -> &[&'static str] {
        &self.unsupported
    }

    /// Puts a process into all folders.
    pub fn add(&self, pid: i32) -> Result<()> {
        let pid = pid.to_string();
        let folders = self.v1.iter().map(|hierarchy| &hierarchy.folder).chain(&self.v2);
        folders.into_iter().try_for_each(|folder| write(folder, "cgroup.procs", &pid))
    }

    /// The v2 folder, to clone into.
    pub(crate) fn v2_folder(&self) -> Result<Option<OwnedFd>> {
        let open = |folder: &PathBuf| File::open(folder).during("open", folder);
        Ok(self.v2.as_ref().map(open).transpose()?.map(Into::into))
    }

    /// What a mount of type `cgroup` inside the container shows. Without a cgroup namespace of the container's a new
    /// mount would show the whole host, so it is a part of the host's.
    pub(crate) fn view(&self, has_namespace: bool, attributes: MountAttrFlags) -> Result<View> {
        let part = |folder: &PathBuf| -> Result<Option<OwnedFd>> {
            if has_namespace {
                return Ok(None);
            }
            let part = clone_path(folder, false)?;
            set_attributes(part.as_fd(), Attributes::propagation(Propagation::Private), true)?;
            set_attributes(part.as_fd(), Attributes::set(attributes), false)?;
            Ok(Some(part))
        };
        let of_limits = self.v1.iter().filter(|hierarchy| !hierarchy.has(NAMED));
        let v1 = of_limits.map(|hierarchy| {
            Ok(Shown { controllers: hierarchy.controllers.clone(), part: part(&hierarchy.folder)? })
        });
        let v2 = self
            .v2
            .as_ref()
            .map(|folder| Ok::<_, Error>(Shown { controllers: String::new(), part: part(folder)? }));
        Ok(View { v1: v1.collect::<Result<_>>()?, v2: v2.transpose()? })
    }

    /// Kills every process in the cgroup and below it.
    pub fn kill(&self) -> Result<()> {
        if let Some(folder) = &self.v2 {
            match write(folder, "cgroup.kill", "1") {
                Err(Error::Sys(error)) if error.is_not_found() => {} // before Linux 5.14, or deleted
                result => return result,
            }
        }
        // A process that forks faster than we read is seen again, and a dead one is not.
        for _ in 0..100 {
            let pids = self.processes()?;
            if pids.is_empty() {
                return Ok(());
            }
            for pid in pids {
                let _ = kill_process(pid, Signal::KILL);
            }
            if self.v2.is_none() {
                // The freezer of v1 holds killed processes too; one that was never frozen stays as it is.
                let _ = self.thaw();
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Processes in the cgroup and in those that the container made below it.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        let folders = self.v1.iter().map(|hierarchy| &hierarchy.folder).chain(&self.v2);
        let mut folders: Vec<PathBuf> = folders.cloned().collect();
        let mut pids = Vec::new();
        while let Some(folder) = folders.pop() {
            let text = read(&folder, "cgroup.procs")?.unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)));
            let below = fs::read_dir(&folder).into_iter().flatten().flatten();
            let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            folders.extend(below.map(|entry| entry.path()));
        }
        pids.sort_unstable_by_key(|pid| pid.as_raw_pid());
        pids.dedup();
        Ok(pids)
    }

    /// Whether the kernel killed a process of this cgroup for want of memory.
    pub fn oom_killed(&self) -> Result<bool> {
        let memory = self.v1.iter().find(|hierarchy| hierarchy.has("memory"));
        let text = match (memory, &self.v2) {
            (Some(hierarchy), _) => read(&hierarchy.folder, "memory.oom_control")?,
            (None, Some(folder)) => read(folder, "memory.events")?,
            (None, None) => None,
        };
        let count = text.iter().flat_map(|text| text.lines()).find_map(|line| line.strip_prefix("oom_kill "));
        Ok(count.is_some_and(|count| count != "0"))
    }

    /// Removes the folders and those that the container made below them. The processes must have ended; the kernel
    /// takes a moment to notice, which is waited for. What is gone already is no error.
    pub fn delete(&self) -> Result<()> {
        let stopped = self.scope.as_ref().map_or(Ok(()), Scope::stop);
        // systemd takes away what it knows of, which is not all; nothing is left even where it does not answer.
        self.delete_folders().and(stopped)
    }

    /// In every hierarchy: an update may have put it into further ones since this was opened.
    fn delete_folders(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let all = self.layout.v1.iter().map(|hierarchy| hierarchy.folder.join(&self.relative));
        let folders = all.chain(self.v2.clone());
        folders.map(|folder| remove_folder(&folder, deadline)).fold(Ok(()), Result::and)
    }
}

/// Which hierarchies a container sees.
#[derive(Debug)]
pub(crate) struct View {
    pub v1: Vec<Shown>,
    pub v2: Option<Shown>,
}

/// One hierarchy.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Those of v1, as its mount option has them.
    pub controllers: String,
    /// The container's own cgroup as a detached mount; `None` where a new mount shows no more.
    pub part: Option<OwnedFd>,
}

/// The folder of the hierarchy without controllers that systemd has on hosts with cgroup v1.
const NAMED: &str = "systemd";

/// The placeholder counts too, as long as it is there.
fn with_placeholder(resources: &LinuxResources) -> LinuxResources {
    let mut resources = resources.clone();
    if let Some(pids) = resources.pids_mut()
        && pids.limit() > 0
    {
        pids.set_limit(pids.limit().saturating_add(1));
    }
    resources
}

fn relative(path: &Path) -> Result<&Path> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if plain && path.is_absolute() && relative != Path::new("") {
        Ok(relative)
    } else {
        Err(Error::spec(format!("expected an absolute cgroup path below the root, got {}", path.display())))
    }
}

const ESRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();

/// Where controllers are.
struct Controllers {
    /// Folders of the cgroup in v1 hierarchies.
    v1: Vec<Hierarchy>,
    /// Names in the v2 tree.
    v2: Vec<&'static str>,
    unsupported: Vec<&'static str>,
}

/// Refuses a limit below what is used, which would end a process of the container (checkBeforeUpdate).
fn check_usage(folder: &Path, file: &str, limit: i64) -> Result<()> {
    let usage = number(folder, file)?.unwrap_or(0);
    match u64::try_from(limit) {
        Ok(limit) if limit < usage => {
            Err(Error::spec(format!("memory.limit: expected at least what is in use, {usage}, got {limit}")))
        }
        _ => Ok(()),
    }
}

/// An entry without a weight means nothing.
fn check_weights(device: &LinuxWeightDevice) -> Result<()> {
    match device.weight().is_some() || device.leaf_weight().is_some() {
        true => Ok(()),
        false => Err(Error::spec(format!(
            "blockIO.weightDevice: expected weight or leafWeight for the device {}:{}, got neither",
            device.major(),
            device.minor()
        ))),
    }
}

/// `hugetlb.2MB.max`
fn hugetlb_file(limit: &LinuxHugepageLimit, name: &str) -> Result<String> {
    let size = limit.page_size();
    let digits = size.trim_end_matches(|letter: char| letter.is_ascii_uppercase());
    let is_number = !digits.starts_with('0') && digits.parse::<u32>().is_ok();
    if is_number && ["KB", "MB", "GB"].contains(&&size[digits.len()..]) {
        Ok(format!("hugetlb.{size}.{name}"))
    } else {
        Err(Error::spec(format!("hugepageLimits: expected a page size as in 2MB, got {size:?}")))
    }
}

/// `mlx5_0 hca_handle=2 hca_object=2000`
fn rdma_line(device: &str, limit: &LinuxRdma) -> Result<String> {
    if device.is_empty() || device.contains(|letter: char| letter.is_whitespace()) {
        return Err(Error::spec(format!("rdma: expected the name of a device, got {device:?}")));
    }
    if limit.hca_handles().is_none() && limit.hca_objects().is_none() {
        return Err(Error::spec(format!(
            "rdma: expected hcaHandles or hcaObjects for {device}, got neither"
        )));
    }
    let mut line = device.to_owned();
    for (key, value) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
        line.extend(value.map(|value| format!(" {key}={value}")));
    }
    Ok(line)
}

/// A file of one number; `None` where the file is not there or says that there is no limit.
fn number(folder: &Path, file: &str) -> Result<Option<u64>> {
    Ok(read(folder, file)?.and_then(|text| text.trim().parse().ok()))
}

fn remove_folder(folder: &Path, deadline: Instant) -> Result<()> {
    let mut pause = Duration::from_micros(200);
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Processes that are still ending, or cgroups below.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {}
            Err(error) => return Err(error).during("delete the cgroup", folder)?,
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_folder(&entry.path(), deadline)?;
            }
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn write(folder: &Path, file: &str, value: &str) -> Result<()> {
    write_each(folder, file, [value])
}

/// Writes values of which each takes a call of its own.
fn write_each<'a>(folder: &Path, file: &str, values: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let path = folder.join(file);
    let failed = |value: &str, source| carrack_sys::Error {
        verb: "write to",
        path: format!("{} ({value})", path.display()).into(),
        source,
    };
    let mut opened = None;
    for value in values {
        // Not fs::write: a limit must never be created as an ordinary file.
        let file = match &mut opened {
            Some(file) => file,
            None => {
                opened.insert(File::options().write(true).open(&path).map_err(|error| failed(value, error))?)
            }
        };
        io::Write::write_all(file, value.as_bytes()).map_err(|error| failed(value, error))?;
    }
    Ok(())
}

fn read(folder: &Path, file: &str) -> Result<Option<String>> {
    let bytes = carrack_sys::atomic::read(&folder.join(file))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests;
