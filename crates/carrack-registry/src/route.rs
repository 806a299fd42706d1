//! Which endpoint a path names (distribution-spec, "Endpoints").
//!
//! Invariant: pure, and it reads from the right: a repository's name may contain the words `blobs`, `manifests` or
//! `tags`, so only the last components tell the endpoint.

use percent_encoding::percent_decode_str;

use crate::name::RepositoryName;

/// An endpoint with its parameters; digests and tags are still text, since each endpoint refuses them differently.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// end-1: `/v2/`.
    Base,
    /// `/v2/_catalog`, as Docker's registry has it.
    Catalog,
    /// end-8: `/v2/<name>/tags/list`.
    Tags(RepositoryName),
    /// end-3, end-7, end-9: `/v2/<name>/manifests/<tag-or-digest>`.
    Manifest(RepositoryName, String),
    /// end-2, end-10: `/v2/<name>/blobs/<digest>`.
    Blob(RepositoryName, String),
    /// end-12: `/v2/<name>/referrers/<digest>`.
    Referrers(RepositoryName, String),
    /// end-4, end-11: `/v2/<name>/blobs/uploads/`.
    Uploads(RepositoryName),
    /// end-5, end-6, end-13, end-14: an upload's location.
    Upload(RepositoryName, String),
    /// An endpoint of a repository whose name is none.
    InvalidName(String),
    /// Not an endpoint.
    Unknown,
}

impl Route {
    /// Takes the path of a request apart, percent-decoded once.
    pub(crate) fn parse(path: &str) -> Self {
        let Ok(path) = percent_decode_str(path).decode_utf8() else { return Self::Unknown };
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Self::Base,
            Some("/_catalog") => return Self::Catalog,
            Some(rest) => rest,
            None => return Self::Unknown,
        };
        let Some(rest) = rest.strip_prefix('/') else { return Self::Unknown };
        let Some((head, last)) = rest.rsplit_once('/') else { return Self::Unknown };
        let (name, endpoint) = head.rsplit_once('/').unwrap_or(("", head));
        let last = last.to_owned();
        match (endpoint, last.as_str()) {
            ("tags", "list") => with_name(name, Self::Tags),
            ("manifests", _) => with_name(name, |name| Self::Manifest(name, last)),
            ("referrers", _) => with_name(name, |name| Self::Referrers(name, last)),
            ("blobs", "uploads") => with_name(name, Self::Uploads),
            ("blobs", _) => with_name(name, |name| Self::Blob(name, last)),
            ("uploads", id) => match name.rsplit_once('/') {
                Some((name, "blobs")) if id.is_empty() => with_name(name, Self::Uploads),
                Some((name, "blobs")) => with_name(name, |name| Self::Upload(name, last)),
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }
}

fn with_name(text: &str, route: impl FnOnce(RepositoryName) -> Route) -> Route {
    match RepositoryName::parse(text) {
        Some(name) => route(name),
        None => Route::InvalidName(text.chars().take(300).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        RepositoryName::parse(text).unwrap()
    }

    #[test]
    fn reads_every_endpoint() {
        for (path, route) in [
            ("/v2", Route::Base),
            ("/v2/", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/tags/list", Route::Tags(name("a"))),
            ("/v2/a/b/manifests/latest", Route::Manifest(name("a/b"), "latest".to_owned())),
            ("/v2/a/blobs/sha256%3Aab", Route::Blob(name("a"), "sha256:ab".to_owned())),
            ("/v2/a/referrers/x", Route::Referrers(name("a"), "x".to_owned())),
            ("/v2/a/blobs/uploads", Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/", Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/1-2", Route::Upload(name("a"), "1-2".to_owned())),
        ] {
            assert_eq!(Route::parse(path), route, "{path}");
        }
    }

    #[test]
    fn names_may_contain_the_words_of_endpoints() {
        assert_eq!(Route::parse("/v2/a/manifests/tags/list"), Route::Tags(name("a/manifests")));
        assert_eq!(Route::parse("/v2/tags/manifests/list"), Route::Manifest(name("tags"), "list".to_owned()));
        assert_eq!(Route::parse("/v2/blobs/blobs/uploads/"), Route::Uploads(name("blobs")));
    }

    #[test]
    fn refuses_what_is_no_name() {
        for text in
            ["..", "a/../b", "%2e%2e/b", "_tags", "a/_blobs", "A", "a//b", "", ".a", &"a/".repeat(200)]
        {
            let route = Route::parse(&format!("/v2/{text}/manifests/x"));
            assert!(matches!(route, Route::InvalidName(_)), "{text:?} became {route:?}");
        }
    }

    #[test]
    fn other_paths_are_unknown() {
        for path in [
            "/",
            "/v1/",
            "/v2x",
            "/v2/a",
            "/v2/a/b",
            "/v2/a/uploads/x",
            "/v2/a/blobs/uploads/x/y",
            "/v2/%ff/tags/list",
        ] {
            assert_eq!(Route::parse(path), Route::Unknown, "{path}");
        }
    }
}
