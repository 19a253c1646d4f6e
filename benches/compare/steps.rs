//! Steps that do next to nothing, so that what a step costs shows; and stages that wait side by side.

use std::fmt::Write as _;
use std::fs;

use crate::contest::{Contest, Entrant};
use crate::site::Site;
use crate::support::measure::Sample;
use crate::tree;

const STEPS: usize = 20;

/// Twenty RUN steps more than one; the extra figure is the milliseconds of one of them.
pub(crate) fn run(site: &Site) -> Contest<'_> {
    let steps = |count: usize| format!("ARG ROUND\n{}", "RUN [\"/bin/true\"]\n".repeat(count));
    let few = site.project("run-one", &steps(1));
    let many = site.project("run-many", &steps(1 + STEPS));
    let entrants = site.builders.iter().map(|builder| {
        Entrant::new(builder.name(), move |round| {
            // Rounds of few and many differ, so that nothing is cached.
            let few = few.with(builder.name(), 2 * round, |build| builder.build(build));
            let many = many.with(builder.name(), 2 * round + 1, |build| builder.build(build));
            Sample { extra: Some((many.seconds - few.seconds) * 1000.0 / STEPS as f64), ..many }
        })
    });
    let entrants = entrants.collect();
    Contest { check: Box::new(|| tree::same(many, false)), ..Contest::of(entrants) }
}

/// Twenty COPY steps of one small file each; every file is new in every round.
pub(crate) fn copy(site: &Site) -> Contest<'_> {
    let steps =
        (0..STEPS).fold(String::new(), |steps, number| steps + &format!("COPY f{number} /f{number}\n"));
    let project = site.project("copy-steps", &steps);
    let entrants = site.builders.iter().map(|builder| {
        Entrant::new(builder.name(), move |round| {
            project.with(builder.name(), round, |build| builder.build(build))
        })
    });
    let refresh = Box::new(move |round: usize| {
        for number in 0..STEPS {
            fs::write(project.context.join(format!("f{number}")), format!("{number} in round {round}\n"))
                .expect("a file");
        }
    });
    Contest { refresh, entrants: entrants.collect(), check: Box::new(|| tree::same(project, false)) }
}

/// Four stages of two seconds each, joined by `COPY --from`.
pub(crate) fn stages(site: &Site) -> Contest<'_> {
    let mut steps = String::new();
    for name in ["a", "b", "c", "d"] {
        write!(steps, "FROM base AS {name}\nARG ROUND\nRUN sleep 2; echo {name} > /{name}\n")
            .expect("a string");
    }
    steps +=
        "FROM scratch\nCOPY --from=a /a /a\nCOPY --from=b /b /b\nCOPY --from=c /c /c\nCOPY --from=d /d /d\n";
    let project = site.project("stages", &steps);
    let mut entrants: Vec<Entrant<'_>> = (site.builders.iter())
        .map(|builder| {
            Entrant::new(builder.name(), move |round| {
                project.with(builder.name(), 2 * round, |build| builder.build(build))
            })
        })
        .collect();
    entrants.push(Entrant::new("lbuild --jobs 4", move |round| {
        let lbuild = &site.builders[0];
        project.with(lbuild.name(), 2 * round + 1, |build| lbuild.build_with(build, &["--jobs", "4"]))
    }));
    entrants.push(Entrant::new("floor: sleep 2", |_| {
        Sample::timed(|| std::thread::sleep(std::time::Duration::from_secs(2)))
    }));
    Contest { check: Box::new(|| tree::same(project, false)), ..Contest::of(entrants) }
}
