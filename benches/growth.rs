//! How lbuild's cost grows with files, layers, steps and bytes; `cargo bench --bench growth` writes its part of
//! benches/RESULTS.md and the picture benches/growth.svg. `-- NAME…` measures some series and writes nothing;
//! `ROUNDS=N` sets the rounds, `LBUILD=FILE` the binary under measure.
//!
//! A cost is linear if what one more unit costs does not rise: for each step from one size to the next the table has
//! the price of a unit, and the verdict compares the last with the first.
#![allow(clippy::print_stdout, reason = "a bench tells its figures")]
#![allow(clippy::disallowed_methods, reason = "a bench reads its environment and ends")]

mod support;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::content::{self, Kind};
use support::measure::{self, Sample};
use support::plot::{self, Series};
use support::statistics::{Summary, digits, time};
use support::{guard, machine, results};

/// How much dearer the last units may be than the first ones: a cost of n log n stays below, n² does not.
const LINEAR: f64 = 1.6;

/// One thing that grows.
struct Growth {
    name: &'static str,
    title: &'static str,
    units: &'static str,
    sizes: &'static [usize],
    rounds: usize,
    measure: fn(&Stage, usize, usize) -> Sample,
}

const GROWTHS: &[Growth] = &[
    Growth {
        name: "files-cached",
        title: "COPY of n files, cached",
        units: "files",
        sizes: &[1_000, 10_000, 100_000],
        rounds: 15,
        measure: files_cached,
    },
    Growth {
        name: "files",
        title: "COPY of n files, all new",
        units: "files",
        sizes: &[1_000, 10_000, 100_000],
        rounds: 2,
        measure: files_new,
    },
    Growth {
        name: "layers",
        title: "run an image of n layers",
        units: "layers",
        sizes: &[10, 50, 120],
        rounds: 31,
        measure: layers,
    },
    Growth {
        name: "steps-cached",
        title: "n RUN steps, cached",
        units: "steps",
        sizes: &[10, 100, 400],
        rounds: 15,
        measure: steps_cached,
    },
    Growth {
        name: "steps",
        title: "n RUN steps, all new",
        units: "steps",
        sizes: &[10, 100, 400],
        rounds: 3,
        measure: steps_new,
    },
    Growth {
        name: "bytes",
        title: "COPY of a file of n MB, new",
        units: "MB",
        sizes: &[10, 100, 1_000, 4_000],
        rounds: 2,
        measure: bytes,
    },
];

/// Where the measures happen: lbuild's root and the contexts.
struct Stage {
    folder: PathBuf,
    lbuild: PathBuf,
}

impl Stage {
    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.lbuild);
        command.arg(verb).arg("--root").arg(self.folder.join("root"));
        command
    }

    /// Builds the context `name`, whose Dockerfile is in it, as the image `name`.
    fn build(&self, name: &str, round: usize) -> Sample {
        let mut command = self.command("build");
        command
            .args(["-q", "-t", name, "--build-arg", &format!("ROUND={round}")])
            .arg(self.folder.join(name));
        measure::run(&command)
    }

    /// The context `name`; `make` writes it when it is not there yet.
    fn context(&self, name: &str, make: impl FnOnce(&Path)) -> PathBuf {
        let context = self.folder.join(name);
        if !context.exists() {
            fs::create_dir_all(&context).expect("a folder");
            fs::copy("/bin/busybox", context.join("busybox")).expect("busybox-static is installed");
            make(&context);
        }
        context
    }

    /// The context `name` with `steps` on top of busybox.
    fn with_busybox(&self, name: &str, steps: &str) -> PathBuf {
        self.context(name, |context| {
            let text = format!(
                "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nARG ROUND\n{steps}"
            );
            fs::write(context.join("Dockerfile"), text).expect("a Dockerfile");
        })
    }
}

fn files_cached(stage: &Stage, count: usize, round: usize) -> Sample {
    let name = format!("cached-{count}");
    let context = stage.with_busybox(&name, "COPY files /files\n");
    if round == 0 {
        content::files(&context.join("files"), count, 200, false, count as u64);
    }
    stage.build(&name, 0)
}

fn files_new(stage: &Stage, count: usize, round: usize) -> Sample {
    let name = format!("files-{count}");
    let context = stage.with_busybox(&name, "COPY files /files\n");
    fs::remove_dir_all(context.join("files")).ok();
    content::files(&context.join("files"), count, 200, false, (count + round) as u64);
    stage.build(&name, 0)
}

fn layers(stage: &Stage, count: usize, round: usize) -> Sample {
    let name = format!("layers-{count}");
    // Two layers are the base's.
    let steps: String = (2..count).map(|number| format!("COPY busybox /copies/{number}\n")).collect();
    stage.with_busybox(&name, &steps);
    if round == 0 {
        stage.build(&name, 0);
    }
    measure::run(stage.command("run").args(["--rm", &name, "true"]))
}

fn steps_cached(stage: &Stage, count: usize, _round: usize) -> Sample {
    let name = format!("steps-cached-{count}");
    stage.with_busybox(&name, &"RUN true\n".repeat(count));
    stage.build(&name, 0)
}

fn steps_new(stage: &Stage, count: usize, round: usize) -> Sample {
    let name = format!("steps-{count}");
    stage.with_busybox(&name, &"RUN true\n".repeat(count));
    stage.build(&name, 1 + round)
}

fn bytes(stage: &Stage, megabytes: usize, round: usize) -> Sample {
    let name = format!("bytes-{megabytes}");
    let context = stage.with_busybox(&name, "COPY file /file\n");
    content::file(&context.join("file"), megabytes * 1_000_000, Kind::Noise, (megabytes + round) as u64);
    let sample = stage.build(&name, 0);
    fs::remove_dir_all(stage.folder.join("root")).expect("lbuild's root");
    fs::remove_file(context.join("file")).expect("the file");
    sample
}

/// The medians of one size.
struct Point {
    size: usize,
    seconds: f64,
    peak_mb: f64,
}

fn measured(stage: &Stage, growth: &Growth, rounds: usize) -> Vec<Point> {
    let sizes = growth.sizes.iter();
    let points = sizes.map(|&size| {
        // The first round is the warm-up, except where it would take a third of the time.
        let first = usize::from(growth.rounds > 2);
        let samples: Vec<Sample> =
            (0..rounds + first).map(|round| (growth.measure)(stage, size, round)).skip(first).collect();
        let seconds =
            Summary::of(samples.iter().map(|sample| sample.seconds).collect()).expect("a round").median;
        let peak_kb = samples.iter().filter_map(|sample| sample.peak_kb).max().expect("its memory");
        Point { size, seconds, peak_mb: peak_kb as f64 / 1024.0 }
    });
    points.collect()
}

/// The series as a table in Markdown, and whether it is linear.
fn table(growth: &Growth, points: &[Point]) -> String {
    let mut prices = Vec::new();
    let mut rows = String::new();
    for (at, point) in points.iter().enumerate() {
        let price = match at.checked_sub(1).map(|before| &points[before]) {
            None => "–".to_owned(),
            Some(before) => {
                let price = (point.seconds - before.seconds) / (point.size - before.size) as f64;
                prices.push(price);
                time(price)
            }
        };
        rows +=
            &format!("| {} | {} | {price} | {} |\n", point.size, time(point.seconds), digits(point.peak_mb));
    }
    let rise = prices.last().expect("two sizes") / prices[0];
    let verdict = if rise <= LINEAR { "linear" } else { "**dearer than linear**" };
    format!(
        "### {} (`{}`)\n\n| {} | median | each more | peak MB |\n|---|---|---|---|\n{rows}\nThe last {} cost {} times what the first do: {verdict}.\n\n",
        growth.title,
        growth.name,
        growth.units,
        growth.units,
        digits(rise)
    )
}

fn main() {
    measure::be_a_parent();
    let names: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let folder = guard::folder();
    let program = env::var_os("LBUILD").map_or_else(|| env!("CARGO_BIN_EXE_lbuild").into(), PathBuf::from);
    let lbuild = fs::canonicalize(program).expect("lbuild's binary");
    let stage = Stage { lbuild, folder: folder.join("series") };
    let rounds: Option<usize> = env::var("ROUNDS").ok().map(|text| text.parse().expect("ROUNDS is a number"));
    let mut text = format!(
        "## Growth\n\n{}.\n\n![lbuild's time by size](growth.svg)\n\n",
        machine::description(&folder)
    );
    let mut series = Vec::new();
    for growth in
        GROWTHS.iter().filter(|growth| names.is_empty() || names.iter().any(|name| name == growth.name))
    {
        let points = measured(&stage, growth, rounds.unwrap_or(growth.rounds).max(1));
        let table = table(growth, &points);
        println!("{table}");
        text += &table;
        let points = points.iter().map(|point| (point.size as f64, point.seconds)).collect();
        series.push(Series { title: growth.title, units: growth.units, points });
        fs::remove_dir_all(&stage.folder).expect("the series' folder");
    }
    if names.is_empty() {
        fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/growth.svg"), plot::svg(&series))
            .expect("the picture");
        results::replace("growth", &text);
    }
}
