//! The build context and the Dockerfile: told from what was typed, and read where they are on this machine.
//!
//! So a mistake is told at once. What has to be fetched or unpacked is left to [`super::gather`].

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use builder::dockerfile::diagnostic::suggest;
use builder::remote::{self, Address, Form, HttpForm, HttpSource, Remote};

use super::text::Dockerfile;
use crate::args::{self, BuildArgs};
use crate::failure::Failure;

/// What `COPY` and `ADD` read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContextPlace {
    /// A directory, absolute and without links.
    Directory(PathBuf),
    /// Nothing: the Dockerfile came alone.
    Nothing,
    /// An archive on standard input, which began with these bytes.
    Archive { head: Vec<u8> },
    /// A repository, an archive, or a Dockerfile alone.
    Remote(Remote),
}

/// Where the Dockerfile is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DockerfilePlace {
    /// Here.
    Read(Dockerfile),
    /// In the context, which has yet to come: under this name, or under its usual one.
    Inside(Option<PathBuf>),
    /// An address of its own.
    Remote(Remote),
}

/// The names that a Dockerfile has when nobody says another.
pub(super) const USUAL_NAMES: [&str; 2] = ["Dockerfile", "dockerfile"];
/// The build argument that lets a repository that is the context keep its `.git`.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
/// How much of standard input tells what it is: a tar's header is as long.
const HEAD_BYTES: u64 = 512;

/// Both places.
pub(super) fn locate(
    args: &BuildArgs,
    build_args: &BTreeMap<String, String>,
) -> Result<(ContextPlace, DockerfilePlace), Failure> {
    let file = args.input.file.as_deref();
    let typed = args.input.context();
    if typed == Path::new("-") {
        return stdin(file);
    }
    let keeps_git = build_args.get(KEEP_GIT_DIR).is_some_and(|value| matches!(value.as_str(), "1" | "true"));
    let context = context(args, keeps_git)?;
    let root = if let ContextPlace::Directory(root) = &context { Some(root.as_path()) } else { None };
    let dockerfile = match (file, root) {
        (Some(file), _) if file == Path::new("-") => DockerfilePlace::Read(Dockerfile::stdin()?),
        (Some(file), _) if is_address(file) => DockerfilePlace::Remote(Remote::Http(HttpSource {
            url: Address::new(file.to_string_lossy().into_owned()),
            checksum: None,
            form: HttpForm::File,
        })),
        // In what is fetched there are no absolute paths.
        (Some(file), root) if root.is_some() || file.is_absolute() => {
            DockerfilePlace::Read(Dockerfile::read(file, root)?)
        }
        (None, Some(root)) => DockerfilePlace::Read(Dockerfile::usual(typed, root)?),
        (file, _) => DockerfilePlace::Inside(file.map(Path::to_owned)),
    };
    Ok((context, dockerfile))
}

/// Standard input is an archive, or else a Dockerfile.
fn stdin(file: Option<&Path>) -> Result<(ContextPlace, DockerfilePlace), Failure> {
    if file == Some(Path::new("-")) {
        return Err(Failure::usage("the context and the Dockerfile cannot both be standard input"));
    }
    let mut head = Vec::new();
    io::stdin()
        .lock()
        .take(HEAD_BYTES)
        .read_to_end(&mut head)
        .map_err(|error| Failure::file("read", Path::new("standard input"), &error))?;
    if !is_text(&head) {
        return Ok((ContextPlace::Archive { head }, DockerfilePlace::Inside(file.map(Path::to_owned))));
    }
    if let Some(file) = file {
        let message = format!("standard input and `-f {}` are both a Dockerfile", file.display());
        return Err(Failure::usage(message).hint("an archive on standard input would be a context"));
    }
    let dockerfile = Dockerfile::of(USUAL_NAMES[0], head.as_slice().chain(io::stdin().lock()))?;
    Ok((ContextPlace::Nothing, DockerfilePlace::Read(dockerfile)))
}

/// Whether these first bytes can be a text's: no archive that is known, compressed or not, begins like one.
fn is_text(head: &[u8]) -> bool {
    // The last character may have been cut.
    let is_utf8 = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    is_utf8 && !head.contains(&0)
}

fn is_address(file: &Path) -> bool {
    file.to_str().is_some_and(|text| text.starts_with("http://") || text.starts_with("https://"))
}

fn context(args: &BuildArgs, keeps_git: bool) -> Result<ContextPlace, Failure> {
    let context = args.input.context();
    match directory(context, "the build context") {
        Ok(root) => return Ok(ContextPlace::Directory(root)),
        Err(Some(failure)) => return Err(failure),
        Err(None) => {}
    }
    match remote(context.to_str().unwrap_or_default())? {
        Some(remote) => Ok(ContextPlace::Remote(remote.with_keep_git_dir(keeps_git))),
        None => Err(missing_context(args)),
    }
}

/// The directory at `path`, absolute and without links; no failure where nothing is there.
pub(super) fn directory(path: &Path, what: &str) -> Result<PathBuf, Option<Failure>> {
    let shown = path.display();
    match path.canonicalize() {
        Ok(root) if root.is_dir() => Ok(root),
        Ok(_) => {
            Err(Some(Failure::usage(format!("expected a directory as {what}, found the file `{shown}`"))))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(None)
        }
        // An address may be too long for a path.
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Err(None),
        Err(error) => Err(Some(Failure::file(&format!("open {what}"), path, &error))),
    }
}

/// What `text` names outside of this machine.
pub(super) fn remote(text: &str) -> Result<Option<Remote>, Failure> {
    remote::parse(text, Form::Context).map_err(Failure::usage)
}

impl ContextPlace {
    /// What has to be fetched.
    pub(super) fn remote(&self) -> Option<&Remote> {
        if let ContextPlace::Remote(remote) = self { Some(remote) } else { None }
    }
}

/// A context that does not exist may have been meant as a verb.
fn missing_context(args: &BuildArgs) -> Failure {
    let shown = args.input.context().display().to_string();
    if !args.verb_implied || shown.contains('/') {
        return Failure::usage(format!("the build context `{shown}` does not exist"));
    }
    let failure =
        Failure::usage(format!("`{shown}` is neither a verb of lbuild nor a directory to build from"));
    let verbs = args::verbs();
    match suggest(&shown, verbs.iter().map(String::as_str)) {
        Some(verb) => failure.hint(format!("did you mean `lbuild {verb}`?")),
        None => failure.hint("`lbuild --help` lists the verbs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_no_text() {
        let mut tar = vec![0; 512];
        tar[..10].copy_from_slice(b"Dockerfile");
        for (head, expected) in [
            (&b"FROM scratch\n"[..], true),
            (b"", true),
            ("# ä".as_bytes(), true),
            ("# ä".as_bytes().split_at(3).0, true),
            (&tar, false),
            (b"\x1f\x8b\x08\0", false),
            (b"\xfd7zXZ\0", false),
            (b"\x28\xb5\x2f\xfd\x04", false),
            (b"BZh91AY&SY\x9a\x1c\x00", false),
            (b"\xff\xfeF\0R\0", false),
        ] {
            assert_eq!(is_text(head), expected, "{head:?}");
        }
    }
}
