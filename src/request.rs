//! What was typed, resolved to what it means: paths opened, files read, defaults filled in.
//!
//! Comes out: the [`builder::Request`], and what becomes of the image afterwards ([`Delivery`]). Nothing is
//! fetched, locked or written here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use builder::dockerfile::diagnostic::suggest;
use builder::ignore::Ignore;
use builder::{Context, HostFiles};
use oci::{Platform, Reference};

use crate::args::{self, BuildArgs, LimitArgs};
use crate::failure::Failure;
use crate::home::Environment;
use crate::host;
use crate::value::{Bytes, Destination, NanoCpus, Output, Pair};

/// Nobody writes a larger Dockerfile; what is larger is something else.
const MAX_DOCKERFILE_BYTES: u64 = 16 * 1024 * 1024;
/// The build argument and variable that limits times; <https://reproducible-builds.org/specs/source-date-epoch/>.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Where a built image goes.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) tags: Vec<Reference>,
    pub(crate) push: bool,
    pub(crate) outputs: Vec<Output>,
    pub(crate) iidfile: Option<PathBuf>,
    pub(crate) metadata_file: Option<PathBuf>,
}

impl Delivery {
    /// Whether an archive goes to standard output, so that nothing else may.
    pub(crate) fn uses_stdout(&self) -> bool {
        self.outputs.iter().any(|output| output.destination == Destination::Stdout)
    }
}

/// Resolves the arguments of `lbuild build`.
///
/// # Errors
/// The first path or value that is not what it should be.
pub(crate) fn resolve(
    args: &BuildArgs,
    environment: &Environment,
) -> Result<(builder::Request, Delivery), Failure> {
    let root = context_root(args)?;
    let dockerfile = Dockerfile::find(args.file.as_deref(), &args.context, &root)?;
    let context = context(root, &dockerfile)?;
    let mut build_args = build_args(&args.build_args, environment);
    let epoch = epoch(args.source_date_epoch, &build_args, environment)?;
    if let Some(seconds) = epoch {
        // A Dockerfile that declares it sees it, wherever it was said.
        build_args.entry(EPOCH.to_owned()).or_insert_with(|| seconds.to_string());
    }
    let network = match args.network {
        args::Network::Host => builder::Network::Host,
        args::Network::None => builder::Network::None,
    };
    let request = builder::Request {
        dockerfile_name: dockerfile.name,
        dockerfile: dockerfile.text,
        context,
        target: args.target.clone(),
        labels: args
            .labels
            .iter()
            .cloned()
            .map(|Pair { name, value }| (name, value.unwrap_or_default()))
            .collect(),
        platform: platform(args.platform.as_ref())?,
        no_cache: args.no_cache,
        pull: args.pull,
        network,
        limits: limits(&args.limits, None),
        epoch,
        build_args,
        jobs: args.jobs.unwrap_or_else(|| thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        host_files: HostFiles {
            hosts: host::hosts(args.network, builder::exec::HOSTNAME),
            resolv_conf: host::resolv_conf(args.network),
        },
    };
    let delivery = Delivery {
        tags: tags(&args.tags)?,
        push: args.push,
        outputs: args.outputs.clone(),
        iidfile: args.iidfile.clone(),
        metadata_file: args.metadata_file.clone(),
    };
    if delivery.uses_stdout() && io::stdout().is_terminal() {
        return Err(Failure::usage("`dest=-` would write an archive to the terminal")
            .hint("redirect standard output"));
    }
    Ok((request, delivery))
}

/// The context's directory, absolute and without links.
fn context_root(args: &BuildArgs) -> Result<PathBuf, Failure> {
    let context = &args.context;
    let shown = context.display();
    if context == Path::new("-") || context.to_str().is_some_and(|text| text.contains("://")) {
        return Err(Failure::usage(format!(
            "`{shown}` is not a directory: other build contexts are not supported yet"
        )));
    }
    match context.canonicalize() {
        Ok(root) if root.is_dir() => Ok(root),
        Ok(_) => {
            Err(Failure::usage(format!("expected a directory as build context, found the file `{shown}`")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing_context(args)),
        Err(error) => Err(Failure::file("open the build context", context, &error)),
    }
}

/// A context that does not exist may have been meant as a verb.
fn missing_context(args: &BuildArgs) -> Failure {
    let shown = args.context.display().to_string();
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

/// A Dockerfile's text, and what to call it.
struct Dockerfile {
    /// Relative to the context if it lies in there, else as typed.
    name: String,
    text: String,
    /// Where it lies, unless it came by standard input.
    path: Option<PathBuf>,
}

impl Dockerfile {
    /// `file` as typed, else the context's `Dockerfile`. `root` is `context`, resolved.
    fn find(file: Option<&Path>, context: &Path, root: &Path) -> Result<Dockerfile, Failure> {
        if file == Some(Path::new("-")) {
            let text = read_text(io::stdin().lock(), Path::new("standard input"))?;
            return Ok(Dockerfile { name: "Dockerfile".to_owned(), text, path: None });
        }
        let path = file.map_or_else(|| root.join("Dockerfile"), Path::to_owned);
        let opened = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => missing_dockerfile(file.unwrap_or(&context.join("Dockerfile"))),
            _ => Failure::file("open", &path, &error),
        })?;
        if opened.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(Failure::usage(format!(
                "expected a Dockerfile, found the directory `{}`",
                path.display()
            )));
        }
        let text = read_text(opened, &path)?;
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let name = real.strip_prefix(root).unwrap_or(&path).display().to_string();
        Ok(Dockerfile { name, text, path: Some(path) })
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

fn read_text(source: impl Read, path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    source
        .take(MAX_DOCKERFILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::file("read", path, &error))?;
    if bytes.len() as u64 > MAX_DOCKERFILE_BYTES {
        let limit = MAX_DOCKERFILE_BYTES >> 20;
        return Err(Failure::usage(format!(
            "`{}` is larger than {limit} MiB: expected a Dockerfile",
            path.display()
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let line = 1 + valid.matches('\n').count();
        let column = 1 + valid.chars().rev().take_while(|&c| c != '\n').count();
        Failure::not_utf8(path, line, column)
    })
}

/// `<dockerfile>.dockerignore` wins entirely over the context's own file.
fn context(root: PathBuf, dockerfile: &Dockerfile) -> Result<Context, Failure> {
    let beside = dockerfile.path.as_ref().map(|path| {
        let mut name = path.clone().into_os_string();
        name.push(".dockerignore");
        (PathBuf::from(name), format!("{}.dockerignore", dockerfile.name))
    });
    let own = (root.join(".dockerignore"), ".dockerignore".to_owned());
    for (path, name) in beside.into_iter().chain([own]) {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::file("open", &path, &error)),
        };
        let text = read_text(file, &path)?;
        let ignore = Ignore::parse(text.as_bytes()).map_err(|error| Failure::ignore(&name, &error))?;
        return Ok(Context { root, ignore, ignore_name: name, ignore_text: text });
    }
    let ignore_name = ".dockerignore".to_owned();
    Ok(Context { root, ignore: Ignore::default(), ignore_name, ignore_text: String::new() })
}

/// A name without a value takes the environment's; without that it is not set at all.
fn build_args(pairs: &[Pair], environment: &Environment) -> BTreeMap<String, String> {
    let value = |pair: &Pair| pair.value.clone().or_else(|| environment.get(&pair.name).map(str::to_owned));
    pairs.iter().filter_map(|pair| Some((pair.name.clone(), value(pair)?))).collect()
}

/// The flag, else the build argument, else the environment.
fn epoch(
    flag: Option<i64>,
    build_args: &BTreeMap<String, String>,
    environment: &Environment,
) -> Result<Option<i64>, Failure> {
    if flag.is_some() {
        return Ok(flag);
    }
    let text = build_args.get(EPOCH).map(String::as_str).or_else(|| environment.get(EPOCH));
    let seconds = |text: &str| {
        text.parse()
            .map_err(|_| Failure::usage(format!("expected `{EPOCH}` in seconds since 1970, found `{text}`")))
    };
    text.filter(|text| !text.is_empty()).map(seconds).transpose()
}

/// The platform that was asked for, which must be this machine's.
fn platform(wanted: Option<&Platform>) -> Result<Platform, Failure> {
    let host = Platform::host();
    match wanted {
        Some(wanted) if !host.accepts(wanted) => Err(Failure::usage(format!(
            "cannot build for `{wanted}`: this machine is `{host}`, and emulation is not supported yet"
        ))),
        _ => Ok(host),
    }
}

/// A tag names what will be built; a digest cannot.
fn tags(references: &[Reference]) -> Result<Vec<Reference>, Failure> {
    match references.iter().find(|reference| reference.digest().is_some()) {
        Some(pinned) => {
            Err(Failure::usage(format!("`{}` has a digest: expected a name and a tag", pinned.familiar())))
        }
        None => Ok(references.to_vec()),
    }
}

/// As Docker has it, 0 is no limit, and so is a negative number of processes.
pub(crate) fn limits(args: &LimitArgs, pids: Option<i64>) -> runner::Limits {
    runner::Limits {
        memory_bytes: args.memory.map(|Bytes(bytes)| bytes).filter(|bytes| *bytes > 0),
        nano_cpus: args.cpus.map(|NanoCpus(nanos)| nanos),
        pids: pids.and_then(|pids| u64::try_from(pids).ok()).filter(|pids| *pids > 0),
        ..runner::Limits::default()
    }
}

#[cfg(test)]
mod tests;
