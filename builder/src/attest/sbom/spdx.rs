//! An inventory as an SPDX 2.3 document in JSON. (<https://spdx.github.io/spdx-spec/v2.3/>;
//! <https://github.com/package-url/purl-spec>.)

use oci::Digest;
use serde_json::{Value, json};

use super::super::provenance::escape;
use super::{Distribution, Inventory, Package};

const UNKNOWN: &str = "NOASSERTION";

/// The document. Its namespace is made of what it says, so that no two different ones share it.
pub(super) fn document(inventory: &Inventory, name: &str, created: &str) -> Value {
    let distribution = &inventory.distribution;
    let packages: Vec<Value> = inventory.packages.iter().map(|package| package.value(distribution)).collect();
    let ids = packages.iter().map(|package| package["SPDXID"].clone());
    let mut relationships = vec![relationship("SPDXRef-DOCUMENT", "DESCRIBES", &ROOT.into())];
    relationships.extend(ids.map(|id| relationship(ROOT, "CONTAINS", &id)));
    let content = Digest::of(json!([name, packages, created]).to_string().as_bytes());
    let root = json!({
        "SPDXID": ROOT,
        "name": name,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        "primaryPackagePurpose": "CONTAINER",
    });
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/lbuild-{}", content.hex()),
        "creationInfo": {
            "created": whole_seconds(created),
            "creators": [format!("Tool: lbuild-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": std::iter::once(root).chain(packages).collect::<Vec<_>>(),
        "relationships": relationships,
    });
    if !inventory.notes.is_empty() {
        document["comment"] = inventory.notes.join("\n").into();
    }
    document
}

/// The image itself.
const ROOT: &str = "SPDXRef-Image";

fn relationship(from: &str, kind: &str, to: &Value) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

/// SPDX has no fractions of seconds.
fn whole_seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) if time.ends_with('Z') => format!("{seconds}Z"),
        _ => time.to_owned(),
    }
}

impl Package {
    fn value(&self, distribution: &Distribution) -> Value {
        let purl = self.purl(distribution);
        // An id has letters, digits, points and dashes only.
        let readable: String =
            self.name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        // Licences in the field's own words are no SPDX expressions, unless the package says that they are.
        let supplier = self.supplier.as_ref().map(|supplier| format!("Organization: {}", one_line(supplier)));
        let mut value = json!({
            "SPDXID": format!("SPDXRef-Package-{}-{readable}-{}", self.kind, Digest::of(purl.as_bytes()).short()),
            "name": self.name,
            "versionInfo": self.epoch.map_or_else(|| self.version.clone(), |epoch| format!("{epoch}:{}", self.version)),
            "supplier": supplier.as_deref().unwrap_or(UNKNOWN),
            "downloadLocation": UNKNOWN,
            "filesAnalyzed": false,
            "licenseConcluded": UNKNOWN,
            "licenseDeclared": UNKNOWN,
            "copyrightText": UNKNOWN,
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl,
            }],
        });
        if let Some(license) = &self.license {
            value["licenseComments"] = one_line(license).into();
        }
        value
    }

    /// `pkg:deb/debian/bash@5.2?arch=amd64&distro=debian-12`
    fn purl(&self, distribution: &Distribution) -> String {
        let is_of_system = matches!(self.kind, "deb" | "apk" | "rpm");
        let name = match self.kind {
            // PyPI's names are the same in whatever case and with whatever joins their words.
            "pypi" => escape(&self.name.to_lowercase().replace('_', "-"), ""),
            "npm" => escape(&self.name, "/"),
            _ => escape(&self.name, ""),
        };
        let namespace = match (is_of_system, distribution.id.is_empty()) {
            (true, false) => format!("{}/", escape(&distribution.id, "")),
            _ => String::new(),
        };
        let mut purl = format!("pkg:{}/{namespace}{name}@{}", self.kind, escape(&self.version, ""));
        let architecture = self.architecture.as_ref().map(|name| format!("arch={}", escape(name, "")));
        let release =
            (is_of_system && !distribution.id.is_empty() && !distribution.version.is_empty()).then(|| {
                format!("distro={}-{}", escape(&distribution.id, ""), escape(&distribution.version, ""))
            });
        let epoch = self.epoch.map(|epoch| format!("epoch={epoch}"));
        let qualifiers: Vec<String> = architecture.into_iter().chain(release).chain(epoch).collect();
        if !qualifiers.is_empty() {
            purl.push('?');
            purl.push_str(&qualifiers.join("&"));
        }
        purl
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_urls() {
        let debian = Distribution { id: "debian".into(), version: "12".into() };
        let package = |kind, name: &str, version: &str, architecture: Option<&str>| Package {
            kind,
            name: name.into(),
            version: version.into(),
            architecture: architecture.map(str::to_owned),
            ..Package::default()
        };
        for (package, distribution, expected) in [
            (
                package("deb", "g++", "4:12.2.0-3", Some("amd64")),
                &debian,
                "pkg:deb/debian/g%2B%2B@4%3A12.2.0-3?arch=amd64&distro=debian-12",
            ),
            (package("apk", "musl", "1.2", None), &Distribution::default(), "pkg:apk/musl@1.2"),
            (package("pypi", "Foo_Bar", "1", None), &debian, "pkg:pypi/foo-bar@1"),
            (package("npm", "@a/b", "1", None), &debian, "pkg:npm/%40a/b@1"),
        ] {
            assert_eq!(package.purl(distribution), expected);
        }
        assert_eq!(whole_seconds("2024-01-02T03:04:05.678Z"), "2024-01-02T03:04:05Z");
        assert_eq!(whole_seconds("2024-01-02T03:04:05Z"), "2024-01-02T03:04:05Z");
    }
}
