//! A registry that does what a test tells it to, faults included. It speaks plain HTTP on a free loopback port, one
//! request a connection, and drops whoever begins a TLS handshake.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path() == path
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// The first byte of a `Range: bytes=N-`.
    pub fn range_start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What becomes of the body.
#[derive(Clone, Copy)]
pub enum Fault {
    None,
    /// The connection closes after this many bytes.
    CutAt(usize),
    /// Silence after this many bytes.
    StallAt(usize),
    /// So many bytes every so often.
    Drip(usize, Duration),
    /// The body never ends.
    Endless,
}

pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    fault: Fault,
    length: Option<u64>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), fault: Fault::None, length: None }
    }

    pub fn ok(body: &[u8]) -> Self {
        Self::new(200).body(body)
    }

    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    /// Announces another length than that of the body.
    pub fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    /// 200 with all of `blob`, or 206 with what the request's Range asks for.
    pub fn ranged(request: &Seen, blob: &[u8]) -> Self {
        let Some(start) = request.range_start() else { return Self::ok(blob) };
        let range = format!("bytes {start}-{}/{}", blob.len() - 1, blob.len());
        Self::new(206).body(&blob[start..]).header("Content-Range", &range)
    }

    fn write(&self, method: &str, stream: &mut TcpStream) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status);
        let length = self.length.unwrap_or(self.body.len() as u64);
        if !matches!(self.fault, Fault::Endless) {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if method == "HEAD" {
            return Ok(());
        }
        match self.fault {
            Fault::None => stream.write_all(&self.body),
            Fault::CutAt(count) => stream.write_all(&self.body[..count]),
            Fault::StallAt(count) => {
                stream.write_all(&self.body[..count])?;
                wait_for_close(stream)
            }
            Fault::Drip(count, pause) => self.body.chunks(count).try_for_each(|piece| {
                thread::sleep(pause);
                stream.write_all(piece)
            }),
            Fault::Endless => loop {
                stream.write_all(&self.body)?;
            },
        }
    }
}

fn wait_for_close(stream: &mut TcpStream) -> io::Result<()> {
    io::copy(stream, &mut io::sink()).map(drop)
}

/// What answers requests.
pub type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicBool>::default());
        let handler: Arc<Handler> = Arc::new(handler);
        let (seen_by_thread, stop_thread) = (seen.clone(), stop.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop_thread.load(Ordering::Relaxed) {
                    return;
                }
                let (handler, seen) = (handler.clone(), seen_by_thread.clone());
                // A client that goes away in the middle is what many tests are about.
                thread::spawn(move || stream.and_then(|stream| serve(stream, &*handler, &seen)));
            }
        });
        Self { address, seen, stop }
    }

    /// `127.0.0.1:port`
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self, method: &str, path: &str) -> usize {
        self.seen().iter().filter(|request| request.is(method, path)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, handler: &Handler, seen: &Mutex<Vec<Seen>>) -> io::Result<()> {
    const TLS_HANDSHAKE: u8 = 0x16;
    let mut reader = BufReader::new(stream.try_clone()?);
    if reader.fill_buf()?.first() == Some(&TLS_HANDSHAKE) {
        return Ok(());
    }
    let request = read_request(&mut reader)?;
    seen.lock().unwrap().push(request.clone());
    handler(&request).write(&request.method, &mut stream)
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut word = || words.next().ok_or_else(|| io::Error::other("no request line"));
    let (method, target) = (word()?, word()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Seen { method, target, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut request.body)?;
    Ok(request)
}
