//! What ADD does and COPY does not: archives (point 18 of what BuildKit does with files), files of the web (19), git
//! repositories (20) and the secrets that open those (23). Servers are threads of the test; `git daemon` answers for
//! the repositories, one process a conversation.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::base::busybox;
use crate::harness::World;
use crate::layout::{Tar, sha256};
use crate::peers;

/// Packs the context's `dir` as `name`, compressed as the option of tar says.
fn pack(world: &World, name: &str, option: &str) {
    let context = world.path("context");
    peers::run(
        Command::new("tar")
            .args([option, "--create", "--file"])
            .arg(context.join(name))
            .arg("-C")
            .arg(&context)
            .arg("dir"),
    );
}

fn world() -> World {
    let world = World::new();
    world.file("dir/one", "1").file("dir/sub/two", "2");
    world
}

#[test]
fn point_18_archives_are_known_by_their_content() {
    let world = world();
    let archives = [
        ("plain.any", "--seek"),
        ("gz.tar", "--gzip"),
        ("bz2.tar.xz", "--bzip2"),
        ("xz.tgz", "--xz"),
        ("zst", "--zstd"),
    ];
    let mut dockerfile = "FROM scratch\n".to_owned();
    for (name, option) in archives {
        pack(&world, name, option);
        dockerfile += &format!(
            "ADD {name} /{name}/unpacked\nADD --unpack=false {name} /{name}/kept\nCOPY {name} /{name}/copied\n"
        );
    }
    let rootfs = world.build(&dockerfile).rootfs();
    for (name, _) in archives {
        assert_eq!(rootfs.text(&format!("/{name}/unpacked/dir/sub/two")), "2", "{name}");
        rootfs.expect(&[(&format!("/{name}/kept"), "file"), (&format!("/{name}/copied"), "file")]);
    }
}

#[test]
fn point_18_what_is_no_archive_is_copied() {
    let world = world();
    pack(&world, "whole.tar", "--seek");
    let whole = std::fs::read(world.path("context/whole.tar")).expect("the archive");
    world
        .file("text.tar", "no archive")
        .file("empty.tar", "")
        .file("zeros.tar", vec![0; 1024])
        .file("half.tar", &whole[..100]);
    peers::run(Command::new("gzip").arg("-k").arg(world.path("context/text.tar")));
    let rootfs = world
        .build("FROM scratch\nADD text.tar empty.tar zeros.tar half.tar text.tar.gz /x/\nADD dir /dir\nADD --unpack dir /again\n")
        .rootfs();
    for name in ["text.tar", "empty.tar", "zeros.tar", "half.tar", "text.tar.gz"] {
        rootfs.expect(&[(&format!("/x/{name}"), "file 0644 0:0")]);
    }
    rootfs.expect(&[("/dir/one", "file"), ("/again/one", "file")]);
}

#[test]
fn point_18_owners_and_modes_of_archives() {
    let world = World::new();
    let tar = Tar::default()
        .folder("d")
        .file("d/f", 0o4751, b"f")
        .symlink("l", "d/f")
        .hard_link("h", "d/f")
        .finish();
    world.file("a.tar", tar);
    let rootfs = world
        .build("FROM scratch\nADD a.tar /kept/\nADD --chown=5:6 --chmod=600 a.tar /changed\nADD --link a.tar /linked\n")
        .rootfs();
    rootfs.expect(&[
        ("/kept/d/f", "file 4751 0:0"),
        ("/kept/l", "link 0:0 -> d/f"),
        ("/changed", "dir 0755 5:6"),
        // No mode is for what comes out of an archive.
        ("/changed/d/f", "file 4751 5:6"),
        ("/linked/d/f", "file 4751 0:0"),
    ]);
    assert!(rootfs.get("/kept/h").ends_with("same as /kept/d/f"), "{}", rootfs.get("/kept/h"));
}

#[test]
fn point_18_archives_stay_below_their_destination() {
    let world = World::new();
    let on_busybox = |rest: &str| format!("FROM {}\n{rest}\n", busybox());
    world.file("a.tar", Tar::default().file("f", 0o644, b"").file("../up", 0o644, b"").finish());
    world.build(&on_busybox("ADD a.tar /x/y/")).failure().says("Dockerfile:2").says("`../up`");
    let tar =
        Tar::default().symlink("way", "/etc").file("way/passwd", 0o644, b"theirs").symlink("up", "../../etc");
    world.file("a.tar", tar.file("up/group", 0o644, b"").file("/absolute", 0o644, b"").finish());
    let rootfs = world.build(&on_busybox("RUN ln -s /real /x\nADD a.tar /x/")).rootfs();
    rootfs.expect(&[
        ("/real/absolute", "file"),
        ("/real/way", "link 0:0 -> /etc"),
        ("/real/etc/passwd", "file"),
        ("/real/etc/group", "file"),
    ]);
    assert!(rootfs.text("/etc/passwd").contains("app"), "the image's own file");
}

#[test]
fn point_18_a_directory_that_stands_is_not_the_archives() {
    let world = World::new();
    let tar = Tar::default().folder("./").folder("./d").file("./d/f", 0o644, b"").finish();
    world.file("a.tar", tar);
    let rootfs = world
        .build(&format!(
            "FROM {}\nRUN mkdir -p -m 700 /x/d && chown 5:6 /x /x/d && chmod 700 /x\nADD a.tar /x\nADD --chown=7:8 a.tar /y\n",
            busybox()
        ))
        .rootfs();
    rootfs.expect(&[
        ("/x", "dir 0700 5:6"),
        ("/x/d", "dir 0755 0:0"),
        ("/x/d/f", "file 0644 0:0"),
        ("/y", "dir 0755 7:8"),
        ("/y/d", "dir 0755 7:8"),
    ]);
}

#[test]
fn point_18_a_damaged_archive_is_an_error() {
    let world = world();
    world.file("dir/large", vec![7; 100_000]);
    pack(&world, "a.tar", "--seek");
    let whole = std::fs::read(world.path("context/a.tar")).expect("the archive");
    world.file("a.tar", &whole[..50_000]);
    world.build("FROM scratch\nADD a.tar /x/\n").failure().says("Dockerfile:2");
}

/// What a page of [`Web`] answers.
#[derive(Clone)]
enum Page {
    /// Headers besides the length, and the body.
    File(&'static str, Vec<u8>),
    /// Elsewhere, by a path or an address.
    Redirect(String),
    /// The body for who sends this `Authorization`.
    Guarded(&'static str, Vec<u8>),
}

/// A web server; it counts what it is asked for.
struct Web {
    address: String,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
}

impl Web {
    fn new(pages: &[(&str, Page)]) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let pages: BTreeMap<String, Page> =
            pages.iter().map(|(path, page)| ((*path).to_owned(), page.clone())).collect();
        let (asked, pages) = (Arc::default(), Arc::new(Mutex::new(pages)));
        let web = Web { address, asked: Arc::clone(&asked), pages: Arc::clone(&pages) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &pages, &asked);
            }
        });
        web
    }

    fn put(&self, path: &str, page: Page) {
        self.pages.lock().expect("the pages").insert(path.to_owned(), page);
    }

    fn asked(&self, path: &str) -> usize {
        self.asked.lock().expect("the count").get(path).copied().unwrap_or_default()
    }
}

fn answer(
    mut stream: TcpStream,
    pages: &Mutex<BTreeMap<String, Page>>,
    asked: &Mutex<BTreeMap<String, usize>>,
) {
    let mut lines =
        BufReader::new(stream.try_clone().expect("a second handle")).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let is_it = |line: &&String| line.to_lowercase().starts_with(&format!("{name}:"));
        headers.iter().find(is_it).and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned())
    };
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let page = pages.lock().expect("the pages").get(path.split('?').next().unwrap_or_default()).cloned();
    *asked.lock().expect("the count").entry(path).or_default() += 1;
    let (status, more, body) = match page {
        Some(Page::File(more, body)) => ("200 OK", more.to_owned(), body),
        Some(Page::Redirect(to)) => ("302 Found", format!("Location: {to}\r\n"), Vec::new()),
        Some(Page::Guarded(wanted, body)) if header("authorization").as_deref() == Some(wanted) => {
            ("200 OK", String::new(), body)
        }
        Some(Page::Guarded(..)) => ("401 Unauthorized", String::new(), Vec::new()),
        None => ("404 Not Found", String::new(), Vec::new()),
    };
    let head =
        format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let body = if request.starts_with("HEAD") { &[][..] } else { &body };
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok();
}

#[test]
fn point_19_files_of_the_web_have_names_modes_and_times() {
    let dated = "Last-Modified: Fri, 13 Feb 2009 23:31:30 GMT\r\n";
    let web = Web::new(&[
        ("/path/file.txt", Page::File(dated, b"text".to_vec())),
        ("/moved", Page::Redirect("/path/file.txt".to_owned())),
        ("/", Page::File("", b"root".to_vec())),
        ("/with%20space", Page::File("", b"space".to_vec())),
    ]);
    let url = format!("http://{}", web.address);
    let world = World::new();
    let out = world.build(&format!(
        "FROM {}\n\
         ADD {url}/path/file.txt /d/\nADD {url}/path/file.txt /name\nADD {url}/moved /d/\nADD {url}/path/file.txt?query=1 /q/\n\
         ADD {url}/ /d/\nADD --chown=5:6 --chmod=644 {url}/moved /owned\nADD --link {url}/moved /linked/\n\
         RUN cd /; stat -c '%n %a %u:%g %Y' d/* q/* name owned linked/* > /out",
        busybox()
    ));
    assert_eq!(
        out.out(),
        "d/__unnamed__ 600 0:0 0\n\
         d/file.txt 600 0:0 1234567890\n\
         d/moved 600 0:0 1234567890\n\
         q/file.txt 600 0:0 1234567890\n\
         name 600 0:0 1234567890\n\
         owned 644 5:6 1234567890\n\
         linked/moved 600 0:0 1234567890\n"
    );
}

#[test]
fn point_19_archives_of_the_web_are_unpacked_when_asked() {
    let tar = Tar::default().folder("d").file("d/f", 0o640, b"f").finish();
    let web = Web::new(&[("/a.tar", Page::File("", tar)), ("/text", Page::File("", b"text".to_vec()))]);
    let url = format!("http://{}", web.address);
    let rootfs = World::new()
        .build(&format!(
            "FROM scratch\nADD {url}/a.tar /kept/\nADD --unpack=false {url}/a.tar /kept/again\n\
             ADD --unpack=true {url}/a.tar /unpacked\nADD --unpack --chown=5:6 {url}/a.tar /owned\nADD --unpack {url}/text /text\n"
        ))
        .rootfs();
    rootfs.expect(&[
        ("/kept/a.tar", "file 0600"),
        ("/kept/again", "file 0600"),
        ("/unpacked/d/f", "file 0640 0:0"),
        ("/owned/d/f", "file 0640 5:6"),
        ("/text", "file 0600"),
    ]);
}

#[test]
fn point_19_a_checksum_is_kept_or_the_build_fails() {
    let web = Web::new(&[("/f", Page::File("", b"text".to_vec()))]);
    let url = format!("http://{}/f", web.address);
    let world = World::new();
    let (good, bad) = (sha256(b"text"), sha256(b"other"));
    let add = |checksum: &str| {
        world.build(&format!("FROM scratch\nARG SUM={checksum}\nADD --checksum=sha256:$SUM {url} /out\n"))
    };
    let output = add(&bad).failure();
    assert!(output.stderr.contains(&bad) && output.stderr.contains(&good), "{}", output.stderr);
    assert_eq!(add(&good).out(), "text");
    let asked = web.asked("/f");
    assert_eq!(add(&good).out(), "text");
    assert_eq!(web.asked("/f"), asked, "what has its checksum is not asked for again");
    world.file("f", "text");
    for (sources, words) in
        [(format!("{url} {url}"), "one source"), ("f".to_owned(), "for URLs and git repositories only")]
    {
        let dockerfile = format!("FROM scratch\nADD --checksum=sha256:{good} {sources} /x/\n");
        world.build(&dockerfile).failure().says(words).says("Dockerfile:2");
    }
    world.build(&format!("FROM scratch\nADD --checksum=md5:00 {url} /x/\n")).failure().says("Dockerfile:2");
}

#[test]
fn point_19_what_changed_there_is_fetched_and_what_did_not_is_cached() {
    let web = Web::new(&[("/f", Page::File("ETag: \"1\"\r\n", b"one".to_vec()))]);
    let world = World::new();
    let build =
        || world.build(&format!("FROM scratch\nADD http://{}/f /out\n", web.address)).arg("--progress=plain");
    assert_eq!(build().out(), "one");
    assert!(build().success().stderr.contains("CACHED"));
    web.put("/f", Page::File("ETag: \"2\"\r\n", b"two".to_vec()));
    assert_eq!(build().out(), "two");
    // A date alone says nothing: a file may be put back.
    let dated = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    web.put("/f", Page::File(dated, b"old".to_vec()));
    assert_eq!(build().out(), "old");
    web.put("/f", Page::File(dated, b"new".to_vec()));
    assert_eq!(build().out(), "new");
}

#[test]
fn point_19_what_cannot_be_fetched_is_told_with_its_line() {
    let web = Web::new(&[("/loop", Page::Redirect("/loop".to_owned()))]);
    for path in ["nothing", "loop"] {
        let dockerfile =
            format!("FROM scratch\nADD http://user:secret@{}/{path}?token=hidden /x\n", web.address);
        let output = World::new().build(&dockerfile).output().failure(3).says("Dockerfile:2").says(path);
        // The excerpt shows the line as it stands; nothing else repeats what is in it.
        let told: Vec<&str> = output.stderr.lines().filter(|line| !line.starts_with("2 |")).collect();
        assert!(!told.iter().any(|line| line.contains("secret") || line.contains("hidden")), "{told:?}");
    }
}

/// A git server with one repository, `repo.git`; two commits, the first one tagged `first`.
struct Git {
    folder: tempfile::TempDir,
    address: String,
}

impl Git {
    fn new() -> Git {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let git = Git { address: serve(folder.path()), folder };
        std::fs::create_dir(git.repository()).expect("a folder");
        git.run(&["init", "--quiet", "--initial-branch=main"]);
        git.commit(&[("a", "first"), ("sub/deep/b", "b"), ("run", "#!/bin/sh\n")], "1");
        git.run(&["tag", "first"]);
        git.commit(&[("a", "second")], "2");
        git
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repo.git")
    }

    fn commit(&self, files: &[(&str, &str)], message: &str) -> String {
        for (path, text) in files {
            let path = self.repository().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folders above");
            std::fs::write(path, text).expect("a file");
        }
        self.run(&["add", "--all"]);
        self.run(&["commit", "--quiet", "--message", message]);
        self.run(&["rev-parse", "HEAD"])
    }

    fn run(&self, args: &[&str]) -> String {
        let who = [("user.name", "x"), ("user.email", "x@example.org")];
        let mut command = program(&self.repository());
        for (name, value) in who {
            command.args(["-c", &format!("{name}={value}")]);
        }
        peers::run(command.args(args)).trim().to_owned()
    }

    fn url(&self, rest: &str) -> String {
        format!("git://{}/repo.git{rest}", self.address)
    }
}

fn program(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command
}

/// Serves the repositories of a folder until the test binary ends.
fn serve(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    let folder = folder.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let output = stream.try_clone().expect("a second handle");
            // The folder goes with its test; who asks afterwards gets nothing.
            let daemon = program(Path::new("/"))
                .args(["daemon", "--inetd", "--export-all"])
                .arg(format!("--base-path={}", folder.display()))
                .stdin(Stdio::from(OwnedFd::from(stream)))
                .stdout(Stdio::from(OwnedFd::from(output)))
                .stderr(Stdio::null())
                .spawn();
            daemon.and_then(|mut daemon| daemon.wait()).expect("git is installed; `make test` installs it");
        }
    });
    address
}

#[test]
fn point_20_repositories_are_fetched_at_a_reference_and_a_directory() {
    let git = Git::new();
    let first = git.run(&["rev-parse", "first"]);
    let world = World::new();
    let rootfs = world
        .build(&format!(
            "FROM scratch\nARG REF=first\n\
             ADD {} /head\nADD {} /tag/\nADD {} /commit\nADD {} /deep\nADD {} /query\nADD --chown=5:6 --chmod=700 {} /owned\nADD --link {} /linked\n",
            git.url(""),
            git.url("#$REF"),
            git.url(&format!("#{first}")),
            git.url("#main:sub/deep"),
            git.url("?ref=first&subdir=sub"),
            git.url(""),
            git.url(""),
        ))
        .rootfs();
    assert_eq!(
        (rootfs.text("/head/a"), rootfs.text("/tag/a"), rootfs.text("/commit/a")),
        ("second".into(), "first".into(), "first".into())
    );
    rootfs.expect(&[
        ("/head/run", "file 0644 0:0"),
        ("/deep/b", "file 0644 0:0"),
        ("/query/deep/b", "file"),
        ("/owned/a", "file 0700 5:6"),
        ("/linked/sub/deep/b", "file"),
    ]);
    assert!(!rootfs.has("/head/.git") && !rootfs.has("/deep/a") && !rootfs.has("/query/a"));
}

#[test]
fn point_20_the_git_directory_is_kept_when_asked() {
    let (git, world) = (Git::new(), World::new());
    let rootfs = world
        .build(&format!(
            "FROM scratch\nADD --keep-git-dir {0} /flag\nADD {1} /query\nADD --keep-git-dir=false {0} /neither\n",
            git.url(""),
            git.url("?keep-git-dir=true"),
        ))
        .rootfs();
    for place in ["flag", "query"] {
        assert!(rootfs.has(&format!("/{place}/.git/HEAD")), "{place}");
        let head = peers::run(program(&rootfs.folder.join(place)).args([
            "-c",
            "safe.directory=*",
            "rev-parse",
            "HEAD",
        ]));
        assert_eq!(head.trim(), git.run(&["rev-parse", "HEAD"]), "{place}");
    }
    assert!(!rootfs.has("/neither/.git"));
    let both = format!("FROM scratch\nADD --keep-git-dir=false {} /x\n", git.url("?keep-git-dir=true"));
    world.build(&both).failure().says("contradict each other").says("Dockerfile:2:26");
}

#[test]
fn point_20_a_checksum_is_a_commit() {
    let git = Git::new();
    let (first, second) = (git.run(&["rev-parse", "first"]), git.run(&["rev-parse", "HEAD"]));
    let world = World::new();
    let add =
        |flag: &str, rest: &str| world.build(&format!("FROM scratch\nADD {flag} {} /x\n", git.url(rest)));
    assert_eq!(add(&format!("--checksum={second}"), "").rootfs().text("/x/a"), "second");
    assert_eq!(add(&format!("--checksum={}", &first[..12]), "#first").rootfs().text("/x/a"), "first");
    assert_eq!(add("", &format!("?ref=first&checksum={first}")).rootfs().text("/x/a"), "first");
    add(&format!("--checksum={first}"), "").failure().says(&first).says(&second).says("Dockerfile:2");
    add(&format!("--checksum={first}"), &format!("?checksum={second}")).failure().says("Dockerfile:2");
}

#[test]
fn point_20_a_branch_that_moves_is_fetched_anew() {
    let git = Git::new();
    let world = World::new();
    let build =
        || world.build(&format!("FROM scratch\nADD {} /x\n", git.url("#main"))).arg("--progress=plain");
    assert_eq!(build().rootfs().text("/x/a"), "second");
    assert!(build().success().stderr.contains("CACHED"));
    git.commit(&[("a", "third")], "3");
    assert_eq!(build().rootfs().text("/x/a"), "third");
    world
        .build(&format!("FROM scratch\nADD {} /x\n", git.url("#nowhere")))
        .failure()
        .says("nowhere")
        .says("Dockerfile:2");
    world
        .build(&format!("FROM scratch\nADD {} /x\n", git.url("#main:nowhere")))
        .failure()
        .says("nowhere")
        .says("Dockerfile:2");
}

#[test]
fn point_20_what_looks_like_a_repository_may_be_a_path() {
    let world = World::new();
    world.file("github.com/x/y/f", "local");
    assert_eq!(world.build("FROM scratch\nADD github.com/x/y /x\n").rootfs().text("/x/f"), "local");
}

#[test]
fn point_23_secrets_open_what_is_guarded() {
    let web = Web::new(&[
        ("/token", Page::Guarded("Bearer t0ken", b"by token".to_vec())),
        ("/header", Page::Guarded("Basic dTpw", b"by header".to_vec())),
    ]);
    let world = World::new();
    let add = |path: &str| world.build(&format!("FROM scratch\nADD http://{}/{path} /out\n", web.address));
    add("token").output().failure(3).says("401").says("Dockerfile:2");
    let host = &web.address;
    let token = format!("id=HTTP_AUTH_TOKEN_{host},env=TOKEN");
    assert_eq!(add("token").args(&["--secret", &token]).env("TOKEN", "t0ken").out(), "by token");
    let header = format!("id=HTTP_AUTH_HEADER_{host},env=HEADER");
    let image = add("header").args(&["--secret", &header]).env("HEADER", "Basic dTpw").image();
    assert_eq!(world.unpack(&image).text("/out"), "by header");
    assert!(!image.image.to_string().contains("dTpw"), "{}", image.image);
}
