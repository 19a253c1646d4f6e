//! `--sbom` of images with rpm, held against what rpm itself reads, in each of its kinds of database.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::World;
use crate::peers;

const MAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/rpm/make.py");

/// Headers of packages as rpmbuild makes them, a line each.
fn headers(world: &World) -> String {
    world.file(
        "spec",
        "Name: %{n}\nVersion: 1.%{n}\nRelease: 2\nEpoch: 5\nSummary: s\nLicense: MIT\nBuildArch: noarch\n\
         %description\n%(seq 3000)\n%files\n",
    );
    let (spec, top) = (world.path("context/spec"), world.path("rpm"));
    for name in ["alpha", "beta", "gamma"] {
        let mut build = Command::new("rpmbuild");
        build.args(["-bb", "--quiet", "--define", &format!("_topdir {}", top.display())]);
        peers::run(build.args(["--define", &format!("n {name}")]).arg(&spec));
    }
    let read = "import sys, sqlite3\n\
                for (blob,) in sqlite3.connect(sys.argv[1]).execute('SELECT blob FROM Packages'): print(blob.hex())";
    let folder = world.path("installed");
    let mut install = Command::new("sh");
    install.args(["-c", "rpm --dbpath \"$1\" -i --justdb --nodeps \"$2\"/RPMS/noarch/*.rpm", "sh"]);
    peers::run(install.arg(&folder).arg(&top));
    peers::run(Command::new("python3").args(["-c", read]).arg(folder.join("rpmdb.sqlite")))
}

/// What rpm says is in a folder's database, as package URLs.
fn according_to_rpm(folder: &Path) -> BTreeSet<String> {
    let mut query = Command::new("rpm");
    query.args(["--define", "_db_backend bdb_ro", "--dbpath"]).arg(folder);
    let form = "pkg:rpm/%{NAME}@%{VERSION}-%{RELEASE}?arch=noarch&epoch=%{EPOCH}\\n";
    peers::run(query.args(["-qa", "--qf", form])).lines().map(str::to_owned).collect()
}

#[test]
fn every_kind_of_database_of_rpm_is_read() {
    let world = World::new();
    let folder = world.path("context");
    fs::write(world.path("headers"), headers(&world)).expect("a list of headers");
    peers::run(Command::new("python3").arg(MAKE).arg(&folder).arg(world.path("headers")));
    let expected = according_to_rpm(&folder);
    assert_eq!(expected.len(), 3, "{expected:?}");
    for (kind, place) in [
        ("Packages", "var/lib/rpm"),
        ("Packages.db", "usr/lib/sysimage/rpm"),
        ("rpmdb.sqlite", "usr/lib/sysimage/rpm"),
    ] {
        let text = format!("FROM scratch\nCOPY {kind} /{place}/{kind}\n");
        world.build(&text).args(&["--sbom=true", "-o", kind]).success();
        let document = fs::read(world.path(kind).join("sbom.spdx.json")).expect("the list");
        let document: Value = serde_json::from_slice(&document).expect("JSON");
        let packages = document["predicate"]["packages"].as_array().expect("packages").iter();
        let urls = packages.filter_map(|package| package["externalRefs"][0]["referenceLocator"].as_str());
        assert_eq!(urls.map(str::to_owned).collect::<BTreeSet<_>>(), expected, "{kind}");
        assert!(!document["predicate"].to_string().contains("are missing"), "{document}");
    }
}
