//! registries.conf and certs.d: aliases, search registries, mirrors, what is blocked, and whom TLS trusts.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use carrack_testkit::{Registry, Run, Store};

use crate::kit::{CARRACK, IMAGE, LIMIT, digest, empty_store, files_below, host, id, store, with_input};

/// A registry that has the image of [`store`] under `name`.
fn registry_with(name: &str) -> Registry {
    let registry = Registry::start(CARRACK);
    push(&registry, name);
    registry
}

fn push(registry: &Registry, name: &str) {
    store().carrack(["push", IMAGE, &format!("{}/{name}", registry.address())]).success();
}

/// An address where nothing listens.
fn nowhere() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn table(prefix: &str, location: &str, rest: &str) -> String {
    format!("[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{location}\"\n{rest}\n")
}

fn mirror(location: &str, rest: &str) -> String {
    format!("[[registry.mirror]]\nlocation = \"{location}\"\n{rest}\n")
}

#[test]
fn an_alias_is_pulled_found_run_and_built_on() {
    let (registry, there) = (registry_with("team/app:1"), empty_store());
    let full = format!("{}/team/app", registry.address());
    there.configure_registries(&format!("[aliases]\napp = \"{full}\"\n"));
    let pulled = there.carrack(["pull", "app:1"]).success();
    assert_eq!(pulled.stdout.lines().last(), Some(&*format!("{full}:1")));
    assert!(
        pulled.stderr.contains("as an alias") && pulled.stderr.contains("registries.conf"),
        "{}",
        pulled.stderr
    );
    drop(registry);
    let output = there.carrack(["run", "--rm", "--network", "none", "app:1", "echo", "ahoy"]).line();
    assert_eq!(output, "ahoy");
    assert_eq!(id(&there, "app:1"), id(&there, &format!("{full}:1")));
    let context = there.path().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), "FROM app:1\nLABEL a=b\n").unwrap();
    there.carrack(["build", "--tag", "built", context.to_str().unwrap()]).success();
    there.carrack(["rmi", "app:1"]).success();
    there.carrack(["inspect", &format!("{full}:1")]).code(1);
}

#[test]
fn search_registries_are_tried_in_order() {
    let (first, second, there) = (Registry::start(CARRACK), registry_with("app:1"), empty_store());
    let search = format!(
        "unqualified-search-registries = [\"{}\", \"{}\", \"{}\"]\n",
        nowhere(),
        first.address(),
        second.address()
    );
    there.configure_registries(&search);
    let pulled = there.carrack(["pull", "app:1"]).success();
    assert_eq!(pulled.stdout.lines().last(), Some(&*format!("{}/app:1", second.address())));
    there.carrack(["run", "--rm", "--network", "none", "--pull", "never", "app:1", "true"]).success();
    let failed = there.carrack(["pull", "absent"]).code(1);
    assert!(failed.stderr.contains("tried 3 places"), "{}", failed.stderr);
    for registry in [&first, &second] {
        assert!(
            failed.stderr.contains(&format!("{}/absent:latest: ", registry.address())),
            "{}",
            failed.stderr
        );
    }
    there.configure_registries(&format!("{search}short-name-mode = \"enforcing\"\n"));
    let refused = there.carrack(["pull", "other"]).code(1);
    assert!(refused.stderr.contains("enforcing"), "{}", refused.stderr);
}

#[test]
fn mirrors_come_before_the_location_and_the_name_stays() {
    let (mirrored, there) = (registry_with("cache/app:1"), empty_store());
    let (down, gone) = (nowhere(), nowhere());
    let mirrors = mirror(&format!("{down}/x"), "") + &mirror(&format!("{}/cache", mirrored.address()), "");
    there.configure_registries(&table("ship.example/team", &gone, &mirrors));
    there.carrack(["pull", "ship.example/team/app:1"]).success();
    assert_eq!(
        there.carrack(["images", "--format", "{{.Repository}}:{{.Tag}}"]).line(),
        "ship.example/team/app:1"
    );
    let failed = there.carrack(["pull", "ship.example/team/absent:1"]).code(1).stderr;
    let places = [
        format!("{down}/x/absent:1: "),
        format!("{}/cache/absent:1: ", mirrored.address()),
        format!("{gone}/absent:1: "),
    ];
    let found: Vec<_> = places.iter().map(|place| failed.find(place)).collect();
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{failed}");
    // A push goes to the name as it is: only readers are led elsewhere.
    let pushed = there.carrack(["push", "ship.example/team/app:1"]).code(1);
    assert!(
        pushed.stderr.contains("ship.example") && !pushed.stderr.contains(mirrored.address()),
        "{}",
        pushed.stderr
    );
}

#[test]
fn what_a_mirror_lacks_comes_from_the_location() {
    let (mirrored, full, there) = (registry_with("app:1"), registry_with("app:1"), empty_store());
    // The largest blob is the layer.
    let blobs = files_below(&mirrored.path().join("root/registry/content/blobs"));
    let layer = blobs.iter().max_by_key(|blob| fs::metadata(blob).unwrap().len()).unwrap();
    fs::remove_file(layer).unwrap();
    there.configure_registries(&table("ship.example", full.address(), &mirror(mirrored.address(), "")));
    there.carrack(["pull", "ship.example/app:1"]).success();
    there.carrack(["run", "--rm", "--network", "none", "ship.example/app:1", "true"]).success();
}

#[test]
fn a_mirror_may_be_for_digests_only() {
    let (mirrored, there) = (registry_with("app:1"), empty_store());
    let digest = digest(&store_that_pulled(&mirrored, "app:1"), &format!("{}/app:1", mirrored.address()));
    let only = mirror(mirrored.address(), "pull-from-mirror = \"digest-only\"");
    there.configure_registries(&table("ship.example", &nowhere(), &only));
    let by_tag = there.carrack(["pull", "ship.example/app:1"]).code(1);
    assert!(!by_tag.stderr.contains(mirrored.address()), "{}", by_tag.stderr);
    there.carrack(["pull", &format!("ship.example/app@{digest}")]).success();
}

fn store_that_pulled(registry: &Registry, name: &str) -> Store {
    let store = empty_store();
    store.carrack(["pull", &format!("{}/{name}", registry.address())]).success();
    store
}

#[test]
fn a_mirror_gets_its_own_credentials() {
    let (mirrored, there) = guarded();
    there.configure_registries(&table("ship.example", &nowhere(), &mirror(mirrored.address(), "")));
    let mut login = there.command();
    login.args(["login", "--username", "captain", "--password-stdin", mirrored.address()]);
    assert_eq!(with_input(&mut login, b"secret\n").0, 0);
    there.carrack(["push", IMAGE, &format!("{}/app:1", mirrored.address())]).success();
    there.carrack(["pull", "ship.example/app:1"]).success();
    there.carrack(["logout", mirrored.address()]).success();
    let refused = there.carrack(["pull", "ship.example/app:1"]).code(1);
    assert!(refused.stderr.contains("401"), "{}", refused.stderr);
}

/// A registry that a user must log in to; its address, and a store whose helper programs are in `bin`.
fn guarded() -> (Registry, Store) {
    let there = store();
    let users = there.path().join("users");
    let line = host("htpasswd", ["-nbB", "-C", "5", "captain", "secret"]).line();
    fs::write(&users, format!("{line}\n")).unwrap();
    fs::create_dir(there.path().join("bin")).unwrap();
    (Registry::start_with(CARRACK, &["--htpasswd", users.to_str().unwrap()]), there)
}

/// A helper that keeps one entry beside itself, as `kept`.
fn install_helper(there: &Store, name: &str) {
    let script = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\ncase \"$1\" in\n  store) cat > kept ;;\n  get) cat > asked; \
                  [ -f kept ] && exec cat kept; echo 'credentials not found in native keychain'; exit 1 ;;\n  \
                  erase) rm kept ;;\nesac\n";
    let path = there.path().join("bin").join(format!("docker-credential-{name}"));
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A command whose helpers are those of the store.
fn with_helpers(there: &Store, arguments: &[&str]) -> Command {
    let mut command = there.command();
    let path = format!("{}:/usr/bin:/bin", there.path().join("bin").display());
    command.args(arguments).env("PATH", path);
    command
}

#[test]
fn a_helper_of_registries_conf_keeps_the_credentials() {
    let (registry, there) = guarded();
    install_helper(&there, "keeper");
    there.configure_registries("credential-helpers = [\"keeper\", \"containers-auth.json\"]\n");
    let mut login =
        with_helpers(&there, &["login", "--username", "captain", "--password-stdin", registry.address()]);
    let (code, _, errors) = with_input(&mut login, b"secret\n");
    assert_eq!(code, 0, "{errors}");
    let kept = fs::read_to_string(there.path().join("bin/kept")).unwrap();
    assert!(kept.contains(registry.address()) && kept.contains("captain"), "{kept}");
    assert!(!there.path().join("home/.docker/config.json").exists(), "the helper has it, not the file");
    let name = format!("{}/app:1", registry.address());
    Run::of(&mut with_helpers(&there, &["push", IMAGE, &name]), LIMIT).success();
    let asked = fs::read_to_string(there.path().join("bin/asked")).unwrap();
    assert_eq!(asked, registry.address());
    let logout = Run::of(&mut with_helpers(&there, &["logout", registry.address()]), LIMIT).success();
    assert!(logout.stdout.contains("Removed"), "{}", logout.stdout);
    let refused = Run::of(&mut with_helpers(&there, &["push", IMAGE, &name]), LIMIT).code(1);
    assert!(refused.stderr.contains("401"), "{}", refused.stderr);

    // What registries.conf names must be there, and be a name.
    there.configure_registries("credential-helpers = [\"absent\"]\n");
    let missing = Run::of(&mut with_helpers(&there, &["push", IMAGE, &name]), LIMIT).code(1);
    assert!(missing.stderr.contains("docker-credential-absent"), "{}", missing.stderr);
    there.configure_registries("credential-helpers = [\"/bin/sh\"]\n");
    let refused = Run::of(&mut with_helpers(&there, &["push", IMAGE, &name]), LIMIT).code(1);
    assert!(refused.stderr.contains("registries.conf"), "{}", refused.stderr);
}

#[test]
fn a_registry_s_own_helper_wins_and_parts_of_a_registry_have_their_own_entries() {
    let (registry, there) = guarded();
    install_helper(&there, "keeper");
    let auth_file = there.path().join("home/.docker/config.json");
    fs::create_dir(auth_file.parent().unwrap()).unwrap();
    let (address, name) = (registry.address(), format!("{}/team/app:1", registry.address()));
    // base64 of captain:secret, and of captain:wrong
    let (right, wrong) = ("Y2FwdGFpbjpzZWNyZXQ=", "Y2FwdGFpbjp3cm9uZw==");
    let push = || Run::of(&mut with_helpers(&there, &["push", IMAGE, &name]), LIMIT);
    let entries = format!(
        r#""auths": {{"{address}": {{"auth": "{wrong}"}}, "{address}/team": {{"auth": "{right}"}}}}"#
    );
    fs::write(&auth_file, format!("{{{entries}}}")).unwrap();
    push().success();
    let own = format!(r#"{{"credHelpers": {{"{address}": "keeper"}}, {entries}}}"#);
    fs::write(&auth_file, own).unwrap();
    assert!(push().code(1).stderr.contains("401"), "the helper has nothing, and the file does not count");
    let entry = format!(r#"{{"ServerURL": "{address}", "Username": "captain", "Secret": "secret"}}"#);
    fs::write(there.path().join("bin/kept"), entry).unwrap();
    push().success();
}

#[test]
fn what_is_blocked_is_refused_with_the_file() {
    let (registry, there) = (registry_with("app:1"), store());
    there.configure_registries(&table(registry.address(), registry.address(), "blocked = true"));
    let name = format!("{}/app:1", registry.address());
    for arguments in [
        &["pull", &name][..],
        &["push", IMAGE, &name],
        &["login", "--username", "a", "--password", "b", registry.address()],
    ] {
        let refused = there.carrack(arguments).code(1);
        assert!(
            refused.stderr.contains("blocked") && refused.stderr.contains("registries.conf"),
            "{}",
            refused.stderr
        );
    }
    there.carrack(["run", "--rm", &name]).code(125);
}

#[test]
fn a_file_that_cannot_be_used_is_named_once() {
    let there = store();
    for (text, part) in [
        ("[registries.search]\nregistries = [\"a.example\"]\n", "version 1"),
        ("[[registry]]\nprefix = 7\n", "prefix"),
        ("[[registry]\n", "line 1"),
    ] {
        there.configure_registries(text);
        let failed = there.carrack(["pull", "app"]).code(1).stderr;
        assert!(failed.contains(part), "{failed}");
        assert_eq!(failed.matches("registries.conf").count(), 1, "{failed}");
    }
    // What needs no registry works all the same.
    there.carrack(["run", "--rm", "--network", "none", IMAGE, "true"]).success();
    there.carrack(["run", "--rm", "--network", "none", &id(&there, IMAGE)[7..19], "true"]).success();
    let mut absent = there.command();
    absent.env("CONTAINERS_REGISTRIES_CONF", there.path().join("absent.conf")).args(["pull", "app"]);
    let (code, _, errors) = with_input(&mut absent, b"");
    assert!(code == 1 && errors.contains("absent.conf"), "{errors}");
}

/// A registry over TLS whose certificate nobody vouches for, and the certificate.
fn registry_over_tls(folder: &Path) -> (Registry, PathBuf) {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let made = host(
        "openssl",
        [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            key.to_str().unwrap(),
            "-out",
            certificate.to_str().unwrap(),
        ],
    );
    made.success();
    let arguments = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    (Registry::start_with(CARRACK, &arguments), certificate)
}

#[test]
fn trust_comes_from_certs_d_flags_or_insecure() {
    let there = store();
    let (registry, certificate) = registry_over_tls(there.path());
    let name = format!("{}/app:1", registry.address());
    there.carrack(["push", IMAGE, &name]).code(1);
    there.carrack(["push", "--tls-verify=false", IMAGE, &name]).success();
    let refused = there.carrack(["pull", &name]).code(1);
    assert!(refused.stderr.contains("TLS") && refused.stderr.contains("certs.d"), "{}", refused.stderr);

    let folder = there.path().join("certificates");
    fs::create_dir(&folder).unwrap();
    fs::copy(&certificate, folder.join("ca.crt")).unwrap();
    there.carrack(["pull", "--cert-dir", folder.to_str().unwrap(), &name]).success();

    there.configure_registries(&table(registry.address(), registry.address(), "insecure = true"));
    there.carrack(["pull", &name]).success();
    there.carrack(["pull", "--tls-verify", &name]).code(1);
    there.configure_registries("");

    let own = there.path().join("home/.config/containers/certs.d").join(registry.address());
    fs::create_dir_all(&own).unwrap();
    fs::copy(&certificate, own.join("ca.crt")).unwrap();
    there.carrack(["pull", "--tls-verify=true", &name]).success();
    fs::write(own.join("client.cert"), "").unwrap();
    let broken = there.carrack(["pull", &name]).code(1);
    assert!(broken.stderr.contains("no key client.key"), "{}", broken.stderr);
}

#[test]
fn loopback_needs_no_tls_unless_it_is_demanded() {
    let (registry, there) = (registry_with("app:1"), empty_store());
    let name = format!("{}/app:1", registry.address());
    there.carrack(["pull", "--tls-verify=true", &name]).code(1);
    there.carrack(["pull", &name]).success();
}
