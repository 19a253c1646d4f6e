//! What each step is made of and what it does to a snapshot.
//!
//! [`Inputs`] derives a step's key; the modules execute each kind.

pub(crate) mod agent;
pub(crate) mod copy;
pub(crate) mod known;
pub(crate) mod mask;
pub(crate) mod mount;
pub(crate) mod owner;
pub(crate) mod run;
pub(crate) mod source;
pub(crate) mod workdir;

use layerfs::confined::Time;
use oci::Digest;

use crate::cache::{Component, Key, KeyBuilder};
use crate::dockerfile::instruction::Sharing;
use crate::plan::{Access, Copy, Mount, MountKind, Origin, Run, Stage, Step, StepKind, Workdir};
use crate::request::{NamedContext, Network};
use crate::{Error, Request};
use known::KnownFiles;
use source::{Chosen, Source};

/// The modification time of directories that a build makes: 1970, so that the same inputs make the same layer whenever
/// they do.
pub(crate) const MADE_AT: Time = Time { seconds: 0, nanoseconds: 0 };

/// A step and what stands round it.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The step.
    pub(crate) step: &'a Step,
    /// Its stage.
    pub(crate) stage: &'a Stage,
    /// The build.
    pub(crate) request: &'a Request,
    /// What earlier builds found in its directories.
    pub(crate) known: &'a KnownFiles<'a>,
}

/// What a step is made of.
pub(crate) struct Inputs<'a> {
    /// The key: by what is read, or by where it is read from as long as that is all that is known.
    pub(crate) key: Key,
    /// What the key is made of.
    pub(crate) components: Vec<Component>,
    /// The files of each input, once they are chosen.
    pub(crate) chosen: Vec<Option<Chosen<'a>>>,
    place: Place<'a>,
    parent: Digest,
}

impl<'a> Inputs<'a> {
    /// The inputs of a step on top of `parent`. `origins` stand for the stages, images and fetched trees that it reads.
    pub(crate) fn new(
        place: Place<'a>,
        parent: Digest,
        origins: &[Option<Digest>],
    ) -> Result<Inputs<'a>, Error> {
        let mut chosen = Vec::with_capacity(origins.len());
        for (input, origin) in place.step.inputs().into_iter().zip(origins) {
            chosen.push(match (&input.origin, origin) {
                (Origin::Inline(files), _) => Some(Chosen::Inline(files)),
                (_, Some(_)) => None,
                (origin, None) => {
                    let source = local(origin, place)?;
                    source.map(|source| Chosen::from(source, input, place.step, place.request)).transpose()?
                }
            });
        }
        let (key, components) = key(place, parent, &chosen, origins);
        Ok(Inputs { key, components, chosen, place, parent })
    }

    /// Turns a key by origin into one by content; gives the old one. `sources` are what the origins turned out to be.
    pub(crate) fn by_content(&mut self, sources: Vec<Option<Source<'a>>>) -> Result<Key, Error> {
        let inputs = self.place.step.inputs();
        for ((chosen, input), source) in self.chosen.iter_mut().zip(inputs).zip(sources) {
            if let Some(source) = source {
                *chosen = Some(Chosen::from(source, input, self.place.step, self.place.request)?);
            }
        }
        let origins = vec![None; self.chosen.len()];
        let (key, components) = key(self.place, self.parent, &self.chosen, &origins);
        self.components = components;
        Ok(std::mem::replace(&mut self.key, key))
    }
}

/// The directory of this machine that `origin` is.
fn local<'a>(origin: &Origin, place: Place<'a>) -> Result<Option<Source<'a>>, Error> {
    let directory = match origin {
        Origin::Context => place.request.context.directory(),
        Origin::Named(name) => match place.request.contexts.get(name) {
            Some(NamedContext::Directory(context)) => Some(context),
            _ => None,
        },
        Origin::Scratch | Origin::Stage(_) | Origin::Image(_) | Origin::Remote(_) | Origin::Inline(_) => None,
    };
    directory.map(|context| Source::directory(context, place.known, place.step.span)).transpose()
}

fn key(
    place: Place<'_>,
    parent: Digest,
    chosen: &[Option<Chosen<'_>>],
    origins: &[Option<Digest>],
) -> (Key, Vec<Component>) {
    let mut builder = match &place.step.kind {
        StepKind::Run(run) => run_key(run, parent, place),
        StepKind::Workdir(workdir) => workdir_key(workdir, parent),
        StepKind::Copy(copy) => copy_key(copy, parent),
    };
    for ((input, chosen), origin) in place.step.inputs().into_iter().zip(chosen).zip(origins) {
        builder.add("unpack", input.unpack.to_string());
        match (chosen, origin) {
            (Some(chosen), _) => {
                chosen.describe(&mut builder);
                // A command sees the directory itself; a copy takes only what is in it.
                if let (StepKind::Run(_), Some(root)) = (&place.step.kind, chosen.root()) {
                    builder.add("shown", root);
                }
            }
            (None, origin) => {
                builder.add("origin", origin.map_or_else(String::new, |origin| origin.to_string()));
                builder.add_all("source", input.paths.iter().map(|(path, _)| path.as_str()));
            }
        }
    }
    builder.finish()
}

fn run_key(run: &Run, parent: Digest, Place { stage, request, .. }: Place<'_>) -> KeyBuilder {
    let settings = &request.run;
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
    builder.add("security", if run.insecure { "insecure" } else { "sandbox" });
    builder.add_all("mount", run.mounts.iter().map(describe_mount));
    builder.add_all("extra host", settings.extra_hosts.iter().map(String::as_str));
    builder.add_all("ulimit", settings.ulimits.iter().map(|limit| format!("{limit:?}")));
    builder.add("cgroup parent", settings.cgroup_parent.as_deref().unwrap_or_default());
    builder.add("shm size", settings.shm_size_bytes.to_string());
    builder.add("platform", stage.platform.to_string());
    builder
}

/// What of a mount makes a command another one: never what a secret, an agent or a cache holds.
fn describe_mount(mount: &Mount) -> String {
    let shown = |access: &Access| format!("{:o} {}:{}", access.mode, access.uid, access.gid);
    match &mount.kind {
        MountKind::Bind { target, writable, .. } => format!("bind {target:?} writable={writable}"),
        MountKind::Cache { target, id, source, read_only, sharing, seed, .. } => {
            // As in BuildKit, where another name or another sharing is no reason to execute again.
            let is_plain = id == &target.to_string_lossy() && *sharing == Sharing::Shared;
            let name = if is_plain { id.as_str() } else { "" };
            let is_seeded = seed.is_some();
            format!("cache {target:?} {name:?} {source:?} seeded={is_seeded} read_only={read_only}")
        }
        MountKind::Tmpfs { target, size_bytes } => format!("tmpfs {target:?} {size_bytes:?}"),
        MountKind::Secret { id, target, env, required, access } => {
            format!("secret {id:?} {target:?} {env:?} required={required} {}", shown(access))
        }
        MountKind::Ssh { id, target, required, access } => {
            format!("ssh {id:?} {target:?} required={required} {}", shown(access))
        }
    }
}

fn workdir_key(workdir: &Workdir, parent: Digest) -> KeyBuilder {
    let mut builder = KeyBuilder::new("WORKDIR", parent);
    builder.add("path", workdir.path.to_string_lossy());
    builder.add("user", workdir.user.as_str());
    builder
}

fn copy_key(copy: &Copy, parent: Digest) -> KeyBuilder {
    let mut builder = KeyBuilder::new("COPY", parent);
    builder.add("destination", copy.destination.as_str());
    builder.add("owner", copy.owner.as_deref().unwrap_or_default());
    builder.add("mode", copy.mode.as_deref().unwrap_or_default());
    builder.add("link", copy.is_independent().to_string());
    builder.add("parents", copy.parents.to_string());
    builder.add_all("exclude", copy.exclude.iter().map(String::as_str));
    if copy.parents {
        // Where a source begins decides about the directories on the way to it.
        let paths = copy.inputs.iter().flat_map(|input| &input.paths);
        builder.add_all("path", paths.map(|(path, _)| path.as_str()));
    }
    builder
}
