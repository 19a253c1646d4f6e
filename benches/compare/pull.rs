//! Pulling an image of 650 MB and unpacking it, each time into an empty store. `lbuild pull` leaves unpacking to whoever
//! needs the files, so lbuild's turn is `lbuild run IMAGE true`, which has to do both and starts a container as well.

use std::fs;
use std::process::Command;

use crate::builders::Builder;
use crate::contest::{Contest, Entrant};
use crate::site::Site;
use crate::support::content::{self, Kind};
use crate::support::measure::{self, Sample, quietly};

const PARTS: usize = 5;

pub(crate) fn one_layer(site: &Site) -> Contest<'_> {
    contest(site, "pull-one", "COPY . /files\n".to_owned())
}

pub(crate) fn five_layers(site: &Site) -> Contest<'_> {
    let steps =
        (0..PARTS).fold(String::new(), |steps, part| steps + &format!("COPY p{part} /files/p{part}\n"));
    contest(site, "pull-five", steps)
}

/// 650 MB: in each of five folders 10 files of 10 MB and 5,000 of 6 kB.
fn contest<'a>(site: &'a Site, name: &str, steps: String) -> Contest<'a> {
    let project = site.project(name, &steps);
    for part in 0..PARTS {
        let folder = project.context.join(format!("p{part}"));
        content::files(&folder, 5_000, 6_000, true, 500 + part as u64);
        for number in 0..10 {
            let kind = if number % 3 == 0 { Kind::Noise } else { Kind::Text };
            content::file(
                &folder.join(format!("large{number}")),
                10_000_000,
                kind,
                (700 + part * 10 + number) as u64,
            );
        }
    }
    let lbuild = &site.builders[0];
    project.with(lbuild.name(), 0, |build| lbuild.build(build));
    let reference = project.reference(lbuild.name());
    lbuild.push(&reference);
    fs::remove_dir_all(&project.context).expect("the context");
    Contest::of(entrants(site, reference))
}

fn entrants(site: &Site, reference: String) -> Vec<Entrant<'_>> {
    let mut entrants = Vec::new();
    let name = reference.clone();
    entrants.push(Entrant::new("lbuild", move |_| {
        let lbuild = site.lbuild();
        lbuild.forget();
        measure::run(&lbuild.command(&["run", "--rm", &name, "/bin/true"]))
    }));
    if let Some(dockerd) = site.dockerd() {
        let name = reference.clone();
        entrants.push(Entrant::new("docker pull", move |_| {
            dockerd.forget();
            dockerd.measured(&dockerd.docker(&["pull", "-q", &name]))
        }));
    }
    if site.has("podman") {
        let name = reference.clone();
        entrants.push(Entrant::new("podman pull", move |_| {
            let containers = site.containers();
            containers.forget();
            measure::run(&containers.podman(&["pull", "-q", "--tls-verify=false", &name]))
        }));
    }
    if site.has("skopeo") && site.has("umoci") {
        entrants.push(Entrant::new("skopeo copy, umoci unpack", move |_| skopeo_and_umoci(site, &reference)));
    }
    entrants
}

fn skopeo_and_umoci(site: &Site, reference: &str) -> Sample {
    let work = site.folder.join("umoci");
    fs::create_dir_all(&work).expect("a folder");
    let layout = format!("{}:it", work.join("layout").display());
    let fixed = ["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"];
    let from = format!("docker://{reference}");
    let copy = measure::run(Command::new("skopeo").args(fixed).arg(from).arg(format!("oci:{layout}")));
    let unpack = ["raw", "unpack", "--image", &layout];
    let sample = copy.then(measure::run(Command::new("umoci").args(unpack).arg(work.join("tree"))));
    quietly(Command::new("rm").arg("-rf").arg(work));
    sample
}

/// The image of a busybox in the stores of all that run containers.
pub(crate) fn busybox_everywhere(site: &Site) -> String {
    let project = site.project("run", "");
    let lbuild = &site.builders[0];
    let reference = project.reference("busybox");
    let build = |builder: &Builder| {
        project.with("busybox", 0, |build| builder.build(build));
    };
    build(lbuild);
    lbuild.push(&reference);
    if let Some(dockerd) = site.dockerd() {
        dockerd.measured(&dockerd.docker(&["pull", "-q", &reference]));
    }
    if site.has("podman") {
        quietly(&mut site.containers().podman(&["pull", "-q", "--tls-verify=false", &reference]));
    }
    reference
}
