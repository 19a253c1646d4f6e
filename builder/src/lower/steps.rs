//! Instructions that make a layer: `RUN`, `COPY`, `ADD`, `WORKDIR`.

use std::path::Path;

use super::history::SUFFIX;
use super::{Lowering, clean};
use crate::dockerfile::diagnostic::{Diagnostic, Span};
use crate::dockerfile::expand::expand_heredoc;
use crate::dockerfile::instruction::{
    AddInstruction, CopyInstruction, CopySource, Heredoc, Instruction, NetworkMode, RunCommand,
    RunInstruction, SecurityMode, Word,
};
use crate::ignore::Ignore;
use crate::lint::meaning;
use crate::plan::{Copy, InlineFile, Input, Origin, Run, Script, Step, StepKind, Workdir};
use crate::remote::{self, Form, Remote};
use crate::request::Network;

/// Arguments that need no `ARG`, and that neither keys nor history hold. (Dockerfile reference, "Predefined ARGs".)
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Where a `RUN` heredoc with a `#!` line is mounted.
const SCRIPTS: &str = "/dev/pipes";

impl Lowering<'_> {
    pub(super) fn run(&mut self, at: usize, instruction: &Instruction, run: &RunInstruction) {
        if let Some(device) = run.devices.first() {
            self.fail(device.name.span, "`RUN --device` is not supported: lbuild passes no devices on");
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
        let network = self.network(instruction.span, run.network);
        let history = self.run_history(&args);
        let run = Run {
            args,
            script,
            env: self.variables.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            proxy_env: self.proxy_env(),
            cwd: self.working_dir().to_owned(),
            user: self.config.user.clone(),
            network,
            insecure: self.is_insecure(instruction.span, run.security),
            mounts: self.mounts(at, &run.mounts),
        };
        self.step(history, step(instruction, StepKind::Run(run)));
    }

    /// The command's network. One without the host's may not be left where the build was told to stay in it: a base
    /// image's triggers could.
    fn network(&mut self, span: Span, mode: Option<NetworkMode>) -> Network {
        let own = self.request.run.network;
        match mode {
            None | Some(NetworkMode::Default) => own,
            Some(NetworkMode::None) => Network::None,
            Some(NetworkMode::Host) => {
                if own == Network::None && !self.request.allow_network_host {
                    let message = "`RUN --network=host` is not allowed in a build with `--network none`";
                    let hint = "`--allow network.host` allows it";
                    self.diagnostics.push(Diagnostic::error(span, message).hint(hint));
                }
                Network::Host
            }
        }
    }

    /// Whether the command asks for all rights and may have them.
    fn is_insecure(&mut self, span: Span, security: Option<SecurityMode>) -> bool {
        let is_asked = security == Some(SecurityMode::Insecure);
        if is_asked && !self.request.allow_insecure {
            self.diagnostics.push(Diagnostic::error(span, "`RUN --security=insecure` is not allowed").hint(
                "`--allow security.insecure` allows it: the command then has all of root's rights here",
            ));
        }
        is_asked
    }

    /// Proxy settings given as build arguments and not declared, under both spellings.
    fn proxy_env(&self) -> Vec<(String, String)> {
        let mut env = Vec::new();
        for name in PROXIES {
            let lower = name.to_lowercase();
            let mut given = self.request.build_args.iter();
            let Some((_, value)) = given.find(|(given, _)| given.eq_ignore_ascii_case(name)) else {
                continue;
            };
            for spelling in [name.to_owned(), lower] {
                if self.variables.get(&spelling).is_none() {
                    env.push((spelling, value.clone()));
                }
            }
        }
        env
    }

    pub(super) fn copy(&mut self, at: usize, instruction: &Instruction, copy: &CopyInstruction) {
        // A `--from` that refers to nothing has been reported while the stages were selected.
        let origin = self.needed.origins.get(&(at, 0)).cloned().unwrap_or(Origin::Context);
        let from = copy.from.as_ref().map(|word| word.text.clone());
        let mut sources = self.sources(&copy.sources);
        for (path, span) in sources.paths.iter().filter(|(path, _)| remote::is_remote(path, Form::Add)) {
            let message = format!("`COPY` cannot fetch `{}`; `ADD` can", shown(path));
            self.diagnostics.push(Diagnostic::error(*span, message));
        }
        let paths = std::mem::take(&mut sources.paths);
        let local = Input { origin, from, paths, unpack: false };
        let inputs = std::iter::once(local).filter(|input| !input.paths.is_empty());
        let files = Files {
            name: "COPY",
            destination: &copy.destination,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            link: copy.link,
            parents: copy.parents,
            exclude: &copy.exclude,
        };
        let inputs = inputs.chain(sources.inline).collect();
        self.files(instruction, &files, inputs, &sources.shown);
    }

    pub(super) fn add(&mut self, instruction: &Instruction, add: &AddInstruction) {
        let checksum = add.checksum.as_ref().map(|word| (self.expand(word), word.span));
        let sources = self.sources(&add.sources);
        let mut inputs: Vec<Input> = Vec::new();
        for (path, span) in sources.paths {
            match self.remote(&path, span, add, checksum.as_ref()) {
                Some((remote, path)) => inputs.push(Input {
                    origin: Origin::Remote(remote),
                    from: None,
                    paths: vec![(path, span)],
                    unpack: add.unpack == Some(true),
                }),
                // Neighbours are one selection.
                None => match inputs.last_mut().filter(|last| last.origin == Origin::Context) {
                    Some(last) => last.paths.push((path, span)),
                    None => inputs.push(Input {
                        origin: Origin::Context,
                        from: None,
                        paths: vec![(path, span)],
                        unpack: add.unpack != Some(false),
                    }),
                },
            }
        }
        if let Some((_, span)) = checksum.filter(|_| inputs.len() != 1 || sources.inline.is_some()) {
            self.fail(span, "`--checksum` is for one source, which must be a URL or a git repository");
        }
        inputs.extend(sources.inline);
        let files = Files {
            name: "ADD",
            destination: &add.destination,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            link: add.link,
            parents: false,
            exclude: &add.exclude,
        };
        self.files(instruction, &files, inputs, &sources.shown);
    }

    /// What `ADD` fetches, and what of that it takes; none for a path of the context.
    fn remote(
        &mut self,
        path: &str,
        span: Span,
        add: &AddInstruction,
        checksum: Option<&(String, Span)>,
    ) -> Option<(Remote, String)> {
        let checked = |remote: Option<Remote>| match (remote, checksum) {
            (Some(remote), Some((checksum, _))) => remote.with_checksum(checksum).map(Some),
            (remote, _) => Ok(remote),
        };
        match remote::parse(path, Form::Add).and_then(checked) {
            Ok(Some(remote @ Remote::Http(_))) => Some((remote, "*".to_owned())),
            Ok(Some(Remote::Git(source))) => {
                if let (Some(flag), Some(query)) = (add.keep_git_dir, source.keep_git_dir)
                    && flag != query
                {
                    self.fail(
                        span,
                        format!("`--keep-git-dir={flag}` and `keep-git-dir={query}` contradict each other"),
                    );
                }
                let keep = add.keep_git_dir.unwrap_or_default();
                Some((Remote::Git(source).with_keep_git_dir(keep), "/".to_owned()))
            }
            Ok(None) => {
                if let Some((_, span)) = checksum {
                    self.fail(*span, "`--checksum` is for URLs and git repositories only");
                }
                None
            }
            Err(error) => {
                self.fail(span, error.to_string());
                None
            }
        }
    }

    /// Paths and heredocs, their variables replaced.
    fn sources(&mut self, sources: &[CopySource]) -> Sources {
        let (mut paths, mut inline) = (Vec::new(), Vec::new());
        let (mut names, mut heredocs) = (Vec::new(), Vec::new());
        for source in sources {
            match source {
                CopySource::Heredoc(heredoc) => {
                    heredocs.push(format!("<<{}", heredoc.name));
                    inline.push(InlineFile { name: heredoc.name.clone(), content: self.heredoc(heredoc) });
                }
                CopySource::Path(word) => {
                    let path = self.expand(word);
                    names.push(shown(&path));
                    paths.push((path, word.span));
                }
            }
        }
        let inline = (!inline.is_empty()).then(|| Input {
            origin: Origin::Inline(inline),
            from: None,
            paths: Vec::new(),
            unpack: false,
        });
        names.append(&mut heredocs);
        Sources { paths, inline, shown: names }
    }

    /// A heredoc's body; its variables are replaced unless its name was quoted.
    fn heredoc(&mut self, heredoc: &Heredoc) -> String {
        let body = heredoc.body();
        if !heredoc.expand {
            return body;
        }
        let variables = &self.variables;
        let lookup = |name: &str| variables.get(name).map(str::to_owned);
        match expand_heredoc(&body, &lookup) {
            Ok(expanded) => {
                self.undefined(heredoc.span, &expanded.unset);
                expanded.value
            }
            Err(error) => {
                self.fail(heredoc.at(error.offset), error.message);
                String::new()
            }
        }
    }

    /// The patterns of `--exclude`.
    fn exclude(&mut self, words: &[Word]) -> Vec<String> {
        let patterns: Vec<String> = words.iter().map(|word| self.expand(word)).collect();
        if let Err(error) = Ignore::from_patterns(&patterns) {
            let message = format!("`{}` is not a pattern: {}", error.text.escape_debug(), error.source);
            self.fail(words[error.line - 1].span, message);
        }
        patterns
    }

    fn files(&mut self, instruction: &Instruction, files: &Files<'_>, inputs: Vec<Input>, shown: &[String]) {
        self.ignored(files.name, &inputs);
        let destination = self.expand(files.destination);
        let owner = files.chown.map(|word| self.expand(word));
        let mode = files.chmod.map(|word| self.expand(word));
        let exclude = self.exclude(files.exclude);
        let mut history = files.name.to_owned();
        if files.parents {
            history.push_str(" --parents");
        }
        for (flag, value) in [("--chown", &owner), ("--chmod", &mode)] {
            if let Some(value) = value {
                history.push_str(&format!(" {flag}={value}"));
            }
        }
        for source in shown {
            history.push_str(&format!(" {source}"));
        }
        history.push_str(&format!(" {destination}{SUFFIX}"));
        let mode = mode.filter(|mode| !mode.is_empty());
        if let (true, None, Some(word), Some(owner)) = (files.link, &mode, files.chown, &owner) {
            self.independent_owner(word.span, owner);
        }
        let copy = Copy {
            inputs,
            destination: self.destination(&destination),
            owner: owner.filter(|owner| !owner.is_empty()),
            link: files.link,
            mode,
            parents: files.parents,
            exclude,
        };
        let mut step = step(instruction, StepKind::Copy(copy));
        if files.name == "ADD" {
            // An address may hold credentials, and the text is shown while the step runs.
            step.text = step.text.split(' ').map(self::shown).collect::<Vec<_>>().join(" ");
        }
        self.step(history, step);
    }

    /// An owner of a layer that does not know what it will lie on is a number.
    fn independent_owner(&mut self, span: Span, owner: &str) {
        if owner.split(':').any(|half| half.chars().any(|c| !c.is_ascii_digit())) {
            let message =
                format!("`--chown={owner}` with `--link`: there is no image to look the name up in");
            self.diagnostics.push(Diagnostic::error(span, message).hint("use numbers, or drop `--link`"));
        }
    }

    /// Notes sources that the ignore file leaves out.
    fn ignored(&mut self, instruction: &str, inputs: &[Input]) {
        let Some(context) = self.request.context.directory() else { return };
        let local = inputs.iter().filter(|input| input.origin == Origin::Context);
        for (path, span) in local.flat_map(|input| &input.paths) {
            self.warnings.extend(meaning::ignored_source(*span, instruction, path, &context.ignore));
        }
    }

    /// A named context in place of a base: its files are the first layer.
    pub(super) fn start_with_files(&mut self) {
        let Some(origin) = self.needed.files.clone() else { return };
        let (head, base) = (self.needed.stage.head, &self.needed.stage.from.base);
        let from = Some(base.text.clone());
        let input = Input { origin, from, paths: vec![("/".to_owned(), base.span)], unpack: false };
        let copy = Copy {
            inputs: vec![input],
            destination: "/".to_owned(),
            owner: None,
            mode: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
        };
        self.step(format!("FROM {}{SUFFIX}", base.text), step(head, StepKind::Copy(copy)));
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
        if !std::mem::replace(&mut self.has_workdir, true) {
            self.warnings.extend(meaning::first_workdir(word.span, &text));
        }
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

/// The sources of a `COPY` or an `ADD`.
struct Sources {
    paths: Vec<(String, Span)>,
    /// Heredocs, which are copied after all others.
    inline: Option<Input>,
    /// As history shows them: paths, then heredocs.
    shown: Vec<String>,
}

/// What `COPY` and `ADD` have in common.
struct Files<'a> {
    name: &'static str,
    destination: &'a Word,
    chown: Option<&'a Word>,
    chmod: Option<&'a Word>,
    link: bool,
    parents: bool,
    exclude: &'a [Word],
}

fn step(instruction: &Instruction, kind: StepKind) -> Step {
    Step { span: instruction.span, text: instruction.text.clone(), kind }
}

/// A source as messages and history show it: without credentials.
fn shown(path: &str) -> String {
    match remote::parse(path, Form::Add) {
        Ok(Some(remote)) => remote.to_string(),
        _ if remote::is_remote(path, Form::Add) => "a URL".to_owned(),
        _ => path.to_owned(),
    }
}
