//! Receiving the body of an upload: network, hashing and disk overlap.
//!
//! Invariants: at most two buffers are in memory for each request, however small the pieces are in which a client
//! sends. A job on a blocking thread owns the right to change the upload, so that an upload stays whole when its
//! connection, and with it this code, is dropped.

use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};

use crate::buffers::Buffer;
use crate::failure::{Answer, Failure};
use crate::service::{Service, blocking};
use crate::session::Turn;

/// A body that stops for this long is given up.
pub(crate) const STALL: Duration = Duration::from_secs(60);

type Writing = Pin<Box<dyn Future<Output = Answer<Turn>> + Send>>;

impl Service {
    /// Appends `body` to an upload. When `expected_bytes` is given, a body of another length is refused and taken back;
    /// the bytes of a body that breaks off stay, for the client to go on from there.
    pub(crate) async fn receive(
        &self,
        body: &mut Incoming,
        turn: Turn,
        expected_bytes: Option<u64>,
    ) -> Answer<Turn> {
        let start = turn.offset();
        let turn = blocking(move || resumed(turn)).await?;
        let (mut writing, mut batch): (Writing, _) = (Box::pin(ready(Ok(turn))), self.buffers.take());
        let mut received = 0u64;
        let outcome = loop {
            let bytes = match next(body).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            received += bytes.len() as u64;
            if expected_bytes.is_some_and(|expected| received > expected) {
                break Ok(());
            }
            let mut rest = batch.fill(&bytes);
            while batch.is_full() {
                writing = write(writing, std::mem::replace(&mut batch, self.buffers.take())).await?;
                rest = batch.fill(rest);
            }
        };
        let mut turn = write(writing, batch).await?.await?;
        outcome?;
        match expected_bytes {
            Some(expected) if expected != received => {
                blocking(move || Ok(turn.truncate(start)?)).await?;
                Err(Failure::SizeInvalid { expected, got: received })
            }
            _ => Ok(turn),
        }
    }
}

fn resumed(mut turn: Turn) -> Answer<Turn> {
    turn.resume()?;
    Ok(turn)
}

/// Waits for the batch before, then begins to write this one.
async fn write(before: Writing, batch: Buffer) -> Answer<Writing> {
    let mut turn = before.await?;
    Ok(Box::pin(blocking(move || {
        turn.append(batch.as_ref())?;
        Ok(turn)
    })))
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn next(body: &mut Incoming) -> Answer<Option<Bytes>> {
    loop {
        let frame = tokio::time::timeout(STALL, body.frame()).await;
        match frame.map_err(|_| Failure::Stalled { seconds: STALL.as_secs() })? {
            None => return Ok(None),
            Some(Err(error)) => return Err(Failure::UploadInvalid { reason: error.to_string() }),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}
