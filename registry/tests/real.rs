//! The client against Debian's docker-registry: what the in-process registry cannot prove, since the same hands
//! wrote it.
//!
//! Skipped with a printed reason where the program is missing; a failure there when `CI` is set.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use oci::{Descriptor, Digest, Document, Manifest, MediaType, Raw, Reference};
use registry::{Client, Credential, Keychain, Options, Pushed};

/// `me:secret`, as `htpasswd -nbB` writes it.
const HTPASSWD: &str = "me:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

struct Server {
    child: Child,
    host: String,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts the registry; `None` where it is not installed.
    fn start(is_closed: bool) -> Option<Server> {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let root = folder.path().display();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {root}/data}}}}\nhttp: {{addr: \"{host}\", secret: test}}\n"
        );
        if is_closed {
            std::fs::write(folder.path().join("htpasswd"), HTPASSWD).unwrap();
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"));
        }
        let config_path = folder.path().join("config.yml");
        std::fs::write(&config_path, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config_path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                #[allow(clippy::disallowed_methods, reason = "CI must not skip")]
                let is_ci = std::env::var_os("CI").is_some();
                assert!(!is_ci, "docker-registry: {error}");
                #[allow(clippy::print_stderr, reason = "a skipped test says so")]
                {
                    eprintln!("skipped: docker-registry: {error}");
                }
                return None;
            }
        };
        // It listens when it is ready; until then, asking is all there is to do.
        while TcpStream::connect(&host).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "docker-registry ended at once");
            std::thread::yield_now();
        }
        Some(Server { child, host, _folder: folder })
    }

    fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.host).parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn describe(media_type: MediaType, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
}

fn push_image(client: &Client, to: &Reference, layer: &[u8]) -> (Raw<Manifest>, Pushed) {
    let config =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec();
    let manifest = Raw::write(Manifest::oci(
        describe(MediaType::OciConfig, &config),
        vec![describe(MediaType::OciLayer(oci::Compression::Gzip), layer)],
    ));
    let layer = layer.to_vec();
    let pushed = client.push_blob(to, &manifest.value().layers[0], &layer, &[], &|_| {}).unwrap();
    client.push_blob(to, &manifest.value().config, &config, &[], &|_| {}).unwrap();
    let digest = client.push_manifest(to, &MediaType::OciManifest, manifest.bytes()).unwrap();
    assert_eq!(digest, manifest.digest());
    (manifest, pushed)
}

fn check_round_trip(server: &Server, client: &Client) {
    let layer: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let to = server.reference("me/app:1");
    let (manifest, pushed) = push_image(client, &to, &layer);
    assert_eq!(pushed, Pushed::Uploaded);
    assert_eq!(push_image(client, &to, &layer).1, Pushed::Existed);

    let resolved = client.resolve(&to).unwrap();
    assert_eq!((resolved.digest, resolved.size), (manifest.digest(), manifest.size()));
    let fetched = client.document(&to.at(resolved.digest)).unwrap();
    let Document::Manifest(found) = fetched.document else { panic!("an index: {:?}", fetched.descriptor) };
    assert_eq!(found.bytes(), manifest.bytes());
    let mut bytes = Vec::new();
    client.blob(&to, &found.value().layers[0]).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, layer);

    let copy = server.reference("me/copy:1");
    let from = [server.reference("me/absent:1"), to.clone()];
    let mounted = client.push_blob(&copy, &manifest.value().layers[0], &layer, &from[1..], &|_| {}).unwrap();
    assert_eq!(mounted, Pushed::Mounted);
    let config = &manifest.value().config;
    let source =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec();
    let uploaded = client.push_blob(&copy, config, &source, &from[..1], &|_| {}).unwrap();
    assert_eq!(uploaded, Pushed::Uploaded, "a mount from a repository that has nothing becomes an upload");

    assert!(client.resolve(&server.reference("me/app:2")).unwrap_err().is_not_found());
    let missing = describe(MediaType::OciConfig, b"missing");
    assert!(client.blob(&to, &missing).err().unwrap().is_not_found());
}

#[test]
fn round_trip() {
    let Some(server) = Server::start(false) else { return };
    check_round_trip(&server, &Client::new(Options::default()));
}

#[test]
fn round_trip_with_basic_credentials() {
    let Some(server) = Server::start(true) else { return };
    let with = |password: &str| {
        let credential = Credential::Basic { username: "me".to_owned(), password: password.to_owned() };
        Options { keychain: Keychain::anonymous().and(&server.host, credential), ..Options::default() }
    };
    check_round_trip(&server, &Client::new(with("secret")));
    for options in [with("wrong"), Options::default()] {
        let error = Client::new(options).resolve(&server.reference("me/app:1")).unwrap_err();
        assert!(error.is_unauthorized(), "{error:?}");
    }
}
