//! Blocks of a stream that are encoded on several threads and written in order.
//!
//! Invariant: how the stream is cut, and what a block's encoder sees, depends on the data alone. At most two blocks
//! more than there are threads are in memory.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// A part of the stream on its way; its buffers are used again.
#[derive(Default)]
pub(super) struct Block<S> {
    /// The bytes to encode.
    pub data: Vec<u8>,
    /// The end of the bytes before `data`.
    pub dictionary: Vec<u8>,
    /// The encoded bytes.
    pub encoded: Vec<u8>,
    /// What else the encoder has to say of the block.
    pub summary: S,
}

/// How a stream is cut.
pub(super) struct Cut {
    pub block_bytes: usize,
    pub dictionary_bytes: usize,
}

/// Encodes one block after the other; it must not matter which ones it has seen before.
pub(super) trait Encoder<S> {
    fn encode(&mut self, block: &mut Block<S>) -> io::Result<()>;
}

type Reply<S> = Receiver<io::Result<Block<S>>>;
type Job<S> = (Block<S>, Sender<io::Result<Block<S>>>);

/// Encodes `source` with encoders that `encoder` makes, one a thread, and hands each block to `take` in order.
pub(super) fn encode<S: Default + Send, E: Encoder<S>>(
    source: &mut dyn Read,
    cut: &Cut,
    threads: usize,
    encoder: &(impl Fn() -> io::Result<E> + Sync),
    mut take: impl FnMut(&Block<S>) -> io::Result<()>,
) -> io::Result<()> {
    let threads = threads.max(1);
    let (jobs, queue) = channel::<Job<S>>();
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        // Moved in, so that the workers end when this closure returns, also with an error.
        let jobs = jobs;
        for _ in 0..threads {
            scope.spawn(|| work(&queue, encoder));
        }
        let mut pending: VecDeque<Reply<S>> = VecDeque::new();
        let mut spare: Vec<Block<S>> = Vec::new();
        let mut dictionary = Vec::new();
        let mut is_at_end = false;
        while !is_at_end || !pending.is_empty() {
            if is_at_end || pending.len() > threads {
                let reply = pending.pop_front().expect("more than none are pending");
                let block = reply.recv().expect("encoders do not panic")?;
                take(&block)?;
                spare.push(block);
                continue;
            }
            let mut block = spare.pop().unwrap_or_default();
            block.data.clear();
            (&mut *source).take(cut.block_bytes as u64).read_to_end(&mut block.data)?;
            is_at_end = block.data.len() < cut.block_bytes;
            if block.data.is_empty() {
                continue;
            }
            std::mem::swap(&mut block.dictionary, &mut dictionary);
            let tail = block.data.len().saturating_sub(cut.dictionary_bytes);
            dictionary.clear();
            dictionary.extend_from_slice(&block.data[tail..]);
            let (reply, receiver) = channel();
            pending.push_back(receiver);
            jobs.send((block, reply)).expect("workers outlive the jobs");
        }
        Ok(())
    })
}

fn work<S, E: Encoder<S>>(queue: &Mutex<Receiver<Job<S>>>, encoder: &impl Fn() -> io::Result<E>) {
    let mut own = None;
    let next = || queue.lock().expect("no thread panics with the lock").recv();
    while let Ok((mut block, reply)) = next() {
        let result = match &mut own {
            Some(own) => Ok(own),
            None => encoder().map(|made| own.insert(made)),
        };
        let result = result.and_then(|own| own.encode(&mut block)).map(|()| block);
        // Nobody waits for it any more when an earlier block failed.
        let _ = reply.send(result);
    }
}
