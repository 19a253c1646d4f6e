//! `lbuild`: argv in, exit code out.
//!
//! The straight line of each verb: [`args`] (what was typed) → [`request`] (what it means) → [`home`] (where
//! state lives) → the libraries → [`command`] (what is done with the result) → [`exit`]. [`progress`] shows
//! what happens meanwhile, [`failure`] what went wrong. Only this crate prints and reads the environment.
//!
//! Order matters at the start: containers come from a launcher that is forked before there is a second thread,
//! and signals are blocked before there is one.
#![forbid(unsafe_code)]

mod args;
mod command;
mod exit;
mod failure;
mod home;
mod host;
mod output;
mod progress;
mod request;
mod signal;
mod text;
mod uploads;
mod value;

use std::env;
use std::io::Write;
use std::process::ExitCode;

use runner::Launcher;

use args::{CacheVerb, CommandLine, Verb};
use command::Session;
use exit::Exit;
use failure::Failure;
use signal::Signals;
use value::Act;

fn main() -> ExitCode {
    let line = match args::parse(env::args_os()) {
        Ok(line) => line,
        Err(error) => return refuse(&error).into(),
    };
    match run(line) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // Nobody is left to tell.
            write!(std::io::stderr().lock(), "{failure}").ok();
            failure.exit().into()
        }
    }
}

/// Prints what clap has to say: why it refuses, or help.
fn refuse(error: &clap::Error) -> Exit {
    // As above.
    error.print().ok();
    match error.exit_code() {
        0 => Exit::Done,
        _ if args::is_run(env::args_os()) => Exit::ENGINE,
        _ => Exit::Usage,
    }
}

fn run(line: CommandLine) -> Result<Exit, Failure> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let session = Session::new(line.root, line.snapshotter);
    match line.verb {
        Verb::Build(args) if args.call().act != Act::Build => {
            command::build::answer(&args, args.call(), &session)
        }
        Verb::Build(args) => {
            home::need_root("building")?;
            let launcher = Launcher::fork().map_err(|error| Failure::environment(&error))?;
            let signals = Signals::start(signal::ENDING)?;
            command::build::build(&args, &session, &launcher, &signals)
        }
        Verb::Run(args) => run_image(&args, &session).map_err(Failure::of_engine),
        Verb::Push(args) => command::push::push(&args, &session),
        Verb::Pull(args) => command::pull::pull(&args, &session),
        Verb::Images(args) => command::images::images(&args, &session),
        Verb::Rmi(args) => command::rmi::rmi(&args, &session),
        Verb::Tag(args) => command::tag::tag(&args, &session),
        Verb::History(args) => command::history::history(&args, &session),
        Verb::Inspect(args) => command::inspect::inspect(&args, &session),
        Verb::Ls(args) => command::ls::ls(&args, &session),
        Verb::Cat(args) => command::cat::cat(&args, &session),
        Verb::Diff(args) => command::diff::diff(&args, &session),
        Verb::Squash(args) => command::squash::squash(&args, &session),
        Verb::Rebase(args) => command::rebase::rebase(&args, &session),
        Verb::Save(args) => command::save::save(&args, &session),
        Verb::Load(args) => command::load::load(&args, &session),
        Verb::Import(args) => {
            home::need_root("unpacking file systems")?;
            command::import::import(&args, &session)
        }
        Verb::Export(args) => {
            home::need_root("reading the files of images")?;
            command::export::export(&args, &session)
        }
        Verb::Copy(args) => command::copy::copy(&args, &session),
        Verb::Tags(args) => command::tags::tags(&args, &session),
        Verb::Manifest(verb) => command::manifest::manifest(&verb, &session),
        Verb::Login(args) => command::login::login(&args, &session),
        Verb::Logout(args) => command::login::logout(&args, &session),
        Verb::Serve(args) => {
            let signals = Signals::start(signal::ENDING)?;
            command::serve::serve(&args, &session, &signals)
        }
        Verb::Cache(CacheVerb::Ls(args)) => command::cache::ls(&args, &session),
        Verb::Cache(CacheVerb::Prune(args)) => command::cache::prune(&args, &session),
        Verb::Prune(args) => command::prune::prune(&args, &session),
        Verb::Du(args) => command::prune::du(&args, &session),
        Verb::Fsck(args) => command::fsck::fsck(&args, &session),
        Verb::Version(args) => command::version::version(&args, &session),
    }
}

fn run_image(args: &args::RunArgs, session: &Session) -> Result<Exit, Failure> {
    home::need_root("running containers")?;
    let launcher = Launcher::fork().map_err(|error| Failure::environment(&error))?;
    let signals = Signals::start(signal::PROXIED)?;
    command::run::run(args, session, &launcher, &signals)
}
