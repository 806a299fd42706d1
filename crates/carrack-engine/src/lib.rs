//! The operations of carrack, one file each: pull, push, build, run, exec ... They only put the other crates'
//! parts in sequence; no parsing, HTTP or system calls of their own. The binary, and later the Docker API and CRI,
//! turn each request into one call of this crate and its result into their output.

mod build;
mod build_cache;
mod create;
mod download;
mod engine;
mod error;
mod event;
mod exec;
mod fetch;
mod garbage;
mod host_files;
mod images;
mod import;
mod inspect;
mod layers;
mod login;
mod logs;
mod mount_points;
mod network;
mod origin;
mod ports;
mod pull;
mod push;
mod remove;
mod run_step;
mod sandbox;
mod settings;
mod signal;
mod snapshots;
mod spec;
mod stage;
mod start;
mod stop;
mod supervise;
mod user_snapshots;

pub use build::BuildRequest;
pub use carrack_container::attach::{DetachKeys, Ended, Relay, Request, Signals};
pub use carrack_container::log::{Entry, Selection, Stream};
pub use carrack_container::{
    Bind, Container, ContainerId, HostSettings, NetworkMode, PortBinding, Status, TmpfsMount, Ulimit,
};
pub use carrack_image::ImageRecord;
pub use carrack_image::transport::Location;
pub use carrack_registry as registry;
pub use carrack_snapshot::{Choice, Driver};
pub use carrack_sys::signals::SignalFd;
pub use create::ContainerRequest;
pub use engine::{Engine, Environment, ProxySettings};
pub use error::{Error, Result};
pub use event::{Event, Observer, Phase};
pub use exec::ExecRequest;
pub use images::Removed;
pub use import::ImportOptions;
pub use inspect::{network_text, status_text};
pub use ports::{parse_ports, port_text};
pub use pull::Pulled;
pub use settings::{
    BuildSettings, ContainerSettings, NetworkSettings, Paths, RegistrySettings, Settings, StorageSettings,
};
pub use stage::{STAGE_PROGRAM, run_stage};
pub use start::Session;
