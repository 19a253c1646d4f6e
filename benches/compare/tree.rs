//! Whether the builders made the same: an image as the list of what is in it, read by tools that are none of them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::site::Project;
use crate::support::measure::quietly;

/// Where BuildKit and buildah leave the places of their mounts.
const MOUNT_POINTS: [&str; 6] = ["dev", "proc", "sys", "run", "etc", "mnt"];

/// Every builder's image of the project, taken out of its store by skopeo and unpacked by GNU tar, is the same: types,
/// modes, owners, targets of links, contents. `sent` says that what is in the registry is meant.
///
/// Panics with the first line that differs.
pub(crate) fn same(project: &Project<'_>, sent: bool) -> String {
    let site = project.site;
    let mut first: Option<(String, String)> = None;
    for builder in &site.builders {
        let work = site.folder.join("unpacked");
        let (blobs, tree) = (work.join("blobs"), work.join("tree"));
        fs::create_dir_all(&tree).expect("a folder");
        let reference = project.reference(builder.name());
        if sent {
            skopeo(&format!("docker://{reference}"), &blobs);
        } else {
            builder.take_out(&reference, &blobs);
        }
        unpack(&blobs, &tree);
        let listing = list(&tree);
        fs::remove_dir_all(&work).expect("the folder");
        match &first {
            None => first = Some((builder.name().to_owned(), listing)),
            Some((name, other)) => {
                let differs = other.lines().zip(listing.lines()).find(|(a, b)| a != b);
                assert!(*other == listing, "{name} and {} differ: {differs:?}", builder.name());
            }
        }
    }
    let (_, listing) = first.expect("lbuild");
    let entries = listing.lines().count();
    match site.builders.len() {
        1 => format!("lbuild made {entries} entries"),
        all => format!("{all} builders made the same {entries} entries"),
    }
}

/// Copies an image to a folder with its manifest and its blobs as they are.
pub(crate) fn skopeo(from: &str, folder: &Path) {
    quietly(
        Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", from])
            .arg(format!("dir:{}", folder.display())),
    );
}

/// Unpacks the layers in their order. The workloads delete nothing, so that no tool has to know of whiteouts.
fn unpack(blobs: &Path, tree: &Path) {
    let manifest = fs::read(blobs.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    for layer in manifest["layers"].as_array().expect("layers") {
        let digest = layer["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
        let mut tar = Command::new("tar");
        tar.args(["--numeric-owner", "-xpf"]).arg(blobs.join(digest)).arg("-C").arg(tree);
        quietly(&mut tar);
    }
}

fn list(root: &Path) -> String {
    let mut lines = String::new();
    list_into(root, Path::new(""), &mut lines);
    lines
}

fn list_into(folder: &Path, below: &Path, lines: &mut String) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = below.join(entry.file_name());
        if MOUNT_POINTS.iter().any(|point| path == Path::new(point)) {
            continue;
        }
        assert!(!entry.file_name().to_string_lossy().starts_with(".wh."), "a whiteout: {}", path.display());
        let status = entry.metadata().expect("a status");
        write!(lines, "{:?} {:o} {}:{} ", path, status.mode(), status.uid(), status.gid()).expect("a string");
        if status.is_symlink() {
            writeln!(lines, "{:?}", fs::read_link(entry.path()).expect("a link")).expect("a string");
        } else if status.is_file() {
            writeln!(lines, "{}", digest(&entry.path())).expect("a string");
        } else {
            lines.push('\n');
        }
        if status.is_dir() {
            list_into(&entry.path(), &path, lines);
        }
    }
}

fn digest(path: &Path) -> String {
    let mut hasher = Sha256::new();
    let mut file = File::open(path).expect("a file");
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = file.read(&mut buffer) {
        hasher.update(&buffer[..length]);
    }
    hasher.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
