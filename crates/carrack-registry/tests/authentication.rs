//! Basic authentication, its limits, and TLS.

mod support;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use carrack_registry::{Error, Options, serve};
use reqwest::{Method, StatusCode};
use support::{Server, expect_error, header};

/// bcrypt of "wonder", cost 4.
fn hash() -> String {
    bcrypt::hash("wonder", 4).unwrap()
}

fn with_alice() -> (Server, std::path::PathBuf) {
    let mut path = std::path::PathBuf::new();
    let server = Server::with(|options, folder| {
        path = folder.join("htpasswd");
        std::fs::write(&path, format!("# users\n\nalice:{}\n", hash())).unwrap();
        options.htpasswd = Some(path.clone());
    });
    (server, path)
}

fn login(server: &Server, user: &str, password: &str) -> reqwest::blocking::Response {
    server.request(Method::GET, "/v2/").basic_auth(user, Some(password)).send().unwrap()
}

#[test]
fn everything_needs_a_password() {
    let (server, _) = with_alice();
    for path in ["/v2/", "/v2/_catalog", "/v2/a/manifests/x", "/v2/..%2f/tags/list", "/", "/nothing"] {
        let response = server.get(path);
        assert_eq!(header(&response, "www-authenticate"), "Basic realm=\"carrack registry\"");
        expect_error(response, 401, "UNAUTHORIZED");
    }
    let request = server.request(Method::PUT, "/v2/a/manifests/x").body(vec![0; 100_000]);
    expect_error(request.send().unwrap(), 401, "UNAUTHORIZED");
    assert_eq!(login(&server, "alice", "wonder").status(), StatusCode::OK);
    assert_eq!(login(&server, "alice", "wonder").status(), StatusCode::OK, "from memory");
    for (user, password) in [("alice", "wrong"), ("bob", "wonder"), ("", ""), ("alice:", "wonder")] {
        expect_error(login(&server, user, password), 401, "UNAUTHORIZED");
    }
    for value in ["Basic", "Basic !!!", "Basic YWxpY2U=", "Bearer abc", "Digest x"] {
        let request = server.request(Method::GET, "/v2/").header("Authorization", value);
        expect_error(request.send().unwrap(), 401, "UNAUTHORIZED");
    }
}

#[test]
fn guessing_is_slowed_down_but_not_for_those_who_know() {
    let (server, _) = with_alice();
    assert_eq!(login(&server, "alice", "wonder").status(), StatusCode::OK);
    let refused = (0..30).map(|_| login(&server, "alice", "wrong")).find(|response| response.status() == 429);
    let response = refused.expect("at some point nobody listens");
    assert!(header(&response, "retry-after").parse::<u64>().unwrap() > 0);
    expect_error(response, 429, "TOOMANYREQUESTS");
    assert_eq!(login(&server, "alice", "wonder").status(), StatusCode::OK);
}

#[test]
fn parallel_guesses_are_counted_too() {
    let (server, _) = with_alice();
    let heard = std::thread::scope(|scope| {
        let guess = || login(&server, "alice", "wrong").status() == StatusCode::UNAUTHORIZED;
        let threads: Vec<_> = (0..40).map(|_| scope.spawn(guess)).collect();
        threads
            .into_iter()
            .filter(|_| true)
            .map(|thread| thread.join().unwrap())
            .filter(|heard| *heard)
            .count()
    });
    assert!(heard <= 15, "{heard} guesses were looked at");
}

#[test]
fn many_first_requests_at_once_pass() {
    let (server, _) = with_alice();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(login(&server, "alice", "wonder").status(), StatusCode::OK));
        }
    });
}

#[test]
fn a_changed_file_takes_effect() {
    let (server, path) = with_alice();
    assert_eq!(login(&server, "alice", "wonder").status(), StatusCode::OK);
    std::fs::write(&path, format!("bob-with-a-longer-name:{}\n", hash())).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while login(&server, "alice", "wonder").status() != StatusCode::UNAUTHORIZED {
        assert!(Instant::now() < end, "alice is still let in");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(login(&server, "bob-with-a-longer-name", "wonder").status(), StatusCode::OK);
}

/// Everything that any part of the server logs, at the most talkative level.
#[test]
fn passwords_are_never_logged() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = log.clone();
    let writer = move || Sink(sink.clone());
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(writer).init();
    let (server, path) = with_alice();
    for password in ["wonder", "guess-0"] {
        login(&server, "alice", password);
    }
    let encoded = "YWxpY2U6d29uZGVy";
    let path_with_secret = "/v2/a/tags/list?last=query-secret";
    server
        .request(Method::GET, path_with_secret)
        .header("Authorization", format!("Basic {encoded}"))
        .send()
        .unwrap();
    let text = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    let server_lines: String = text.lines().filter(|line| line.contains("carrack_registry")).collect();
    assert!(server_lines.contains("/v2/") && server_lines.contains("401"), "{text}");
    let hash = std::fs::read_to_string(path).unwrap().rsplit_once(':').unwrap().1.trim().to_owned();
    for secret in ["wonder", "guess-0", encoded, &hash, "query-secret"] {
        assert!(!server_lines.contains(secret), "{secret} is in the log");
    }
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn start_error(change: impl FnOnce(&mut Options, &Path)) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let listen = ([127, 0, 0, 1], 0).into();
    let mut options = Options { listen, root: folder.path().join("registry"), htpasswd: None, tls: None };
    change(&mut options, folder.path());
    serve(&options, |_| panic!("the registry started")).unwrap_err()
}

#[test]
fn a_bad_password_file_is_refused_without_showing_it() {
    for line in ["alice", "alice:{SHA}secret", "alice:$2y$05$short"] {
        let error = start_error(|options, folder| {
            let path = folder.join("htpasswd");
            std::fs::write(&path, format!("\n{line}\n")).unwrap();
            options.htpasswd = Some(path);
        });
        let text = error.to_string();
        assert!(text.contains("line 2") && !text.contains("secret") && !text.contains("alice"), "{text}");
    }
    let error = start_error(|options, folder| options.htpasswd = Some(folder.join("missing")));
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn speaks_tls() {
    let make = |folder: &Path| {
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let status = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .unwrap();
        assert!(status.status.success(), "{status:?}");
        (certificate, key)
    };
    let server = Server::with(|options, folder| options.tls = Some(make(folder)));
    let bytes = server.push_image("a", "v1", "one");
    assert_eq!(server.get("/v2/a/manifests/v1").bytes().unwrap(), bytes);
    let error = start_error(|options, folder| {
        let (certificate, _) = make(folder);
        options.tls = Some((certificate.clone(), certificate));
    });
    assert!(matches!(error, Error::Tls { .. }), "{error}");
    let error = start_error(|options, folder| {
        let (_, key) = make(folder);
        options.tls = Some((key.clone(), key));
    });
    assert!(error.to_string().contains("expected a PEM certificate"), "{error}");
}
