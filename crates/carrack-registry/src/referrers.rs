//! Manifests that point at another one (distribution-spec, "Listing Referrers", "Pushing Manifests with Subject").
//!
//! Invariant: the list for a subject has exactly the manifests of the repository that name it, whether the subject
//! itself exists or not.

use carrack_oci::{Descriptor, Digest, Document, Index, MAX_DOCUMENT_BYTES, media_type};
use hyper::header::{CONTENT_TYPE, LINK};
use hyper::{Response, StatusCode};

use crate::body::Body;
use crate::cache::StoredManifest;
use crate::failure::{Answer, Failure};
use crate::listing::next_link;
use crate::name::RepositoryName;
use crate::query::Query;
use crate::repository::Repository;
use crate::service::{Service, blocking};
use crate::store::NewManifest;
use crate::wire;

/// A page is an index, which clients read up to [`MAX_DOCUMENT_BYTES`] and this many entries.
const MAX_ENTRIES: usize = 1000;

/// The digest of a document's subject.
pub(crate) fn subject_of(document: &Document) -> Option<&Digest> {
    let subject = match document {
        Document::Manifest(manifest) => &manifest.subject,
        Document::Index(index) => &index.subject,
    };
    subject.as_ref().map(|subject| &subject.digest)
}

/// The digest of a stored manifest's subject.
pub(crate) fn subject(manifest: &StoredManifest) -> Option<Digest> {
    let document = Document::parse(&manifest.media_type, &manifest.bytes).ok()?;
    subject_of(&document).cloned()
}

/// The subject of a manifest, and the descriptor by which a list of referrers shows the manifest: with its
/// annotations, and with its artifact type, for which an image's config type stands in.
pub(crate) fn describe(new: &NewManifest) -> Option<(Digest, Descriptor)> {
    let subject = subject_of(&new.document)?.clone();
    let mut referrer = Descriptor::new(&new.media_type, new.digest.clone(), new.bytes.len() as u64);
    let given = |artifact_type: &Option<String>| artifact_type.clone().filter(|text| !text.is_empty());
    match &new.document {
        Document::Manifest(manifest) => {
            let own = given(&manifest.artifact_type);
            referrer.artifact_type = Some(own.unwrap_or_else(|| manifest.config.media_type.clone()));
            referrer.annotations = manifest.annotations.clone();
        }
        Document::Index(index) => {
            referrer.artifact_type = given(&index.artifact_type);
            referrer.annotations = index.annotations.clone();
        }
    }
    Some((subject, referrer))
}

impl Service {
    /// GET of `/v2/<name>/referrers/<digest>`: never 404, also for a repository that does not exist.
    pub(crate) async fn referrers(
        &self,
        name: RepositoryName,
        subject: &str,
        query: Query,
    ) -> Answer<Response<Body>> {
        let invalid = |error: carrack_oci::DigestError| Failure::DigestInvalid { reason: error.to_string() };
        let subject: Digest = subject.parse().map_err(invalid)?;
        let store = self.store.clone();
        blocking(move || {
            let artifact_type = query.get("artifactType").filter(|text| !text.is_empty());
            let (page, has_more) =
                page(&store.repository(&name), &subject, artifact_type, query.get("last"))?;
            let last = page.last().map(|referrer| referrer.digest.clone());
            let bytes = serde_json::to_vec(&Index::oci(page)).expect("an index has only string keys");
            let mut response = wire::respond(StatusCode::OK, Body::whole(bytes));
            wire::set(&mut response, CONTENT_TYPE, media_type::OCI_INDEX);
            if artifact_type.is_some() {
                wire::set(&mut response, wire::FILTERS_APPLIED, "artifactType");
            }
            if let Some(last) = last.filter(|_| has_more) {
                let mut pairs: Vec<_> =
                    artifact_type.map(|text| ("artifactType", text)).into_iter().collect();
                pairs.push(("last", last.as_str()));
                let link = next_link(&format!("/v2/{name}/referrers/{subject}"), &pairs);
                wire::set(&mut response, LINK, &link);
            }
            Ok(response)
        })
        .await
    }
}

/// The referrers behind `last` that fit in one index, and whether more follow.
fn page(
    repository: &Repository,
    subject: &Digest,
    artifact_type: Option<&str>,
    last: Option<&str>,
) -> Answer<(Vec<Descriptor>, bool)> {
    // What an index has around its entries, and a comma for each of them.
    let mut size_bytes = 256;
    let mut page = Vec::new();
    let digests = repository.referrers(subject)?;
    for digest in digests.iter().filter(|digest| last.is_none_or(|last| digest.as_str() > last)) {
        let Some(referrer) = repository.read_referrer(subject, digest)? else { continue };
        if artifact_type.is_some_and(|wanted| referrer.artifact_type.as_deref() != Some(wanted)) {
            continue;
        }
        size_bytes += serde_json::to_vec(&referrer).map_or(0, |bytes| bytes.len() as u64 + 1);
        if !page.is_empty() && (size_bytes > MAX_DOCUMENT_BYTES || page.len() == MAX_ENTRIES) {
            return Ok((page, true));
        }
        page.push(referrer);
    }
    Ok((page, false))
}
