//! Registries to test against: Debian's docker-registry on loopback, open and behind a password, and one
//! of a few lines that serves whatever bytes a test gives it.
//!
//! docker-registry keeps everything in memory and dies with the thread that started it, so a keeper
//! thread, which never ends, starts both: they live as long as the test binary and leave nothing.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use crate::source;

/// The account of the protected registry; testdata/e2e/htpasswd has its hash.
pub(crate) const USER: &str = "tester";
pub(crate) const PASSWORD: &str = "correct horse";

/// `127.0.0.1:PORT` of the registry that all tests share.
pub(crate) fn open() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| start(&[]))
}

/// `127.0.0.1:PORT` of the registry that wants `USER` and `PASSWORD`.
pub(crate) fn protected() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| {
        let htpasswd = source::root().join("testdata/e2e/htpasswd");
        start(&[
            ("REGISTRY_AUTH_HTPASSWD_REALM", "lbuild tests"),
            ("REGISTRY_AUTH_HTPASSWD_PATH", htpasswd.to_str().expect("a path in UTF-8")),
        ])
    })
}

fn start(settings: &[(&'static str, &str)]) -> String {
    let settings: Vec<(&'static str, String)> = settings.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        // Another process may take the port before the registry does; then it exits, and we try again.
        let started = (0..5).find_map(|_| {
            let address = format!("127.0.0.1:{}", free_port());
            let mut child = spawn(&address, &settings);
            answers(&address, &mut child).then_some((address, child))
        });
        let (address, mut child) = started.expect("docker-registry serves; run it by hand to see why not");
        send.send(address).expect("the test waits for the address");
        child.wait().expect("the registry");
    });
    receive.recv().expect("docker-registry starts")
}

fn spawn(address: &str, settings: &[(&'static str, String)]) -> Child {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
        .arg(source::root().join("testdata/e2e/registry.yml"))
        .env("REGISTRY_HTTP_ADDR", address)
        .env("OTEL_TRACES_EXPORTER", "none")
        .envs(settings.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("setpriv and docker-registry are installed; `make test` installs them")
}

/// Waits until the registry takes connections; false when it ended instead.
fn answers(address: &str, child: &mut Child) -> bool {
    loop {
        if child.try_wait().expect("the registry's state").is_some() {
            return false;
        }
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Serves `pages`, path to media type and body, until the test binary ends; anything else is a 404.
pub(crate) fn serve(pages: BTreeMap<String, (String, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &pages);
        }
    });
    address
}

/// A way to `target` that counts the bytes sent to it.
pub(crate) fn counted(target: &'static str) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    let count = Arc::new(AtomicU64::new(0));
    let sum = Arc::clone(&count);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(target).expect("the registry");
            let (mut from, mut to) =
                (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
            let sum = Arc::clone(&sum);
            thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(length @ 1..) = from.read(&mut buffer) {
                    sum.fetch_add(length as u64, Ordering::Relaxed);
                    if to.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                to.shutdown(Shutdown::Write).ok();
            });
            thread::spawn(move || {
                let (mut from, mut to) = (server, client);
                io::copy(&mut from, &mut to).ok();
                to.shutdown(Shutdown::Both).ok();
            });
        }
    });
    (address, count)
}

fn answer(mut stream: TcpStream, pages: &BTreeMap<String, (String, Vec<u8>)>) {
    let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
    let Some(Ok(request)) = lines.next() else { return };
    for _ in lines.by_ref().take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())) {}
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let missing = ("application/json".to_owned(), br#"{"errors":[{"code":"NOT_FOUND"}]}"#.to_vec());
    let (status, (media_type, body)) = match pages.get(path) {
        Some(page) => ("200 OK", page),
        None => ("404 Not Found", &missing),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let body = if method == "HEAD" { &[][..] } else { body };
    // The client may hang up as soon as it has seen enough.
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok();
}
