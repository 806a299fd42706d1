//! Basic authentication (RFC 7617) against a password file.
//!
//! Invariants: a password is neither stored nor logged; what is kept of a verified one is a keyed digest that is
//! worthless outside this process. A change of the file takes effect within a second, also for users that were
//! verified before.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrack_sys::IoContext;
use hyper::header::HeaderValue;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::Result;
use crate::failure::{Answer, Failure};
use crate::htpasswd::Htpasswd;
use crate::service::blocking;
use crate::throttle::Throttle;

const RELOAD: Duration = Duration::from_secs(1);
/// bcrypt is slow by design: more at once would let strangers take the whole processor.
const VERIFICATIONS: usize = 2;

type Proof = [u8; 32];

/// Decides who may use the registry.
pub(crate) struct Authentication {
    path: PathBuf,
    key: [u8; 32],
    known: Mutex<Known>,
    verifications: Semaphore,
    throttle: Throttle,
}

struct Known {
    htpasswd: Arc<Htpasswd>,
    modified: Option<(SystemTime, u64)>,
    looked_at: Instant,
    verified: HashMap<String, Proof>,
}

struct Credentials {
    user: String,
    password: String,
}

impl Authentication {
    /// Reads the password file.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(std::io::Error::from).during("read", "random numbers")?;
        let htpasswd = Arc::new(Htpasswd::read(&path)?);
        let (modified, looked_at) = (modified(&path), Instant::now());
        let known = Mutex::new(Known { htpasswd, modified, looked_at, verified: HashMap::new() });
        let (verifications, throttle) = (Semaphore::new(VERIFICATIONS), Throttle::default());
        Ok(Self { path, key, known, verifications, throttle })
    }

    /// Lets a request pass whose `Authorization` names a user with the right password.
    pub(crate) async fn check(&self, peer: IpAddr, header: Option<&HeaderValue>) -> Answer<()> {
        let credentials = header.and_then(parse).ok_or(Failure::Unauthorized)?;
        let proof = self.proof(&credentials);
        self.reload();
        if self.is_verified(&credentials.user, &proof) {
            return Ok(());
        }
        self.listen(peer)?;
        let closed = |_| Failure::Unauthorized;
        let _permit = self.verifications.acquire().await.map_err(closed)?;
        // While this request waited for its turn, others with the same password may have been verified, and others
        // of the same peer refused.
        if self.is_verified(&credentials.user, &proof) {
            return Ok(());
        }
        self.listen(peer)?;
        let (htpasswd, user) = (self.known().htpasswd.clone(), credentials.user.clone());
        let verify = htpasswd.clone();
        let is_right = blocking(move || Ok(verify.verify(&credentials.user, &credentials.password))).await?;
        if !is_right {
            self.throttle.fail(peer, Instant::now());
            return Err(Failure::Unauthorized);
        }
        self.throttle.forgive(peer);
        let mut known = self.known();
        if Arc::ptr_eq(&known.htpasswd, &htpasswd) {
            known.verified.insert(user, proof);
        }
        Ok(())
    }

    fn listen(&self, peer: IpAddr) -> Answer<()> {
        match self.throttle.wait(peer, Instant::now()) {
            Duration::ZERO => Ok(()),
            wait => Err(Failure::TooManyRequests {
                reason: "too many wrong passwords",
                retry_seconds: wait.as_secs() + 1,
            }),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_verified(&self, user: &str, proof: &Proof) -> bool {
        self.known().verified.get(user).is_some_and(|known| known.ct_eq(proof).into())
    }

    /// A keyed digest of user and password; the length in front keeps the two apart.
    fn proof(&self, credentials: &Credentials) -> Proof {
        let mut hasher = Sha256::new();
        hasher.update(self.key);
        hasher.update((credentials.user.len() as u64).to_be_bytes());
        hasher.update(&credentials.user);
        hasher.update(&credentials.password);
        hasher.finalize().into()
    }

    /// Reads the file again when it has changed; one that cannot be read leaves the users as they were.
    fn reload(&self) {
        let mut known = self.known();
        if known.looked_at.elapsed() < RELOAD {
            return;
        }
        known.looked_at = Instant::now();
        let modified = modified(&self.path);
        if modified == known.modified {
            return;
        }
        match Htpasswd::read(&self.path) {
            Ok(htpasswd) => {
                known.htpasswd = Arc::new(htpasswd);
                known.verified.clear();
                known.modified = modified;
            }
            Err(error) => {
                tracing::warn!(%error, "the password file is not used; the users stay as they were")
            }
        }
    }
}

fn modified(path: &std::path::Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// `Basic base64(user:password)`; the scheme's case does not matter.
fn parse(header: &HeaderValue) -> Option<Credentials> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credentials { user: user.to_owned(), password: password.to_owned() })
}
