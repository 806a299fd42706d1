//! Search: the repositories of a registry whose names contain a text, and the tags of a repository.

use carrack_distribution::Class;
use carrack_oci::Reference;

use crate::error::OperationContext;
use crate::{Engine, Error, Result};

const DOCKER_HUB: &str = "docker.io";

impl Engine {
    /// Up to `limit` names of repositories of `registry` that contain `text`, in the registry's order.
    ///
    /// The registry's catalogue is read, which Docker Hub and some others do not offer.
    pub fn search(&self, registry: &str, text: &str, limit: usize) -> Result<Vec<String>> {
        if registry == DOCKER_HUB {
            let hint = "name the registry in front of the term: carrack search HOST[:PORT]/TERM";
            return Err(Error::refused(format!("cannot search {registry}: it has no catalogue"), hint));
        }
        // The name goes into a URL: it must be what a reference may have as a registry.
        let checked: Reference = format!("{registry}/any").parse().operation("search", registry)?;
        let mut found = Vec::new();
        let mut take = |name: String| {
            if found.len() < limit && name.contains(text) {
                found.push(name);
            }
            found.len() < limit
        };
        match self.client_of_registry(registry)?.catalog(checked.repository().registry(), &mut take) {
            Err(error) if error.class() == Class::NotFound => {
                let message = format!("cannot search {registry}: it has no catalogue");
                Err(Error::refused(message, "--list-tags shows the tags of a repository whose name is known"))
            }
            result => result.map(|()| found).operation("search", registry),
        }
    }

    /// Up to `limit` tags of a repository, in the registry's order.
    pub fn list_tags(&self, repository: &Reference, limit: usize) -> Result<Vec<String>> {
        let tags = self.client_of_registry(repository.repository().registry())?.tags(repository.repository());
        let mut tags = tags.operation("list the tags of", repository.repository())?;
        tags.truncate(limit);
        Ok(tags)
    }
}
