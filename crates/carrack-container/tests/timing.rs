//! Figures for the log of a run; no test fails by time.

use std::time::Instant;

use carrack_container::{ContainerId, ContainerRecord, ContainerStore, HostSettings, ProcessId, Program};
use carrack_oci::Digest;
use jiff::Timestamp;

#[test]
fn a_hundred_containers() {
    let (root, runroot) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/run").unwrap());
    let store = ContainerStore::open(root.path(), runroot.path()).unwrap();
    for number in 0..100 {
        let mut record = ContainerRecord {
            id: ContainerId::random().unwrap(),
            name: "unset".parse().unwrap(),
            created: Timestamp::now(),
            image: "app:1".into(),
            image_id: Digest::of(b"config"),
            snapshot: "key".into(),
            program: Program { env: vec!["PATH=/usr/bin".into(); 10], ..Program::default() },
            host: HostSettings { auto_remove: number % 2 == 0, ..HostSettings::default() },
            labels: [("a".to_owned(), "b".to_owned())].into(),
        };
        let started = Instant::now();
        store.create_with_random_name(&mut record).unwrap();
        let created = started.elapsed();
        store.update(&record.id, |state| state.start(ProcessId::current()?)).unwrap();
        let starting = started.elapsed() - created;
        store.update(&record.id, |state| state.run(ProcessId::current()?)).unwrap();
        if number > 97 {
            eprintln!(
                "durable {}: create {created:?}, start {starting:?}, run {:?}",
                number % 2,
                started.elapsed() - created - starting
            );
        }
    }
    let best = (0..20).map(|_| {
        let (started, cpu) = (Instant::now(), cpu_nanoseconds());
        assert_eq!(store.list().unwrap().len(), 100);
        (started.elapsed(), (cpu_nanoseconds() - cpu) / 1_000)
    });
    eprintln!("list 100 (wall, CPU in us): {:?}", best.min().unwrap());
}

fn cpu_nanoseconds() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
