//! What a build gives besides its image: files, digests, lines of progress; and that the image's bytes are
//! the same whenever its inputs are.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::base::busybox;
use crate::harness::{World, program};
use crate::layout::Image;
use crate::peers;

fn dockerfile() -> String {
    format!(
        "FROM {0} AS one\nRUN mkdir /d && for i in $(seq 200); do echo $i > /d/$i; done\nCOPY f /f\n\
         FROM {0} AS two\nRUN echo two > /two && ln /two /three\nWORKDIR /w\n\
         FROM one\nCOPY --from=two /two /three /x/\nRUN rm -r /d/1*\n",
        busybox()
    )
}

#[test]
fn the_same_inputs_make_the_same_bytes_whatever_the_number_of_threads() {
    let image = |jobs: &str| {
        let world = World::new();
        world.file("f", "x");
        // In /etc, /tmp and / the clock shows too.
        let image =
            world.build(&dockerfile()).args(&["--jobs", jobs]).env("SOURCE_DATE_EPOCH", "1000000000").image();
        (image.digest, image.image)
    };
    let (digest, config) = image("1");
    assert_eq!(config["created"], "2001-09-09T01:46:40Z");
    for jobs in ["1", "2", "8"] {
        let (again, its_config) = image(jobs);
        assert_eq!(config, its_config, "--jobs {jobs}");
        assert_eq!(digest, again, "--jobs {jobs}");
    }
}

#[test]
fn the_epoch_may_come_by_flag_by_argument_or_by_environment() {
    let world = World::new();
    let text = format!("FROM {}\nRUN date > /x\nLABEL a=b\n", busybox());
    let by_flag = world.build(&text).arg("--source-date-epoch=86400").image();
    let by_argument = world.build(&text).arg("--build-arg=SOURCE_DATE_EPOCH=86400").image();
    let by_environment = world.build(&text).env("SOURCE_DATE_EPOCH", "86400").image();
    for image in [&by_flag, &by_argument, &by_environment] {
        assert_eq!(image.image["created"], "1970-01-02T00:00:00Z");
        let history = image.image["history"].as_array().expect("a history");
        assert_eq!(history.last().expect("an entry")["created"], "1970-01-02T00:00:00Z");
    }
    assert_eq!(by_flag.digest, by_environment.digest);
}

#[test]
fn quiet_prints_the_digest_and_nothing_else() {
    let world = World::new();
    world.file("f", "x");
    let output = world.build(&dockerfile()).arg("-q").success();
    assert!(output.line().starts_with("sha256:") && output.line().len() == 71, "{output:?}");
    assert_eq!(output.stderr, "");
}

#[test]
fn files_tell_what_was_built() {
    let world = World::new();
    world.file("f", "x");
    let (image, _) = world
        .build(&dockerfile())
        .args(&["--iidfile", "iid", "--metadata-file", "metadata", "-t", "it/one:1", "-t", "it/two:2"])
        .image_and_output();
    let metadata: Value =
        serde_json::from_slice(&fs::read(world.path("metadata")).expect("metadata")).expect("JSON");
    assert_eq!(metadata["containerimage.digest"], image.digest.as_str());
    assert_eq!(metadata["containerimage.config.digest"], image.manifest["config"]["digest"]);
    let iid = fs::read_to_string(world.path("iid")).expect("the id");
    assert!(iid == image.digest || metadata["containerimage.config.digest"] == iid.as_str(), "{iid}");
}

#[test]
fn an_archive_is_read_by_others() {
    let world = World::new();
    world.file("f", "x");
    let directory = world.build(&dockerfile()).image();
    world.build(&dockerfile()).args(&["-t", "it/archive:1", "-o", "type=oci,dest=image.tar"]).success();
    let unpacked = world.path("unpacked");
    fs::create_dir(&unpacked).expect("a folder");
    peers::run(Command::new("tar").arg("-xf").arg(world.path("image.tar")).arg("-C").arg(&unpacked));
    assert_eq!(Image::open(&unpacked).digest, directory.digest);
    let output = format!("oci:{}:copy", world.path("copied").display());
    peers::skopeo_copy(&format!("oci-archive:{}", world.path("image.tar").display()), &output);
    let line = format!("{} build -o type=oci,dest=- context | tar -t", program().display());
    world.file("Dockerfile", "FROM scratch\nLABEL a=b\n");
    let mut sh = Command::new("sh");
    sh.args(["-c", &line]).current_dir(world.path("")).env("LBUILD_ROOT", world.path("root"));
    assert!(peers::run(&mut sh).contains("index.json"));
}

#[test]
fn the_store_is_a_layout_that_others_read_in_place() {
    let world = World::new();
    world.file("f", "x");
    world.build(&dockerfile()).args(&["-t", "it/stored:1"]).success();
    let index: Value =
        serde_json::from_slice(&fs::read(world.path("root/index.json")).expect("an index")).expect("JSON");
    assert!(index["manifests"].as_array().is_some_and(|manifests| !manifests.is_empty()), "{index}");
    assert!(world.path("root/oci-layout").exists() && world.path("root/blobs/sha256").is_dir());
}

#[test]
fn plain_progress_has_a_line_for_each_event() {
    let world = World::new();
    let text = format!("FROM {}\nRUN echo first && echo second >&2\n", busybox());
    let output = world.build(&text).success();
    for wanted in ["[2/2] RUN echo first", " first\n", " second\n", "DONE"] {
        assert!(output.stderr.contains(wanted), "`{wanted}` in {}", output.stderr);
    }
    let cached = world.build(&text).success();
    assert!(cached.stderr.contains("CACHED") && !cached.stderr.contains(" first\n"), "{}", cached.stderr);
}

#[test]
fn a_terminal_shows_live_progress() {
    let world = World::new();
    fs::write(
        world.path("Dockerfile"),
        format!("FROM {}\nRUN echo seen; sleep 0.3\nRUN sleep 0.1\n", busybox()),
    )
    .expect("a Dockerfile");
    let line = format!("{} build -f Dockerfile context", program().display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).current_dir(world.path(""));
    let text = peers::run(
        script.env("LBUILD_ROOT", world.path("root")).env("SHELL", "/bin/sh").env("TERM", "xterm"),
    );
    assert!(text.contains('\u{1b}') && text.contains("seen") && text.contains("RUN sleep 0.1"), "{text}");
}
