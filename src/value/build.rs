//! Values of options of `lbuild build`: extra hosts, named contexts, entitlements, platforms, calls;
//! and of `lbuild cache`.

use std::net::IpAddr;
use std::str::FromStr;

use oci::{Platform, Reference};

use super::fields;

/// `NAME:ADDRESS`, also `NAME=ADDRESS`; an address of version 6 may be in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtraHost {
    pub(crate) name: String,
    /// None for `host-gateway`: this machine, as a step sees it.
    pub(crate) address: Option<IpAddr>,
}

impl FromStr for ExtraHost {
    type Err = String;

    fn from_str(text: &str) -> Result<ExtraHost, String> {
        let expected = || format!("expected `NAME:ADDRESS` or `NAME=ADDRESS`, found `{text}`");
        let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(expected)?;
        let is_name_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || !name.chars().all(is_name_character) {
            return Err(expected());
        }
        let bare = address.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(address);
        let address = match bare {
            "host-gateway" => None,
            bare => Some(bare.parse().map_err(|_| {
                format!("expected an address such as `10.0.0.1` or `host-gateway`, found `{address}`")
            })?),
        };
        Ok(ExtraHost { name: name.to_owned(), address })
    }
}

/// `--build-context NAME=PLACE`. What the place is is for `request`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ContextArg {
    /// In lower case, without `:latest`.
    pub(crate) name: String,
    /// `NAME::PLATFORM`: only where this is built for.
    pub(crate) platform: Option<Platform>,
    pub(crate) place: String,
}

impl FromStr for ContextArg {
    type Err = String;

    fn from_str(text: &str) -> Result<ContextArg, String> {
        let expected = || format!("expected `NAME=PLACE`, found `{text}`");
        let (left, place) = text.split_once('=').ok_or_else(expected)?;
        let (name, platform) = match left.split_once("::") {
            Some((name, platform)) => {
                (name, Some(platform.parse().map_err(|error: oci::Error| error.to_string())?))
            }
            None => (left, None),
        };
        if name.is_empty() || place.is_empty() {
            return Err(expected());
        }
        // A name may stand for a base image, so it is read as one.
        let reference: Reference =
            name.to_lowercase().parse().map_err(|error: oci::Error| error.to_string())?;
        let name = reference.familiar();
        let name = name.strip_suffix(":latest").unwrap_or(&name).to_owned();
        Ok(ContextArg { name, platform, place: place.to_owned() })
    }
}

/// What `--allow` allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entitlement {
    /// `RUN --security=insecure`
    SecurityInsecure,
    /// `RUN --network=host` in a build with `--network none`.
    NetworkHost,
}

impl FromStr for Entitlement {
    type Err = String;

    fn from_str(text: &str) -> Result<Entitlement, String> {
        match text {
            "security.insecure" => Ok(Entitlement::SecurityInsecure),
            "network.host" => Ok(Entitlement::NetworkHost),
            other => {
                Err(format!("unknown entitlement `{other}`: expected `security.insecure` or `network.host`"))
            }
        }
    }
}

/// One of the platforms of `--platform`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target(pub(crate) Platform);

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        match text {
            "local" => Ok(Target(Platform::host())),
            text => text.parse().map(Target).map_err(|error: oci::Error| error.to_string()),
        }
    }
}

/// `--call`: what to do with the Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) act: Act,
    pub(crate) is_json: bool,
}

/// What can be done with a Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Build,
    Check,
    Outline,
    Targets,
    Ast,
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Call, String> {
        let fields = fields::split(text)?;
        let act = match fields[0].as_str() {
            "build" => Act::Build,
            "check" | "lint" => Act::Check,
            "outline" => Act::Outline,
            "targets" => Act::Targets,
            "ast" => Act::Ast,
            other => {
                return Err(format!(
                    "unknown call `{other}`: expected build, check, outline, targets or ast"
                ));
            }
        };
        let mut call = Call { act, is_json: false };
        for field in &fields[1..] {
            call.is_json = match field.split_once('=') {
                Some(("format", "json")) => true,
                Some(("format", "text")) => false,
                _ => return Err(format!("expected `format=json` or `format=text`, found `{field}`")),
            };
        }
        Ok(call)
    }
}

/// Which cache mounts `lbuild cache prune` is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CacheFilter {
    Id(String),
    /// `type=exec.cachemount`: there is no other kind in the list.
    CacheMount,
}

impl FromStr for CacheFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<CacheFilter, String> {
        match text.split_once('=') {
            Some(("id", id)) if !id.is_empty() => Ok(CacheFilter::Id(id.to_owned())),
            Some(("type", "exec.cachemount")) => Ok(CacheFilter::CacheMount),
            _ => Err(format!("expected `id=ID` or `type=exec.cachemount`, found `{text}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_an_address() {
        let host = |name: &str, address: Option<&str>| ExtraHost {
            name: name.into(),
            address: address.map(|text| text.parse().unwrap()),
        };
        for (text, expected) in [
            ("a:10.0.0.1", host("a", Some("10.0.0.1"))),
            ("a.b=10.0.0.1", host("a.b", Some("10.0.0.1"))),
            ("a:::1", host("a", Some("::1"))),
            ("a=::1", host("a", Some("::1"))),
            ("a:[2001:db8::1]", host("a", Some("2001:db8::1"))),
            ("a=[10.0.0.1]", host("a", Some("10.0.0.1"))),
            ("a:host-gateway", host("a", None)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("a", "expected `NAME:ADDRESS`"),
            (":10.0.0.1", "expected `NAME:ADDRESS`"),
            ("a b:10.0.0.1", "expected `NAME:ADDRESS`"),
            ("a\nb:10.0.0.1", "expected `NAME:ADDRESS`"),
            ("a:", "expected an address"),
            ("a:b", "expected an address"),
            ("a:10.0.0.1.2", "expected an address"),
        ] {
            let error = text.parse::<ExtraHost>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn contexts_have_the_names_of_images() {
        for (text, name, platform, place) in [
            ("src=../src", "src", None, "../src"),
            ("Base=docker-image://alpine:3", "base", None, "docker-image://alpine:3"),
            ("docker.io/library/alpine:latest=x", "alpine", None, "x"),
            ("alpine:3=x=y", "alpine:3", None, "x=y"),
            ("ghcr.io/me/app=x", "ghcr.io/me/app", None, "x"),
            ("base::linux/arm64=x", "base", Some("linux/arm64"), "x"),
        ] {
            let platform = platform.map(|text| text.parse().unwrap());
            let expected = ContextArg { name: name.into(), platform, place: place.into() };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["a", "=x", "a=", "a b=x", "a::=x", "a::b/c/d/e=x"] {
            assert!(text.parse::<ContextArg>().is_err(), "{text}");
        }
    }

    #[test]
    fn words_of_a_list_are_suggested() {
        assert_eq!("security.insecure".parse(), Ok(Entitlement::SecurityInsecure));
        assert_eq!("network.host".parse(), Ok(Entitlement::NetworkHost));
        let error = "device".parse::<Entitlement>().expect_err("not known");
        assert_eq!(error, "unknown entitlement `device`: expected `security.insecure` or `network.host`");
        assert_eq!("local".parse(), Ok(Target(Platform::host())));
        assert_eq!("linux/aarch64".parse(), Ok(Target("linux/arm64".parse().unwrap())));
        assert!("".parse::<Target>().is_err() && "a/b/c/d".parse::<Target>().is_err());
    }

    #[test]
    fn calls_have_a_format() {
        let call = |act, is_json| Ok(Call { act, is_json });
        for (text, expected) in [
            ("build", call(Act::Build, false)),
            ("check", call(Act::Check, false)),
            ("lint,format=json", call(Act::Check, true)),
            ("outline,format=text", call(Act::Outline, false)),
            ("targets,format=json", call(Act::Targets, true)),
            ("ast,format=json", call(Act::Ast, true)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for (text, expected) in [
            ("", "unknown call ``"),
            ("run", "unknown call `run`"),
            ("check,json", "found `json`"),
            ("check,format=xml", "found `format=xml`"),
        ] {
            let error = text.parse::<Call>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
