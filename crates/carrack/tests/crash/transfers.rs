//! Pulls and pushes that are cut short: what is complete is never sent again, and of the rest no more than a little.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use carrack_testkit::{FixtureLayer, ImageFixture, LayerFormat, Registry, Store, TarWriter};

use super::kit::{CARRACK, IMAGE, empty_store};
use super::strace::{Fault, points, run_with, sample};
use super::{assert_nothing_runs, assert_runs, assert_whole, eventually, image, names_in, sandboxes, words};

const KILLS: usize = 6;
const MEGABYTE: usize = 1 << 20;

/// Passes connections on to a registry, counts the bytes of both directions and keeps the first line of each request.
struct Proxy {
    address: String,
    flow: Arc<Flow>,
}

#[derive(Default)]
struct Flow {
    requests: Mutex<Vec<String>>,
    up: AtomicU64,
    down: AtomicU64,
    /// Where each direction stops, in bytes of that direction.
    up_limit: AtomicU64,
    down_limit: AtomicU64,
}

impl Proxy {
    fn start(registry: &Registry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let flow = Arc::new(Flow::default());
        let (target, shared) = (registry.address().to_owned(), Arc::clone(&flow));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (target, flow) = (target.clone(), Arc::clone(&shared));
                thread::spawn(move || pass_on(client, &target, &flow));
            }
        });
        let proxy = Self { address, flow };
        proxy.reset(u64::MAX, u64::MAX);
        proxy
    }

    /// Begins to count anew; a direction stands still for good after so many bytes.
    fn reset(&self, up_limit: u64, down_limit: u64) {
        self.flow.up_limit.store(up_limit, Ordering::SeqCst);
        self.flow.down_limit.store(down_limit, Ordering::SeqCst);
        self.flow.up.store(0, Ordering::SeqCst);
        self.flow.down.store(0, Ordering::SeqCst);
        self.take_requests();
    }

    fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.flow.requests.lock().unwrap())
    }

    fn up(&self) -> u64 {
        self.flow.up.load(Ordering::SeqCst)
    }

    fn down(&self) -> u64 {
        self.flow.down.load(Ordering::SeqCst)
    }
}

fn pass_on(client: TcpStream, target: &str, flow: &Arc<Flow>) -> std::io::Result<()> {
    let server = TcpStream::connect(target)?;
    let (answers, back) = (server.try_clone()?, client.try_clone()?);
    let shared = Arc::clone(flow);
    thread::spawn(move || copy(answers, back, &shared.down, &shared.down_limit, |_| {}));
    copy(client, server, &flow.up, &flow.up_limit, |bytes| {
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if [&b"GET "[..], b"PUT ", b"POST ", b"PATCH ", b"HEAD "].iter().any(|verb| line.starts_with(verb)) {
            flow.requests.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
        }
    });
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64, limit: &AtomicU64, see: impl Fn(&[u8])) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        see(&buffer[..length]);
        if count.fetch_add(length as u64, Ordering::SeqCst) + length as u64 > limit.load(Ordering::SeqCst) {
            // As a network does that is gone: nothing comes, and nothing says so. The client will be killed.
            thread::sleep(Duration::from_secs(30));
            break;
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Bytes that no compression makes shorter.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(|| next().to_le_bytes()).flatten().take(length).collect()
}

fn noise_layer(name: &str, length: usize) -> FixtureLayer {
    let tar = TarWriter::new().file(name, &noise(length, name.len() as u64 * 77)).finish();
    FixtureLayer::of_tar(&tar, LayerFormat::Gzip)
}

/// Starts a command, waits until `is_there` says that it has come far enough, and kills it.
fn kill_when(store: &Store, arguments: &[String], what: &str, is_there: impl FnMut() -> bool) {
    let mut child = store.command().args(arguments).spawn().unwrap();
    eventually(what, is_there);
    // What has come is on its way to the disk.
    thread::sleep(Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_pull_that_is_killed_at_nine_tenths_fetches_the_rest_alone() {
    let registry = Registry::start(CARRACK);
    let publisher = empty_store();
    let image = ImageFixture::new()
        .push(noise_layer("small", MEGABYTE))
        .push(noise_layer("large-one", 16 * MEGABYTE));
    publisher.load(&image, IMAGE);
    publisher.carrack(["push", IMAGE, &format!("{}/app", registry.address())]).success();
    let proxy = Proxy::start(&registry);
    let name = format!("{}/app:latest", proxy.address);
    let arguments = words(&["pull", "--quiet", &name]);
    let reference = empty_store();
    reference.carrack(&arguments).success();
    let total = proxy.down();
    assert!(total > 17 * MEGABYTE as u64, "{total}");

    let store = empty_store();
    let limit = total / 10 * 9;
    proxy.reset(u64::MAX, limit);
    kill_when(&store, &arguments, "nine tenths have come", || proxy.down() >= limit);
    assert_whole(&store, "killed at nine tenths");
    proxy.reset(u64::MAX, u64::MAX);
    store.carrack(&arguments).success();
    let again = proxy.down();
    assert!(again <= (total - limit) * 11 / 10, "{again} of {total} bytes were fetched again");
    let small = image.layers()[0].descriptor.digest.hex();
    assert!(proxy.take_requests().iter().all(|line| !line.contains(small)), "a complete layer was asked for");
    assert_eq!(store.carrack(["inspect", "--format", "{{.Id}}", &name]).line(), image.id().to_string());
    assert_whole(&store, "pulled in two pieces");
}

#[test]
fn a_push_that_is_killed_sends_no_complete_layer_again() {
    let registry = Registry::start(CARRACK);
    let proxy = Proxy::start(&registry);
    let store = empty_store();
    let image = ImageFixture::new()
        .push(noise_layer("first", 4 * MEGABYTE))
        .push(noise_layer("second-one", 4 * MEGABYTE));
    store.load(&image, IMAGE);
    // One layer after the other, so that the first is complete when the second is on its way.
    let settings = store.path().join("carrack.toml");
    fs::write(&settings, "[registries]\nparallel_layers = 1\n").unwrap();
    let name = format!("{}/app:latest", proxy.address);
    let arguments = words(&["--settings", settings.to_str().unwrap(), "push", "--quiet", IMAGE, &name]);
    let limit = 6 * MEGABYTE as u64;
    proxy.reset(limit, u64::MAX);
    kill_when(&store, &arguments, "a layer and a half were sent", || proxy.up() >= limit);
    proxy.reset(u64::MAX, u64::MAX);
    store.carrack(&arguments).success();
    let again = proxy.up();
    assert!(again < 5 * MEGABYTE as u64, "{again} bytes were sent again");
    let other = empty_store();
    other.carrack(["pull", "--quiet", &name]).success();
    proxy.reset(u64::MAX, u64::MAX);
    store.carrack(&arguments).success();
    assert!(proxy.up() < 64 * 1024, "{} bytes were sent for nothing", proxy.up());
}

/// The hexadecimal parts of the digests of the store's blobs.
fn complete_blobs(store: &Store) -> BTreeSet<String> {
    names_in(store.root().join("content/blobs/sha256"))
}

#[test]
fn a_killed_pull_from_a_registry_fetches_nothing_complete_again() {
    let registry = Registry::start(CARRACK);
    let publisher = empty_store();
    publisher.load(&image(), IMAGE);
    publisher.carrack(["push", IMAGE, &format!("{}/app", registry.address())]).success();
    let proxy = Proxy::start(&registry);
    let name = format!("{}/app:latest", proxy.address);
    let arguments = words(&["pull", "--quiet", &name]);
    let image = image();
    let config = image.id().hex().to_owned();

    let reference = empty_store();
    let points = sample(&points(&reference, &arguments), KILLS);
    // A push may compress anew, so the registry's digests of the layers need not be the fixture's.
    let fetched = || {
        let mut layers = proxy.take_requests();
        layers.retain(|line| line.starts_with("GET ") && line.contains("/blobs/") && !line.contains(&config));
        layers
    };
    let mut all = fetched();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), image.layers().len(), "{all:?}");
    let (mut killed, mut spared) = (0, 0);
    for point in &points {
        let (store, when) = (empty_store(), format!("killed at {point:?}"));
        killed += usize::from(run_with(&store, point, Fault::Kill, &arguments).code != 0);
        let blobs = complete_blobs(&store);
        // A layer is complete as it came, or as its tar.
        let as_it_came =
            all.iter().filter(|line| blobs.iter().any(|hex| line.contains(hex.as_str()))).count();
        let as_tar = image.layers().iter().filter(|layer| blobs.contains(layer.diff_id.0.hex())).count();
        let complete = as_it_came.max(as_tar);
        let ids = sandboxes(&store);
        assert_whole(&store, &when);
        fetched();
        store.carrack(&arguments).success();
        let again = fetched();
        // None when all bytes had come, and only the name was missing.
        assert!(again.len() <= all.len() - complete, "{when}: {complete} were complete: {again:?}");
        spared += complete;
        assert_runs(&store, &name, &when);
        assert_nothing_runs(&store, &ids);
    }
    assert!(killed >= points.len() / 2, "only {killed} of {points:?} were reached");
    assert!(spared > 0, "no kill left a complete layer: {points:?}");
}
