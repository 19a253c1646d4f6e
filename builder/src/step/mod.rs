//! What each step is made of and what it does to a snapshot.
//!
//! [`Inputs`] derives a step's key; the modules execute each kind.

pub(crate) mod copy;
pub(crate) mod run;
pub(crate) mod workdir;

use layerfs::confined::Time;
use layerfs::copy::Selection;
use oci::Digest;

use crate::cache::{Component, Key, KeyBuilder};
use crate::plan::{Copy, Run, Step, StepKind, Workdir};
use crate::request::Network;
use crate::{Error, Request};

/// The modification time of directories that a build makes: 1970, so that the same inputs make the same layer whenever
/// they do.
pub(crate) const MADE_AT: Time = Time { seconds: 0, nanoseconds: 0 };

/// What a step is made of.
pub(crate) struct Inputs {
    /// The key: by what is copied, or by where it is copied from as long as that is all that is known.
    pub(crate) key: Key,
    /// What the key is made of.
    pub(crate) components: Vec<Component>,
    parent: Digest,
    /// The files that `COPY` copies, once they are selected.
    selection: Option<Selection>,
}

impl Inputs {
    /// The inputs of `step` on top of `parent`. `origin` stands for the stage or image that it copies from.
    pub(crate) fn new(
        step: &Step,
        parent: Digest,
        origin: Option<Digest>,
        request: &Request,
    ) -> Result<Inputs, Error> {
        let mut selection = None;
        let builder = match (&step.kind, origin) {
            (StepKind::Run(run), _) => run_key(run, parent, request),
            (StepKind::Workdir(workdir), _) => workdir_key(workdir, parent),
            (StepKind::Copy(copy), Some(origin)) => {
                let mut builder = copy_key("COPY by origin", copy, parent);
                builder.add("origin", origin.to_string());
                builder.add_all("source", copy.sources.iter().map(|(path, _)| path.as_str()));
                builder
            }
            (StepKind::Copy(copy), None) => {
                let source = copy::Source::context(step, request)?;
                let (selected, content) = source.select(step, copy, request)?;
                selection = Some(selected);
                by_content(copy, parent, content)
            }
        };
        let (key, components) = builder.finish();
        Ok(Inputs { key, components, parent, selection })
    }

    /// Turns the key of a `COPY` from a stage or an image into one by content; gives the old one.
    pub(crate) fn by_content(
        &mut self,
        step: &Step,
        source: &copy::Source,
        request: &Request,
    ) -> Result<Key, Error> {
        let StepKind::Copy(copy) = &step.kind else { return Ok(self.key) };
        let (selected, content) = source.select(step, copy, request)?;
        let (key, components) = by_content(copy, self.parent, content).finish();
        self.selection = Some(selected);
        self.components = components;
        Ok(std::mem::replace(&mut self.key, key))
    }

    /// The files that a `COPY` copies; every `COPY` that is executed has been keyed by content.
    pub(crate) fn selection(&self) -> &Selection {
        self.selection.as_ref().expect("a COPY is keyed by content before it is executed")
    }
}

fn run_key(run: &Run, parent: Digest, request: &Request) -> KeyBuilder {
    let mut builder = KeyBuilder::new("RUN", parent);
    builder.add_all("argument", run.args.iter().map(String::as_str));
    if let Some(script) = &run.script {
        builder.add("script path", script.path.to_string_lossy());
        builder.add("script", script.text.as_str());
    }
    builder.add_all("environment", run.env.iter().map(|(name, value)| format!("{name}={value}")));
    builder.add("working directory", run.cwd.to_string_lossy());
    builder.add("user", run.user.as_str());
    builder.add("network", if run.network == Network::Host { "host" } else { "none" });
    builder.add("platform", request.platform.to_string());
    builder
}

fn workdir_key(workdir: &Workdir, parent: Digest) -> KeyBuilder {
    let mut builder = KeyBuilder::new("WORKDIR", parent);
    builder.add("path", workdir.path.to_string_lossy());
    builder.add("user", workdir.user.as_str());
    builder
}

fn by_content(copy: &Copy, parent: Digest, content: Digest) -> KeyBuilder {
    let mut builder = copy_key("COPY", copy, parent);
    builder.add("content", content.to_string());
    builder
}

fn copy_key(kind: &str, copy: &Copy, parent: Digest) -> KeyBuilder {
    let mut builder = KeyBuilder::new(kind, parent);
    builder.add("destination", copy.destination.as_str());
    builder.add("owner", copy.owner.as_deref().unwrap_or_default());
    builder.add("mode", copy.mode.as_deref().unwrap_or_default());
    builder.add("unpack", copy.unpack.to_string());
    builder
}
