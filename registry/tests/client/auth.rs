//! Who may in: challenges met, tokens shared and renewed, credentials kept at home.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oci::{MediaType, Reference};
use registry::testing::{Access, Act, Registry, Setup, TokenServer};
use registry::{Client, ConfigFile, Credential, Error, Kept, Keychain, Options};

use crate::support::{Clock, client, manifest, read};

fn basic(username: &str, password: &str) -> Credential {
    Credential::Basic { username: username.to_owned(), password: password.to_owned() }
}

fn with_keychain(keychain: Keychain) -> Client {
    Client::new(Options { keychain, ..Clock::default().options() })
}

fn registry(access: Access) -> (Registry, Reference) {
    let registry = Registry::start(Setup { access, ..Setup::default() });
    registry.put_manifest("app", "1", &MediaType::OciManifest, &manifest("x"));
    let reference = registry.reference("app:1");
    (registry, reference)
}

fn tokens_asked(registry: &Registry) -> usize {
    registry.seen().iter().filter(|seen| seen.target.starts_with("/token")).count()
}

fn login() -> Option<(String, String)> {
    Some(("me".to_owned(), "secret".to_owned()))
}

#[test]
fn basic_credentials_open_and_others_do_not() {
    let (registry, reference) = registry(Access::Basic("me".to_owned(), "secret".to_owned()));
    for (keychain, is_open) in [
        (Keychain::anonymous(), false),
        (Keychain::anonymous().and(&registry.host(), basic("me", "secret")), true),
        (Keychain::anonymous().and(&registry.host(), basic("me", "wrong")), false),
        (Keychain::anonymous().and("other.example", basic("me", "secret")), false),
    ] {
        match with_keychain(keychain.clone()).document(&reference) {
            Ok(_) => assert!(is_open, "{keychain:?}"),
            Err(error) => assert!(!is_open && error.is_unauthorized(), "{keychain:?}: {error}"),
        }
    }
}

#[test]
fn credentials_wait_to_be_asked_for() {
    let (registry, reference) = registry(Access::Open);
    let keychain = Keychain::anonymous().and(&registry.host(), basic("me", "secret"));
    with_keychain(keychain).document(&reference).unwrap();
    assert!(registry.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn anonymous_tokens_are_fetched_once_for_all_threads() {
    let (registry, reference) = registry(Access::Token(TokenServer::default()));
    let client = client();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| client.document(&reference).unwrap());
        }
    });
    assert_eq!(tokens_asked(&registry), 1);
    let target = registry.seen().into_iter().find(|seen| seen.target.starts_with("/token")).unwrap().target;
    assert_eq!(target, "/token?service=test&scope=repository:app:pull");
}

#[test]
fn tokens_are_renewed_when_they_are_refused() {
    let (registry, reference) =
        registry(Access::Token(TokenServer { uses: Some(2), ..TokenServer::default() }));
    let client = client();
    for _ in 0..5 {
        client.document(&reference).unwrap();
    }
    assert_eq!(tokens_asked(&registry), 3);
    registry.revoke_tokens();
    client.document(&reference).unwrap();
    assert_eq!(tokens_asked(&registry), 4);
}

#[test]
fn a_fresh_token_that_is_refused_is_the_end() {
    let (registry, reference) =
        registry(Access::Token(TokenServer { uses: Some(0), ..TokenServer::default() }));
    let error = client().document(&reference).unwrap_err();
    assert!(error.is_unauthorized(), "{error:?}");
    assert_eq!(tokens_asked(&registry), 1);
}

#[test]
fn a_password_buys_a_token() {
    for post_only in [false, true] {
        let server = TokenServer { login: login(), post_only, ..TokenServer::default() };
        let (registry, reference) = registry(Access::Token(server));
        let keychain = Keychain::anonymous().and(&registry.host(), basic("me", "secret"));
        with_keychain(keychain).document(&reference).unwrap();
        let keychain = Keychain::anonymous().and(&registry.host(), basic("me", "wrong"));
        let error = with_keychain(keychain).document(&reference).unwrap_err();
        assert!(error.is_unauthorized() && matches!(error, Error::Authenticate { .. }), "{error:?}");
    }
}

#[test]
fn a_refresh_token_buys_a_token() {
    let server = TokenServer { login: login(), refresh: Some("r&f=1".to_owned()), ..TokenServer::default() };
    let (registry, reference) = registry(Access::Token(server));
    let identity = |token: &str| Credential::Identity { username: String::new(), token: token.to_owned() };
    let keychain = |token| Keychain::anonymous().and(&registry.host(), identity(token));
    with_keychain(keychain("r&f=1")).document(&reference).unwrap();
    let error = with_keychain(keychain("other")).document(&reference).unwrap_err();
    assert!(error.is_unauthorized(), "{error:?}");
}

#[test]
fn a_token_of_ones_own_is_sent_as_it_is() {
    let (registry, reference) = registry(Access::Token(TokenServer::default()));
    let own = Credential::Bearer { token: "mine".to_owned() };
    let keychain = Keychain::anonymous().and(&registry.host(), own);
    with_keychain(keychain).document(&reference).unwrap_err();
    assert_eq!(tokens_asked(&registry), 0);
    assert!(registry.seen().iter().any(|seen| seen.header("authorization") == Some("Bearer mine")));
}

#[test]
fn the_token_server_is_tried_again_but_not_for_ever() {
    let (registry, reference) = registry(Access::Token(TokenServer::default()));
    registry.fault("GET", "/token", 2, Act::Status(503, Vec::new(), String::new()));
    client().document(&reference).unwrap();
    registry.fault("GET", "/token", 99, Act::Close);
    let error = client().document(&reference).unwrap_err();
    assert!(error.is_unreachable() && matches!(error, Error::Authenticate { .. }), "{error:?}");
}

#[test]
fn answers_without_a_token_are_refused() {
    let (registry, reference) = registry(Access::Token(TokenServer::default()));
    for body in ["{}", "<html>", r#"{"token":""}"#, "{\"token\":\"a\\r\\nX: y\"}"] {
        registry.fault("GET", "/token", 1, Act::Status(200, Vec::new(), body.to_owned()));
        let error = client().document(&reference).unwrap_err();
        assert!(matches!(error, Error::Authenticate { .. }), "{body}: {error:?}");
    }
}

#[test]
fn a_realm_must_not_point_into_the_private_network() {
    for realm in ["http://169.254.169.254/token", "https://10.1.2.3/token", "file:///etc/passwd", "/token"] {
        let server = TokenServer { realm: Some(realm.to_owned()), ..TokenServer::default() };
        let (registry, reference) = registry(Access::Token(server));
        let keychain = Keychain::anonymous().and(&registry.host(), basic("me", "secret"));
        let error = with_keychain(keychain).document(&reference).unwrap_err();
        assert!(matches!(error, Error::Follow { .. }), "{realm}: {error:?}");
    }
}

#[test]
fn unknown_challenges_are_named() {
    let (registry, reference) = registry(Access::Open);
    let headers = vec![("www-authenticate".to_owned(), "Negotiate".to_owned())];
    registry.fault("GET", "/manifests/", 1, Act::Status(401, headers, String::new()));
    let error = client().document(&reference).unwrap_err();
    assert!(matches!(&error, Error::Challenge { header, .. } if header == "Negotiate"), "{error:?}");
}

/// The rule behind CVE-2020-15157: what a redirect points to gets no credential, whatever it asks for.
#[test]
fn credentials_do_not_follow_redirects() {
    for access in [Access::Basic("me".to_owned(), "secret".to_owned()), Access::Token(TokenServer::default())]
    {
        let thief = Registry::start(Setup {
            access: Access::Basic("me".to_owned(), "secret".to_owned()),
            ..Setup::default()
        });
        let (registry, reference) = registry(access);
        let descriptor = registry.put_blob("app", b"x");
        // Known before, so that the redirected request would carry it.
        let keychain = Keychain::anonymous()
            .and(&registry.host(), basic("me", "secret"))
            .and(&thief.host(), basic("me", "secret"));
        let client = with_keychain(keychain);
        client.document(&reference).unwrap();
        read(client.blob(&reference, &descriptor).unwrap()).unwrap();
        registry.fault("GET", "/blobs/", 1, Act::Redirect(format!("http://{}", thief.host())));
        let error = client.blob(&reference, &descriptor).err().unwrap();
        assert!(error.is_unauthorized(), "{error:?}");
        let stolen: Vec<_> =
            thief.seen().into_iter().filter(|s| s.header("authorization").is_some()).collect();
        assert_eq!(stolen, [], "sent to {}", thief.host());
        assert!(!thief.seen().is_empty());
    }
}

fn lookup(keychain: &Keychain, name: &str) -> Credential {
    keychain.lookup(&name.parse().unwrap()).unwrap()
}

#[test]
fn finds_the_entry_for_a_repository() {
    let text = r#"{"auths":{
        "https://index.docker.io/v1/":{"auth":"aHViOnA="},
        "ghcr.io":{"auth":"aG9zdDpwOnE="},
        "ghcr.io/me":{"username":"space","password":"p"},
        "ghcr.io/me/app":{"auth":"cmVwbzpw"},
        "https://old.example/v2/":{"auth":"b2xkOnAA"},
        "id.example":{"auth":"dTpw","identitytoken":"it"},
        "bearer.example":{"registrytoken":"rt"},
        "empty.example":{},
        "null.example":null,
        "bad.example":{"auth":"!"},
        "colon.example":{"auth":"bm9jb2xvbg=="}
    },"HttpHeaders":{"X":"y"}}"#;
    let keychain = Keychain::anonymous().and_text(Path::new("config.json"), text).unwrap();
    for (name, expected) in [
        ("debian", basic("hub", "p")),
        ("docker.io/me/app", basic("hub", "p")),
        ("ghcr.io/other/app", basic("host", "p:q")),
        ("ghcr.io/me/tool", basic("space", "p")),
        ("ghcr.io/me/app:1", basic("repo", "p")),
        ("ghcr.io/me/app2", basic("space", "p")),
        ("ghcr.io/meow/app", basic("host", "p:q")),
        ("old.example/x", basic("old", "p")),
        ("id.example/x", Credential::Identity { username: "u".to_owned(), token: "it".to_owned() }),
        ("bearer.example/x", Credential::Bearer { token: "rt".to_owned() }),
        ("empty.example/x", Credential::Anonymous),
        ("null.example/x", Credential::Anonymous),
        ("ghcr.io.evil.example/x", Credential::Anonymous),
        ("localhost:5000/x", Credential::Anonymous),
    ] {
        assert_eq!(lookup(&keychain, name), expected, "{name}");
    }
    for name in ["bad.example/x", "colon.example/x"] {
        let error = keychain.lookup(&name.parse().unwrap()).unwrap_err();
        assert!(matches!(error, Error::DecodeCredential { .. }), "{error:?}");
    }
}

#[test]
fn reads_files_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("a"), r#"{"auths":{"a.example":{"auth":"YTpw"}}}"#).unwrap();
    std::fs::write(path("b"), r#"{"auths":{"a.example":{"auth":"Yjpw"},"b.example":{"auth":"Yjpw"}}}"#)
        .unwrap();
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("broken"), "{").unwrap();
    let keychain = Keychain::from_files(&[path("absent"), path("empty"), path("a"), path("b")]).unwrap();
    assert_eq!(lookup(&keychain, "a.example/x"), basic("a", "p"));
    assert_eq!(lookup(&keychain, "b.example/x"), basic("b", "p"));
    let error = Keychain::from_files(&[path("broken")]).unwrap_err();
    assert!(matches!(error, Error::ParseKeychain { .. }), "{error:?}");
    let error = Keychain::from_files(&[folder.path().to_owned()]).unwrap_err();
    assert!(matches!(error, Error::ReadFile { .. }), "{error:?}");
}

#[test]
fn secrets_stand_in_no_debug_text() {
    let keychain = Keychain::anonymous().and("a.example", basic("me", "hunter2"));
    let text = r#"{"auths":{"b.example":{"username":"me","password":"hunter2"}}}"#;
    let keychain = keychain.and_text(Path::new("config.json"), text).unwrap();
    assert!(!format!("{keychain:?}").contains("hunter2"));
}

/// Helpers are found by `PATH`, which a test must not change; an absolute name is refused. So a child process with its
/// own `PATH`, on which `docker-credential-test` is this script, runs the second half of the test: there it gets the
/// folder of the helper, and here, once the child has ended well, nothing.
fn beside_a_helper(test: &str, script: &str) -> Option<PathBuf> {
    const MARK: &str = "LBUILD_TEST_HELPER_FOLDER";
    #[allow(clippy::disallowed_methods, reason = "the child half is told where its helper's record is")]
    if let Some(folder) = std::env::var_os(MARK) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let helper = folder.path().join("docker-credential-test");
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("auth::{test}")])
        .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
        .env(MARK, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    None
}

#[test]
fn helpers_are_asked_once_and_may_know_nothing() {
    let script = r#"#!/bin/sh
read -r server || true
echo "$1 $server" >> "$0.log"
case "$server" in
    known.example) echo '{"ServerURL":"known.example","Username":"me","Secret":"s"}' ;;
    token.example) echo '{"Username":"<token>","Secret":"t"}' ;;
    https://index.docker.io/v1/) echo '{"Username":"hub","Secret":"s"}' ;;
    broken.example) echo 'no JSON' ;;
    locked.example) echo 'the keychain is locked'; exit 1 ;;
    *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"#;
    let Some(folder) = beside_a_helper("helpers_are_asked_once_and_may_know_nothing", script) else { return };
    let text = r#"{"auths":{"known.example":{},"plain.example":{"auth":"YTpw"}},
        "credHelpers":{"missing.example":"absent","evil.example":"../../bin/sh","locked.example":"test"},
        "credsStore":"test"}"#;
    let keychain = Keychain::anonymous().and_text(Path::new("config.json"), text).unwrap();
    let token = Credential::Identity { username: String::new(), token: "t".to_owned() };
    for (name, expected) in [
        ("known.example/x", basic("me", "s")),
        ("known.example/y", basic("me", "s")),
        ("token.example/x", token),
        ("debian", basic("hub", "s")),
        ("plain.example/x", basic("a", "p")),
        ("unknown.example/x", Credential::Anonymous),
    ] {
        assert_eq!(lookup(&keychain, name), expected, "{name}");
    }
    for name in ["missing.example/x", "evil.example/x"] {
        let error = keychain.lookup(&name.parse().unwrap()).unwrap_err();
        assert!(matches!(error, Error::RunHelper { .. }), "{error:?}");
    }
    for (name, said) in [("broken.example/x", "not JSON"), ("locked.example/x", "the keychain is locked")] {
        let error = keychain.lookup(&name.parse().unwrap()).unwrap_err();
        assert!(matches!(error, Error::AskHelper { .. }) && error.to_string().contains(said), "{error}");
    }
    let log = std::fs::read_to_string(folder.join("docker-credential-test.log")).unwrap();
    assert_eq!(log.lines().filter(|line| *line == "get known.example").count(), 1, "{log}");
    assert!(!log.contains("plain.example"), "{log}");
}

/// A helper that keeps what it is given, a file a server.
const KEEPING: &str = r#"#!/bin/sh
said=$(cat)
case "$1" in
    store) server=$(echo "$said" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/') ;;
    *) server=$said ;;
esac
file="$0.$(echo "$server" | tr ':/' '__')"
case "$1" in
    store) echo "$said" > "$file" ;;
    get) cat "$file" 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
    erase) rm -f "$file" ;;
esac
"#;

#[test]
fn what_login_keeps_is_what_a_lookup_finds() {
    let Some(helpers) = beside_a_helper("what_login_keeps_is_what_a_lookup_finds", KEEPING) else { return };
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("auth.json", folder.path().join("linked.json")).unwrap();
    let count = || std::fs::read_dir(&helpers).unwrap().count();
    let (helper, before) = (|| Kept::Helper("test".to_owned()), count());
    for (file, text, registry, kept, name) in [
        ("config.json", r#"{"credsStore":"test"}"#, "docker.io", helper(), "debian"),
        ("config.json", r#"{"credsStore":"test"}"#, "localhost:5000", helper(), "localhost:5000/a"),
        (
            "config.json",
            r#"{"credHelpers":{"a.example":"test"}}"#,
            "https://a.example/v2/",
            helper(),
            "a.example/b/c",
        ),
        ("auth.json", r#"{"credHelpers":{"docker.io":"test"}}"#, "docker.io", helper(), "debian"),
        ("linked.json", r#"{"credHelpers":{"docker.io":"test"}}"#, "docker.io", helper(), "debian"),
        ("auth.json", r#"{"credHelpers":{"a.example":"test"}}"#, "a.example", helper(), "a.example/b"),
        (
            "config.json",
            r#"{"credHelpers":{"a.example/b":"test"}}"#,
            "a.example/c",
            Kept::File,
            "a.example/c/d",
        ),
        // As Docker has it, a helper without a name is the file.
        (
            "config.json",
            r#"{"credHelpers":{"a.example":""},"credsStore":"test"}"#,
            "a.example",
            Kept::File,
            "a.example/b",
        ),
    ] {
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        let found = || lookup(&Keychain::from_files(std::slice::from_ref(&path)).unwrap(), name);
        let stored = ConfigFile::open(&path).unwrap().store(registry, "me", "secret").unwrap();
        assert_eq!(stored, kept, "{registry} by {text}");
        assert_eq!(found(), basic("me", "secret"), "{registry} by {text}");
        let is_in_file = std::fs::read_to_string(&path).unwrap().contains("\"auth\"");
        assert_eq!(is_in_file, kept == Kept::File, "{registry} by {text}");
        assert!(ConfigFile::open(&path).unwrap().erase(registry).unwrap());
        assert_eq!((found(), count()), (Credential::Anonymous, before), "{registry} by {text}");
    }
}

#[test]
fn a_namespace_is_nothing_for_a_helper() {
    let Some(helpers) = beside_a_helper("a_namespace_is_nothing_for_a_helper", KEEPING) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    for text in [
        r#"{"credsStore":"test"}"#,
        r#"{"credHelpers":{"a.example":"test"}}"#,
        r#"{"credHelpers":{"a.example/me":"test"}}"#,
        r#"{"credHelpers":{"a.example":"test"},"credsStore":"absent"}"#,
    ] {
        std::fs::write(&path, text).unwrap();
        let error = ConfigFile::open(&path).unwrap().store("a.example/me", "me", "secret").unwrap_err();
        assert!(matches!(error, Error::KeepNamespace { .. }), "{text}: {error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_eq!(std::fs::read_dir(&helpers).unwrap().count(), 1, "{text}");
    }
    // What was put into the file before can be taken out, and the host's account stays.
    let text = r#"{"auths":{"a.example/me":{"auth":"bWU6c2VjcmV0"}},"credsStore":"test"}"#;
    std::fs::write(&path, text).unwrap();
    ConfigFile::open(&path).unwrap().store("a.example", "host", "secret").unwrap();
    assert!(ConfigFile::open(&path).unwrap().erase("a.example/me").unwrap());
    let keychain = Keychain::from_files(&[path]).unwrap();
    assert_eq!(lookup(&keychain, "a.example/me/app"), basic("host", "secret"));
}
