//! Addresses that a container asks for, and ports that are known from its image.

use crate::kit::IMAGE;
use crate::network::Sea;
use crate::{eventually, inspect};

#[test]
fn an_address_may_be_asked_for() {
    let sea = Sea::new();
    let mac = "02:42:ac:11:00:09";
    let script = "ip -o -4 address show eth0; ip -o link show eth0; sleep 1000";
    let flags =
        ["run", "-d", "--name", "one", "--ip", "10.87.0.99", "--mac-address", mac, "--stop-timeout", "0"];
    sea.carrack(&[&flags[..], &[IMAGE, "sh", "-c", script]].concat()).success();
    eventually("it has told its addresses", || sea.carrack(&["logs", "one"]).stdout.contains("link/ether"));
    let seen = sea.carrack(&["logs", "one"]).success().stdout;
    assert!(seen.contains(" 10.87.0.99/16 ") && seen.contains(mac), "{seen}");
    assert_eq!(inspect(&sea.store, "one", "{{.NetworkSettings.IPAddress}}"), "10.87.0.99");
    assert_eq!(inspect(&sea.store, "one", "{{.NetworkSettings.MacAddress}}"), mac);

    let taken = sea.carrack(&["run", "--rm", "--network", "bridge:ip=10.87.0.99", IMAGE, "true"]).code(125);
    assert!(taken.stderr.contains("10.87.0.99"), "{}", taken.stderr);
    sea.carrack(&["stop", "one"]).success();
    let free = ["run", "--rm", "--network", "name=bridge,ip=10.87.0.99", IMAGE, "true"];
    eventually("its address is free", || sea.carrack(&free).code == 0);
    assert_eq!(sea.leases(), Vec::<String>::new());
    for flags in [
        ["--ip", "10.88.0.1"],
        ["--ip", "10.87.0.1"],
        ["--ip", "10.87.255.255"],
        ["--mac-address", "01:00:00:00:00:01"],
        ["--mac-address", "02:00:00:00:00"],
    ] {
        let refused = sea.carrack(&["create", flags[0], flags[1], IMAGE]).code(125);
        assert!(refused.stderr.contains("address"), "{}", refused.stderr);
    }
    sea.carrack(&["create", "--network", "none", "--ip", "10.87.0.9", IMAGE]).code(125);
}

#[test]
fn every_port_that_is_known_is_published() {
    let sea = Sea::new();
    let image = crate::kit::busybox().configure(|config| {
        let ports = ["80/tcp", "53/udp", "not a port"].map(|port| (port.to_owned(), Default::default()));
        config.config.exposed_ports = Some(ports.into_iter().collect());
    });
    sea.store.load(&image, "localhost/server:1");
    let flags = ["-P", "--expose", "7000-7001", "-p", "8080:80", "--stop-timeout", "0"];
    sea.carrack(
        &[&["run", "-d", "--name", "one"], &flags[..], &["localhost/server:1", "sleep", "1000"]].concat(),
    )
    .success();
    let ports = sea.carrack(&["port", "one"]).line();
    let inner: Vec<&str> = ports.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(inner.len(), 4, "{ports}");
    for port in ["53/udp", "80/tcp", "7000/tcp", "7001/tcp"] {
        assert!(inner.contains(&port), "{port} of {ports}");
    }
    assert!(ports.contains("80/tcp -> 0.0.0.0:8080"), "{ports}");
    assert!(!ports.contains(":0\n"), "each has a port: {ports}");
    let all = sea.carrack(&["port", "--all"]).line();
    assert_eq!(all.lines().count(), 4, "{all}");
    let exposed = inspect(&sea.store, "one", "{{json .Config.ExposedPorts}}");
    assert_eq!(exposed, r#"{"53/udp":{},"7000/tcp":{},"7001/tcp":{},"80/tcp":{}}"#);
    sea.carrack(&["rm", "-f", "one"]).success();
    sea.carrack(&["create", "--network", "none", "-P", "localhost/server:1"]).code(125);
    sea.carrack(&["create", "--expose", "8080:80", IMAGE]).code(125);
}
