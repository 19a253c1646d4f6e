//! `lbuild serve` in the eyes of oci-client, which others wrote: push, pull, tags, mount, referrers.
//!
//! The program is the one that `LBUILD_TEST_PROGRAM` names.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::manifest::{OciDescriptor, OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The program as a registry over a store of its own.
struct Serving {
    child: Child,
    host: String,
    _folder: tempfile::TempDir,
}

impl Serving {
    fn start() -> Serving {
        let folder = tempfile::tempdir().expect("a folder");
        let program = std::env::var_os("LBUILD_TEST_PROGRAM").expect("LBUILD_TEST_PROGRAM names the program");
        let mut command = Command::new(program);
        command
            .args(["serve", "--addr", "127.0.0.1:0", "--quiet"])
            .env("LBUILD_ROOT", folder.path().join("root"));
        let mut child = command.stdout(Stdio::piped()).spawn().expect("lbuild");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("its address");
        let host = line.trim().split("://").nth(1).expect("an address").to_owned();
        Serving { child, host, _folder: folder }
    }

    fn name(&self, name: &str) -> Reference {
        format!("{}/{name}", self.host).parse().expect("a reference")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn client(is_monolithic: bool) -> Client {
    // Nothing here speaks TLS, but a client cannot be made without.
    rustls::crypto::ring::default_provider().install_default().ok();
    let protocol = ClientProtocol::Http;
    let config = ClientConfig { protocol, use_monolithic_push: is_monolithic, ..ClientConfig::default() };
    Client::try_from(config).expect("a client")
}

/// An image of a layer of so many bytes.
fn image(bytes: usize) -> (Vec<ImageLayer>, Config) {
    let layer: Vec<u8> = (0..=250).cycle().take(bytes).collect();
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let layers = vec![ImageLayer::new(layer, LAYER.to_owned(), None)];
    (layers, Config::new(config.to_vec(), CONFIG.to_owned(), None))
}

#[test]
fn oci_client_gets_what_it_gave() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (serving, anonymous) = (Serving::start(), RegistryAuth::Anonymous);
        // In chunks, which are of 4 MiB, and in one request.
        for (tag, is_monolithic) in [("chunked", false), ("whole", true)] {
            let client = client(is_monolithic);
            let name = serving.name(&format!("me/app:{tag}"));
            let (layers, config) = image(10_000_000);
            client.push(&name, &layers, config.clone(), &anonymous, None).await.expect("a push");
            let pulled = client.pull(&name, &anonymous, vec![LAYER]).await.expect("a pull");
            assert!(pulled.layers[0].data == layers[0].data, "{tag}");
            assert!(pulled.config.data == config.data, "{tag}");
            let (manifest, digest) = client.pull_image_manifest(&name, &anonymous).await.expect("a manifest");
            assert_eq!(Some(&digest), pulled.digest.as_ref());
            assert_eq!(client.fetch_manifest_digest(&name, &anonymous).await.expect("a digest"), digest);
            assert!(client.blob_exists(&name, &manifest.layers[0].digest).await.expect("an answer"));
        }
        let client = client(false);
        let name = serving.name("me/app:whole");
        // Lists, whole and by pages.
        let listed = client.list_tags(&name, &anonymous, None, None).await.expect("tags");
        assert_eq!(listed.tags, ["chunked", "whole"]);
        let rest = client.list_tags(&name, &anonymous, Some(1), Some("chunked")).await.expect("tags");
        assert_eq!(rest.tags, ["whole"]);
        // A mount into another repository.
        let (manifest, digest) = client.pull_image_manifest(&name, &anonymous).await.expect("a manifest");
        let other = serving.name("other/app:1");
        client.store_auth_if_needed(other.resolve_registry(), &anonymous).await;
        client.mount_blob(&other, &name, &manifest.layers[0].digest).await.expect("a mount");
        assert!(client.blob_exists(&other, &manifest.layers[0].digest).await.expect("an answer"));
        refer(&client, &serving, &digest, &manifest).await;
        let missing = client.pull(&serving.name("me/app:absent"), &anonymous, vec![LAYER]).await;
        assert!(missing.is_err());
    });
}

/// Pushes an artifact about the image, and finds it as what refers to that.
async fn refer(client: &Client, serving: &Serving, digest: &str, image: &OciImageManifest) {
    let anonymous = RegistryAuth::Anonymous;
    let size = i64::try_from(serde_json::to_vec(image).expect("JSON").len()).expect("a size");
    let subject = OciDescriptor {
        media_type: MANIFEST.to_owned(),
        digest: digest.to_owned(),
        size,
        ..OciDescriptor::default()
    };
    let (layers, config) = (vec![ImageLayer::new(b"signed".to_vec(), "text/plain".to_owned(), None)], {
        Config::new(b"{}".to_vec(), "application/vnd.oci.empty.v1+json".to_owned(), None)
    });
    let mut manifest =
        OciImageManifest::build(&layers, &config, Some(BTreeMap::from([("a".into(), "b".into())])));
    manifest.artifact_type = Some("application/x.signature".to_owned());
    manifest.subject = Some(subject);
    let name = serving.name("me/app:signature");
    client.push(&name, &layers, config, &anonymous, Some(manifest.clone())).await.expect("a push");
    let at = serving.name(&format!("me/app@{digest}"));
    for (kind, count) in [(None, 1), (Some("application/x.signature"), 1), (Some("application/x.other"), 0)] {
        let found = client.pull_referrers(&at, kind).await.expect("referrers");
        assert_eq!(found.manifests.len(), count, "{kind:?}");
        for entry in found.manifests {
            let signature = serving.name(&format!("me/app@{}", entry.digest));
            let (pulled, _) = client.pull_manifest(&signature, &anonymous).await.expect("the referrer");
            let OciManifest::Image(pulled) = pulled else { panic!("no manifest") };
            let value = |manifest: &OciImageManifest| serde_json::to_value(manifest).expect("JSON");
            assert_eq!(value(&pulled), value(&manifest));
            assert_eq!(entry.annotations.and_then(|notes| notes.get("a").cloned()).as_deref(), Some("b"));
        }
    }
}
