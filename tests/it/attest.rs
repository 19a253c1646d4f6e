//! What is attested of an image: that it stands where BuildKit puts it, says what is true, and is in nobody's way.

use std::path::Path;

use serde_json::Value;

use crate::base::{busybox, busybox_of_two, debian};
use crate::harness::World;
use crate::layout::{Image, document, read_json};
use crate::peers::{self, Containers};
use crate::registry;

/// The image, and its statements by the type of what they say.
fn open(layout: &Path, architecture: Option<&str>) -> (Image, Vec<(String, Value)>) {
    let list = read_json(&layout.join("index.json"));
    let index = document(layout, &list["manifests"][0]["digest"]);
    let entries = index["manifests"].as_array().expect("an index");
    let is_image = |entry: &&Value| match architecture {
        Some(architecture) => entry["platform"]["architecture"] == architecture,
        None => entry["platform"]["architecture"] != "unknown",
    };
    let image = entries.iter().find(is_image).expect("an image");
    let is_companion =
        |entry: &&Value| entry["annotations"]["vnd.docker.reference.digest"] == image["digest"];
    let companion = entries.iter().find(is_companion).expect("its statements");
    assert_eq!(companion["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(companion["platform"], serde_json::json!({"os": "unknown", "architecture": "unknown"}));
    let manifest = document(layout, &companion["digest"]);
    assert_eq!(manifest["artifactType"], "application/vnd.docker.attestation.manifest.v1+json");
    for field in ["digest", "size", "mediaType"] {
        assert_eq!(manifest["subject"][field], image[field]);
    }
    let statements = manifest["layers"].as_array().expect("layers").iter().map(|layer| {
        assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
        let statement = document(layout, &layer["digest"]);
        let digest = format!("sha256:{}", statement["subject"][0]["digest"]["sha256"].as_str().unwrap());
        assert_eq!(image["digest"], digest.as_str(), "the statement's subject");
        assert_eq!(statement["predicateType"], layer["annotations"]["in-toto.io/predicate-type"]);
        (statement["predicateType"].as_str().unwrap().to_owned(), statement["predicate"].clone())
    });
    (Image::pick(layout, image), statements.collect())
}

const TEXT: &str =
    "ARG A=1\nRUN --mount=type=secret,id=token cat /run/secrets/token > /dev/null\nCOPY f /f\n";

#[test]
fn a_provenance_says_where_an_image_came_from() {
    let world = World::new();
    world.file("f", "x");
    let text = format!("FROM {}\n{TEXT}", busybox());
    let build = |args: &[&str], folder: &str| {
        let output = format!("type=oci,tar=false,dest={folder}");
        world
            .build(&text)
            .args(&["--build-arg", "A=argument", "--label", "l=label", "--secret", "id=token,env=TOKEN"])
            .args(&["-t", "it/attested:1", "-o", &output])
            .args(args)
            .env("TOKEN", "secret value")
            .env("SOURCE_DATE_EPOCH", "86400")
            .success();
        world.path(folder)
    };
    // Nobody gets what was not asked for.
    let plain = Image::open(&build(&[], "plain"));
    let (image, statements) = open(&build(&["--provenance", "true"], "max"), None);
    assert_eq!(image.digest, plain.digest, "the image is the same");
    // As a referrer it leaves the image alone.
    let list =
        read_json(&build(&["--provenance=true", "--attest-as=referrers"], "referrers").join("index.json"));
    assert_eq!(list["manifests"][0]["digest"], plain.digest.as_str());
    assert_eq!(list["manifests"][1]["artifactType"], "application/vnd.docker.attestation.manifest.v1+json");
    let [(kind, max)] = &statements[..] else { panic!("one statement") };
    assert_eq!(kind, "https://slsa.dev/provenance/v1");
    let definition = &max["buildDefinition"];
    let request = &definition["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:A"], "argument");
    assert_eq!(request["args"]["label:l"], "label");
    assert_eq!(request["secrets"][0]["id"], "token");
    assert_eq!(max["runDetails"]["metadata"]["startedOn"], "1970-01-02T00:00:00Z");
    let base = &definition["resolvedDependencies"][0];
    let expected = format!("sha256:{}", base["digest"]["sha256"].as_str().unwrap());
    assert_eq!(peers::skopeo_digest(busybox()), expected);
    assert!(base["uri"].as_str().unwrap().starts_with("pkg:docker/127.0.0.1%3A"), "{base}");
    let (_, statements) = open(&build(&["--attest", "type=provenance,mode=min,version=v0.2"], "min"), None);
    let [(kind, min)] = &statements[..] else { panic!("one statement") };
    assert_eq!(kind, "https://slsa.dev/provenance/v0.2");
    assert_eq!(min["buildType"], "https://mobyproject.org/buildkit@v1");
    assert_eq!(min["materials"][0]["digest"], base["digest"]);
    for (told, statement) in [(false, min), (true, max)] {
        let text = statement.to_string();
        for word in ["argument", "\"label\"", "token"] {
            assert_eq!(text.contains(word), told, "{word} in {text}");
        }
        assert!(!text.contains("secret value"));
    }
    // Equal builds attest the same, and later words count.
    let once = read_json(&build(&["--provenance=max", "--sbom", "true"], "one").join("index.json"));
    assert_eq!(
        once["manifests"],
        read_json(&build(&["--attest=type=provenance", "--sbom=true"], "two").join("index.json"))["manifests"]
    );
    assert_eq!(Image::open(&build(&["--provenance=false", "--sbom=false"], "none")).digest, plain.digest);
}

#[test]
fn the_index_that_statements_need_may_be_annotated() {
    let world = World::new();
    let build = |args: &[&str]| world.build("FROM scratch\nLABEL a=b\n").args(args);
    let asked = ["--annotation=index:a=b", "--annotation=index-descriptor:c=d"];
    let output = "type=oci,tar=false,dest=layout,annotation-index.e=f,annotation-index-descriptor.g=h";
    build(&asked).args(&["--provenance=true", "-o", output]).success();
    let entry = &read_json(&world.path("layout/index.json"))["manifests"][0];
    assert_eq!((&entry["annotations"]["c"], &entry["annotations"]["g"]), (&"d".into(), &"h".into()));
    let index = document(&world.path("layout"), &entry["digest"]);
    assert_eq!(index["annotations"], serde_json::json!({"a": "b", "e": "f"}));
    // Statements that refer to the image make no index.
    let refused = build(&asked).args(&["--sbom=true", "--attest-as=referrers"]).output();
    refused.failure(2).says("has no index to annotate");
    build(&["--sbom=true", "--attest-as=referrers", "-o", output]).output().failure(2).says("has no index");
}

#[test]
fn several_platforms_are_attested_each_and_registries_carry_it() {
    let world = World::new();
    let name = format!("{}/attest/two:1", registry::open());
    let text = format!("FROM {}\nLABEL a=b\n", busybox_of_two());
    world
        .build(&text)
        .args(&["--platform=linux/amd64,linux/arm64", "--provenance=min", "--sbom=1", "-t", &name, "--push"])
        .args(&["-o", "type=oci,tar=false,dest=layout,compression=zstd,force-compression=true"])
        .success();
    for architecture in ["amd64", "arm64"] {
        let (image, statements) = open(&world.path("layout"), Some(architecture));
        assert_eq!(image.manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
        assert_eq!(statements.len(), 2);
    }
    let index = peers::skopeo_raw(&name);
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(4));
    // Whoever runs it gets an image.
    let elsewhere = World::new();
    assert_eq!(
        elsewhere.lbuild(&["run", "--rm", "--network=none", &name, "echo", "x"]).success().stdout,
        "x\n"
    );
    let containers = Containers::vfs(&world.path("containers"));
    assert_eq!(containers.podman_run(&name, &["echo", "x"]), "x\n");
    // What was pushed can be pushed again, and saved and loaded, with all of it.
    let copy = format!("{}/attest/copy:1", registry::open());
    world.lbuild(&["tag", &name, &copy]).success();
    world.lbuild(&["push", &copy]).success();
    assert_eq!(peers::skopeo_raw(&copy), index);
    world.lbuild(&["save", "-o", "image.tar", &copy]).success();
    elsewhere.lbuild(&["load", "-i", world.path("image.tar").to_str().unwrap()]).success();
    elsewhere.lbuild(&["tag", &copy, &format!("{copy}-again")]).success();
    elsewhere.lbuild(&["push", &format!("{copy}-again")]).success();
    assert_eq!(peers::skopeo_raw(&format!("{copy}-again")), index);
    let built = world.build(&format!("FROM {copy}\nRUN echo built on it\n")).success();
    assert!(built.stderr.contains("built on it"), "{}", built.stderr);
    let refused =
        world.build(&text).args(&["--sbom=true", "-o", "type=oci,dest=x,oci-mediatypes=false"]).output();
    refused.failure(2).says("attestations have no place");
}

/// A database as rpm makes it: more packages than a page has room for, some of them longer than a page.
fn rpm_database(path: &Path) {
    const MAKE: &str = r#"
import sqlite3, sys
sys.path.append(sys.argv[2])
import make
def package(n):
    return [(1000, 6, f"package-{n}"), (1001, 6, f"1.{n}"), (1002, 6, "2.fc40"), (1003, 4, 3), (1005, 9, "x" * (n * 97)),
            (1011, 6, "Vendor"), (1014, 6, "MIT"), (1022, 6, "x86_64")]
with sqlite3.connect(sys.argv[1]) as db:
    db.execute("CREATE TABLE 'Name' (key TEXT, hnum INTEGER, idx INTEGER)")
key = [(1000, 6, "gpg-pubkey"), (1001, 6, "1"), (1002, 6, "1")]
make.sqlite(sys.argv[1], [make.header(fields) for fields in [*map(package, range(500)), key]], 4096)
"#;
    let make = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/rpm");
    // It leaves no compiled copy of what it imports.
    peers::run(std::process::Command::new("python3").args(["-B", "-c", MAKE]).arg(path).arg(make));
}

/// Those of the base are those that its own dpkg tells of.
fn assert_debian_packages(world: &World, packages: &[Value]) {
    let installed = peers::run(world.command().args([
        "run",
        "--rm",
        "--network=none",
        debian(),
        "dpkg-query",
        "-Wf",
        "${Package} ${Version}\n",
    ]));
    let of_debian = packages.iter().filter(|package| {
        let url = package["externalRefs"][0]["referenceLocator"].as_str();
        url.is_some_and(|url| url.starts_with("pkg:deb/debian/") && url.ends_with("&distro=debian-12"))
    });
    let mut found: Vec<String> = of_debian
        .map(|package| {
            format!("{} {}", package["name"].as_str().unwrap(), package["versionInfo"].as_str().unwrap())
        })
        .collect();
    let mut expected: Vec<String> = installed.lines().map(str::to_owned).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_bill_of_materials_lists_the_packages_of_all_kinds() {
    let world = World::new();
    world.file("METADATA", "Name: Flask_Thing\nVersion: 3.0\n\nName: no\n");
    world.file("package.json", r#"{"name":"@scope/pad","version":"1.2.3","license":"MIT"}"#);
    world.file("installed", "P:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\n\nP:zlib\nV:1.3\n\n");
    world.file("Packages", "of another kind");
    rpm_database(&world.path("context/rpmdb.sqlite"));
    let text = format!(
        "FROM {}\nCOPY METADATA /usr/lib/python3/dist-packages/flask_thing-3.0.dist-info/METADATA\n\
         COPY package.json /app/node_modules/@scope/pad/package.json\nCOPY installed /lib/apk/db/installed\n\
         COPY Packages /var/lib/rpm/Packages\nCOPY rpmdb.sqlite /usr/lib/sysimage/rpm/rpmdb.sqlite\n\
         RUN mkdir -p /var/lib/dpkg/status.d && mkfifo /var/lib/dpkg/status.d/pipe\n",
        debian()
    );
    let args = [
        "--sbom=true",
        "-o",
        "type=oci,tar=false,dest=layout",
        "-o",
        "type=tar,dest=files.tar",
        "-o",
        "files",
    ];
    let output = world.build(&text).args(&args).success();
    assert!(output.stderr.contains("is left out"), "{}", output.stderr);
    let (_, statements) = open(&world.path("layout"), None);
    let [(kind, document)] = &statements[..] else { panic!("one statement") };
    assert_eq!(
        (kind.as_str(), document["spdxVersion"].as_str()),
        ("https://spdx.dev/Document", Some("SPDX-2.3"))
    );
    assert!(document["comment"].as_str().unwrap().contains("`/var/lib/dpkg/status.d/pipe` is left out"));
    let packages = document["packages"].as_array().unwrap();
    let urls: Vec<&str> = packages
        .iter()
        .filter_map(|package| package["externalRefs"][0]["referenceLocator"].as_str())
        .collect();
    for url in [
        "pkg:pypi/flask-thing@3.0",
        "pkg:npm/%40scope/pad@1.2.3",
        "pkg:rpm/debian/package-7@1.7-2.fc40?arch=x86_64&distro=debian-12&epoch=3",
        "pkg:rpm/debian/package-499@1.499-2.fc40?arch=x86_64&distro=debian-12&epoch=3",
        "pkg:apk/debian/musl@1.2.4-r2?arch=x86_64&distro=debian-12",
    ] {
        assert!(urls.contains(&url), "{url} in {urls:?}");
    }
    assert_debian_packages(&world, packages);
    let mut ids: Vec<&str> = packages.iter().map(|package| package["SPDXID"].as_str().unwrap()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "each package has an id of its own");
    let of_rpm = urls.iter().filter(|url| url.starts_with("pkg:rpm/"));
    assert_eq!(of_rpm.count(), 500, "all packages, and no key");
    // Those who take the files get it as a file.
    let beside = read_json(&world.path("files/sbom.spdx.json"));
    assert_eq!(&beside["predicate"], document);
    let listed = peers::run(std::process::Command::new("tar").arg("-tf").arg(world.path("files.tar")));
    assert!(listed.lines().any(|line| line == "sbom.spdx.json"));
}
