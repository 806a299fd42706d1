//! Where the image of a full name really is: the mirrors and the location of the table whose prefix is the longest.
//!
//! Invariant: a name that a table blocks leads nowhere, be it the user's own or one that another table leads to.

use carrack_oci::Reference;

use super::conf::RegistriesConf;
use super::file::{Registry, Serves};
use crate::{Error, Result};

/// One place that has an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name that the image has there.
    pub reference: Reference,
    /// Whether plain HTTP, and certificates that are not trusted, will do.
    pub insecure: bool,
}

impl RegistriesConf {
    /// Where `reference` can be pulled from: mirrors in their order, the location last. At least one.
    pub fn pull_endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let Some(registry) = self.find(&reference.to_string()) else {
            return Ok(vec![Endpoint { reference: reference.clone(), insecure: false }]);
        };
        let primary = self.location(registry, reference)?;
        let by_digest = reference.digest().is_some();
        let is_meant = |serves| serves == Serves::All || (serves == Serves::Digests) == by_digest;
        let mut endpoints = Vec::new();
        for mirror in registry.mirrors.iter().filter(|mirror| is_meant(mirror.serves)) {
            let endpoint = Endpoint {
                reference: registry.rewrite(reference, &mirror.location)?,
                insecure: mirror.insecure,
            };
            match self.check(&endpoint.reference.to_string()) {
                Ok(_) => endpoints.push(endpoint),
                Err(error) => tracing::warn!(%error, "a mirror is left out"),
            }
        }
        endpoints.push(primary);
        Ok(endpoints)
    }

    /// Where `reference` is pushed to: the name as it is, since a table redirects readers only
    /// (containers-registries.conf(5), "Remapping and mirroring registries").
    pub fn push_endpoint(&self, reference: &Reference) -> Result<Endpoint> {
        let insecure = self.is_insecure(&reference.to_string())?;
        Ok(Endpoint { reference: reference.clone(), insecure })
    }

    /// Whether the registry `name` may be reached without TLS; one that is blocked is an error.
    pub fn is_insecure(&self, name: &str) -> Result<bool> {
        Ok(self.check(name)?.is_some_and(|registry| registry.insecure))
    }

    fn location(&self, registry: &Registry, reference: &Reference) -> Result<Endpoint> {
        registry.refuse_blocked(&reference.to_string())?;
        let location = registry.rewrite(reference, &registry.location)?;
        self.check(&location.to_string())?;
        Ok(Endpoint { reference: location, insecure: registry.insecure })
    }

    fn check(&self, name: &str) -> Result<Option<&Registry>> {
        let registry = self.find(name);
        registry.map_or(Ok(()), |registry| registry.refuse_blocked(name))?;
        Ok(registry)
    }

    /// The table with the longest prefix of `name`.
    fn find(&self, name: &str) -> Option<&Registry> {
        let matching = self.registries.values().filter(|registry| matched(&registry.prefix, name).is_some());
        matching.max_by_key(|registry| registry.prefix.len())
    }
}

impl Registry {
    fn refuse_blocked(&self, name: &str) -> Result<()> {
        if !self.blocked {
            return Ok(());
        }
        let (prefix, file) = (self.prefix.clone(), self.file.clone());
        Err(Error::Blocked { name: name.to_owned(), prefix, file })
    }

    /// `reference` with `location` in place of the prefix.
    fn rewrite(&self, reference: &Reference, location: &str) -> Result<Reference> {
        let name = reference.to_string();
        let Some(length) = matched(&self.prefix, &name).filter(|_| !location.is_empty()) else {
            return Ok(reference.clone());
        };
        let text = format!("{location}{}", &name[length..]);
        let fail = |reason: String| Error::RegistriesConf { file: self.file.clone(), reason };
        if Reference::short_name(&text).is_some() {
            return Err(fail(format!(
                "{name} leads to {text}: expected a location that begins with a registry, as in host.example or \
                 host:5000"
            )));
        }
        text.parse::<Reference>().map_err(|error| fail(format!("{name} leads to {text}: {error}")))
    }
}

/// How much of `name`, a full name or a registry, the prefix stands for; nothing when it does not match.
///
/// As in the containers tools, `host` matches `host:5000` too.
fn matched(prefix: &str, name: &str) -> Option<usize> {
    let length = match prefix.strip_prefix('*') {
        // `.example` may stand anywhere in the host, behind at least one more label.
        Some(suffix) => {
            let host_end = name.find([':', '/', '@']).unwrap_or(name.len());
            let is_below = name[..host_end].strip_suffix(suffix).is_some_and(|labels| !labels.is_empty());
            is_below.then_some(host_end)?
        }
        None => name.starts_with(prefix).then_some(prefix.len())?,
    };
    matches!(name.as_bytes().get(length), None | Some(b':' | b'/' | b'@')).then_some(length)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file::ConfFile;
    use super::*;

    fn conf(text: &str) -> RegistriesConf {
        let file = ConfFile::parse(Path::new("/etc/containers/registries.conf"), text).unwrap();
        let by_prefix = file.registries.into_iter().map(|registry| (registry.prefix.clone(), registry));
        RegistriesConf { registries: by_prefix.collect(), ..RegistriesConf::default() }
    }

    fn pull(conf: &RegistriesConf, text: &str) -> Vec<String> {
        let show = |endpoint: Endpoint| {
            format!("{}{}", endpoint.reference, if endpoint.insecure { " insecure" } else { "" })
        };
        conf.pull_endpoints(&text.parse().unwrap()).unwrap().into_iter().map(show).collect()
    }

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    /// The example of the manual page.
    #[test]
    fn mirrors_come_first_and_prefixes_are_rewritten() {
        let conf = conf(
            "[[registry]]\nprefix = \"example.com/foo\"\nlocation = \"internal.example.net/bar\"\n\
             [[registry.mirror]]\nlocation = \"mirror-0.local/mirror-for-foo\"\n\
             [[registry.mirror]]\nlocation = \"mirror-1.local/mirrors/foo\"\ninsecure = true\n\
             [[registry]]\nlocation = \"registry.com\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"mirror.registry.com\"\n",
        );
        assert_eq!(
            pull(&conf, "example.com/foo/image:latest"),
            [
                "mirror-0.local/mirror-for-foo/image:latest",
                "mirror-1.local/mirrors/foo/image:latest insecure",
                "internal.example.net/bar/image:latest",
            ]
        );
        assert_eq!(
            pull(&conf, "registry.com/image:1"),
            ["mirror.registry.com/image:1", "registry.com/image:1 insecure"]
        );
        for other in ["example.com/food/image:1", "example.com/bar:1", "example.comm/foo/image:1"] {
            assert_eq!(pull(&conf, other), [other]);
        }
        let push = |text: &str| conf.push_endpoint(&text.parse().unwrap()).unwrap().reference.to_string();
        assert_eq!(push("example.com/foo/image:1"), "example.com/foo/image:1");
        assert_eq!(push("other.example/image:1"), "other.example/image:1");
    }

    #[test]
    fn the_longest_prefix_holds() {
        let conf = conf(
            "[[registry]]\nprefix = \"*.example.com\"\nlocation = \"one.local\"\n\
             [[registry]]\nprefix = \"*.so.example.com\"\nlocation = \"two.local\"\n\
             [[registry]]\nprefix = \"x.so.example.com:5000\"\nlocation = \"three.local/sub\"\n\
             [[registry]]\nprefix = \"plain.example\"\nlocation = \"four.local\"\n\
             [[registry]]\nprefix = \"plain.example/team/app:1\"\nlocation = \"five.local/app:2\"\n\
             [[registry]]\nprefix = \"docker.io/library/busybox\"\nlocation = \"six.local/bb\"\n\
             [[registry]]\nprefix = \"*.kept.example\"\n[[registry.mirror]]\nlocation = \"seven.local\"\n",
        );
        for (name, expected) in [
            ("a.example.com/app:1", &["one.local/app:1"][..]),
            ("a.b.example.com/app:1", &["one.local/app:1"]),
            ("x.so.example.com/app:1", &["two.local/app:1"]),
            ("x.so.example.com:5000/app:1", &["three.local/sub/app:1"]),
            ("example.com/app:1", &["example.com/app:1"]),
            ("a.example.com.evil.test/app:1", &["a.example.com.evil.test/app:1"]),
            ("host.test/a.example.com/app:1", &["host.test/a.example.com/app:1"]),
            ("plain.example/team/app:3", &["four.local/team/app:3"]),
            ("plain.example/team/app:1", &["five.local/app:2"]),
            ("busybox:1", &["six.local/bb:1"]),
            ("a.kept.example/app:1", &["seven.local/app:1", "a.kept.example/app:1"]),
        ] {
            assert_eq!(pull(&conf, name), expected, "{name}");
        }
    }

    #[test]
    fn mirrors_may_be_for_tags_or_digests_only() {
        let conf = conf(
            "[[registry]]\nlocation = \"a.example\"\nmirror-by-digest-only = true\n\
             [[registry.mirror]]\nlocation = \"digests.local\"\n\
             [[registry]]\nlocation = \"b.example\"\n\
             [[registry.mirror]]\nlocation = \"tags.local\"\npull-from-mirror = \"tag-only\"\n\
             [[registry.mirror]]\nlocation = \"digests.local\"\npull-from-mirror = \"digest-only\"\n\
             [[registry.mirror]]\nlocation = \"all.local\"\npull-from-mirror = \"all\"\n",
        );
        let by_digest = |name: &str| format!("{name}@{DIGEST}");
        assert_eq!(pull(&conf, "a.example/app:1"), ["a.example/app:1"]);
        assert_eq!(
            pull(&conf, &by_digest("a.example/app")),
            [by_digest("digests.local/app"), by_digest("a.example/app")]
        );
        assert_eq!(
            pull(&conf, "b.example/app:1"),
            ["tags.local/app:1", "all.local/app:1", "b.example/app:1"]
        );
        assert_eq!(
            pull(&conf, &by_digest("b.example/app")),
            [by_digest("digests.local/app"), by_digest("all.local/app"), by_digest("b.example/app")]
        );
    }

    #[test]
    fn what_is_blocked_leads_nowhere() {
        let conf = conf(
            "[[registry]]\nlocation = \"bad.example\"\nblocked = true\n\
             [[registry]]\nprefix = \"alias.example\"\nlocation = \"bad.example/x\"\n\
             [[registry]]\nlocation = \"good.example\"\n[[registry.mirror]]\nlocation = \"bad.example/y\"\n\
             [[registry]]\nprefix = \"moved.example\"\nlocation = \"good.example\"\n\
             [[registry]]\nprefix = \"closed.example\"\nlocation = \"closed.local\"\nblocked = true\n",
        );
        for name in
            ["bad.example/app:1", "bad.example:5000/app:1", "alias.example/app:1", "closed.example/app"]
        {
            let reference: Reference = name.parse().unwrap();
            let mut errors = vec![conf.pull_endpoints(&reference).unwrap_err()];
            // A push goes to the name as it is, wherever the table leads readers.
            match conf.push_endpoint(&reference) {
                Ok(endpoint) => assert_eq!((name, endpoint.reference), ("alias.example/app:1", reference)),
                Err(error) => errors.push(error),
            }
            for error in errors {
                let text = error.to_string();
                assert!(matches!(error, Error::Blocked { .. }), "{name}: {text}");
                assert!(text.contains("/etc/containers/registries.conf"), "{text}");
            }
        }
        assert!(conf.is_insecure("bad.example").is_err());
        assert!(!conf.is_insecure("good.example").unwrap());
        assert_eq!(pull(&conf, "good.example/app:1"), ["good.example/app:1"], "a blocked mirror is left out");
    }

    #[test]
    fn a_location_must_name_a_registry() {
        let conf = conf("[[registry]]\nprefix = \"a.example\"\nlocation = \"nohost\"\n");
        let error = conf.pull_endpoints(&"a.example/app:1".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("nohost/app:1") && error.contains("registries.conf"), "{error}");
    }
}
