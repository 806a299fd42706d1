//! Containers: their records, their state, their logs, and the monitor that stays with each running one.
//!
//! A container exists from the moment its name is claimed until the name is given back. What the user asked for is
//! a durable [`ContainerRecord`] that never changes but for its name; what happens to it is a volatile
//! [`ContainerState`], believed only while the processes it names are alive.
//!
//! ```text
//! <root>/
//!   containers/<id>/                     0700
//!     container.json                     the record, durable
//!     last-state.json                    state of the last start and of the last exit, not synced: all that a
//!                                        reboot leaves
//!     container.log, container.log.1 ..  output, newest first (Docker's json-file lines)
//!   containers/.removed-<id>/            a deletion that a crash may have cut short; swept
//!   container-names/<name>               symlink that tells the id; made last: a folder in containers/ that no name
//!                                        tells is a creation that was cut short; swept
//!   container-names/.lock                held only to take a name back from a container that is gone
//! <runroot>/
//!   containers/<id>/                     0700
//!     container.json                     the record where it is removed at exit anyway: it then costs no disk, and a
//!                                        reboot takes it
//!     lock                               flock: held by whoever changes the container
//!     state.json                         the state
//!     attach                             socket of the monitor, while one runs
//!     health.json                        what the last health checks said
//! <root>/events/log, log.1               what happened to containers and images, newest file first
//! <root>/secrets/<name>                  a line of JSON, then the data
//! <root>/volumes/<name>/                 0700
//!     volume.json                        what was asked for
//!     _data/                             the content
//!   volumes/.new-*, volumes/.removed-*   a creation or removal that a crash may have cut short; swept
//!   volumes/.lock                        held shared while a container that names volumes is written, alone by
//!                                        whoever removes one
//! ```
//!
//! Locks are taken in the order: volumes, container, names.

pub mod attach;
mod error;
pub mod events;
pub mod health;
mod id;
pub mod log;
pub mod monitor;
mod name;
mod names;
mod process;
mod record;
mod scan;
pub mod secrets;
mod small_file;
mod state;
mod store;
mod volumes;
mod watch;

pub use error::{Error, Result};
pub use id::ContainerId;
pub use name::ContainerName;
pub use process::ProcessId;
pub use record::{
    Bind, CgroupManager, CgroupMode, ContainerNetwork, ContainerRecord, Contexts, DeviceMapping, DeviceRate,
    DeviceRequest, DeviceSettings, DeviceWeight, HealthCheck, HostSettings, IdRange, ImageVolumes, IpcMode,
    LifecycleSettings, LogDriver, LogSettings, MountDepth, MountOrigin, MountPoint, MountSettings,
    MountSource, NamespaceMode, NamespaceSettings, NetworkMode, OtherRuntime, OwnerMap, PortBinding, Program,
    Protocol, Relabel, Resources, RestartPolicy, RootFolder, SecretPlace, SecretUse, SecuritySettings,
    TmpfsMount, Ulimit, UnhealthyAction, UserMode,
};
pub use scan::Scan;
pub use state::{ContainerState, Effect, Exit, Status, StopRequest};
pub use store::{Container, ContainerStore, Locked};
pub use volumes::{Volume, VolumeName, VolumeRecord, VolumeStore};
