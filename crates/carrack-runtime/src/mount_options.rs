//! Mount options of the spec (config.md, "Linux mount options"), sorted by what they change.
//!
//! Invariant: every option means something or is refused: what is not known goes to a new filesystem, whose kernel
//! code decides, and a bind mount has none of that.

use carrack_sys::mount::{Attributes, Propagation};
use oci_spec::runtime::Mount;
use rustix::mount::MountAttrFlags;

use crate::{Error, Result};

/// What the options of one mount ask for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Attributes of the mount itself.
    pub plain: Change,
    /// Attributes of it and all mounts below.
    pub recursive: Change,
    /// Propagation, and whether of all mounts below too; in the order given.
    pub propagation: Vec<(Propagation, bool)>,
    pub bind: bool,
    pub rbind: bool,
    /// Owners are mapped; whether of all mounts below too.
    pub mapped: Option<bool>,
    pub copy_up: bool,
    /// For the filesystem itself.
    pub data: Vec<String>,
}

/// A change of attributes; the last word on each counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub set: MountAttrFlags,
    clear: MountAttrFlags,
    /// How times of access are kept; relatime is zero.
    atime: Option<MountAttrFlags>,
}

impl Default for Change {
    fn default() -> Self {
        Self { set: MountAttrFlags::empty(), clear: MountAttrFlags::empty(), atime: None }
    }
}

impl Change {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// For a mount that exists.
    pub fn attributes(&self) -> Attributes {
        let (mut set, mut clear) = (self.set, self.clear);
        if let Some(atime) = self.atime {
            // The three are values of one field, which is changed as a whole.
            clear |= MountAttrFlags::MOUNT_ATTR__ATIME;
            set |= atime;
        }
        Attributes { set, clear, propagation: None }
    }

    /// For a new mount.
    pub fn of_new(&self) -> MountAttrFlags {
        self.set | self.atime.unwrap_or(MountAttrFlags::empty())
    }

    fn apply(&mut self, option: &str) -> bool {
        if let Some((flag, set)) = attribute(option) {
            self.set.set(flag, set);
            self.clear.set(flag, !set);
            return true;
        }
        self.atime = match (option, self.atime) {
            ("noatime", _) => Some(MountAttrFlags::MOUNT_ATTR_NOATIME),
            ("strictatime", _) => Some(MountAttrFlags::MOUNT_ATTR_STRICTATIME),
            // relatime is what the kernel has where nothing else is asked for.
            ("relatime" | "atime" | "nostrictatime", _) => Some(MountAttrFlags::empty()),
            ("norelatime", atime) => atime,
            _ => return false,
        };
        true
    }
}

impl Options {
    pub fn parse(mount: &Mount) -> Result<Self> {
        let mut options = Self::default();
        for text in mount.options().iter().flatten() {
            options.take(text);
        }
        let is_bind = options.bind || mount.typ().as_deref() == Some("bind");
        options.bind = is_bind;
        let refuse = |what: &str| {
            Err(Error::spec(format!("the mount {} cannot have {what}", mount.destination().display())))
        };
        if is_bind && options.copy_up {
            return refuse("tmpcopyup, it is no tmpfs");
        }
        if !is_bind && options.mapped.is_some() {
            return refuse("mapped owners, it is no bind mount");
        }
        if !is_bind && !options.recursive.is_empty() {
            // Nothing is below a new filesystem yet.
            let recursive = options.recursive;
            options.plain.set = options.plain.set.union(recursive.set).difference(recursive.clear);
            options.plain.atime = recursive.atime.or(options.plain.atime);
        }
        if is_bind {
            // Of the filesystem as a whole, which a bind mount leaves as it is (mount(2), MS_BIND).
            let data = std::mem::take(&mut options.data);
            if let Some(unknown) = data.iter().find(|option| !OF_FILESYSTEM.contains(&option.as_str())) {
                return refuse(&format!("the option {unknown:?}, it is a bind mount"));
            }
        }
        Ok(options)
    }

    fn take(&mut self, text: &str) {
        if self.plain.apply(text) || text.strip_prefix('r').is_some_and(|rest| self.take_recursive(rest)) {
            return;
        }
        let propagation = |kind| (kind, text.starts_with('r'));
        match text {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.rbind) = (true, true),
            "private" | "rprivate" => self.propagation.push(propagation(Propagation::Private)),
            "slave" | "rslave" => self.propagation.push(propagation(Propagation::Slave)),
            "shared" | "rshared" => self.propagation.push(propagation(Propagation::Shared)),
            "unbindable" => self.propagation.push((Propagation::Unbindable, false)),
            "runbindable" => self.propagation.push((Propagation::Unbindable, true)),
            "idmap" => self.mapped = Some(false),
            "ridmap" => self.mapped = Some(true),
            "tmpcopyup" => self.copy_up = true,
            // Not for the kernel: what it does anyway, and what only its log would show.
            "defaults" | "silent" | "loud" => {}
            // A change of a mount that is made here anyway.
            "remount" => {}
            _ => self.data.push(text.to_owned()),
        }
    }

    /// `option` without its leading r: "ro" of "rro".
    fn take_recursive(&mut self, option: &str) -> bool {
        // "relatime" and "rw" are words of their own and were taken before.
        self.recursive.apply(option)
    }
}

/// Options that a filesystem has, not a mount.
const OF_FILESYSTEM: [&str; 11] = [
    "acl",
    "async",
    "dirsync",
    "iversion",
    "lazytime",
    "mand",
    "noacl",
    "noiversion",
    "nolazytime",
    "nomand",
    "sync",
];

/// The attribute that an option sets or clears.
fn attribute(option: &str) -> Option<(MountAttrFlags, bool)> {
    Some(match option {
        "ro" => (MountAttrFlags::MOUNT_ATTR_RDONLY, true),
        "rw" => (MountAttrFlags::MOUNT_ATTR_RDONLY, false),
        "nosuid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, true),
        "suid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, false),
        "nodev" => (MountAttrFlags::MOUNT_ATTR_NODEV, true),
        "dev" => (MountAttrFlags::MOUNT_ATTR_NODEV, false),
        "noexec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, true),
        "exec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, false),
        "nodiratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, true),
        "diratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, false),
        "nosymfollow" => (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, true),
        "symfollow" => (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, false),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, options: &[&str]) -> Result<Options> {
        let mut mount = Mount::default();
        mount.set_destination("/x".into()).set_typ(Some(kind.into()));
        mount.set_options(Some(options.iter().map(ToString::to_string).collect()));
        Options::parse(&mount)
    }

    #[test]
    fn the_last_option_on_an_attribute_counts() {
        let options = parse("tmpfs", &["ro", "nosuid", "rw", "size=1k"]).unwrap();
        let attributes = options.plain.attributes();
        assert_eq!(attributes.set, MountAttrFlags::MOUNT_ATTR_NOSUID);
        assert_eq!(attributes.clear, MountAttrFlags::MOUNT_ATTR_RDONLY);
        assert_eq!(options.data, ["size=1k"]);
        let options = parse("bind", &["noatime", "strictatime"]).unwrap().plain.attributes();
        assert_eq!(options.set, MountAttrFlags::MOUNT_ATTR_STRICTATIME);
        assert!(options.clear.contains(MountAttrFlags::MOUNT_ATTR__ATIME));
        let options = parse("bind", &["noatime", "relatime"]).unwrap().plain;
        assert!(options.attributes().set.is_empty() && !options.is_empty(), "relatime is asked for");
    }

    #[test]
    fn an_r_in_front_means_the_mounts_below_too() {
        let options = parse("bind", &["rro", "nosuid", "rnoatime", "rbind"]).unwrap();
        assert_eq!(options.plain.set, MountAttrFlags::MOUNT_ATTR_NOSUID);
        assert_eq!(options.recursive.set, MountAttrFlags::MOUNT_ATTR_RDONLY);
        assert_eq!(options.recursive.atime, Some(MountAttrFlags::MOUNT_ATTR_NOATIME));
        assert!(options.rbind);
        let of_new = parse("tmpfs", &["rro", "rnosuid", "rstrictatime"]).unwrap().plain.of_new();
        let expected = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
        assert_eq!(of_new, expected);
    }

    #[test]
    fn a_bind_mount_takes_no_option_that_means_nothing_to_it() {
        for option in ["size=1k", "mode=755", "nonsense", "tmpcopyup"] {
            assert!(parse("bind", &[option]).is_err(), "{option}");
        }
        assert!(parse("tmpfs", &["idmap"]).is_err());
        assert!(parse("none", &["rbind", "sync", "lazytime", "rslave", "idmap"]).is_ok());
    }

    #[test]
    fn propagation_is_in_the_order_given() {
        let options = parse("bind", &["rslave", "shared", "unbindable", "runbindable"]).unwrap();
        let expected = [
            (Propagation::Slave, true),
            (Propagation::Shared, false),
            (Propagation::Unbindable, false),
            (Propagation::Unbindable, true),
        ];
        assert_eq!(options.propagation, expected);
    }
}
