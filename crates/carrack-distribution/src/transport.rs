//! One HTTP exchange at a time: no redirect is followed, nothing repeated, no credential known here.
//!
//! Invariant: a registry is reached by TLS unless the options allow it plain HTTP *and* it does not speak TLS.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::blocking::{Body, Client as Agent, ClientBuilder};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Method, NoProxy, Proxy};
use url::Url;

use crate::origin::{Origin, Registry};
use crate::response::Response;
use crate::tls;
use crate::{ClientOptions, Error, Exchange, PlainHttp, Proxies, Result, Timeouts};

/// An upload slower than this for its whole length is given up.
const MIN_UPLOAD_BYTES_PER_SECOND: u64 = 16 << 10;
/// A host that may be plain is not waited for longer than this to speak TLS.
const TLS_PROBE_TIMEOUT: Duration = Duration::from_secs(3);
const LOOPBACK_HOSTS: &str = "localhost,127.0.0.0/8,::1";

/// What is sent with a request.
#[derive(Clone)]
pub(crate) enum Payload<'a> {
    Empty,
    Bytes(&'a [u8]),
    Stream(&'a Upload<'a>),
}

/// What a blob is read from.
pub(crate) type BlobReader = Box<dyn Read + Send>;

/// A blob on its way; it is opened anew, and `sent_bytes` counts from 0 again, when the request is repeated.
pub(crate) struct Upload<'a> {
    pub(crate) open: &'a (dyn Fn() -> io::Result<BlobReader> + Sync),
    pub(crate) size_bytes: u64,
    pub(crate) sent_bytes: Arc<AtomicU64>,
    /// Why the blob could not be read to its end: an error of ours, not of the registry.
    pub(crate) failed: Arc<Mutex<Option<io::Error>>>,
}

/// A request that can be sent any number of times.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) payload: Payload<'a>,
}

impl Request<'_> {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), payload: Payload::Empty }
    }

    /// Adds a header; `value` is made of checked names and numbers.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Result<Self> {
        let refuse = |_| Error::Refused { reason: format!("{name}: {value:?} is not a header value") };
        let value = HeaderValue::from_str(value).map_err(refuse)?;
        self.headers.push((name, value));
        Ok(self)
    }

    pub(crate) fn exchange(&self) -> Exchange {
        Exchange::new(self.method.as_str(), &self.url)
    }
}

/// The connections of a client.
pub(crate) struct Transport {
    pub(crate) options: ClientOptions,
    plain: Agent,
    /// Made at first use: it reads some hundred certificates.
    secure: Mutex<Option<Agent>>,
    /// The same for the origin that the options have something particular for.
    secure_to_one: Option<(Origin, Mutex<Option<Agent>>)>,
    registries: Mutex<HashMap<String, Registry>>,
}

impl Transport {
    pub(crate) fn new(options: ClientOptions) -> Result<Self> {
        let plain = build(agent(&options)?.tls_certs_only([]))?;
        let one = options.registry.as_ref().map(|one| Registry::new(&one.name, "https")).transpose()?;
        let secure_to_one = one.map(|registry| (registry.origin, Mutex::default()));
        let (secure, registries) = (Mutex::default(), Mutex::default());
        Ok(Self { options, plain, secure, secure_to_one, registries })
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.options.timeouts
    }

    pub(crate) fn plain_http(&self) -> &PlainHttp {
        &self.options.plain_http
    }

    /// Where the registry `name` is. One that may be plain is asked once whether it speaks TLS.
    pub(crate) fn registry(&self, name: &str) -> Result<Registry> {
        // Held while a registry is asked, so that parallel layers ask once.
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = registries.get(name) {
            return Ok(known.clone());
        }
        let mut registry = Registry::new(name, "https")?;
        if self.options.plain_http.allows(&registry.base) && !self.speaks_tls(&registry.base)? {
            registry = Registry::new(name, "http")?;
        }
        registries.insert(name.to_owned(), registry.clone());
        Ok(registry)
    }

    /// Whether a handshake succeeds. The certificate is not looked at, and nothing secret is sent: a registry
    /// with a bad certificate must fail over TLS, not be reached without it.
    fn speaks_tls(&self, base: &Url) -> Result<bool> {
        let timeout = self.timeouts().connect.min(TLS_PROBE_TIMEOUT);
        let probe = agent(&self.options)?.tls_danger_accept_invalid_certs(true);
        let probe = build(probe.timeout(timeout).connect_timeout(timeout))?;
        Ok(match probe.head(base.clone()).send() {
            Ok(_) => true,
            Err(error) => match find_tls_error(&error) {
                // Only who speaks TLS sends an alert, as when it misses a certificate of ours.
                Some(reason) => matches!(reason, rustls::Error::AlertReceived(_)),
                // Any error after the handshake is one of a server that speaks TLS.
                None => !error.is_connect() && !error.is_timeout(),
            },
        })
    }

    /// Sends `request` once. Any status is an answer.
    pub(crate) fn send(&self, request: &Request<'_>, authorization: Option<HeaderValue>) -> Result<Response> {
        let exchange = request.exchange();
        let agent = self.agent_for(&request.url)?;
        let mut builder = agent.request(request.method.clone(), request.url.clone());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        match request.payload {
            Payload::Empty if request.method == Method::POST => builder = builder.body(Vec::new()),
            Payload::Empty => {}
            Payload::Bytes(bytes) => builder = builder.body(bytes.to_vec()),
            Payload::Stream(upload) => {
                // This bounds the exchange as a whole; the agent's own timeout, each wait for an answer or a piece of it.
                let slowest = Duration::from_secs(upload.size_bytes / MIN_UPLOAD_BYTES_PER_SECOND);
                builder = builder.body(upload.body()).timeout(self.timeouts().idle + slowest);
            }
        }
        match builder.send() {
            Ok(inner) => Ok(Response::new(exchange, request.url.clone(), inner, self.timeouts())),
            Err(error) => Err(classify(exchange, &error)),
        }
    }

    fn agent_for(&self, url: &Url) -> Result<Agent> {
        if url.scheme() == "http" {
            return Ok(self.plain.clone());
        }
        let (slot, one) = match &self.secure_to_one {
            Some((origin, slot)) if Origin::of(url).as_ref() == Some(origin) => {
                (slot, self.options.registry.as_ref())
            }
            _ => (&self.secure, None),
        };
        let mut secure = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = &*secure {
            return Ok(agent.clone());
        }
        let identities = one.map(|one| &one.identities[..]).unwrap_or_default();
        let verify = !self.options.skip_tls_verify && !one.is_some_and(|one| one.skip_tls_verify);
        let mut builder = agent(&self.options)?;
        if !verify && identities.is_empty() {
            builder = builder.tls_danger_accept_invalid_certs(true);
        } else if !self.options.extra_ca_files.is_empty() || !identities.is_empty() {
            let config = tls::config(&self.options.extra_ca_files, identities, verify)?;
            builder = builder.tls_backend_preconfigured(config);
        }
        Ok(secure.insert(build(builder)?).clone())
    }
}

impl Upload<'_> {
    fn body(&self) -> Body {
        self.sent_bytes.store(0, Ordering::Relaxed);
        let (size_bytes, sent_bytes, failed) =
            (self.size_bytes, self.sent_bytes.clone(), self.failed.clone());
        let reader = (self.open)();
        Body::sized(UploadReader { reader, position: 0, size_bytes, sent_bytes, failed }, self.size_bytes)
    }
}

/// Gives exactly the announced number of bytes, or fails and keeps the reason.
struct UploadReader {
    reader: io::Result<BlobReader>,
    position: u64,
    size_bytes: u64,
    sent_bytes: Arc<AtomicU64>,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl UploadReader {
    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let reader = match &mut self.reader {
            Ok(reader) => reader,
            Err(error) => return Err(std::mem::replace(error, io::ErrorKind::NotFound.into())),
        };
        let count = reader.read(buffer)?;
        self.position += count as u64;
        let is_short = count == 0 && !buffer.is_empty() && self.position < self.size_bytes;
        if is_short || self.position > self.size_bytes {
            let (expected, got) = (self.size_bytes, self.position);
            return Err(io::Error::other(format!("expected a blob of {expected} bytes, got {got}")));
        }
        self.sent_bytes.store(self.position, Ordering::Relaxed);
        Ok(count)
    }
}

impl Read for UploadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_on(buffer).map_err(|error| {
            let text = error.to_string();
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            io::Error::other(text)
        })
    }
}

/// HTTP/1.1 only: layers that are fetched in parallel then have a connection each, instead of sharing the window
/// of one.
fn agent(options: &ClientOptions) -> Result<ClientBuilder> {
    let mut builder = Agent::builder()
        .user_agent(&options.user_agent)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .connect_timeout(options.timeouts.connect)
        // Ends an upload to a peer that no longer takes bytes: the body is then never asked for more.
        .tcp_user_timeout(options.timeouts.idle)
        .timeout(options.timeouts.idle);
    for proxy in proxies(&options.proxies)? {
        builder = builder.proxy(proxy);
    }
    Ok(builder)
}

fn proxies(settings: &Proxies) -> Result<Vec<Proxy>> {
    let exceptions = format!("{LOOPBACK_HOSTS},{}", settings.no_proxy.as_deref().unwrap_or_default());
    let exceptions = NoProxy::from_string(&exceptions);
    let http = settings.http.as_deref().map(Proxy::http);
    let https = settings.https.as_deref().map(Proxy::https);
    let bad = |_| Error::Settings { reason: "the address of a proxy is not a URL".to_owned() };
    let except = |proxy: reqwest::Result<Proxy>| Ok(proxy.map_err(bad)?.no_proxy(exceptions.clone()));
    http.into_iter().chain(https).map(except).collect()
}

fn build(builder: ClientBuilder) -> Result<Agent> {
    builder.build().map_err(|error| Error::Settings { reason: innermost(&error) })
}

fn classify(exchange: Exchange, error: &reqwest::Error) -> Error {
    if let Some(reason) = find_tls_error(error) {
        return Error::Tls { exchange, reason: reason.to_string() };
    }
    let reason = if error.is_timeout() { "no answer in time".to_owned() } else { innermost(error) };
    Error::Unreachable { exchange, reason }
}

/// The causes of an error, outermost first. What an `io::Error` wraps counts as its cause.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// The fact at the bottom of a chain of errors; the others repeat the URL or say nothing.
pub(crate) fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

fn find_tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}
