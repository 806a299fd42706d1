//! Blobs (distribution-spec, "Pulling blobs"): streamed, resumed by Range, bounded by the descriptor.
//!
//! Invariant: a sink never gets a byte beyond the descriptor's size, and each byte it gets stands at its offset.

use std::io::{self, Write};

use carrack_oci::{Descriptor, Digest, MAX_DOCUMENT_BYTES, Repository};
use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};

use crate::response::Response;
use crate::retry::Retries;
use crate::session::{Scope, Session};
use crate::{Client, Error, Exchange, Result};

const BUFFER_BYTES: usize = 256 << 10;
/// An attempt that brings this much starts the count of failures anew.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Where a blob goes. Whoever owns it verifies the digest of the whole when the fetch is done.
pub trait BlobSink: Write {
    /// How many bytes are there already; a fetch goes on from here.
    fn offset(&self) -> u64;
    /// Throws away what is there: the registry cannot go on from [`offset`](Self::offset).
    fn restart(&mut self) -> io::Result<()>;
}

impl Client {
    /// Fetches a blob into `sink`, from its offset on, over as many requests as it takes.
    ///
    /// On success the sink has exactly `descriptor.size` bytes; their digest is for the sink to check, since it alone
    /// has what an earlier process left. After an error it keeps what came. `progress` gets the sink's offset, again
    /// and again. An error of the sink ends the fetch (which is also how to cancel one).
    pub fn fetch_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        sink: &mut dyn BlobSink,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        let session = self.session(repository, Scope::pull(repository))?;
        let mut fetch = Fetch { session, repository, descriptor, sink, progress };
        let mut retries = Retries::new(&self.retry);
        loop {
            let before = fetch.sink.offset();
            let Err(error) = fetch.attempt() else { return Ok(()) };
            if fetch.sink.offset() >= before.saturating_add(PROGRESS_BYTES) {
                retries.progressed();
            }
            retries.pause(error)?;
        }
    }

    /// Fetches a blob that is a document (a config) into memory and verifies it.
    pub fn fetch_document(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > MAX_DOCUMENT_BYTES {
            let reason = format!(
                "the document {} is said to have {} bytes, more than {MAX_DOCUMENT_BYTES}",
                descriptor.digest, descriptor.size
            );
            return Err(Error::Refused { reason });
        }
        let mut sink = MemorySink(Vec::new());
        self.fetch_blob(repository, descriptor, &mut sink, &|_| {})?;
        let mut hasher = descriptor.digest.hasher();
        hasher.update(&sink.0);
        let got = hasher.finish();
        if got == descriptor.digest {
            return Ok(sink.0);
        }
        let url = self
            .transport
            .registry(repository.registry())?
            .url(&blob_path(repository, &descriptor.digest))?;
        let expected = descriptor.digest.clone();
        Err(Error::DigestMismatch { exchange: Exchange::new("GET", &url), expected, got })
    }

    /// Whether the repository has a blob.
    pub fn blob_exists(&self, repository: &Repository, descriptor: &Descriptor) -> Result<bool> {
        let session = self.session(repository, Scope::pull(repository))?;
        self.retrying(|| session.has_blob(repository, descriptor))
    }

    /// Runs `attempt` until it succeeds, fails for good, or has failed too often.
    pub(crate) fn retrying<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        let mut retries = Retries::new(&self.retry);
        loop {
            match attempt() {
                Err(error) => retries.pause(error)?,
                done => return done,
            }
        }
    }
}

impl Session<'_> {
    pub(crate) fn has_blob(&self, repository: &Repository, descriptor: &Descriptor) -> Result<bool> {
        let request = self.request(Method::HEAD, &blob_path(repository, &descriptor.digest))?;
        let response = self.send(&request)?;
        match response.status {
            404 => Ok(false),
            _ => response.expect(&[200]).map(|_| true),
        }
    }
}

fn blob_path(repository: &Repository, digest: &Digest) -> String {
    format!("{}/blobs/{digest}", repository.path())
}

/// One blob on its way.
struct Fetch<'a> {
    session: Session<'a>,
    repository: &'a Repository,
    descriptor: &'a Descriptor,
    sink: &'a mut dyn BlobSink,
    progress: &'a dyn Fn(u64),
}

impl Fetch<'_> {
    fn attempt(&mut self) -> Result<()> {
        if self.sink.offset() > self.descriptor.size {
            self.restart()?;
        }
        let offset = self.sink.offset();
        (self.progress)(offset);
        if offset == self.descriptor.size {
            return Ok(());
        }
        let mut request = self
            .session
            .request(Method::GET, &blob_path(self.repository, &self.descriptor.digest))?
            // An encoding would change the bytes under the digest.
            .header(ACCEPT_ENCODING, "identity")?;
        if offset > 0 {
            request = request.header(RANGE, &format!("bytes={offset}-"))?;
        }
        let response = self.session.send(&request)?;
        self.check_start(&response, offset)?;
        let response = response.expect(&[200, 206])?;
        self.copy(response)
    }

    /// Makes the sink's offset that of the body's first byte, or fails.
    fn check_start(&mut self, response: &Response, offset: u64) -> Result<()> {
        let size = self.descriptor.size;
        match response.status {
            200 => {
                if offset > 0 {
                    self.restart()?;
                }
                self.check_length(response, size)
            }
            206 if offset > 0 && range_matches(response, offset, size) => {
                self.check_length(response, size - offset)
            }
            // The next attempt asks for the whole; a peer that fails at that too runs out of attempts.
            206 | 416 if offset > 0 => {
                self.restart()?;
                let reason = "the registry does not serve the range that was asked for".to_owned();
                let exchange = response.exchange.clone();
                Err(Error::Truncated { exchange, expected_bytes: size, got_bytes: offset, reason })
            }
            206 => Err(response.protocol_error("a part of the blob came where the whole was asked for")),
            _ => Ok(()),
        }
    }

    fn check_length(&self, response: &Response, expected: u64) -> Result<()> {
        match response.content_length() {
            Some(length) if length != expected => Err(response
                .protocol_error(format!("expected a body of {expected} bytes, {length} are announced"))),
            _ => Ok(()),
        }
    }

    fn copy(&mut self, response: Response) -> Result<()> {
        let exchange = response.exchange.clone();
        let expected_bytes = self.descriptor.size;
        let mut body = response.into_blob_body();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let got_bytes = self.sink.offset();
            let count = body.read(&mut buffer, got_bytes, expected_bytes)?;
            if count == 0 && got_bytes == expected_bytes {
                return Ok(());
            }
            if count == 0 {
                let reason = "the body ended early".to_owned();
                return Err(Error::Truncated { exchange, expected_bytes, got_bytes, reason });
            }
            if count as u64 > expected_bytes - got_bytes {
                let reason = format!("expected a blob of {expected_bytes} bytes, got more");
                return Err(Error::Protocol { exchange, reason });
            }
            self.sink.write_all(&buffer[..count]).map_err(|source| self.sink_error(source))?;
            (self.progress)(self.sink.offset());
        }
    }

    fn restart(&mut self) -> Result<()> {
        self.sink.restart().map_err(|source| self.sink_error(source))
    }

    fn sink_error(&self, source: io::Error) -> Error {
        Error::Sink { digest: self.descriptor.digest.clone(), source }
    }
}

/// Whether `Content-Range` (RFC 9110, 14.4) says `bytes <offset>-<size - 1>/<size or *>`.
fn range_matches(response: &Response, offset: u64, size: u64) -> bool {
    let Some(text) = response.header(CONTENT_RANGE.as_str()) else { return false };
    let range = format!("bytes {offset}-{}/", size - 1);
    text.strip_prefix(&range).is_some_and(|total| total == "*" || total == size.to_string())
}

struct MemorySink(Vec<u8>);

impl Write for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobSink for MemorySink {
    fn offset(&self) -> u64 {
        self.0.len() as u64
    }

    fn restart(&mut self) -> io::Result<()> {
        self.0.clear();
        Ok(())
    }
}
