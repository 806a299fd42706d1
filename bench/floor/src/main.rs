//! The floor of a pull: `carrack-floor HOST:PORT/NAME:TAG FOLDER` does the work that no store of uncompressed layers
//! can leave out, and nothing else. The benchmark times it beside the pulls.
//!
//! What always holds: each layer goes through one pass (receive, compressed digest, inflate, diff ID, one sequential
//! write, one sync), and a digest that does not fit is an error, so the floor never measures less work than a pull.

mod start;

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::bufread::MultiGzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};

type Failure = Box<dyn Error + Send + Sync>;

/// carrack's own number, see `parallel_layers` in docs/settings.md.
const PARALLEL_LAYERS: usize = 4;
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks between the thread that inflates and the one that writes.
const CHUNKS: usize = 4;
const MANIFESTS: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// A repository of a registry that speaks plain HTTP.
struct Repository {
    host: String,
    name: String,
}

/// One layer of the image: where its bytes are, and what they must be.
struct Layer {
    digest: String,
    diff_id: String,
}

fn main() -> Result<ExitCode, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == "start" => start::start(rest).map(ExitCode::from),
        _ => pull_image(&arguments).map(|()| ExitCode::SUCCESS),
    }
}

fn pull_image(arguments: &[String]) -> Result<(), Failure> {
    let [reference, folder] = arguments else {
        return Err("usage: carrack-floor HOST:PORT/NAME:TAG FOLDER".into());
    };
    let (host, rest) = reference.split_once('/').ok_or("a reference is HOST:PORT/NAME:TAG")?;
    let (name, tag) = rest.rsplit_once(':').ok_or("a reference is HOST:PORT/NAME:TAG")?;
    let repository = Repository { host: host.to_owned(), name: name.to_owned() };
    let folder = PathBuf::from(folder);

    let layers = Mutex::new(repository.layers(tag)?.into_iter());
    let next = || layers.lock().expect("no thread panics with the lock").next();
    thread::scope(|scope| {
        let work = || -> Result<(), Failure> {
            while let Some(layer) = next() {
                pull(&repository, &layer, &folder)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..PARALLEL_LAYERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    // The names of the files, as a pull makes its own durable.
    File::open(&folder)?.sync_all()?;
    Ok(())
}

impl Repository {
    /// Asks for a path below the repository. HTTP/1.0, so that the body is never chunked and ends with the connection.
    fn get(&self, path: &str) -> Result<BufReader<TcpStream>, Failure> {
        let (host, name) = (&self.host, &self.name);
        let mut stream = TcpStream::connect(host)?;
        write!(stream, "GET /v2/{name}/{path} HTTP/1.0\r\nHost: {host}\r\nAccept: {MANIFESTS}\r\n\r\n")?;
        let mut answer = BufReader::with_capacity(CHUNK_BYTES, stream);
        let mut line = String::new();
        answer.read_line(&mut line)?;
        if !line.contains(" 200 ") {
            return Err(format!("{path}: {}", line.trim()).into());
        }
        while line != "\r\n" {
            line.clear();
            answer.read_line(&mut line)?;
        }
        Ok(answer)
    }

    fn layers(&self, tag: &str) -> Result<Vec<Layer>, Failure> {
        let manifest: Value = serde_json::from_reader(self.get(&format!("manifests/{tag}"))?)?;
        let config = manifest["config"]["digest"].as_str().ok_or("the manifest has no config")?;
        let config: Value = serde_json::from_reader(self.get(&format!("blobs/{config}"))?)?;
        let digests = manifest["layers"].as_array().ok_or("the manifest has no layers")?;
        let diff_ids = config["rootfs"]["diff_ids"].as_array().ok_or("the config has no diff IDs")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pairs = digests.iter().zip(diff_ids);
        Ok(pairs.map(|(layer, id)| Layer { digest: text(&layer["digest"]), diff_id: text(id) }).collect())
    }
}

/// One thread receives, hashes and inflates; another hashes what comes out and writes it.
fn pull(repository: &Repository, layer: &Layer, folder: &Path) -> Result<(), Failure> {
    let hex = layer.diff_id.trim_start_matches("sha256:");
    let file = File::create(folder.join(hex))?;
    let (full, to_write) = sync_channel(CHUNKS);
    let (empty, to_fill) = sync_channel(CHUNKS);
    for _ in 0..CHUNKS {
        empty.send(vec![0; CHUNK_BYTES])?;
    }
    thread::scope(|scope| {
        let writer = scope.spawn(move || write_chunks(file, &to_write, &empty));
        let digest = inflate(repository, layer, &to_fill, full);
        let diff_id = writer.join().expect("the writer does not panic")?;
        expect(&layer.digest, &digest?)?;
        expect(&layer.diff_id, &diff_id)
    })
}

fn inflate(
    repository: &Repository,
    layer: &Layer,
    to_fill: &Receiver<Vec<u8>>,
    full: SyncSender<Vec<u8>>,
) -> Result<String, Failure> {
    let mut source =
        Hashed { inner: repository.get(&format!("blobs/{}", layer.digest))?, hash: Sha256::new() };
    let mut inflated = MultiGzDecoder::new(&mut source);
    while let Ok(mut chunk) = to_fill.recv() {
        chunk.resize(CHUNK_BYTES, 0);
        let mut length = 0;
        while length < chunk.len() {
            match inflated.read(&mut chunk[length..])? {
                0 => break,
                read => length += read,
            }
        }
        chunk.truncate(length);
        if length == 0 || full.send(chunk).is_err() {
            break;
        }
    }
    Ok(name_of(source.hash))
}

fn write_chunks(
    mut file: File,
    to_write: &Receiver<Vec<u8>>,
    empty: &SyncSender<Vec<u8>>,
) -> Result<String, Failure> {
    let mut hash = Sha256::new();
    while let Ok(chunk) = to_write.recv() {
        hash.update(&chunk);
        file.write_all(&chunk)?;
        // The other side is gone once it has read all.
        let _ = empty.send(chunk);
    }
    file.sync_all()?;
    Ok(name_of(hash))
}

fn name_of(hash: Sha256) -> String {
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn expect(expected: &str, got: &str) -> Result<(), Failure> {
    if expected == got { Ok(()) } else { Err(format!("expected {expected}, got {got}").into()) }
}

/// Hashes what is consumed of a source.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: BufRead> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What is consumed was filled before, so this reads nothing.
        if let Ok(buffer) = self.inner.fill_buf() {
            self.hash.update(&buffer[..amount.min(buffer.len())]);
        }
        self.inner.consume(amount);
    }
}
