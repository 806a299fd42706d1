//! The operations of carrack, one file each: pull, push, build, run, exec ... They only put the other crates'
//! parts in sequence; no parsing, HTTP or system calls of their own. The binary, and later the Docker API and CRI,
//! turn each request into one call of this crate and its result into their output.

mod build;
mod build_cache;
mod check;
mod commit;
mod copy;
mod create;
mod download;
mod engine;
mod error;
mod event;
mod events;
mod exec;
mod export;
mod fetch;
mod freeze;
mod garbage;
mod health;
mod history;
mod host_files;
mod image_filter;
mod image_mounts;
mod image_tree;
mod image_usage;
mod images;
mod import;
mod inspect;
mod layers;
mod leftovers;
mod load;
mod log_driver;
mod login;
mod logs;
mod manifest_lists;
mod mount_points;
mod network;
mod origin;
mod ports;
mod prune_images;
mod pull;
mod pull_policy;
mod push;
mod registries;
mod remove;
mod rename;
mod repair;
mod restart;
mod run_step;
mod sandbox;
mod save;
mod search;
mod settings;
mod signal;
mod size;
mod size_cap;
mod snapshots;
mod spec;
mod stage;
mod start;
mod stop;
mod stream;
mod supervise;
mod system_df;
mod system_prune;
mod transfer;
mod unpack;
mod user_snapshots;

pub use build::BuildRequest;
pub use carrack_container::attach::{DetachKeys, Ended, Relay, Request, Signals};
pub use carrack_container::events::{EventSpan, LifeEvent};
pub use carrack_container::health::HealthStatus;
pub use carrack_container::log::{Entry, Selection, Stream};
pub use carrack_container::{
    Bind, Container, ContainerId, ContainerNetwork, HostSettings, LifecycleSettings, LogDriver, LogSettings,
    MountSettings, NetworkMode, PortBinding, Resources, RestartPolicy, SecuritySettings, Status, TmpfsMount,
    Ulimit,
};
pub use carrack_distribution::RegistryFiles;
pub use carrack_image::transport::{Location, Output};
pub use carrack_image::{ImageRecord, ListSource, LogEntry, ManifestList};
pub use carrack_layer::compression::{Method, MethodError};
pub use carrack_registry as registry;
pub use carrack_snapshot::{Choice, Driver, ImageMount, Lower, Mount, SnapshotInfo, SnapshotName};
pub use carrack_sys::signals::SignalFd;
pub use check::{CheckDepth, CheckReport, Problem};
pub use commit::{CommitRequest, Format};
pub use copy::{CopyOptions, Place};
pub use create::ContainerRequest;
pub use engine::{Engine, Environment, ProxySettings};
pub use error::{Error, Result};
pub use event::{Event, Observer, Phase};
pub use events::{EventFilters, event_json, event_text};
pub use exec::ExecRequest;
pub use garbage::Collected;
pub use health::HealthRequest;
pub use history::HistoryRow;
pub use image_filter::{ImageFilters, parse_time};
pub use image_mounts::ImageMounted;
pub use image_tree::{ImageTree, TreeLayer};
pub use image_usage::ImageUsage;
pub use images::{RemoveOptions, Removed};
pub use import::ImportOptions;
pub use inspect::{network_text, status_text};
pub use leftovers::Leftovers;
pub use load::{LoadInput, Loaded};
pub use manifest_lists::{AddOptions, EntryChange, PushListOptions};
pub use ports::{container_side, host_side, parse_ports, port_text};
pub use prune_images::{PruneImages, Pruned};
pub use pull::Pulled;
pub use pull_policy::PullPolicy;
pub use push::{PushCompression, PushOptions};
pub use registries::RegistryAccess;
pub use repair::Repaired;
pub use save::{SaveFormat, SaveRequest, SaveTarget};
pub use settings::{
    BuildSettings, ContainerSettings, ImageSettings, NetworkSettings, Paths, RegistrySettings, Settings,
    StorageSettings,
};
pub use size::ByteSize;
pub use stage::{STAGE_PROGRAM, run_stage};
pub use start::Session;
pub use system_df::{CacheSpace, ContainerSpace, DiskUsage, ImageSpace};
pub use system_prune::{SystemPrune, SystemPruned};
pub use user_snapshots::{SnapshotUsage, snapshot_text};
