//! Image references: `ghcr.io/me/app:1@sha256:…`, with Docker Hub's short forms.
//!
//! The only place that knows `docker.io` and `library/`. Grammar: distribution's `reference` package; the
//! first component is a host when it has a `.` or a `:`, is `localhost`, or has an upper-case letter.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, Error};

/// The host that Docker Hub's names stand for.
pub const HUB: &str = "docker.io";

/// An image's name, complete: registry, repository, and a tag or a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    /// Apart, since few references have one and errors carry many references.
    digest: Option<Box<Digest>>,
}

impl Reference {
    /// The registry's host and port, `docker.io` for the Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry, `library/…` made explicit.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; a reference without tag and digest has `latest`.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned.
    pub fn digest(&self) -> Option<Digest> {
        self.digest.as_deref().copied()
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    pub fn target(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same repository at `digest`, whatever tag it had.
    pub fn at(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(Box::new(digest)), ..self.clone() }
    }

    /// The name without tag and digest: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name as people type it: `debian:bookworm` rather than `docker.io/library/debian:bookworm`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix("docker.io/") else { return full };
        let short = rest.strip_prefix("library/").unwrap_or(rest);
        // What is left may begin like a registry's name, and then would mean that one.
        let means_this = |text: &&str| text.parse::<Reference>().is_ok_and(|parsed| parsed == *self);
        [short, rest].into_iter().find(means_this).unwrap_or(&full).to_owned()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference, Error> {
        let fail = |reason| Error::Reference { text: text.to_owned(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, text)) => {
                let reason =
                    "what follows `@` is not a digest: expected `sha256:` or `sha512:` and its digits";
                (rest, Some(text.parse::<Digest>().map_err(|_| fail(reason))?))
            }
            None => (text, None),
        };
        // A colon before the last slash belongs to a host's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(fail(
                "a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with a letter, a digit or `_`",
            ));
        }
        let (registry, repository) = split_host(name);
        if !is_host(&registry) {
            return Err(fail("the registry is not a host name with an optional port"));
        }
        let path = repository.strip_prefix("library/").unwrap_or(&repository);
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(fail("repository names are lower case"));
        }
        if !repository.split('/').all(is_component) || repository.len() > 255 {
            return Err(fail(
                "a repository is components of lower-case letters and digits, joined by `.`, `_`, `__` or `-`, between slashes",
            ));
        }
        if registry == HUB && path.len() == 64 && Digest::from_hex(path).is_some() {
            return Err(fail("64 hexadecimal digits are an image id, not a name"));
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Reference { registry, repository, tag, digest: digest.map(Box::new) })
    }
}

fn split_host(name: &str) -> (String, String) {
    let (host, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':', '[']) || first == "localhost" || first.to_lowercase() != first =>
        {
            (first, rest)
        }
        _ => (HUB, name),
    };
    let host = if host == "index.docker.io" || host == "registry-1.docker.io" { HUB } else { host };
    let path = if host == HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
    (host.to_owned(), path)
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                ("v6", rest.strip_prefix(':'))
            }
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// Lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = text.split(alphanumeric).filter(|part| !part.is_empty());
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && separators
            .into_iter()
            .all(|part| matches!(part, "." | "_" | "__") || part.chars().all(|c| c == '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn completes_short_names() {
        let pinned = format!("debian@sha256:{HEX}");
        let pinned_full = format!("docker.io/library/debian@sha256:{HEX}");
        for (text, full, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/me/app:1", "docker.io/me/app:1", "me/app:1"),
            ("docker.io/ghcr.io/x", "docker.io/ghcr.io/x:latest", "docker.io/ghcr.io/x:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("ghcr.io/me/app:1", "ghcr.io/me/app:1", "ghcr.io/me/app:1"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("127.0.0.1:5000/a/b/c:x", "127.0.0.1:5000/a/b/c:x", "127.0.0.1:5000/a/b/c:x"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            ("registry:5000/app", "registry:5000/app:latest", "registry:5000/app:latest"),
            ("registry/app", "docker.io/registry/app:latest", "registry/app:latest"),
            (&pinned, &pinned_full, &pinned),
            ("a.b-c__d/x", "a.b-c__d/x:latest", "a.b-c__d/x:latest"),
        ] {
            if text.starts_with("a.b") {
                assert!(text.parse::<Reference>().is_err(), "a host label has no underscore");
                continue;
            }
            let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn refuses_what_is_no_name() {
        for text in [
            "",
            ":tag",
            "Debian",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:b c",
            "a@sha256:1",
            "a..b",
            "-a",
            "a-",
            "a___b",
            "../../etc/passwd",
            "host.io/../x",
            "host:99999/x",
            "host:0/x",
            "http://host/x",
            HEX,
            "a:-x",
            "[::1/x",
            "a b",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        let long = format!("a:{}", "x".repeat(129));
        assert!(long.parse::<Reference>().is_err());
    }
}
