//! `RUN --mount` (Dockerfile reference, "RUN --mount"): a list of fields that means something once variables in it
//! are expanded.

use crate::fragment::nearest;

/// The fields of one `--mount`, as written. What contains no variable has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFlag {
    fields: Vec<(String, Option<String>)>,
}

/// A mount of one `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where in the container; empty only for a secret that is given in the environment alone.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A part of the build context, a stage or an image.
    Bind {
        /// A stage or an image; `None` is the build context.
        from: Option<String>,
        /// The path in it.
        source: String,
        /// Whether the mount is read-only; what is written otherwise is dropped after the step.
        read_only: bool,
    },
    /// A folder that outlives the build.
    Cache {
        /// Its name; the target by default.
        id: String,
        /// What to begin with; an empty folder by default.
        from: Option<String>,
        /// The path in it.
        source: String,
        /// Whether the mount is read-only.
        read_only: bool,
        /// What two steps at once do.
        sharing: CacheSharing,
        /// Mode and owner of a new folder.
        mode: u32,
        /// User of a new folder.
        uid: u32,
        /// Group of a new folder.
        gid: u32,
    },
    /// A file system in memory.
    Tmpfs {
        /// Its largest size.
        size_bytes: Option<u64>,
    },
    /// A value that never enters the image.
    Secret {
        /// Its name.
        id: String,
        /// The variable that holds it too.
        env: Option<String>,
        /// Whether the step fails without it.
        required: bool,
        /// Mode of the file.
        mode: u32,
        /// User of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
    /// The socket of an SSH agent.
    Ssh {
        /// Its name.
        id: String,
        /// Whether the step fails without it.
        required: bool,
        /// Mode of the socket.
        mode: u32,
        /// User of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
    },
}

/// What happens when two steps want one cache at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheSharing {
    /// Both have it.
    Shared,
    /// The second gets another.
    Private,
    /// The second waits.
    Locked,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
];

impl MountFlag {
    /// Splits at commas, as CSV does: a field in double quotes may contain one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut fields = Vec::new();
        for field in csv_fields(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(value.to_owned())),
                None => (field.to_ascii_lowercase(), None),
            };
            if !KEYS.contains(&key.as_str()) {
                let meant =
                    nearest(&key, &KEYS).map(|known| format!(", did you mean {known}?")).unwrap_or_default();
                return Err(format!("unknown mount option {key:?}{meant}"));
            }
            if key == "from" && value.as_deref().is_some_and(|value| value.contains('$')) {
                return Err(
                    "from cannot have variables: give a stage the name, as in FROM $BASE AS name".to_owned()
                );
            }
            fields.push((key, value));
        }
        let flag = Self { fields };
        if !text.contains('$') {
            flag.resolve(&|value| Ok(value.to_owned()))?;
        }
        Ok(flag)
    }

    /// The stage or image that is mounted from; it cannot contain variables.
    pub fn from(&self) -> Option<&str> {
        let from = self.fields.iter().rfind(|(key, _)| key == "from");
        from.and_then(|(_, value)| value.as_deref()).filter(|from| !from.is_empty())
    }

    /// The mount with each value expanded; the error is a sentence without the place.
    pub fn resolve(&self, expand: &dyn Fn(&str) -> Result<String, String>) -> Result<Mount, String> {
        let mut options = Options::default();
        for (key, value) in &self.fields {
            let value = value.as_deref().map(expand).transpose()?;
            options.set(key, value)?;
        }
        options.mount()
    }
}

#[derive(Default)]
struct Options {
    kind: Option<String>,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    required: Option<bool>,
    size: Option<String>,
    id: Option<String>,
    sharing: Option<CacheSharing>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

impl Options {
    fn set(&mut self, key: &str, value: Option<String>) -> Result<(), String> {
        let switch = |value: Option<String>| match value.as_deref() {
            None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
            Some(other) => Err(format!("invalid value {other:?} of {key}: expected true or false")),
        };
        match key {
            "readonly" | "ro" => self.read_only = Some(switch(value)?),
            "readwrite" | "rw" => self.read_only = Some(!switch(value)?),
            "required" => self.required = Some(switch(value)?),
            _ => self.set_text(key, value.ok_or_else(|| format!("the mount option {key} needs a value"))?)?,
        }
        Ok(())
    }

    fn set_text(&mut self, key: &str, value: String) -> Result<(), String> {
        match key {
            "type" => self.kind = Some(value.to_ascii_lowercase()),
            "from" => self.from = Some(value).filter(|from| !from.is_empty()),
            "source" | "src" => self.source = Some(value),
            "target" | "dst" | "destination" => self.target = Some(value),
            "size" => self.size = Some(value),
            "id" => self.id = Some(value),
            "env" => self.env = Some(value),
            "sharing" => self.sharing = Some(sharing(&value)?),
            "mode" => self.mode = Some(number(key, &value, 8)?),
            "uid" => self.uid = Some(number(key, &value, 10)?),
            _ => self.gid = Some(number(key, &value, 10)?),
        }
        Ok(())
    }

    fn mount(self) -> Result<Mount, String> {
        match self.kind.as_deref().unwrap_or("bind") {
            "bind" => self.bind(),
            "cache" => self.cache(),
            "tmpfs" => self.tmpfs(),
            "secret" => self.secret(),
            "ssh" => self.ssh(),
            other => Err(format!("unknown mount type {other:?}: expected bind, cache, tmpfs, secret or ssh")),
        }
    }

    fn refuse(kind: &str, given: &[(&str, bool)]) -> Result<(), String> {
        match given.iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(format!("a {kind} mount has no option {key}")),
            None => Ok(()),
        }
    }

    fn has_owner(&self) -> bool {
        self.mode.is_some() || self.uid.is_some() || self.gid.is_some()
    }

    fn needed_target(&mut self) -> Result<String, String> {
        self.target
            .take()
            .filter(|target| !target.is_empty())
            .ok_or_else(|| "the mount needs a target".to_owned())
    }

    fn bind(mut self) -> Result<Mount, String> {
        let unknown = [
            ("required", self.required.is_some()),
            ("size", self.size.is_some()),
            ("mode", self.has_owner()),
        ];
        Self::refuse("bind", &unknown)?;
        Self::refuse("bind", &[("sharing", self.sharing.is_some()), ("env", self.env.is_some())])?;
        let (target, source) = (self.needed_target()?, self.source.unwrap_or_default());
        let read_only = self.read_only.unwrap_or(true);
        Ok(Mount { target, kind: MountKind::Bind { from: self.from, source, read_only } })
    }

    fn cache(mut self) -> Result<Mount, String> {
        let unknown = [
            ("required", self.required.is_some()),
            ("size", self.size.is_some()),
            ("env", self.env.is_some()),
        ];
        Self::refuse("cache", &unknown)?;
        let target = self.needed_target()?;
        let kind = MountKind::Cache {
            id: self.id.filter(|id| !id.is_empty()).unwrap_or_else(|| target.clone()),
            from: self.from,
            source: self.source.unwrap_or_default(),
            read_only: self.read_only.unwrap_or(false),
            sharing: self.sharing.unwrap_or(CacheSharing::Shared),
            mode: self.mode.unwrap_or(0o755),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        };
        Ok(Mount { target, kind })
    }

    fn tmpfs(mut self) -> Result<Mount, String> {
        let unknown =
            [("required", self.required.is_some()), ("env", self.env.is_some()), ("mode", self.has_owner())];
        Self::refuse("tmpfs", &unknown)?;
        let size_bytes = self.size.take().map(|size| size_in_bytes(&size)).transpose()?;
        Ok(Mount { target: self.needed_target()?, kind: MountKind::Tmpfs { size_bytes } })
    }

    fn secret(self) -> Result<Mount, String> {
        Self::refuse("secret", &[("from", self.from.is_some()), ("size", self.size.is_some())])?;
        Self::refuse("secret", &[("sharing", self.sharing.is_some())])?;
        let named = self.id.or(self.source).filter(|id| !id.is_empty());
        let target = self.target.unwrap_or_default();
        let last = target.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned);
        let id = named.or(last).ok_or("a secret mount needs an id or a target")?;
        let env = self.env.map(|env| if env.is_empty() { id.clone() } else { env });
        let target = if target.is_empty() && env.is_none() { format!("/run/secrets/{id}") } else { target };
        let (required, mode) = (self.required.unwrap_or(false), self.mode.unwrap_or(0o400));
        let (uid, gid) = (self.uid.unwrap_or(0), self.gid.unwrap_or(0));
        Ok(Mount { target, kind: MountKind::Secret { id, env, required, mode, uid, gid } })
    }

    fn ssh(self) -> Result<Mount, String> {
        Self::refuse("ssh", &[("from", self.from.is_some()), ("size", self.size.is_some())])?;
        Self::refuse("ssh", &[("sharing", self.sharing.is_some()), ("env", self.env.is_some())])?;
        let target = self.target.unwrap_or_else(|| "/run/buildkit/ssh_agent.0".to_owned());
        let id = self.id.unwrap_or_else(|| "default".to_owned());
        let (required, mode) = (self.required.unwrap_or(false), self.mode.unwrap_or(0o600));
        let (uid, gid) = (self.uid.unwrap_or(0), self.gid.unwrap_or(0));
        Ok(Mount { target, kind: MountKind::Ssh { id, required, mode, uid, gid } })
    }
}

fn sharing(value: &str) -> Result<CacheSharing, String> {
    match value.to_ascii_lowercase().as_str() {
        "shared" => Ok(CacheSharing::Shared),
        "private" => Ok(CacheSharing::Private),
        "locked" => Ok(CacheSharing::Locked),
        _ => Err(format!("invalid sharing {value:?}: expected shared, private or locked")),
    }
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32, String> {
    u32::from_str_radix(value, radix)
        .map_err(|_| format!("invalid value {value:?} of {key}: expected a number"))
}

/// Docker's sizes: a number with an optional unit of powers of 1024 (`64m`, `1GiB`).
fn size_in_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("invalid size {text:?}: expected a number with b, k, m, g or t");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).ok_or_else(wrong)
}

fn csv_fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut().ok_or("no field")?;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(character),
        }
    }
    if quoted { Err("a \" without its end".to_owned()) } else { Ok(fields) }
}
