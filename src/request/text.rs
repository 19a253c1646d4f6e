//! The texts that a build begins with: a Dockerfile, an ignore file. They are read whole, and are UTF-8.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use builder::Context;
use builder::dockerfile::diagnostic::suggest;
use builder::ignore::Ignore;

use super::place::USUAL_NAMES;
use crate::failure::Failure;

/// Nobody writes a larger Dockerfile; what is larger is something else.
pub(super) const MAX_DOCKERFILE_BYTES: u64 = 16 * 1024 * 1024;

/// A Dockerfile's text, and what to call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dockerfile {
    /// Relative to the context if it lies in there, else as typed.
    pub(crate) name: String,
    pub(crate) text: String,
    /// Where it lies on this machine, if it does.
    pub(crate) path: Option<PathBuf>,
}

impl Dockerfile {
    /// One that came from elsewhere.
    pub(super) fn of(name: impl Into<String>, bytes: impl Read) -> Result<Dockerfile, Failure> {
        let name = name.into();
        Ok(Dockerfile { text: read_text(bytes, Path::new(&name))?, name, path: None })
    }

    /// Standard input.
    pub(super) fn stdin() -> Result<Dockerfile, Failure> {
        let text = read_text(io::stdin().lock(), Path::new("standard input"))?;
        Ok(Dockerfile { name: USUAL_NAMES[0].to_owned(), text, path: None })
    }

    /// `file` as typed. `root` is the context's directory, if it is one.
    pub(super) fn read(file: &Path, root: Option<&Path>) -> Result<Dockerfile, Failure> {
        let opened = open(file)?.ok_or_else(|| missing_dockerfile(file))?;
        Dockerfile::read_opened(opened, file, root)
    }

    /// The context's own. `context` is `root` as typed.
    pub(super) fn usual(context: &Path, root: &Path) -> Result<Dockerfile, Failure> {
        for name in USUAL_NAMES {
            let path = root.join(name);
            if let Some(opened) = open(&path)? {
                return Dockerfile::read_opened(opened, &path, Some(root));
            }
        }
        Err(missing_dockerfile(&context.join(USUAL_NAMES[0])))
    }

    fn read_opened(opened: File, path: &Path, root: Option<&Path>) -> Result<Dockerfile, Failure> {
        if opened.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            let message = format!("expected a Dockerfile, found the directory `{}`", path.display());
            return Err(Failure::usage(message));
        }
        let text = read_text(opened, path)?;
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = root.and_then(|root| real.strip_prefix(root).ok()).unwrap_or(path).display().to_string();
        Ok(Dockerfile { name, text, path: Some(path.to_owned()) })
    }
}

fn open(path: &Path) -> Result<Option<File>, Failure> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file("open", path, &error)),
    }
}

/// Names a file of the directory that may have been meant.
fn missing_dockerfile(path: &Path) -> Failure {
    let failure = Failure::usage(format!("there is no `{}`", tidy(path).display()));
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return failure;
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(entries) = std::fs::read_dir(dir) else { return failure };
    let names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let prefix = || names.iter().find(|other| other.to_lowercase().starts_with(&name.to_lowercase()));
    match suggest(name, names.iter().map(String::as_str)).or_else(|| prefix().map(String::as_str)) {
        Some(near) => failure.hint(format!("did you mean `-f {}`?", tidy(&dir.join(near)).display())),
        None => failure.hint("`-f FILE` names another one"),
    }
}

/// Without a leading `./`.
fn tidy(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

/// # Errors
/// With the place of the first byte that is no text.
pub(super) fn read_text(source: impl Read, path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    source
        .take(MAX_DOCKERFILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::file("read", path, &error))?;
    if bytes.len() as u64 > MAX_DOCKERFILE_BYTES {
        let limit = MAX_DOCKERFILE_BYTES >> 20;
        let message = format!("`{}` is larger than {limit} MiB: expected a Dockerfile", path.display());
        return Err(Failure::usage(message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let line = 1 + valid.matches('\n').count();
        let column = 1 + valid.chars().rev().take_while(|&c| c != '\n').count();
        Failure::not_utf8(path, line, column)
    })
}

/// A directory to copy from, with what its ignore file leaves out.
///
/// `<dockerfile>.dockerignore` wins entirely over the directory's own file.
pub(super) fn context(root: PathBuf, dockerfile: Option<&Dockerfile>) -> Result<Context, Failure> {
    let beside = dockerfile.and_then(|dockerfile| {
        let mut path = dockerfile.path.clone()?.into_os_string();
        path.push(".dockerignore");
        Some((PathBuf::from(path), format!("{}.dockerignore", dockerfile.name)))
    });
    let own = (root.join(".dockerignore"), ".dockerignore".to_owned());
    for (path, name) in beside.into_iter().chain([own]) {
        let Some(file) = open(&path)? else { continue };
        let text = read_text(file, &path)?;
        let ignore = Ignore::parse(text.as_bytes()).map_err(|error| Failure::ignore(&name, &error))?;
        return Ok(Context { root, ignore, ignore_name: name, ignore_text: text });
    }
    Ok(without_ignore_file(root))
}

/// A directory of which nothing is left out.
pub(super) fn without_ignore_file(root: PathBuf) -> Context {
    let ignore_name = ".dockerignore".to_owned();
    Context { root, ignore: Ignore::default(), ignore_name, ignore_text: String::new() }
}
