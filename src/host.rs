//! What a container sees of the host's name resolution: `/etc/hosts` and `/etc/resolv.conf`.
//!
//! With the host's network the host's own files serve; without a network there is loopback and nothing to ask.

use std::net::{IpAddr, Ipv4Addr};

use crate::args::Network;
use crate::value::ExtraHost;

const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// `/etc/hosts` for a container that is called `hostname`. The lines of `--add-host` come first, because the first
/// line of a name counts. This machine is at the loopback's address, where the container itself is.
pub(crate) fn hosts(network: Network, hostname: &str, extra: &[ExtraHost]) -> Vec<u8> {
    let mut hosts = String::new();
    for ExtraHost { name, address } in extra {
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        hosts += &format!("{address}\t{name}\n");
    }
    let mut hosts = hosts.into_bytes();
    hosts.extend(match network {
        Network::Host => read("/etc/hosts").unwrap_or_else(|| LOOPBACK.into()),
        Network::None => LOOPBACK.into(),
    });
    if !hosts.ends_with(b"\n") && !hosts.is_empty() {
        hosts.push(b'\n');
    }
    hosts.extend_from_slice(format!("127.0.0.1\t{hostname}\n").as_bytes());
    hosts
}

/// `/etc/resolv.conf` for a container.
pub(crate) fn resolv_conf(network: Network) -> Vec<u8> {
    match network {
        Network::Host => read("/etc/resolv.conf").unwrap_or_default(),
        Network::None => Vec::new(),
    }
}

/// A file that the host may lack or forbid to read; a container runs without it.
fn read(path: &str) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}
