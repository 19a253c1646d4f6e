//! Credential helpers: programs that keep secrets in a place of their own. (Docker: docker-credential-helpers.)
//!
//! The protocol: `docker-credential-NAME get`, `store` or `erase`, a server or a document on standard input, JSON on
//! standard output.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::{Credential, Error};

/// What a helper says when it has nothing for the registry; that is no failure.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name by which a helper marks its secret as an identity token.
const TOKEN_USER: &str = "<token>";
const MAX_OUTPUT_BYTES: u64 = 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the helper has for `server`.
pub(super) fn get(helper: &str, server: &str) -> Result<Credential, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        #[serde(default)]
        username: String,
        #[serde(default)]
        secret: String,
    }
    let Some(output) = ask(helper, "get", server)? else { return Ok(Credential::Anonymous) };
    let answer: Answer = serde_json::from_str(&output).map_err(|_| Error::AskHelper {
        program: program(helper),
        output: "its answer is not JSON with `Username` and `Secret`".to_owned(),
    })?;
    Ok(match answer {
        Answer { username, secret } if username == TOKEN_USER => {
            Credential::Identity { username: String::new(), token: secret }
        }
        Answer { username, secret } if username.is_empty() && secret.is_empty() => Credential::Anonymous,
        Answer { username, secret } => Credential::Basic { username, password: secret },
    })
}

/// Has the helper keep a name and a password for `server`.
pub(super) fn store(helper: &str, server: &str, username: &str, password: &str) -> Result<(), Error> {
    let document = json!({"ServerURL": server, "Username": username, "Secret": password});
    ask(helper, "store", &document.to_string()).map(drop)
}

/// Has the helper forget `server`; that it knows nothing of it is no failure.
pub(super) fn erase(helper: &str, server: &str) -> Result<(), Error> {
    ask(helper, "erase", server).map(drop)
}

/// The program that a helper's name stands for.
pub(super) fn program(helper: &str) -> String {
    format!("docker-credential-{helper}")
}

/// What the helper writes; `None` if it has nothing.
fn ask(helper: &str, verb: &str, input: &str) -> Result<Option<String>, Error> {
    let program = program(helper);
    let is_name = !helper.is_empty()
        && helper.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !is_name {
        let reason = "a helper's name has only letters, digits, `-`, `_` and `.`";
        return Err(Error::RunHelper {
            program,
            source: io::Error::new(io::ErrorKind::InvalidInput, reason),
        });
    }
    let (succeeded, output) =
        run(&program, verb, input).map_err(|source| Error::RunHelper { program: program.clone(), source })?;
    if succeeded {
        return Ok(Some(output));
    }
    if output.contains(NOT_FOUND) {
        return Ok(None);
    }
    let output = output.trim().chars().take(200).collect();
    Err(Error::AskHelper { program, output })
}

/// Runs the helper to its end, which must come before [`TIMEOUT`].
fn run(program: &str, verb: &str, input: &str) -> io::Result<(bool, String)> {
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    // A helper that does not read its input answers all the same.
    match stdin.write_all(input.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return reap(child, Err(error)),
        _ => drop(stdin),
    }
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut output = Vec::new();
        let read = stdout.take(MAX_OUTPUT_BYTES).read_to_end(&mut output);
        // The receiver is gone after the timeout.
        send.send(read.map(|_| output)).ok();
    });
    let output = match receive.recv_timeout(TIMEOUT) {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return reap(child, Err(error)),
        Err(_) => return reap(child, Err(io::ErrorKind::TimedOut.into())),
    };
    let status = child.wait()?;
    Ok((status.success(), String::from_utf8_lossy(&output).into_owned()))
}

fn reap<T>(mut child: Child, result: io::Result<T>) -> io::Result<T> {
    // It may have ended by itself.
    child.kill().ok();
    child.wait().ok();
    result
}
