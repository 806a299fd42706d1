//! Receiving the body of an upload: network, hashing and disk overlap.
//!
//! Invariants: at most two batches are in memory for each request. A job on a blocking thread owns the right to
//! change the upload, so that an upload stays whole when its connection, and with it this code, is dropped.

use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};

use crate::failure::{Answer, Failure};
use crate::service::blocking;
use crate::session::Turn;

const BATCH_BYTES: usize = 512 << 10;
/// A batch is written early when a client sends tiny pieces, since each may keep a whole buffer in memory.
const BATCH_FRAMES: usize = 64;
/// A body that stops for this long is given up.
pub(crate) const STALL: Duration = Duration::from_secs(60);

type Writing = Pin<Box<dyn Future<Output = Answer<Turn>> + Send>>;

/// Appends `body` to an upload. When `expected_bytes` is given, a body of another length is refused and taken back; the
/// bytes of a body that breaks off stay, for the client to go on from there.
pub(crate) async fn receive(body: &mut Incoming, turn: Turn, expected_bytes: Option<u64>) -> Answer<Turn> {
    let start = turn.offset();
    let turn = blocking(move || resumed(turn)).await?;
    let (mut writing, mut batch): (Writing, _) = (Box::pin(ready(Ok(turn))), Vec::new());
    let (mut batch_bytes, mut received) = (0, 0u64);
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
        batch_bytes += bytes.len();
        batch.push(bytes);
        if batch_bytes >= BATCH_BYTES || batch.len() >= BATCH_FRAMES {
            writing = write(writing, std::mem::take(&mut batch)).await?;
            batch_bytes = 0;
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

fn resumed(mut turn: Turn) -> Answer<Turn> {
    turn.resume()?;
    Ok(turn)
}

/// Waits for the batch before, then begins to write this one.
async fn write(before: Writing, batch: Vec<Bytes>) -> Answer<Writing> {
    let mut turn = before.await?;
    Ok(Box::pin(blocking(move || {
        turn.append(&batch)?;
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
