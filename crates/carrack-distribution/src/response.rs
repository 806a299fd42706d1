//! An answer, read within bounds of size and time.
//!
//! Invariant: no more than the caller's limit is taken from a body, and a body that comes too slowly is an error.

use std::io::Read;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{CONTENT_LENGTH, RETRY_AFTER};
use url::Url;

use crate::retry::parse_retry_after;
use crate::transport::innermost;
use crate::{Error, Exchange, RegistryMessage, Result, Timeouts};

const MAX_ERROR_BODY_BYTES: u64 = 64 << 10;
const MIN_BYTES_PER_SECOND: u64 = 1 << 10;

/// Status and headers; the body is still on the wire.
pub(crate) struct Response {
    pub(crate) exchange: Exchange,
    pub(crate) url: Url,
    pub(crate) status: u16,
    inner: reqwest::blocking::Response,
    timeouts: Timeouts,
}

impl Response {
    pub(crate) fn new(
        exchange: Exchange,
        url: Url,
        inner: reqwest::blocking::Response,
        timeouts: &Timeouts,
    ) -> Self {
        Self { exchange, url, status: inner.status().as_u16(), inner, timeouts: timeouts.clone() }
    }

    /// The first value of a header; `None` also when it is not text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// All values of a header that are text.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.inner.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// The length that the header announces.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.parse().ok()
    }

    /// The answer itself when it has one of `statuses`, else the error that it is.
    pub(crate) fn expect(self, statuses: &[u16]) -> Result<Self> {
        if statuses.contains(&self.status) { Ok(self) } else { Err(self.into_error()) }
    }

    /// The error that this answer is, with the registry's words.
    pub(crate) fn into_error(self) -> Error {
        let retry_after =
            self.header(RETRY_AFTER.as_str()).and_then(|value| parse_retry_after(value, Timestamp::now()));
        let (exchange, status) = (self.exchange.clone(), self.status);
        // The status is what counts; words that cannot be read are no words.
        let body = self.read_all(MAX_ERROR_BODY_BYTES).unwrap_or_default();
        Error::Status { exchange, status, messages: RegistryMessage::parse(&body), retry_after }
    }

    pub(crate) fn protocol_error(&self, reason: impl Into<String>) -> Error {
        Error::Protocol { exchange: self.exchange.clone(), reason: reason.into() }
    }

    /// The whole body, of at most `limit` bytes.
    pub(crate) fn read_all(self, limit: u64) -> Result<Vec<u8>> {
        let exchange = self.exchange.clone();
        let too_large = || {
            let reason = format!("expected a body of at most {limit} bytes, got more");
            Error::Protocol { exchange: exchange.clone(), reason }
        };
        let announced = self.content_length();
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let pace = Pace::whole(self.timeouts.document);
        let mut body = self.into_body(pace);
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            let expected_bytes = announced.unwrap_or(limit);
            let count = body.read(&mut buffer, bytes.len() as u64, expected_bytes)?;
            if count == 0 {
                return Ok(bytes);
            }
            if (bytes.len() + count) as u64 > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&buffer[..count]);
        }
    }

    /// The body of a blob, to be read piece by piece.
    pub(crate) fn into_blob_body(self) -> BodyReader {
        let pace = Pace::steady(self.timeouts.idle);
        self.into_body(pace)
    }

    fn into_body(self, pace: Pace) -> BodyReader {
        BodyReader { exchange: self.exchange, inner: self.inner, pace }
    }
}

/// A body whose pace is watched.
pub(crate) struct BodyReader {
    exchange: Exchange,
    inner: reqwest::blocking::Response,
    pace: Pace,
}

impl BodyReader {
    /// Reads once; 0 is the end of the body. `got_bytes` and `expected_bytes` are for the error alone.
    pub(crate) fn read(&mut self, buffer: &mut [u8], got_bytes: u64, expected_bytes: u64) -> Result<usize> {
        let read = self.inner.read(buffer).map_err(|error| innermost(&error));
        let checked = read.and_then(|count| self.pace.check(count).map(|()| count));
        checked.map_err(|reason| {
            let exchange = self.exchange.clone();
            Error::Truncated { exchange, expected_bytes, got_bytes, reason }
        })
    }
}

/// Bounds the time of a body: one window for the whole of it, or window after window with a least amount in each.
struct Pace {
    window: Duration,
    began: Instant,
    bytes_in_window: u64,
    renews: bool,
}

impl Pace {
    fn whole(window: Duration) -> Self {
        Self { window, began: Instant::now(), bytes_in_window: 0, renews: false }
    }

    fn steady(window: Duration) -> Self {
        Self { renews: true, ..Self::whole(window) }
    }

    fn check(&mut self, count: usize) -> Result<(), String> {
        self.bytes_in_window += count as u64;
        if count == 0 || self.began.elapsed() < self.window {
            return Ok(());
        }
        let least = self.window.as_secs() * MIN_BYTES_PER_SECOND;
        if !self.renews || self.bytes_in_window < least {
            return Err(format!("too slow: {} bytes in {:?}", self.bytes_in_window, self.window));
        }
        *self = Self::steady(self.window);
        Ok(())
    }
}
