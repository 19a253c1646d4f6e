//! Rules that the text cannot tell broken: it takes what variables hold, which shell a stage has, what its base is.
//! Each rule is a function from what was found to the breach, if it is one; lowering calls it where it finds it.

use oci::Platform;

use super::{Rule, near};
use crate::dockerfile::expand::expand_word;
use crate::dockerfile::glob::clean;
use crate::dockerfile::{Diagnostic, Span};
use crate::ignore::Ignore;
use crate::plan::Base;
use crate::source::Bases;
use crate::stage::Stages;

/// Build arguments that steer the builder and never enter the environment; a use of them is no mistake.
const NOT_IN_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// `name` is used and has no value. `declared` are the stage's arguments: one without a value is no mistake.
/// `known` are the variables that have one.
pub(crate) fn undefined_variable<'a>(
    span: Span,
    name: &str,
    mut declared: impl Iterator<Item = &'a str>,
    known: impl Iterator<Item = &'a str>,
) -> Option<Diagnostic> {
    if declared.any(|declared| declared == name) || NOT_IN_ENVIRONMENT.contains(&name) {
        return None;
    }
    let mut message = format!("Usage of undefined variable '${name}'");
    if let Some(near) = near(name, known) {
        message.push_str(&format!(" (did you mean ${near}?)"));
    }
    Some(Rule::UndefinedVar.broken(span, message))
}

/// The first `WORKDIR` of a stage and the stages below it.
pub(crate) fn first_workdir(span: Span, path: &str) -> Option<Diagnostic> {
    let message = format!("Relative workdir {path:?} can have unexpected results if the base image changes");
    (!path.starts_with('/')).then(|| Rule::WorkdirRelativePath.broken(span, message))
}

/// `CMD` or `ENTRYPOINT`, as written, in shell form where neither base nor stage has set a shell.
pub(crate) fn shell_form(span: Span, instruction: &str) -> Diagnostic {
    let message = format!(
        "JSON arguments recommended for {instruction} to prevent unintended behavior related to OS signals"
    );
    Rule::JsonArgsRecommended.broken(span, message)
}

/// One expanded word of `EXPOSE`.
pub(crate) fn exposed_port(span: Span, word: &str) -> impl Iterator<Item = Diagnostic> {
    let (port, protocol) = word.split_once('/').unwrap_or((word, ""));
    let casing = (protocol != protocol.to_lowercase()).then(|| {
        let message = format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
        Rule::ExposeProtoCasing.broken(span, message)
    });
    let address = port.rsplit_once(':').is_some_and(|(before, _)| !before.trim_matches(':').is_empty());
    let format = address.then(|| {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
        );
        Rule::ExposeInvalidFormat.broken(span, message)
    });
    casing.into_iter().chain(format)
}

/// Base images that are for another platform than the stages on them. One without layers is for all.
pub(crate) fn base_images(stages: &Stages<'_>, bases: &Bases) -> Vec<Diagnostic> {
    let lookup = |name: &str| stages.globals.get(name).map(str::to_owned);
    let mut found = Vec::new();
    for needed in &stages.needed {
        let (Base::Image(image), word) = (&needed.base, &needed.stage.from.base) else { continue };
        let base = bases.get(image);
        let Ok(name) = expand_word(&word.text, stages.escape, &lookup) else { continue };
        if !base.diff_ids().is_empty() {
            let config = base.config.value();
            let platform = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
            found.extend(base_platform(word.span, &name.value, &image.platform, &platform));
        }
    }
    found
}

/// `FROM name`: an image for `found` where one for `wanted` is meant.
fn base_platform(span: Span, name: &str, wanted: &Platform, found: &Platform) -> Option<Diagnostic> {
    let differs = (&found.os, &found.architecture) != (&wanted.os, &wanted.architecture);
    let message = || {
        let (found, wanted) = (found.to_string(), wanted.to_string());
        format!("Base image {name} was pulled with platform {found:?}, expected {wanted:?} for current build")
    };
    differs.then(|| Rule::InvalidBaseImagePlatform.broken(span, message()))
}

/// A source of `instruction` (`COPY`, `ADD`) in the build context: one that is left out with all below it.
pub(crate) fn ignored_source(
    span: Span,
    instruction: &str,
    source: &str,
    ignore: &Ignore,
) -> Option<Diagnostic> {
    let path = clean(source.as_bytes());
    let relative = path.strip_prefix(b"/").unwrap_or(&path);
    let ignored = match relative {
        b"" | b"." => ignore.leaves_nothing(),
        _ => ignore.ignores(relative) && !ignore.may_reinclude_below(relative),
    };
    let verb = if instruction == "ADD" { "Add" } else { "Copy" };
    let message = || {
        let path = String::from_utf8_lossy(&path);
        format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore")
    };
    ignored.then(|| Rule::CopyIgnoredFile.broken(span, message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(found: impl IntoIterator<Item = Diagnostic>) -> Vec<String> {
        found.into_iter().map(|breach| format!("{}: {}", breach.rule.unwrap(), breach.message)).collect()
    }

    #[test]
    fn ports_have_neither_addresses_nor_shouted_protocols() {
        let port = |word| messages(exposed_port(Span::default(), word));
        for word in ["80", "80/tcp", "7000-7002/udp", ":80"] {
            assert_eq!(port(word), [""; 0], "{word}");
        }
        assert_eq!(
            port("80/TCP"),
            ["ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"]
        );
        for word in ["80:80", "127.0.0.1:80:80", "[::1]:80:80", "127.0.0.1::80"] {
            assert!(
                port(word)[0].starts_with("ExposeInvalidFormat: EXPOSE instruction should not"),
                "{word}"
            );
        }
        assert_eq!(port("8080:80/Udp").len(), 2);
    }

    #[test]
    fn a_source_is_ignored_only_with_all_below_it() {
        for (ignore, source, expected) in [
            ("Dockerfile", "Dockerfile", true),
            ("Dockerfile", "./Dockerfile", true),
            ("Dockerfile", "/Dockerfile", true),
            ("Dockerfile", "other", false),
            ("dir", "dir/file", true),
            ("dir\n!dir/file", "dir", false),
            ("dir\n!dir/file", "dir/file", false),
            ("dir\n!dir/file", "dir/other", true),
            ("*", ".", true),
            ("**", "/", true),
            ("*\n!kept", ".", false),
            ("*.log", ".", false),
            ("*.log", "*.log", true),
            ("", "x", false),
        ] {
            let ignore = Ignore::parse(ignore.as_bytes()).unwrap();
            let found = ignored_source(Span::default(), "ADD", source, &ignore);
            assert_eq!(found.is_some(), expected, "{source} {ignore:?}");
            assert!(found.is_none_or(|breach| breach.message.starts_with("Attempting to Add file \"")));
        }
    }

    #[test]
    fn a_base_is_for_the_platform_or_not() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let check = |wanted, found| {
            messages(base_platform(Span::default(), "base", &platform(wanted), &platform(found)))
        };
        assert_eq!(check("linux/amd64", "linux/x86_64"), [""; 0]);
        assert_eq!(check("linux/arm/v7", "linux/arm/v6"), [""; 0]);
        assert_eq!(
            check("linux/amd64", "linux/arm64"),
            [
                "InvalidBaseImagePlatform: Base image base was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build"
            ]
        );
    }

    #[test]
    fn variables_without_a_value_may_be_declared() {
        let check = |name| {
            messages(undefined_variable(
                Span::default(),
                name,
                ["declared"].into_iter(),
                ["PATH"].into_iter(),
            ))
        };
        assert_eq!(check("declared"), [""; 0]);
        assert_eq!(check("BUILDKIT_SBOM_SCAN_STAGE"), [""; 0]);
        assert_eq!(check("foo"), ["UndefinedVar: Usage of undefined variable '$foo'"]);
        assert_eq!(
            check("PAHT"),
            ["UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?)"]
        );
        assert_eq!(messages(first_workdir(Span::default(), "/a")), [""; 0]);
        assert_eq!(messages(first_workdir(Span::default(), "a/")).len(), 1);
    }
}
