//! The lists of tags (distribution-spec, "Listing Tags") and of repositories (as Docker's registry has it), in pages.

use hyper::header::{CONTENT_TYPE, LINK};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::failure::{Answer, Failure};
use crate::name::{RepositoryName, Tag};
use crate::query::{self, Query};
use crate::service::{Service, blocking};
use crate::wire;

/// How many repositories a page has when the client does not say, as in Docker's registry.
const CATALOG_PAGE: usize = 100;

impl Service {
    /// GET of `/v2/<name>/tags/list`.
    pub(crate) async fn tags(&self, name: RepositoryName, query: Query) -> Answer<Response<Body>> {
        let count = page_size(&query)?;
        let store = self.store.clone();
        blocking(move || {
            let tags = store.tags(&name)?;
            let tags = tags.iter().map(Tag::as_str).collect();
            let (page, has_more) = cut(tags, query.get("last"), count.unwrap_or(usize::MAX));
            let path = format!("/v2/{name}/tags/list");
            Ok(respond(&path, json!({"name": name.as_str(), "tags": page}), &page, has_more))
        })
        .await
    }

    /// GET of `/v2/_catalog`.
    pub(crate) async fn catalog(&self, query: Query) -> Answer<Response<Body>> {
        let count = page_size(&query)?.unwrap_or(CATALOG_PAGE);
        let store = self.store.clone();
        blocking(move || {
            let names = store.names()?;
            let names = names.iter().map(RepositoryName::as_str).collect();
            let (page, has_more) = cut(names, query.get("last"), count);
            Ok(respond("/v2/_catalog", json!({"repositories": page}), &page, has_more))
        })
        .await
    }
}

fn page_size(query: &Query) -> Answer<Option<usize>> {
    let Some(text) = query.get("n") else { return Ok(None) };
    let invalid = || Failure::PageInvalid { text: text.chars().take(40).collect() };
    text.parse().map(Some).map_err(|_| invalid())
}

/// Up to `count` of the sorted `names` behind `last`, and whether more follow.
fn cut<'a>(mut names: Vec<&'a str>, last: Option<&str>, count: usize) -> (Vec<&'a str>, bool) {
    if let Some(last) = last {
        names.drain(..names.partition_point(|name| *name <= last));
    }
    let has_more = names.len() > count;
    names.truncate(count);
    (names, has_more)
}

fn respond(path: &str, list: Value, page: &[&str], has_more: bool) -> Response<Body> {
    let mut response = wire::respond(StatusCode::OK, Body::whole(list.to_string()));
    wire::set(&mut response, CONTENT_TYPE, "application/json");
    // An empty page (`n=0`) has no last name and by the specification no link.
    if let Some(last) = page.last().filter(|_| has_more) {
        let link = next_link(path, &[("n", &page.len().to_string()), ("last", last)]);
        wire::set(&mut response, LINK, &link);
    }
    response
}

/// The `Link` to the next page (RFC 5988).
pub(crate) fn next_link(path: &str, pairs: &[(&str, &str)]) -> String {
    format!("<{path}?{}>; rel=\"next\"", query::encode(pairs))
}
