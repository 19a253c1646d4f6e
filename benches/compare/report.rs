//! The figures as they come, and the part of benches/RESULTS.md that holds the last ones.
#![allow(clippy::print_stdout, reason = "a bench tells its figures")]

use std::fmt::Write as _;
use std::time::Instant;

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

pub(crate) struct Report {
    head: String,
    promises: String,
    tables: String,
    start: Instant,
}

impl Report {
    pub(crate) fn begin(site: &Site) -> Report {
        let head =
            format!("{}.\nPeers: {}.\n", machine::description(&site.folder), machine::peers(&PACKAGES));
        println!("{head}");
        Report { head, promises: String::new(), tables: String::new(), start: Instant::now() }
    }

    /// Shows a workload's results.
    pub(crate) fn add(&mut self, workload: &Workload, results: &[Result], checked: &str) {
        let table = contest::table(workload, results);
        println!("{} ({})\n\n{table}", workload.title, workload.name);
        for verdict in contest::verdicts(workload, results) {
            let met = match verdict.met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "peer absent",
            };
            println!("target {}: {}, {met}", verdict.target, verdict.measured);
            writeln!(
                self.promises,
                "| {} | {} | {} | {met} |",
                workload.name, verdict.target, verdict.measured
            )
            .expect("a string");
        }
        println!("{checked}\n");
        write!(self.tables, "### {} (`{}`)\n\n{table}\n", workload.title, workload.name).expect("a string");
        if !checked.is_empty() {
            write!(self.tables, "Checked: {checked}.\n\n").expect("a string");
        }
    }

    /// Puts it into benches/RESULTS.md.
    pub(crate) fn write(&self) {
        let text = format!(
            "## Beside the peers\n\n{}\nWhole run: {:.0} minutes. Medians; the ratio is to lbuild in the same run, in turns. Memory is that of a builder's largest process, with Docker that of its daemon.\n\n| workload | target | measured | met |\n|---|---|---|---|\n{}\n{}",
            self.head,
            self.start.elapsed().as_secs_f64() / 60.0,
            self.promises,
            self.tables
        );
        results::replace("compare", &text);
    }
}
