//! Repositories, from a git server in the process: `git daemon` speaks, the test listens.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use builder::remote::{FetchError, FetchRequest, Form, Remote, Tree};
use registry::testing::{Act, Registry, Setup};

use crate::support::{Place, remote, tree};

/// When the commits of these tests are made.
const COMMITTED: i64 = 1_000_000_000;

/// A git server with the repositories of a directory.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    is_closed: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (calls, is_closed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let listener = {
            let (root, calls, is_closed) = (dir.path().to_owned(), calls.clone(), is_closed.clone());
            std::thread::spawn(move || {
                for connection in listener.incoming() {
                    if is_closed.load(Ordering::Relaxed) {
                        return;
                    }
                    calls.fetch_add(1, Ordering::Relaxed);
                    serve(&root, connection.unwrap());
                }
            })
        };
        Server { dir, address, calls, is_closed, listener: Some(listener) }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("git://{}/{name}", self.address)
    }

    pub(crate) fn remote(&self, name_and_options: &str) -> Remote {
        remote(&self.url(name_and_options), Form::Add)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// How many connections there were since the last question.
    fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::Relaxed)
    }

    /// An empty repository.
    pub(crate) fn init(&self, name: &str, options: &[&str]) -> Repo {
        let path = self.path(name);
        std::fs::create_dir(&path).unwrap();
        let repo = Repo { path };
        repo.git(&[&["init", "--quiet", "--initial-branch=main"], options].concat());
        repo
    }

    /// A repository with a branch, tags, a directory, a link and a program; two commits.
    pub(crate) fn example(&self, name: &str, options: &[&str]) -> Repo {
        let repo = self.init(name, options);
        repo.write("a", "one");
        repo.commit("first");
        repo.git(&["tag", "light"]);
        repo.git(&["tag", "-a", "-m", "x", "heavy"]);
        repo.git(&["branch", "side"]);
        repo.git(&["update-ref", "refs/pull/1/head", "HEAD"]);
        repo.write("a", "two");
        repo.write("dir/b", "inner");
        repo.write("run", "#!/bin/sh\n");
        std::fs::set_permissions(repo.path.join("run"), PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("dir/b", repo.path.join("link")).unwrap();
        repo.commit("second");
        repo
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        self.listener.take().unwrap().join().unwrap();
    }
}

/// One conversation.
fn serve(root: &Path, connection: TcpStream) {
    let output = OwnedFd::from(connection.try_clone().unwrap());
    let mut daemon = command(root)
        .args(["daemon", "--inetd", "--export-all"])
        .arg(format!("--base-path={}", root.display()))
        .stdin(Stdio::from(OwnedFd::from(connection)))
        .stdout(Stdio::from(output))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    daemon.wait().unwrap();
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    let date = format!("{COMMITTED} +0000");
    command.current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "x").env(format!("GIT_{who}_EMAIL"), "x@example.org");
    }
    command
}

pub(crate) struct Repo {
    pub(crate) path: PathBuf,
}

impl Repo {
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = command(&self.path).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Puts a submodule where no clone of it is needed.
    pub(crate) fn link(&self, path: &str, url: &str, commit: &str) {
        self.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
        let section = format!("submodule.{path}");
        self.git(&["config", "-f", ".gitmodules", &format!("{section}.path"), path]);
        self.git(&["config", "-f", ".gitmodules", &format!("{section}.url"), url]);
        self.git(&["add", ".gitmodules"]);
        self.git(&["commit", "--quiet", "-m", "link"]);
    }
}

fn second() -> std::collections::BTreeMap<String, String> {
    tree(&[("a", "two"), ("dir", "/"), ("dir/b", "inner"), ("link", "-> dir/b"), ("run", "#!/bin/sh\n")])
}

/// A `git` that does `before` when it is called, and then what git does.
fn wrapped(place: &mut Place, before: &str) {
    let bin = place.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let script =
        format!("#!/bin/sh\n{before}\nPATH=/usr/local/bin:/usr/bin:/bin\nexport PATH\nexec git \"$@\"\n");
    std::fs::write(bin.join("git"), script).unwrap();
    std::fs::set_permissions(bin.join("git"), PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    place.options.environment = vec![("PATH".into(), path.into())];
}

#[test]
fn the_default_branch_is_checked_out_once() {
    let server = Server::start();
    let repo = server.example("app", &[]);
    let place = Place::new();
    let found = place.fetch(&server.remote("app")).unwrap();
    assert_eq!(place.files(&found), second());
    assert_eq!(found.commit.as_deref(), Some(repo.git(&["rev-parse", "main"]).as_str()));
    assert_eq!((found.modified, found.name.as_str()), (Some(COMMITTED), ""));
    let mode = |path| place.metadata(&found, path).mode;
    assert_eq!((mode("a"), mode("run"), mode("dir")), (0o644, 0o755, 0o755));
    assert_eq!(place.metadata(&found, "a").owner.uid, 0);
    assert_ne!(place.metadata(&found, "a").modified.seconds, COMMITTED);
    assert!(place.is_clean());
    assert_eq!(server.calls(), 2, "a question and a fetch");
    assert_eq!(place.fetch(&server.remote("app")).unwrap(), found);
    assert_eq!(server.calls(), 1, "a question alone");
    repo.write("a", "three");
    repo.commit("third");
    let third = place.fetch(&server.remote("app")).unwrap();
    assert_ne!(third.identity, found.identity);
    assert_eq!(place.files(&third)["a"], "three");
    assert_eq!(builder::remote::references(&place.store).unwrap().len(), 2);
}

#[test]
fn what_was_fetched_can_be_forgotten() {
    let server = Server::start();
    server.example("busy", &[]);
    // Of the same commit the tree would be the same.
    let app = server.example("app", &[]);
    app.write("a", "app");
    app.commit("third");
    let place = Place::new();
    assert_eq!(builder::remote::forget_all(&place.store).unwrap(), 0);
    place.fetch(&server.remote("busy")).unwrap();
    let git = place.store.root().join("remote/git");
    let names = |dir: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let busy = names(&git);
    let lock = busy.iter().find(|path| path.extension().is_some()).unwrap();
    let held = std::fs::File::open(lock).unwrap();
    held.lock().unwrap();
    place.fetch(&server.remote("app")).unwrap();
    assert!(builder::remote::forget_all(&place.store).unwrap() > 10_000);
    let mut left = names(&git);
    left.sort();
    let mut expected = busy.clone();
    expected.sort();
    assert_eq!(left, expected);
    drop(held);
    assert!(builder::remote::references(&place.store).unwrap().is_empty());
    builder::remote::forget_all(&place.store).unwrap();
    assert!(names(&git).is_empty());
    // And fetched again.
    let found = place.fetch(&server.remote("app")).unwrap();
    assert_eq!(place.files(&found)["a"], "app");
}

#[test]
fn references_are_found_whatever_they_are() {
    let server = Server::start();
    let repo = server.example("app", &[]);
    let place = Place::new();
    let first = repo.git(&["rev-parse", "side"]);
    let tag = repo.git(&["rev-parse", "heavy"]);
    let main = repo.git(&["rev-parse", "main"]);
    repo.git(&["checkout", "--quiet", "--detach"]);
    repo.commit("lost");
    let old = {
        repo.git(&["checkout", "--quiet", "main"]);
        repo.git(&["commit", "--quiet", "--allow-empty", "-m", "third"]);
        main[..9].to_owned()
    };
    for (options, expected) in [
        ("#side", &first),
        ("#light", &first),
        ("#heavy", &first),
        ("#refs/tags/heavy", &first),
        ("?tag=heavy", &first),
        ("?branch=side", &first),
        ("?ref=pull/1/head", &first),
        (&*format!("#{first}"), &first),
        (&*format!("#{}", &first[..7]), &first),
        (&*format!("#{old}"), &main),
        (&*format!("?tag=heavy&checksum={tag}"), &first),
        (&*format!("?tag=heavy&checksum={}", &first[..12]), &first),
        (&*format!("?checksum={}", &first[..12]), &first),
        (&*format!("?fetch-by-commit&branch=main&commit={first}"), &first),
    ] {
        let found = place.fetch(&server.remote(&format!("app{options}"))).unwrap();
        assert_eq!(found.commit.as_ref(), Some(expected), "{options}");
    }
    for options in ["#none", "?tag=side", "?branch=light", "#0123456", "#ide", "#heads/none"] {
        match place.fetch(&server.remote(&format!("app{options}"))) {
            Err(FetchError::Reference { address, .. }) => assert_eq!(address, server.url("app")),
            other => panic!("{options}: {other:?}"),
        }
    }
    assert!(place.is_clean());
}

#[test]
fn a_commit_that_is_here_needs_no_network() {
    let server = Server::start();
    let repo = server.example("app", &[]);
    let commit = repo.git(&["rev-parse", "main"]);
    let place = Place::new();
    for options in
        [format!("#{commit}"), format!("?commit={commit}"), format!("?fetch-by-commit&commit={commit}#x")]
    {
        place.fetch(&server.remote(&format!("app{options}"))).unwrap();
    }
    assert_eq!(server.calls(), 1);
}

#[test]
fn a_wrong_checksum_is_refused_before_anything_is_fetched() {
    let server = Server::start();
    let repo = server.example("app", &[]);
    let wrong = server.remote("app#side").with_checksum("0123abcd").unwrap();
    match Place::new().fetch(&wrong).unwrap_err() {
        FetchError::Checksum { address, expected, found } => {
            assert_eq!((address, expected.as_str()), (server.url("app"), "0123abcd"));
            assert_eq!(found, repo.git(&["rev-parse", "side"]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.calls(), 1);
}

#[test]
fn a_directory_of_the_repository_is_the_tree() {
    let server = Server::start();
    let repo = server.example("app", &[]);
    std::os::unix::fs::symlink("dir", repo.path.join("alias")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../../etc", repo.path.join("out")).unwrap();
    repo.commit("links");
    let place = Place::new();
    for subdir in ["dir", "/dir/", "alias"] {
        let found = place.fetch(&server.remote(&format!("app#main:{subdir}"))).unwrap();
        assert_eq!(place.files(&found), tree(&[("b", "inner")]), "{subdir}");
    }
    for subdir in ["none", "a", "out", "dir/b", "link"] {
        let result = place.fetch(&server.remote(&format!("app#main:{subdir}")));
        assert!(matches!(result, Err(FetchError::Subdirectory { .. })), "{subdir}: {result:?}");
    }
    assert!(place.is_clean());
}

#[test]
fn submodules_come_along_unless_they_are_not_wanted() {
    let server = Server::start();
    let inner = server.example("inner", &[]);
    let middle = server.init("middle", &[]);
    middle.write("m", "middle");
    middle.commit("first");
    middle.link("deep/er", "../inner", &inner.git(&["rev-parse", "side"]));
    let outer = server.init("outer", &[]);
    outer.write("o", "outer");
    outer.commit("first");
    outer.link("sub", &server.url("middle"), &middle.git(&["rev-parse", "HEAD"]));
    let place = Place::new();
    let found = place.fetch(&server.remote("outer")).unwrap();
    let mut files = place.files(&found);
    files.retain(|path, _| !path.ends_with(".gitmodules"));
    let expected =
        [("o", "outer"), ("sub", "/"), ("sub/m", "middle"), ("sub/deep", "/"), ("sub/deep/er", "/")];
    assert_eq!(files, tree(&[&expected[..], &[("sub/deep/er/a", "one")]].concat()));
    let without = place.fetch(&server.remote("outer?submodules=false")).unwrap();
    assert_ne!(without.identity, found.identity);
    assert!(place.files(&without).keys().all(|path| !path.starts_with("sub/")));
    // A directory of a submodule, too.
    let found = place.fetch(&server.remote("outer#main:sub/deep")).unwrap();
    assert_eq!(place.files(&found), tree(&[("er", "/"), ("er/a", "one")]));
    assert!(place.is_clean());
}

#[test]
fn a_hostile_submodule_reaches_nothing() {
    let server = Server::start();
    let inner = server.example("inner", &[]);
    let commit = inner.git(&["rev-parse", "HEAD"]);
    let place = Place::new();
    let local = format!("file://{}", inner.path.display());
    for (number, url) in
        [local.as_str(), "ext::sh -c true", "-x", inner.path.to_str().unwrap()].iter().enumerate()
    {
        let name = format!("evil{number}");
        let outer = server.init(&name, &[]);
        outer.commit("first");
        outer.link("sub", url, &commit);
        let result = place.fetch(&server.remote(&name));
        assert!(matches!(result, Err(FetchError::SubmoduleAddress { .. })), "{url}: {result:?}");
        place.fetch(&server.remote(&format!("{name}?submodules=0"))).unwrap();
    }
    // One that is not there says which it is.
    let outer = server.init("gone", &[]);
    outer.commit("first");
    outer.link("sub", &server.url("nowhere"), &commit);
    match place.fetch(&server.remote("gone")).unwrap_err() {
        FetchError::Submodule { path, source } => {
            assert_eq!(path, "sub");
            assert!(matches!(*source, FetchError::Git { .. }), "{source:?}");
        }
        other => panic!("{other:?}"),
    }
    // One that contains itself ends.
    let outer = server.init("self", &[]);
    let first = outer.commit("first");
    outer.link("sub", "../self", &first);
    place.fetch(&server.remote("self")).unwrap();
    assert!(place.is_clean());
}

#[test]
fn a_git_dir_that_stays_works() {
    let server = Server::start();
    let repo = server.example("app", &[]);
    let place = Place::new();
    let path_of =
        |tree: &Tree| place.store.root().join("snapshots").join(tree.snapshot.to_string()).join("fs");
    let kept = place.fetch(&server.remote("app?keep-git-dir=true&tag=heavy")).unwrap();
    let clone = Repo { path: path_of(&kept) };
    assert_eq!(clone.git(&["rev-parse", "HEAD"]), repo.git(&["rev-parse", "side"]));
    assert_eq!(clone.git(&["describe"]), "heavy");
    assert_eq!(clone.git(&["status", "--porcelain"]), "");
    assert_eq!(clone.git(&["remote", "get-url", "origin"]), server.url("app"));
    assert!(!clone.path.join(".git/hooks").exists());
    let plain = place.fetch(&server.remote("app?tag=heavy")).unwrap();
    assert_ne!(plain.identity, kept.identity);
    assert_eq!(place.files(&plain), tree(&[("a", "one")]));
    // Of a branch, and of a part, which has no `.git` of its own.
    let kept = place.fetch(&server.remote("app?keep-git-dir&branch=side")).unwrap();
    let clone = Repo { path: path_of(&kept) };
    assert_eq!(clone.git(&["rev-parse", "origin/side"]), clone.git(&["rev-parse", "HEAD"]));
    let part = place.fetch(&server.remote("app?keep-git-dir&subdir=dir")).unwrap();
    assert_eq!(place.files(&part), tree(&[("b", "inner")]));
    assert!(place.is_clean());
}

#[test]
fn files_are_dated_by_the_commit_if_asked() {
    let server = Server::start();
    server.example("app", &[]);
    let place = Place::new();
    let plain = place.fetch(&server.remote("app")).unwrap();
    for options in ["?mtime=commit", "?mtime=commit&subdir=dir"] {
        let dated = place.fetch(&server.remote(&format!("app{options}"))).unwrap();
        assert_ne!(dated.identity, plain.identity);
        for path in place.files(&dated).keys().map(String::as_str).chain(["."]) {
            assert_eq!(place.metadata(&dated, path).modified.seconds, COMMITTED, "{options} {path}");
        }
    }
}

#[test]
fn repositories_of_sha256_are_like_others() {
    let server = Server::start();
    let repo = server.example("app", &["--object-format=sha256"]);
    let place = Place::new();
    let commit = repo.git(&["rev-parse", "main"]);
    assert_eq!(commit.len(), 64);
    for options in
        ["".to_owned(), format!("#{commit}"), format!("#{}", &commit[..8]), "?keep-git-dir".to_owned()]
    {
        let found = place.fetch(&server.remote(&format!("app{options}"))).unwrap();
        assert_eq!(found.commit.as_ref(), Some(&commit), "{options}");
        assert_eq!(place.files(&found)["a"], "two");
    }
}

#[test]
fn a_server_without_single_commits_is_asked_for_all() {
    let server = Server::start();
    let repo = server.example("app", &[]);
    let mut place = Place::new();
    wrapped(&mut place, "case \"$*\" in *--depth=1*) echo refused >&2; exit 128;; esac");
    let first = repo.git(&["rev-parse", "side"]);
    for options in ["".to_owned(), "#side".to_owned(), format!("#{first}")] {
        place.fetch(&server.remote(&format!("app{options}"))).unwrap();
    }
    // What nothing leads to is nowhere; the first refusal is the reason.
    match place.fetch(&server.remote(&format!("app#{}", "0".repeat(40)))).unwrap_err() {
        FetchError::Git { act, address, output } => {
            assert_eq!((act, address, output.as_str()), ("fetch from", server.url("app"), "refused"));
        }
        other => panic!("{other:?}"),
    }
    assert!(place.is_clean());
}

#[test]
fn what_a_repository_says_of_filters_and_hooks_is_not_done() {
    let server = Server::start();
    let repo = server.init("app", &[]);
    let mark = server.path("mark");
    repo.write(".gitattributes", "* filter=lfs\nc text eol=crlf\nd export-ignore\ne ident\n");
    for path in ["a", "c", "d"] {
        repo.write(path, "text\n");
    }
    repo.write("e", "$Id$\n");
    repo.commit("first");
    let mut place = Place::new();
    place.options.environment = vec![
        ("GIT_DIR".into(), "/nonexistent".into()),
        ("GIT_TRACE_CURL".into(), mark.as_os_str().to_owned()),
        ("GIT_TRACE".into(), mark.as_os_str().to_owned()),
    ];
    let found = place.fetch(&server.remote("app")).unwrap();
    let files = place.files(&found);
    assert_eq!(
        (files["a"].as_str(), files["c"].as_str(), files["d"].as_str()),
        ("text\n", "text\r\n", "text\n")
    );
    assert!(files["e"].starts_with("$Id: "), "{}", files["e"]);
    assert!(!mark.exists());
}

#[test]
fn an_empty_repository_has_nothing() {
    let server = Server::start();
    let repo = server.init("app", &[]);
    let place = Place::new();
    let error = place.fetch(&server.remote("app")).unwrap_err();
    assert!(matches!(&error, FetchError::Reference { reference, .. } if reference == "HEAD"), "{error:?}");
    repo.commit("nothing");
    let found = place.fetch(&server.remote("app")).unwrap();
    assert_eq!(place.files(&found), tree(&[]));
}

#[test]
fn without_git_the_error_says_so() {
    let mut place = Place::new();
    place.options.environment = vec![("PATH".into(), "/nonexistent".into())];
    let error = place.fetch(&remote("git://127.0.0.1:1/x", Form::Add)).unwrap_err();
    assert!(error.to_string().contains("no program `git`"), "{error}");
}

#[test]
fn a_git_that_hangs_ends_with_whom_it_serves() {
    let mut place = Place::new();
    let mark = place.dir.path().join("pid");
    // It does not listen, and neither does its helper.
    let script = format!(
        "trap '' TERM\nsh -c 'trap \"\" TERM; while :; do sleep 1; done' &\necho $! > {}.new\nmv {0}.new {0}\nwait",
        mark.display()
    );
    wrapped(&mut place, &script);
    let started = || mark.exists();
    let request = FetchRequest { secret: &|_| None, give_up: &started, progress: &|_, _| {} };
    let result = place.fetch_as(&remote("git://127.0.0.1:1/x", Form::Add), &request);
    assert!(matches!(result, Err(FetchError::Cancelled)), "{result:?}");
    let helper = std::fs::read_to_string(&mark).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", helper.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    assert!(place.is_clean());
}

#[test]
fn credentials_go_to_their_host_and_nowhere_else() {
    let server = Registry::start(Setup::default());
    let address = server.host();
    let url = format!("http://{address}/app.git");
    let place = Place::new();
    // Base64 of `x-access-token:to-ken` and of `me:pass-word`.
    let (token, login) = ("Basic eC1hY2Nlc3MtdG9rZW46dG8ta2Vu", "Basic bWU6cGFzcy13b3Jk");
    let with_login = format!("http://me:pass-word@{address}/app.git");
    let header = ("GIT_AUTH_HEADER", "Custom to-ken");
    let own = format!("GIT_AUTH_TOKEN.{address}");
    for (url, secrets, expected) in [
        (&url, vec![], None),
        (&url, vec![("GIT_AUTH_TOKEN", "to-ken\n")], Some(token)),
        (&url, vec![("GIT_AUTH_TOKEN.127.0.0.1", "to-ken")], None),
        (&url, vec![(own.as_str(), "to-ken"), header], Some(token)),
        (&url, vec![header], Some("Custom to-ken")),
        (&url, vec![("GIT_AUTH_TOKEN.other", "to-ken")], None),
        (&with_login, vec![], Some(login)),
    ] {
        let error = place.fetch_with(&remote(url, Form::Add), &secrets).unwrap_err();
        let seen = server.seen();
        assert_eq!(seen.last().unwrap().header("authorization"), expected, "{secrets:?}");
        let text = format!("{error} {error:?}");
        assert!(matches!(error, FetchError::Git { .. }), "{text}");
        assert!(
            !["to-ken", "pass-word", &token[6..], &login[6..]].iter().any(|secret| text.contains(secret))
        );
    }
    // A redirect does not take a credential along.
    let other = Registry::start(Setup::default());
    server.fault("GET", "/app.git", 1, Act::Redirect(format!("http://{}", other.host())));
    place.fetch_with(&remote(&url, Form::Add), &[("GIT_AUTH_TOKEN", "to-ken")]).unwrap_err();
    assert!(other.seen().iter().all(|seen| seen.header("authorization").is_none()));
    for secret in ["to-ken", "pass-word", &token[6..], &login[6..]] {
        assert!(!place.mentions(secret), "{secret}");
    }
    assert!(place.is_clean());
}
