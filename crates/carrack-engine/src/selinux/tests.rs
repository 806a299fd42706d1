//! Contexts are chosen from the files of a host that is made up: the development machine has no SELinux.

use std::fs;

use carrack_container::{ContainerId, Program};
use carrack_oci::Digest;
use tempfile::TempDir;

use super::*;

/// As container-selinux has it.
const LXC_CONTEXTS: &str = r#"
# comment
process = "system_u:system_r:container_t:s0"
content = "system_u:object_r:virt_var_lib_t:s0"
file = "system_u:object_r:container_file_t:s0"
ro_file="system_u:object_r:container_ro_file_t:s0"
"#;

fn host(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn host_with_selinux() -> TempDir {
    host(&[
        ("sys/fs/selinux/enforce", "1"),
        ("proc/self/attr/current", "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0"),
        ("etc/selinux/config", "# which\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"),
        ("etc/selinux/targeted/contexts/lxc_contexts", LXC_CONTEXTS),
    ])
}

/// A store and the host that its containers are on.
struct Place {
    host: TempDir,
    root: TempDir,
    containers: ContainerStore,
}

fn place(host: TempDir) -> Place {
    let root = tempfile::tempdir().unwrap();
    let containers = ContainerStore::open(&root.path().join("root"), &root.path().join("run")).unwrap();
    Place { host, root, containers }
}

impl Place {
    fn create(&self, change: impl FnOnce(&mut HostSettings)) -> Result<ContainerRecord> {
        let id = ContainerId::random().unwrap();
        let mut record = ContainerRecord {
            name: id.short().parse().unwrap(),
            created: jiff::Timestamp::now(),
            image: "app:1".into(),
            image_id: Digest::of(b"config"),
            root_folder: None,
            snapshot: format!("container-{id}"),
            program: Program::default(),
            host: HostSettings::default(),
            labels: [].into(),
            id,
        };
        change(&mut record.host);
        let lock = self.root.path().join("lock");
        let _held = assign(self.host.path(), &lock, &self.containers, &mut record)?;
        self.containers.create(&record)?;
        Ok(record)
    }

    fn contexts(&self, options: &[&str]) -> Contexts {
        let record = self.create(|host| host.security.options = strings(options)).unwrap();
        record.host.security.contexts.unwrap()
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn level(contexts: &Contexts) -> String {
    Context::parse(&contexts.files).unwrap().level.unwrap()
}

#[test]
fn where_selinux_is_off_there_are_no_contexts_but_what_is_asked_for_is_checked() {
    let no_policy_loaded = host(&[("sys/fs/selinux/enforce", "0"), ("proc/self/attr/current", "kernel\0")]);
    for host in [host(&[]), no_policy_loaded] {
        let place = place(host);
        let asked = |option: &str| place.create(|host| host.security.options = strings(&[option]));
        assert_eq!(asked("label=type:container_t").unwrap().host.security.contexts, None);
        for wrong in
            ["label=", "label=type:", "label=type:a b", "label=disable-everything", "label=disable:x"]
        {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }
}

#[test]
fn contexts_are_those_of_the_policy_with_categories_of_the_containers_own() {
    let place = place(host_with_selinux());
    let contexts = place.contexts(&["no-new-privileges"]);
    let level = level(&contexts);
    let (one, two) = categories(&level).unwrap();
    assert!(one < two && two < CATEGORIES, "{level}");
    assert_eq!(contexts.process.unwrap(), format!("system_u:system_r:container_t:s0:c{one},c{two}"));
    assert_eq!(contexts.files, format!("system_u:object_r:container_file_t:s0:c{one},c{two}"));
    assert_eq!(shared(&contexts.files), "system_u:object_r:container_file_t:s0");
}

#[test]
fn the_file_of_container_selinux_comes_first_and_a_policy_may_have_no_levels() {
    let own = "process = \"a_u:a_r:a_t\"\nfile = \"a_u:object_r:a_file_t\"\n";
    let place = place(host(&[
        ("sys/fs/selinux/enforce", "1"),
        ("usr/share/containers/selinux/contexts", own),
        ("etc/selinux/config", "SELINUXTYPE=targeted"),
        ("etc/selinux/targeted/contexts/lxc_contexts", LXC_CONTEXTS),
    ]));
    let contexts = place.contexts(&[]);
    assert_eq!(
        (contexts.process.as_deref(), &*contexts.files),
        (Some("a_u:a_r:a_t"), "a_u:object_r:a_file_t")
    );
}

#[test]
fn a_policy_without_containers_gives_nothing_and_refuses_what_is_asked_for() {
    let place = place(host(&[("sys/fs/selinux/enforce", "1"), ("etc/selinux/config", "SELINUXTYPE=../..")]));
    assert_eq!(place.create(|_| {}).unwrap().host.security.contexts, None);
    let disabled = place.create(|host| host.security.options = strings(&["label=disable"]));
    assert_eq!(disabled.unwrap().host.security.contexts, None);
    let error = place.create(|host| host.security.options = strings(&["label=type:a_t"])).unwrap_err();
    assert!(error.to_string().contains("has no labels for containers"), "{error}");
}

#[test]
fn options_replace_parts_of_both_contexts() {
    let place = place(host_with_selinux());
    let contexts =
        place.contexts(&["label=type:svirt_apache_t", "label=level:s0:c100,c200", "label=role:r_r"]);
    assert_eq!(contexts.process.as_deref(), Some("system_u:r_r:svirt_apache_t:s0:c100,c200"));
    assert_eq!(contexts.files, "system_u:object_r:container_file_t:s0:c100,c200");
    let contexts = place.contexts(&["label=user:u_u", "label=filetype:f_t", "label=level:s0"]);
    assert_eq!(contexts.process.as_deref(), Some("u_u:system_r:container_t:s0"));
    assert_eq!(contexts.files, "u_u:object_r:f_t:s0");
}

#[test]
fn who_is_unconfined_has_files_that_no_other_container_reaches() {
    let place = place(host_with_selinux());
    let unconfined =
        Contexts { process: None, files: "system_u:object_r:container_file_t:s0:c1022,c1023".to_owned() };
    assert_eq!(place.contexts(&["label=disable", "label=type:a_t"]), unconfined);
    let changes: [fn(&mut HostSettings); 3] = [
        |host| host.security.privileged = true,
        |host| host.namespaces.pid = NamespaceMode::Host,
        |host| host.namespaces.ipc = IpcMode::Of(NamespaceMode::Host),
    ];
    for change in changes {
        assert_eq!(place.create(change).unwrap().host.security.contexts.unwrap(), unconfined);
    }
    assert!(taken(&[]).contains(&(1022, 1023)));
}

#[test]
fn who_shares_processes_or_memory_has_the_context_of_the_other() {
    let place = place(host_with_selinux());
    let other = place.create(|host| host.security.options = strings(&["label=type:a_t"])).unwrap();
    let named = || NamespaceMode::Container(other.id.to_string());
    let contexts = other.host.security.contexts.unwrap();
    let joined = place.create(|host| host.namespaces.pid = named()).unwrap();
    assert_eq!(joined.host.security.contexts.as_ref(), Some(&contexts));
    let joined = place.create(|host| host.namespaces.ipc = IpcMode::Of(named())).unwrap();
    assert_eq!(joined.host.security.contexts.as_ref(), Some(&contexts));
}

#[test]
fn no_pair_is_given_twice_and_a_removed_container_gives_its_own_back() {
    let place = place(host_with_selinux());
    let mut levels: Vec<String> = std::thread::scope(|scope| {
        let many = || (0..20).map(|_| level(&place.contexts(&[]))).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(many)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    levels.sort();
    levels.dedup();
    assert_eq!(levels.len(), 160);

    let one = place.create(|_| {}).unwrap();
    let own = categories(&level(one.host.security.contexts.as_ref().unwrap())).unwrap();
    assert!(taken(&place.containers.list().unwrap()).contains(&own));
    place.containers.lock(&one.id).unwrap().delete().unwrap();
    assert!(!taken(&place.containers.list().unwrap()).contains(&own));
}

#[test]
fn every_pair_is_found_once_before_there_are_none() {
    let mut taken = BTreeSet::new();
    for number in 0..6 {
        let (one, two) = free_pair(&taken, 4, 9 * number + u32::MAX / 2).unwrap();
        assert!(one < two && two < 4);
        assert!(taken.insert((one, two)));
    }
    assert_eq!(free_pair(&taken, 4, 7), None);
    assert_eq!((pair(0), pair(2), pair(3)), ((0, 1), (1, 2), (0, 3)));
    assert_eq!(pair(1024 * 1023 / 2 - 1), (1022, 1023));
}
