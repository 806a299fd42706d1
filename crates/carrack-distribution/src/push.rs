//! Blob uploads (distribution-spec, "Pushing blobs"): POST for a place, then one PUT that streams the blob.
//!
//! Invariant: a repeated push first asks whether the blob is there by now, so an answer that got lost costs no second
//! upload.

use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use carrack_oci::{Descriptor, Digest, Repository};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use url::Url;

use crate::manifest::check_announced;
use crate::retry::Retries;
use crate::session::{Scope, Session};
use crate::transport::{BlobReader, Payload, Request, Upload};
use crate::{Client, Error, Result};

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// How a blob came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Exists,
    /// Its bytes were sent.
    Uploaded,
}

/// What a POST for an upload led to.
enum Started {
    Mounted,
    At(Url),
}

impl Client {
    /// Has the registry take a blob from its repository `from` into `to`, without any bytes sent; `false` when it does
    /// not.
    pub fn mount_blob(&self, to: &Repository, digest: &Digest, from: &Repository) -> Result<bool> {
        if to.registry() != from.registry() {
            return Ok(false);
        }
        let session = self.session(to, Scope::mount(to, from))?;
        self.retrying(|| match session.start_upload(to, Some((digest, from)))? {
            Started::Mounted => Ok(true),
            Started::At(place) => {
                // The registry would collect it some day; that it is gone now is a courtesy.
                if let Err(error) = session.send(&Request::new(Method::DELETE, place)) {
                    tracing::debug!(%error, "an upload is left to the registry");
                }
                Ok(false)
            }
        })
    }

    /// Sends the blob that `open` opens, once an attempt, unless the repository has it. `progress` gets the number of
    /// bytes sent, again and again, on the calling thread.
    ///
    /// An error of reading the blob ends the push; the registry then has nothing of it.
    pub fn push_blob<R: Read + Send + 'static>(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        open: &(impl Fn() -> io::Result<R> + Sync),
        progress: &dyn Fn(u64),
    ) -> Result<Pushed> {
        let open = || open().map(|reader| Box::new(reader) as BlobReader);
        let session = self.session(repository, Scope::push(repository))?;
        let mut retries = Retries::new(&self.retry);
        loop {
            match session.push_once(repository, descriptor, &open, progress) {
                Err(error) => retries.pause(error)?,
                done => return done,
            }
        }
    }
}

impl Session<'_> {
    fn push_once(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        open: &(dyn Fn() -> io::Result<BlobReader> + Sync),
        progress: &dyn Fn(u64),
    ) -> Result<Pushed> {
        if self.has_blob(repository, descriptor)? {
            return Ok(Pushed::Exists);
        }
        let size_bytes = descriptor.size;
        let upload = Upload { open, size_bytes, sent_bytes: Arc::default(), failed: Arc::default() };
        let Started::At(mut place) = self.start_upload(repository, None)? else {
            return Err(Error::Refused {
                reason: "the registry mounted what it was not asked to".to_owned(),
            });
        };
        place.query_pairs_mut().append_pair("digest", descriptor.digest.as_str());
        let mut request =
            Request::new(Method::PUT, place).header(CONTENT_TYPE, "application/octet-stream")?;
        request.payload = Payload::Stream(&upload);
        let response = thread::scope(|scope| {
            let (done, finished) = channel::<()>();
            let sender = scope.spawn(|| {
                let sent = self.send(&request);
                drop(done);
                sent
            });
            while finished.recv_timeout(PROGRESS_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                progress(upload.sent_bytes.load(Ordering::Relaxed));
            }
            sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        if let Some(source) = upload.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Error::Source { digest: descriptor.digest.clone(), source });
        }
        let response = response?;
        check_announced(&response.expect(&[201, 200, 204])?, &descriptor.digest)?;
        progress(descriptor.size);
        Ok(Pushed::Uploaded)
    }

    fn start_upload(&self, to: &Repository, mount: Option<(&Digest, &Repository)>) -> Result<Started> {
        let mut request = self.request(Method::POST, &format!("{}/blobs/uploads/", to.path()))?;
        if let Some((digest, from)) = mount {
            let mut query = request.url.query_pairs_mut();
            query.append_pair("mount", digest.as_str()).append_pair("from", from.path());
        }
        let response = self.send(&request)?;
        match response.status {
            201 if mount.is_some() => Ok(Started::Mounted),
            202 => self.location(&response).map(Started::At),
            _ => Err(response.into_error()),
        }
    }
}
