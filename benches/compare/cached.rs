//! Builds of which everything is in the cache: what remains is to find that out.

use std::fs;

use crate::contest::{Contest, Entrant};
use crate::site::{Project, Site};
use crate::support::measure::Sample;
use crate::support::{content, floor};
use crate::tree;

const TEN_STEPS: &str = "WORKDIR /app\nENV A=b\nCOPY files /app/files\nRUN echo 1 > one\nRUN echo 2 > two\nCOPY busybox /copy\nRUN echo 3 > three\nCMD [\"x\"]\n";

/// Ten steps, a thousand files.
pub(crate) fn few_files(site: &Site) -> Contest<'_> {
    let project = site.project("cached", TEN_STEPS);
    content::files(&project.context.join("files"), 1_000, 4_000, false, 1);
    contest(project, false)
}

/// One step, a hundred thousand files.
pub(crate) fn many_files(site: &Site) -> Contest<'_> {
    let project = site.project("cached-many", "COPY files /files\n");
    content::files(&project.context.join("files"), 100_000, 200, false, 2);
    contest(project, true)
}

fn contest<'a>(project: &'a Project<'a>, with_walk: bool) -> Contest<'a> {
    let mut entrants: Vec<Entrant<'_>> = (project.site.builders.iter())
        .map(|builder| {
            Entrant::new(builder.name(), move |_| {
                project.with(builder.name(), 0, |build| builder.build(build))
            })
        })
        .collect();
    if with_walk {
        entrants.push(Entrant::new("floor: walk with statx", move |_| {
            let mut entries = 0;
            let sample = Sample::timed(|| entries = floor::walk(&project.context));
            assert!(entries > 100_000, "{entries} entries");
            sample
        }));
    }
    let check = Box::new(move || {
        let said = tree::same(project, false);
        fs::remove_dir_all(&project.context).expect("the context");
        said
    });
    Contest { refresh: Box::new(|_| ()), entrants, check }
}
