//! The rules of style and sense, and the calls that tell of a Dockerfile: every case of `testdata/lint` is checked
//! against images whose configurations are known.
//!
//! A file there holds cases: `=== name`, then sections. `--- settings` has lines `arg NAME=VALUE`, `target NAME`,
//! `platform P`; `--- ignore` is the ignore file; `--- found` has a line for each breach as BuildKit tells it, `note …`
//! for what is said of the settings, and `error …`, or `error` alone, for what fails the check.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use builder::call::check::{Report, check};
use builder::call::outline::outline;
use builder::call::targets::targets;
use builder::error::ImageError;
use builder::ignore::Ignore;
use builder::lint::Rule;
use builder::source::{BaseImage, ImageSource, Progress};
use builder::{Context, Files, Request};
use layerfs::snapshot::SnapshotId;
use oci::{Compression, Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform, Raw, Reference};

/// `base`; `shelled`, which has a shell; `triggered`, which has a trigger; `arm`, which is for arm64 whatever is asked.
struct Known;

impl ImageSource for Known {
    fn resolve(&self, name: &Reference, platform: &Platform, _: bool) -> Result<BaseImage, ImageError> {
        let (architecture, settings) = match name.repository() {
            "library/base" => (platform.architecture.as_str(), ""),
            "library/shelled" => (platform.architecture.as_str(), r#","Shell":["/bin/bash","-c"]"#),
            "library/triggered" => (platform.architecture.as_str(), r#","OnBuild":["ENV $trigger=1"]"#),
            "library/arm" => ("arm64", ""),
            _ => return Err(ImageError::Layers { in_manifest: 0, in_config: 1 }),
        };
        let layer = Digest::of(b"layer");
        let config: ImageConfig = serde_json::from_str(&format!(
            r#"{{"architecture":"{architecture}","os":"linux",
            "config":{{"Env":["PATH=/bin","FROM_BASE=1"],"WorkingDir":"/srv"{settings}}},
            "rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
        ))
        .unwrap();
        let config = Raw::write(config);
        let layers = vec![Descriptor::new(MediaType::OciLayer(Compression::None), layer, 1)];
        let manifest =
            Raw::write(Manifest::oci(Descriptor::new(MediaType::OciConfig, config.digest(), 1), layers));
        let descriptor = Descriptor::new(MediaType::OciManifest, Digest::of(b"manifest"), 1);
        BaseImage::new(name.clone(), descriptor, manifest, config)
    }

    fn fetch(&self, _: &BaseImage, _: Progress<'_>) -> Result<(), ImageError> {
        unreachable!("nothing is executed")
    }

    fn snapshot(&self, _: &BaseImage, _: Progress<'_>) -> Result<Option<SnapshotId>, ImageError> {
        unreachable!("nothing is executed")
    }
}

fn request(dockerfile: &str, ignore: &str) -> Request {
    let mut context = Context::open("/".into()).unwrap();
    context.ignore = Ignore::parse(ignore.as_bytes()).unwrap();
    context.ignore_text = ignore.to_owned();
    Request {
        platform: Platform::new("linux", "amd64", None),
        ..Request::new(dockerfile, Files::Directory(context))
    }
}

/// One case: its name, and its sections by name.
struct Case {
    name: String,
    sections: BTreeMap<String, String>,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            cases.push(Case { name: name.to_owned(), sections: BTreeMap::new() });
        } else if let Some(name) = line.strip_prefix("--- ") {
            name.clone_into(&mut section);
            cases.last_mut().unwrap().sections.insert(section.clone(), String::new());
        } else {
            let text = cases.last_mut().unwrap().sections.get_mut(&section).unwrap();
            text.push_str(line);
            text.push('\n');
        }
    }
    cases
}

impl Case {
    fn section(&self, name: &str) -> &str {
        self.sections.get(name).map(String::as_str).unwrap_or_default()
    }

    fn request(&self) -> Request {
        let mut request = request(self.section("Dockerfile"), self.section("ignore"));
        for line in self.section("settings").lines().filter(|line| !line.is_empty()) {
            let (key, value) = line.split_once(' ').unwrap();
            match key {
                "arg" => {
                    let (name, value) = value.split_once('=').unwrap();
                    request.build_args.insert(name.to_owned(), value.to_owned());
                }
                "target" => request.target = Some(value.to_owned()),
                "platform" => request.platform = value.parse().unwrap(),
                _ => panic!("{}: no setting is called `{key}`", self.name),
            }
        }
        request
    }
}

/// A report as `--- found` has it.
fn listing(report: &Report) -> String {
    let mut text = String::new();
    for warning in &report.warnings {
        let line = warning.location.ranges[0].start.line;
        let _ = writeln!(text, "{line} {}: {}", warning.rule.name(), warning.diagnostic.message);
    }
    for note in &report.notes {
        let _ = writeln!(text, "note {}", note.message);
    }
    if let Some(failure) = &report.failure {
        let _ = writeln!(text, "error {failure}");
    }
    text
}

#[test]
fn every_case_is_told_as_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("testdata/lint");
    let (mut wrong, mut broken, mut count) = (String::new(), BTreeSet::new(), 0);
    for entry in fs::read_dir(folder).unwrap() {
        for case in cases(&fs::read_to_string(entry.unwrap().path()).unwrap()) {
            count += 1;
            let report = check(&case.request(), &Known);
            broken.extend(report.warnings.iter().map(|warning| warning.rule));
            let mut found = listing(&report);
            let expected = format!("{}\n", case.section("found").trim_end());
            if expected.ends_with("error\n") {
                let end = found.find("error ").unwrap_or(found.len());
                found.replace_range(end..found.len().max(end + 1) - 1, "error");
            }
            if found.trim_end() != expected.trim_end() {
                let _ = writeln!(wrong, "=== {}\nexpected:\n{expected}found:\n{found}", case.name);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(broken, Rule::ALL.into_iter().collect(), "each rule is broken by some case");
    assert!(count >= 90, "only {count} cases");
}

#[test]
fn triggers_of_an_image_are_told_at_the_from() {
    let report = check(&request("FROM scratch\n\nFROM triggered\n", ""), &Known);
    assert!(listing(&report).starts_with("3 UndefinedVar: Usage of undefined variable '$trigger'\n"));
}

#[test]
fn a_report_reads_as_buildx_prints_it() {
    let dockerfile = "FROM scratch AS Base\nCOPY a \\\n  b \\\n  /\u{1b}[31m\nENV a b\nLABEL x=y\nCMD x\n";
    let report = check(&request(dockerfile, "a"), &Known);
    let expected = "
WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'Base' should be lowercase
Dockerfile:1
--------------------
   1 | >>> FROM scratch AS Base
   2 |     COPY a \\
   3 |       b \\
--------------------

WARNING: CopyIgnoredFile - https://docs.docker.com/go/dockerfile/rule/copy-ignored-file/
Attempting to Copy file \"a\" that is excluded by .dockerignore
Dockerfile:2
--------------------
   1 |     FROM scratch AS Base
   2 | >>> COPY a \\
   3 | >>>   b \\
   4 | >>>   /\u{fffd}[31m
   5 |     ENV a b
--------------------

WARNING: LegacyKeyValueFormat - https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/
\"ENV key=value\" should be used instead of legacy \"ENV key value\" format
Dockerfile:5
--------------------
   3 |       b \\
   4 |       /\u{fffd}[31m
   5 | >>> ENV a b
   6 |     LABEL x=y
   7 |     CMD x
--------------------

WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/
JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
Dockerfile:7
--------------------
   5 |     ENV a b
   6 |     LABEL x=y
   7 | >>> CMD x
   8 |
--------------------
";
    assert_eq!(report.text(), expected);
    assert_eq!(report.summary(), "Check complete, 4 warnings have been found!");
    let clean = check(&request("FROM scratch\n", ""), &Known);
    assert_eq!((clean.text().as_str(), clean.summary().as_str()), ("", "Check complete, no warnings found."));
}

#[test]
fn a_report_has_the_shape_of_buildkits() {
    let report = check(&request("FROM scratch\nCMD a\\\nb\nEXPOSE x\n", ""), &Known);
    let expected = serde_json::json!({
        "warnings": [{
            "ruleName": "JSONArgsRecommended",
            "description": Rule::JsonArgsRecommended.description(),
            "url": "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
            "detail": "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            "location": {"ranges": [
                {"start": {"line": 2}, "end": {"line": 2}},
                {"start": {"line": 3}, "end": {"line": 3}},
            ]},
        }],
        "sources": [{
            "filename": "Dockerfile",
            "language": "Dockerfile",
            "data": "RlJPTSBzY3JhdGNoCkNNRCBhXApiCkVYUE9TRSB4Cg==",
        }],
        "buildError": {
            "message": "`x` is not a port: expected `port[-port][/protocol]`, up to 65535",
            "location": {"ranges": [{"start": {"line": 4}, "end": {"line": 4}}]},
        },
    });
    assert_eq!(serde_json::to_value(&report).unwrap(), expected);
    assert!(report.text().ends_with(
        "ERROR: `x` is not a port: expected `port[-port][/protocol]`, up to 65535\nDockerfile:4\n\
         --------------------\n   2 |     CMD a\\\n   3 |     b\n   4 | >>> EXPOSE x\n   5 |\n--------------------\n"
    ));
    assert_eq!(report.summary(), "Check complete, 1 warning and an error have been found!");
    let missing = check(&request("FROM missing\n", ""), &Known).text();
    let expected = "\nERROR: cannot use the image `missing:latest`: its manifest has 0 layers and its configuration \
                    1 diff ids\nDockerfile:1\n";
    assert!(missing.starts_with(expected), "{missing}");
    let two = check(&request("FROM scratch\nARG p=x\nEXPOSE $p\nEXPOSE $p\n", ""), &Known).text();
    assert_eq!(two.matches("ERROR: ").count(), 2, "{two}");
}

const DOCUMENTED: &str = "\
# VERSION of the base
ARG VERSION=1
ARG UNUSED=2
ARG NAME=base:${VERSION}
# CHANNEL to publish on
ARG CHANNEL=stable

# build compiles everything
FROM --platform=$BUILDPLATFORM ${NAME} AS build
# MODE of the build
ARG MODE=release LEVEL=${MODE}3
ARG CHANNEL
ENV OUT=/out/$MODE
RUN --mount=type=secret,id=npm --mount=type=cache,target=/root/.cache,id=npm-$MODE true
RUN --mount=type=secret,id=npm,required --mount=type=ssh true

FROM scratch AS other
ARG OTHER=1

FROM scratch
COPY --from=build /out /
";

#[test]
fn an_outline_has_what_the_target_can_be_given() {
    let mut request = request(DOCUMENTED, "");
    request.build_args.insert("MODE".to_owned(), "debug".to_owned());
    let found = outline(&request).unwrap();
    assert_eq!(
        found.text(),
        "\
BUILD ARG   VALUE    DESCRIPTION
VERSION     1        of the base
NAME        base:1
CHANNEL     stable   to publish on
MODE        debug    of the build
LEVEL       debug3

SECRET   REQUIRED
npm      true

SSH       REQUIRED
default

CACHE
npm-debug

"
    );
    request.target = Some("build".to_owned());
    let text = outline(&request).unwrap().text();
    assert!(text.starts_with("TARGET:      build\nDESCRIPTION: compiles everything\n\nBUILD ARG"), "{text}");
    request.target = Some("other".to_owned());
    let json = serde_json::to_value(outline(&request).unwrap()).unwrap();
    let sources = json["sources"].clone();
    let location = serde_json::json!({"ranges": [{"start": {"line": 18}, "end": {"line": 18}}]});
    let args = serde_json::json!([{"name": "OTHER", "value": "1", "location": location}]);
    assert_eq!(json, serde_json::json!({"name": "other", "args": args, "sources": sources}));
    request.target = Some("missing".to_owned());
    assert!(outline(&request).is_err());
}

#[test]
fn targets_are_the_stages_that_can_be_named() {
    let found = targets(&request(DOCUMENTED, "")).unwrap();
    assert_eq!(found.text(), "TARGET      DESCRIPTION\nbuild       compiles everything\nother\n(default)\n");
    let json = serde_json::to_value(&found).unwrap();
    let location = |line| serde_json::json!({"ranges": [{"start": {"line": line}, "end": {"line": line}}]});
    assert_eq!(
        json["targets"],
        serde_json::json!([
            {
                "name": "build",
                "description": "compiles everything",
                "base": "${NAME}",
                "platform": "$BUILDPLATFORM",
                "location": location(9),
            },
            {"name": "other", "base": "scratch", "location": location(17)},
            {"default": true, "base": "scratch", "location": location(20)},
        ])
    );
    assert_eq!(
        targets(&request("FROM scratch AS a\n", "")).unwrap().text(),
        "TARGET        DESCRIPTION\na (default)\n"
    );
    assert!(targets(&request("FROMM\n", "")).is_err());
}
