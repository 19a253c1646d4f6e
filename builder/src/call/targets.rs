//! `--call targets`: the stages that can be asked for.

use serde::Serialize;

use super::{Location, description, encoded, table};
use crate::{Error, Request, dockerfile};

/// The stages of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Targets {
    /// In the order of the file.
    pub targets: Vec<Target>,
    /// The Dockerfile, encoded.
    pub sources: Vec<String>,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name, if it has one; in lower case.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whether it is built where no target is named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// What the comment above says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it starts from, as written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub base: String,
    /// `--platform`, as written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// Its `FROM`.
    pub location: Location,
}

/// Lists the stages.
///
/// # Errors
/// All mistakes of the Dockerfile at once.
pub fn targets(request: &Request) -> Result<Targets, Error> {
    let dockerfile =
        dockerfile::parse(&request.dockerfile).map_err(|diagnostics| Error::Dockerfile { diagnostics })?;
    let stages = dockerfile.stages().stages;
    let last = stages.len() - 1;
    let target = |stage: &dockerfile::instruction::Stage<'_>| {
        let name = stage.name.unwrap_or_default();
        Target {
            name: name.to_owned(),
            default: stage.index == last,
            description: stage.name.map(|name| description(stage.head, name)).unwrap_or_default(),
            base: stage.from.base.text.clone(),
            platform: stage.from.platform.as_ref().map(|word| word.text.clone()).unwrap_or_default(),
            location: Location::of(stage.head.span),
        }
    };
    Ok(Targets { targets: stages.iter().map(target).collect(), sources: vec![encoded(&request.dockerfile)] })
}

impl Targets {
    /// A table of those that can be asked for.
    pub fn text(&self) -> String {
        let mut rows = vec![vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
        for target in &self.targets {
            let name = match (target.name.as_str(), target.default) {
                ("", false) => continue,
                ("", true) => "(default)".to_owned(),
                (name, true) => format!("{name} (default)"),
                (name, false) => name.to_owned(),
            };
            rows.push(vec![name, target.description.clone()]);
        }
        table(&rows, 3)
    }
}
