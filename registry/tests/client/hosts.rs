//! Hosts that stand for a registry, as `hosts.toml` says, and certificates for one host alone.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use oci::{Descriptor, Digest, Index, MediaType, Raw, Reference};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use registry::testing::{Access, Act, Registry, Setup, TokenServer};
use registry::{Client, Credential, Keychain, Options, referrers};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::support::{Clock, lines, manifest, read, root, status};

/// A folder of hosts in which `name` has this `hosts.toml`.
fn folder(name: &str, text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(name)).unwrap();
    std::fs::write(folder.path().join(name).join("hosts.toml"), text).unwrap();
    folder
}

fn client(folder: &Path, keychain: Keychain) -> Client {
    Client::new(Options { host_folders: vec![folder.to_owned()], keychain, ..Clock::default().options() })
}

fn with_image() -> (Registry, Descriptor) {
    let registry = Registry::start(Setup::default());
    registry.put_manifest("me/app", "1", &MediaType::OciManifest, &manifest("x"));
    let blob = registry.put_blob("me/app", b"a blob");
    (registry, blob)
}

#[test]
fn mirrors_are_asked_in_order_and_then_the_registry() {
    let (own, blob) = with_image();
    let (full, _) = with_image();
    let empty = Registry::start(Setup::default());
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://127.0.0.1:1\"]\n[host.\"http://{}\"]\n[host.\"http://{}\"]\n",
        own.host(),
        empty.host(),
        full.host()
    );
    let folder = folder("registry.invalid", &text);
    let client = client(folder.path(), Keychain::anonymous());
    let reference: Reference = "registry.invalid/me/app:1".parse().unwrap();
    let fetched = client.document(&reference).unwrap();
    assert_eq!(client.resolve(&reference).unwrap(), fetched.descriptor);
    assert_eq!(read(client.blob(&reference, &blob).unwrap()).unwrap(), b"a blob");
    assert_eq!(lines(&own), [""; 0], "a mirror has it");
    assert_eq!(lines(&empty).len(), 4, "for a tag that HEAD does not find, GET is asked");
    assert!(full.seen().iter().all(|seen| seen.target.ends_with("ns=registry.invalid")), "{:?}", full.seen());
    // What no mirror has, or has wrongly, comes from the registry itself, which is not told of any mirror.
    full.fault("GET", "/manifests/", 1, status(500));
    client.document(&reference).unwrap();
    full.fault("GET", "/manifests/", 1, Act::Corrupt);
    client.document(&reference.at(fetched.descriptor.digest)).unwrap();
    assert_eq!(lines(&own).len(), 2);
    assert!(own.seen().iter().all(|seen| !seen.target.contains("ns=")));
    let missing: Reference = "registry.invalid/me/app:2".parse().unwrap();
    assert!(client.document(&missing).unwrap_err().is_not_found());
}

#[test]
fn nothing_is_pushed_to_a_mirror() {
    let (own, _) = with_image();
    let (mirror, _) = with_image();
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", own.host(), mirror.host());
    let folder = folder("registry.invalid", &text);
    let client = client(folder.path(), Keychain::anonymous());
    let to: Reference = "registry.invalid/me/new:1".parse().unwrap();
    let blob = Descriptor::new(MediaType::OciConfig, Digest::of(b"y"), 1);
    client.push_blob(&to, &blob, &b"y".to_vec(), &[], &|_| {}).unwrap();
    client.push_manifest(&to, &MediaType::OciManifest, &manifest("y")).unwrap();
    assert!(own.manifest("me/new", "1").is_some());
    assert_eq!(mirror.seen().len(), 0);
}

#[test]
fn a_list_of_referrers_is_read_where_it_is_written() {
    let setup = || Setup { without_referrers: true, ..Setup::default() };
    let (own, mirror) = (Registry::start(setup()), Registry::start(setup()));
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", own.host(), mirror.host());
    let folder = folder("registry.invalid", &text);
    let client = client(folder.path(), Keychain::anonymous());
    let near: Reference = "registry.invalid/me/app:1".parse().unwrap();
    let subject = own.put_manifest("me/app", "1", &MediaType::OciManifest, &manifest("x"));
    let entry = |note: &str| Descriptor::new(MediaType::OciManifest, Digest::of(note.as_bytes()), 1);
    let list = referrers::list_name(&near, subject.digest);
    for (registry, known) in [(&own, vec![entry("old"), entry("new")]), (&mirror, vec![entry("old")])] {
        let index = Raw::write(Index::oci(known));
        registry.put_manifest("me/app", list.tag().unwrap(), &MediaType::OciIndex, index.bytes());
    }
    let mut pushed: serde_json::Value = serde_json::from_slice(&manifest("y")).unwrap();
    pushed["subject"] = serde_json::to_value(&subject).unwrap();
    let pushed = pushed.to_string().into_bytes();
    client.push_manifest(&near.at(Digest::of(&pushed)), &MediaType::OciManifest, &pushed).unwrap();
    let (_, bytes) = own.manifest("me/app", list.tag().unwrap()).unwrap();
    let index: Index = serde_json::from_slice(&bytes).unwrap();
    let digests: Vec<_> = index.manifests.iter().map(|entry| entry.digest).collect();
    assert_eq!(digests, [entry("old").digest, entry("new").digest, Digest::of(&pushed)]);
}

#[test]
fn a_host_is_told_what_the_user_wants_and_no_other_is() {
    let (own, blob) = with_image();
    let (storage, _) = with_image();
    let text = format!(
        "[host.\"http://{}\"]\n[host.\"http://{}\".header]\nx-token = \"secret\"\nx-more = [\"a\", \"b\"]\n",
        own.host(),
        own.host()
    );
    let folder = folder("registry.invalid", &text);
    let client = client(folder.path(), Keychain::anonymous());
    let reference: Reference = "registry.invalid/me/app:1".parse().unwrap();
    own.fault("GET", "/blobs/", 1, Act::Redirect(format!("http://{}", storage.host())));
    assert_eq!(read(client.blob(&reference, &blob).unwrap()).unwrap(), b"a blob");
    let told = |name: &str| own.seen()[0].headers.iter().filter(|(key, _)| key == name).count();
    assert_eq!((own.seen()[0].header("x-token"), told("x-more")), (Some("secret"), 2));
    assert_eq!(storage.seen().len(), 1);
    assert_eq!(storage.seen()[0].header("x-token"), None);
}

#[test]
fn a_path_can_stand_before_the_repository() {
    let (own, _) = with_image();
    own.put_manifest("cache/hub/library/app", "1", &MediaType::OciManifest, &manifest("z"));
    let address = format!("http://{}/v2/cache/hub", own.host());
    let folder = folder("docker.io", &format!("[host.\"{address}\"]\noverride_path = true\n"));
    let client = client(folder.path(), Keychain::anonymous());
    let found = client.document(&"app:1".parse().unwrap()).unwrap();
    assert_eq!(found.descriptor.digest, Digest::of(&manifest("z")));
    assert_eq!(lines(&own), ["GET /v2/cache/hub/library/app/manifests/1"]);
}

#[test]
fn a_mirror_gets_its_own_credential_and_no_other() {
    let login = Some(("me".to_owned(), "secret".to_owned()));
    let closed = Registry::start(Setup {
        access: Access::Token(TokenServer { login, ..TokenServer::default() }),
        ..Setup::default()
    });
    closed.put_manifest("me/app", "1", &MediaType::OciManifest, &manifest("x"));
    let text = format!("server = \"http://127.0.0.1:1\"\n[host.\"http://{}\"]\n", closed.host());
    let folder = folder("registry.invalid", &text);
    let basic =
        |password: &str| Credential::Basic { username: "me".to_owned(), password: password.to_owned() };
    let reference: Reference = "registry.invalid/me/app:1".parse().unwrap();
    let keychain = Keychain::anonymous().and(&closed.host(), basic("secret"));
    client(folder.path(), keychain).document(&reference).unwrap();
    let before = closed.seen().len();
    let keychain = Keychain::anonymous().and("registry.invalid", basic("the registry's"));
    client(folder.path(), keychain).document(&reference).unwrap_err();
    let sent: Vec<_> = closed.seen().split_off(before);
    assert!(sent.iter().all(|seen| seen.header("authorization").is_none()), "{sent:?}");
}

/// An authority, and a registry that it vouches for.
fn vouched() -> (String, Registry) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &authority).unwrap();
    let tls = Some((certificate.pem(), key.serialize_pem()));
    let registry = Registry::start(Setup { tls, ..Setup::default() });
    registry.put_manifest("app", "1", &MediaType::OciManifest, &manifest("x"));
    (authority.pem(), registry)
}

#[test]
fn an_authority_can_be_for_one_host() {
    let (authority, registry) = vouched();
    let (_, other) = vouched();
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(registry.host());
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("ca.crt"), &authority).unwrap();
    let client = client(folder.path(), Keychain::anonymous());
    client.document(&registry.reference("app:1")).unwrap();
    let error = client.document(&other.reference("app:1")).unwrap_err();
    assert!(root(&error).contains("certificate"), "{}", root(&error));
    std::fs::write(own.join("ca.crt"), "nonsense").unwrap();
    let client = self::client(folder.path(), Keychain::anonymous());
    let error = client.document(&registry.reference("app:1")).unwrap_err();
    assert!(error.to_string().contains("ca.crt"), "{error}");
    let text = format!("server = \"https://{}\"\nskip_verify = true\n", other.host());
    std::fs::create_dir(folder.path().join(other.host())).unwrap();
    std::fs::write(folder.path().join(other.host()).join("hosts.toml"), text).unwrap();
    let client = self::client(folder.path(), Keychain::anonymous());
    client.document(&other.reference("app:1")).unwrap();
}

/// A host that answers only those who show a certificate of `authority`, and then with a manifest.
fn demanding(server: (&str, &str), authority: &str) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(server.0.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(server.1.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream));
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|count| count > 2) {
                line.clear();
            }
            let body = manifest("x");
            let kind = MediaType::OciManifest;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // Who has shown no certificate is gone by now.
            let stream = stream.get_mut();
            stream.write_all(&[head.as_bytes(), &body].concat()).and_then(|()| stream.flush()).ok();
        }
    });
    host
}

#[test]
fn a_host_is_shown_the_users_certificate() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let make = |name: &str, usage| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &authority).unwrap().pem(), key.serialize_pem())
    };
    let server = make("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    let user = make("me", ExtendedKeyUsagePurpose::ClientAuth);
    let host = demanding((&server.0, &server.1), &authority.pem());
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(&host);
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("ca.crt"), authority.pem()).unwrap();
    let reference: Reference = format!("{host}/app:1").parse().unwrap();
    assert!(client(folder.path(), Keychain::anonymous()).document(&reference).is_err());
    std::fs::write(own.join("me.cert"), &user.0).unwrap();
    std::fs::write(own.join("me.key"), &user.1).unwrap();
    let found = client(folder.path(), Keychain::anonymous()).document(&reference).unwrap();
    assert_eq!(found.descriptor.digest, Digest::of(&manifest("x")));
}
