//! Networks. Each test that needs a bridge has two network namespaces: carrack works in `ship`, and `shore` is a
//! machine outside that is reached by a cable.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use carrack_testkit::{Run, Store};

use crate::crash::kill_monitor;
use crate::eventually;
use crate::kit::{IMAGE, LIMIT, busybox, host, run, store};

const SHIP: &str = "192.0.2.1";
const SHORE: &str = "192.0.2.2";
/// Serves its folder, in which a program says who asks.
const SERVER: [&str; 6] = ["busybox", "httpd", "-f", "-h", "/www", "-p"];
const WHO: &str = "#!/bin/sh\necho\necho $REMOTE_ADDR\n";

pub struct Sea {
    pub store: Store,
    pub ship: String,
    shore: String,
    servers: Vec<Child>,
}

impl Sea {
    #[track_caller]
    pub fn new() -> Self {
        let store = crate::kit::empty_store();
        let image = busybox().layer(&format!("/www/cgi-bin/who 0755 {WHO:?}"));
        store.load(&image, IMAGE);
        // The temporary folder's name is unique.
        let unique = store.path().file_name().unwrap().to_str().unwrap().to_owned();
        let (ship, shore) = (format!("{unique}-ship"), format!("{unique}-shore"));
        let sea = Self { store, ship, shore, servers: Vec::new() };
        for namespace in [&sea.ship, &sea.shore] {
            host("ip", ["netns", "add", namespace]).success();
            host("ip", ["-n", namespace, "link", "set", "lo", "up"]).success();
        }
        let cable =
            ["-n", &sea.ship, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns"];
        host("ip", cable.into_iter().chain([sea.shore.as_str()])).success();
        for (namespace, address) in [(&sea.ship, SHIP), (&sea.shore, SHORE)] {
            let address = format!("{address}/24");
            host("ip", ["-n", namespace, "address", "add", &address, "dev", "cable"]).success();
            host("ip", ["-n", namespace, "link", "set", "cable", "up"]).success();
        }
        sea
    }

    /// `carrack ARGUMENTS` in the namespace `ship`. `ip netns exec` hides the cgroups of the host, so
    /// what works here works without them.
    #[track_caller]
    pub fn carrack(&self, arguments: &[&str]) -> Run {
        let carrack = self.store.command();
        let mut command = inside(&self.ship);
        command.arg(carrack.get_program()).args(carrack.get_args()).args(arguments);
        Run::of(command.env("HOME", self.store.path().join("home")), LIMIT)
    }

    /// A server in a container, published on port 8080.
    #[track_caller]
    fn publish(&self) -> String {
        let flags = ["run", "--detach", "--name", "web", "--publish", "8080:80", IMAGE];
        let id = self.carrack(&[&flags[..], &SERVER, &["80"]].concat()).line();
        eventually("the server listens", || self.ask(&self.ship, "127.0.0.1:8080").code == 0);
        id
    }

    /// Asks a server from a namespace who is asking.
    fn ask(&self, namespace: &str, server: &str) -> Run {
        Run::of(inside(namespace).args(["busybox", "sh", "-c", &request(server)]), LIMIT)
    }

    fn links(&self) -> String {
        host("ip", ["-n", &self.ship, "-o", "link"]).line()
    }

    pub fn leases(&self) -> Vec<String> {
        let files = crate::kit::files_below(&self.store.runroot().join("network"));
        let names = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned());
        names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()
    }
}

impl Drop for Sea {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        let carrack = self.store.command();
        let mut command = inside(&self.ship);
        command.arg(carrack.get_program()).args(carrack.get_args()).args(["rm", "--force", "--all"]);
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        for namespace in [&self.ship, &self.shore] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).stderr(Stdio::null()).status();
        }
    }
}

/// A script that asks a server, `ADDRESS:PORT`, who is asking. (A static wget cannot look up names.)
fn request(server: &str) -> String {
    let server = server.replace(':', " ");
    format!("printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 10 {server}")
}

fn inside(namespace: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]);
    command
}

#[test]
fn without_a_network_there_is_a_loopback_only() {
    let store = store();
    let links = run(&store, &[], "ip -o link").line();
    assert!(links.lines().count() == 1 && links.contains(" lo: <LOOPBACK,UP"), "{links}");
    run(&store, &[], "ip address show lo | grep -q 127.0.0.1/8").success();
    run(&store, &[], "ip route | grep .").code(1);
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let sea = Sea::new();
    sea.publish();
    let seen = sea.ask(&sea.shore, &format!("{SHIP}:8080")).line();
    assert!(seen.ends_with(&format!(":{SHORE}]")), "the asker's address is kept: {seen}");
    sea.ask(&sea.ship, &format!("{SHIP}:8080")).success();
    let address = sea.carrack(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", "web"]).line();
    sea.ask(&sea.ship, &format!("{address}:80")).success();
    let hosts = sea.carrack(&["exec", "web", "sh", "-c", "grep $HOSTNAME /etc/hosts"]).line();
    assert!(hosts.starts_with(&address), "{hosts}");
    let ports = sea.carrack(&["ps", "--format", "{{.Ports}}"]).line();
    assert!(ports.contains("8080->80/tcp"), "{ports}");
    let own = request(&format!("{SHIP}:8080"));
    sea.carrack(&["run", "--rm", IMAGE, "sh", "-c", &own]).success();
    let taken = sea.carrack(&["run", "--rm", "--publish", "8080:80", IMAGE, "true"]).code(125);
    assert!(taken.stderr.contains("8080"), "{}", taken.stderr);
    sea.carrack(&["rm", "--force", "web"]).success();
    eventually("the port is closed", || sea.ask(&sea.ship, "127.0.0.1:8080").code != 0);
    // The kernel takes an interface away some time after its namespace.
    eventually("no interface is left", || !sea.links().contains("veth"));
    assert_eq!(sea.leases(), Vec::<String>::new());
    sea.publish();
}

#[test]
fn a_free_port_of_a_range_is_chosen() {
    let sea = Sea::new();
    sea.publish();
    let other = |name: &str| {
        sea.carrack(&["run", "--detach", "--name", name, "--publish", "8080-8081:80", IMAGE, "sleep", "100"])
    };
    other("second").success();
    let ports = |name: &str, form: &str| sea.carrack(&["inspect", "--format", form, name]).line();
    assert_eq!(ports("second", r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#), "8081");
    let wish = r#"{{(index (index .HostConfig.PortBindings "80/tcp") 0).HostPort}}"#;
    assert_eq!(ports("second", wish), "8080-8081");
    let refused = other("third").code(125).stderr;
    assert!(refused.contains("8080-8081") && refused.contains("in use by"), "{refused}");
    sea.carrack(&["rm", "--force", "web"]).success();
    sea.carrack(&["start", "third"]).success();
    assert_eq!(sea.carrack(&["port", "third"]).line(), "80/tcp -> 0.0.0.0:8080");
}

#[test]
fn a_container_reaches_the_outside_behind_the_hosts_address() {
    let mut sea = Sea::new();
    let www = crate::folder(&sea.store, "www", &[("cgi-bin/who", WHO)]);
    fs::set_permissions(www.join("cgi-bin/who"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = inside(&sea.shore);
    server.args(["busybox", "httpd", "-f", "-p", "9000", "-h", www.to_str().unwrap()]);
    sea.servers.push(server.spawn().unwrap());
    eventually("the server listens", || sea.ask(&sea.ship, &format!("{SHORE}:9000")).code == 0);
    let asked = request(&format!("{SHORE}:9000"));
    let seen = sea.carrack(&["run", "--rm", IMAGE, "sh", "-c", &asked]).line();
    assert!(seen.ends_with(&format!(":{SHIP}]")), "{seen}");
}

#[test]
fn the_hosts_network_is_that_of_the_caller() {
    let sea = Sea::new();
    let links = sea.carrack(&["run", "--rm", "--network", "host", IMAGE, "ip", "-o", "link"]).line();
    assert!(links.contains(" cable@"), "{links}");
    assert!(!sea.links().contains("carrack0"), "no bridge is made");
}

#[test]
fn a_killed_monitor_leaves_no_network() {
    let sea = Sea::new();
    let id = sea.publish();
    kill_monitor(&sea.store, &id);
    let status = sea.carrack(&["ps", "--all", "--format", "{{.Status}}"]).line();
    assert!(status.starts_with("Exited (255)"), "{status}");
    // The kernel takes an interface away some time after its namespace.
    eventually("no interface is left", || !sea.links().contains("veth"));
    assert_eq!(sea.leases(), Vec::<String>::new());
    eventually("the port is closed", || sea.ask(&sea.ship, "127.0.0.1:8080").code != 0);
    sea.carrack(&["start", "web"]).success();
    eventually("the server listens again", || sea.ask(&sea.ship, "127.0.0.1:8080").code == 0);
}
