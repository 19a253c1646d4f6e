//! Whether the builders made the same: an image as the list of what is in it, read by tools that are none of them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::site::Project;
use crate::support::measure::quietly;

/// Where BuildKit and buildah leave the places of their mounts.
const MOUNT_POINTS: [&str; 6] = ["dev", "proc", "sys", "run", "etc", "mnt"];

/// Every builder's image of the project, sent to the registry and unpacked by skopeo and umoci, is the same: types, modes,
/// owners, targets of links, contents. `sent` says that the rounds pushed it already.
///
/// Panics with the first line that differs.
pub(crate) fn same(project: &Project<'_>, sent: bool) -> String {
    let site = project.site;
    let mut first: Option<(String, String)> = None;
    for builder in &site.builders {
        let reference = project.reference(builder.name());
        if !sent {
            builder.push(&reference);
        }
        let work = site.folder.join("unpacked");
        fs::create_dir_all(&work).expect("a folder");
        let layout = format!("{}:it", work.join("layout").display());
        quietly(
            Command::new("skopeo")
                .args(["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"])
                .arg(format!("docker://{reference}"))
                .arg(format!("oci:{layout}")),
        );
        quietly(Command::new("umoci").args(["raw", "unpack", "--image", &layout]).arg(work.join("tree")));
        let listing = list(&work.join("tree"));
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
    format!(
        "{} made the same {} entries",
        if site.builders.len() > 1 { "all builders" } else { "lbuild" },
        listing.lines().count()
    )
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
