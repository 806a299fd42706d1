//! `--mount type=TYPE,KEY=VALUE...`: the long form, with the keys of Docker and Podman.

use std::path::{Component, Path, PathBuf};

use carrack_engine::{MountDepth, MountOrigin, MountPoint, MountSource, Relabel};

use super::mounts::{check, check_tmpfs_option, destination_of, take_option};
use crate::failure::{Result, invalid};

type Parsed<T> = Result<T, String>;

/// Reads one `--mount`.
pub fn mount(text: &str) -> Result<MountPoint> {
    parse(text).map_err(|expected| invalid("--mount", text, &expected))
}

fn parse(text: &str) -> Parsed<MountPoint> {
    let fields = fields(text)?;
    let kind = fields.iter().find(|(key, _)| key == "type").and_then(|(_, value)| value.clone());
    let mut draft = Draft::new(kind.as_deref().unwrap_or("volume"))?;
    for (key, value) in &fields {
        draft.take(key, value.as_deref())?;
    }
    draft.finish()
}

/// The fields of a line of comma separated values, in which quotes may hold commas: each a key and perhaps a value.
fn fields(text: &str) -> Parsed<Vec<(String, Option<String>)>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let field = fields.last_mut().ok_or("a field")?;
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if quoted {
        return Err("a quote that ends".to_owned());
    }
    let split = |field: String| match field.split_once('=') {
        Some((key, value)) => (key.trim().to_lowercase(), Some(value.to_owned())),
        None => (field.trim().to_owned(), None),
    };
    Ok(fields.into_iter().map(split).collect())
}

/// A mount of which not all fields have been read.
struct Draft {
    kind: &'static str,
    point: MountPoint,
    source: Option<String>,
    data: Vec<String>,
    /// The option `rw` of an image, which then gets an upper folder of its own.
    is_writable: bool,
}

const KINDS: [&str; 6] = ["bind", "volume", "tmpfs", "image", "devpts", "glob"];

impl Draft {
    fn new(kind: &str) -> Parsed<Self> {
        let kind = KINDS.into_iter().find(|known| *known == kind);
        let kind = kind.ok_or_else(|| format!("type={}", KINDS.join(", ")))?;
        // Podman: what a pattern names is there to be looked at.
        let read_only = kind == "glob";
        let point = MountPoint { origin: MountOrigin::Mount, read_only, ..MountPoint::default() };
        Ok(Self { kind, point, source: None, data: Vec::new(), is_writable: false })
    }

    fn take(&mut self, key: &str, value: Option<&str>) -> Parsed<()> {
        let text = || value.filter(|value| !value.is_empty()).ok_or_else(|| format!("a value for {key}"));
        match (key, self.kind) {
            ("type", _) => {}
            ("source" | "src", "bind" | "volume" | "image" | "glob") => {
                self.source = Some(text()?.to_owned())
            }
            ("destination" | "dst" | "target" | "dest", _) => {
                self.point.destination = destination_of(text()?).map_err(str::to_owned)?;
            }
            ("readonly" | "ro", _) => self.point.read_only = truth(key, value)?,
            ("rw" | "readwrite", "image") => self.is_writable = truth(key, value)?,
            ("rw" | "readwrite", _) => self.point.read_only = !truth(key, value)?,
            ("consistency", "bind" | "volume") => drop(text()?),
            ("relabel", "bind" | "volume" | "glob") => {
                self.point.relabel = Some(match text()? {
                    "shared" => Relabel::Shared,
                    "private" => Relabel::Private,
                    _ => return Err("relabel=shared or relabel=private".to_owned()),
                });
            }
            ("chown" | "u" | "U", "bind" | "volume" | "tmpfs" | "glob") => {
                self.point.chown = truth(key, value)?;
            }
            ("idmap", "bind" | "volume" | "glob") => {
                let option = value.map_or_else(|| "idmap".to_owned(), |value| format!("idmap={value}"));
                take_option(&mut self.point, &option)?;
            }
            (_, "bind" | "glob") => self.take_of_bind(key, value)?,
            (_, "volume") => self.take_of_volume(key, value)?,
            ("subpath" | "image-subpath", "image") => self.point.subpath = Some(subpath(text()?)?),
            (_, "tmpfs") => self.take_of_tmpfs(key, value)?,
            (_, "devpts") => self.take_of_devpts(key, value)?,
            _ => return self.unknown(key),
        }
        Ok(())
    }

    fn unknown<T>(&self, key: &str) -> Parsed<T> {
        Err(format!("options of type={}, got {key:?}", self.kind))
    }

    fn take_of_bind(&mut self, key: &str, value: Option<&str>) -> Parsed<()> {
        let point = &mut self.point;
        match (key, value) {
            ("bind-propagation", Some(value)) if is_propagation(value) => {
                point.propagation = Some(value.to_owned());
            }
            ("bind-recursive", Some("enabled" | "true")) => point.depth = MountDepth::Recursive,
            ("bind-recursive", Some("disabled" | "false")) => point.depth = MountDepth::Single,
            ("bind-recursive", Some("writable")) => point.depth = MountDepth::Writable,
            ("bind-recursive", Some("readonly")) => point.depth = MountDepth::ReadOnly,
            ("bind-nonrecursive", value) => {
                point.depth = if truth(key, value)? { MountDepth::Single } else { MountDepth::Recursive };
            }
            ("bind-create-src" | "create-src", value) => point.make_source = truth(key, value)?,
            (
                "nosuid" | "suid" | "nodev" | "dev" | "noexec" | "exec" | "rbind" | "bind" | "z" | "Z" | "O",
                None,
            ) => {
                take_option(point, key)?;
            }
            (propagation, None) if is_propagation(propagation) => {
                point.propagation = Some(propagation.to_owned());
            }
            ("bind-propagation" | "bind-recursive", value) => {
                return Err(format!("a value that {key} knows, got {:?}", value.unwrap_or_default()));
            }
            _ => return self.unknown(key),
        }
        Ok(())
    }

    fn take_of_volume(&mut self, key: &str, value: Option<&str>) -> Parsed<()> {
        match (key, value) {
            ("volume-nocopy" | "nocopy", value) => self.point.no_copy = truth(key, value)?,
            ("volume-subpath" | "subpath", Some(value)) => self.point.subpath = Some(subpath(value)?),
            ("volume-driver", Some("local" | "")) => {}
            ("volume-driver", Some(driver)) => return Err(format!("volume-driver=local, got {driver:?}")),
            ("nosuid" | "suid" | "nodev" | "dev" | "noexec" | "exec" | "z" | "Z" | "O", None) => {
                take_option(&mut self.point, key)?;
            }
            (propagation, None) if is_propagation(propagation) => {
                self.point.propagation = Some(propagation.to_owned());
            }
            _ => return self.unknown(key),
        }
        Ok(())
    }

    fn take_of_tmpfs(&mut self, key: &str, value: Option<&str>) -> Parsed<()> {
        let key = key.strip_prefix("tmpfs-").unwrap_or(key);
        let option = value.map_or_else(|| key.to_owned(), |value| format!("{key}={value}"));
        check_tmpfs_option(&option)?;
        self.data.push(option);
        Ok(())
    }

    fn take_of_devpts(&mut self, key: &str, value: Option<&str>) -> Parsed<()> {
        match (key, value) {
            ("uid" | "gid" | "mode" | "max" | "ptmxmode", Some(value)) => {
                self.data.push(format!("{key}={value}"));
                Ok(())
            }
            _ => self.unknown(key),
        }
    }

    fn finish(self) -> Parsed<MountPoint> {
        let Self { kind, mut point, source, data, is_writable } = self;
        if point.destination.as_os_str().is_empty() {
            return Err("a destination".to_owned());
        }
        let needed = |source: Option<String>| source.ok_or_else(|| format!("a source for type={kind}"));
        point.source = match kind {
            "bind" => {
                let path = PathBuf::from(needed(source)?);
                let path = std::path::absolute(path).map_err(|_| "a source that is a path".to_owned())?;
                MountSource::Bind { path }
            }
            "glob" => MountSource::Glob { pattern: needed(source)? },
            "image" => {
                (point.overlay, point.read_only) = (is_writable, !is_writable);
                MountSource::Image { image: needed(source)? }
            }
            "tmpfs" => MountSource::Tmpfs { options: data },
            "devpts" => MountSource::Devpts { options: data },
            _ => match source {
                Some(name) => MountSource::Volume { name, anonymous: false },
                None => MountSource::default(),
            },
        };
        check(&point)?;
        Ok(point)
    }
}

fn is_propagation(text: &str) -> bool {
    let text = text.strip_prefix('r').unwrap_or(text);
    matches!(text, "private" | "shared" | "slave" | "unbindable")
}

fn truth(key: &str, value: Option<&str>) -> Parsed<bool> {
    match value {
        None | Some("true" | "1" | "TRUE" | "True" | "t") => Ok(true),
        Some("false" | "0" | "FALSE" | "False" | "f") => Ok(false),
        Some(other) => Err(format!("{key}=true or {key}=false, got {other:?}")),
    }
}

/// A path below a volume or an image.
fn subpath(text: &str) -> Parsed<PathBuf> {
    let path = Path::new(text.trim_start_matches('/'));
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    match is_plain && !path.as_os_str().is_empty() {
        true => Ok(path.to_owned()),
        false => Err("a subpath below the source, without ..".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_type() {
        let point = mount(r#"type=bind,"src=/a,b",dst=/c,readonly,bind-propagation=rslave"#).unwrap();
        assert_eq!(point.source, MountSource::Bind { path: "/a,b".into() });
        assert!(point.read_only && !point.make_source);
        let point = mount("src=data,target=/c,volume-subpath=a/b,volume-nocopy").unwrap();
        assert_eq!((point.volume(), &point.subpath), (Some("data"), &Some("a/b".into())));
        let point = mount("type=tmpfs,dst=/c,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        assert_eq!(point.source, MountSource::Tmpfs { options: vec!["size=1m".into(), "mode=1770".into()] });
        let point = mount("type=image,src=app:1,dst=/c,subpath=usr").unwrap();
        assert!(point.read_only);
        assert!(mount("type=image,src=app:1,dst=/c,rw=true").unwrap().overlay);
        assert!(mount("type=devpts,dst=/c,mode=620").is_ok());
        assert!(mount("type=glob,src=/usr/lib/lib*,dst=/c").unwrap().read_only);
    }

    #[test]
    fn what_is_unknown_is_named() {
        for (text, named) in [
            ("type=bind,src=/a,dst=/b,volume-nocopy", "volume-nocopy"),
            ("type=tmpfs,dst=/b,src=/a", "src"),
            ("type=tmpfs,dst=/b,bind-propagation=shared", "bind-propagation"),
            ("type=volume,dst=/b,tmpfs-size=1", "tmpfs-size"),
            ("type=bind,src=/a,dst=/b,bind-recursive=perhaps", "perhaps"),
            ("type=nfs,dst=/b", "type=bind"),
            ("type=bind,dst=/b", "source"),
            ("type=bind,src=/a", "destination"),
            ("type=volume,dst=/b,volume-subpath=../x", "subpath"),
            ("type=bind,src=/a,dst=/b,readonly=maybe", "maybe"),
            ("type=bind,\"src=/a,dst=/b", "quote"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
