//! COPY of much: many small files, a few large ones, and the same on its way to a registry. Every file is new in every
//! round, so nobody knows anything.

use std::fs;
use std::process::Command;

use crate::contest::{Contest, Entrant};
use crate::site::{Project, Site};
use crate::support::measure::{self, Sample};
use crate::support::{content, floor};
use crate::tree;

/// 30,000 files of 4 kB.
pub(crate) fn small(site: &Site) -> Contest<'_> {
    let project = site.project("copy-small", "COPY files /files\n");
    let refresh = refresh(project, |project, round| {
        content::files(&project.context.join("files"), 30_000, 4_000, true, 100 + round as u64);
    });
    let mut entrants = builds(project);
    entrants.push(Entrant::new("floor: cp -r", |_| copied(project)));
    Contest { refresh, entrants, check: check(project, false) }
}

/// 600 MB in 60 files.
pub(crate) fn large(site: &Site) -> Contest<'_> {
    let project = site.project("copy-large", "COPY files /files\n");
    let mut entrants = builds(project);
    entrants.push(Entrant::new("floor: cp -r and one SHA-256", |_| {
        copied(project)
            .then(Sample::timed(|| assert!(floor::hash(&project.context.join("files")) != [0; 32])))
    }));
    Contest { refresh: large_files(project, 200), entrants, check: check(project, false) }
}

/// The same 600 MB, built and pushed.
pub(crate) fn pushed(site: &Site) -> Contest<'_> {
    let project = site.project("push-large", "COPY files /files\n");
    let entrants = site.builders.iter().map(|builder| {
        Entrant::new(builder.name(), move |round| {
            let reference = project.reference(builder.name());
            let build = project.with(builder.name(), round, |build| builder.build(build));
            let sample = build.then(builder.push(&reference));
            Sample { extra: Some(site.registry.compressed_bytes(&reference) as f64 / 1e6), ..sample }
        })
    });
    let mut entrants: Vec<Entrant<'_>> = entrants.collect();
    for (program, how) in [("pigz", "pigz -6"), ("zstd", "zstd -3 -T0")] {
        if site.has(program) {
            let name = format!("{how} of the tar, no more");
            entrants.push(Entrant::new(&name, move |_| compressed(project, how)));
        }
    }
    Contest { refresh: large_files(project, 300), entrants, check: check(project, true) }
}

fn builds<'a>(project: &'a Project<'a>) -> Vec<Entrant<'a>> {
    let builders = project.site.builders.iter();
    let entrants = builders.map(|builder| {
        Entrant::new(builder.name(), move |round| {
            project.with(builder.name(), round, |build| builder.build(build))
        })
    });
    entrants.collect()
}

/// A third of it is noise, and the rest text.
fn large_files<'a>(project: &'a Project<'a>, seed: u64) -> Box<dyn FnMut(usize) + 'a> {
    refresh(project, move |project, round| {
        content::files(&project.context.join("files"), 60, 10_000_000, true, seed + round as u64);
    })
}

fn refresh<'a>(
    project: &'a Project<'a>,
    make: impl Fn(&Project<'a>, usize) + 'a,
) -> Box<dyn FnMut(usize) + 'a> {
    Box::new(move |round| {
        fs::remove_dir_all(project.context.join("files")).ok();
        make(project, round);
    })
}

fn check<'a>(project: &'a Project<'a>, sent: bool) -> Box<dyn FnOnce() -> String + 'a> {
    Box::new(move || {
        let said = tree::same(project, sent);
        fs::remove_dir_all(&project.context).expect("the context");
        said
    })
}

/// `cp -r` of the context's files to beside it.
fn copied(project: &Project<'_>) -> Sample {
    let to = project.site.folder.join("copied");
    let sample = measure::run(Command::new("cp").arg("-r").arg(project.context.join("files")).arg(&to));
    fs::remove_dir_all(to).expect("the copy");
    sample
}

/// A tar of the context's files through a compressor, with the bytes that came out.
fn compressed(project: &Project<'_>, how: &str) -> Sample {
    let to = project.site.folder.join("compressed");
    let line = format!("tar -cC \"$1\" . | {how} > \"$2\"");
    let mut command = Command::new("sh");
    command.args(["-ec", &line, "sh"]).arg(project.context.join("files")).arg(&to);
    let sample = measure::run(&command);
    let bytes = fs::metadata(&to).expect("the archive").len();
    fs::remove_file(to).expect("the archive");
    Sample { extra: Some(bytes as f64 / 1e6), ..sample }
}
