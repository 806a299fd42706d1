//! The files that name resolution in a container needs: hostname, hosts, resolv.conf.
//!
//! They are written into a folder of the host and bound over those of the image, which are never touched.

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use carrack_container::{Bind, HostSettings, NetworkMode};
use carrack_sys::{IoContext, atomic};

use crate::{Error, Result};

/// What the files are made of.
pub(crate) struct HostFiles<'a> {
    /// The host name of the container.
    pub hostname: &'a str,
    /// Network, name servers and further hosts.
    pub host: &'a HostSettings,
    /// The container's own address, where it has one.
    pub address: Option<IpAddr>,
}

impl HostFiles<'_> {
    /// Writes the files into `folder`; returns how they are to be bound.
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<Bind>> {
        let shares_host = self.host.network.mode == NetworkMode::Host;
        let resolver = resolver_of_host(shares_host)?;
        let files = [
            ("hostname", format!("{}\n", self.hostname)),
            ("hosts", self.hosts()?),
            (
                "resolv.conf",
                if self.host.network.dns.is_empty() {
                    resolver
                } else {
                    name_servers(&self.host.network.dns)
                },
            ),
        ];
        let mut binds = Vec::with_capacity(files.len());
        for (name, text) in files {
            let source = folder.join(name);
            // In place: a container that has the file bound already sees the new text.
            fs::write(&source, text).during("write", &source)?;
            fs::set_permissions(&source, Permissions::from_mode(0o644))
                .during("change the mode of", &source)?;
            let destination = PathBuf::from("/etc").join(name);
            binds.push(Bind { source, destination, read_only: self.host.mounts.read_only });
        }
        Ok(binds)
    }

    fn hosts(&self) -> Result<String> {
        let mut text = String::from(
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
        );
        for entry in &self.host.network.extra_hosts {
            let (name, address) = entry.split_once(':').unwrap_or((entry, ""));
            let address: IpAddr = address.trim_matches(['[', ']']).parse().map_err(|_| {
                Error::refused(
                    format!("{entry:?} is no further host"),
                    "expected NAME:ADDRESS, as in db:10.0.0.7",
                )
            })?;
            text.push_str(&format!("{address}\t{name}\n"));
        }
        if let Some(address) = self.address {
            text.push_str(&format!("{address}\t{}\n", self.hostname));
        }
        Ok(text)
    }
}

fn name_servers(addresses: &[IpAddr]) -> String {
    addresses.iter().map(|address| format!("nameserver {address}\n")).collect()
}

/// The host's resolv.conf. A server on the host's loopback cannot be reached from another network namespace; where
/// that is a local stub, systemd-resolved keeps the real servers in a file of its own.
fn resolver_of_host(shares_host: bool) -> Result<String> {
    let read = |path: &str| -> Result<String> {
        let bytes = atomic::read(Path::new(path))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read("/etc/resolv.conf")?;
    if shares_host {
        return Ok(text);
    }
    let text = without_loopback(&text);
    match has_server(&text) {
        true => Ok(text),
        false => Ok(without_loopback(&read("/run/systemd/resolve/resolv.conf")?)),
    }
}

fn server(line: &str) -> Option<IpAddr> {
    line.strip_prefix("nameserver")?.trim().parse().ok()
}

fn has_server(text: &str) -> bool {
    text.lines().any(|line| server(line).is_some())
}

fn without_loopback(text: &str) -> String {
    let reachable = |line: &&str| server(line).is_none_or(|address| !address.is_loopback());
    text.lines().filter(reachable).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_container::ContainerNetwork;

    #[test]
    fn hosts_have_the_container_and_what_the_user_adds() {
        let host = HostSettings {
            network: ContainerNetwork {
                extra_hosts: vec!["db:10.0.0.7".into(), "six:[fd00::1]".into()],
                dns: vec!["9.9.9.9".parse().unwrap()],
                ..ContainerNetwork::default()
            },
            ..HostSettings::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let files = HostFiles { hostname: "web", host: &host, address: Some("10.1.2.3".parse().unwrap()) };
        let binds = files.write(folder.path()).unwrap();
        assert_eq!(binds.len(), 3);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let hosts = read("hosts");
        assert!(hosts.contains("10.0.0.7\tdb\nfd00::1\tsix\n10.1.2.3\tweb\n"), "{hosts}");
        assert_eq!((read("resolv.conf"), read("hostname")), ("nameserver 9.9.9.9\n".into(), "web\n".into()));
        let wrong = HostSettings {
            network: ContainerNetwork { extra_hosts: vec!["db".into()], ..ContainerNetwork::default() },
            ..HostSettings::default()
        };
        assert!(HostFiles { host: &wrong, ..files }.write(folder.path()).is_err());
    }

    #[test]
    fn servers_on_loopback_are_of_no_use() {
        let text = "# stub\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch example\n";
        assert_eq!(without_loopback(text), "# stub\nnameserver 192.0.2.1\nsearch example\n");
        assert!(!has_server(&without_loopback("nameserver 127.0.0.1\n")));
    }
}
