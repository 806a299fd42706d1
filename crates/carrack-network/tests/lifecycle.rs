//! Leases, port conflicts, what is left behind and what is restored.

mod world;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use carrack_network::{Attachment, Bridge, Error, Protocol, attach, detach, find, reload};
use world::{HOST, Namespace, World};

/// The ruleset as one would write it for `nft`.
const RULESET: &str = include_str!("ruleset.nft");

#[test]
fn the_rules_are_those_of_the_reference_text() {
    let world = World::new();
    let _one = world.attach("one", &["8080:80", "127.0.0.1:8081:81", "5353:53/udp"]);
    let reference = Namespace::new("ref");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), RULESET).unwrap();
    reference.run("nft", &["-f", file.path().to_str().unwrap()]);
    assert_eq!(world.table(), reference.run("nft", &["list", "table", "ip", "carrack0"]));
}

#[test]
fn other_tables_stay_as_they_are() {
    let world = World::new();
    let own = "table inet mine { chain input { type filter hook input priority 0; tcp dport 1 drop; }; }";
    world.host.run("nft", &[own]);
    let before = world.host.run("nft", &["list", "ruleset"]);
    let (_namespace, attachment) = world.attach("one", &["8080:80"]);
    world.detach(&attachment);
    world.host.run("nft", &["delete", "table", "ip", "carrack0"]);
    assert_eq!(world.host.run("nft", &["list", "ruleset"]), before);
}

#[test]
fn detach_gives_all_back_and_may_be_repeated() {
    let world = World::new();
    let (_namespace, attachment) = world.attach("one", &["8080:80", "127.0.0.1:8081:81/udp"]);
    assert!(world.table().contains("8080 : 10.87.0.2 . 80"));
    let found = world.host.enter(|| find(world.state.path(), &world.bridge.name, "one")).unwrap();
    assert_eq!(found.as_ref(), Some(&attachment));
    for _ in 0..2 {
        world.detach(&attachment);
        assert!(!world.table().contains("elements"), "{}", world.table());
        assert_eq!(find(world.state.path(), &world.bridge.name, "one").unwrap(), None);
    }
    let record = serde_json::to_string(&attachment).unwrap();
    assert_eq!(
        serde_json::from_str::<Attachment>(&record).unwrap(),
        attachment,
        "it can be kept in a record"
    );
}

#[test]
fn detach_without_namespace_table_or_state() {
    let world = World::new();
    let (namespace, attachment) = world.attach("one", &["8080:80"]);
    drop(namespace);
    world.host.run("nft", &["flush", "ruleset"]);
    world.detach(&attachment);
    let empty = tempfile::tempdir().unwrap();
    world.host.enter(|| detach(empty.path(), &attachment)).unwrap();
}

#[test]
fn a_late_detach_leaves_the_next_holder_alone() {
    let mut world = World::new();
    world.bridge.subnet = "10.87.0.0/30".parse().unwrap();
    let (namespace, first) = world.attach("one", &["8080:80"]);
    drop(namespace);
    world.wait_until_gone(&first);
    let (_namespace, second) = world.attach("two", &["8080:80"]);
    assert_eq!(first.address, second.address, "the only one there is");
    world.detach(&first);
    assert!(world.table().contains("8080"));
    assert_eq!(find(world.state.path(), &world.bridge.name, "two").unwrap(), Some(second));
}

#[test]
fn addresses_go_round() {
    let mut world = World::new();
    world.bridge.subnet = "10.87.0.0/29".parse().unwrap();
    let (one, first) = world.attach("one", &[]);
    drop(one);
    world.wait_until_gone(&first);
    world.detach(&first);
    let containers: Vec<_> = (0..5).map(|number| world.attach(&number.to_string(), &[])).collect();
    let last_octets: Vec<_> =
        containers.iter().map(|(_, attachment)| attachment.address.octets()[3]).collect();
    assert_eq!(last_octets, [3, 4, 5, 6, 2], "an address is not leased again at once");
    let error = world.try_attach("six", &Namespace::new("ctr"), &[]).unwrap_err();
    assert_eq!(error.to_string(), "cannot lease an address: all of subnet 10.87.0.0/29 are in use");
}

#[test]
fn the_address_of_a_namespace_that_lives_on_is_not_leased() {
    let mut world = World::new();
    world.bridge.subnet = "10.87.0.0/30".parse().unwrap();
    let (_namespace, attachment) = world.attach("one", &[]);
    world.detach(&attachment);
    let error = world.try_attach("two", &Namespace::new("ctr"), &[]).unwrap_err();
    assert!(matches!(error, Error::NoAddressLeft { .. }), "{error}");
}

#[test]
fn attaches_at_once_get_different_addresses_and_ports() {
    let world = World::new();
    let other_state = tempfile::tempdir().unwrap();
    let namespaces: Vec<_> = (0..8).map(|_| Namespace::new("ctr")).collect();
    let attachments: Vec<_> = thread::scope(|scope| {
        let attach_one = |number: usize| {
            let state = if number.is_multiple_of(2) { world.state.path() } else { other_state.path() };
            let ports = world::ports(&["80", "90/udp"]);
            let work = || attach(state, &world.bridge, &number.to_string(), namespaces[number].fd(), &ports);
            world.host.enter(work).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || attach_one(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let distinct = |mut keys: Vec<String>| {
        keys.sort();
        keys.dedup();
        keys.len()
    };
    assert_eq!(distinct(attachments.iter().map(|it| it.address.to_string()).collect()), 8);
    assert_eq!(distinct(attachments.iter().flat_map(|it| &it.ports).map(|it| it.host_side()).collect()), 16);
    assert!(attachments.iter().flat_map(|it| &it.ports).all(|port| port.host_port != 0));
}

#[test]
fn a_chosen_port_answers() {
    let world = World::new();
    let (container, attachment) = world.attach("one", &["80"]);
    let _server = container.serve_tcp(80);
    assert!(world.outside.ask_tcp((HOST, attachment.ports[0].host_port)).is_some());
}

#[track_caller]
fn refused(world: &World, port: &str, expected: &str) {
    let before = world.table();
    let error = world.try_attach("late", &Namespace::new("ctr"), &[port]).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(world.table(), before);
    assert_eq!(find(world.state.path(), &world.bridge.name, "late").unwrap(), None, "no lease is left");
}

#[test]
fn a_port_in_use_tells_by_whom() {
    let world = World::new();
    let (_one, _) = world.attach("one", &["8080:80", "127.0.0.1:8081:80"]);
    let _tcp = world.host.enter(|| TcpListener::bind("127.0.0.1:9000").unwrap());
    let _udp = world.host.enter(|| UdpSocket::bind("0.0.0.0:9001").unwrap());
    let used = |port: &str, side: &str, holder: &str| {
        let published = world::ports(&[port])[0];
        refused(&world, port, &format!("cannot publish port {published}: {side} is in use by {holder}"));
    };
    used("8080:80", "0.0.0.0:8080/tcp", "container one");
    used("127.0.0.1:8080:80", "127.0.0.1:8080/tcp", "container one");
    used("8081:80", "0.0.0.0:8081/tcp", "container one");
    used("9000:80", "0.0.0.0:9000/tcp", "a process of the host");
    used("9001:80/udp", "0.0.0.0:9001/udp", "a process of the host");
    let (_two, attachment) = world.attach("two", &["192.0.2.1:8081:80", "8080:80/udp", "192.0.2.1:9000:80"]);
    assert_eq!(attachment.ports[1].protocol, Protocol::Udp);
}

#[test]
fn ports_that_cannot_be_had() {
    let world = World::new();
    let _one = world.attach("one", &[]);
    refused(
        &world,
        "[::1]:80:80",
        "cannot publish port [::1]:80->80/tcp: the network has IPv4 addresses only",
    );
    let absent = "cannot publish port 198.51.100.7:80->80/tcp: Address not available (os error 99)";
    refused(&world, "198.51.100.7:80:80", absent);
    let error = world.try_attach("two", &Namespace::new("ctr"), &["80:80", "127.0.0.1:80:81"]).unwrap_err();
    assert!(error.to_string().ends_with("in use by another published port of the same container"), "{error}");
}

#[test]
fn many_ports_in_one_range() {
    let world = World::new();
    let (container, attachment) =
        world.attach("one", &["20000-21999:20000-21999", "127.0.0.1:5000-5600:5000-5600/udp"]);
    let _server = container.serve_tcp(21999);
    assert!(world.outside.ask_tcp((HOST, 21999)).is_some());
    world.detach(&attachment);
    assert!(!world.table().contains("elements"));
}

#[test]
fn the_port_of_a_dead_container_is_free() {
    let world = World::new();
    let (one, first) = world.attach("one", &["8080:80"]);
    drop(one);
    world.wait_until_gone(&first);
    let (two, _) = world.attach("two", &["8080:80"]);
    let _server = two.serve_tcp(80);
    assert!(world.outside.ask_tcp((HOST, 8080)).is_some());
    assert_eq!(
        find(world.state.path(), &world.bridge.name, "one").unwrap(),
        None,
        "the dead lease is taken back"
    );
}

#[test]
fn a_flushed_ruleset_is_restored_with_all_ports() {
    let world = World::new();
    let (one, _) = world.attach("one", &["8080:80", "127.0.0.1:8081:80"]);
    let _server = one.serve_tcp(80);
    let before = world.table();
    world.host.run("nft", &["flush", "ruleset"]);
    assert!(world.outside.ask_tcp((HOST, 8080)).is_none());
    let (_two, _) = world.attach("two", &[]);
    assert_eq!(world.table(), before);
    assert!(world.outside.ask_tcp((HOST, 8080)).is_some(), "by the next attach");

    world.host.run("nft", &["flush", "ruleset"]);
    world.host.enter(|| reload(world.state.path(), &world.bridge)).unwrap();
    assert_eq!(world.table(), before, "by reload");

    world.host.run("nft", &["flush", "map", "ip", "carrack0", "ports"]);
    world.host.enter(|| reload(world.state.path(), &world.bridge)).unwrap();
    assert_eq!(world.table(), before, "single elements, by reload");
}

#[test]
fn rules_of_another_version_are_replaced() {
    let world = World::new();
    let (_one, _) = world.attach("one", &["8080:80"]);
    let before = world.table();
    world
        .host
        .run("nft", &["delete table ip carrack0; add table ip carrack0 { comment \"carrack ruleset 0\"; }"]);
    let (_two, _) = world.attach("two", &[]);
    assert_eq!(world.table(), before);
}

#[test]
fn a_bridge_that_was_made_halfway_is_finished() {
    let world = World::new();
    world.host.run("ip", &["link", "add", "carrack0", "type", "bridge"]);
    let (container, attachment) = world.attach("one", &[]);
    let _server = world.host.serve_tcp(7000);
    assert!(container.ask_tcp((attachment.gateway, 7000)).is_some());
}

#[test]
fn a_failed_attach_leaves_nothing() {
    let world = World::new();
    let taken = Namespace::new("ctr");
    taken.run("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]);
    let error = world.try_attach("one", &taken, &["8080:80"]).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot create interfaces veth0a570002 and eth0: File exists"),
        "{error}"
    );

    let routed = Namespace::new("ctr");
    routed.run("ip", &["link", "add", "any0", "type", "veth", "peer", "name", "any1"]);
    routed.run("ip", &["link", "set", "any0", "up"]);
    routed.run("ip", &["address", "add", "203.0.113.1/24", "dev", "any0"]);
    routed.run("ip", &["route", "add", "default", "via", "203.0.113.2"]);
    let error = world.try_attach("one", &routed, &["8080:80"]).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot add the default route by 10.87.0.1: File exists"),
        "{error}"
    );

    assert_eq!(find(world.state.path(), &world.bridge.name, "one").unwrap(), None);
    assert!(!world.host.run("ip", &["-o", "link"]).contains("veth0a57"));
    assert!(!world.table().contains("elements"));
}

#[test]
fn a_subnet_that_the_host_has_already_is_refused() {
    let mut world = World::new();
    world.bridge.subnet = "192.0.2.0/24".parse().unwrap();
    let error = world.try_attach("one", &Namespace::new("ctr"), &[]).unwrap_err();
    let expected =
        "cannot create bridge carrack0: subnet 192.0.2.0/24 overlaps 192.0.2.1/24 of interface wan0";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_interface_that_is_no_bridge_is_refused() {
    let world = World::new();
    world.host.run("ip", &["link", "add", "carrack0", "type", "veth", "peer", "name", "x0"]);
    let error = world.try_attach("one", &Namespace::new("ctr"), &[]).unwrap_err();
    assert!(matches!(error, Error::NotABridge { .. }), "{error}");
}

#[test]
fn a_descriptor_that_is_no_namespace_is_refused() {
    use std::os::fd::AsFd;
    let world = World::new();
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let attached = world.host.enter(|| attach(world.state.path(), &world.bridge, "one", file.as_fd(), &[]));
    assert!(attached.is_err());
    assert_eq!(find(world.state.path(), &world.bridge.name, "one").unwrap(), None);
}

#[test]
fn two_bridges_are_two_networks() {
    let world = World::new();
    let other = Bridge { name: "carrack1".to_owned().try_into().unwrap(), ..world.bridge.clone() };
    let other = Bridge { subnet: "10.86.0.0/24".parse().unwrap(), ..other };
    let (one, _) = world.attach("one", &[]);
    let two = Namespace::new("ctr");
    let ports = world::ports(&["8080:80"]);
    let second = world.host.enter(|| attach(world.state.path(), &other, "two", two.fd(), &ports)).unwrap();
    assert_eq!(second.address, Ipv4Addr::new(10, 86, 0, 2));
    let _server = two.serve_tcp(80);
    assert_eq!(one.ask_tcp((second.address, 80)), None, "apart");
    assert!(one.ask_tcp((HOST, 8080)).is_some(), "but for published ports");
    assert!(world.outside.ask_tcp((HOST, 8080)).is_some());
}

impl World {
    /// Waits until the kernel has removed the interfaces of a namespace that is gone.
    fn wait_until_gone(&self, attachment: &Attachment) {
        let patience = Instant::now() + Duration::from_secs(10);
        while self.host.run("ip", &["-o", "link"]).contains(attachment.host_interface.as_str()) {
            assert!(Instant::now() < patience, "{} is still there", attachment.host_interface);
            thread::sleep(Duration::from_millis(5));
        }
    }
}
