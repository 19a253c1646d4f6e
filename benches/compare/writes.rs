//! A RUN that writes 400 MB in 60,000 files: its own time is the command's, the rest is the builder's.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::contest::{Contest, Entrant};
use crate::site::Site;
use crate::support::{content, measure};
use crate::tree;

/// Ten copies of 6,000 files with 40 MB.
const COMMAND: &str = "mkdir /out; for n in 0 1 2 3 4 5 6 7 8 9; do cp -a /tree /out/$n; done";

pub(crate) fn run(site: &Site) -> Contest<'_> {
    let project = site.project("writes", &format!("COPY files /tree\nARG ROUND\nRUN {COMMAND}\n"));
    content::files(&project.context.join("files"), 6_000, 6_700, true, 4);
    let plain = site.folder.join("plain");
    plain_root(&plain, &project.context.join("files"));
    let mut entrants: Vec<Entrant<'_>> = (site.builders.iter())
        .map(|builder| {
            Entrant::new(builder.name(), move |round| {
                project.with(builder.name(), round, |build| builder.build(build))
            })
        })
        .collect();
    let root = plain.clone();
    entrants.push(Entrant::new("floor: the command alone", move |_| {
        let sample = measure::run(&in_root(&root));
        fs::remove_dir_all(root.join("out")).expect("what it wrote");
        sample
    }));
    // What any builder pays whose steps see their parent through overlayfs.
    let (lower, work) = (plain.clone(), site.folder.join("overlay"));
    entrants.push(Entrant::new("floor: the command alone, on overlayfs", move |_| {
        let dirs = ["upper", "work", "merged"].map(|name| work.join(name));
        dirs.iter().for_each(|dir| fs::create_dir_all(dir).expect("a folder"));
        let [upper, index, merged] = &dirs;
        let (lower, upper, index) = (lower.display(), upper.display(), index.display());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={index},volatile");
        let mount = ["-t", "overlay", "overlay", "-o", &options];
        measure::quietly(Command::new("mount").args(mount).arg(merged));
        let sample = measure::run(&in_root(merged));
        measure::quietly(Command::new("umount").arg(merged));
        fs::remove_dir_all(&work).expect("what it wrote");
        sample
    }));
    let check = Box::new(move || {
        let said = tree::same(project, false);
        fs::remove_dir_all(&plain).expect("the plain root");
        said
    });
    Contest { entrants, check, ..Contest::of(Vec::new()) }
}

fn in_root(root: &Path) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root).args(["/bin/sh", "-c", COMMAND]);
    command
}

/// A directory with busybox and the files, as the image has them.
fn plain_root(root: &Path, files: &Path) {
    busybox_root(root);
    measure::quietly(Command::new("cp").arg("-r").arg(files).arg(root.join("tree")));
}

/// A directory with busybox and a link for each of its applets.
pub(crate) fn busybox_root(root: &Path) {
    fs::create_dir_all(root.join("bin")).expect("a folder");
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    for folder in ["proc", "dev", "sys"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    measure::quietly(Command::new("chroot").arg(root).args(["/bin/busybox", "--install", "-s", "/bin"]));
}
