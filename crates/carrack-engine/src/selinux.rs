//! SELinux contexts: chosen when a container is created, kept in its record, in force at each start.
//!
//! Invariant: two containers of a store never get one pair of categories, and a container that is gone has none: the
//! records are the list of what is taken, and whoever adds to it holds the lock. Where SELinux is off there are no
//! contexts, whatever is asked for: the same command works on every host. What is asked for is checked all the same.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;

use carrack_container::{
    Container, ContainerRecord, ContainerStore, Contexts, HostSettings, IpcMode, NamespaceMode,
    SecuritySettings,
};
use carrack_runtime::labels::selinux_is_enabled_below;
use carrack_snapshot::{Mount, Opening};
use carrack_sys::atomic;
use carrack_sys::lock::Lock;

use crate::relabel::relabel;
use crate::{Engine, Error, Result};

/// Where the files of this host are.
const HOST: &str = "/";
/// Categories of the policies that know containers; podman takes pairs of as many.
const CATEGORIES: u16 = 1024;
/// The level of files of containers whose processes have no context: no confined process gets it.
const LEVEL_OF_UNCONFINED: &str = "s0:c1022,c1023";
/// What is shared by all containers.
const SHARED_LEVEL: &str = "s0";

impl Engine {
    /// Gives the container its contexts. The lock is to be held until its record is written, so that no other
    /// container gets the same categories.
    pub(crate) fn assign_contexts(&self, record: &mut ContainerRecord) -> Result<Option<Lock>> {
        let lock = self.environment.paths.root.join("selinux.lock");
        assign(Path::new(HOST), &lock, &self.containers, record)
    }

    /// Contexts of a step of a build, which has no record: its categories are none that a container has.
    pub(crate) fn contexts_of_step(&self) -> Result<Option<Contexts>> {
        let Some(policy) = Policy::in_force(Path::new(HOST))? else { return Ok(None) };
        Ok(Some(policy.choose(&Options::default(), &taken(&self.containers.list()?))?))
    }
}

fn assign(
    host: &Path,
    lock: &Path,
    containers: &ContainerStore,
    record: &mut ContainerRecord,
) -> Result<Option<Lock>> {
    let options = Options::of(&record.host.security)?.sharing(containers, &record.host)?;
    if !selinux_is_enabled_below(host) {
        return Ok(None);
    }
    let Some(policy) = Policy::read(host)? else { return options.without_policy().map(|()| None) };
    let lock = Lock::exclusive(lock)?;
    record.host.security.contexts = Some(policy.choose(&options, &taken(&containers.list()?))?);
    Ok(Some(lock))
}

/// Refuses options that mean nothing, wherever SELinux is.
pub(crate) fn check(security: &SecuritySettings) -> Result<()> {
    Options::of(security).map(drop)
}

/// The contexts that hold now: none where SELinux was switched off since.
pub(crate) fn in_force(security: &SecuritySettings) -> Option<&Contexts> {
    security.contexts.as_ref().filter(|_| selinux_is_enabled_below(Path::new(HOST)))
}

/// Opens the files of a container or of an image with the label of a container's files, where there is one.
pub(crate) fn open_labelled(
    mount: &Mount,
    contexts: Option<&Contexts>,
    opening: Opening<'_>,
) -> Result<OwnedFd> {
    let context = contexts.map(|contexts| contexts.files.as_str());
    let opened = mount.open_with(Opening { context, ..opening })?;
    if let Some(context) = context.filter(|_| !mount.takes_context()) {
        relabel(&opened, context)?;
    }
    Ok(opened)
}

/// The label of files that all containers share, where there are labels.
pub(crate) fn shared_files() -> Result<Option<String>> {
    let policy = Policy::in_force(Path::new(HOST))?;
    Ok(policy.map(|policy| shared(&policy.files.text())))
}

/// The same label for all containers.
pub(crate) fn shared(files: &str) -> String {
    Context::parse(files).map_or_else(|| files.to_owned(), |context| context.at(SHARED_LEVEL).text())
}

/// Whether a container may use SELinux itself.
pub(crate) fn is_nested(security: &SecuritySettings) -> bool {
    Options::of(security).is_ok_and(|options| options.nested)
}

/// `user:role:type[:level]`; a level has colons of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Context {
    user: String,
    role: String,
    kind: String,
    level: Option<String>,
}

impl Context {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        let mut next = || parts.next().filter(|part| !part.is_empty());
        Some(Self { user: next()?, role: next()?, kind: next()?, level: next() })
    }

    fn at(mut self, level: &str) -> Self {
        self.level = Some(level.to_owned());
        self
    }

    fn text(&self) -> String {
        let level = self.level.iter().map(|level| format!(":{level}")).collect::<String>();
        format!("{}:{}:{}{level}", self.user, self.role, self.kind)
    }
}

/// What `--security-opt label=` and shared namespaces ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    disabled: bool,
    nested: bool,
    user: Option<String>,
    role: Option<String>,
    kind: Option<String>,
    level: Option<String>,
    file_kind: Option<String>,
}

impl Options {
    /// Reads the options; a privileged container has no context, as in podman.
    pub fn of(security: &SecuritySettings) -> Result<Self> {
        let mut options = Self { disabled: security.privileged, ..Self::default() };
        for option in &security.options {
            if let Some(label) = option.strip_prefix("label=").or_else(|| option.strip_prefix("label:")) {
                options.read(label, option)?;
            }
        }
        Ok(options)
    }

    fn read(&mut self, label: &str, option: &str) -> Result<()> {
        let (key, value) = label.split_once(':').unwrap_or((label, ""));
        let plain = |symbol: char| symbol.is_ascii_alphanumeric() || "_.,:-".contains(symbol);
        let is_value = !value.is_empty() && value.chars().all(plain);
        let given = Some(value.to_owned());
        match key {
            "disable" if value.is_empty() => self.disabled = true,
            "nested" if value.is_empty() => self.nested = true,
            "user" if is_value => self.user = given,
            "role" if is_value => self.role = given,
            "type" if is_value => self.kind = given,
            "level" if is_value => self.level = given,
            "filetype" if is_value => self.file_kind = given,
            _ => {
                let hint = "expected label=disable, nested, user:, role:, type:, level: or filetype:VALUE";
                return Err(Error::refused(format!("unknown security option {option:?}"), hint));
            }
        }
        Ok(())
    }

    /// Who sees the processes or the memory of others must be allowed to: with the host's there is no context, with
    /// those of a container it is that container's.
    fn sharing(mut self, containers: &ContainerStore, host: &HostSettings) -> Result<Self> {
        let ipc = match &host.namespaces.ipc {
            IpcMode::Of(mode) => mode,
            _ => &NamespaceMode::Private,
        };
        for mode in [&host.namespaces.pid, ipc] {
            match mode {
                NamespaceMode::Host => self.disabled = true,
                NamespaceMode::Container(other) => {
                    let other = containers.find(other)?.record.host.security.contexts;
                    let context = other.and_then(|contexts| Context::parse(&contexts.process?));
                    if let Some(Context { user, role, kind, level }) = context {
                        (self.user, self.role, self.kind) = (Some(user), Some(role), Some(kind));
                        self.level = level;
                    }
                }
                NamespaceMode::Private | NamespaceMode::Path(_) => {}
            }
        }
        Ok(self)
    }

    /// On a host with SELinux whose policy has no labels for containers: fails where some are asked for.
    fn without_policy(&self) -> Result<()> {
        let asks = Self { nested: false, ..self.clone() } != Self::default();
        if asks && !self.disabled {
            return Err(Error::refused(
                "the SELinux policy of this host has no labels for containers",
                "install the policy container-selinux, or use --security-opt label=disable",
            ));
        }
        Ok(())
    }
}

/// What the policy of a host says of containers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Policy {
    process: Context,
    files: Context,
}

impl Policy {
    /// Of the host whose files are below `root`; `None` where SELinux is off, or its policy has no containers.
    fn in_force(root: &Path) -> Result<Option<Self>> {
        match selinux_is_enabled_below(root) {
            true => Self::read(root),
            false => Ok(None),
        }
    }

    /// The file of container-selinux, else that of the policy that is loaded.
    fn read(root: &Path) -> Result<Option<Self>> {
        let text = |path: &Path| -> Result<Option<String>> {
            Ok(atomic::read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let own = text(&root.join("usr/share/containers/selinux/contexts"))?;
        let contexts = match own {
            Some(own) => Some(own),
            None => {
                let config = text(&root.join("etc/selinux/config"))?.unwrap_or_default();
                let kind = value(&config, "SELINUXTYPE").filter(|kind| !kind.contains(['/', '\0']));
                let file = kind.map(|kind| root.join("etc/selinux").join(kind).join("contexts/lxc_contexts"));
                file.map(|file| text(&file)).transpose()?.flatten()
            }
        };
        let contexts = contexts.unwrap_or_default();
        let context = |key: &str| value(&contexts, key).and_then(Context::parse);
        Ok(context("process").zip(context("file")).map(|(process, files)| Self { process, files }))
    }

    /// What the options say on top of the policy, with a pair of categories that is not taken.
    fn choose(&self, options: &Options, taken: &BTreeSet<Pair>) -> Result<Contexts> {
        let Self { mut process, mut files } = self.clone();
        if options.disabled {
            return Ok(Contexts { process: None, files: files.at(LEVEL_OF_UNCONFINED).text() });
        }
        let set = |part: &mut String, asked: &Option<String>| {
            if let Some(asked) = asked {
                part.clone_from(asked);
            }
        };
        set(&mut process.user, &options.user);
        set(&mut files.user, &options.user);
        set(&mut process.role, &options.role);
        set(&mut process.kind, &options.kind);
        set(&mut files.kind, &options.file_kind);
        let level = match &options.level {
            Some(level) => Some(level.clone()),
            // A policy without levels has no categories.
            None if process.level.is_none() => None,
            None => Some(free_level(taken)?),
        };
        if let Some(level) = level {
            (process, files) = (process.at(&level), files.at(&level));
        }
        Ok(Contexts { process: Some(process.text()), files: files.text() })
    }
}

/// `key = "value"`, as the last line of the key says.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let values = lines.filter_map(|line| line.split_once('=')).filter(|(name, _)| name.trim() == key);
    let value = values.map(|(_, value)| value.trim().trim_matches('"')).next_back();
    value.filter(|value| !value.is_empty())
}

/// Two categories, the lower one first.
type Pair = (u16, u16);

fn free_level(taken: &BTreeSet<Pair>) -> Result<String> {
    let random =
        getrandom::u32().map_err(|error| Error::Stage(format!("cannot read random numbers: {error}")))?;
    let (one, two) = free_pair(taken, CATEGORIES, random).ok_or_else(|| {
        let hint = "remove containers that are not needed, or give a level: --security-opt label=level:LEVEL";
        Error::refused("every pair of SELinux categories belongs to a container", hint)
    })?;
    Ok(format!("{SHARED_LEVEL}:c{one},c{two}"))
}

/// The first pair that is not taken, from a random one on.
fn free_pair(taken: &BTreeSet<Pair>, categories: u16, random: u32) -> Option<Pair> {
    let count = u32::from(categories) * u32::from(categories - 1) / 2;
    (0..count).map(|step| pair((random % count + step) % count)).find(|pair| !taken.contains(pair))
}

/// The pairs in an order: (0,1), (0,2), (1,2), (0,3) ...
fn pair(number: u32) -> Pair {
    let upper = (1..u32::from(CATEGORIES)).find(|upper| upper * (upper + 1) / 2 > number).unwrap_or(1);
    let narrow = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    (narrow(number - upper * (upper - 1) / 2), narrow(upper))
}

/// What the containers have, and what nobody gets.
fn taken(containers: &[Container]) -> BTreeSet<Pair> {
    let contexts = containers.iter().filter_map(|container| container.record.host.security.contexts.as_ref());
    let files = contexts.filter_map(|contexts| Context::parse(&contexts.files)?.level);
    files.chain([LEVEL_OF_UNCONFINED.to_owned()]).filter_map(|level| categories(&level)).collect()
}

/// `s0:c1,c2`
fn categories(level: &str) -> Option<Pair> {
    let (one, two) = level.split_once(':')?.1.split_once(',')?;
    let number = |text: &str| text.strip_prefix('c')?.parse::<u16>().ok();
    let (one, two) = (number(one)?, number(two)?);
    Some((one.min(two), one.max(two)))
}

#[cfg(test)]
mod tests;
