//! The texts that a build begins with: a Dockerfile, an ignore file. They are read whole, and are UTF-8.
//!
//! What lies in the context is not trusted to stay in it: links are followed inside the context only, as `COPY` does,
//! because messages show what a Dockerfile says. A path that the user names outside of it is the user's own.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use builder::Context;
use builder::dockerfile::diagnostic::suggest;
use builder::ignore::Ignore;
use layerfs::confined::Root;

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
    place: Place,
}

/// Where a Dockerfile lies.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In the context, at this path below its root.
    Context(PathBuf),
    /// On this machine.
    Here(PathBuf),
    /// In no place that has files beside it.
    Elsewhere,
}

impl Dockerfile {
    /// One that came from elsewhere.
    pub(super) fn of(name: impl Into<String>, bytes: impl Read) -> Result<Dockerfile, Failure> {
        let name = name.into();
        Ok(Dockerfile { text: read_text(bytes, Path::new(&name))?, name, place: Place::Elsewhere })
    }

    /// Standard input.
    pub(super) fn stdin() -> Result<Dockerfile, Failure> {
        let text = read_text(io::stdin().lock(), Path::new("standard input"))?;
        Ok(Dockerfile { name: USUAL_NAMES[0].to_owned(), text, place: Place::Elsewhere })
    }

    /// `file` as typed. `root` is the context's directory, if it is one.
    pub(super) fn read(file: &Path, root: Option<&Path>) -> Result<Dockerfile, Failure> {
        if let Some((root, path)) = root.and_then(|root| Some((root, below(root, file)?))) {
            let context = Root::open(root).map_err(|error| Failure::environment(&error))?;
            return Dockerfile::read_in(&context, path, file)?.ok_or_else(|| missing_dockerfile(file));
        }
        let opened = open(file)?.ok_or_else(|| missing_dockerfile(file))?;
        if opened.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(expected("a Dockerfile", "directory", file));
        }
        let text = read_text(opened, file)?;
        let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let name = root.and_then(|root| real.strip_prefix(root).ok()).unwrap_or(file).display().to_string();
        Ok(Dockerfile { name, text, place: Place::Here(file.to_owned()) })
    }

    /// The context's own. `context` is `root` as typed.
    pub(super) fn usual(context: &Path, root: &Path) -> Result<Dockerfile, Failure> {
        let opened = Root::open(root).map_err(|error| Failure::environment(&error))?;
        for name in USUAL_NAMES {
            if let Some(dockerfile) = Dockerfile::read_in(&opened, name.into(), &root.join(name))? {
                return Ok(dockerfile);
            }
        }
        Err(missing_dockerfile(&context.join(USUAL_NAMES[0])))
    }

    /// The one at `path` in the context; `shown` is what messages call it until it is read.
    fn read_in(context: &Root, path: PathBuf, shown: &Path) -> Result<Option<Dockerfile>, Failure> {
        let Some(opened) = open_in(context, &path, "a Dockerfile", shown)? else { return Ok(None) };
        let text = read_text(opened, shown)?;
        Ok(Some(Dockerfile { name: path.display().to_string(), text, place: Place::Context(path) }))
    }
}

/// The path of `file` below `root`, which is absolute and without links, if it was typed as a path in there. It may yet
/// lead out of it through links in the context, which are not the user's word.
fn below(root: &Path, file: &Path) -> Option<PathBuf> {
    // Nothing leads out of `/`.
    root.parent()?;
    let file = std::path::absolute(file).ok()?;
    let inside = |holder: &Path| {
        let real = holder.canonicalize().ok()?;
        Some(real.strip_prefix(root).ok()?.join(file.strip_prefix(holder).ok()?))
    };
    let path = file.ancestors().skip(1).find_map(inside)?;
    let mut depth = 0;
    let climbs = |component| {
        depth += if component == Component::ParentDir { -1 } else { 1 };
        depth < 0
    };
    (!path.components().any(climbs)).then_some(path)
}

/// What the user named.
fn open(path: &Path) -> Result<Option<File>, Failure> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file("open", path, &error)),
    }
}

/// The file at `path` in the context, which is to be `what`; `shown` is where it is on this machine.
fn open_in(context: &Root, path: &Path, what: &str, shown: &Path) -> Result<Option<File>, Failure> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match context.open_file(path) {
        Ok(file) => Ok(Some(file)),
        Err(layerfs::Error::File { source, .. }) if matches!(source.kind(), NotFound | NotADirectory) => {
            match shown.symlink_metadata() {
                Err(_) => Ok(None),
                Ok(_) => Err(Failure::usage(format!("`{}` leads out of the build context", shown.display()))
                    .hint("links in a context are followed inside of it; `-f` names a Dockerfile outside")),
            }
        }
        Err(layerfs::Error::File { act, source, .. }) => Err(Failure::file(act, shown, &source)),
        Err(layerfs::Error::NotAFile { found, .. }) => Err(expected(what, found.name(), shown)),
        Err(error) => Err(Failure::environment(&error)),
    }
}

fn expected(what: &str, found: &str, path: &Path) -> Failure {
    Failure::usage(format!("expected {what}, found the {found} `{}`", path.display()))
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
    let mut context = without_ignore_file(root)?;
    let Some((name, text)) = ignore_file(&context, dockerfile)? else { return Ok(context) };
    context.ignore = Ignore::parse(text.as_bytes()).map_err(|error| Failure::ignore(&name, &error))?;
    (context.ignore_name, context.ignore_text) = (name, text);
    Ok(context)
}

/// A directory of which nothing is left out.
pub(super) fn without_ignore_file(root: PathBuf) -> Result<Context, Failure> {
    Context::open(root).map_err(|error| Failure::environment(&error))
}

/// The name and the text of the ignore file that counts.
fn ignore_file(
    context: &Context,
    dockerfile: Option<&Dockerfile>,
) -> Result<Option<(String, String)>, Failure> {
    let own = |path: PathBuf| {
        let shown = context.root.join(&path);
        let opened = open_in(context.files(), &path, "an ignore file", &shown)?;
        let text = opened.map(|file| read_text(file, &shown)).transpose()?;
        Ok(text.map(|text| (path.display().to_string(), text)))
    };
    let beside = match dockerfile.map(|dockerfile| (&dockerfile.place, &dockerfile.name)) {
        Some((Place::Context(path), _)) => own(ignore_path(path))?,
        Some((Place::Here(path), name)) => {
            let path = ignore_path(path);
            let text = open(&path)?.map(|file| read_text(file, &path)).transpose()?;
            text.map(|text| (format!("{name}.dockerignore"), text))
        }
        Some((Place::Elsewhere, _)) | None => None,
    };
    match beside {
        Some(found) => Ok(Some(found)),
        None => own(".dockerignore".into()),
    }
}

/// The path of the ignore file of one Dockerfile.
fn ignore_path(dockerfile: &Path) -> PathBuf {
    let mut path = dockerfile.as_os_str().to_owned();
    path.push(".dockerignore");
    path.into()
}
