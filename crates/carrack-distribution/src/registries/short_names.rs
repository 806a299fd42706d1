//! What a name without a registry may stand for: an alias, or the search registries in their order.
//!
//! Invariant: without alias and search registries a name means what it means in Docker, and every candidate keeps the
//! tag and digest that the user gave.

use carrack_oci::{Reference, ReferenceError};

use super::conf::RegistriesConf;
use super::file::ShortNameMode;
use crate::{Error, Result};

/// The full names that a text may stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// In the order in which they are tried; at least one. `latest` stands where neither tag nor digest is given.
    pub candidates: Vec<Reference>,
    /// How they were found, for the user; nothing where the text says it all.
    pub explanation: Option<String>,
}

impl RegistriesConf {
    /// Where an image of this name may be pulled from. The outer error is of the configuration, the inner one of
    /// the text.
    pub fn names(&self, text: &str) -> Result<Result<Names, ReferenceError>> {
        let names = match self.local_names(text) {
            Ok(names) => names,
            Err(error) => return Ok(Err(error)),
        };
        let is_ambiguous = self.mode == ShortNameMode::Enforcing && names.candidates.len() > 1;
        if is_ambiguous {
            let reason = format!(
                "the short name {text} may be of {}, and short-name-mode is enforcing: expected a name with a registry",
                self.search.join(", ")
            );
            return Err(Error::RegistriesConf { file: self.search_file.clone(), reason });
        }
        Ok(Ok(names))
    }

    /// The same for an image that is here already: then nothing is ambiguous.
    pub fn local_names(&self, text: &str) -> Result<Names, ReferenceError> {
        let reference = text.parse::<Reference>()?.or_latest();
        let as_written = Names { candidates: vec![reference.clone()], explanation: None };
        let Some(short) = Reference::short_name(text) else { return Ok(as_written) };
        if let Some(alias) = self.aliases.get(short)
            && let Some(repository) = &alias.repository
        {
            let explanation = format!("Resolved {short:?} as an alias ({})", alias.file.display());
            let candidates = vec![reference.in_repository(repository.clone())];
            return Ok(Names { candidates, explanation: Some(explanation) });
        }
        if self.search.is_empty() {
            return Ok(as_written);
        }
        let at = |registry: &String| {
            let named: Reference = format!("{registry}/{short}").parse()?;
            Ok(reference.in_repository(named.repository().clone()))
        };
        let explanation = format!(
            "Resolving {short:?} using unqualified-search registries ({})",
            self.search_file.display()
        );
        let candidates = self.search.iter().map(at).collect::<Result<_, ReferenceError>>()?;
        Ok(Names { candidates, explanation: Some(explanation) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file::ConfFile;
    use super::*;

    fn conf(text: &str) -> RegistriesConf {
        let path = Path::new("/etc/containers/registries.conf");
        let mut conf = RegistriesConf::default();
        let file = ConfFile::parse(path, text).unwrap();
        (conf.search, conf.search_file) = (file.search.unwrap_or_default(), path.to_owned());
        (conf.mode, conf.aliases) = (file.mode.unwrap_or_default(), file.aliases);
        conf
    }

    fn names(conf: &RegistriesConf, text: &str) -> Vec<String> {
        conf.names(text).unwrap().unwrap().candidates.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn docker_hub_stays_the_default() {
        let conf = RegistriesConf::default();
        assert_eq!(names(&conf, "app"), ["docker.io/library/app:latest"]);
        assert_eq!(names(&conf, "team/app:1"), ["docker.io/team/app:1"]);
        assert!(conf.names("Not/Valid").unwrap().is_err());
    }

    #[test]
    fn an_alias_wins_and_keeps_tag_and_digest() {
        let conf = conf(
            "unqualified-search-registries = [\"one.example\"]\n[aliases]\napp = \"two.example/team/app\"\n\
             \"a/b\" = \"docker.io/b\"\ngone = \"\"",
        );
        let digest = carrack_oci::Digest::of(b"x");
        assert_eq!(names(&conf, "app"), ["two.example/team/app:latest"]);
        assert_eq!(names(&conf, "app:1"), ["two.example/team/app:1"]);
        assert_eq!(names(&conf, &format!("app@{digest}")), [format!("two.example/team/app@{digest}")]);
        assert_eq!(names(&conf, "a/b"), ["docker.io/library/b:latest"]);
        assert_eq!(names(&conf, "gone"), ["one.example/gone:latest"]);
        assert_eq!(names(&conf, "localhost/app"), ["localhost/app:latest"]);
        let explanation = conf.names("app").unwrap().unwrap().explanation.unwrap();
        assert_eq!(explanation, "Resolved \"app\" as an alias (/etc/containers/registries.conf)");
    }

    #[test]
    fn search_registries_are_tried_in_order() {
        let search = "unqualified-search-registries = [\"one.example:5000\", \"docker.io\"]\n";
        let permissive = conf(search);
        assert_eq!(names(&permissive, "app:1"), ["one.example:5000/app:1", "docker.io/library/app:1"]);
        assert_eq!(
            names(&permissive, "team/app"),
            ["one.example:5000/team/app:latest", "docker.io/team/app:latest"]
        );
        let enforcing = conf(&format!("{search}short-name-mode = \"enforcing\""));
        let error = enforcing.names("app").unwrap_err().to_string();
        assert!(error.contains("one.example:5000, docker.io") && error.contains("enforcing"), "{error}");
        assert_eq!(enforcing.local_names("app").unwrap().candidates.len(), 2);
        assert_eq!(names(&enforcing, "a.example/app"), ["a.example/app:latest"]);
        let single = conf("unqualified-search-registries = [\"a.example\"]\nshort-name-mode = \"enforcing\"");
        assert_eq!(names(&single, "app"), ["a.example/app:latest"]);
    }
}
