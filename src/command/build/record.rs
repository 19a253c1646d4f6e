//! `--iidfile` and `--metadata-file`: what was built, for other programs.

use std::collections::BTreeMap;
use std::path::Path;

use builder::call::encoded;
use builder::deliver::Artifact;
use builder::dockerfile::diagnostic::Diagnostic;
use builder::lint::Rule;
use oci::Reference;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::progress::one_line;
use crate::request::{Delivery, Dockerfile};

/// Writes the files that were asked for.
pub(super) fn record(
    artifact: &Artifact,
    delivery: &Delivery,
    dockerfile: &Dockerfile,
    warnings: &[Diagnostic],
) -> Result<(), Failure> {
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|error| Failure::file("write", path, &error))
    };
    if let Some(path) = &delivery.iidfile {
        write(path, artifact.descriptor().digest.to_string())?;
    }
    if let Some(path) = &delivery.metadata_file {
        let warnings = delivery.metadata_has_warnings.then(|| told(warnings, dockerfile));
        write(path, metadata(artifact, &delivery.names, warnings))?;
    }
    Ok(())
}

/// The keys that `docker buildx build --metadata-file` writes.
fn metadata(artifact: &Artifact, names: &[Reference], warnings: Option<Value>) -> String {
    let mut keys = BTreeMap::from([
        ("containerimage.descriptor", json!(artifact.descriptor())),
        ("containerimage.digest", json!(artifact.descriptor().digest)),
    ]);
    if let [image] = artifact.images() {
        keys.insert("containerimage.config.digest", json!(image.config.digest()));
    }
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(Reference::to_string).collect();
        keys.insert("image.name", json!(names.join(",")));
    }
    if let Some(warnings) = warnings {
        keys.insert("buildx.build.warnings", warnings);
    }
    serde_json::to_string_pretty(&keys).expect("keys are strings and no value fails") + "\n"
}

/// Warnings as BuildKit's client has them, with bytes in base64.
fn told(warnings: &[Diagnostic], dockerfile: &Dockerfile) -> Value {
    let tell = |warning: &Diagnostic| {
        let rule = warning.rule.and_then(Rule::named);
        let mut value = json!({
            "level": 1,
            "short": encoded(&one_line(warning)),
            "sourceInfo": {
                "filename": dockerfile.name,
                "data": encoded(&dockerfile.text),
                "language": "Dockerfile",
            },
        });
        if let Some(rule) = rule {
            value["detail"] = json!([encoded(rule.description())]);
            value["url"] = json!(rule.url());
        }
        if let Some(span) = warning.span {
            let line = |line: u32| json!({ "line": line });
            value["range"] = json!([{ "start": line(span.start.line), "end": line(span.end.line) }]);
        }
        value
    };
    warnings.iter().map(tell).collect()
}
