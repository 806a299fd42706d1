//! The container store: records, states and names on disk, safe across processes.
//!
//! Invariant: whoever changes a container holds its lock; readers hold nothing and see only whole files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use carrack_sys::atomic::Durability;
use carrack_sys::lock::Lock;
use carrack_sys::{IoContext, atomic};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::health::CheckLog;
use crate::names::Names;
use crate::watch::Watch;
use crate::{
    ContainerId, ContainerName, ContainerRecord, ContainerState, Error, ProcessId, Result, Status, small_file,
};

const RECORD: &str = "container.json";
const LAST_STATE: &str = "last-state.json";
const STATE: &str = "state.json";
pub(crate) const REMOVED: &str = ".removed-";

/// Threads that read containers for a list: most of it is the kernel's work on many small files.
const READERS: usize = 4;
/// Containers that take longer to read than a thread to start.
const WORTH_A_THREAD: usize = 32;

/// As much of a record as tells whose name it is; the rest is passed over.
#[derive(Deserialize)]
struct Title {
    name: ContainerName,
}

/// A container as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// What was asked for. It is large, and containers are sorted.
    pub record: Box<ContainerRecord>,
    /// What happened to it.
    pub state: ContainerState,
}

/// The containers below one root.
#[derive(Clone, Debug)]
pub struct ContainerStore {
    pub(crate) containers: PathBuf,
    runs: PathBuf,
    pub(crate) names: Names,
}

impl ContainerStore {
    /// Opens the store below `root` (kept) and `runroot` (lost at reboot), making what is missing.
    pub fn open(root: &Path, runroot: &Path) -> Result<Self> {
        let containers = root.join("containers");
        let runs = runroot.join("containers");
        atomic::create_private_dir(&containers)?;
        atomic::create_private_dir(&runs)?;
        Ok(Self { containers, runs, names: Names::open(root.join("container-names"))? })
    }

    /// Adds a container under the name in its record. Durable when it returns, unless the container is
    /// [ephemeral](ContainerRecord::is_ephemeral) or to be removed when it exits. [`Error::NameTaken`] leaves nothing behind; a crash leaves at most what [`sweep`](Self::sweep)
    /// removes.
    pub fn create(&self, record: &ContainerRecord) -> Result<()> {
        let id = &record.id;
        atomic::create_private_dir(&self.run_folder(id))?;
        let _lock = Lock::exclusive(&self.lock_path(id))?;
        let created = self.create_locked(record);
        if created.is_err() {
            self.remove_folders(id)?;
        }
        created
    }

    fn create_locked(&self, record: &ContainerRecord) -> Result<()> {
        let folder = self.folder(&record.id);
        if !record.is_ephemeral() {
            atomic::create_private_dir(&folder)?;
        }
        self.write_record(record)?;
        let durable = !record.host.auto_remove;
        if durable {
            atomic::sync_parent(&folder)?;
        }
        self.claim(&record.name, &record.id, durable)
    }

    /// Adds a container under a random name, which is put into the record.
    pub fn create_with_random_name(&self, record: &mut ContainerRecord) -> Result<()> {
        const ATTEMPTS: u32 = 100;
        for attempt in 0.. {
            record.name = ContainerName::random(attempt)?;
            match self.create(record) {
                Err(Error::NameTaken { .. }) if attempt < ATTEMPTS => {}
                done => return done,
            }
        }
        unreachable!("the last attempt returns")
    }

    /// The container with this id.
    pub fn get(&self, id: &ContainerId) -> Result<Container> {
        self.get_existing(id)?.ok_or_else(|| Error::NotFound { text: id.to_string() })
    }

    /// The container that a user names: a whole id, a name (with or without a leading `/`), or the beginning of an
    /// id that fits no other container.
    pub fn find(&self, text: &str) -> Result<Container> {
        let not_found = || Error::NotFound { text: text.to_owned() };
        if let Ok(id) = text.parse() {
            match self.get(&id) {
                Err(Error::NotFound { .. }) => {}
                found => return found,
            }
        }
        if let Ok(name) = text.strip_prefix('/').unwrap_or(text).parse::<ContainerName>()
            && let Some(id) = self.names.get(&name)?
            && self.owns(&id, &name)?
        {
            return self.get(&id);
        }
        if text.is_empty() {
            return Err(not_found());
        }
        let mut fits = self.ids()?;
        fits.retain(|id| id.as_str().starts_with(text));
        let mut found =
            fits.iter().filter_map(|id| self.get_existing(id).transpose()).collect::<Result<Vec<_>>>()?;
        match found.len() {
            0 | 1 => found.pop().ok_or_else(not_found),
            count => Err(Error::Ambiguous { text: text.to_owned(), count }),
        }
    }

    /// All containers, newest first. One that cannot be read is left out with a warning, so that the others stay
    /// usable.
    pub fn list(&self) -> Result<Vec<Container>> {
        let ids: Vec<_> = self.ids()?.into_iter().collect();
        let share = ids.len().div_ceil(READERS).max(WORTH_A_THREAD);
        let mut containers = thread::scope(|scope| {
            let mut shares = ids.chunks(share);
            let own = shares.next().unwrap_or_default();
            let others: Vec<_> = shares.map(|ids| scope.spawn(|| self.read_all(ids))).collect();
            let mut containers = self.read_all(own);
            for other in others {
                containers.extend(other.join().expect("a reader does not panic"));
            }
            containers
        });
        containers.sort_by_key(|container| std::cmp::Reverse(container.record.created));
        Ok(containers)
    }

    /// Those of the containers that exist and can be read.
    fn read_all(&self, ids: &[ContainerId]) -> Vec<Container> {
        let mut containers = Vec::with_capacity(ids.len());
        for id in ids {
            match self.get_existing(id) {
                Ok(container) => containers.extend(container),
                Err(error) => tracing::warn!(container = %id, %error, "container left out"),
            }
        }
        containers
    }

    /// Waits until nobody else changes the container, and keeps others from doing so.
    pub fn lock(&self, id: &ContainerId) -> Result<Locked<'_>> {
        if !self.run_folder(id).exists() {
            if !self.folder(id).exists() {
                return Err(Error::NotFound { text: id.to_string() });
            }
            // A reboot has taken it.
            atomic::create_private_dir(&self.run_folder(id))?;
        }
        let lock = Lock::exclusive(&self.lock_path(id))?;
        let locked = Locked { store: self, id: id.clone(), _lock: lock };
        // The one that held the lock before may have deleted the container, or failed to create it.
        if !self.exists(id)? {
            self.remove_folders(id)?;
            return Err(Error::NotFound { text: id.to_string() });
        }
        Ok(locked)
    }

    /// Changes the state under the lock and returns the new one; see [`Locked::update`].
    pub fn update(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&mut ContainerState) -> Result<()>,
    ) -> Result<ContainerState> {
        self.lock(id)?.update(change)
    }

    /// Waits until `done` holds of the state, or `limit` is over; returns the state as it then is.
    ///
    /// Never hangs on a monitor that was killed: its state becomes `exited`. A container that is deleted meanwhile
    /// is [`Error::NotFound`].
    pub fn wait(
        &self,
        id: &ContainerId,
        limit: Option<Duration>,
        done: impl Fn(&ContainerState) -> bool,
    ) -> Result<ContainerState> {
        const LOOK_AGAIN: Duration = Duration::from_secs(1);
        let started = Instant::now();
        let watch = Watch::new(&self.run_folder(id));
        loop {
            let state = self.get(id)?.state;
            let left = limit.map(|limit| limit.saturating_sub(started.elapsed()));
            if done(&state) || left.is_some_and(|left| left.is_zero()) {
                return Ok(state);
            }
            let monitor = state.monitor.as_ref().map(ProcessId::open).transpose()?.flatten();
            watch.wait(
                monitor.as_ref().map(std::os::fd::AsFd::as_fd),
                left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN),
            );
        }
    }

    /// Removes what crashes left: creations without a name, deletions cut short, run folders of nobody.
    pub fn sweep(&self) -> Result<()> {
        for name in file_names(&self.containers)? {
            if name.starts_with(REMOVED) {
                let path = self.containers.join(name);
                remove_folder(&path)?;
            }
        }
        for id in self.ids()? {
            if !self.exists(&id)? {
                self.sweep_one(&id)?;
            }
        }
        for (name, _) in self.names.list()? {
            match self.names.take_back(&name, |owner| self.is_given_up(&name, owner)) {
                // Nor is the name of what cannot be read carrack's to throw away.
                Ok(()) | Err(Error::NameTaken { .. } | Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes the folders of a container that does not exist, unless somebody is just creating it.
    fn sweep_one(&self, id: &ContainerId) -> Result<()> {
        atomic::create_private_dir(&self.run_folder(id))?;
        let lock = Lock::try_exclusive(&self.lock_path(id))?;
        match lock.is_some() && !self.exists(id)? {
            true => self.remove_folders(id),
            false => Ok(()),
        }
    }

    /// The folder of a container that survives reboots: its log, and files the engine keeps with it.
    pub fn folder(&self, id: &ContainerId) -> PathBuf {
        self.containers.join(id.as_str())
    }

    /// The folder of a container that a reboot takes: its attach socket.
    pub fn run_folder(&self, id: &ContainerId) -> PathBuf {
        self.runs.join(id.as_str())
    }

    /// The file that a container's output is logged to.
    pub fn log_path(&self, id: &ContainerId) -> PathBuf {
        self.folder(id).join("container.log")
    }

    /// What the last health checks of the container's last start said.
    pub fn checks(&self, id: &ContainerId) -> Result<CheckLog> {
        let path = self.checks_path(id);
        small_file::read_with(&path, |bytes| parse(&path, bytes))?.unwrap_or_else(|| Ok(CheckLog::default()))
    }

    fn checks_path(&self, id: &ContainerId) -> PathBuf {
        self.run_folder(id).join("health.json")
    }

    fn lock_path(&self, id: &ContainerId) -> PathBuf {
        self.run_folder(id).join("lock")
    }

    /// Whatever may be a container: of each there is a folder that a reboot leaves, or one that it takes, or both.
    pub(crate) fn ids(&self) -> Result<BTreeSet<ContainerId>> {
        let names = file_names(&self.containers)?.into_iter().chain(file_names(&self.runs)?);
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// `None` when there is no record, or an empty one: that was never made durable, so nobody was told of it.
    pub(crate) fn read_record<T: DeserializeOwned>(&self, id: &ContainerId) -> Result<Option<T>> {
        for folder in [self.folder(id), self.run_folder(id)] {
            let path = folder.join(RECORD);
            let parse_written = |bytes: &[u8]| match bytes.is_empty() {
                true => Ok(None),
                false => parse(&path, bytes).map(Some),
            };
            if let Some(found) = small_file::read_with(&path, parse_written)? {
                return found;
            }
        }
        Ok(None)
    }

    fn write_record(&self, record: &ContainerRecord) -> Result<()> {
        let folder =
            if record.is_ephemeral() { self.run_folder(&record.id) } else { self.folder(&record.id) };
        let durability = if record.host.auto_remove { Durability::Volatile } else { Durability::Durable };
        write_json(&folder.join(RECORD), record, durability)
    }

    /// The container, unless it is a creation that is not complete.
    pub(crate) fn get_existing(&self, id: &ContainerId) -> Result<Option<Container>> {
        let Some(record) = self.read_record::<Box<ContainerRecord>>(id)? else { return Ok(None) };
        match self.names.get(&record.name)?.as_ref() == Some(id) {
            true => Ok(Some(Container { state: self.state(id)?, record })),
            false => Ok(None),
        }
    }

    /// Whether there is such a container, even if its record cannot be read.
    pub fn exists(&self, id: &ContainerId) -> Result<bool> {
        match self.read_record::<Title>(id) {
            // What cannot be read is not carrack's to throw away.
            Err(Error::Corrupt { .. }) => Ok(true),
            Err(error) => Err(error),
            Ok(None) => Ok(false),
            Ok(Some(title)) => match self.names.get(&title.name) {
                Ok(owner) => Ok(owner.as_ref() == Some(id)),
                // Nor is a container whose name is damaged.
                Err(_) => Ok(true),
            },
        }
    }

    pub(crate) fn owns(&self, id: &ContainerId, name: &ContainerName) -> Result<bool> {
        Ok(self.read_record::<Title>(id)?.is_some_and(|title| title.name == *name))
    }

    fn claim(&self, name: &ContainerName, id: &ContainerId, durable: bool) -> Result<()> {
        self.names.claim(name, id, durable, |owner| self.is_given_up(name, owner))
    }

    /// Whether the container that a name's link points to has given the name up, or is not there.
    fn is_given_up(&self, name: &ContainerName, owner: &ContainerId) -> Result<bool> {
        if self.owns(owner, name)? {
            return Ok(false);
        }
        if !self.run_folder(owner).exists() {
            return Ok(true);
        }
        // One that is just being renamed has claimed its new name before its record says so.
        let lock = Lock::try_exclusive(&self.lock_path(owner))?;
        Ok(lock.is_some() && !self.owns(owner, name)?)
    }

    /// The state as it is now, whatever a crash or a reboot has taken.
    fn state(&self, id: &ContainerId) -> Result<ContainerState> {
        let parse_state = |bytes: &[u8]| {
            serde_json::from_slice(bytes)
                .map(ContainerState::observed)
                // Not synced, so a loss of power may leave any bytes: the container had been started.
                .unwrap_or_else(|_| ContainerState::lost("its state was lost"))
        };
        let state = match small_file::read_with(&self.run_folder(id).join(STATE), parse_state)? {
            Some(state) => Some(state),
            None => small_file::read_with(&self.folder(id).join(LAST_STATE), parse_state)?,
        };
        Ok(state.unwrap_or_default())
    }

    fn write_state(&self, id: &ContainerId, state: &ContainerState) -> Result<()> {
        write_json(&self.run_folder(id).join(STATE), state, Durability::Volatile)?;
        let is_lasting =
            matches!(state.status, Status::Creating | Status::Created | Status::Initialized | Status::Exited);
        if is_lasting && self.folder(id).join(RECORD).exists() {
            write_json(&self.folder(id).join(LAST_STATE), state, Durability::Volatile)?;
        }
        Ok(())
    }

    fn remove_folders(&self, id: &ContainerId) -> Result<()> {
        let folder = self.folder(id);
        let removed = self.containers.join(format!("{REMOVED}{id}"));
        match fs::rename(&folder, &removed) {
            Ok(()) => remove_folder(&removed)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => Err(error).during("rename", &folder)?,
        }
        remove_folder(&self.run_folder(id))
    }
}

/// A container that only this process may change.
#[derive(Debug)]
pub struct Locked<'a> {
    store: &'a ContainerStore,
    id: ContainerId,
    _lock: Lock,
}

impl Locked<'_> {
    /// The container as it is now.
    pub fn get(&self) -> Result<Container> {
        self.store.get(&self.id)
    }

    /// Changes the state and returns the new one; nothing is written when `change` fails. `change` sees the state as
    /// it is now: of a container whose monitor is gone, `exited`.
    pub fn update(&self, change: impl FnOnce(&mut ContainerState) -> Result<()>) -> Result<ContainerState> {
        let before = self.store.state(&self.id)?;
        let mut state = before.clone();
        change(&mut state)?;
        if state != before {
            self.store.write_state(&self.id, &state)?;
        }
        Ok(state)
    }

    /// Changes what was asked for; its id and name stay. After a crash the old or the new holds.
    pub fn change_record(&self, change: impl FnOnce(&mut ContainerRecord)) -> Result<Box<ContainerRecord>> {
        let mut record = self.get()?.record;
        let (id, name) = (record.id.clone(), record.name.clone());
        change(&mut record);
        (record.id, record.name) = (id, name);
        self.store.write_record(&record)?;
        Ok(record)
    }

    /// Keeps what health checks said, in place of what was kept before.
    pub fn write_checks(&self, checks: &CheckLog) -> Result<()> {
        write_json(&self.store.checks_path(&self.id), checks, Durability::Volatile)
    }

    /// Gives the container another name. After a crash it has the old or the new one.
    pub fn rename(&self, name: &ContainerName) -> Result<()> {
        let mut record = self.get()?.record;
        let old = std::mem::replace(&mut record.name, name.clone());
        if old == *name {
            return Ok(());
        }
        self.store.claim(name, &self.id, !record.host.auto_remove)?;
        if let Err(error) = self.store.write_record(&record) {
            self.store.names.release(name, &self.id)?;
            return Err(error);
        }
        self.store.names.release(&old, &self.id)
    }

    /// Forgets the container, its log and its folders. What its state says is to be undone must be undone before.
    pub fn delete(self) -> Result<()> {
        match self.store.read_record::<Title>(&self.id) {
            Ok(Some(title)) => self.store.names.release(&title.name, &self.id)?,
            Ok(None) | Err(Error::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        self.store.remove_folders(&self.id)
    }
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Corrupt { path: path.to_owned(), source })
}

fn write_json(path: &Path, value: &impl serde::Serialize, durability: Durability) -> Result<()> {
    let bytes =
        serde_json::to_vec(value).map_err(|source| Error::Corrupt { path: path.to_owned(), source })?;
    Ok(atomic::write(path, &bytes, 0o600, durability)?)
}

pub(crate) fn file_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).during("list", folder)? {
        names.extend(entry.during("list", folder)?.file_name().into_string());
    }
    Ok(names)
}

/// The standard library removes by folder descriptors, so links in the folder are not followed.
fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => Ok(removed.during("remove", folder)?),
    }
}
