//! Mount points that the sandbox makes in a root: gone when the container is, whatever happened to it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use runner::{FileMount, Sandbox};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use crate::support::{Host, Root, Streams, Tests, shell};

pub(crate) const TESTS: Tests = &[
    ("nothing_is_left", nothing_is_left),
    ("nothing_is_left_after_a_kill", nothing_is_left_after_a_kill),
    ("nothing_is_left_after_a_failed_start", nothing_is_left_after_a_failed_start),
    ("what_the_container_made_stays", what_the_container_made_stays),
    ("a_moved_parent_is_followed", a_moved_parent_is_followed),
    ("an_overlay_s_upper_directory_stays_empty", an_overlay_s_upper_directory_stays_empty),
];

fn with_files(mut sandbox: Sandbox) -> Sandbox {
    sandbox.files = ["/etc/hosts", "/etc/resolv.conf", "/run/secrets/deep/one"]
        .map(|target| FileMount::new(target, b"x\n").mode(0o400))
        .to_vec();
    sandbox
}

fn nothing_is_left(host: &Host) {
    let root = Root::new();
    let before = root.listing();
    let script = "cat /etc/hosts /etc/resolv.conf /run/secrets/deep/one; echo y >> /etc/hosts; ls /";
    let out = host.run(with_files(root.sandbox()), &shell(script)).unwrap().success();
    assert_eq!(out, "x\nx\nx\nbin\ndev\netc\nproc\nrun\nsys\n");
    assert_eq!(root.listing(), before);
}

fn nothing_is_left_after_a_kill(host: &Host) {
    let root = Root::new();
    let before = root.listing();
    let (io, streams) = Streams::new();
    let container = host.launcher.start(with_files(root.sandbox()), &shell("sleep 1000"), io).unwrap();
    assert_ne!(root.listing(), before, "the mount points are there while it runs");
    container.kill();
    streams.finish(&container);
    assert_eq!(root.listing(), before);
}

fn nothing_is_left_after_a_failed_start(host: &Host) {
    let root = Root::new();
    let before = root.listing();
    host.run(with_files(root.sandbox()), &runner::Process::new(["/nope"])).unwrap_err();
    assert_eq!(root.listing(), before);
}

fn what_the_container_made_stays(host: &Host) {
    let root = Root::new();
    let stamp = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let before = stamp(&root.path("etc"));
    host.run(with_files(root.sandbox()), &shell("touch /etc/mine /run/mine")).unwrap().success();
    assert!(root.path("etc/mine").exists() && root.path("run/mine").exists());
    for gone in ["etc/hosts", "run/secrets", "proc"] {
        assert!(!root.path(gone).exists(), "{gone}");
    }
    assert_ne!(stamp(&root.path("etc")), before, "the container did change it");
}

fn a_moved_parent_is_followed(host: &Host) {
    let root = Root::new();
    fs::create_dir_all(root.path("a/b")).unwrap();
    let mut sandbox = root.sandbox();
    sandbox.files = vec![FileMount::new("/a/b/file", [])];
    // A directory of the same name takes the old place, with a file of the same name in it.
    let script = "mv /a /moved && mkdir -p /a/b && echo kept > /a/b/file";
    let outcome = host.run(sandbox, &shell(script)).unwrap();
    assert!(outcome.exit.success(), "{outcome:?}");
    assert_eq!(fs::read_to_string(root.path("a/b/file")).unwrap(), "kept\n");
    assert_eq!(fs::read_dir(root.path("moved/b")).unwrap().count(), 0);
}

fn overlay(lower: &Path, upper: &Path, work: &Path) -> OwnedFd {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for (key, path) in [("lowerdir", lower), ("upperdir", upper), ("workdir", work)] {
        fsconfig_set_string(&context, key, path).unwrap();
    }
    fsconfig_create(&context).unwrap();
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
}

fn an_overlay_s_upper_directory_stays_empty(host: &Host) {
    let lower = Root::new();
    // Overlay cannot lie on overlay or on some temporary file systems: a tmpfs of our own always serves.
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (upper, work) = (scratch.path().join("upper"), scratch.path().join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let sandbox = || with_files(Sandbox::new(overlay(&lower.path(""), &upper, &work)));
    host.run(sandbox(), &shell("true")).unwrap().success();
    // The copied-up parent of two stubs remains, a directory like the one below.
    let names: Vec<_> = fs::read_dir(&upper).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.is_empty() || names == ["etc"], "{names:?}");
    assert_eq!(fs::read_dir(upper.join("etc")).map_or(0, Iterator::count), 0);
    host.run(sandbox(), &shell("echo new > /file")).unwrap().success();
    assert_eq!(fs::read_to_string(upper.join("file")).unwrap(), "new\n");
    assert!(!upper.join("proc").exists() && !upper.join("dev").exists() && !upper.join("sys").exists());
}
