//! Tag lists (distribution-spec, "Listing Tags"), page by page.
//!
//! Invariant: the number of pages and tags is bounded, and what is returned are valid tags only.

use carrack_oci::{Reference, Repository, parse_strict};
use reqwest::Method;
use reqwest::header::LINK;
use serde::Deserialize;
use url::Url;

use crate::origin::{Origin, follow};
use crate::response::Response;
use crate::session::{Scope, Session};
use crate::transport::Request;
use crate::{Client, Error, PlainHttp, Result};

const MAX_PAGES: usize = 1000;
const MAX_TAGS: usize = 200_000;
const MAX_PAGE_BYTES: u64 = 4 << 20;

#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

impl Client {
    /// All tags of a repository, in the registry's order.
    pub fn tags(&self, repository: &Repository) -> Result<Vec<String>> {
        let session = self.session(repository, Scope::pull(repository))?;
        let mut tags = Vec::new();
        let mut next = Some(session.registry.url(&format!("{}/tags/list?n=1000", repository.path()))?);
        let mut pages = 0;
        while let Some(url) = next {
            pages += 1;
            if pages > MAX_PAGES || tags.len() > MAX_TAGS {
                let reason = format!("the tag list of {repository} has no end");
                return Err(Error::Refused { reason });
            }
            next = self.retrying(|| session.tag_page(&url)).map(|(page, next)| {
                tags.extend(page);
                next
            })?;
        }
        Ok(tags)
    }
}

impl Session<'_> {
    fn tag_page(&self, url: &Url) -> Result<(Vec<String>, Option<Url>)> {
        let response = self.send(&Request::new(Method::GET, url.clone()))?.expect(&[200])?;
        let next = next_page(&response, self.transport.plain_http())?;
        let exchange = response.exchange.clone();
        let body = response.read_all(MAX_PAGE_BYTES)?;
        let refuse = |reason: &str| Error::Protocol { exchange: exchange.clone(), reason: reason.to_owned() };
        let page: Page = parse_strict(&body).map_err(|_| refuse("the answer is not a tag list"))?;
        let tags = page.tags.unwrap_or_default();
        if tags.iter().all(|tag| Reference::is_valid_tag(tag)) {
            Ok((tags, next))
        } else {
            Err(refuse("the tag list has names that are no tags"))
        }
    }
}

/// The target of `Link: <...>; rel="next"` (RFC 8288), on the origin of the page itself.
pub(crate) fn next_page(response: &Response, plain_http: &PlainHttp) -> Result<Option<Url>> {
    let Some(link) = response.header(LINK.as_str()) else { return Ok(None) };
    let Some((target, parameters)) = link.strip_prefix('<').and_then(|link| link.split_once('>')) else {
        return Ok(None);
    };
    if !parameters.replace('"', "").contains("rel=next") {
        return Ok(None);
    }
    let next = follow(&response.url, target, plain_http)?;
    if Origin::of(&next) == Origin::of(&response.url) {
        return Ok(Some(next));
    }
    Err(response.protocol_error("the next page is at another origin"))
}
