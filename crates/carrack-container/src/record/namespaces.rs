//! Which namespaces a container shares, and with whom.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The namespaces of a container beside those of its mounts and its network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceSettings {
    /// Users and groups.
    pub user: UserMode,
    /// Processes.
    pub pid: NamespaceMode,
    /// Memory and messages between processes.
    pub ipc: IpcMode,
    /// Host and domain name.
    pub uts: NamespaceMode,
    /// The root of the cgroup view; only its own or the host's.
    pub cgroup: NamespaceMode,
}

/// Whose namespace a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of another container, by its id once the container is created.
    Container(String),
    /// That of a file.
    Path(PathBuf),
}

/// Whose IPC namespace, and whether others may have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpcMode {
    /// Its own, which others may join.
    #[default]
    Shareable,
    /// Its own, which others may not join.
    Private,
    /// Its own, without /dev/shm.
    None,
    /// Another.
    Of(NamespaceMode),
}

/// Whose users a container's users are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserMode {
    /// The host's.
    #[default]
    Host,
    /// Those of a range of the host that no other container has, of so many ids.
    Auto(u32),
    /// In a user namespace with the host's ids.
    KeepId,
    /// As listed.
    Mapped {
        /// Users.
        uids: Vec<IdRange>,
        /// Groups.
        gids: Vec<IdRange>,
    },
    /// Those of another container, by its id once the container is created.
    Container(String),
    /// Those of the user namespace of a file.
    Path(PathBuf),
}

/// Consecutive ids inside, and what they are outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first inside.
    pub inside: u32,
    /// The first outside.
    pub outside: u32,
    /// How many.
    pub size: u32,
}

impl Display for NamespaceMode {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => formatter.write_str("private"),
            Self::Host => formatter.write_str("host"),
            Self::Container(id) => write!(formatter, "container:{id}"),
            Self::Path(path) => write!(formatter, "ns:{}", path.display()),
        }
    }
}

impl Display for IpcMode {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shareable => formatter.write_str("shareable"),
            Self::Private => formatter.write_str("private"),
            Self::None => formatter.write_str("none"),
            Self::Of(mode) => mode.fmt(formatter),
        }
    }
}

impl Display for UserMode {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => formatter.write_str("host"),
            Self::Auto(size) => write!(formatter, "auto:size={size}"),
            Self::KeepId => formatter.write_str("keep-id"),
            Self::Mapped { .. } => formatter.write_str("private"),
            Self::Container(id) => write!(formatter, "container:{id}"),
            Self::Path(path) => write!(formatter, "ns:{}", path.display()),
        }
    }
}

impl NamespaceSettings {
    /// Every name of another container in it.
    pub fn containers(&mut self) -> Vec<&mut String> {
        let mut names = Vec::new();
        if let UserMode::Container(name) = &mut self.user {
            names.push(name);
        }
        let ipc = match &mut self.ipc {
            IpcMode::Of(mode) => Some(mode),
            _ => None,
        };
        for mode in [&mut self.pid, &mut self.uts, &mut self.cgroup].into_iter().chain(ipc) {
            if let NamespaceMode::Container(name) = mode {
                names.push(name);
            }
        }
        names
    }
}
