//! Control groups: one folder in each v1 hierarchy that the container's limits need, and one in the v2 tree.
//!
//! A cgroup is created before the first process and deleted after the last one; both may be repeated.

mod entrance;
mod freezer;
mod layout;
mod v1;
mod v2;

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use carrack_sys::IoContext;
use oci_spec::runtime::LinuxResources;
use rustix::process::{Pid, Signal, kill_process};

pub(crate) use entrance::Entrances;
pub use layout::{Hierarchy, Layout};

use crate::{Error, Result};

/// The cgroup of one container.
#[derive(Clone, Debug)]
pub struct Cgroup {
    /// Folders in v1 hierarchies.
    v1: Vec<Hierarchy>,
    /// Folder in the v2 tree.
    v2: Option<PathBuf>,
    /// Limits for which the host has no controller.
    unsupported: Vec<&'static str>,
}

impl Cgroup {
    /// Makes the cgroup `path` (absolute, below the roots of the host's hierarchies) with the limits of `resources`.
    pub fn create(path: &Path, resources: &LinuxResources) -> Result<Self> {
        Self::create_in(&Layout::host()?, path, resources)
    }

    /// [`Self::create`] in hierarchies at another place. What was made is removed when it fails.
    pub fn create_in(layout: &Layout, path: &Path, resources: &LinuxResources) -> Result<Self> {
        let relative = relative(path)?;
        let controllers = needed(resources);
        let mut cgroup = Self { v1: Vec::new(), v2: None, unsupported: Vec::new() };
        let made =
            cgroup.make_folders(layout, relative, &controllers).and_then(|()| cgroup.update(resources));
        match made {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                let _ = cgroup.delete();
                Err(error)
            }
        }
    }

    fn make_folders(&mut self, layout: &Layout, relative: &Path, controllers: &[&'static str]) -> Result<()> {
        let mut of_v2 = Vec::new();
        for controller in controllers {
            if let Some(hierarchy) = layout.v1_of(controller) {
                let hierarchy = hierarchy.below(relative);
                if !self.v1.contains(&hierarchy) {
                    fs::create_dir_all(&hierarchy.folder).during("create the cgroup", &hierarchy.folder)?;
                    self.v1.push(hierarchy);
                }
            } else if layout.v2_controllers.iter().any(|one| one == controller) {
                of_v2.push(*controller);
            } else {
                self.unsupported.push(controller);
            }
        }
        if layout.v2.is_none()
            && let Some(hierarchy) = layout.v1_of("freezer")
        {
            let hierarchy = hierarchy.below(relative);
            fs::create_dir_all(&hierarchy.folder).during("create the cgroup", &hierarchy.folder)?;
            self.v1.push(hierarchy);
        }
        if let Some(root) = &layout.v2 {
            self.v2 = Some(root.join(relative));
            v2::make_folder(root, relative, &of_v2)?;
        }
        Ok(())
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
        Ok(Self { v1, v2, unsupported: Vec::new() })
    }

    /// Sets the limits that `resources` names and keeps all others.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        for hierarchy in &self.v1 {
            v1::apply(hierarchy, resources)?;
        }
        let of_v1 = |controller: &str| self.v1.iter().any(|hierarchy| hierarchy.has(controller));
        self.v2.as_ref().map_or(Ok(()), |folder| v2::apply(folder, resources, &of_v1))
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

    /// What a mount of type `cgroup` inside the container shows.
    pub(crate) fn view(&self) -> View {
        let v1 = self.v1.iter().map(|hierarchy| hierarchy.controllers.clone()).collect();
        View { v1, v2: self.v2.is_some() }
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
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Processes directly in the cgroup.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        let folders = self.v1.iter().map(|hierarchy| &hierarchy.folder).chain(&self.v2);
        let mut pids = Vec::new();
        for folder in folders {
            let text = read(folder, "cgroup.procs")?.unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)));
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
        let deadline = Instant::now() + Duration::from_secs(5);
        let folders = self.v1.iter().map(|hierarchy| &hierarchy.folder).chain(&self.v2);
        folders.map(|folder| remove_folder(folder, deadline)).fold(Ok(()), Result::and)
    }
}

/// Which hierarchies a container sees.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub v1: Vec<String>,
    pub v2: bool,
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

/// Controllers that `resources` needs.
fn needed(resources: &LinuxResources) -> Vec<&'static str> {
    let cpu = resources.cpu().as_ref();
    let in_time = |cpu: &oci_spec::runtime::LinuxCpu| {
        cpu.shares().is_some() || cpu.quota().is_some() || cpu.period().is_some() || cpu.idle().is_some()
    };
    let in_place = |cpu: &oci_spec::runtime::LinuxCpu| cpu.cpus().is_some() || cpu.mems().is_some();
    let wanted = [
        ("memory", resources.memory().is_some()),
        ("pids", resources.pids().is_some()),
        ("cpu", cpu.is_some_and(in_time)),
        ("cpuset", cpu.is_some_and(in_place)),
        ("devices", resources.devices().as_ref().is_some_and(|rules| !rules.is_empty())),
    ];
    wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect()
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
    let path = folder.join(file);
    // Not fs::write: a limit must never be created as an ordinary file.
    let result = File::options()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    match result {
        Ok(()) => Ok(()),
        Err(source) => Err(carrack_sys::Error {
            verb: "write to",
            path: format!("{} ({value})", path.display()).into(),
            source,
        }
        .into()),
    }
}

fn read(folder: &Path, file: &str) -> Result<Option<String>> {
    let bytes = carrack_sys::atomic::read(&folder.join(file))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests;
