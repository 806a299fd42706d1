//! The catalogue of a registry (Docker's registry API, "Catalog"; not part of the distribution-spec), page by page.
//!
//! Invariant: the number of pages and names is bounded, and what is handed on are valid repository names only.

use carrack_oci::{Repository, parse_strict};
use reqwest::Method;
use serde::Deserialize;
use url::Url;

use crate::session::{Scope, Session};
use crate::tags::next_page;
use crate::transport::Request;
use crate::{Client, Error, Result};

const MAX_PAGES: usize = 1000;
const MAX_NAMES: usize = 200_000;
const MAX_PAGE_BYTES: u64 = 4 << 20;

#[derive(Deserialize)]
struct Page {
    repositories: Option<Vec<String>>,
}

impl Client {
    /// Hands the names of a registry's repositories to `take`, in the registry's order, until it returns `false`.
    ///
    /// A registry may have no catalogue, or show it to few: that is [`Class::NotFound`](crate::Class::NotFound),
    /// `Unauthorized` or `Denied`.
    pub fn catalog(&self, registry: &str, take: &mut dyn FnMut(String) -> bool) -> Result<()> {
        let credentials_of = registry.to_owned();
        let registry = self.transport.registry(registry)?;
        let session = Session {
            transport: &self.transport,
            authorizer: &self.authorizer,
            registry,
            credentials_of,
            scope: Scope::catalog(),
        };
        let mut next = Some(session.registry.url("_catalog?n=1000")?);
        let (mut pages, mut names) = (0, 0);
        while let Some(url) = next {
            pages += 1;
            if pages > MAX_PAGES || names > MAX_NAMES {
                let reason = format!("the catalogue of {} has no end", session.registry.name);
                return Err(Error::Refused { reason });
            }
            let (page, following) = self.retrying(|| session.catalog_page(&url))?;
            names += page.len();
            for name in page {
                if !take(name) {
                    return Ok(());
                }
            }
            next = following;
        }
        Ok(())
    }
}

impl Session<'_> {
    fn catalog_page(&self, url: &Url) -> Result<(Vec<String>, Option<Url>)> {
        let response = self.send(&Request::new(Method::GET, url.clone()))?.expect(&[200])?;
        let next = next_page(&response, self.transport.plain_http())?;
        let exchange = response.exchange.clone();
        let body = response.read_all(MAX_PAGE_BYTES)?;
        let refuse = |reason: &str| Error::Protocol { exchange: exchange.clone(), reason: reason.to_owned() };
        let page: Page = parse_strict(&body).map_err(|_| refuse("the answer is not a catalogue"))?;
        let names = page.repositories.unwrap_or_default();
        match names.iter().all(|name| Repository::is_valid_path(name)) {
            true => Ok((names, next)),
            false => Err(refuse("the catalogue has names that are no repositories")),
        }
    }
}
