//! A web server that hands out the files of a directory, to everybody or to nobody, and remembers who asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// The server; it ends with its owner.
pub(crate) struct Web {
    dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// The heads of all requests.
    seen: Mutex<Vec<String>>,
    is_guarded: AtomicBool,
    is_closed: AtomicBool,
}

impl Web {
    pub(crate) fn start() -> Web {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        let listener = {
            let (root, state) = (dir.path().to_owned(), state.clone());
            std::thread::spawn(move || {
                for connection in listener.incoming() {
                    if state.is_closed.load(Ordering::Relaxed) {
                        return;
                    }
                    // A client that goes away has had enough.
                    let _gone = answer(&root, &state, connection.unwrap());
                }
            })
        };
        Web { dir, address, state, listener: Some(listener) }
    }

    /// One that wants a password from everybody, and likes none.
    pub(crate) fn guarded() -> Web {
        let web = Web::start();
        web.state.is_guarded.store(true, Ordering::Relaxed);
        web
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// The credentials that were shown so far; there were requests.
    pub(crate) fn credentials(&self) -> Vec<String> {
        let seen = self.state.seen.lock().unwrap();
        assert!(!seen.is_empty());
        let lines = seen.iter().flat_map(|head| head.lines());
        lines.filter_map(|line| line.strip_prefix("Authorization: ").map(str::to_owned)).collect()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.state.is_closed.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        self.listener.take().unwrap().join().unwrap();
    }
}

fn answer(root: &Path, state: &State, mut connection: TcpStream) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(connection.try_clone()?);
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    let path = head.split(' ').nth(1).unwrap_or("/");
    let path = root.join(path.split('?').next().unwrap().trim_start_matches('/'));
    state.seen.lock().unwrap().push(head);
    let (status, body) = match std::fs::read(path) {
        _ if state.is_guarded.load(Ordering::Relaxed) => {
            ("401 No\r\nWWW-Authenticate: Basic realm=\"x\"", Vec::new())
        }
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 No", Vec::new()),
    };
    let length = body.len();
    write!(connection, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    connection.write_all(&body)
}
