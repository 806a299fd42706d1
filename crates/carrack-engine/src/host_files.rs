//! The files that name resolution in a container needs: hostname, hosts, resolv.conf.
//!
//! They are written into a folder of the host and bound over those of the image, which are never touched.

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use carrack_container::{Bind, ContainerNetwork, HostSettings, NetworkMode};
use carrack_sys::{IoContext, atomic};

use crate::{Error, Result};

/// What the files are made of.
pub(crate) struct HostFiles<'a> {
    /// The host name of the container.
    pub hostname: &'a str,
    /// Network, name servers and further hosts.
    pub host: &'a HostSettings,
    /// The NIS domain name; empty means none.
    pub domainname: &'a str,
    /// The container's own address, where it has one.
    pub address: Option<IpAddr>,
    /// What `host-gateway` stands for.
    pub gateway: IpAddr,
}

impl HostFiles<'_> {
    /// Writes the files into `folder`; returns how they are to be bound.
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<Bind>> {
        let network = &self.host.network;
        let resolver = resolver_of_host(network.mode == NetworkMode::Host)?;
        let files = [
            (!network.keeps_hostname).then(|| ("hostname", format!("{}\n", self.hostname))),
            (!network.keeps_hosts).then(|| self.hosts()).transpose()?.map(|text| ("hosts", text)),
            Some(("resolv.conf", with_wishes(&resolver, network))),
        ];
        let mut binds = Vec::with_capacity(files.len());
        for (name, text) in files.into_iter().flatten() {
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
            let (names, address) = extra_host(entry)?;
            let address = address.unwrap_or(self.gateway);
            for name in names {
                text.push_str(&format!("{address}\t{name}\n"));
            }
        }
        if let Some(address) = self.address {
            let name = self.hostname;
            match self.domainname {
                "" => text.push_str(&format!("{address}\t{name}\n")),
                domain => text.push_str(&format!("{address}\t{name}.{domain} {name}\n")),
            }
        }
        Ok(text)
    }
}

/// Reads `NAME[;NAME...]:ADDRESS` (Docker separates by `=` too); no address stands for `host-gateway`.
pub(crate) fn extra_host(entry: &str) -> Result<(Vec<&str>, Option<IpAddr>)> {
    let wrong = || {
        let hint = "expected NAME:ADDRESS, as in db:10.0.0.7 or host.internal:host-gateway";
        Error::refused(format!("{entry:?} is no further host"), hint)
    };
    let (names, address) = entry.split_once([':', '=']).ok_or_else(wrong)?;
    let names: Vec<&str> = names.split(';').collect();
    let is_name = |name: &&str| {
        !name.is_empty() && !name.chars().any(|symbol| symbol.is_whitespace() || "#\0".contains(symbol))
    };
    if !names.iter().all(is_name) {
        return Err(wrong());
    }
    let plain = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    match plain {
        "host-gateway" => Ok((names, None)),
        _ => Ok((names, Some(plain.parse().map_err(|_| wrong())?))),
    }
}

/// The host's text, with each kind of line that the user gives in place of the host's.
fn with_wishes(host: &str, network: &ContainerNetwork) -> String {
    let keyword = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let replaced = |line: &str| match keyword(line).as_str() {
        "nameserver" => !network.dns.is_empty(),
        "search" | "domain" => !network.dns_search.is_empty(),
        "options" => !network.dns_options.is_empty(),
        _ => false,
    };
    let kept = host.lines().filter(|line| !replaced(line)).map(|line| format!("{line}\n"));
    let mut text: String = kept.collect();
    // Docker: a single dot takes the host's domains away.
    if !network.dns_search.is_empty() && network.dns_search != ["."] {
        text.push_str(&format!("search {}\n", network.dns_search.join(" ")));
    }
    text.extend(network.dns.iter().map(|address| format!("nameserver {address}\n")));
    if !network.dns_options.is_empty() {
        text.push_str(&format!("options {}\n", network.dns_options.join(" ")));
    }
    text
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

    #[test]
    fn hosts_have_the_container_and_what_the_user_adds() {
        let host = HostSettings {
            network: ContainerNetwork {
                extra_hosts: vec!["db:10.0.0.7".into(), "six=[fd00::1]".into(), "up;top:host-gateway".into()],
                dns: vec!["9.9.9.9".parse().unwrap()],
                ..ContainerNetwork::default()
            },
            ..HostSettings::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let files = HostFiles {
            hostname: "web",
            domainname: "fleet",
            host: &host,
            address: Some(address("10.1.2.3")),
            gateway: address("10.1.0.1"),
        };
        let binds = files.write(folder.path()).unwrap();
        assert_eq!(binds.len(), 3);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let hosts = read("hosts");
        let expected = "10.0.0.7\tdb\nfd00::1\tsix\n10.1.0.1\tup\n10.1.0.1\ttop\n10.1.2.3\tweb.fleet web\n";
        assert!(hosts.ends_with(expected), "{hosts}");
        assert_eq!(read("hostname"), "web\n");
        for wrong in ["db", "db:", ":10.0.0.1", "a b:10.0.0.1", "a\n10.0.0.1 b:10.0.0.1", "a#:10.0.0.1"] {
            assert!(extra_host(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn what_the_user_gives_takes_the_place_of_the_hosts() {
        let host = "# made by hand\nnameserver 192.0.2.1\nsearch example\noptions ndots:1\n";
        let mut network = ContainerNetwork { dns: vec!["9.9.9.9".parse().unwrap()], ..Default::default() };
        let kept = "# made by hand\nsearch example\noptions ndots:1\nnameserver 9.9.9.9\n";
        assert_eq!(with_wishes(host, &network), kept);
        network.dns_search = vec![".".into()];
        network.dns_options = vec!["ndots:2".into(), "use-vc".into()];
        let given = "# made by hand\nnameserver 9.9.9.9\noptions ndots:2 use-vc\n";
        assert_eq!(with_wishes(host, &network), given);
        network.dns_search = vec!["a.example".into(), "b.example".into()];
        assert!(with_wishes(host, &network).contains("search a.example b.example\n"));
    }

    #[test]
    fn servers_on_loopback_are_of_no_use() {
        let text = "# stub\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch example\n";
        assert_eq!(without_loopback(text), "# stub\nnameserver 192.0.2.1\nsearch example\n");
        assert!(!has_server(&without_loopback("nameserver 127.0.0.1\n")));
    }
}
