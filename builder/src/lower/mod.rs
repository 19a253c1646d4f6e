//! Lowering: instructions and the configurations of base images become a [`Plan`]. Pure.
//!
//! Every variable is expanded here and every path made absolute; what an instruction does to the configuration is done
//! here. Instructions that make a layer become steps. The triggers of a stage's base come before its own instructions.
//!
//! Rules: BuildKit's frontend 1.26. Order of precedence between variables: the last writer of a name wins within a
//! stage, whether `ENV` or `ARG`; a stage derived from another starts with that one's variables, its `ENV` re-applied.

mod expose;
mod history;
mod metadata;
mod mounts;
mod steps;
#[cfg(test)]
mod tests;

use std::path::{Component, Path, PathBuf};

use oci::ContainerConfig;

use crate::dockerfile::diagnostic::{Diagnostic, Span};
use crate::dockerfile::expand::{expand_word, expand_words};
use crate::dockerfile::instruction::{Instruction, InstructionKind, Word};
use crate::lint::meaning;
use crate::plan::{Base, HistoryLine, Plan, Stage, Step};
use crate::request::NoCache;
use crate::source::Bases;
use crate::stage::{Needed, Stages, Variables, in_trigger};
use crate::{Error, Request};

/// The search path of images that define none. (Docker's and BuildKit's default for Unix.)
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Lowers the needed stages. What is accepted but doubtful goes to `found`, also where lowering fails.
///
/// # Errors
/// All mistakes at once.
pub fn lower(
    stages: &Stages<'_>,
    bases: &Bases,
    request: &Request,
    found: &mut Vec<Diagnostic>,
) -> Result<Plan, Error> {
    let mut diagnostics = Vec::new();
    let mut lowered: Vec<Lowering<'_>> = Vec::new();
    for needed in &stages.needed {
        let mut lowering = Lowering::begin(needed, stages, bases, &lowered, request);
        for (at, instruction) in needed.instructions.iter().enumerate() {
            match at < needed.triggers {
                true => lowering.trigger(at, instruction),
                false => lowering.instruction(at, instruction),
            }
        }
        diagnostics.append(&mut lowering.diagnostics);
        found.append(&mut lowering.warnings);
        lowered.push(lowering);
    }
    if !diagnostics.is_empty() {
        return Err(Error::Dockerfile { diagnostics });
    }
    let lowered = lowered.into_iter().map(Lowering::finish).collect();
    let mut plan = Plan {
        stages: lowered,
        target: stages.target,
        epoch: stages.epoch,
        acls: request.acls,
        stages_in_file: stages.stages_in_file,
    };
    for (name, value) in &request.labels {
        plan.stages[stages.target].config.labels.insert(name.clone(), value.clone());
    }
    Ok(plan)
}

/// One stage while its instructions are read.
struct Lowering<'a> {
    needed: &'a Needed<'a>,
    stages: &'a Stages<'a>,
    request: &'a Request,
    /// What `$NAME` means now, and the environment of a `RUN` at this place.
    variables: Variables,
    /// Every `ARG` so far, with its value if it has one.
    arguments: Vec<(String, Option<String>)>,
    config: ContainerConfig,
    author: Option<String>,
    history: Vec<HistoryLine>,
    steps: Vec<Step>,
    /// Whether this very stage has a `CMD`, which a later `ENTRYPOINT` leaves alone.
    has_cmd: bool,
    /// Whether this stage, or one that it stands on, has a `WORKDIR`.
    has_workdir: bool,
    diagnostics: Vec<Diagnostic>,
    /// What is accepted but doubtful.
    warnings: Vec<Diagnostic>,
}

impl<'a> Lowering<'a> {
    fn begin(
        needed: &'a Needed<'a>,
        stages: &'a Stages<'a>,
        bases: &Bases,
        lowered: &[Lowering<'_>],
        request: &'a Request,
    ) -> Lowering<'a> {
        let (mut config, author, mut variables, arguments) = match &needed.base {
            Base::Scratch => {
                let config = ContainerConfig { working_dir: "/".to_owned(), ..ContainerConfig::default() };
                (config, None, Variables::default(), Vec::new())
            }
            Base::Image(image) => {
                let image = bases.get(image).config.value();
                (image.config.clone(), image.author.clone(), Variables::default(), Vec::new())
            }
            Base::Stage(id) => {
                let base = &lowered[*id];
                (base.config.clone(), base.author.clone(), base.variables.clone(), base.arguments.clone())
            }
        };
        // They are this stage's first instructions, and nothing to those who derive from it.
        config.on_build = None;
        if !config.env.iter().any(|entry| entry.starts_with("PATH=")) {
            config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for entry in &config.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            variables.set(name, value);
        }
        let mut lowering = Lowering {
            needed,
            stages,
            request,
            variables,
            arguments,
            config,
            author,
            history: Vec::new(),
            steps: Vec::new(),
            has_cmd: false,
            has_workdir: matches!(needed.base, Base::Stage(id) if lowered[id].has_workdir),
            diagnostics: Vec::new(),
            warnings: Vec::new(),
        };
        lowering.start_with_files();
        lowering
    }

    fn finish(self) -> Stage {
        Stage {
            name: self.needed.name(),
            platform: self.needed.platform.clone(),
            no_cache: self.is_uncached(),
            base: self.needed.base.clone(),
            steps: self.steps,
            config: self.config,
            author: self.author,
            history: self.history,
            span: self.needed.stage.head.span,
        }
    }

    fn is_uncached(&self) -> bool {
        match &self.request.no_cache {
            NoCache::Never => false,
            NoCache::Always => true,
            NoCache::Stages(names) => names.contains(&self.needed.name()),
        }
    }

    /// An instruction of the base's. One that comes with an image has no place in this file but the `FROM`.
    fn trigger(&mut self, at: usize, instruction: &Instruction) {
        let (steps, diagnostics, warnings) = (self.steps.len(), self.diagnostics.len(), self.warnings.len());
        self.instruction(at, instruction);
        let is_foreign = matches!(self.needed.base, Base::Image(_));
        for step in &mut self.steps[steps..] {
            step.text.insert_str(0, "ONBUILD ");
            if is_foreign {
                step.relocate(self.needed.stage.head.span);
            }
        }
        if is_foreign {
            let told = self.diagnostics.split_off(diagnostics);
            let from = self.needed.stage.from.base.span;
            self.diagnostics.extend(told.into_iter().map(|error| in_trigger(error, &instruction.text, from)));
            self.warnings[warnings..].iter_mut().for_each(|warning| warning.span = Some(from));
        }
    }

    fn instruction(&mut self, at: usize, instruction: &Instruction) {
        match &instruction.kind {
            // The parser begins a stage at each `FROM`, so none is left inside one.
            InstructionKind::From(_) => {}
            InstructionKind::Arg(arguments) => self.arg(arguments),
            InstructionKind::Env(pairs) => self.env(pairs),
            InstructionKind::Label(pairs) => self.label(pairs),
            InstructionKind::User(user) => self.user(user),
            InstructionKind::Workdir(path) => self.workdir(instruction, path),
            InstructionKind::Run(run) => self.run(at, instruction, run),
            InstructionKind::Copy(copy) => self.copy(at, instruction, copy),
            InstructionKind::Add(add) => self.add(instruction, add),
            InstructionKind::Cmd(command) => self.cmd(instruction, command),
            InstructionKind::Entrypoint(command) => self.entrypoint(instruction, command),
            InstructionKind::Expose(words) => self.expose(words),
            InstructionKind::Volume(words) => self.volume(words),
            InstructionKind::StopSignal(word) => self.stop_signal(word),
            InstructionKind::Shell(shell) => self.shell(shell),
            InstructionKind::Healthcheck(check) => self.healthcheck(check),
            InstructionKind::OnBuild(trigger) => {
                self.config.on_build.get_or_insert_default().push(trigger.trigger.clone());
            }
            InstructionKind::Maintainer(word) => {
                self.author = Some(word.text.clone());
                self.note(format!("MAINTAINER {}", word.text));
            }
        }
    }

    /// A line of history without a layer.
    fn note(&mut self, created_by: String) {
        self.history.push(HistoryLine { created_by, has_layer: false });
    }

    /// A line of history whose layer `step` makes.
    fn step(&mut self, created_by: String, step: Step) {
        self.history.push(HistoryLine { created_by, has_layer: true });
        self.steps.push(step);
    }

    fn fail(&mut self, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(span, message));
    }

    /// `word` with its variables replaced; a mistake in it is noted, and the result is empty.
    fn expand(&mut self, word: &Word) -> String {
        self.expand_with(word, &self.variables.clone())
    }

    /// The same against `variables`: an instruction sees its own assignments only where the language says so.
    fn expand_with(&mut self, word: &Word, variables: &Variables) -> String {
        let lookup = |name: &str| variables.get(name).map(str::to_owned);
        match expand_word(&word.text, self.stages.escape, &lookup) {
            Ok(expanded) => {
                self.undefined(word.span, &expanded.unset);
                expanded.value
            }
            Err(error) => {
                self.diagnostics.push(error.in_word(word));
                String::new()
            }
        }
    }

    fn expand_to_words(&mut self, word: &Word) -> Vec<String> {
        let variables = &self.variables;
        let lookup = |name: &str| variables.get(name).map(str::to_owned);
        match expand_words(&word.text, self.stages.escape, &lookup) {
            Ok(expanded) => {
                self.undefined(word.span, &expanded.unset);
                expanded.value
            }
            Err(error) => {
                self.diagnostics.push(error.in_word(word));
                Vec::new()
            }
        }
    }

    /// Notes variables that were used at `span` and are not set.
    fn undefined(&mut self, span: Span, unset: &[String]) {
        for name in unset {
            let declared = self.arguments.iter().map(|(name, _)| name.as_str());
            let known = self.variables.iter().map(|(name, _)| name);
            self.warnings.extend(meaning::undefined_variable(span, name, declared, known));
        }
    }

    /// The directory that relative paths start from.
    fn working_dir(&self) -> &Path {
        match self.config.working_dir.as_str() {
            "" => Path::new("/"),
            path => Path::new(path),
        }
    }
}

/// `path` below `/` without `.`, `..` and doubled slashes, by its text alone.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}
