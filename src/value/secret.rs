//! `--secret` and `--ssh`: what is lent to single steps. Where it is looked up is for `request`.

use std::path::PathBuf;
use std::str::FromStr;

use super::fields;

/// `id=ID[,src=PATH|env=NAME][,type=file|env]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) id: String,
    pub(crate) source: SecretPlace,
}

/// Where a secret is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretPlace {
    File(PathBuf),
    Variable(String),
    /// Nothing was said: the variable that is called as the secret is, else the file of that name.
    Unsaid,
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Secret, String> {
        let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
        for (key, value) in fields::pairs(text)? {
            let place = match key.as_str() {
                "id" => &mut id,
                "src" | "source" => &mut file,
                "env" => &mut variable,
                "type" if matches!(value.as_str(), "file" | "env") => &mut kind,
                "type" => return Err(format!("unknown type `{value}`: expected `file` or `env`")),
                _ => return Err(format!("unknown key `{key}`: expected `id`, `src`, `env` or `type`")),
            };
            *place = Some(value).filter(|value| !value.is_empty());
        }
        let id = id.ok_or("no `id`: expected `id=ID,src=PATH` or `id=ID,env=NAME`")?;
        let source = match (file, variable, kind.as_deref()) {
            (Some(_), Some(_), _) => {
                return Err("`src` and `env` exclude each other: a secret is in one place".to_owned());
            }
            (None, Some(_), Some("file")) => {
                return Err("`type=file` has a path: expected `src=PATH`, found `env`".to_owned());
            }
            (Some(name), None, Some("env")) | (None, Some(name), _) => SecretPlace::Variable(name),
            (Some(path), None, _) => SecretPlace::File(path.into()),
            (None, None, _) => SecretPlace::Unsaid,
        };
        Ok(Secret { id, source })
    }
}

/// `default`, `ID` or `ID=SOCKET`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) id: String,
    /// The agent's socket, where it is not the one of the environment.
    pub(crate) socket: Option<PathBuf>,
}

impl FromStr for Agent {
    type Err = String;

    fn from_str(text: &str) -> Result<Agent, String> {
        let (id, socket) = match text.split_once('=') {
            Some((id, socket)) => (id, Some(socket).filter(|socket| !socket.is_empty())),
            None => (text, None),
        };
        if id.is_empty() {
            return Err("expected `default`, `ID` or `ID=SOCKET`".to_owned());
        }
        if socket.is_some_and(|socket| socket.contains(',')) {
            return Err(format!("expected the socket of one agent, found `{}`", socket.unwrap_or_default()));
        }
        Ok(Agent { id: id.to_owned(), socket: socket.map(PathBuf::from) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_in_one_place() {
        let file = |path: &str| SecretPlace::File(path.into());
        let variable = |name: &str| SecretPlace::Variable(name.into());
        for (text, id, source) in [
            ("id=a,src=/x", "a", file("/x")),
            ("id=a,source=x=y", "a", file("x=y")),
            ("type=file,id=a,src=x", "a", file("x")),
            ("id=a,env=B", "a", variable("B")),
            ("id=a,env=B,type=env", "a", variable("B")),
            ("id=a,src=B,type=env", "a", variable("B")),
            ("id=a", "a", SecretPlace::Unsaid),
            ("ID=a,type=env", "a", SecretPlace::Unsaid),
            ("id=a,src=", "a", SecretPlace::Unsaid),
            ("id=a,\"src=x,y\"", "a", file("x,y")),
        ] {
            assert_eq!(text.parse(), Ok(Secret { id: id.into(), source }), "{text}");
        }
        for (text, expected) in [
            ("a", "found `a`"),
            ("", "found ``"),
            ("src=x", "no `id`"),
            ("id=", "no `id`"),
            ("id=a,type=x", "unknown type `x`"),
            ("id=a,file=x", "unknown key `file`"),
            ("id=a,src=x,env=Y", "exclude each other"),
            ("id=a,env=Y,type=file", "expected `src=PATH`"),
        ] {
            let error = text.parse::<Secret>().expect_err(text);
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn agents_have_a_name_and_a_socket() {
        for (text, id, socket) in [
            ("default", "default", None),
            ("github", "github", None),
            ("github=", "github", None),
            ("github=/run/a.sock", "github", Some("/run/a.sock")),
        ] {
            let expected = Agent { id: id.into(), socket: socket.map(Into::into) };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", "=x", "a=x,y"] {
            assert!(text.parse::<Agent>().is_err(), "{text}");
        }
    }
}
