//! The operations of carrack, one file each: pull, push, build, run, exec ... They only put the other crates'
//! parts in sequence; no parsing, HTTP or system calls of their own. The binary, and later the Docker API and CRI,
//! turn each request into one call of this crate and its result into their output.

mod build;
mod build_cache;
mod commit;
mod create;
mod download;
mod engine;
mod error;
mod event;
mod exec;
mod export;
mod fetch;
mod freeze;
mod garbage;
mod history;
mod host_files;
mod image_mounts;
mod images;
mod import;
mod inspect;
mod layers;
mod load;
mod login;
mod logs;
mod mount_points;
mod network;
mod origin;
mod ports;
mod pull;
mod pull_policy;
mod push;
mod registries;
mod remove;
mod rename;
mod run_step;
mod sandbox;
mod save;
mod settings;
mod signal;
mod snapshots;
mod spec;
mod stage;
mod start;
mod stop;
mod supervise;
mod unpack;
mod user_snapshots;

pub use build::BuildRequest;
pub use carrack_container::attach::{DetachKeys, Ended, Relay, Request, Signals};
pub use carrack_container::log::{Entry, Selection, Stream};
pub use carrack_container::{
    Bind, Container, ContainerId, HostSettings, NetworkMode, PortBinding, Status, TmpfsMount, Ulimit,
};
pub use carrack_distribution::RegistryFiles;
pub use carrack_image::ImageRecord;
pub use carrack_image::transport::{Location, Output};
pub use carrack_registry as registry;
pub use carrack_snapshot::{Choice, Driver, ImageMount, Lower, Mount, SnapshotInfo, SnapshotName};
pub use carrack_sys::signals::SignalFd;
pub use commit::{CommitRequest, Format};
pub use create::ContainerRequest;
pub use engine::{Engine, Environment, ProxySettings};
pub use error::{Error, Result};
pub use event::{Event, Observer, Phase};
pub use exec::ExecRequest;
pub use history::HistoryRow;
pub use image_mounts::ImageMounted;
pub use images::Removed;
pub use import::ImportOptions;
pub use inspect::{network_text, status_text};
pub use load::{LoadInput, Loaded};
pub use ports::{container_side, host_side, parse_ports, port_text};
pub use pull::Pulled;
pub use pull_policy::PullPolicy;
pub use registries::RegistryAccess;
pub use save::{SaveFormat, SaveRequest, SaveTarget};
pub use settings::{
    BuildSettings, ContainerSettings, NetworkSettings, Paths, RegistrySettings, Settings, StorageSettings,
};
pub use stage::{STAGE_PROGRAM, run_stage};
pub use start::Session;
pub use user_snapshots::{SnapshotUsage, snapshot_text};
