//! Databases of rpm, of every kind that it has had.

use std::path::Path;

use builder::attest::sbom::{Package, packages_of_rpm};

#[test]
fn all_kinds_of_database_tell_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("testdata/rpm");
    // Their headers take a part of a page, nearly a page, and several pages.
    let expected = ["long", "longer", "short"].map(|name| Package {
        kind: "rpm",
        name: name.to_owned(),
        version: "1.2-3".to_owned(),
        epoch: Some(4),
        architecture: Some("noarch".to_owned()),
        license: Some("MIT".to_owned()),
        supplier: Some("Vendor".to_owned()),
    });
    for name in ["Packages", "Packages.db", "rpmdb.sqlite"] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let mut found = packages_of_rpm(&bytes).unwrap_or_else(|| panic!("{name} cannot be read"));
        found.sort();
        assert_eq!(found, expected, "{name}");
        assert_eq!(packages_of_rpm(&bytes[..bytes.len() / 2]), None, "half of {name}");
    }
    assert_eq!(packages_of_rpm(b""), None);
    assert_eq!(packages_of_rpm(b"of another kind"), None);
}
