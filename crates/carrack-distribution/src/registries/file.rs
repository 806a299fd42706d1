//! One registries.conf as text: parsed and checked, not yet merged with others.
//!
//! Invariant: what passes here has the form that the rest relies on: prefixes and locations without scheme and trailing
//! slash, each prefix once, aliases that are short names for full ones.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use carrack_oci::{Reference, Repository};
use carrack_sys::IoContext;
use serde::Deserialize;

use crate::helper::{PLAIN_NAME, is_plain_name};
use crate::{CredentialSource, Error, Result};

const MAX_FILE_BYTES: u64 = 4 << 20;

/// `[[registry]]`, checked.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    /// What names it is for, as in `host.example/team` or `*.example`.
    pub(super) prefix: String,
    /// What stands in place of the prefix; empty leaves names as they are (wildcards only).
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    pub(super) mirrors: Vec<Mirror>,
    /// Where it is written.
    pub(super) file: PathBuf,
}

/// `[[registry.mirror]]`, checked.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) serves: Serves,
}

/// Which pulls a mirror is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    All,
    Digests,
    Tags,
}

/// What an alias stands for; an empty one takes an earlier file's back.
#[derive(Clone, Debug)]
pub(super) struct Alias {
    pub(super) repository: Option<Repository>,
    pub(super) file: PathBuf,
}

/// `short-name-mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ShortNameMode {
    /// One of several search registries must not be chosen silently.
    Enforcing,
    /// All search registries are tried when nobody can be asked.
    #[default]
    Permissive,
    /// All search registries are tried.
    Disabled,
}

/// What one file says; `None` where it says nothing.
#[derive(Debug, Default)]
pub(super) struct ConfFile {
    pub(super) registries: Vec<Registry>,
    pub(super) search: Option<Vec<String>>,
    pub(super) mode: Option<ShortNameMode>,
    pub(super) aliases: BTreeMap<String, Alias>,
    pub(super) credential_sources: Option<Vec<CredentialSource>>,
}

/// The file as TOML has it. Unknown keys are passed over: newer tools write keys that older ones do not know.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    registry: Vec<RegistryTable>,
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<String>,
    credential_helpers: Option<Vec<String>>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// `[registries.search]` and its like: version 1.
    registries: Option<toml::Table>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct RegistryTable {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    pull_from_mirror: String,
    mirror: Vec<MirrorTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct MirrorTable {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

impl ConfFile {
    /// Reads a file; `None` when it does not exist.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.during("open", path)?,
        };
        let mut text = String::new();
        let fail = |reason: String| Error::RegistriesConf { file: path.to_owned(), reason };
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| fail(error.to_string()))?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(fail(format!("expected at most {MAX_FILE_BYTES} bytes, got more")));
        }
        Self::parse(path, &text).map(Some)
    }

    /// Parses the text of the file `path`.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let fail = |reason: String| Error::RegistriesConf { file: path.to_owned(), reason };
        let document: Document = toml::from_str(text).map_err(|error| fail(error.to_string()))?;
        document.check(path).map_err(fail)
    }
}

impl Document {
    fn check(self, file: &Path) -> Result<ConfFile, String> {
        if self.registries.is_some() {
            return Err("[registries.*] is version 1 of the format: write it as [[registry]] tables and \
                        unqualified-search-registries (version 2)"
                .to_owned());
        }
        let mut registries = Vec::new();
        for table in self.registry {
            registries.push(table.check(file)?);
        }
        refuse_conflicts(&registries)?;
        let mut known = HashSet::new();
        // As the containers tools: of one prefix, the first table holds.
        registries.retain(|registry| known.insert(registry.prefix.clone()));
        let search = self.unqualified_search_registries;
        Ok(ConfFile {
            registries,
            search: search
                .map(|names| names.iter().map(|name| search_registry(name)).collect())
                .transpose()?,
            mode: self
                .short_name_mode
                .filter(|mode| !mode.is_empty())
                .map(|mode| parse_mode(&mode))
                .transpose()?,
            aliases: self
                .aliases
                .into_iter()
                .map(|(name, value)| Ok((name.clone(), parse_alias(&name, &value, file)?)))
                .collect::<Result<_, String>>()?,
            credential_sources: self
                .credential_helpers
                .map(|names| names.iter().map(|name| credential_source(name)).collect())
                .transpose()?,
        })
    }
}

impl RegistryTable {
    fn check(self, file: &Path) -> Result<Registry, String> {
        let location = location(&self.location)?;
        let prefix = match location_or_wildcard(&self.prefix)? {
            prefix if !prefix.is_empty() => prefix,
            _ if location.is_empty() => {
                return Err("a [[registry]] has neither prefix nor location".to_owned());
            }
            _ => location.clone(),
        };
        if location.is_empty() && !prefix.starts_with("*.") {
            return Err(format!(
                "the [[registry]] with the prefix {prefix:?} has no location: only *.HOST may do without one"
            ));
        }
        if !self.pull_from_mirror.is_empty() {
            return Err(format!(
                "pull-from-mirror is for a [[registry.mirror]], not for the registry {prefix:?}"
            ));
        }
        let mut mirrors = Vec::new();
        for mirror in self.mirror {
            mirrors.push(mirror.check(&prefix, self.mirror_by_digest_only)?);
        }
        let (insecure, blocked) = (self.insecure, self.blocked);
        Ok(Registry { prefix, location, insecure, blocked, mirrors, file: file.to_owned() })
    }
}

impl MirrorTable {
    fn check(self, prefix: &str, by_digest_only: bool) -> Result<Mirror, String> {
        let location = location(&self.location)?;
        if location.is_empty() {
            return Err(format!("a mirror of {prefix:?} has no location"));
        }
        if by_digest_only && !self.pull_from_mirror.is_empty() {
            return Err(format!(
                "the registry {prefix:?} has mirror-by-digest-only, its mirror {location:?} pull-from-mirror: \
                 expected one of them"
            ));
        }
        let serves = match self.pull_from_mirror.as_str() {
            _ if by_digest_only => Serves::Digests,
            "" | "all" => Serves::All,
            "digest-only" => Serves::Digests,
            "tag-only" => Serves::Tags,
            other => {
                return Err(format!(
                    "pull-from-mirror of the mirror {location:?} is {other:?}: expected all, digest-only or tag-only"
                ));
            }
        };
        Ok(Mirror { location, insecure: self.insecure, serves })
    }
}

/// The same place cannot be both, whichever prefix leads there.
fn refuse_conflicts(registries: &[Registry]) -> Result<(), String> {
    let place = |registry: &Registry| match registry.location.is_empty() {
        true => registry.prefix.clone(),
        false => registry.location.clone(),
    };
    let mut known: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    for registry in registries {
        let (insecure, blocked) = (registry.insecure, registry.blocked);
        let (known_insecure, known_blocked) = *known.entry(place(registry)).or_insert((insecure, blocked));
        let name = match (known_insecure != insecure, known_blocked != blocked) {
            (true, _) => "insecure",
            (_, true) => "blocked",
            _ => continue,
        };
        return Err(format!("the location {:?} has several tables that differ in {name}", place(registry)));
    }
    Ok(())
}

fn location(text: &str) -> Result<String, String> {
    let trimmed = text.trim_end_matches('/');
    if trimmed.starts_with("http://") || trimmed.starts_with("https://") {
        return Err(format!("the location {text:?} is a URL: expected HOST[:PORT][/PATH]"));
    }
    Ok(trimmed.to_owned())
}

fn location_or_wildcard(text: &str) -> Result<String, String> {
    let prefix = location(text)?;
    match prefix.strip_prefix("*.") {
        Some(rest) if rest.is_empty() || rest.contains(['/', '@', ':', '*']) => {
            Err(format!("the prefix {prefix:?} is no wildcard that can match: expected *.HOST"))
        }
        _ => Ok(prefix),
    }
}

fn search_registry(text: &str) -> Result<String, String> {
    let name = location(text)?;
    let parsed = format!("{name}/name").parse::<Reference>();
    if name.contains(['/', '@']) || parsed.is_err() {
        return Err(format!("unqualified-search-registries has {text:?}: expected HOST[:PORT]"));
    }
    Ok(name)
}

fn parse_mode(text: &str) -> Result<ShortNameMode, String> {
    match text {
        "enforcing" => Ok(ShortNameMode::Enforcing),
        "permissive" => Ok(ShortNameMode::Permissive),
        "disabled" => Ok(ShortNameMode::Disabled),
        _ => Err(format!("short-name-mode is {text:?}: expected enforcing, permissive or disabled")),
    }
}

fn credential_source(name: &str) -> Result<CredentialSource, String> {
    match name {
        "containers-auth.json" => Ok(CredentialSource::AuthFile),
        name if is_plain_name(name) => Ok(CredentialSource::Helper(name.to_owned())),
        _ => Err(format!(
            "credential-helpers has {name:?}: expected containers-auth.json or the name of a helper, {PLAIN_NAME}"
        )),
    }
}

fn parse_alias(name: &str, value: &str, file: &Path) -> Result<Alias, String> {
    let bare = |text: &str| {
        let reference = text.parse::<Reference>().ok();
        reference.filter(|reference| reference.tag().is_none() && reference.digest().is_none())
    };
    if bare(name).is_none() || Reference::short_name(name).is_none() {
        return Err(format!("the alias {name:?}: expected a name without registry, tag and digest"));
    }
    let file = file.to_owned();
    if value.is_empty() {
        return Ok(Alias { repository: None, file });
    }
    let Some(reference) = bare(value).filter(|_| Reference::short_name(value).is_none()) else {
        return Err(format!(
            "the alias {name:?} is {value:?}: expected REGISTRY/NAME without tag and digest"
        ));
    };
    Ok(Alias { repository: Some(reference.repository().clone()), file })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfFile> {
        ConfFile::parse(Path::new("/etc/containers/registries.conf"), text)
    }

    #[test]
    fn files_of_real_systems_load() {
        for text in [
            // Debian's, and the empty file: comments only.
            "# unqualified-search-registries = [\"example.com\"]\n#\n# [[registry]]\n",
            // Fedora's main file and its drop-in.
            "unqualified-search-registries = [\"registry.fedoraproject.org\", \"registry.access.redhat.com\", \
             \"docker.io\", \"quay.io\"]\nshort-name-mode = \"enforcing\"\n",
            "[[registry]]\nlocation=\"registry.access.redhat.com\"\nblocked=false\ninsecure=false\n",
            // What kind, k3s and microshift write.
            "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n[[registry.mirror]]\n\
             location = \"127.0.0.1:5000/\"\ninsecure = true\n",
            // Keys of newer tools, and of the credential helpers.
            "credential-helpers = [\"containers-auth.json\", \"pass\"]\nadditional-layer-store-auth-helper = \"x\"\n\
             something-new = 1\n[[registry]]\nlocation = \"a.example\"\nlater = {a = 1}\n",
            // shortnames.conf
            "[aliases]\n  # almalinux\n  \"almalinux\" = \"docker.io/library/almalinux\"\n  \"ubi8/go\" = \
             \"registry.access.redhat.com/ubi8/go-toolset\"\n\"gone\" = \"\"\n",
        ] {
            if let Err(error) = parse(text) {
                panic!("{text}: {error}");
            }
        }
    }

    #[test]
    fn a_prefix_is_the_location_by_default_and_the_first_of_two_holds() {
        let file = parse(
            "[[registry]]\nlocation = \"a.example/\"\n[[registry.mirror]]\nlocation = \"m.example\"\n\
             [[registry]]\nprefix = \"a.example\"\nlocation = \"other.example\"\n",
        )
        .unwrap();
        let [registry] = &file.registries[..] else { panic!("{:?}", file.registries) };
        assert_eq!((registry.prefix.as_str(), registry.location.as_str()), ("a.example", "a.example"));
        assert_eq!(registry.mirrors[0].location, "m.example");
    }

    #[test]
    fn refusals_name_the_file_and_the_place() {
        for (text, part) in [
            ("[registries.search]\nregistries = [\"a.example\"]\n", "version 1"),
            ("[[registry]]\n", "neither prefix nor location"),
            ("[[registry]]\nprefix = \"a.example\"\n", "no location"),
            ("[[registry]]\nprefix = \"*.a.example/x\"\n", "expected *.HOST"),
            ("[[registry]]\nlocation = \"https://a.example\"\n", "is a URL"),
            (
                "[[registry]]\nlocation = \"a.example\"\npull-from-mirror = \"all\"\n",
                "is for a [[registry.mirror]]",
            ),
            ("[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\n", "no location"),
            (
                "[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\nlocation = \"b.example\"\n\
                 pull-from-mirror = \"never\"\n",
                "expected all, digest-only or tag-only",
            ),
            (
                "[[registry]]\nlocation = \"a.example\"\nmirror-by-digest-only = true\n[[registry.mirror]]\n\
                 location = \"b.example\"\npull-from-mirror = \"all\"\n",
                "expected one of them",
            ),
            (
                "[[registry]]\nlocation = \"a.example\"\n[[registry]]\nprefix = \"b.example\"\n\
                 location = \"a.example\"\ninsecure = true\n",
                "differ in insecure",
            ),
            (
                "[[registry]]\nlocation = \"a.example\"\nblocked = true\n[[registry]]\nprefix = \"b.example\"\n\
                 location = \"a.example\"\n",
                "differ in blocked",
            ),
            ("unqualified-search-registries = [\"a.example/team\"]\n", "expected HOST[:PORT]"),
            ("unqualified-search-registries = [\"a b\"]\n", "expected HOST[:PORT]"),
            ("unqualified-search-registries = \"a.example\"\n", "unqualified-search-registries"),
            ("short-name-mode = \"loose\"\n", "expected enforcing"),
            ("credential-helpers = [\"../evil\"]\n", "expected containers-auth.json or the name"),
            ("credential-helpers = [\"\"]\n", "expected containers-auth.json or the name"),
            ("credential-helpers = \"pass\"\n", "credential-helpers"),
            ("[aliases]\n\"a.example/app\" = \"b.example/app\"\n", "expected a name without registry"),
            ("[aliases]\n\"app:1\" = \"b.example/app\"\n", "expected a name without registry"),
            ("[aliases]\napp = \"team/app\"\n", "expected REGISTRY/NAME"),
            ("[aliases]\napp = \"b.example/app:1\"\n", "expected REGISTRY/NAME"),
            ("[[registry]\n", "line 1"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(part) && error.contains("registries.conf"), "{text}: {error}");
        }
    }
}
