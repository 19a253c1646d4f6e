//! `lbuild run`: reference → image → snapshot → container. The second straight line of lbuild.
//!
//! What the image's configuration says and what the command line says instead is settled here, by Docker's
//! rules; `volumes` are what the container shows of elsewhere, `attach` connects it with this process. Its
//! changes to its root file system are thrown away when it ends.

mod attach;
mod volumes;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use builder::source::{BaseImage, ImageSource, Images, layout, progress_events};
use layerfs::snapshot::Active;
use oci::{ContainerConfig, Platform, Reference};
use runner::{FileMount, Launcher, Mount, Process, Sandbox, Security};

use crate::args::{self, RunArgs};
use crate::command::{self, Session, pull};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::{Environment, Home, Registries};
use crate::progress::Progress;
use crate::signal::Signals;
use crate::value::Pair;
use crate::{host, request};

pub(crate) fn run(
    args: &RunArgs,
    session: &Session,
    launcher: &Launcher,
    signals: &Signals,
) -> Result<Exit, Failure> {
    if args.interactive && args.tty && !io::stdin().is_terminal() {
        return Err(
            Failure::usage("`-i` with `-t` needs a terminal as standard input").hint("leave `-t` out")
        );
    }
    let home = session.open_home()?;
    let registries = Registries::new(&args.registry, &session.environment)?;
    let (image, active) = prepare(args, &home, &registries)?;
    let config = &image.config.value().config;
    let process = process(args, config, &session.environment)?;
    let volumes = volumes::prepare(args, config, &active, &home)?;
    let sandbox = sandbox(args, &active, volumes.mounts, &home)?;
    let exit = if args.tty {
        attach::terminal(launcher, sandbox, &process, args.interactive, signals)?
    } else {
        attach::streams(launcher, sandbox, &process, args.interactive, signals)?
    };
    if let Some(limit) = exit.oom_limit_bytes {
        let limit = builder::error::human_bytes(limit);
        let text = format!(
            "warning: the container ran out of memory: its limit is {limit}\nhint: raise it with `--memory`\n"
        );
        // Nobody is left to tell.
        io::stderr().lock().write_all(text.as_bytes()).ok();
    }
    Ok(Exit::Container(u8::try_from(exit.code()).unwrap_or(u8::MAX)))
}

/// The image, from the store or else from its registry, and a file system to change and throw away.
fn prepare(args: &RunArgs, home: &Home, registries: &Registries) -> Result<(BaseImage, Active), Failure> {
    let progress = Progress::new(args::Progress::Auto, false)?;
    let snapshots = home.store.snapshots();
    let images = Images::new(&home.store, &*snapshots, &registries.client);
    let image = match home.store.find(args.image()).map_err(home.failure("find the image"))? {
        Some(stored) => {
            let platform = args.platform.clone().unwrap_or_else(Platform::host);
            let act = format!("run `{}`", args.image());
            let complete = command::image_for(home, &stored.descriptor, &platform, &act)?;
            let reference = stored.reference.unwrap_or_else(|| layout::nowhere(stored.descriptor.digest));
            complete.as_base(reference).map_err(|error| Failure::environment(&error))?
        }
        None if is_id(args.image()) => return Err(Failure::no_such_image(args.image())),
        None => {
            let name: Reference = args.image().parse().map_err(Failure::usage)?;
            let platform = args.platform.clone().unwrap_or_else(Platform::host);
            let image = pull::fetch(&name, &platform, pull::Then::Run, home, registries, &progress);
            progress.finish();
            image?
        }
    };
    // An image that was pulled just now is unpacked already, and others have little to fetch: no line of progress for that.
    let snapshot =
        images.snapshot(&image, &progress_events(0, &|event| progress.show(event))).map_err(|error| {
            let message = format!("cannot unpack `{}`", args.image());
            Failure::image(message, &image.reference, &error, &home.facts(registries))
        })?;
    let active = snapshots.prepare(snapshot.as_ref()).map_err(home.failure("prepare the file system"))?;
    Ok((image, active))
}

/// Whether a text can only be meant as the id or digest of an image, which no registry is asked for by it; as
/// short as `lbuild images` shows one.
fn is_id(text: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    text.starts_with("sha256:")
        || text.starts_with("sha512:")
        || (12..=64).contains(&text.len()) && is_hex(text)
}

fn process(args: &RunArgs, config: &ContainerConfig, environment: &Environment) -> Result<Process, Failure> {
    let program = command_line(args, config);
    if program.is_empty() {
        let message = format!("`{}` says no command to run", args.image());
        return Err(Failure::usage(message).hint("put one behind the image's name"));
    }
    let cwd = match &args.workdir {
        Some(dir) if !dir.is_absolute() => {
            return Err(Failure::usage(format!(
                "expected an absolute path as `-w`, found `{}`",
                dir.display()
            )));
        }
        Some(dir) => dir.clone(),
        None if config.working_dir.is_empty() => PathBuf::from("/"),
        None => Path::new("/").join(&config.working_dir),
    };
    Ok(Process {
        env: variables(&config.env, &args.env, environment),
        cwd,
        user: args.user.clone().unwrap_or_else(|| config.user.clone()),
        ..Process::new(program)
    })
}

/// Docker's rules: arguments replace `Cmd`; an entry point of one's own drops both of the image's.
fn command_line(args: &RunArgs, config: &ContainerConfig) -> Vec<String> {
    let given = args.command().to_vec();
    match args.entrypoint.as_deref() {
        Some("") => given,
        Some(program) => std::iter::once(program.to_owned()).chain(given).collect(),
        None => {
            let rest = if given.is_empty() { config.cmd.clone().unwrap_or_default() } else { given };
            config.entrypoint.iter().flatten().cloned().chain(rest).collect()
        }
    }
}

/// The image's variables, then those of the command line; a later one replaces an earlier one in its place. A
/// name without a value takes ours, and without that is not set.
fn variables(image: &[String], given: &[Pair], environment: &Environment) -> Vec<(OsString, OsString)> {
    let of_image = image.iter().filter_map(|variable| variable.split_once('='));
    let of_image = of_image.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let value = |pair: &Pair| pair.value.clone().or_else(|| environment.get(&pair.name).map(str::to_owned));
    let given = given.iter().filter_map(|pair| Some((pair.name.clone(), value(pair)?)));
    let mut variables: Vec<(OsString, OsString)> = Vec::new();
    for (name, value) in of_image.chain(given) {
        match variables.iter_mut().find(|(other, _)| *other == *name) {
            Some((_, old)) => *old = value.into(),
            None => variables.push((name.into(), value.into())),
        }
    }
    variables
}

fn sandbox(args: &RunArgs, active: &Active, mounts: Vec<Mount>, home: &Home) -> Result<Sandbox, Failure> {
    let hostname = match &args.hostname {
        Some(name) => name.clone(),
        None => random_name().map_err(|error| Failure::environment(&error))?,
    };
    let capabilities = runner::CapabilitySet::default()
        .adjusted(&args.cap_add, &args.cap_drop)
        .map_err(|error| Failure::container(&error))?;
    let root = active.try_clone_root().map_err(home.failure("prepare the file system"))?;
    Ok(Sandbox {
        read_only_root: args.read_only,
        mounts,
        files: files(args, &hostname),
        network: match args.network {
            args::Network::Host => runner::Network::Host,
            args::Network::None => runner::Network::None,
        },
        limits: request::limits(&args.limits, args.pids_limit),
        security: Security { capabilities, ..Security::default() },
        hostname,
        ..Sandbox::new(root)
    })
}

/// Twelve hexadecimal digits, as Docker names a container's host.
fn random_name() -> io::Result<String> {
    let mut bytes = [0; 6];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Files that come from the host, but for those that a volume puts in their place.
fn files(args: &RunArgs, hostname: &str) -> Vec<FileMount> {
    [
        ("/etc/hosts", host::hosts(args.network, hostname, &[])),
        ("/etc/resolv.conf", host::resolv_conf(args.network)),
        ("/etc/hostname", format!("{hostname}\n").into_bytes()),
    ]
    .into_iter()
    .filter(|(target, _)| !args.volumes.iter().any(|volume| volume.container == Path::new(target)))
    .map(|(target, content)| FileMount::new(target, content))
    .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{CommandLine, Verb};

    fn parse(words: &[&str]) -> RunArgs {
        let words = ["lbuild", "run"].into_iter().chain(words.iter().copied());
        match CommandLine::parse_from(words).verb {
            Verb::Run(args) => *args,
            _ => panic!("not a run"),
        }
    }

    #[test]
    fn entry_points_and_arguments_combine_as_dockers() {
        let words = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let config = ContainerConfig {
            entrypoint: Some(words("/entry -a")),
            cmd: Some(words("default")),
            ..ContainerConfig::default()
        };
        for (typed, expected) in [
            (&["image"][..], "/entry -a default"),
            (&["image", "x", "-y"], "/entry -a x -y"),
            (&["--entrypoint", "/other", "image"], "/other"),
            (&["--entrypoint", "/other", "image", "x"], "/other x"),
            (&["--entrypoint", "", "image", "x"], "x"),
            (&["--entrypoint", "", "image"], ""),
        ] {
            assert_eq!(command_line(&parse(typed), &config), words(expected), "{typed:?}");
        }
        let only_cmd = ContainerConfig { entrypoint: None, ..config };
        assert_eq!(command_line(&parse(&["image"]), &only_cmd), words("default"));
    }

    #[test]
    fn later_variables_replace_earlier_ones() {
        let image = ["PATH=/bin", "A=image", "B=image"].map(str::to_owned);
        let given = ["A=typed", "HOME", "ABSENT", "C=1", "C=2"].map(|text| text.parse().unwrap());
        let found = variables(&image, &given, &Environment::of([("HOME", "/me")]));
        let expected = [("PATH", "/bin"), ("A", "typed"), ("B", "image"), ("HOME", "/me"), ("C", "2")];
        assert_eq!(found, expected.map(|(name, value)| (name.into(), value.into())));
    }

    #[test]
    fn a_process_is_what_the_image_and_the_user_say() {
        let config = ContainerConfig {
            cmd: Some(vec!["sh".into()]),
            working_dir: "srv".into(),
            user: "app".into(),
            ..ContainerConfig::default()
        };
        let none = Environment::default();
        let found = process(&parse(&["image"]), &config, &none).unwrap();
        assert_eq!((found.cwd.to_str(), found.user.as_str()), (Some("/srv"), "app"));
        let found = process(&parse(&["-w", "/x", "-u", "7:8", "image"]), &config, &none).unwrap();
        assert_eq!((found.cwd.to_str(), found.user.as_str()), (Some("/x"), "7:8"));
        assert!(process(&parse(&["-w", "x", "image"]), &config, &none).is_err());
        assert!(process(&parse(&["image"]), &ContainerConfig::default(), &none).is_err());
    }

    #[test]
    fn ids_are_told_from_names() {
        for (text, expected) in [
            ("sha256:0123", true),
            ("0123456789ab", true),
            (&"f".repeat(64), true),
            ("cafe", false),
            ("0123456789ag", false),
            ("0123456789ab:1", false),
            (&"f".repeat(65), false),
            ("busybox", false),
            ("busybox@sha256:0123", false),
        ] {
            assert_eq!(is_id(text), expected, "{text}");
        }
    }

    #[test]
    fn a_volume_takes_the_place_of_a_file() {
        let targets = |words: &[&str]| -> Vec<PathBuf> {
            files(&parse(words), "name").into_iter().map(|file| file.target).collect()
        };
        assert_eq!(targets(&["image"]).len(), 3);
        let rest = ["/etc/resolv.conf", "/etc/hostname"].map(PathBuf::from);
        assert_eq!(targets(&["-v", "/x:/etc/hosts", "image"]), rest);
    }
}
