//! TLS, plain HTTP, and which of them goes where.

use oci::MediaType;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use registry::testing::{Act, Registry, Setup};
use registry::{Client, Error, Options, Proxies};

use crate::support::{Clock, lines, manifest, noise, read, root};

/// An authority, and a registry on `127.0.0.1` that it vouches for.
fn with_authority() -> (Vec<u8>, Registry) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let tls = Some((certificate.pem(), key.serialize_pem()));
    let registry = Registry::start(Setup { tls, ..Setup::default() });
    registry.put_manifest("app", "1", &MediaType::OciManifest, &manifest("x"));
    (authority.pem().into_bytes(), registry)
}

#[test]
fn speaks_tls_with_whom_an_authority_vouches_for() {
    let (authority, registry) = with_authority();
    let client = Client::new(Options { extra_ca_pem: vec![authority], ..Clock::default().options() });
    let to = registry.reference("app:1");
    client.document(&to).unwrap();
    let bytes = noise(1_000_000);
    let descriptor = registry.put_blob("app", &bytes);
    assert_eq!(read(client.blob(&to, &descriptor).unwrap()).unwrap(), bytes);
    let fresh = noise(400_000);
    let descriptor = oci::Descriptor { digest: oci::Digest::of(&fresh), size: 400_000, ..descriptor };
    client.push_blob(&to, &descriptor, &fresh, &[], &|_| {}).unwrap();
    assert_eq!(registry.blob("app", descriptor.digest), Some(fresh));
}

#[test]
fn resumes_over_tls() {
    let (authority, registry) = with_authority();
    let client = Client::new(Options { extra_ca_pem: vec![authority], ..Clock::default().options() });
    let bytes = noise(300_000);
    let descriptor = registry.put_blob("app", &bytes);
    registry.fault("GET", "/blobs/", 2, Act::Cut(100_000));
    let reader = client.blob(&registry.reference("app:1"), &descriptor).unwrap();
    assert_eq!(read(reader).unwrap(), bytes);
}

#[test]
fn a_stranger_is_refused_at_once() {
    let (_, registry) = with_authority();
    let (other, _) = with_authority();
    let clock = Clock::default();
    let client = Client::new(Options { extra_ca_pem: vec![other], ..clock.options() });
    let error = client.document(&registry.reference("app:1")).unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    assert!(root(&error).contains("certificate"), "{}", root(&error));
    assert_eq!(clock.waits().len(), 0, "a certificate does not get better by waiting");
    assert_eq!(lines(&registry), [""; 0], "no request was sent");
}

#[test]
fn insecure_hosts_need_no_authority() {
    let (_, registry) = with_authority();
    for insecure in [registry.host(), "127.0.0.1".to_owned()] {
        let client = Client::new(Options { insecure_hosts: vec![insecure], ..Clock::default().options() });
        client.document(&registry.reference("app:1")).unwrap();
    }
    let port = registry.host().rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let insecure_hosts = vec![format!("127.0.0.1:{}", port ^ 1), "example.com".to_owned()];
    let (other, _) = with_authority();
    let client =
        Client::new(Options { insecure_hosts, extra_ca_pem: vec![other], ..Clock::default().options() });
    client.document(&registry.reference("app:1")).unwrap_err();
}

#[test]
fn loopback_speaks_what_it_speaks() {
    let registry = Registry::start(Setup::default());
    registry.put_manifest("app", "1", &MediaType::OciManifest, &manifest("x"));
    let client = Client::new(Clock::default().options());
    client.document(&registry.reference("app:1")).unwrap();
    let localhost = format!("localhost:{}/app:1", registry.host().rsplit(':').next().unwrap());
    client.document(&localhost.parse().unwrap()).unwrap();
}

#[test]
fn a_loopback_registry_does_not_lead_out_of_tls() {
    let plain = Registry::start(Setup::default());
    let (authority, registry) = with_authority();
    let client = Client::new(Options { extra_ca_pem: vec![authority], ..Clock::default().options() });
    let descriptor = registry.put_blob("app", b"x");
    registry.fault("GET", "/blobs/", 1, Act::Redirect(format!("http://{}", plain.host())));
    let error = client.blob(&registry.reference("app:1"), &descriptor).err().unwrap();
    assert!(matches!(error, Error::Follow { .. }), "{error:?}");
    assert_eq!(lines(&plain), [""; 0]);
}

#[test]
fn bad_certificates_and_proxies_are_named() {
    let (_, registry) = with_authority();
    for pem in [b"nonsense".to_vec(), b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec()]
    {
        let client = Client::new(Options { extra_ca_pem: vec![pem], ..Clock::default().options() });
        let error = client.document(&registry.reference("app:1")).unwrap_err();
        assert!(matches!(error, Error::Certificate { .. }), "{error:?}");
    }
    let bundle = Some("/nonexistent/bundle.pem".into());
    let client = Client::new(Options { ca_bundle: bundle, ..Clock::default().options() });
    let error = client.document(&registry.reference("app:1")).unwrap_err();
    assert!(matches!(error, Error::ReadFile { .. }), "{error:?}");

    let proxies = Proxies { https: Some("ftp://user:secret@proxy".to_owned()), ..Proxies::default() };
    let client = Client::new(Options { proxies, ..Clock::default().options() });
    let error = client.document(&"registry.example/app:1".parse().unwrap()).unwrap_err();
    assert!(matches!(&error, Error::Proxy { address } if address == "ftp://proxy"), "{error:?}");
}

#[test]
fn proxies_carry_what_is_not_loopback() {
    // No proxy at all, but it records what it is asked for; the registry's name resolves nowhere.
    let proxy = Registry::start(Setup::default());
    let address = Some(format!("http://{}", proxy.host()));
    for (no_proxy, carried) in [("", true), ("invalid", false)] {
        let proxies =
            Proxies { http: address.clone(), https: address.clone(), no_proxy: no_proxy.to_owned() };
        let client = Client::new(Options { proxies, ..Clock::default().options() });
        let before = proxy.seen().len();
        let error = client.resolve(&"registry.invalid/app:1".parse().unwrap()).unwrap_err();
        assert!(error.is_unreachable(), "{error:?}");
        let seen = proxy.seen().split_off(before);
        let asked = seen.iter().any(|seen| seen.method == "CONNECT" && seen.target == "registry.invalid:443");
        assert_eq!(asked, carried, "{seen:?}");
    }
}
