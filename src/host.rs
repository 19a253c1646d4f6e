//! What a container sees of the host's name resolution: `/etc/hosts` and `/etc/resolv.conf`.
//!
//! With the host's network the host's own files serve; without a network there is loopback and nothing to ask.

use crate::args::Network;

const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// `/etc/hosts` for a container that is called `hostname`.
pub(crate) fn hosts(network: Network, hostname: &str) -> Vec<u8> {
    let own = format!("127.0.0.1\t{hostname}\n");
    let mut hosts = match network {
        Network::Host => read("/etc/hosts").unwrap_or_else(|| LOOPBACK.into()),
        Network::None => LOOPBACK.into(),
    };
    if !hosts.ends_with(b"\n") && !hosts.is_empty() {
        hosts.push(b'\n');
    }
    hosts.extend_from_slice(own.as_bytes());
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
