//! Flags for the namespaces that a container shares.

use carrack_engine::{IdRange, IpcMode, NamespaceMode, NamespaceSettings, UserMode};
use clap::Args;

use crate::failure::{Failure, Result, invalid};

/// How many ids a user namespace has unless the user says otherwise.
const DEFAULT_IDS: u32 = 65_536;

#[derive(Args)]
pub struct NamespaceFlags {
    /// Users: host, auto[:size=N], keep-id, private (with --uidmap), container:NAME or ns:PATH
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Map users of the container to users of the host
    #[arg(long, value_name = "INSIDE:OUTSIDE[:SIZE]")]
    uidmap: Vec<String>,
    /// Map groups of the container to groups of the host
    #[arg(long, value_name = "INSIDE:OUTSIDE[:SIZE]")]
    gidmap: Vec<String>,
    /// Processes: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", default_value = "private")]
    pid: String,
    /// Shared memory: shareable, private, none, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", default_value = "shareable")]
    ipc: String,
    /// Host name: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", default_value = "private")]
    uts: String,
    /// View of cgroups: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", default_value = "private")]
    cgroupns: String,
    /// How likely the container is killed when memory is short, from -1000 to 1000
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub oom_score_adj: Option<i32>,
}

impl NamespaceFlags {
    /// What is asked of the engine.
    pub fn settings(&self) -> Result<NamespaceSettings> {
        Ok(NamespaceSettings {
            user: self.user()?,
            pid: mode("--pid", &self.pid)?,
            ipc: match self.ipc.as_str() {
                "shareable" | "" => IpcMode::Shareable,
                "private" => IpcMode::Private,
                "none" => IpcMode::None,
                text => IpcMode::Of(mode("--ipc", text)?),
            },
            uts: mode("--uts", &self.uts)?,
            cgroup: mode("--cgroupns", &self.cgroupns)?,
        })
    }

    fn user(&self) -> Result<UserMode> {
        let ranges = |flag, texts: &[String]| {
            texts.iter().map(|text| range(flag, text)).collect::<Result<Vec<IdRange>>>()
        };
        let (uids, gids) = (ranges("--uidmap", &self.uidmap)?, ranges("--gidmap", &self.gidmap)?);
        let has_ranges = !uids.is_empty() || !gids.is_empty();
        let text = self.userns.as_deref().unwrap_or(if has_ranges { "private" } else { "host" });
        if has_ranges && text != "private" {
            return Err(invalid("--userns", text, "private, together with --uidmap and --gidmap"));
        }
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        match (name, rest) {
            ("host" | "", "") => Ok(UserMode::Host),
            ("auto", "") => Ok(UserMode::Auto(DEFAULT_IDS)),
            ("auto", options) => {
                let size = options.strip_prefix("size=").and_then(|size| size.parse().ok());
                let size = size.filter(|size| *size > 0);
                size.map(UserMode::Auto).ok_or_else(|| invalid("--userns", text, "auto or auto:size=N"))
            }
            ("keep-id", "") => Ok(UserMode::KeepId),
            ("private", "") if has_ranges => {
                // Podman: one of the two stands for both.
                let (uids, gids) = match (uids.is_empty(), gids.is_empty()) {
                    (true, _) => (gids.clone(), gids),
                    (_, true) => (uids.clone(), uids),
                    _ => (uids, gids),
                };
                Ok(UserMode::Mapped { uids, gids })
            }
            ("private", "") => Ok(UserMode::Auto(DEFAULT_IDS)),
            ("nomap" | "keep-id", _) => Err(Failure::message(format!(
                "--userns {text} is for containers of a user that is not root: root has every id of the host; \
                 use auto, or --uidmap and --gidmap"
            ))),
            ("container", name) if !name.is_empty() => Ok(UserMode::Container(name.to_owned())),
            ("ns", path) if path.starts_with('/') => Ok(UserMode::Path(path.into())),
            _ => Err(invalid(
                "--userns",
                text,
                "host, auto[:size=N], keep-id, private, container:NAME or ns:PATH",
            )),
        }
    }
}

fn mode(flag: &str, text: &str) -> Result<NamespaceMode> {
    match text.split_once(':') {
        None if text == "host" => Ok(NamespaceMode::Host),
        None if text.is_empty() || text == "private" => Ok(NamespaceMode::Private),
        Some(("container", name)) if !name.is_empty() => Ok(NamespaceMode::Container(name.to_owned())),
        Some(("ns", path)) if path.starts_with('/') => Ok(NamespaceMode::Path(path.into())),
        _ => Err(invalid(flag, text, "private, host, container:NAME or ns:PATH")),
    }
}

fn range(flag: &str, text: &str) -> Result<IdRange> {
    let numbers: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some([inside, outside]) => Ok(IdRange { inside: *inside, outside: *outside, size: 1 }),
        Some([inside, outside, size]) if *size > 0 => {
            Ok(IdRange { inside: *inside, outside: *outside, size: *size })
        }
        _ => Err(invalid(flag, text, "INSIDE:OUTSIDE[:SIZE], as in 0:100000:65536")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(userns: Option<&str>, uidmap: &[&str]) -> NamespaceFlags {
        NamespaceFlags {
            userns: userns.map(str::to_owned),
            uidmap: uidmap.iter().map(ToString::to_string).collect(),
            gidmap: Vec::new(),
            pid: "private".into(),
            ipc: "shareable".into(),
            uts: "private".into(),
            cgroupns: "private".into(),
            oom_score_adj: None,
        }
    }

    #[test]
    fn modes_of_users() {
        let user = |userns: &str| flags(Some(userns), &[]).user();
        assert_eq!(flags(None, &[]).user().unwrap(), UserMode::Host);
        assert_eq!(user("auto").unwrap(), UserMode::Auto(65_536));
        assert_eq!(user("auto:size=1000").unwrap(), UserMode::Auto(1000));
        assert_eq!(user("container:web").unwrap(), UserMode::Container("web".into()));
        for wrong in ["auto:size=0", "auto:x", "nomap", "keep-id:uid=5", "container:", "ns:relative", "own"] {
            assert!(user(wrong).is_err(), "{wrong}");
        }
        let range = vec![IdRange { inside: 0, outside: 5, size: 9 }];
        let mapped = UserMode::Mapped { uids: range.clone(), gids: range };
        assert_eq!(flags(None, &["0:5:9"]).user().unwrap(), mapped);
        assert!(flags(Some("auto"), &["0:5:9"]).user().is_err());
        assert!(flags(None, &["0:5:0"]).user().is_err());
    }
}
