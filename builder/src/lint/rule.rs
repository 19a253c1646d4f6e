//! The rules: what each is called, what it is about, where it is explained. When one is broken is told by the
//! modules beside this one.
//!
//! Names, descriptions and addresses are BuildKit's (frontend/dockerfile/linter, 1.26), so that settings and
//! tools made for it work here.

use crate::dockerfile::{Diagnostic, Span};

/// A rule of style or sense that a Dockerfile may break and still be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A stage's name has upper-case letters.
    StageNameCasing,
    /// `AS` is written in another case than `FROM`.
    FromAsCasing,
    /// A blank line stands inside an instruction.
    NoEmptyContinuation,
    /// An instruction is written in another case than most.
    ConsistentInstructionCasing,
    /// Two stages have one name.
    DuplicateStageName,
    /// A stage is called `scratch` or `context`.
    ReservedStageName,
    /// `CMD` or `ENTRYPOINT` in shell form, with the default shell.
    JsonArgsRecommended,
    /// `MAINTAINER` is used.
    MaintainerDeprecated,
    /// `FROM` uses an argument that nothing declares.
    UndefinedArgInFrom,
    /// The first `WORKDIR` depends on the base image's.
    WorkdirRelativePath,
    /// A variable is used that nothing defines.
    UndefinedVar,
    /// An instruction of which only the last counts stands twice in a stage.
    MultipleInstructionsDisallowed,
    /// `ENV` or `LABEL` without `=`.
    LegacyKeyValueFormat,
    /// A base image is for another platform.
    InvalidBaseImagePlatform,
    /// `--platform` repeats the default.
    RedundantTargetPlatform,
    /// `ARG` or `ENV` has a name as secrets have.
    SecretsUsedInArgOrEnv,
    /// Without build arguments, a `FROM` names no valid image.
    InvalidDefaultArgInFrom,
    /// `--platform` is the same for every build.
    FromPlatformFlagConstDisallowed,
    /// `COPY` or `ADD` of what the ignore file leaves out.
    CopyIgnoredFile,
    /// The comment above a stage or an argument does not describe it.
    InvalidDefinitionDescription,
    /// `EXPOSE` has a protocol in upper-case letters.
    ExposeProtoCasing,
    /// `EXPOSE` has an address or a port of the host.
    ExposeInvalidFormat,
}

/// Where the rules are explained.
const PAGES: &str = "https://docs.docker.com/go/dockerfile/rule";

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 22] = [
        Rule::StageNameCasing,
        Rule::FromAsCasing,
        Rule::NoEmptyContinuation,
        Rule::ConsistentInstructionCasing,
        Rule::DuplicateStageName,
        Rule::ReservedStageName,
        Rule::JsonArgsRecommended,
        Rule::MaintainerDeprecated,
        Rule::UndefinedArgInFrom,
        Rule::WorkdirRelativePath,
        Rule::UndefinedVar,
        Rule::MultipleInstructionsDisallowed,
        Rule::LegacyKeyValueFormat,
        Rule::InvalidBaseImagePlatform,
        Rule::RedundantTargetPlatform,
        Rule::SecretsUsedInArgOrEnv,
        Rule::InvalidDefaultArgInFrom,
        Rule::FromPlatformFlagConstDisallowed,
        Rule::CopyIgnoredFile,
        Rule::InvalidDefinitionDescription,
        Rule::ExposeProtoCasing,
        Rule::ExposeInvalidFormat,
    ];

    /// The rule of that name.
    pub fn named(name: &str) -> Option<Rule> {
        Rule::ALL.into_iter().find(|rule| rule.name() == name)
    }

    /// The name, as in `# check=skip=NAME`.
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// The page that explains the rule.
    pub fn url(self) -> String {
        format!("{PAGES}/{}/", self.facts().1)
    }

    /// What the rule is about, in one sentence.
    pub fn description(self) -> &'static str {
        self.facts().2
    }

    /// Whether the rule is asleep until `experimental=` wakes it.
    pub fn is_experimental(self) -> bool {
        self == Rule::InvalidDefinitionDescription
    }

    /// A breach of the rule at `span`; `message` says what was found.
    pub(crate) fn broken(self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(self.name(), span, message)
    }

    // flat: a table
    /// Name, name of the page, description.
    fn facts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Rule::StageNameCasing => {
                ("StageNameCasing", "stage-name-casing", "Stage names should be lowercase")
            }
            Rule::FromAsCasing => (
                "FromAsCasing",
                "from-as-casing",
                "The 'as' keyword should match the case of the 'from' keyword",
            ),
            Rule::NoEmptyContinuation => (
                "NoEmptyContinuation",
                "no-empty-continuation",
                "Empty continuation lines will become errors in a future release",
            ),
            Rule::ConsistentInstructionCasing => (
                "ConsistentInstructionCasing",
                "consistent-instruction-casing",
                "All commands within the Dockerfile should use the same casing (either upper or lower)",
            ),
            Rule::DuplicateStageName => {
                ("DuplicateStageName", "duplicate-stage-name", "Stage names should be unique")
            }
            Rule::ReservedStageName => (
                "ReservedStageName",
                "reserved-stage-name",
                "Reserved words should not be used as stage names",
            ),
            Rule::JsonArgsRecommended => (
                "JSONArgsRecommended",
                "json-args-recommended",
                "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
            ),
            Rule::MaintainerDeprecated => (
                "MaintainerDeprecated",
                "maintainer-deprecated",
                "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
            ),
            Rule::UndefinedArgInFrom => {
                ("UndefinedArgInFrom", "undefined-arg-in-from", "FROM command must use declared ARGs")
            }
            Rule::WorkdirRelativePath => (
                "WorkdirRelativePath",
                "workdir-relative-path",
                "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
            ),
            Rule::UndefinedVar => {
                ("UndefinedVar", "undefined-var", "Variables should be defined before their use")
            }
            Rule::MultipleInstructionsDisallowed => (
                "MultipleInstructionsDisallowed",
                "multiple-instructions-disallowed",
                "Multiple instructions of the same type should not be used in the same stage",
            ),
            Rule::LegacyKeyValueFormat => (
                "LegacyKeyValueFormat",
                "legacy-key-value-format",
                "Legacy key/value format with whitespace separator should not be used",
            ),
            Rule::InvalidBaseImagePlatform => (
                "InvalidBaseImagePlatform",
                "invalid-base-image-platform",
                "Base image platform does not match expected target platform",
            ),
            Rule::RedundantTargetPlatform => (
                "RedundantTargetPlatform",
                "redundant-target-platform",
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            ),
            Rule::SecretsUsedInArgOrEnv => (
                "SecretsUsedInArgOrEnv",
                "secrets-used-in-arg-or-env",
                "Sensitive data should not be used in the ARG or ENV commands",
            ),
            Rule::InvalidDefaultArgInFrom => (
                "InvalidDefaultArgInFrom",
                "invalid-default-arg-in-from",
                "Default value for global ARG results in an empty or invalid base image name",
            ),
            Rule::FromPlatformFlagConstDisallowed => (
                "FromPlatformFlagConstDisallowed",
                "from-platform-flag-const-disallowed",
                "FROM --platform flag should not use a constant value",
            ),
            Rule::CopyIgnoredFile => (
                "CopyIgnoredFile",
                "copy-ignored-file",
                "Attempting to Copy file that is excluded by .dockerignore",
            ),
            Rule::InvalidDefinitionDescription => (
                "InvalidDefinitionDescription",
                "invalid-definition-description",
                "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
            ),
            Rule::ExposeProtoCasing => (
                "ExposeProtoCasing",
                "expose-proto-casing",
                "Protocol in EXPOSE instruction should be lowercase",
            ),
            Rule::ExposeInvalidFormat => (
                "ExposeInvalidFormat",
                "expose-invalid-format",
                "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again_and_pages_follow_from_them() {
        for rule in Rule::ALL {
            assert_eq!(Rule::named(rule.name()), Some(rule));
            let page = rule.url().trim_end_matches('/').rsplit('/').next().unwrap().replace('-', "");
            assert_eq!(page, rule.name().to_lowercase());
        }
        assert_eq!(Rule::named("stagenamecasing"), None);
    }
}
