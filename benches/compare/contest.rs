//! A workload as a contest: who takes part, in turns, and what is promised of the outcome.

use crate::site::Site;
use crate::support::measure::Sample;
use crate::support::statistics::{Summary, digits, time};

/// Takes part: a name whose first word is the program, and one round.
pub(crate) struct Entrant<'a> {
    pub(crate) name: String,
    pub(crate) round: Box<dyn FnMut(usize) -> Sample + 'a>,
}

impl<'a> Entrant<'a> {
    pub(crate) fn new(name: &str, round: impl FnMut(usize) -> Sample + 'a) -> Entrant<'a> {
        Entrant { name: name.to_owned(), round: Box::new(round) }
    }
}

/// What happens in a workload.
pub(crate) struct Contest<'a> {
    /// Makes a round's files, before anyone's turn.
    pub(crate) refresh: Box<dyn FnMut(usize) + 'a>,
    /// In the order of their turns; lbuild is the first.
    pub(crate) entrants: Vec<Entrant<'a>>,
    /// Checks after the last round that all made the same; says what was checked.
    pub(crate) check: Box<dyn FnOnce() -> String + 'a>,
}

impl<'a> Contest<'a> {
    /// Nothing to refresh, nothing to check.
    pub(crate) fn of(entrants: Vec<Entrant<'a>>) -> Contest<'a> {
        Contest { refresh: Box::new(|_| ()), entrants, check: Box::new(String::new) }
    }
}

/// What is promised of lbuild.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// So many times faster than the peer.
    Faster(f64, &'static str),
    /// So many times faster than the fastest peer; floors are none.
    FasterThanAll(f64),
    /// At most so many times what another takes.
    Within(f64, &'static str),
    /// At most so many seconds.
    Seconds(f64),
    /// The extra figure is at most so many times the peer's.
    Extra(f64, &'static str),
    /// The extra figure is at most this.
    ExtraAtMost(f64),
    /// At most so many MB of memory.
    Memory(f64),
}

/// A workload: its name on the command line, its title, rounds after the warm-up, the meaning of the extra figure.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) rounds: usize,
    pub(crate) extra: Option<&'static str>,
    pub(crate) targets: &'static [Target],
    pub(crate) contest: for<'a> fn(&'a Site) -> Contest<'a>,
}

/// What one entrant showed.
pub(crate) struct Result {
    pub(crate) name: String,
    pub(crate) rounds: usize,
    pub(crate) seconds: Summary,
    pub(crate) peak_mb: Option<f64>,
    pub(crate) extra: Option<f64>,
}

/// Plays the contest: every entrant once in each round, so that all see the same machine.
pub(crate) fn play(workload: &Workload, site: &Site, rounds: usize) -> (Vec<Result>, String) {
    let Contest { mut refresh, entrants, check } = (workload.contest)(site);
    let mut entrants: Vec<_> = entrants.into_iter().filter(|entrant| site.wants(&entrant.name)).collect();
    let mut samples: Vec<Vec<Sample>> = entrants.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        refresh(round);
        for turn in 0..entrants.len() {
            // Nobody is always the first after the refresh.
            let who = (round + turn) % entrants.len();
            let sample = (entrants[who].round)(round);
            // The first round is the warm-up.
            if round > 0 {
                samples[who].push(sample);
            }
        }
    }
    let results = entrants
        .iter()
        .zip(&samples)
        .filter_map(|(entrant, samples)| summed(&entrant.name, samples))
        .collect();
    drop(entrants);
    (results, check())
}

fn summed(name: &str, samples: &[Sample]) -> Option<Result> {
    let seconds = Summary::of(samples.iter().map(|sample| sample.seconds).collect())?;
    let peak_mb = samples.iter().filter_map(|sample| sample.peak_kb).max().map(|kb| kb as f64 / 1024.0);
    let extra =
        Summary::of(samples.iter().filter_map(|sample| sample.extra).collect()).map(|extra| extra.median);
    Some(Result { name: name.to_owned(), rounds: samples.len(), seconds, peak_mb, extra })
}

/// The contest's table in Markdown.
pub(crate) fn table(results: &[Result], extra: Option<&str>, file_system: &str) -> String {
    let mut table = format!(
        "| {} rounds on {file_system} | median | min–max | ratio | peak MB |{}\n",
        results[0].rounds,
        extra.map_or(String::new(), |extra| format!(" {extra} |"))
    );
    table += if extra.is_some() { "|---|---|---|---|---|---|\n" } else { "|---|---|---|---|---|\n" };
    let number = |value: Option<f64>| value.map_or("–".to_owned(), digits);
    for result in results {
        let Result { name, seconds, peak_mb, extra: figure, .. } = result;
        let ratio = seconds.median / results[0].seconds.median;
        table += &format!(
            "| {name} | {} | {}–{} | {}× | {} |",
            time(seconds.median),
            time(seconds.min),
            time(seconds.max),
            digits(ratio),
            number(*peak_mb)
        );
        table += &if extra.is_some() { format!(" {} |\n", number(*figure)) } else { "\n".to_owned() };
    }
    table
}

/// A promise and what came of it.
pub(crate) struct Verdict {
    pub(crate) target: String,
    pub(crate) measured: String,
    /// None where the peer was absent.
    pub(crate) met: Option<bool>,
}

/// Judges lbuild, the first of the results.
pub(crate) fn verdicts(workload: &Workload, results: &[Result]) -> Vec<Verdict> {
    workload
        .targets
        .iter()
        .map(|target| judge(*target, results, workload.extra.unwrap_or_default()))
        .collect()
}

fn judge(target: Target, results: &[Result], extra: &str) -> Verdict {
    let lbuild = &results[0];
    let other = |name: &str| results[1..].iter().find(|result| result.name == name);
    let fastest = || {
        let peers = results[1..]
            .iter()
            .filter(|result| !result.name.starts_with("floor") && !result.name.starts_with("lbuild"));
        peers.min_by(|a, b| a.seconds.median.total_cmp(&b.seconds.median))
    };
    let own = lbuild.seconds.median;
    let absent = || ("–".to_owned(), None);
    let faster = |peer: Option<&Result>, times: f64| {
        peer.map_or_else(absent, |peer| {
            let ratio = peer.seconds.median / own;
            (format!("{}× ({})", digits(ratio), peer.name), Some(ratio >= times))
        })
    };
    let (target, (measured, met)) = match target {
        Target::Faster(times, peer) => (format!("{times}× faster than {peer}"), faster(other(peer), times)),
        Target::FasterThanAll(times) => {
            (format!("{times}× faster than the best peer"), faster(fastest(), times))
        }
        Target::Within(times, peer) => (
            format!("at most {times} × {peer}"),
            other(peer).map_or_else(absent, |peer| {
                let ratio = own / peer.seconds.median;
                (format!("{} ×", digits(ratio)), Some(ratio <= times))
            }),
        ),
        Target::Seconds(most) => (format!("at most {}", time(most)), (time(own), Some(own <= most))),
        Target::Extra(times, peer) => (
            format!("{extra}: at most {times} × {peer}"),
            match (lbuild.extra, other(peer).and_then(|peer| peer.extra)) {
                (Some(own), Some(peer)) => (format!("{:.3} ×", own / peer), Some(own / peer <= times)),
                _ => absent(),
            },
        ),
        Target::ExtraAtMost(most) => (
            format!("{extra}: at most {most}"),
            lbuild.extra.map_or_else(absent, |own| (digits(own), Some(own <= most))),
        ),
        Target::Memory(most) => (
            format!("at most {most} MB of memory"),
            lbuild.peak_mb.map_or_else(absent, |own| (format!("{} MB", digits(own)), Some(own <= most))),
        ),
    };
    Verdict { target, measured, met }
}
