//! Secrets and agents: where each is, looked up before anything is built. What a file holds is read when a step
//! asks for it.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use builder::Secrets;
use builder::request::SecretSource;

use crate::failure::Failure;
use crate::home::Environment;
use crate::value::{Agent, Secret, SecretPlace};

/// The variable with the socket of the user's agent; ssh-agent(1).
pub(super) const AGENT: &str = "SSH_AUTH_SOCK";

/// `--secret`; the last of an id counts.
pub(super) fn secrets(asked: &[Secret], environment: &Environment) -> Result<Secrets, Failure> {
    asked.iter().map(|secret| Ok((secret.id.clone(), source(secret, environment)?))).collect()
}

fn source(secret: &Secret, environment: &Environment) -> Result<SecretSource, Failure> {
    let variable = |name: &str| environment.bytes(name).map(|value| SecretSource::Value(value.to_owned()));
    match &secret.source {
        // As Docker has it, a variable that is not set is a secret that is empty.
        SecretPlace::Variable(name) => Ok(variable(name).unwrap_or(SecretSource::Value(Vec::new()))),
        SecretPlace::Unsaid => {
            variable(&secret.id).map_or_else(|| file(&secret.id, Path::new(&secret.id)), Ok)
        }
        SecretPlace::File(path) => file(&secret.id, path),
    }
}

fn file(id: &str, path: &Path) -> Result<SecretSource, Failure> {
    let shown = path.display();
    match path.canonicalize() {
        Ok(path) if path.is_dir() => Err(Failure::usage(format!(
            "expected a file as the secret `{id}`, found the directory `{shown}`"
        ))),
        Ok(path) => Ok(SecretSource::File(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::usage(format!("there is no file `{shown}` for the secret `{id}`"))
                .hint("`--secret id=ID,src=FILE` names a file, `--secret id=ID,env=NAME` a variable"))
        }
        Err(error) => Err(Failure::file("open the secret", path, &error)),
    }
}

/// `--ssh`: sockets by id; the last of an id counts.
pub(super) fn agents(
    asked: &[Agent],
    environment: &Environment,
) -> Result<BTreeMap<String, PathBuf>, Failure> {
    asked.iter().map(|agent| Ok((agent.id.clone(), socket(agent, environment)?))).collect()
}

fn socket(agent: &Agent, environment: &Environment) -> Result<PathBuf, Failure> {
    const START: &str = "`eval $(ssh-agent)` starts an agent, `ssh-add` gives it a key";
    let id = &agent.id;
    let path = agent.socket.clone().or_else(|| environment.path(AGENT)).ok_or_else(|| {
        Failure::usage(format!("`--ssh {id}` needs an agent: `${AGENT}` is not set")).hint(START)
    })?;
    let shown = path.display();
    match path.metadata() {
        Ok(metadata) if metadata.file_type().is_socket() => {
            std::path::absolute(&path).map_err(|error| Failure::file("open the agent", &path, &error))
        }
        Ok(_) => Err(Failure::usage(format!("`--ssh {id}={shown}`: expected the socket of an agent"))
            .hint(format!("keys go to an agent: `ssh-add {shown}`, then `--ssh {id}`"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::usage(format!("no agent listens at `{shown}`")).hint(START))
        }
        Err(error) => Err(Failure::file("open the agent", &path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn secrets_are_where_they_are_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "in the file").unwrap();
        let environment = Environment::of([("TOKEN", "in the environment")]);
        let shown = path.display();
        let read = |text: &str, id: &str| {
            let secrets = secrets(&[text.parse().unwrap()], &environment)?;
            Ok::<_, Failure>(secrets.read(id).unwrap().map(|value| String::from_utf8(value).unwrap()))
        };
        for (text, id, expected) in [
            (format!("id=a,src={shown}"), "a", "in the file"),
            ("id=a,env=TOKEN".into(), "a", "in the environment"),
            ("id=TOKEN".into(), "TOKEN", "in the environment"),
            (format!("id={shown}"), path.to_str().unwrap(), "in the file"),
            ("id=a,env=ABSENT".into(), "a", ""),
        ] {
            assert_eq!(read(&text, id), Ok(Some(expected.to_owned())), "{text}");
        }
        for (text, expected) in [
            ("id=nothing".to_owned(), "there is no file `nothing` for the secret `nothing`"),
            (format!("id=a,src={shown}x"), "there is no file"),
            (format!("id=a,src={}", dir.path().display()), "found the directory"),
        ] {
            let failure = read(&text, "a").expect_err(&text).to_string();
            assert!(failure.contains(expected), "{failure}");
        }
    }

    #[test]
    fn agents_are_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, key) = (dir.path().join("agent"), dir.path().join("id_ed25519"));
        let listener = UnixListener::bind(&socket).unwrap();
        std::fs::write(&key, "").unwrap();
        let environment = Environment::of([(AGENT, socket.to_str().unwrap())]);
        let find = |text: String, environment: &Environment| agents(&[text.parse().unwrap()], environment);
        for text in ["default".to_owned(), "default=".into(), format!("default={}", socket.display())] {
            let expected = BTreeMap::from([("default".to_owned(), socket.clone())]);
            assert_eq!(find(text, &environment), Ok(expected));
        }
        let failure = find("default".into(), &Environment::default()).expect_err("no agent").to_string();
        assert!(failure.contains("`$SSH_AUTH_SOCK` is not set") && failure.contains("ssh-add"), "{failure}");
        let failure = find(format!("a={}", key.display()), &environment).expect_err("a key").to_string();
        assert!(failure.contains("expected the socket") && failure.contains("ssh-add"), "{failure}");
        let absent =
            find(format!("a={}", dir.path().join("x").display()), &environment).expect_err("nothing");
        assert!(absent.to_string().contains("no agent listens"), "{absent}");
        drop(listener);
    }
}
