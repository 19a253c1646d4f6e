//! `--attest`, `--provenance` and `--sbom`: what is attested of an image.

use std::str::FromStr;

use builder::attest::provenance::{Mode, Provenance, Version};

use super::fields;
use super::output::boolean;

/// `--provenance`: none if there is to be none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProvenanceArg(pub(crate) Option<Provenance>);

/// `--sbom`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SbomArg(pub(crate) bool);

/// `--attest type=…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attest {
    Provenance(ProvenanceArg),
    Sbom(SbomArg),
}

impl FromStr for ProvenanceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<ProvenanceArg, String> {
        ProvenanceArg::of(&fields::split(text)?)
    }
}

impl ProvenanceArg {
    fn of(all: &[String]) -> Result<ProvenanceArg, String> {
        // BuildKit's, where a provenance is asked for and nothing is said of how it is to be.
        let mut how = Provenance {
            mode: Mode::Max,
            version: Version::V1,
            builder_id: String::new(),
            reproducible: false,
            inline_only: false,
        };
        if let [word] = all {
            match word.as_str() {
                "true" | "1" | "" => return Ok(ProvenanceArg(Some(how))),
                "false" | "0" => return Ok(ProvenanceArg(None)),
                "min" | "max" => {
                    how.mode = mode(word)?;
                    return Ok(ProvenanceArg(Some(how)));
                }
                _ => {}
            }
        }
        for field in all {
            let (key, value) = fields::pair(field)?;
            match (key.as_str(), value.as_str()) {
                ("mode", value) => how.mode = mode(value)?,
                ("version", "v1") => how.version = Version::V1,
                ("version", "v0.2") => how.version = Version::V02,
                ("version", other) => return Err(format!("unknown version `{other}`: expected v1 or v0.2")),
                ("builder-id", id) => id.clone_into(&mut how.builder_id),
                ("reproducible", value) => how.reproducible = boolean("reproducible", value)?,
                ("inline-only", value) => how.inline_only = boolean("inline-only", value)?,
                ("disabled", "true") => return Ok(ProvenanceArg(None)),
                ("disabled", "false") => {}
                _ => {
                    return Err(format!(
                        "unknown field `{key}={value}`: expected mode, version, builder-id, reproducible or inline-only"
                    ));
                }
            }
        }
        Ok(ProvenanceArg(Some(how)))
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "min" => Ok(Mode::Min),
        "max" => Ok(Mode::Max),
        other => Err(format!("unknown mode `{other}`: expected min or max")),
    }
}

impl FromStr for SbomArg {
    type Err = String;

    fn from_str(text: &str) -> Result<SbomArg, String> {
        match text {
            "true" | "1" | "" | "disabled=false" => Ok(SbomArg(true)),
            "false" | "0" | "disabled=true" => Ok(SbomArg(false)),
            text if text.starts_with("generator=") => {
                Err("there is no other generator than lbuild itself: expected `true` or `false`".to_owned())
            }
            other => Err(format!("expected `true` or `false`, found `{other}`")),
        }
    }
}

impl FromStr for Attest {
    type Err = String;

    fn from_str(text: &str) -> Result<Attest, String> {
        let mut all = fields::split(text)?;
        let at = all.iter().position(|field| field.starts_with("type="));
        let at = at
            .ok_or_else(|| format!("no `type`: expected `type=provenance` or `type=sbom`, found `{text}`"))?;
        let kind = all.remove(at);
        match kind.as_str() {
            "type=provenance" => ProvenanceArg::of(&all).map(Attest::Provenance),
            "type=sbom" => all.join(",").parse().map(Attest::Sbom),
            _ => Err(format!("unknown type `{}`: expected provenance or sbom", &kind["type=".len()..])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attestations_are_asked_for_in_many_ways() {
        let how = |mode, version| {
            let (builder_id, reproducible, inline_only) = (String::new(), false, false);
            let how = Provenance { mode, version, builder_id, reproducible, inline_only };
            Attest::Provenance(ProvenanceArg(Some(how)))
        };
        for (text, expected) in [
            ("type=provenance", how(Mode::Max, Version::V1)),
            ("type=provenance,mode=min", how(Mode::Min, Version::V1)),
            ("mode=max,type=provenance,version=v0.2", how(Mode::Max, Version::V02)),
            ("type=provenance,disabled=true", Attest::Provenance(ProvenanceArg(None))),
            ("type=sbom", Attest::Sbom(SbomArg(true))),
            ("type=sbom,disabled=true", Attest::Sbom(SbomArg(false))),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for (text, expected) in
            [("max", Mode::Max), ("min", Mode::Min), ("true", Mode::Max), ("mode=min", Mode::Min)]
        {
            let parsed: ProvenanceArg = text.parse().unwrap();
            assert_eq!(parsed.0.map(|how| how.mode), Some(expected), "{text}");
        }
        // As `docker/build-push-action` has it.
        let text = "mode=min,inline-only=true,builder-id=https://example.com/1,reproducible=1";
        let ProvenanceArg(Some(how)) = text.parse().unwrap() else { panic!("none") };
        assert!(how.inline_only && how.reproducible && how.builder_id == "https://example.com/1");
        let text = "type=provenance,\"builder-id=https://example.com/?a,b=\"\"c\"\"\"";
        let Attest::Provenance(ProvenanceArg(Some(how))) = text.parse().unwrap() else { panic!("none") };
        assert_eq!(how.builder_id, "https://example.com/?a,b=\"c\"");
        assert_eq!("false".parse(), Ok(ProvenanceArg(None)));
        for (text, expected) in [
            ("mode=max", "no `type`"),
            ("type=scan", "unknown type `scan`"),
            ("type=provenance,mode=mid", "unknown mode `mid`"),
            ("type=provenance,version=v2", "unknown version `v2`"),
            ("type=provenance,a=b", "unknown field `a=b`"),
            ("type=sbom,generator=x", "no other generator"),
            ("type=provenance,inline-only=x", "expected `inline-only=true`"),
            ("type=sbom,x", "expected `true` or `false`, found `x`"),
        ] {
            let error = text.parse::<Attest>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
