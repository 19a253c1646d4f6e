//! Which texts name a git repository, and what they say about it.
//!
//! Here: the forms that `ADD` and a build context take, their fragment (`#ref:subdir`) and their query. Not here:
//! what a reference stands for, which only the repository knows.
//!
//! The rules are those of BuildKit's frontend (study of BuildKit, 1.6, point 20): `ssh://` and `git://` and
//! `user@host:path` are git; `http(s)://` is if its path ends in `.git`; `github.com/…` is for a context alone.
//! Stricter than BuildKit, since git would fail later and say less: a reference that git does not allow, a
//! subdirectory with `..`, and a host or a path that git or ssh could take for an option are refused here.

use std::net::Ipv6Addr;
use std::path::{Component, Path, PathBuf};

use super::{Address, Form, GitSource, Mtime, ParseError};

/// Reads `text` as a repository; `None` if it is none.
pub(super) fn parse(text: &str, form: Form) -> Result<Option<GitSource>, ParseError> {
    let Some((remote, options)) = split(text, form)? else { return Ok(None) };
    let mut source = GitSource::new(Address::new(remote));
    if let Some(fragment) = options.fragment {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        source.reference = reference_of(&decode(reference)?)?;
        source.subdir = subdir_of(&decode(subdir)?)?;
    }
    if let Some(query) = options.query {
        Query::parse(query)?.apply(&mut source)?;
    }
    Ok(Some(source))
}

/// The repository of a submodule: any address that this crate fetches from, without options.
pub(super) fn submodule(text: &str) -> Result<Address, ParseError> {
    let address = Address::new(text.to_owned());
    let unusable = |reason| ParseError::Address { address: address.to_string(), reason };
    match scheme(text) {
        Some("http" | "https" | "ssh" | "git") => check_authority(text)?,
        Some(_) => return Err(unusable("expected `https`, `http`, `ssh` or `git` before `://`")),
        None if scp(text).is_some() => {}
        None => return Err(unusable("expected an address such as `https://HOST/PATH.git`")),
    }
    Ok(address)
}

/// What follows a repository's address.
struct Options<'a> {
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

/// The repository's address and what follows it; `None` if this is no repository.
fn split(text: &str, form: Form) -> Result<Option<(String, Options<'_>)>, ParseError> {
    let (rest, fragment) = cut(text, '#');
    let (remote, query) = cut(rest, '?');
    let options = Options { query, fragment };
    if form == Form::Context && remote.starts_with("github.com/") {
        let remote = format!("https://{remote}");
        check_authority(&remote)?;
        return Ok(Some((remote, options)));
    }
    let is_git = match scheme(remote) {
        Some("ssh" | "git") => true,
        Some("http" | "https") => path_of(remote).ends_with(".git"),
        Some(_) => false,
        None => scp(remote).is_some(),
    };
    if !is_git {
        return Ok(None);
    }
    if scheme(remote).is_some() {
        check_authority(remote)?;
    }
    Ok(Some((remote.to_owned(), options)))
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

/// The scheme before `://`, if it is one; the known ones in lower case.
pub(super) fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let known = ["http", "https", "ssh", "git"];
    Some(known.into_iter().find(|known| scheme.eq_ignore_ascii_case(known)).unwrap_or(scheme))
}

/// The path of `scheme://authority/path`, without the slash.
fn path_of(text: &str) -> &str {
    text.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path)
}

/// Host and path of `user@host:path`, as ssh has it.
pub(super) fn scp(text: &str) -> Option<(&str, &str)> {
    let (user, rest) = text.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    let is = |text: &str, more: &[u8]| !text.starts_with('-') && is_word(text, more);
    let is_path = !path.is_empty() && !path.starts_with('-') && !path.chars().any(char::is_control);
    (is(user, b"-_") && is(host, b"-.") && is_path).then_some((host, path))
}

/// Whether this is one or more letters, digits and what `more` has.
fn is_word(text: &str, more: &[u8]) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
}

/// Whether what stands between `://` and the path can be user, host and port.
fn check_authority(text: &str) -> Result<(), ParseError> {
    let refuse =
        |reason| Err(ParseError::Address { address: Address::new(text.to_owned()).to_string(), reason });
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return refuse("it contains a space or a control character");
    }
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, authority),
    };
    let begins = |part: &str| part.starts_with('-');
    if login.is_some_and(begins) || begins(host) || begins(path_of(text)) {
        return refuse("no part of it may begin with `-`");
    }
    // Of these git decodes user and host, and ssh finds more in them than a name; passwords are for http alone.
    let is_http = matches!(scheme(text), Some("http" | "https"));
    if login.is_some_and(|user| !is_http && !is_word(user, b"-._")) {
        return refuse("expected letters, digits, `.`, `_` and `-` as the user, and no password");
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let is_host = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_word(name, b"-._"),
    };
    if !is_host {
        return refuse("expected a host name");
    }
    if !port.is_empty() && (!is_word(port, b"") || port.parse::<u16>().is_err()) {
        return refuse("expected a port from 0 to 65535");
    }
    if path_of(text).is_empty() {
        return refuse("expected a path behind the host");
    }
    Ok(())
}

/// What a query says, each name at most once.
#[derive(Default)]
struct Query {
    reference: Option<String>,
    tag: Option<String>,
    branch: Option<String>,
    subdir: Option<String>,
    checksum: Option<String>,
    keep_git_dir: Option<bool>,
    submodules: Option<bool>,
    mtime: Option<Mtime>,
    fetch_by_commit: Option<bool>,
}

impl Query {
    const NAMES: [&'static str; 10] = [
        "ref",
        "tag",
        "branch",
        "subdir",
        "checksum",
        "commit",
        "keep-git-dir",
        "submodules",
        "mtime",
        "fetch-by-commit",
    ];

    fn parse(text: &str) -> Result<Query, ParseError> {
        let mut query = Query::default();
        let mut seen: Vec<String> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = cut(pair, '=');
            let name = decode(&name.replace('+', " "))?;
            let value = decode(&value.unwrap_or_default().replace('+', " "))?;
            if seen.contains(&name) {
                return Err(ParseError::RepeatedQuery { name });
            }
            query.set(&name, value)?;
            seen.push(name);
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), ParseError> {
        match name {
            "keep-git-dir" => self.keep_git_dir = Some(boolean(name, &value)?),
            "submodules" => self.submodules = Some(boolean(name, &value)?),
            "fetch-by-commit" => self.fetch_by_commit = Some(boolean(name, &value)?),
            _ if !Query::NAMES.contains(&name) => {
                return Err(ParseError::UnknownQuery { name: name.to_owned() });
            }
            _ if value.is_empty() => return Err(bad_value(name, &value, "a value")),
            "ref" => self.reference = Some(value),
            "tag" => self.tag = Some(value),
            "branch" => self.branch = Some(value),
            "subdir" => self.subdir = Some(value),
            "mtime" => {
                self.mtime = Some(match value.as_str() {
                    "checkout" => Mtime::Checkout,
                    "commit" => Mtime::Commit,
                    _ => return Err(bad_value(name, &value, "`checkout` or `commit`")),
                });
            }
            // `commit` and `checksum` are two names for one thing.
            _ => self.checksum = Some(agree("checksum", self.checksum.take(), checksum(&value)?)?),
        }
        Ok(())
    }

    /// Adds all this to what the fragment says.
    fn apply(self, source: &mut GitSource) -> Result<(), ParseError> {
        let of = |prefix: &str, name: String| match name.starts_with(prefix) {
            true => name,
            false => format!("{prefix}{name}"),
        };
        if let (Some(tag), Some(branch)) = (&self.tag, &self.branch) {
            let (first, second) = (tag.clone(), branch.clone());
            return Err(ParseError::Conflict { name: "tag and branch", first, second });
        }
        let tag = self.tag.map(|tag| of("refs/tags/", tag));
        let branch = self.branch.map(|branch| of("refs/heads/", branch));
        for reference in [self.reference, tag, branch].into_iter().flatten() {
            source.reference = match reference_of(&reference)? {
                Some(reference) => Some(agree("ref", source.reference.take(), reference)?),
                None => source.reference.take(),
            };
        }
        if let Some(subdir) = self.subdir {
            let subdir = subdir_of(&subdir)?;
            match (&source.subdir, &subdir) {
                (Some(first), Some(second)) if first != second => {
                    let (first, second) = (first.display().to_string(), second.display().to_string());
                    return Err(ParseError::Conflict { name: "subdir", first, second });
                }
                (_, Some(_)) => source.subdir = subdir,
                (_, None) => {}
            }
        }
        if let Some(checksum) = self.checksum {
            source.reference.get_or_insert_with(|| checksum.clone());
            source.checksum = Some(checksum);
        }
        source.keep_git_dir = self.keep_git_dir;
        source.submodules = self.submodules.unwrap_or(true);
        source.mtime = self.mtime;
        source.fetch_by_commit = self.fetch_by_commit.unwrap_or(false);
        match source.checksum.as_deref() {
            Some(checksum) if source.fetch_by_commit && !is_full_hash(checksum) => {
                Err(bad_value("fetch-by-commit", "true", "all digits of the commit in `checksum`"))
            }
            None if source.fetch_by_commit => {
                Err(bad_value("fetch-by-commit", "true", "the commit in `checksum`"))
            }
            _ => Ok(()),
        }
    }
}

fn bad_value(name: &str, value: &str, expected: &'static str) -> ParseError {
    ParseError::QueryValue { name: name.to_owned(), value: value.to_owned(), expected }
}

fn boolean(name: &str, value: &str) -> Result<bool, ParseError> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(bad_value(name, value, "`true` or `false`")),
    }
}

fn agree(name: &'static str, first: Option<String>, second: String) -> Result<String, ParseError> {
    match first {
        Some(first) if first != second => Err(ParseError::Conflict { name, first, second }),
        _ => Ok(second),
    }
}

/// A commit's hash or the beginning of one, in lower case.
pub(super) fn checksum(text: &str) -> Result<String, ParseError> {
    let is_hash = (4..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_hash {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(ParseError::Checksum {
            text: text.to_owned(),
            expected: "4 to 64 hexadecimal digits of the commit",
        }),
    }
}

/// Whether this is a whole SHA-1 or SHA-256 of git.
pub(super) fn is_full_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hash_beginning(text)
}

/// Whether this may be a shortened hash.
pub(super) fn is_hash_beginning(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (4..=64).contains(&text.len()) && text.bytes().all(is_digit)
}

/// A reference that git allows (git-check-ref-format(1)); `None` for none at all.
fn reference_of(text: &str) -> Result<Option<String>, ParseError> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let is_component = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let is_good = !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains(is_bad)
        && !text.contains("..")
        && !text.contains("@{")
        && text != "@"
        && text.split('/').all(is_component);
    match is_good {
        true => Ok(Some(text.to_owned())),
        false => Err(ParseError::Reference { reference: text.to_owned() }),
    }
}

/// A path below the repository's root; `None` for the root.
fn subdir_of(text: &str) -> Result<Option<PathBuf>, ParseError> {
    let refuse = || ParseError::Subdirectory { path: text.to_owned() };
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refuse()),
        }
    }
    match text.contains('\0') {
        true => Err(refuse()),
        false => Ok(Some(path).filter(|path| !path.as_os_str().is_empty())),
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, ParseError> {
    let refuse = || ParseError::Encoding { text: text.to_owned() };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let hex = after.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit)).ok_or_else(refuse)?;
        let hex = std::str::from_utf8(hex).map_err(|_| refuse())?;
        bytes.push(u8::from_str_radix(hex, 16).map_err(|_| refuse())?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| refuse())
}

#[cfg(test)]
mod tests;
