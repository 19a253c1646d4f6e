//! `lbuild serve`: a registry over the store. What is pushed to it are images of the store, and images of the store are
//! pulled from it; `shelf` says under which names.
//!
//! Nobody is asked who he is, so it listens on loopback unless it is told otherwise.

mod shelf;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use registry::server::{Answered, Log, Server, Setup};

use crate::args::ServeArgs;
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::signal::Signals;
use crate::text;
use shelf::Shelf;

/// What is said where others than this machine's users reach the registry.
const OPEN_TO_ALL: &str =
    "warning: whoever reaches this address reads every image of the store, and pushes and deletes";
/// How often it is looked whether the store is still in use.
const PAUSE: Duration = Duration::from_secs(10);

pub(crate) fn serve(args: &ServeArgs, session: &Session, signals: &Signals) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    let refused = |error: std::io::Error| {
        Failure::environment_because(format!("cannot listen on `{}`", args.addr), error.to_string())
    };
    let listener = TcpListener::bind(args.addr).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(chain), Some(key)) => Some((read(chain)?, read(key)?)),
        _ => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let log = (!args.quiet).then(|| Box::new(log) as Log);
    let setup = Setup { tls, log, ..Setup::default() };
    // Signals are waited for before anyone can know that there is somebody to send them to.
    let (ended, _subscription) = signals.subscribe();
    let shelf = Arc::new(Shelf::new(home.store, address));
    let server =
        Server::start(listener, shelf.clone(), setup).map_err(|error| Failure::environment(&error))?;
    if !address.ip().is_loopback() {
        // Nobody may be there to read it.
        writeln!(std::io::stderr().lock(), "{OPEN_TO_ALL}").ok();
    }
    output::print(&format!("{scheme}://{address}\n"))?;
    // The sender lives as long as the subscription, so this ends by a signal alone.
    while ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
        server.tidy();
        shelf.rest();
    }
    drop(server);
    Ok(Exit::Done)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::file("read", path, &error))
}

/// A line a request. Nobody may be there to read it.
fn log(answered: &Answered<'_>) {
    let Answered { peer, method, path, status } = answered;
    let line = text::printable(&format!("{peer} {method} {path} {status}"));
    writeln!(std::io::stderr().lock(), "{line}").ok();
}
