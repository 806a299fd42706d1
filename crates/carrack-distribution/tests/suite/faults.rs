//! Blobs over bad connections and from bad registries.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use carrack_distribution::{BlobSink, Class, Error};

use crate::server::{Fault, Handler, Reply, Server};
use crate::{Sink, anonymous, blob, repository};

/// Serves the replies one after the other, the last again and again.
fn script(replies: Vec<Box<Handler>>) -> Server {
    let next = AtomicUsize::new(0);
    Server::start(move |request| {
        let number = next.fetch_add(1, Ordering::Relaxed).min(replies.len() - 1);
        replies[number](request)
    })
}

macro_rules! script {
    ($($reply:expr),+ $(,)?) => { script(vec![$(Box::new($reply)),+]) };
}

fn fetch(server: &Server, descriptor: &carrack_oci::Descriptor, sink: &mut Sink) -> Result<(), Error> {
    anonymous().fetch_blob(&repository(&server.host(), "app"), descriptor, sink, &|_| {})
}

#[test]
fn a_cut_body_is_resumed_where_it_broke() {
    let (bytes, descriptor) = blob(300_000);
    let all = bytes.clone();
    let server = Server::start(move |request| match request.range_start() {
        None => Reply::ranged(request, &all).fault(Fault::CutAt(100_000)),
        Some(100_000) => Reply::ranged(request, &all).fault(Fault::CutAt(50_000)),
        Some(_) => Reply::ranged(request, &all),
    });
    let mut sink = Sink::default();
    let offsets = Mutex::new(Vec::new());
    let progress = |offset| offsets.lock().unwrap().push(offset);
    anonymous().fetch_blob(&repository(&server.host(), "app"), &descriptor, &mut sink, &progress).unwrap();
    assert_eq!(sink.bytes, bytes);
    assert_eq!(sink.restarts.get(), 0, "nothing is fetched twice");
    let starts: Vec<_> = server.seen().iter().map(|request| request.range_start()).collect();
    assert_eq!(starts, [None, Some(100_000), Some(150_000)]);
    assert_eq!(offsets.into_inner().unwrap().last(), Some(&300_000));
}

#[test]
fn goes_on_from_what_an_earlier_process_left() {
    let (bytes, descriptor) = blob(1000);
    let all = bytes.clone();
    let server = Server::start(move |request| Reply::ranged(request, &all));
    let mut sink = Sink { bytes: bytes[..400].to_vec(), ..Sink::default() };
    fetch(&server, &descriptor, &mut sink).unwrap();
    assert_eq!(sink.bytes, bytes);
    assert_eq!(server.seen()[0].range_start(), Some(400));
    fetch(&server, &descriptor, &mut sink).unwrap();
    assert_eq!(server.seen().len(), 1, "a complete blob is not asked for");
}

#[test]
fn begins_anew_where_ranges_are_not_served() {
    let (bytes, descriptor) = blob(1000);
    for answer in [
        |_: &[u8]| Reply::new(416),
        |all: &[u8]| Reply::new(206).body(&all[300..]).header("Content-Range", "bytes 300-999/1000"),
        |all: &[u8]| Reply::new(206).body(&all[400..]).header("Content-Range", "bytes 400-999/2000"),
        |all: &[u8]| Reply::new(206).body(&all[400..]),
        |all: &[u8]| Reply::ok(all),
    ] {
        let all = bytes.clone();
        let server = Server::start(move |request| match request.range_start() {
            Some(_) => answer(&all),
            None => Reply::ok(&all),
        });
        let mut sink = Sink { bytes: bytes[..400].to_vec(), ..Sink::default() };
        fetch(&server, &descriptor, &mut sink).unwrap();
        assert_eq!(sink.bytes, bytes);
        assert_eq!(sink.restarts.get(), 1);
    }
}

#[test]
fn a_part_that_nobody_asked_for_is_refused() {
    let (bytes, descriptor) = blob(1000);
    let part = bytes[400..].to_vec();
    let server =
        Server::start(move |_| Reply::new(206).body(&part).header("Content-Range", "bytes 400-999/1000"));
    let mut sink = Sink::default();
    let error = fetch(&server, &descriptor, &mut sink).unwrap_err();
    assert_eq!((error.class(), sink.offset()), (Class::Corrupt, 0), "{error}");
}

#[test]
fn a_wrong_length_is_refused_before_a_byte_is_taken() {
    let (bytes, descriptor) = blob(1000);
    for length in [999, 1001, 1 << 40] {
        let all = bytes.clone();
        let server = Server::start(move |_| Reply::ok(&all).length(length));
        let mut sink = Sink::default();
        let error = fetch(&server, &descriptor, &mut sink).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
        assert_eq!((sink.offset(), server.seen().len()), (0, 1));
    }
}

#[test]
fn an_endless_body_ends_at_the_size_of_the_descriptor() {
    let (bytes, descriptor) = blob(1000);
    let server = Server::start(move |_| Reply::ok(&bytes).fault(Fault::Endless));
    let mut sink = Sink::default();
    let error = fetch(&server, &descriptor, &mut sink).unwrap_err();
    assert!(error.to_string().contains("expected a blob of 1000 bytes, got more"), "{error}");
    assert!(sink.offset() <= 1000);
}

#[test]
fn short_bodies_run_out_of_attempts() {
    let (bytes, descriptor) = blob(1000);
    let server = Server::start(move |_| Reply::ok(&bytes).fault(Fault::CutAt(10)));
    let error = fetch(&server, &descriptor, &mut Sink::default()).unwrap_err();
    assert!(matches!(error, Error::Truncated { expected_bytes: 1000, got_bytes: 10, .. }), "{error:?}");
    assert_eq!((error.class(), server.seen().len()), (Class::Unreachable, 4));
}

#[test]
fn a_silent_peer_is_left_in_time_and_asked_again() {
    let (bytes, descriptor) = blob(1000);
    let all = bytes.clone();
    let server = script!(
        {
            let all = all.clone();
            move |_: &_| Reply::ok(&all).fault(Fault::StallAt(600))
        },
        move |request: &_| Reply::ranged(request, &all),
    );
    let began = Instant::now();
    let mut sink = Sink::default();
    fetch(&server, &descriptor, &mut sink).unwrap();
    assert_eq!(sink.bytes, bytes);
    assert_eq!(server.seen()[1].range_start(), Some(600));
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_dripping_body_is_too_slow() {
    let (bytes, descriptor) = blob(1000);
    let server = Server::start(move |request| {
        Reply::ranged(request, &bytes).fault(Fault::Drip(1, Duration::from_millis(100)))
    });
    let error = fetch(&server, &descriptor, &mut Sink::default()).unwrap_err();
    assert!(error.to_string().contains("too slow"), "{error}");
}

#[test]
fn a_long_but_steady_body_may_take_its_time() {
    let (bytes, descriptor) = blob(30_000);
    let all = bytes.clone();
    let server = Server::start(move |request| {
        Reply::ranged(request, &all).fault(Fault::Drip(1000, Duration::from_millis(100)))
    });
    let began = Instant::now();
    let mut sink = Sink::default();
    fetch(&server, &descriptor, &mut sink).unwrap();
    assert!(
        sink.bytes == bytes && began.elapsed() > Duration::from_millis(2500),
        "longer than one idle timeout"
    );
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn waits_as_the_registry_asks() {
    let (bytes, descriptor) = blob(1000);
    let all = bytes.clone();
    let server =
        script!(|_: &_| Reply::new(429).header("Retry-After", "1"), |_: &_| Reply::new(503), move |_: &_| {
            Reply::ok(&all)
        },);
    let began = Instant::now();
    let mut sink = Sink::default();
    fetch(&server, &descriptor, &mut sink).unwrap();
    assert_eq!(sink.bytes, bytes);
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn does_not_wait_for_hours_nor_repeat_what_is_final() {
    let (_, descriptor) = blob(1000);
    for (status, class) in
        [(429, Class::RateLimited), (404, Class::NotFound), (403, Class::Denied), (501, Class::Registry)]
    {
        let server = Server::start(move |_| {
            let body = br#"{"errors":[{"code":"SOME_CODE","message":"some words"}]}"#;
            Reply::new(status).header("Retry-After", "7200").body(body)
        });
        let error = fetch(&server, &descriptor, &mut Sink::default()).unwrap_err();
        assert_eq!((error.class(), server.seen().len()), (class, 1), "{error}");
        assert!(error.to_string().contains("SOME_CODE: some words"), "{error}");
    }
}

#[test]
fn an_error_of_the_sink_ends_the_fetch() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl BlobSink for Full {
        fn offset(&self) -> u64 {
            0
        }
        fn restart(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (bytes, descriptor) = blob(1000);
    let server = Server::start(move |_| Reply::ok(&bytes));
    let fetched = anonymous().fetch_blob(&repository(&server.host(), "app"), &descriptor, &mut Full, &|_| {});
    assert!(matches!(fetched, Err(Error::Sink { .. })), "{fetched:?}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn nobody_there_is_said_so() {
    let server = Server::start(|_| Reply::new(500));
    let host = server.host();
    drop(server);
    // The listener closes when its thread wakes.
    std::thread::sleep(Duration::from_millis(100));
    let error = anonymous().resolve(&crate::reference(&format!("{host}/app"))).unwrap_err();
    assert_eq!(error.class(), Class::Unreachable, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn redirects_do_not_go_on_for_ever() {
    let (_, descriptor) = blob(10);
    let server = Server::start(|_| Reply::new(302).header("Location", "/again"));
    let error = fetch(&server, &descriptor, &mut Sink::default()).unwrap_err();
    assert_eq!((error.class(), server.seen().len()), (Class::Refused, 6), "{error}");
}
