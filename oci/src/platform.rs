//! Platforms: parsing, normalising, matching. (OCI image-spec, image-index.md; containerd's `platforms`.)

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;

/// An operating system and a processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `GOARCH`: `amd64`, `arm64`, …
    pub architecture: String,
    /// `GOOS`: `linux`, …
    pub os: String,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `os.version` and whatever else came with it.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Platform {
    /// A platform of these parts, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let variant = variant.filter(|text| !text.is_empty()).map(str::to_lowercase);
        let (architecture, variant) = normalise(&architecture.to_lowercase(), variant.as_deref());
        let os = match os.to_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        Platform { architecture, os, variant, extra: Map::new() }
    }

    /// The platform this program runs on.
    pub fn host() -> Platform {
        Platform::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// Whether an image for `offered` serves a request for `self`.
    ///
    /// A missing variant stands for the architecture's default one: `v8` for arm64, `v7` for arm.
    pub fn accepts(&self, offered: &Platform) -> bool {
        let offered = Platform::new(&offered.os, &offered.architecture, offered.variant.as_deref());
        let wanted = Platform::new(&self.os, &self.architecture, self.variant.as_deref());
        wanted.os == offered.os
            && wanted.architecture == offered.architecture
            && wanted.variant == offered.variant
    }

    /// Whose images a processor of this platform runs, this one's first: older variants, and the 32-bit
    /// architecture that the 64-bit one contains. (containerd's `platforms.Only`.)
    pub fn runnable(&self) -> Vec<Platform> {
        let own = Platform::new(&self.os, &self.architecture, self.variant.as_deref());
        let version = |text: &str| text.strip_prefix('v')?.parse::<u8>().ok();
        let of = |architecture: &str, versions: std::ops::RangeInclusive<u8>| -> Vec<Platform> {
            let name = |version| Platform::new(&own.os, architecture, Some(&format!("v{version}")));
            versions.rev().map(name).collect()
        };
        let variant = own.variant.as_deref();
        let older = match own.architecture.as_str() {
            "amd64" => {
                let mut older = of("amd64", 1..=variant.and_then(version).unwrap_or(1).saturating_sub(1));
                older.push(Platform::new(&own.os, "386", None));
                older
            }
            "arm" => of("arm", 5..=variant.and_then(version).unwrap_or(7).saturating_sub(1)),
            "arm64" => of("arm", 5..=8),
            _ => Vec::new(),
        };
        std::iter::once(own).chain(older).collect()
    }
}

/// Spells architecture and variant the way images do; a variant that is the default one is left out.
fn normalise(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386" | "x86" | "i686", _) => ("386", None),
        ("x86_64" | "x86-64" | "amd64", Some("v1")) => ("amd64", None),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", Some("8" | "v8")) => ("arm64", None),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", None | Some("7" | "v7")) => ("arm", Some("v7")),
        ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
        ("arm", Some("5")) => ("arm", Some("v5")),
        ("arm", Some("8")) => ("arm", Some("v8")),
        ("powerpc64le", variant) => ("ppc64le", variant),
        other => other,
    };
    (architecture.to_owned(), variant.map(str::to_owned))
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Platform, Error> {
        let invalid = || Error::Platform { text: text.to_owned() };
        let parts: Vec<&str> = text.split('/').collect();
        let valid = |part: &&str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        };
        if !parts.iter().all(valid) {
            return Err(invalid());
        }
        match parts[..] {
            // containerd reads a lone word as an operating system or as an architecture, whichever it knows.
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => {
                Ok(Platform::new(os, std::env::consts::ARCH, None))
            }
            [
                architecture @ ("amd64" | "x86_64" | "arm64" | "aarch64" | "arm" | "386" | "riscv64"
                | "ppc64le" | "s390x"),
            ] => Ok(Platform::new("linux", architecture, None)),
            [os, architecture] => Ok(Platform::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Platform::new(os, architecture, Some(variant))),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_what_is_older() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64 linux/386"),
            ("linux/amd64/v3", "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"),
            ("linux/arm64", "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
            ("linux/arm/v7", "linux/arm/v7 linux/arm/v6 linux/arm/v5"),
            ("linux/arm/v5", "linux/arm/v5"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            let platform: Platform = text.parse().unwrap();
            let found: Vec<String> = platform.runnable().iter().map(Platform::to_string).collect();
            assert_eq!(found.join(" "), expected);
        }
    }

    #[test]
    fn normalises() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AArch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("amd64", "linux/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "linux/", "/amd64", "linux/a/b/c", "linux/am d64", "$X"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
