//! Who gets which credential, and who does not.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrack_distribution::{AuthFile, Class, Client, Credential, Secret, TokenRealms};
use carrack_oci::media_type::OCI_MANIFEST;

use crate::server::{Reply, Seen, Server};
use crate::{Sink, blob, options, reference, repository};

const MANIFEST: &[u8] = b"{}";

fn joe() -> Credential {
    Credential::Basic { user: "joe".to_owned(), password: Secret::new("secret") }
}

fn basic_header() -> String {
    format!("Basic {}", STANDARD.encode("joe:secret"))
}

fn auth(host: &str, credential: &Credential) -> AuthFile {
    let mut auth = AuthFile::none();
    auth.store(host, credential).unwrap();
    auth
}

fn client(host: &str, credential: &Credential) -> Client {
    Client::new(options(auth(host, credential))).unwrap()
}

fn resolve(client: &Client, server: &Server) -> carrack_distribution::Result<carrack_distribution::Fetched> {
    client.resolve(&reference(&format!("{}/app", server.host())))
}

/// Answers `request` when it has `wanted`, else challenges with `challenge`.
fn guarded(request: &Seen, wanted: &str, challenge: &str, reply: impl Fn() -> Reply) -> Reply {
    if request.header("authorization") == Some(wanted) {
        return reply();
    }
    Reply::new(401).header("WWW-Authenticate", challenge)
}

/// A registry that issues its own tokens, `token-<number>`, each good for `uses` requests.
fn token_registry(uses: usize) -> Server {
    let (issued, used) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Server::start(move |request| {
        if request.path() == "/token" {
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            used.store(0, Ordering::SeqCst);
            return Reply::ok(format!(r#"{{"token":"token-{number}","expires_in":300}}"#).as_bytes());
        }
        let host = request.header("host").unwrap();
        let challenge =
            format!(r#"Bearer realm="http://{host}/token",service="reg",scope="repository:admin:*""#);
        let wanted = format!("Bearer token-{}", issued.load(Ordering::SeqCst));
        guarded(request, &wanted, &challenge, || {
            if used.fetch_add(1, Ordering::SeqCst) >= uses {
                return Reply::new(401).header("WWW-Authenticate", &challenge);
            }
            Reply::ok(MANIFEST).header("Content-Type", OCI_MANIFEST)
        })
    })
}

#[test]
fn basic_is_sent_when_challenged_and_then_at_once() {
    let server = Server::start(|request| {
        guarded(request, &basic_header(), "Basic realm=\"r\"", || Reply::ok(MANIFEST))
    });
    let client = client(&server.host(), &joe());
    resolve(&client, &server).unwrap();
    resolve(&client, &server).unwrap();
    let sent: Vec<bool> =
        server.seen().iter().map(|request| request.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true, true]);
}

#[test]
fn a_wrong_or_missing_password_is_unauthorized_without_repetition() {
    let server =
        Server::start(|request| guarded(request, "Basic x", "Basic realm=\"r\"", || Reply::ok(MANIFEST)));
    let error = resolve(&client(&server.host(), &joe()), &server).unwrap_err();
    assert_eq!((error.class(), server.seen().len()), (Class::Unauthorized, 2), "{error}");
    let error = resolve(&crate::anonymous(), &server).unwrap_err();
    assert_eq!((error.class(), server.seen().len()), (Class::Unauthorized, 3), "{error}");
}

#[test]
fn a_token_is_fetched_once_for_a_scope_by_many_threads() {
    let server = token_registry(usize::MAX);
    let client = client(&server.host(), &joe());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| resolve(&client, &server).unwrap());
        }
    });
    let tokens: Vec<Seen> = server.seen().into_iter().filter(|request| request.path() == "/token").collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].header("authorization"), Some(basic_header().as_str()));
    let query = "/token?service=reg&scope=repository%3Aapp%3Apull&account=joe";
    assert_eq!(tokens[0].target, query, "the scope is ours, not the one of the challenge");
}

#[test]
fn a_token_that_ends_midway_is_replaced() {
    let server = token_registry(2);
    let client = crate::anonymous();
    for _ in 0..5 {
        resolve(&client, &server).unwrap();
    }
    assert_eq!(server.count("GET", "/token"), 3);
}

#[test]
fn an_identity_token_is_posted() {
    let server = Server::start(|request| {
        if request.is("POST", "/token") {
            return Reply::ok(br#"{"access_token":"access"}"#);
        }
        let challenge =
            format!(r#"Bearer realm="http://{}/token",service="reg""#, request.header("host").unwrap());
        guarded(request, "Bearer access", &challenge, || Reply::ok(MANIFEST))
    });
    let credential = Credential::IdentityToken(Secret::new("id&=1"));
    resolve(&client(&server.host(), &credential), &server).unwrap();
    let seen = server.seen();
    let post = seen.iter().find(|request| request.method == "POST").unwrap();
    let form = String::from_utf8(post.body.clone()).unwrap();
    let expected = "grant_type=refresh_token&client_id=carrack&service=reg&scope=repository%3Aapp%3Apull\
                    &refresh_token=id%26%3D1";
    assert_eq!(form, expected);
    assert_eq!((post.target.as_str(), post.header("authorization")), ("/token", None));
}

#[test]
fn a_redirect_to_another_host_carries_no_credential() {
    let (bytes, descriptor) = blob(1000);
    let all = bytes.clone();
    let storage = Server::start(move |_| Reply::ok(&all));
    let location = storage.url("/blob?signature=1");
    let server = Server::start(move |request| {
        guarded(request, &basic_header(), "Basic realm=\"r\"", || {
            Reply::new(307).header("Location", &location)
        })
    });
    let client = client(&server.host(), &joe());
    let mut sink = Sink::default();
    client.fetch_blob(&repository(&server.host(), "app"), &descriptor, &mut sink, &|_| {}).unwrap();
    assert_eq!(sink.bytes, bytes);
    assert_eq!(storage.seen().len(), 1);
    assert_eq!(storage.seen()[0].header("authorization"), None);
}

#[test]
fn a_redirect_back_from_another_host_carries_no_credential() {
    let (_, descriptor) = blob(1000);
    let back = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let home = back.clone();
    let other = Server::start(move |_| Reply::new(307).header("Location", home.get().unwrap()));
    let location = other.url("/blob");
    let server = Server::start(move |request| match request.path() {
        "/v2/private/secret" => Reply::new(403),
        _ => guarded(request, &basic_header(), "Basic realm=\"r\"", || {
            Reply::new(307).header("Location", &location)
        }),
    });
    back.set(server.url("/v2/private/secret")).unwrap();
    let client = client(&server.host(), &joe());
    let fetched =
        client.fetch_blob(&repository(&server.host(), "app"), &descriptor, &mut Sink::default(), &|_| {});
    assert_eq!(fetched.unwrap_err().class(), Class::Denied);
    assert_eq!(server.seen().last().unwrap().header("authorization"), None);
}

#[test]
fn a_challenge_of_another_host_is_not_answered() {
    let (_, descriptor) = blob(1000);
    let thief = Server::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"r\""));
    let location = thief.url("/blob");
    let server = Server::start(move |_| Reply::new(307).header("Location", &location));
    let mut auth = auth(&server.host(), &joe());
    auth.store(&thief.host(), &joe()).unwrap();
    let client = Client::new(options(auth)).unwrap();
    let fetched =
        client.fetch_blob(&repository(&server.host(), "app"), &descriptor, &mut Sink::default(), &|_| {});
    assert_eq!(fetched.unwrap_err().class(), Class::Unauthorized);
    assert!(thief.seen().iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(thief.seen().len(), 1);
}

#[test]
fn a_plain_token_server_of_another_origin_gets_no_password() {
    let realm = Server::start(|_| Reply::ok(br#"{"token":"foreign"}"#));
    let challenge = format!(r#"Bearer realm="{}",service="reg""#, realm.url("/token"));
    let server =
        Server::start(move |request| guarded(request, "Bearer foreign", &challenge, || Reply::ok(MANIFEST)));
    for realms in
        [TokenRealms::Https, TokenRealms::SameOrigin, TokenRealms::Hosts(vec!["127.0.0.1".to_owned()])]
    {
        let mut options = options(auth(&server.host(), &joe()));
        options.token_realms = realms;
        let error = resolve(&Client::new(options).unwrap(), &server).unwrap_err();
        assert_eq!(error.class(), Class::Refused, "{error}");
    }
    assert!(realm.seen().is_empty());
    resolve(&crate::anonymous(), &server).unwrap();
    assert_eq!(realm.seen().len(), 1, "an anonymous token is no secret of the user");
    let mut options = options(auth(&server.host(), &joe()));
    options.token_realms = TokenRealms::Hosts(vec![realm.host()]);
    resolve(&Client::new(options).unwrap(), &server).unwrap();
    assert_eq!(realm.seen()[1].header("authorization"), Some(basic_header().as_str()));
}

#[test]
fn hostile_token_answers_are_refused() {
    let large = format!(r#"{{"token":"{}"}}"#, "a".repeat(64 << 10));
    for answer in [
        large.as_str(),
        r#"{"token":"a\r\nX-Evil: 1"}"#,
        r#"{"token":""}"#,
        r#"{"token":"a","token":"b"}"#,
        "{}",
        "[",
    ] {
        let answer = answer.to_owned();
        let server = Server::start(move |request| {
            if request.path() == "/token" {
                return Reply::ok(answer.as_bytes());
            }
            let challenge = format!(r#"Bearer realm="http://{}/token""#, request.header("host").unwrap());
            Reply::new(401).header("WWW-Authenticate", &challenge)
        });
        let error = resolve(&crate::anonymous(), &server).unwrap_err();
        assert_eq!(error.class(), Class::Corrupt, "{error}");
    }
}

#[test]
fn hostile_challenges_are_errors() {
    for challenge in [
        "Bearer service=\"x\"",
        "Bearer realm=\"file:///etc/passwd\"",
        "Bearer realm=\"http://joe:secret@127.0.0.1/token\"",
        "Bearer realm=\"http://host.example/token\"",
        "Negotiate",
    ] {
        let server = Server::start(move |_| Reply::new(401).header("WWW-Authenticate", challenge));
        let error = resolve(&client(&server.host(), &joe()), &server).unwrap_err();
        assert!(
            matches!(error.class(), Class::Corrupt | Class::Refused | Class::Unauthorized),
            "{challenge}: {error}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn login_returns_what_is_to_be_stored() {
    let server =
        Server::start(|request| guarded(request, &basic_header(), "Basic realm=\"r\"", || Reply::ok(b"{}")));
    let client = crate::anonymous();
    assert_eq!(client.login(&server.host(), "joe", &Secret::new("secret")).unwrap(), joe());
    let error = client.login(&server.host(), "joe", &Secret::new("wrong")).unwrap_err();
    assert_eq!(error.class(), Class::Unauthorized, "{error}");

    let server = Server::start(|request| {
        if request.path() == "/token" {
            assert_eq!(request.header("authorization"), Some(basic_header().as_str()));
            let offline = request.target.contains("offline_token=true");
            let refresh = if offline { r#","refresh_token":"identity""# } else { "" };
            return Reply::ok(format!(r#"{{"token":"t"{refresh}}}"#).as_bytes());
        }
        let challenge = format!(r#"Bearer realm="http://{}/token""#, request.header("host").unwrap());
        guarded(request, "Bearer t", &challenge, || Reply::ok(b"{}"))
    });
    let stored = client.login(&server.host(), "joe", &Secret::new("secret")).unwrap();
    assert_eq!(stored, Credential::IdentityToken(Secret::new("identity")));
}
