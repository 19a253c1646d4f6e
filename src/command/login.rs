//! `lbuild login` and `lbuild logout`: a registry's account, kept where Docker and podman look for it.
//!
//! Order of a login: name and password, from options, standard input or a terminal; the registry is asked whether they
//! are right; only then are they kept.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;

use oci::Reference;
use registry::auth::keychain::normal;
use registry::{ConfigFile, Credential, Kept, Keychain};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::args::{LoginArgs, LogoutArgs};
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::{Facts, Failure};
use crate::home::Registries;
use crate::output;
use crate::text;

/// The registry that is meant when none is named.
const HUB: &str = "docker.io";
const MAX_PASSWORD_BYTES: u64 = 64 * 1024;

pub(crate) fn login(args: &LoginArgs, session: &Session) -> Result<Exit, Failure> {
    let server = args.server.as_deref().unwrap_or(HUB);
    let reference = any_repository(server)?;
    let username = match &args.username {
        Some(name) => name.clone(),
        None if args.password_stdin => return Err(Failure::usage("`--password-stdin` needs `--username`")),
        None => ask("Username: ", false)?,
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => from_stdin()?,
        None => ask("Password: ", true)?,
    };
    if username.is_empty() || password.is_empty() {
        return Err(Failure::usage("a name and a password are needed, and one of them is empty"));
    }
    if username.contains(':') {
        // It would end there, and the rest begin the password. (RFC 7617, 2.)
        return Err(Failure::usage(format!("a name has no colon: `{username}`")));
    }
    let credential = Credential::Basic { username: username.clone(), password: password.clone() };
    let keychain = Keychain::anonymous().and(server, credential);
    let registries = Registries::with_keychain(keychain, &args.registry, &session.environment)?;
    registries.client.log_in(&reference).map_err(|error| {
        let message = format!("cannot log in to `{}`", reference.registry());
        Failure::image(message, &reference, &error, &Facts::default())
    })?;
    let mut file = open(args.authfile.as_ref(), session)?;
    let kept = file.store(server, &username, &password).map_err(|error| {
        let failure = Failure::environment(&error);
        match error {
            registry::Error::KeepNamespace { .. } => failure.hint(format!(
                "`lbuild login {}` is for all of it, and `--authfile FILE` keeps this account in another file",
                reference.registry()
            )),
            _ => failure,
        }
    })?;
    if kept == Kept::File {
        let path = text::printable(&file.path().display().to_string());
        // Nobody may be there to read it.
        writeln!(io::stderr().lock(), "warning: the password is kept unencrypted in `{path}`\nhint: `credsStore` in it names a program that keeps it safe").ok();
    }
    output::print("Login Succeeded\n")?;
    Ok(Exit::Done)
}

pub(crate) fn logout(args: &LogoutArgs, session: &Session) -> Result<Exit, Failure> {
    let server = args.server.as_deref().unwrap_or(HUB);
    any_repository(server)?;
    let mut file = open(args.authfile.as_ref(), session)?;
    let was_known = file.erase(server).map_err(|error| Failure::environment(&error))?;
    let said = if was_known { "Removed login credentials for" } else { "Not logged in to" };
    output::print(&format!("{said} {server}\n"))?;
    Ok(Exit::Done)
}

/// A repository of the registry, as good as any other.
fn any_repository(server: &str) -> Result<Reference, Failure> {
    let registry = normal(server);
    let wrong = || {
        Failure::usage(format!("`{server}` is no registry"))
            .hint("say a host, with a port if it is not that of https: `registry.example:5000`")
    };
    let reference: Reference = format!("{registry}/any").parse().map_err(|_| wrong())?;
    let host = registry.split('/').next().unwrap_or_default();
    if reference.registry() == host { Ok(reference) } else { Err(wrong()) }
}

fn open(authfile: Option<&PathBuf>, session: &Session) -> Result<ConfigFile, Failure> {
    let path = authfile.cloned().or_else(|| session.environment.login_file()).ok_or_else(|| {
        Failure::usage("no place for credentials: `$HOME` is not set")
            .hint("say `--authfile FILE` or set `$DOCKER_CONFIG`")
    })?;
    ConfigFile::open(&path).map_err(|error| Failure::environment(&error))
}

/// All of standard input, without the end of its last line.
fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin()
        .take(MAX_PASSWORD_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| Failure::environment_because("cannot read the password", error.to_string()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Asks whoever sits at the terminal; a secret is not shown.
fn ask(prompt: &str, is_secret: bool) -> Result<String, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for name and password")
            .hint("say `--username NAME --password-stdin`"));
    }
    let fail = |error: io::Error| Failure::environment_because("cannot ask", error.to_string());
    let mut err = io::stderr().lock();
    write!(err, "{prompt}").and_then(|()| err.flush()).map_err(fail)?;
    let _shown_again = is_secret.then(Hidden::new).transpose().map_err(fail)?;
    let mut line = String::new();
    stdin.read_line(&mut line).map_err(fail)?;
    if is_secret {
        writeln!(err).map_err(fail)?;
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// A terminal that shows nothing of what is typed until this is dropped.
struct Hidden(rustix::termios::Termios);

impl Hidden {
    fn new() -> io::Result<Hidden> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Hidden(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        tcsetattr(io::stdin(), OptionalActions::Now, &self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_registries() {
        for (server, registry) in [
            ("docker.io", Some("docker.io")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("registry-1.docker.io", Some("docker.io")),
            ("index.docker.io/me", Some("docker.io")),
            ("localhost:5000", Some("localhost:5000")),
            ("ghcr.io/me", Some("ghcr.io")),
            ("http://registry.example/", Some("registry.example")),
            ("nohost", None),
            ("", None),
            ("a b", None),
        ] {
            let found = any_repository(server).ok().map(|reference| reference.registry().to_owned());
            assert_eq!(found.as_deref(), registry, "{server}");
        }
    }
}
