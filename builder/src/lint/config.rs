//! Which rules count: `skip=A,B;error=true;experimental=C`, from the directive `# check=`, from the build
//! argument `BUILDKIT_DOCKERFILE_CHECK`, from a comment above an instruction.
//!
//! The build argument replaces the directive; a comment adds to what holds for the file, for one instruction.
//! `all` stands for every rule. What is skipped never concerns an experimental rule: that one is asleep until
//! it is named. (BuildKit, frontend/dockerfile/linter, `ParseLintOptions`.)

use std::collections::BTreeMap;

use super::Rule;
use crate::dockerfile::{Diagnostic, Dockerfile, Instruction, Severity};

/// The build argument that replaces the directive.
pub const BUILD_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Which rules count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    skip: Names,
    experimental: Names,
    /// Whether a build fails where a rule is broken.
    pub error: bool,
}

/// Some rules, or all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    named: Vec<String>,
}

impl Names {
    fn read(text: &str) -> Names {
        let named = text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        if text == "all" {
            Names { all: true, named: Vec::new() }
        } else {
            Names { all: false, named: named.collect() }
        }
    }

    fn contains(&self, rule: Rule) -> bool {
        self.all || self.named.iter().any(|name| name == rule.name())
    }
}

impl Config {
    /// What holds for the file, and a warning for each name that is no rule's.
    ///
    /// # Errors
    /// A setting that is not of the form above, with its place if it stands in the file.
    pub fn of(
        dockerfile: &Dockerfile,
        build_args: &BTreeMap<String, String>,
    ) -> Result<(Config, Vec<Diagnostic>), Diagnostic> {
        let (text, span) = match (build_args.get(BUILD_ARG), &dockerfile.directives.check) {
            (Some(given), _) => (given.as_str(), None),
            (None, Some(word)) => (word.text.as_str(), Some(word.span)),
            (None, None) => return Ok((Config::default(), Vec::new())),
        };
        let said = |message: String| Diagnostic { span, ..Diagnostic::error_without_place(message) };
        let config = Config::parse(text).map_err(said)?;
        let names = config.skip.named.iter().chain(&config.experimental.named);
        let unknown = names.filter(|name| Rule::named(name).is_none()).map(|name| {
            let warning =
                Diagnostic { severity: Severity::Warning, ..said(format!("no check is named `{name}`")) };
            warning.did_you_mean(name, Rule::ALL.iter().map(|rule| rule.name()))
        });
        let unknown = unknown.collect();
        Ok((config, unknown))
    }

    /// Reads `key=value;key=value…`; the error says what is wrong.
    fn parse(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').map(|(key, value)| (key.trim(), value.trim())).ok_or_else(
                || format!("`{part}` is not a setting for checks: expected `skip=…`, `error=…` or `experimental=…`"),
            )?;
            match key {
                "skip" => config.skip = Names::read(value),
                "experimental" => config.experimental = Names::read(value),
                "error" => {
                    config.error = boolean(value)
                        .ok_or_else(|| format!("`error` is `true` or `false`, not `{value}`"))?;
                }
                _ => {
                    return Err(format!(
                        "`{key}` is not a setting for checks: expected `skip`, `error` or `experimental`"
                    ));
                }
            }
        }
        Ok(config)
    }

    /// Whether a breach of `rule` at `instruction` counts. A comment that cannot be read says nothing.
    pub(super) fn counts(&self, rule: Rule, instruction: Option<&Instruction>) -> bool {
        let comments = instruction.map_or(&[][..], |instruction| &instruction.comments);
        let own = comments.iter().find_map(|comment| check_comment(comment)).unwrap_or_default();
        if rule.is_experimental() {
            self.experimental.contains(rule) || own.experimental.contains(rule)
        } else {
            !self.skip.contains(rule) && !own.skip.contains(rule)
        }
    }
}

/// The settings in `check=…`, up to a blank.
fn check_comment(comment: &str) -> Option<Config> {
    let (key, value) = comment.split_once('=')?;
    let settings = value.split_whitespace().next().filter(|_| key.trim().eq_ignore_ascii_case("check"))?;
    Some(Config::parse(settings).unwrap_or_default())
}

/// The spellings that Go's `strconv.ParseBool` takes.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn config(directive: &str, arg: Option<&str>) -> Result<(Config, Vec<String>), String> {
        let dockerfile = parse(&format!("# check={directive}\nFROM scratch\n")).unwrap();
        let args = arg.map(|value| (BUILD_ARG.to_owned(), value.to_owned())).into_iter().collect();
        Config::of(&dockerfile, &args)
            .map(|(config, unknown)| (config, unknown.into_iter().filter_map(|d| d.hint).collect()))
            .map_err(|error| error.message)
    }

    #[test]
    fn settings_are_read() {
        let counts = |directive, arg, rule: Rule| config(directive, arg).unwrap().0.counts(rule, None);
        for (directive, arg, expected) in [
            ("skip=StageNameCasing", None, [false, true, false]),
            ("skip=all", None, [false, false, false]),
            ("skip= UndefinedVar , StageNameCasing ", None, [false, false, false]),
            ("skip=all;experimental=all", None, [false, false, true]),
            ("experimental=InvalidDefinitionDescription;error=true", None, [true, true, true]),
            ("skip=all", Some("error=1"), [true, true, false]),
            ("error=true", Some("skip=all"), [false, false, false]),
        ] {
            let rules = [Rule::StageNameCasing, Rule::UndefinedVar, Rule::InvalidDefinitionDescription];
            assert_eq!(rules.map(|rule| counts(directive, arg, rule)), expected, "{directive} {arg:?}");
        }
        assert!(config("error=T;skip=X", None).unwrap().0.error);
        assert!(!config("error=true", Some("error=false")).unwrap().0.error);
    }

    #[test]
    fn names_of_no_rule_are_told_and_other_mistakes_refused() {
        assert_eq!(config("skip=StageNameCase", None).unwrap().1, ["did you mean `StageNameCasing`?"]);
        for (text, expected) in [
            ("StageNameCasing", "expected `skip=…`"),
            ("ignore=all", "expected `skip`, `error`"),
            ("error=yes", "not `yes`"),
        ] {
            assert!(config(text, None).unwrap_err().contains(expected), "{text}");
            assert!(config("skip=all", Some(text)).unwrap_err().contains(expected), "{text}");
        }
    }
}
