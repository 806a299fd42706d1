//! Containers that reach and are reached, by real sockets between real namespaces.

mod world;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Instant;

use carrack_network::InterfaceName;
use world::{HOST, Namespace, OUTSIDE, World, ask_by};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn to(address: Ipv4Addr, port: u16) -> SocketAddr {
    (address, port).into()
}

#[test]
fn a_container_reaches_the_host_the_outside_and_its_neighbour() {
    let world = World::new();
    let (container, attachment) = world.attach("one", &[]);
    let (neighbour, neighbours) = world.attach("two", &[]);
    let _servers =
        (world.host.serve_tcp(7000), world.outside.serve_tcp(7001), world.outside.serve_udp(7002, ""));
    let _neighbour = neighbour.serve_tcp(7003);

    let start = Instant::now();
    let seen_by_host = container.ask_tcp(to(attachment.gateway, 7000)).expect("the bridge's address answers");
    let first_connection = start.elapsed();
    assert_eq!(seen_by_host, attachment.address.to_string());
    assert!(first_connection.as_millis() < 500, "the first packet was lost: {first_connection:?}");

    assert_eq!(container.ask_tcp(to(OUTSIDE, 7001)).unwrap(), HOST.to_string(), "masqueraded");
    assert!(container.ask_udp(to(OUTSIDE, 7002)).unwrap().starts_with(&HOST.to_string()));
    assert_eq!(container.ask_tcp(to(neighbours.address, 7003)).unwrap(), attachment.address.to_string());
}

#[test]
fn the_container_has_what_the_attachment_says() {
    let world = World::new();
    world.host.run("ip", &["link", "set", "wan0", "mtu", "1400"]);
    let (container, attachment) = world.attach("one", &[]);
    let address = container.run("ip", &["-4", "-o", "address", "show", "dev", attachment.interface.as_str()]);
    assert!(
        address.contains(&format!("{}/{} brd 10.87.255.255", attachment.address, attachment.prefix)),
        "{address}"
    );
    let link = container.run("ip", &["link", "show", attachment.interface.as_str()]);
    assert!(link.contains(&attachment.mac.to_string()) && link.contains("mtu 1400"), "{link}");
    let route = container.run("ip", &["route", "show", "default"]);
    assert!(route.starts_with(&format!("default via {} dev eth0", attachment.gateway)), "{route}");
    assert!(container.run("ip", &["link", "show", "lo"]).contains("UP"));
    let master = world.host.run("ip", &["link", "show", attachment.host_interface.as_str()]);
    assert!(master.contains("master carrack0"), "{master}");
}

#[test]
fn a_published_port_answers_from_everywhere() {
    let world = World::new();
    // Where the file is absent the setting is off anyway.
    let _ = world.host.enter(|| std::fs::write(BR_NETFILTER, "0"));
    answers_from_everywhere(&world);
}

#[test]
#[allow(clippy::print_stderr)]
fn a_published_port_answers_from_everywhere_with_br_netfilter() {
    let world = World::new();
    match world.host.enter(|| std::fs::write(BR_NETFILTER, "1")) {
        Ok(()) => answers_from_everywhere(&world),
        Err(error) => eprintln!("skipped: this kernel has no br_netfilter ({error})"),
    }
}

/// Whether frames within a bridge go through the rules for packets; a setting of each network namespace.
const BR_NETFILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

fn answers_from_everywhere(world: &World) {
    let (container, attachment) = world.attach("one", &["8080:80", "5353:53/udp"]);
    let (neighbour, _) = world.attach("two", &[]);
    let _servers = (container.serve_tcp(80), container.serve_udp(53, "container"));
    let gateway = attachment.gateway;
    for (who, namespace, address, seen) in [
        ("outside", &world.outside, HOST, OUTSIDE),
        ("host by 127.0.0.1", &world.host, LOCALHOST, gateway),
        ("host by 127.9.9.9", &world.host, Ipv4Addr::new(127, 9, 9, 9), gateway),
        ("host by its address", &world.host, HOST, HOST),
        ("host by the bridge's address", &world.host, gateway, gateway),
        ("the container itself", &container, HOST, gateway),
        ("the container itself by the bridge's address", &container, gateway, gateway),
        ("a neighbour", &neighbour, HOST, gateway),
    ] {
        assert_eq!(namespace.ask_tcp(to(address, 8080)).as_deref(), Some(&*seen.to_string()), "tcp, {who}");
        assert_eq!(namespace.ask_udp(to(address, 5353)), Some(format!("{seen} container")), "udp, {who}");
    }
    assert_eq!(
        world.host.ask_tcp(to(attachment.address, 80)),
        Some(gateway.to_string()),
        "not by way of a port"
    );
    assert_eq!(world.outside.ask_tcp(to(HOST, 80)), None, "the container's port number is not the host's");
}

#[test]
fn an_address_of_a_published_port_is_kept_to() {
    let world = World::new();
    let (container, _) = world.attach("one", &["127.0.0.1:8080:80", "192.0.2.1:8081:80"]);
    let _server = container.serve_tcp(80);
    assert!(world.host.ask_tcp(to(LOCALHOST, 8080)).is_some());
    assert!(world.host.ask_tcp(to(HOST, 8080)).is_none());
    assert!(world.outside.ask_tcp(to(HOST, 8080)).is_none());
    assert!(world.outside.ask_tcp(to(HOST, 8081)).is_some());
    assert!(world.host.ask_tcp(to(LOCALHOST, 8081)).is_none());
}

/// Lets a namespace send packets to 127.0.0.1 over the wire, as an attacker would.
fn forge_loopback(attacker: &Namespace, router: Ipv4Addr, interface: &str) {
    attacker.run("ip", &["link", "set", "lo", "up"]);
    attacker.run("ip", &["address", "flush", "dev", "lo"]);
    for scope in ["all", interface] {
        attacker
            .enter(|| std::fs::write(format!("/proc/sys/net/ipv4/conf/{scope}/route_localnet"), "1"))
            .unwrap();
    }
    attacker.run("ip", &["route", "add", "127.0.0.1/32", "via", &router.to_string(), "dev", interface]);
}

#[test]
fn a_port_of_127_0_0_1_does_not_answer_to_a_forged_packet() {
    let world = World::new();
    let (container, _) = world.attach("one", &["127.0.0.1:8080:80"]);
    let _server = container.serve_tcp(80);
    forge_loopback(&world.outside, HOST, "wan1");
    assert_eq!(world.outside.ask_tcp(to(LOCALHOST, 8080)), None);
    assert!(world.host.ask_tcp(to(LOCALHOST, 8080)).is_some(), "while the host itself is answered");
    world.host.run("nft", &["flush", "chain", "ip", "carrack0", "guard"]);
    assert!(world.outside.ask_tcp(to(LOCALHOST, 8080)).is_some(), "the attack works once the guard is gone");
}

#[test]
fn a_container_does_not_reach_the_loopback_services_of_the_host() {
    let world = World::new();
    let (container, attachment) = world.attach("one", &[]);
    let listener = world.host.enter(|| TcpListener::bind((LOCALHOST, 7000)).unwrap());
    forge_loopback(&container, attachment.gateway, "eth0");
    let connects = || {
        container
            .enter(|| std::net::TcpStream::connect_timeout(&to(LOCALHOST, 7000), world::PATIENCE).is_ok())
    };
    assert!(!connects());
    world.host.run("nft", &["flush", "chain", "ip", "carrack0", "guard"]);
    assert!(connects(), "the attack works once the guard is gone");
    drop(listener);
}

#[test]
fn a_neighbour_of_the_host_cannot_route_into_the_network() {
    let world = World::new();
    let (container, attachment) = world.attach("one", &["127.0.0.1:8080:80"]);
    let _servers = (container.serve_tcp(80), container.serve_udp(53, ""));
    world.outside.run("ip", &["route", "add", "10.87.0.0/16", "via", &HOST.to_string()]);
    assert_eq!(world.outside.ask_tcp(to(attachment.address, 80)), None);
    assert_eq!(world.outside.ask_udp(to(attachment.address, 53)), None);
    world.host.run("nft", &["flush", "chain", "ip", "carrack0", "forward"]);
    assert!(
        world.outside.ask_tcp(to(attachment.address, 80)).is_some(),
        "the attack works once the guard is gone"
    );
}

#[test]
fn a_udp_client_that_keeps_its_port_follows_the_published_port() {
    let world = World::new();
    let client = world.outside.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    assert_eq!(ask_by(&client, to(HOST, 5353)), None, "nobody answers yet, but the flow is known");
    let (one, first) = world.attach("one", &["5353:53/udp"]);
    let _one = one.serve_udp(53, "one");
    let answer = ask_by(&client, to(HOST, 5353));
    assert!(answer.as_ref().is_some_and(|answer| answer.ends_with("one")), "{answer:?}");
    world.detach(&first);
    let (two, _) = world.attach("two", &["5353:53/udp"]);
    let _two = two.serve_udp(53, "two");
    let answer = ask_by(&client, to(HOST, 5353));
    assert!(answer.as_ref().is_some_and(|answer| answer.ends_with("two")), "{answer:?}");
}

#[test]
fn no_end_takes_router_advertisements() {
    let world = World::new();
    let (container, attachment) = world.attach("one", &[]);
    let setting = |namespace: &Namespace, interface: &InterfaceName, name: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/{name}");
        namespace.enter(|| std::fs::read_to_string(path)).unwrap().trim().to_owned()
    };
    for (namespace, interface) in [
        (&container, &attachment.interface),
        (&world.host, &attachment.bridge),
        (&world.host, &attachment.host_interface),
    ] {
        assert_eq!(setting(namespace, interface, "accept_ra"), "0", "{interface}");
        assert_eq!(setting(namespace, interface, "disable_ipv6"), "1", "{interface}");
        assert_eq!(
            namespace.run("ip", &["-6", "address", "show", "dev", interface.as_str()]),
            "",
            "{interface}"
        );
    }
}
