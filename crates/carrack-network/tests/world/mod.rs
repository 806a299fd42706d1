//! A small world of network namespaces: a host, a host outside, and containers. Nothing touches the network of the
//! machine that runs the tests; every namespace is removed when the world is dropped.

// Each test file uses its part of the world.
#![allow(dead_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use carrack_network::{Attachment, Bridge, PublishedPort, Result, attach, detach};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

/// The host's address on the wire to the outside.
pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The outside host's address.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_millis(700);

/// A named network namespace.
pub struct Namespace {
    pub name: String,
    file: File,
}

impl Namespace {
    pub fn new(role: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("cn{}-{}-{role}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name]);
        let file = File::open(format!("/run/netns/{name}")).unwrap();
        Self { name, file }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Runs a closure on a thread that is in this namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let entered = || {
                move_into_link_name_space(self.fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            };
            scope.spawn(entered).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program in this namespace and returns what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.enter(|| run(program, arguments))
    }

    /// A server that answers each connection to `port` with the client's address; ends with the test.
    pub fn serve_tcp(&self, port: u16) -> JoinHandle<()> {
        let listener = self.enter(|| TcpListener::bind(("0.0.0.0", port)).unwrap());
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let peer = stream.peer_addr().unwrap();
                let _ = stream.write_all(peer.ip().to_string().as_bytes());
            }
        })
    }

    /// A server that answers each datagram with its sender's address and `mark`.
    pub fn serve_udp(&self, port: u16, mark: &'static str) -> JoinHandle<()> {
        let socket = self.enter(|| UdpSocket::bind(("0.0.0.0", port)).unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(format!("{} {mark}", peer.ip()).as_bytes(), peer);
            }
        })
    }

    /// Connects from this namespace; the server's answer, or `None` if there is none.
    pub fn ask_tcp(&self, address: impl Into<SocketAddr>) -> Option<String> {
        let address = address.into();
        self.enter(|| {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        })
    }

    /// Sends a datagram from this namespace; the server's answer, or `None` if there is none.
    pub fn ask_udp(&self, address: impl Into<SocketAddr>) -> Option<String> {
        let address = address.into();
        let socket = self.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        ask_by(&socket, address)
    }
}

/// Sends a datagram by a socket and waits for the answer.
pub fn ask_by(socket: &UdpSocket, address: SocketAddr) -> Option<String> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"hello", address).ok()?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// A host with a wire to the outside, and a state folder.
pub struct World {
    pub host: Namespace,
    pub outside: Namespace,
    pub bridge: Bridge,
    pub state: TempDir,
}

impl World {
    pub fn new() -> Self {
        let (host, outside) = (Namespace::new("host"), Namespace::new("out"));
        host.run("ip", &["link", "set", "lo", "up"]);
        host.run(
            "ip",
            &["link", "add", "wan0", "type", "veth", "peer", "name", "wan1", "netns", &outside.name],
        );
        for (namespace, interface, address) in [(&host, "wan0", HOST), (&outside, "wan1", OUTSIDE)] {
            namespace.run("ip", &["address", "add", &format!("{address}/24"), "dev", interface]);
            namespace.run("ip", &["link", "set", interface, "up"]);
        }
        for (namespace, interface) in [(&host, "wan0"), (&outside, "wan1")] {
            // Packets are dropped until the kernel has noticed the carrier.
            while !namespace.run("ip", &["link", "show", interface]).contains("state UP") {
                thread::sleep(Duration::from_millis(1));
            }
        }
        host.run("ip", &["route", "add", "default", "via", &OUTSIDE.to_string()]);
        Self { host, outside, bridge: Bridge::standard().unwrap(), state: tempfile::tempdir().unwrap() }
    }

    /// Attaches a new container.
    pub fn attach(&self, container: &str, ports: &[&str]) -> (Namespace, Attachment) {
        let namespace = Namespace::new("ctr");
        let attachment = self.try_attach(container, &namespace, ports).unwrap();
        (namespace, attachment)
    }

    pub fn try_attach(
        &self,
        container: &str,
        namespace: &Namespace,
        published: &[&str],
    ) -> Result<Attachment> {
        let ports = ports(published);
        self.host.enter(|| attach(self.state.path(), &self.bridge, container, namespace.fd(), &ports))
    }

    pub fn detach(&self, attachment: &Attachment) {
        self.host.enter(|| detach(self.state.path(), attachment)).unwrap();
        // Withdrawn ports end with the kernel's next tick.
        thread::sleep(Duration::from_millis(20));
    }

    /// What `nft` shows of the bridge's table in the host.
    pub fn table(&self) -> String {
        self.host.run("nft", &["list", "table", "ip", "carrack0"])
    }
}

/// Published ports by their text.
pub fn ports(texts: &[&str]) -> Vec<PublishedPort> {
    texts.iter().flat_map(|text| PublishedPort::parse(text).unwrap()).collect()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}
