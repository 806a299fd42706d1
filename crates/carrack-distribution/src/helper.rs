//! Docker's credential helpers: `docker-credential-<name>` with `get`, `store` or `erase`, JSON on its pipes.
//!
//! Invariant: a helper's name is a plain word, so a hostile auth file cannot name a program by path; what a helper
//! answers is bounded.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::printable;
use crate::{Credential, Error, Result, Secret};

const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// The user name under which helpers keep identity tokens.
const TOKEN_USER: &str = "<token>";
const NOT_FOUND: &str = "credentials not found in native keychain";

/// What [`is_plain_name`] asks for.
pub(crate) const PLAIN_NAME: &str = "1 to 64 letters, digits, - _ and .";

/// Whether `name` can only be a program on the search path.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

/// One helper program.
pub(crate) struct Helper<'a> {
    program: String,
    search_path: Option<&'a OsString>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

impl<'a> Helper<'a> {
    /// The helper `name`; `search_path` stands for the process's own PATH.
    pub(crate) fn new(name: &str, search_path: Option<&'a OsString>) -> Result<Self> {
        let program = format!("docker-credential-{name}");
        if !is_plain_name(name) {
            let reason = format!("the name of a helper is {PLAIN_NAME}");
            return Err(Error::Helper { program: printable(&program), reason });
        }
        Ok(Self { program, search_path })
    }

    /// The credential that is kept for `server`.
    pub(crate) fn get(&self, server: &str) -> Result<Option<Credential>> {
        let Some(answer) = self.run("get", server.as_bytes())? else { return Ok(None) };
        // The answer is not quoted: it holds a password.
        let entry: Entry =
            serde_json::from_slice(&answer).map_err(|_| self.failed("its answer is not a credential"))?;
        let secret = Secret::new(entry.secret);
        Ok(Some(match entry.username.as_str() {
            TOKEN_USER => Credential::IdentityToken(secret),
            _ => Credential::Basic { user: entry.username, password: secret },
        }))
    }

    /// Keeps `credential` for `server`.
    pub(crate) fn store(&self, server: &str, credential: &Credential) -> Result<()> {
        let (username, secret) = match credential {
            Credential::Basic { user, password } => (user.as_str(), password),
            Credential::IdentityToken(token) => (TOKEN_USER, token),
        };
        let (server_url, username) = (server.to_owned(), username.to_owned());
        let entry = Entry { server_url, username, secret: secret.expose().to_owned() };
        let input = serde_json::to_vec(&entry).map_err(|error| self.failed(&error.to_string()))?;
        self.run("store", &input).map(drop)
    }

    /// Forgets what is kept for `server`; returns whether anything was.
    pub(crate) fn erase_if_kept(&self, server: &str) -> Result<bool> {
        if self.run("get", server.as_bytes())?.is_none() {
            return Ok(false);
        }
        self.run("erase", server.as_bytes()).map(|_| true)
    }

    /// Runs one verb. `None`: the helper has nothing for this server.
    fn run(&self, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut command = Command::new(&self.program);
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(path) = self.search_path {
            command.env("PATH", path);
        }
        let mut child = command.spawn().map_err(|error| self.failed(&error.to_string()))?;
        let talked = talk(&mut child, input);
        if talked.is_err() {
            // It waits for a reader that is gone, or is gone itself.
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| self.failed(&error.to_string()))?;
        let answer = talked.map_err(|error| self.failed(&error.to_string()))?;
        if status.success() {
            return Ok(Some(answer));
        }
        let words = String::from_utf8_lossy(&answer);
        match words.trim() {
            NOT_FOUND => Ok(None),
            "" => Err(self.failed(&status.to_string())),
            words => Err(self.failed(&printable(words))),
        }
    }

    fn failed(&self, reason: &str) -> Error {
        Error::Helper { program: self.program.clone(), reason: reason.to_owned() }
    }
}

fn talk(child: &mut Child, input: &[u8]) -> io::Result<Vec<u8>> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input) {
            // A helper may answer without reading.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER_BYTES + 1).read_to_end(&mut answer)?;
    }
    if answer.len() as u64 > MAX_ANSWER_BYTES {
        return Err(io::Error::other(format!("its answer is larger than {MAX_ANSWER_BYTES} bytes")));
    }
    Ok(answer)
}
