//! `lbuild serve`: what others push is an image of the store, what the store has others pull, and nothing is left.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use registry::testing::raw::{Answer, ask};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::base::{busybox, busybox_of_two};
use crate::harness::World;
use crate::peers::{self, Containers};
use crate::peers_language::Dockerd;

/// The program as a registry over a world's store.
pub(crate) struct Serving {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
}

impl Serving {
    pub(crate) fn start(world: &World, args: &[&str]) -> Serving {
        let mut command = world.command();
        command.args(["serve", "--addr", "127.0.0.1:0", "--quiet"]).args(args);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("lbuild");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("its address");
        let host = line.trim().split("://").nth(1).expect("an address").to_owned();
        Serving { child, host }
    }

    pub(crate) fn localhost(&self) -> String {
        self.host.replace("127.0.0.1", "localhost")
    }

    /// Ends it as a service manager does.
    fn end(mut self) {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        assert!(self.child.wait().expect("its end").success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn get(host: &str, path: &str) -> Value {
    ask(host, "GET", path, &[], b"").json()
}

fn names(world: &World) -> Vec<String> {
    let text = world.lbuild(&["images", "--format=json"]).success().stdout;
    let images: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let name =
        |image: &Value| format!("{}:{}", image["Repository"].as_str().unwrap_or("<none>"), image["Tag"]);
    let mut names: Vec<String> = images.iter().map(|image| name(image).replace('"', "")).collect();
    names.sort();
    names
}

#[test]
fn what_others_push_runs_and_comes_back() {
    let world = World::new();
    let serving = Serving::start(&world, &[]);
    let (host, name) = (&serving.host, format!("{}/me/app:1", serving.localhost()));
    peers::skopeo_copy(&format!("docker://{}", busybox()), &format!("docker://{name}"));
    assert_eq!(names(&world), [name.as_str()]);
    let ran = world.lbuild(&["run", "--rm", "--network=none", &name, "echo", "it runs"]).success();
    assert_eq!(ran.line(), "it runs");
    // By every name of this machine it is the same image.
    assert_eq!(peers::skopeo_digest(&name), peers::skopeo_digest(busybox()));
    assert_eq!(peers::skopeo_digest(&format!("{host}/me/app:1")), peers::skopeo_digest(busybox()));
    let layout = world.path("layout");
    peers::skopeo_copy(&format!("docker://{host}/me/app:1"), &format!("oci:{}:it", layout.display()));
    peers::umoci_unpack(&layout, &world.path("tree"));
    let containers = Containers::vfs(&world.path("containers"));
    assert!(containers.pulled_tree(&name).join("bin/busybox").exists());
    assert_eq!(containers.podman_run(&name, &["echo", "there too"]), "there too\n");
    // An index with all that it names, and a second push of a tag, which leaves nothing without a name.
    peers::skopeo_copy_all(&format!("docker://{}", busybox_of_two()), &format!("docker://{name}"));
    assert_eq!(names(&world), [name.as_str()]);
    assert_eq!(peers::skopeo_raw(&name)["manifests"].as_array().map(Vec::len), Some(2));
    assert_eq!(get(host, "/v2/me/app/tags/list")["tags"], serde_json::json!(["1"]));
    peers::run(Command::new("skopeo").args(["delete", "--tls-verify=false", &format!("docker://{name}")]));
    assert_eq!(names(&world), [""; 0]);
    assert_eq!(get(host, "/v2/me/app/tags/list")["errors"][0]["code"], "NAME_UNKNOWN");
    serving.end();
    // Without a name there is nothing that a collection would keep.
    world.lbuild(&["rmi", "-f", "nothing"]).success();
    let blobs = fs::read_dir(world.path("root/blobs/sha256")).expect("blobs").count();
    assert_eq!(blobs, 0, "the store is empty again");
}

#[test]
fn what_was_built_is_pulled() {
    let world = World::new();
    let built = |name: &str| {
        let dockerfile = format!("FROM {}\nRUN echo {name} > /name\n", busybox());
        world.build(&dockerfile).args(&["-t", name]).success();
    };
    built("me/app:1");
    built("registry.example/app:2");
    let serving = Serving::start(&world, &[]);
    built(&format!("{}/app:3", serving.localhost()));
    let containers = Containers::vfs(&world.path("containers"));
    for (path, expected) in [
        ("me/app:1", "me/app:1".to_owned()),
        ("registry.example/app:2", "registry.example/app:2".to_owned()),
        ("app:3", format!("{}/app:3", serving.localhost())),
    ] {
        let name = format!("{}/{path}", serving.host);
        assert_eq!(containers.podman_run(&name, &["cat", "/name"]).trim(), expected);
    }
    let all = get(&serving.host, "/v2/_catalog");
    assert_eq!(all["repositories"], serde_json::json!(["app", "me/app", "registry.example/app"]));
    let other = World::new();
    let pulled = other.lbuild(&["run", "--rm", &format!("{}/me/app:1", serving.host), "cat", "/name"]);
    assert_eq!(pulled.success().line(), "me/app:1");
    serving.end();
}

#[test]
fn dockers_daemon_pulls_and_pushes() {
    let world = World::new();
    let serving = Serving::start(&world, &[]);
    let dockerd = Dockerd::start(world.path("docker"));
    let dockerfile = format!("FROM {}\nRUN echo built > /name\n", busybox());
    world.build(&dockerfile).args(&["-t", "built:1"]).success();
    dockerd.docker(&["pull", "--quiet", &format!("{}/built:1", serving.host)]);
    let theirs = format!("{}/theirs:1", serving.localhost());
    dockerd.docker(&["tag", &format!("{}/built:1", serving.host), &theirs]);
    dockerd.docker(&["push", "--quiet", &theirs]);
    drop(dockerd);
    let ran = world.lbuild(&["run", "--rm", "--network=none", &theirs, "cat", "/name"]).success();
    assert_eq!(ran.line(), "built");
    serving.end();
}

#[test]
fn an_abandoned_upload_leaves_nothing() {
    let world = World::new();
    let serving = Serving::start(&world, &[]);
    let host = serving.host.clone();
    let at = ask(&host, "POST", "/v2/a/blobs/uploads/", &[], b"").must("location").to_owned();
    let head = format!("PATCH {at} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 5000000\r\n\r\n");
    let mut stream = TcpStream::connect(&host).expect("the registry");
    stream.write_all(head.as_bytes()).expect("a head");
    stream.write_all(&[1; 1_000_000]).expect("a part");
    drop(stream);
    // What came is kept for the client to go on with, in no file that has a name.
    let state = || ask(&host, "GET", &at, &[], b"");
    // Which of two connections the server hears first is its own affair.
    while state().header("range") != Some("0-999999") {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(fs::read_dir(world.path("root/ingest")).expect("ingest").count(), 0);
    assert_eq!(fs::read_dir(world.path("root/blobs/sha256")).expect("blobs").count(), 0);
    serving.end();
    assert_eq!(fs::read_dir(world.path("root/ingest")).expect("ingest").count(), 0);
}

/// A way to `target` that ends, with all connections on it, once so many bytes were sent there.
fn frail(target: String, left: &Arc<AtomicI64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    let left = Arc::clone(left);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(&target).expect("the registry");
            let (mut from, mut to) =
                (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
            let left = Arc::clone(&left);
            thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(length @ 1..) = from.read(&mut buffer) {
                    if left.fetch_sub(length as i64, Ordering::SeqCst) < 0
                        || to.write_all(&buffer[..length]).is_err()
                    {
                        break;
                    }
                }
                from.shutdown(Shutdown::Both).ok();
                to.shutdown(Shutdown::Both).ok();
            });
            thread::spawn(move || std::io::copy(&mut (&server), &mut (&client)));
        }
    });
    address
}

#[test]
fn another_push_goes_on_where_the_last_one_broke() {
    let world = World::new();
    let store = World::new();
    let serving = Serving::start(&store, &[]);
    let left = Arc::new(AtomicI64::new(12_000_000));
    let name = format!("{}/resume/app:1", frail(serving.host.clone(), &left));
    let dockerfile = format!("FROM {}\nRUN head -c 30000000 /dev/urandom > /x\n", busybox());
    world.build(&dockerfile).args(&["-t", &name]).success();
    let broken = world.lbuild(&["push", "--push-retry=0", &name]).failure(3);
    assert!(broken.stderr.contains("cannot push"), "{}", broken.stderr);
    let remembered = || fs::read_dir(world.path("root/uploads")).map_or(0, Iterator::count);
    assert!(remembered() > 0, "{}", broken.stderr);
    left.store(i64::MAX / 2, Ordering::SeqCst);
    world.lbuild(&["push", "--push-retry=0", &name]).success();
    let sent = i64::MAX / 2 - left.load(Ordering::SeqCst);
    assert!(sent < 25_000_000, "{sent} bytes are as many as at first");
    assert_eq!(remembered(), 0);
    let listed = format!("{}/resume/app:1", serving.host);
    let pulled = World::new().lbuild(&["pull", "-q", &listed]).success();
    assert_eq!(pulled.line(), peers::skopeo_digest(&listed));
    serving.end();
}

#[test]
fn a_web_page_does_not_reach_it_by_another_name() {
    let world = World::new();
    let serving = Serving::start(&world, &[]);
    for (host, status) in [("localhost", 200), ("127.0.0.1:1", 200), ("evil.example", 421)] {
        let mut stream = TcpStream::connect(&serving.host).expect("the registry");
        stream.write_all(format!("GET /v2/ HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).expect("a request");
        assert_eq!(Answer::read(stream, false).status, status, "{host}");
    }
}

#[test]
fn it_speaks_tls_with_a_certificate() {
    let world = World::new();
    let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=it \
                   -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem";
    peers::run(Command::new("openssl").args(request.split_whitespace()).current_dir(world.path("")));
    world.build("FROM scratch\nLABEL a=b\n").args(&["-t", "app:1"]).success();
    let serving = Serving::start(&world, &["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    let name = format!("{}/app:1", serving.host);
    let other = World::new();
    other.lbuild(&["pull", &name]).failure(3).says("--cacert");
    let authority = world.path("cert.pem");
    let pulled =
        other.lbuild(&["pull", "-q", "--cacert", authority.to_str().expect("UTF-8"), &name]).success();
    assert!(pulled.line().starts_with("sha256:"));
    serving.end();
}

#[test]
fn what_cannot_be_served_is_said() {
    let world = World::new();
    let serving = Serving::start(&world, &[]);
    let taken = world.lbuild(&["serve", "--addr", &serving.host]).failure(3);
    assert!(taken.stderr.contains(&format!("cannot listen on `{}`", serving.host)), "{}", taken.stderr);
    world.lbuild(&["serve", "--addr", "nowhere"]).failure(2).says("--addr");
    // That others reach it, too, is said before anybody knows where it is.
    for (address, is_open) in [("0.0.0.0:0", true), ("127.0.0.1:0", false)] {
        let mut command = world.command();
        command.args(["serve", "--addr", address]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("lbuild");
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut String::new()).expect("a line");
        child.kill().expect("it runs");
        let said = child.wait_with_output().expect("its end").stderr;
        assert_eq!(String::from_utf8_lossy(&said).starts_with("warning: "), is_open, "{address}");
    }
    fs::write(world.path("cert"), "nonsense").expect("a file");
    let bad = world.lbuild(&["serve", "--addr", "127.0.0.1:0", "--tls-cert", "cert", "--tls-key", "cert"]);
    bad.failure(3).says("private key");
}
