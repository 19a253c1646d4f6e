//! The figures as they come, and the part of benches/RESULTS.md that holds the last ones.
#![allow(clippy::print_stdout, reason = "a bench tells its figures")]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::contest::{self, Result, Workload};
use crate::site::Site;
use crate::support::{machine, results};

/// What the versions in the report are of.
const PACKAGES: [&str; 11] = [
    "docker.io",
    "buildah",
    "podman",
    "crun",
    "runc",
    "skopeo",
    "umoci",
    "docker-registry",
    "pigz",
    "zstd",
    "busybox-static",
];

/// Where the parts of the report wait for each other: a workload that is measured alone replaces its own.
const PARTS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/compare");

pub(crate) struct Report {
    head: String,
    file_system: String,
    /// Whether all peers take part, so that the file may have it.
    whole: bool,
}

impl Report {
    pub(crate) fn begin(site: &Site) -> Report {
        let machine = machine::description(&site.folder);
        let head = format!("{machine}.\nPeers: {}.\n", machine::peers(&PACKAGES));
        println!("{head}");
        Report { head, file_system: machine::file_system(&site.folder), whole: site.everybody() }
    }

    /// Shows a workload's results, and keeps them until [`Report::write`].
    pub(crate) fn add(&self, workload: &Workload, results: &[Result], checked: &str) {
        let table = contest::table(results, workload.extra, &self.file_system);
        println!("{} ({})\n\n{table}", workload.title, workload.name);
        let mut promises = String::new();
        for verdict in contest::verdicts(workload, results) {
            let met = match verdict.met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "not measured",
            };
            let line = format!("| {} | {} | {} | {met} |", workload.name, verdict.target, verdict.measured);
            println!("target {}: {}, {met}", verdict.target, verdict.measured);
            writeln!(promises, "{line}").expect("a string");
        }
        println!("{checked}\n");
        let mut text = format!("### {} (`{}`)\n\n{table}\n", workload.title, workload.name);
        if !checked.is_empty() {
            write!(text, "Checked: {checked}.\n\n").expect("a string");
        }
        if !self.whole {
            return;
        }
        fs::create_dir_all(PARTS).expect("a folder");
        fs::write(part(workload, "promises"), promises).expect("a part");
        fs::write(part(workload, "table"), text).expect("a part");
    }

    /// Puts all parts into benches/RESULTS.md.
    pub(crate) fn write(&self, workloads: &[Workload]) {
        if !self.whole {
            return;
        }
        let all = |kind| {
            let parts =
                workloads.iter().map(|workload| fs::read_to_string(part(workload, kind)).unwrap_or_default());
            parts.collect::<String>()
        };
        let text = format!(
            "## Beside the peers\n\n{}\nMedians; in a workload all take turns, and the ratio is to lbuild. Memory is that of a builder's largest process, with Docker that of its daemon.\n\n| workload | target | measured | met |\n|---|---|---|---|\n{}\n{}",
            self.head,
            all("promises"),
            all("table")
        );
        results::replace("compare", &text);
    }
}

fn part(workload: &Workload, kind: &str) -> PathBuf {
    PathBuf::from(PARTS).join(format!("{}.{kind}", workload.name))
}
