//! Instructions that make a layer: `RUN`, `COPY`, `ADD`, `WORKDIR`.

use std::path::Path;

use super::history::SUFFIX;
use super::{Lowering, clean};
use crate::dockerfile::instruction::{
    AddInstruction, CopyInstruction, CopySource, Instruction, NetworkMode, RunCommand, RunInstruction,
    SecurityMode, Word,
};
use crate::plan::{Copy, Origin, Run, Script, Step, StepKind, Workdir};
use crate::request::Network;

/// Arguments that need no `ARG`, and that neither keys nor history hold. (Dockerfile reference, "Predefined ARGs".)
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Where a `RUN` heredoc with a `#!` line is mounted.
const SCRIPTS: &str = "/dev/pipes";

impl Lowering<'_> {
    pub(super) fn run(&mut self, instruction: &Instruction, run: &RunInstruction) {
        if let Some(mount) = run.mounts.first() {
            self.unsupported(mount.span, "`RUN --mount`");
        }
        if run.security == Some(SecurityMode::Insecure) {
            self.unsupported(instruction.span, "`RUN --security=insecure`");
        }
        if let Some(device) = run.devices.first() {
            self.unsupported(device.name.span, "`RUN --device`");
        }
        let mut script = None;
        let args = match &run.command {
            RunCommand::Exec(args) => args.clone(),
            RunCommand::Shell(text) => self.shell_args(text),
            RunCommand::Script(heredoc) if heredoc.shebang => {
                let path = format!("{SCRIPTS}/{}", heredoc.name);
                let args = self.shell_args(&path);
                script = Some(Script { path: path.into(), text: heredoc.body.clone() });
                args
            }
            RunCommand::Script(heredoc) => self.shell_args(&heredoc.body),
        };
        let network = match run.network {
            None | Some(NetworkMode::Default) => self.request.network,
            Some(NetworkMode::None) => Network::None,
            Some(NetworkMode::Host) => Network::Host,
        };
        let history = self.run_history(&args);
        let run = Run {
            args,
            script,
            env: self.variables.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            proxy_env: self.proxy_env(),
            cwd: self.working_dir().to_owned(),
            user: self.config.user.clone(),
            network,
        };
        self.step(history, step(instruction, StepKind::Run(run)));
    }

    /// Proxy settings given as build arguments and not declared, under both spellings.
    fn proxy_env(&self) -> Vec<(String, String)> {
        let mut env = Vec::new();
        for name in PROXIES {
            let lower = name.to_lowercase();
            let given = self.request.build_args.get(name).or_else(|| self.request.build_args.get(&lower));
            let Some(value) = given else { continue };
            for spelling in [name.to_owned(), lower] {
                if self.variables.get(&spelling).is_none() {
                    env.push((spelling, value.clone()));
                }
            }
        }
        env
    }

    pub(super) fn copy(&mut self, at: usize, instruction: &Instruction, copy: &CopyInstruction) {
        for (given, what) in [(copy.link, "`COPY --link`"), (copy.parents, "`COPY --parents`")] {
            if given {
                self.unsupported(instruction.span, what);
            }
        }
        if let Some(word) = copy.exclude.first() {
            self.unsupported(word.span, "`COPY --exclude`");
        }
        // A `--from` that refers to nothing has been reported while the stages were selected.
        let origin = self.needed.origins.get(&at).cloned().unwrap_or(Origin::Context);
        let files = Files {
            name: "COPY",
            sources: &copy.sources,
            destination: &copy.destination,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            from: copy.from.as_ref(),
        };
        self.files(instruction, &files, origin);
    }

    pub(super) fn add(&mut self, instruction: &Instruction, add: &AddInstruction) {
        let flags = [
            (add.link, "`ADD --link`"),
            (add.keep_git_dir.is_some(), "`ADD --keep-git-dir`"),
            (add.checksum.is_some(), "`ADD --checksum`"),
            (add.unpack.is_some(), "`ADD --unpack`"),
            (!add.exclude.is_empty(), "`ADD --exclude`"),
        ];
        for (given, what) in flags {
            if given {
                self.unsupported(instruction.span, what);
            }
        }
        let files = Files {
            name: "ADD",
            sources: &add.sources,
            destination: &add.destination,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            from: None,
        };
        self.files(instruction, &files, Origin::Context);
    }

    fn files(&mut self, instruction: &Instruction, files: &Files<'_>, origin: Origin) {
        let mut sources = Vec::new();
        for source in files.sources {
            match source {
                CopySource::Heredoc(heredoc) => {
                    self.unsupported(heredoc.span, "a heredoc as the source of a file")
                }
                CopySource::Path(word) => {
                    let path = self.expand(word);
                    if is_remote(&path) {
                        match files.name {
                            "COPY" => {
                                self.fail(word.span, format!("`COPY` cannot fetch `{path}`; `ADD` can"))
                            }
                            _ => self.unsupported(word.span, "fetching a URL or a git repository"),
                        }
                    }
                    sources.push((path, word.span));
                }
            }
        }
        let destination = self.expand(files.destination);
        let owner = files.chown.map(|word| self.expand(word));
        let mode = files.chmod.map(|word| self.expand(word));
        let mut history = files.name.to_owned();
        for (flag, value) in [("--chown", &owner), ("--chmod", &mode)] {
            if let Some(value) = value {
                history.push_str(&format!(" {flag}={value}"));
            }
        }
        for (path, _) in &sources {
            history.push_str(&format!(" {path}"));
        }
        history.push_str(&format!(" {destination}{SUFFIX}"));
        let copy = Copy {
            origin,
            from: files.from.map(|word| word.text.clone()),
            sources,
            destination: self.destination(&destination),
            owner: owner.filter(|owner| !owner.is_empty()),
            mode: mode.filter(|mode| !mode.is_empty()),
            unpack: files.name == "ADD",
        };
        self.step(history, step(instruction, StepKind::Copy(copy)));
    }

    /// Makes a destination absolute; a trailing `/` or `/.`, or an empty one, means: a directory.
    fn destination(&self, text: &str) -> String {
        let is_directory = matches!(text, "" | ".") || text.ends_with('/') || text.ends_with("/.");
        let path = clean(&self.working_dir().join(text)).to_string_lossy().into_owned();
        if is_directory && path != "/" { path + "/" } else { path }
    }

    /// `WORKDIR` makes the directory, so it makes a layer, unless it is the root.
    pub(super) fn workdir(&mut self, instruction: &Instruction, word: &Word) {
        let text = self.expand(word);
        let path = clean(&self.working_dir().join(&text));
        let shown = path.to_string_lossy().into_owned();
        self.config.working_dir.clone_from(&shown);
        let history = format!("WORKDIR {shown}");
        if path == Path::new("/") {
            return self.note(history);
        }
        let user = self.config.user.clone();
        self.step(history, step(instruction, StepKind::Workdir(Workdir { path, user })));
    }
}

/// What `COPY` and `ADD` have in common.
struct Files<'a> {
    name: &'static str,
    sources: &'a [CopySource],
    destination: &'a Word,
    chown: Option<&'a Word>,
    chmod: Option<&'a Word>,
    from: Option<&'a Word>,
}

fn step(instruction: &Instruction, kind: StepKind) -> Step {
    Step { span: instruction.span, text: instruction.text.clone(), kind }
}

/// Whether `ADD` would fetch this rather than read it from the context.
fn is_remote(path: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "git@"];
    schemes.iter().any(|scheme| path.starts_with(scheme))
}
