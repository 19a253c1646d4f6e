//! lbuild beside the peers that Debian offers, in turns, in one run on one machine. `make bench` runs it and it writes
//! its part of benches/RESULTS.md; `cargo bench --bench compare -- NAME…` runs some workloads and replaces theirs.
//!
//! Seconds move from machine to machine, so each figure is also a ratio, and each workload has targets. Everybody starts
//! from `scratch` and a static busybox, or pulls from a registry on loopback. `ROUNDS=N` sets the rounds after the
//! warm-up, `PEERS=a,b` who takes part (see `site`; then nothing is written), `LBUILD=FILE` the binary under measure.
//!
//! In the order of a run: `site` has the place and the builders (`builders`), a workload makes a `contest`, the contest
//! is played in turns, `tree` checks that all made the same, `report` shows what came of it.
#![allow(clippy::print_stdout, reason = "a bench tells its figures")]
#![allow(clippy::disallowed_methods, reason = "a bench reads its environment and ends")]

mod builders;
mod cached;
mod containers;
mod contest;
mod copies;
mod pull;
mod report;
mod site;
mod steps;
#[path = "../support/mod.rs"]
mod support;
mod tree;
mod writes;

use std::env;

use contest::Target::{Extra, ExtraAtMost, Faster, FasterThanAll, Memory, Seconds, Within};
use contest::Workload;
use site::Site;
use support::{guard, measure};

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "cached",
        title: "Ten steps and 1,000 files, all cached",
        rounds: 15,
        extra: None,
        targets: &[Faster(6.0, "BuildKit"), Seconds(0.015), Memory(64.0)],
        contest: cached::few_files,
    },
    Workload {
        name: "cached-many",
        title: "COPY of 100,000 files, all cached",
        rounds: 5,
        extra: None,
        targets: &[Faster(5.0, "BuildKit"), Within(2.0, "floor: walk with statx"), Memory(64.0)],
        contest: cached::many_files,
    },
    Workload {
        name: "run-steps",
        title: "21 RUN steps that do nothing",
        rounds: 3,
        extra: Some("ms a step"),
        targets: &[Faster(10.0, "BuildKit"), Extra(0.1, "BuildKit"), Memory(64.0)],
        contest: steps::run,
    },
    Workload {
        name: "copy-steps",
        title: "20 COPY steps of a small file",
        rounds: 5,
        extra: None,
        targets: &[Faster(10.0, "BuildKit"), Memory(64.0)],
        contest: steps::copy,
    },
    Workload {
        name: "stages",
        title: "Four stages of `sleep 2`, joined by COPY --from",
        rounds: 3,
        extra: None,
        targets: &[Within(1.05, "floor: sleep 2"), Memory(64.0)],
        contest: steps::stages,
    },
    Workload {
        name: "copy-small",
        title: "COPY of 30,000 files of 4 kB",
        rounds: 3,
        extra: None,
        targets: &[Faster(5.0, "BuildKit"), Memory(64.0)],
        contest: copies::small,
    },
    Workload {
        name: "copy-large",
        title: "COPY of 600 MB in 60 files, a third of it noise",
        rounds: 3,
        extra: None,
        targets: &[Faster(10.0, "BuildKit"), Within(1.5, "floor: cp -r and one SHA-256"), Memory(64.0)],
        contest: copies::large,
    },
    Workload {
        name: "push-large",
        title: "The same 600 MB, built, compressed with gzip and pushed",
        rounds: 3,
        extra: Some("MB sent"),
        targets: &[Faster(3.0, "BuildKit"), Extra(1.0, "BuildKit"), Memory(64.0)],
        contest: copies::pushed,
    },
    Workload {
        name: "writes",
        title: "A RUN that writes 400 MB in 60,000 files",
        rounds: 3,
        extra: None,
        targets: &[
            Within(1.1, "floor: the command alone"),
            Within(1.1, "floor: the command alone, on overlayfs"),
            FasterThanAll(1.0),
            Memory(64.0),
        ],
        contest: writes::run,
    },
    Workload {
        name: "pull-one",
        title: "Pull and unpack 650 MB in one layer",
        rounds: 3,
        extra: None,
        targets: &[Faster(3.0, "docker pull"), Faster(4.0, "podman pull"), Memory(64.0)],
        contest: pull::one_layer,
    },
    Workload {
        name: "pull-five",
        title: "Pull and unpack 650 MB in five layers",
        rounds: 3,
        extra: None,
        targets: &[Faster(3.0, "docker pull"), Faster(4.0, "podman pull"), Memory(64.0)],
        contest: pull::five_layers,
    },
    Workload {
        name: "run",
        title: "`run --rm --network host busybox true`",
        rounds: 11,
        extra: None,
        targets: &[Faster(10.0, "podman run"), Memory(64.0)],
        contest: containers::run,
    },
    Workload {
        name: "runtime",
        title: "One container by the runtime alone",
        rounds: 21,
        extra: None,
        targets: &[FasterThanAll(1.0), Memory(64.0)],
        contest: containers::runtime,
    },
    Workload {
        name: "binary",
        title: "`version`",
        rounds: 31,
        extra: Some("MB of the static binary"),
        targets: &[Seconds(0.002), ExtraAtMost(15.0), Memory(64.0)],
        contest: containers::binary,
    },
];

fn main() {
    measure::be_a_parent();
    containers::be_a_runtime();
    let names: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let unknown = names.iter().find(|name| WORKLOADS.iter().all(|workload| workload.name != name.as_str()));
    if let Some(name) = unknown {
        let known: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        println!("error: no workload `{name}`; there are {}", known.join(", "));
        std::process::exit(2);
    }
    let rounds: Option<usize> = env::var("ROUNDS").ok().map(|text| text.parse().expect("ROUNDS is a number"));
    let folder = guard::folder();
    let site = Site::open(&folder);
    let report = report::Report::begin(&site);
    for workload in
        WORKLOADS.iter().filter(|workload| names.is_empty() || names.iter().any(|name| name == workload.name))
    {
        let (results, checked) = contest::play(workload, &site, rounds.unwrap_or(workload.rounds).max(1));
        report.add(workload, &results, &checked);
        site.builders.iter().for_each(builders::Builder::forget);
    }
    report.write(WORKLOADS);
}
