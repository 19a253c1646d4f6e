//! `EXPOSE`: ports, ranges and protocols. (docker/go-connections `nat`; BuildKit's `convert_expose.go`.)

/// The ports of one word, each as `port/protocol`.
///
/// An address and a host port before the container's are accepted, as Docker does, and mean nothing.
///
/// # Errors
/// What is wrong with the word.
pub(super) fn ports(word: &str) -> Result<Vec<String>, String> {
    let (rest, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("`{protocol}` is not a protocol: expected `tcp`, `udp` or `sctp`"));
    }
    let range = rest.rsplit(':').next().unwrap_or(rest);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| {
        text.parse::<u16>()
            .map_err(|_| format!("`{word}` is not a port: expected `port[-port][/protocol]`, up to 65535"))
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("`{range}` is not a range of ports: it ends before it begins"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_forms() {
        for (word, expected) in [
            ("80", &["80/tcp"][..]),
            ("80/TCP", &["80/tcp"]),
            ("53/udp", &["53/udp"]),
            ("7000-7002/sctp", &["7000/sctp", "7001/sctp", "7002/sctp"]),
            ("127.0.0.1:8080:80", &["80/tcp"]),
            ("[::1]:8080:80/tcp", &["80/tcp"]),
        ] {
            assert_eq!(ports(word).unwrap(), expected, "{word}");
        }
        for word in ["", "http", "80/icmp", "90-80", "65536", "-1", "80-"] {
            assert!(ports(word).is_err(), "{word}");
        }
    }
}
