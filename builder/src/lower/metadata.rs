//! Instructions that change the configuration and make no layer.

use oci::Healthcheck;
use serde_json::json;

use super::history::{duration, plain_list, quoted_list};
use super::{Lowering, expose};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{self, Argument, Command, Instruction, Pair, Word};
use crate::dockerfile::signal::{is_signal, nearest_signal};
use crate::lint::meaning;

impl Lowering<'_> {
    /// A value for `ARG` comes from `--build-arg`, its own default, or, for a bare name, the global scope. Each one sees
    /// those before it on the same line.
    pub(super) fn arg(&mut self, arguments: &[Argument]) {
        let mut texts = Vec::new();
        for argument in arguments {
            let name = self.expand(&argument.name);
            let value = match (self.request.build_args.get(&name), &argument.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default)),
                (None, None) => self.stages.globals.get(&name).map(str::to_owned),
            };
            match &value {
                Some(value) => {
                    // What only tells the builder about attestations is no variable. (BuildKit.)
                    if !name.starts_with("BUILDKIT_SBOM_SCAN_") {
                        self.variables.set(&name, value);
                    }
                    texts.push(format!("{name}={value}"));
                }
                None => texts.push(name.clone()),
            }
            self.arguments.push((name, value));
        }
        self.note(format!("ARG {}", texts.join(" ")));
    }

    /// All values of one `ENV` see the variables from before it.
    pub(super) fn env(&mut self, pairs: &[Pair]) {
        let mut text = "ENV".to_owned();
        for (name, value) in self.pairs(pairs) {
            text.push_str(&format!(" {name}={value}"));
            self.variables.set(&name, &value);
            let entry = format!("{name}={value}");
            let same_name = |known: &&mut String| known.split('=').next() == Some(&name);
            match self.config.env.iter_mut().find(same_name) {
                Some(known) => *known = entry,
                None => self.config.env.push(entry),
            }
        }
        self.note(text);
    }

    pub(super) fn label(&mut self, pairs: &[Pair]) {
        let mut text = "LABEL".to_owned();
        for (name, value) in self.pairs(pairs) {
            text.push_str(&format!(" {name}={value}"));
            self.config.labels.insert(name, value);
        }
        self.note(text);
    }

    fn pairs(&mut self, pairs: &[Pair]) -> Vec<(String, String)> {
        let before = self.variables.clone();
        let mut expanded = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let name = self.expand_with(&pair.key, &before);
            if name.is_empty() && self.diagnostics.is_empty() {
                self.fail(pair.key.span, "a name cannot be empty");
            }
            expanded.push((name, self.expand_with(&pair.value, &before)));
        }
        expanded
    }

    pub(super) fn user(&mut self, word: &Word) {
        let user = self.expand(word);
        self.note(format!("USER {user}"));
        self.config.user = user;
    }

    pub(super) fn cmd(&mut self, instruction: &Instruction, command: &Command) {
        let args = self.image_command(instruction, command);
        self.note(format!("CMD {}", quoted_list(&args)));
        self.config.cmd = Some(args);
        self.config.args_escaped = Some(true);
        self.has_cmd = true;
    }

    /// An inherited `CMD` was meant for the inherited entry point, so it goes; one of this stage stays.
    pub(super) fn entrypoint(&mut self, instruction: &Instruction, command: &Command) {
        let args = self.image_command(instruction, command);
        self.note(format!("ENTRYPOINT {}", quoted_list(&args)));
        self.config.entrypoint = if args.is_empty() { None } else { Some(args) };
        if !self.has_cmd {
            self.config.cmd = None;
        }
    }

    pub(super) fn shell(&mut self, shell: &[String]) {
        self.note(format!("SHELL {}", plain_list(shell)));
        self.config.shell = Some(shell.to_vec());
    }

    /// The argument vector of `command`: the shell form is one string for the stage's shell.
    fn image_command(&mut self, instruction: &Instruction, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(args) => args.clone(),
            Command::Shell(text) => {
                if self.config.shell.as_ref().is_none_or(Vec::is_empty) {
                    self.warnings.push(meaning::shell_form(instruction.span, &instruction.keyword.text));
                }
                self.shell_args(text)
            }
        }
    }

    pub(super) fn shell_args(&self, text: &str) -> Vec<String> {
        let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
        let mut args = self.config.shell.clone().unwrap_or_else(default);
        args.push(text.to_owned());
        args
    }

    pub(super) fn expose(&mut self, words: &[Word]) {
        let mut expanded: Vec<(String, _)> = Vec::new();
        for word in words {
            expanded.extend(self.expand_to_words(word).into_iter().map(|text| (text, word.span)));
        }
        expanded.sort_by(|a, b| a.0.cmp(&b.0));
        let mut all = Vec::new();
        for (text, span) in expanded {
            self.warnings.extend(meaning::exposed_port(span, &text));
            match expose::ports(&text) {
                Ok(ports) => all.extend(ports),
                Err(message) => self.fail(span, message),
            }
        }
        for port in &all {
            self.config.exposed_ports.insert(port.clone(), json!({}));
        }
        self.note(format!("EXPOSE {}", plain_list(&all)));
    }

    pub(super) fn volume(&mut self, words: &[Word]) {
        let mut paths = Vec::new();
        for word in words {
            let path = self.expand(word);
            if path.is_empty() {
                self.fail(word.span, "a volume's path cannot be empty");
            }
            self.config.volumes.insert(path.clone(), json!({}));
            paths.push(path);
        }
        self.note(format!("VOLUME {}", plain_list(&paths)));
    }

    pub(super) fn stop_signal(&mut self, word: &Word) {
        let signal = self.expand(word);
        if !is_signal(&signal) {
            let message =
                format!("`{signal}` is not a signal: expected a name such as `SIGTERM` or a number");
            let diagnostic = Diagnostic::error(word.span, message);
            self.diagnostics.push(match nearest_signal(&signal) {
                Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
                None => diagnostic,
            });
        }
        self.note(format!("STOPSIGNAL {signal}"));
        self.config.stop_signal = Some(signal);
    }

    pub(super) fn healthcheck(&mut self, check: &instruction::Healthcheck) {
        let nanoseconds = |time: Option<std::time::Duration>| {
            time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
        };
        let check = match check {
            instruction::Healthcheck::None => {
                Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }
            }
            instruction::Healthcheck::Check(check) => {
                let test = match &check.test {
                    Command::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
                    Command::Exec(args) => {
                        std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect()
                    }
                };
                Healthcheck {
                    test,
                    interval: nanoseconds(check.interval),
                    timeout: nanoseconds(check.timeout),
                    start_period: nanoseconds(check.start_period),
                    start_interval: nanoseconds(check.start_interval),
                    retries: check.retries.map_or(0, i64::from),
                    ..Healthcheck::default()
                }
            }
        };
        self.note(format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            plain_list(&check.test),
            duration(check.interval),
            duration(check.timeout),
            duration(check.start_period),
            duration(check.start_interval),
            check.retries,
        ));
        self.config.healthcheck = Some(check);
    }
}
