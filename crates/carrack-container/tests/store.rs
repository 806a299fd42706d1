//! The container store: names, lookups, states across crashes and reboots.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use carrack_container::{
    ContainerId, ContainerRecord, ContainerState, ContainerStore, Effect, Error, Exit, HostSettings,
    ProcessId, Program, Resources, Status,
};
use carrack_oci::Digest;
use jiff::Timestamp;
use tempfile::TempDir;

struct Place {
    root: TempDir,
    runroot: TempDir,
    store: ContainerStore,
}

fn place() -> Place {
    let (root, runroot) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = ContainerStore::open(root.path(), runroot.path()).unwrap();
    Place { root, runroot, store }
}

impl Place {
    /// Takes the run folder away, as a reboot does.
    fn reboot(&mut self) {
        self.runroot = tempfile::tempdir().unwrap();
        self.store = ContainerStore::open(self.root.path(), self.runroot.path()).unwrap();
    }

    fn create(&self, name: &str) -> ContainerId {
        let record = record(name);
        self.store.create(&record).unwrap();
        record.id
    }

    fn folders(&self) -> usize {
        fs::read_dir(self.root.path().join("containers")).unwrap().count()
    }
}

fn record(name: &str) -> ContainerRecord {
    ContainerRecord {
        id: ContainerId::random().unwrap(),
        name: name.parse().unwrap(),
        created: Timestamp::now(),
        image: "app:1".into(),
        image_id: Digest::of(b"config"),
        root_folder: None,
        snapshot: format!("container-{name}"),
        program: Program { command: vec!["sleep".into(), "1".into()], tty: true, ..Program::default() },
        host: HostSettings {
            resources: Resources { memory_bytes: Some(1 << 30), ..Resources::default() },
            ..HostSettings::default()
        },
        labels: [("a".to_owned(), "b".to_owned())].into(),
    }
}

/// A process to play the monitor; killed when the test ends.
struct Victim(Child);

impl Victim {
    fn spawn() -> Self {
        Self(Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap())
    }

    fn id(&self) -> ProcessId {
        ProcessId::of(i32::try_from(self.0.id()).unwrap()).unwrap()
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.kill();
    }
}

fn link(root: &Path, name: &str) -> std::path::PathBuf {
    root.join("container-names").join(name)
}

#[test]
fn a_record_comes_back_as_it_was() {
    let place = place();
    let record = record("web");
    place.store.create(&record).unwrap();
    let found = place.store.get(&record.id).unwrap();
    assert_eq!(*found.record, record);
    assert_eq!(found.state, ContainerState::default());
}

#[test]
fn finds_by_id_name_and_unique_beginning() {
    let place = place();
    let (one, two) = (place.create("one"), place.create("two"));
    let find = |text: &str| place.store.find(text).map(|container| container.record.id);
    assert_eq!(find(one.as_str()).unwrap(), one);
    assert_eq!(find("two").unwrap(), two);
    assert_eq!(find("/two").unwrap(), two);
    assert_eq!(find(one.short()).unwrap(), one);
    assert!(find("nobody").unwrap_err().is_not_found());
    assert!(find("").unwrap_err().is_not_found());
    assert!(find("../containers").unwrap_err().is_not_found());
    assert!(find(&"f".repeat(64)).unwrap_err().is_not_found());
}

#[test]
fn a_name_wins_over_the_beginning_of_an_id_and_ambiguity_is_refused() {
    let place = place();
    let ids: Vec<_> = (0..17).map(|number| place.create(&format!("c{number:02}"))).collect();
    let digit = |id: &ContainerId| id.as_str()[..1].to_owned();
    let twice =
        ids.iter().map(digit).find(|first| ids.iter().filter(|id| digit(id) == *first).count() > 1).unwrap();
    assert!(matches!(place.store.find(&twice), Err(Error::Ambiguous { count: 2.., .. })));
    let named = place.create(&ids[0].as_str()[..8]);
    assert_eq!(place.store.find(&ids[0].as_str()[..8]).unwrap().record.id, named);
}

#[test]
fn one_of_many_gets_a_name_and_the_others_leave_nothing() {
    let place = place();
    let won = std::thread::scope(|scope| {
        let attempts: Vec<_> = (0..8).map(|_| scope.spawn(|| place.store.create(&record("web")))).collect();
        attempts.into_iter().map(|attempt| attempt.join().unwrap()).filter(Result::is_ok).count()
    });
    assert_eq!((won, place.folders()), (1, 1));
    let error = place.store.create(&record("web")).unwrap_err();
    assert!(matches!(error, Error::NameTaken { .. }), "{error}");
}

#[test]
fn random_names_do_not_collide() {
    let place = place();
    for _ in 0..50 {
        let mut record = record("unset");
        place.store.create_with_random_name(&mut record).unwrap();
        assert_eq!(place.store.find(record.name.as_str()).unwrap().record.id, record.id);
    }
    assert_eq!(place.store.list().unwrap().len(), 50);
}

#[test]
fn a_creation_cut_short_is_not_there_and_is_swept() {
    let place = place();
    let id = place.create("web");
    // As if the process had been killed before the name was claimed.
    fs::remove_file(link(place.root.path(), "web")).unwrap();
    assert!(place.store.list().unwrap().is_empty());
    assert!(place.store.find(id.short()).unwrap_err().is_not_found());
    assert!(place.store.lock(&id).unwrap_err().is_not_found());
    let again = place.create("web");
    place.store.sweep().unwrap();
    assert_eq!(place.folders(), 1);
    assert_eq!(place.store.find("web").unwrap().record.id, again);
}

#[test]
fn a_name_whose_container_is_gone_is_free() {
    let place = place();
    let id = place.create("web");
    fs::remove_dir_all(place.store.folder(&id)).unwrap();
    assert!(place.store.find("web").unwrap_err().is_not_found());
    let again = place.create("web");
    assert_eq!(place.store.find("web").unwrap().record.id, again);
}

#[test]
fn renames_and_repairs_a_rename_cut_short() {
    let place = place();
    let id = place.create("old");
    let other = place.create("other");
    let lock = place.store.lock(&id).unwrap();
    assert!(
        matches!(lock.rename(&"other".parse().unwrap()), Err(Error::NameTaken { owner, .. }) if owner == other)
    );
    lock.rename(&"new".parse().unwrap()).unwrap();
    drop(lock);
    assert!(place.store.find("old").unwrap_err().is_not_found());
    assert_eq!(place.store.find("new").unwrap().record.id, id);
    // As if a later rename had been killed between the claim and the record.
    let target = fs::read_link(link(place.root.path(), "new")).unwrap();
    assert!(target.as_os_str().len() < 60, "{}: it takes a block of the disk", target.display());
    std::os::unix::fs::symlink(target, link(place.root.path(), "newer")).unwrap();
    assert!(place.store.find("newer").unwrap_err().is_not_found());
    assert_eq!(place.store.list().unwrap().len(), 2);
    let taker = place.create("newer");
    assert_eq!(place.store.find("newer").unwrap().record.id, taker);
    assert_eq!(place.store.find("new").unwrap().record.id, id);
}

#[test]
fn all_of_many_are_listed_newest_first() {
    let place = place();
    let ids: Vec<_> = (0..150).map(|number| place.create(&format!("name{number}"))).collect();
    fs::write(place.root.path().join("containers").join(ids[149].as_str()).join("container.json"), "{")
        .unwrap();
    let listed: Vec<_> = place.store.list().unwrap().into_iter().map(|found| found.record).collect();
    assert!(listed.is_sorted_by(|one, next| one.created >= next.created));
    let listed: BTreeSet<_> = listed.into_iter().map(|record| record.id).collect();
    assert_eq!(listed, ids[..149].iter().cloned().collect(), "what cannot be read is left out");
}

#[test]
fn delete_frees_the_name_and_leaves_nothing() {
    let place = place();
    let id = place.create("web");
    fs::write(place.store.log_path(&id), "log").unwrap();
    place.store.lock(&id).unwrap().delete().unwrap();
    assert_eq!(place.folders(), 0);
    assert!(!place.store.run_folder(&id).exists());
    assert!(place.store.get(&id).unwrap_err().is_not_found());
    place.create("web");
}

#[test]
fn whoever_waited_for_the_lock_of_a_deleted_container_is_told() {
    let place = place();
    let id = place.create("web");
    let lock = place.store.lock(&id).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| place.store.lock(&id).map(drop));
        std::thread::sleep(Duration::from_millis(50));
        lock.delete().unwrap();
        assert!(waiter.join().unwrap().unwrap_err().is_not_found());
    });
    assert!(!place.store.run_folder(&id).exists());
}

#[test]
fn a_refused_change_writes_nothing() {
    let place = place();
    let id = place.create("web");
    let refused = place.store.update(&id, |state| {
        state.announce(Effect::Cgroup { path: "/x".into() });
        state.run(ProcessId::current()?)
    });
    assert!(matches!(refused, Err(Error::Transition { .. })));
    assert_eq!(place.store.get(&id).unwrap().state, ContainerState::default());
}

#[test]
fn a_killed_monitor_ends_the_container_and_every_wait_for_it() {
    let place = place();
    let id = place.create("web");
    let mut monitor = Victim::spawn();
    let running = |state: &mut ContainerState| {
        state.start(monitor.id())?;
        state.announce(Effect::Cgroup { path: "/carrack/x".into() });
        state.run(ProcessId::current()?)
    };
    assert_eq!(place.store.update(&id, running).unwrap().status, Status::Running);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| place.store.wait(&id, None, |state| !state.status.is_active()).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        monitor.kill();
        let state = waiter.join().unwrap();
        assert_eq!((state.status, state.lost), (Status::Exited, true));
        assert_eq!(state.effects, [Effect::Cgroup { path: "/carrack/x".into() }]);
        assert!(state.init.is_some_and(|init| init.is_alive()), "there is somebody left to kill");
    });
}

#[test]
fn a_wait_ends_with_the_change_or_with_its_limit() {
    let place = place();
    let id = place.create("web");
    place.store.update(&id, |state| state.start(ProcessId::current()?)).unwrap();
    let is_running = |state: &ContainerState| state.status == Status::Running;
    let state = place.store.wait(&id, Some(Duration::from_millis(30)), is_running).unwrap();
    assert_eq!(state.status, Status::Creating);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            place.store.wait(&id, None, is_running).unwrap();
            Instant::now()
        });
        std::thread::sleep(Duration::from_millis(50));
        let changed = Instant::now();
        place.store.update(&id, |state| state.run(ProcessId::current()?)).unwrap();
        assert!(waiter.join().unwrap() - changed < Duration::from_millis(900), "told, not found out later");
    });
}

#[test]
fn a_reboot_loses_running_containers_and_keeps_the_rest() {
    let mut place = place();
    let (never, running, exited) = (place.create("never"), place.create("running"), place.create("exited"));
    let start = |state: &mut ContainerState| {
        state.start(ProcessId { boot_id: "an earlier boot".into(), ..ProcessId::current()? })
    };
    place.store.update(&running, start).unwrap();
    place
        .store
        .update(&exited, |state| {
            state.start(ProcessId::current()?)?;
            state.run(ProcessId::current()?)?;
            state.exit(Exit::Code(3), false)
        })
        .unwrap();
    place.reboot();
    let state = |id| place.store.get(id).unwrap().state;
    assert_eq!(state(&never), ContainerState::default());
    assert_eq!((state(&running).status, state(&running).lost), (Status::Exited, true));
    assert_eq!((state(&exited).exit_code, state(&exited).lost), (Some(3), false));
    place.store.update(&exited, |state| state.start(ProcessId::current()?)).unwrap();
    assert_eq!(state(&exited).status, Status::Creating);
}

#[test]
fn damage_to_one_container_leaves_the_others_usable() {
    let place = place();
    let (good, bad, empty, torn) =
        (place.create("good"), place.create("bad"), place.create("empty"), place.create("torn"));
    fs::write(place.store.folder(&bad).join("container.json"), "{").unwrap();
    fs::write(place.store.folder(&empty).join("container.json"), "").unwrap();
    fs::write(place.store.run_folder(&torn).join("state.json"), "{\"sta").unwrap();
    let mut listed: Vec<_> =
        place.store.list().unwrap().into_iter().map(|container| container.record.id).collect();
    listed.sort();
    let mut expected = vec![good, torn.clone()];
    expected.sort();
    assert_eq!(listed, expected);
    assert!(place.store.get(&torn).unwrap().state.lost);
    assert!(matches!(place.store.get(&bad), Err(Error::Corrupt { .. })));
    place.store.sweep().unwrap();
    assert!(!place.store.folder(&empty).exists(), "it was never durable");
    assert!(place.store.folder(&bad).exists(), "not ours to throw away");
    place.store.lock(&bad).unwrap().delete().unwrap();
    place.create("bad");
}

#[test]
fn folders_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = place();
    let id = place.create("web");
    let containers = place.root.path().join("containers");
    let names = place.root.path().join("container-names");
    for folder in [&containers, &names, &place.store.folder(&id), &place.store.run_folder(&id)] {
        assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700, "{}", folder.display());
    }
}
