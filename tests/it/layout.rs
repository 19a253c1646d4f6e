//! OCI image layouts written and read by the tests' own few lines, so that neither lbuild nor a peer has
//! the last word: base images, and images that no honest tool would make. Also a tar writer that checks
//! nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The digest without its `sha256:`.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A layer's blob, and the digest of the archive in it.
pub(crate) struct Layer {
    pub(crate) media_type: &'static str,
    pub(crate) blob: Vec<u8>,
    pub(crate) diff_id: String,
}

impl Layer {
    /// An archive as it is.
    pub(crate) fn plain(tar: Vec<u8>) -> Layer {
        let diff_id = format!("sha256:{}", sha256(&tar));
        Layer { media_type: "application/vnd.oci.image.layer.v1.tar", blob: tar, diff_id }
    }

    /// A gzip blob of the archive `tar`.
    pub(crate) fn gzip(tar: &[u8], blob: Vec<u8>) -> Layer {
        let diff_id = format!("sha256:{}", sha256(tar));
        Layer { media_type: "application/vnd.oci.image.layer.v1.tar+gzip", blob, diff_id }
    }
}

/// Writes a layout with one image for this machine, tagged `it`.
pub(crate) fn write(folder: &Path, layers: &[Layer], config: &Value) {
    write_for(architecture(), folder, layers, config);
}

/// Writes a layout with one image for a processor, tagged `it`.
pub(crate) fn write_for(architecture: &str, folder: &Path, layers: &[Layer], config: &Value) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a folder");
    let put = |media_type: &str, bytes: &[u8]| {
        fs::write(blobs.join(sha256(bytes)), bytes).expect("a blob");
        json!({"mediaType": media_type, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
    };
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": layers.iter().map(|_| json!({"created_by": "the tests"})).collect::<Vec<_>>(),
    });
    let layers: Vec<Value> = layers.iter().map(|layer| put(layer.media_type, &layer.blob)).collect();
    let config = put(CONFIG, config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    write_index(folder, put(MANIFEST, manifest.to_string().as_bytes()));
}

/// Joins layouts of one image each, with its processor, in one with an index of them, tagged `it`.
pub(crate) fn join(folder: &Path, layouts: &[(&str, &Path)]) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a folder");
    let mut entries = Vec::new();
    for (architecture, layout) in layouts {
        for blob in fs::read_dir(layout.join("blobs/sha256")).expect("blobs") {
            let blob = blob.expect("a blob");
            fs::copy(blob.path(), blobs.join(blob.file_name())).expect("a copy");
        }
        let mut entry = read_json(&layout.join("index.json"))["manifests"][0].clone();
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry.as_object_mut().expect("a descriptor").remove("annotations");
        entries.push(entry);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    let digest = sha256(index.as_bytes());
    fs::write(blobs.join(&digest), &index).expect("a blob");
    let digest = format!("sha256:{digest}");
    write_index(folder, json!({"mediaType": INDEX, "digest": digest, "size": index.len()}));
}

fn write_index(folder: &Path, mut manifest: Value) {
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "it"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(folder.join("index.json"), index.to_string()).expect("an index");
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a layout");
}

/// What Docker and OCI call this machine's processor.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A layout with one image, read.
pub(crate) struct Image {
    folder: PathBuf,
    entry: Value,
    pub(crate) digest: String,
    pub(crate) manifest: Value,
    /// The whole image configuration; what a container gets is its `config`.
    pub(crate) image: Value,
}

impl Image {
    /// Reads the layout; every blob that the manifest names must be there and be what it is called.
    pub(crate) fn open(folder: &Path) -> Image {
        let index: Value = read_json(&folder.join("index.json"));
        let manifests = index["manifests"].as_array().expect("manifests");
        // Each name of the image has an entry.
        let is_first = |manifest: &Value| manifest["digest"] == manifests[0]["digest"];
        assert!(
            !manifests.is_empty() && manifests.iter().all(is_first),
            "one image in {}: {index}",
            folder.display()
        );
        Image::pick(folder, &manifests[0])
    }

    /// Reads the image of a layout that an entry of an index points to.
    pub(crate) fn pick(folder: &Path, entry: &Value) -> Image {
        let digest = text(&entry["digest"]).to_owned();
        let manifest = document(folder, &entry["digest"]);
        let layers = manifest["layers"].as_array().expect("layers");
        for descriptor in layers.iter().chain([&manifest["config"], entry]) {
            let bytes = blob(folder, text(&descriptor["digest"]));
            assert_eq!(descriptor["size"], bytes.len(), "the size of {descriptor}");
        }
        let image = document(folder, &manifest["config"]["digest"]);
        Image { folder: folder.to_owned(), entry: entry.clone(), digest, manifest, image }
    }

    /// The part of the configuration that containers are made from.
    pub(crate) fn config(&self) -> &Value {
        &self.image["config"]
    }

    /// The digests of the uncompressed layers, from the base up.
    pub(crate) fn diff_ids(&self) -> Vec<&str> {
        let ids = self.image["rootfs"]["diff_ids"].as_array().expect("diff ids");
        ids.iter().map(text).collect()
    }

    /// What `created_by` says, line by line of the history.
    pub(crate) fn history(&self) -> Vec<&str> {
        let history = self.image["history"].as_array().expect("a history");
        history.iter().map(|entry| entry["created_by"].as_str().unwrap_or_default()).collect()
    }

    /// The names in layer `number`, counted from 0, in the order of the archive.
    pub(crate) fn names_in_layer(&self, number: usize) -> Vec<String> {
        let layer = &self.manifest["layers"][number];
        let path = blob_path(&self.folder, text(&layer["digest"]));
        let output = std::process::Command::new("tar")
            .arg("--list")
            .arg("--auto-compress")
            .arg("--file")
            .arg(&path)
            .output();
        let output = match text(&layer["mediaType"]) {
            gzip if gzip.ends_with("gzip") => {
                std::process::Command::new("tar").args(["-tzf"]).arg(&path).output()
            }
            zstd if zstd.ends_with("zstd") => {
                std::process::Command::new("tar").args(["--zstd", "-tf"]).arg(&path).output()
            }
            _ => output,
        };
        let output = output.expect("tar");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|name| name.trim_end_matches('/').to_owned())
            .collect()
    }

    /// A view of the layout in which the image is tagged `it`, whatever lbuild called it.
    pub(crate) fn tagged(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        std::os::unix::fs::symlink(self.folder.join("blobs"), folder.join("blobs")).expect("a link");
        write_index(folder, self.entry.clone());
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a string, found {value}"))
}

pub(crate) fn read_json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn blob_path(folder: &Path, digest: &str) -> PathBuf {
    folder.join("blobs/sha256").join(digest.strip_prefix("sha256:").expect("a sha256 digest"))
}

fn blob(folder: &Path, digest: &str) -> Vec<u8> {
    let path = blob_path(folder, digest);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(format!("sha256:{}", sha256(&bytes)), digest, "{}", path.display());
    bytes
}

/// A blob that is JSON.
pub(crate) fn document(folder: &Path, digest: &Value) -> Value {
    serde_json::from_slice(&blob(folder, text(digest))).unwrap_or_else(|error| panic!("{digest}: {error}"))
}

/// An archive that may say anything: names with `..`, links to `/etc`, devices.
#[derive(Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn file(self, name: &str, mode: u32, content: &[u8]) -> Tar {
        self.entry(name, b'0', mode, "", content)
    }

    pub(crate) fn folder(self, name: &str) -> Tar {
        self.entry(name, b'5', 0o755, "", b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Tar {
        self.entry(name, b'2', 0o777, target, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Tar {
        self.entry(name, b'1', 0o644, target, b"")
    }

    /// A ustar entry owned by root; names of at most 100 bytes.
    pub(crate) fn entry(mut self, name: &str, kind: u8, mode: u32, link: &str, content: &[u8]) -> Tar {
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, link);
        put(257, "ustar");
        put(263, "00");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}
