//! `--acls`: access control lists in images, for those who ask for them; held against what umoci makes of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::base::debian;
use crate::harness::World;
use crate::layout::Image;
use crate::{peers, registry};

/// The lists of a file, as getfacl(1) shows them.
fn lists(path: &Path) -> String {
    let mut getfacl = Command::new("getfacl");
    peers::run(getfacl.args(["--numeric", "--omit-header", "--absolute-names"]).arg(path))
}

#[test]
fn lists_travel_when_they_are_asked_for() {
    let world = World::new();
    for program in ["setfacl", "getfacl"] {
        world.file(program, fs::read(Path::new("/usr/bin").join(program)).expect("Debian's acl"));
    }
    let text = format!(
        "FROM {}\nCOPY --chmod=755 setfacl getfacl /usr/local/bin/\n\
         RUN mkdir /d && setfacl -m d:u:7:r,u:8:rwx /d && touch /d/f && setfacl -m u:9:r /d/f\n",
        debian()
    );
    let name = format!("{}/acl/with:1", registry::open());
    let build = |args: &[&str], folder: &str| {
        let output = format!("type=oci,tar=false,dest={folder}");
        let build = world.build(&text).args(&["--source-date-epoch=1", "-o", &output]).args(args);
        (build.success(), Image::open(&world.path(folder)))
    };
    let (_, plain) = build(&[], "plain");
    let (output, with) = build(&["--acls", "-t", &name, "--push"], "with");
    assert!(output.stderr.contains("CACHED"), "packing alone differs: {}", output.stderr);
    assert_ne!(plain.digest, with.digest);
    assert_eq!(build(&["--acls"], "again").1.digest, with.digest);

    let file = "user::rw-\nuser:7:r--\nuser:9:r--\ngroup::r-x\nmask::r-x\nother::r--\n\n";
    let unpacked = world.unpack(&with).folder;
    let directory = "user::rwx\nuser:8:rwx\ngroup::r-x\nmask::rwx\nother::r-x\ndefault:user::rwx\n\
                     default:user:7:r--\ndefault:group::r-x\ndefault:mask::r-x\ndefault:other::r-x\n\n";
    assert_eq!(lists(&unpacked.join("d/f")), file);
    assert_eq!(lists(&unpacked.join("d")), directory);
    let bare = lists(&world.unpack(&plain).folder.join("d"));
    assert_eq!(bare, "user::rwx\ngroup::rwx\nother::r-x\n\n", "the group has what the mask was");

    // What a layer has, its files get, in another store too.
    let elsewhere = World::new();
    let run = ["run", "--rm", "--network=none", &name, "getfacl", "-nc", "/d/f"];
    assert_eq!(elsewhere.lbuild(&run).success().stdout, file);
    elsewhere.lbuild(&["fsck", "--deep"]).success();

    // A tar of the files has them; a directory for whoever wants the files is inert.
    build(&["--acls", "-o", "type=tar,dest=files.tar", "-o", "files"], "beside");
    let archive = fs::read(world.path("files.tar")).expect("a tar");
    assert!(archive.windows(16).any(|bytes| bytes == b"posix_acl_access"));
    assert!(!lists(&world.path("files/d/f")).contains("user:9"));
}
