//! The server's life: one process a folder, connections, and an orderly end.
//!
//! Invariant: a connection that does nothing is closed: a head must come within [`HEAD`], a body must go on within
//! `receive::STALL`, and the kernel ends a connection whose peer takes nothing for [`UNSENT`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use carrack_sys::lock::Lock;
use carrack_sys::{IoContext, atomic};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::service::Service;
use crate::{Error, Result, tls};

const MAX_CONNECTIONS: usize = 1024;
const MAX_BLOCKING_THREADS: usize = 64;
/// What a connection reads at once, and the most that a head may have. Larger ones would be mapped and unmapped again
/// by the allocator, and their pages faulted in each time.
const BUFFER_BYTES: usize = 64 << 10;
const HEAD: Duration = Duration::from_secs(60);
const HANDSHAKE: Duration = Duration::from_secs(10);
const UNSENT: Duration = Duration::from_secs(60);
/// How long requests may go on after the signal to end.
const GRACE: Duration = Duration::from_secs(10);
const TIDY: Duration = Duration::from_secs(60);

/// Where and what to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on; port 0 lets the kernel choose one.
    pub listen: SocketAddr,
    /// The registry's folder; made where it does not exist (mode 0700).
    pub root: PathBuf,
    /// Users and passwords (`htpasswd -B`); without it, everybody may read and write.
    pub htpasswd: Option<PathBuf>,
    /// A certificate chain and its key, both PEM; without it, plain HTTP is spoken.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// Serves a registry until SIGTERM or SIGINT; `ready` is called with the address once connections are accepted.
///
/// Requests under way at the signal may finish. What was acknowledged is durable at any time, so a kill loses
/// nothing but the rest of uploads, which go on with the next process.
pub fn serve(options: &Options, ready: impl FnOnce(SocketAddr)) -> Result<()> {
    atomic::create_private_dir(&options.root)?;
    let lock = Lock::try_exclusive(&options.root.join("lock"))?;
    let _lock = lock.ok_or_else(|| Error::InUse { root: options.root.clone() })?;
    let acceptor = options.tls.as_ref().map(|(chain, key)| tls::acceptor(chain, key)).transpose()?;
    let service = Arc::new(Service::open(options)?);
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_name("registry")
        .build()
        .during("start", "the runtime")?;
    runtime.block_on(async {
        let name = options.listen.to_string();
        let listener = TcpListener::bind(options.listen).await.during("listen on", &name)?;
        let mut terminate = signal(SignalKind::terminate()).during("handle", "SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).during("handle", "SIGINT")?;
        ready(listener.local_addr().during("look up", &name)?);
        let (end, ended) = watch::channel(());
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let tidying = tokio::spawn(tidy(service.clone()));
        tokio::select! {
            () = accept(&listener, Connections { service, acceptor, ended, places: places.clone() }) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        drop(listener);
        tidying.abort();
        let _ = end.send(());
        let all = places.acquire_many(MAX_CONNECTIONS as u32);
        let _ = tokio::time::timeout(GRACE, all).await;
        Ok(())
    })
}

async fn tidy(service: Arc<Service>) {
    let mut interval = tokio::time::interval(TIDY);
    interval.tick().await;
    loop {
        interval.tick().await;
        let service = service.clone();
        let _ = tokio::task::spawn_blocking(move || service.tidy()).await;
    }
}

/// What every connection gets.
struct Connections {
    service: Arc<Service>,
    acceptor: Option<TlsAcceptor>,
    ended: watch::Receiver<()>,
    places: Arc<Semaphore>,
}

async fn accept(listener: &TcpListener, connections: Connections) {
    loop {
        let Ok(place) = connections.places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => connections.start(stream, peer, place),
            Err(error) => {
                // Mostly a lack of descriptors, which only time or other connections' ends will mend.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Connections {
    fn start(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNSENT.as_millis() as u32);
        let (service, ended, acceptor) = (self.service.clone(), self.ended.clone(), self.acceptor.clone());
        tokio::spawn(async move {
            match acceptor {
                None => converse(stream, peer, service, ended).await,
                Some(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => converse(stream, peer, service, ended).await,
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
                },
            }
            drop(place);
        });
    }
}

/// Answers the requests of one connection; at the end of the server, the request under way is the last.
async fn converse<S>(stream: S, peer: SocketAddr, service: Arc<Service>, mut ended: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let respond = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, std::convert::Infallible>(service.respond(peer.ip(), request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER_BYTES);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), respond));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = ended.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
