//! `RUN --mount`: options become mounts with absolute targets and known origins.

use std::path::{Path, PathBuf};

use super::{Lowering, clean};
use crate::dockerfile::diagnostic::{Diagnostic, Span};
use crate::dockerfile::expand::expand_word;
use crate::dockerfile::instruction::{self, MountSpec, Word};
use crate::plan::{Access, Input, Mount, MountKind, Origin};

/// Lets builds that share a store keep their cache mounts apart. (BuildKit's build argument.)
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

impl Lowering<'_> {
    /// The mounts of the `RUN` at `at`. What is wrong with one is noted, and it is left out.
    pub(super) fn mounts(&mut self, at: usize, mounts: &[instruction::Mount]) -> Vec<Mount> {
        let mut lowered = Vec::with_capacity(mounts.len());
        let mut sockets = 0;
        for (number, mount) in mounts.iter().enumerate() {
            match self
                .mount_spec(mount)
                .and_then(|spec| self.mount(spec, mount.span, (at, number), &mut sockets))
            {
                Ok(kind) => lowered.push(Mount { span: mount.span, kind }),
                Err(diagnostic) => self.diagnostics.push(diagnostic),
            }
        }
        lowered
    }

    fn mount_spec(&mut self, mount: &instruction::Mount) -> Result<MountSpec, Diagnostic> {
        let mut unset = Vec::new();
        let lookup = |name: &str| self.variables.get(name).map(str::to_owned);
        let mut expand = |word: &Word| {
            expand_word(&word.text, self.stages.escape, &lookup)
                .map(|mut expanded| {
                    unset.append(&mut expanded.unset);
                    expanded.value
                })
                .map_err(|error| error.in_word(word))
        };
        let spec = mount.resolve(&mut expand);
        self.undefined(mount.span, &unset);
        spec
    }

    fn mount(
        &self,
        spec: MountSpec,
        span: Span,
        place: (usize, usize),
        sockets: &mut usize,
    ) -> Result<MountKind, Diagnostic> {
        let access = |mode: Option<u32>, default, uid: Option<u32>, gid: Option<u32>| Access {
            mode: mode.unwrap_or(default),
            uid: uid.unwrap_or(0),
            gid: gid.unwrap_or(0),
        };
        Ok(match spec {
            MountSpec::Bind { target, source, from, writable } => {
                let input = self.input(place, from, source.as_deref().unwrap_or("/"), span);
                MountKind::Bind { target: self.target(&target, span)?, input, writable }
            }
            MountSpec::Cache { target, id, source, from, read_only, sharing, mode, uid, gid } => {
                let target = self.target(&target, span)?;
                let id = id.unwrap_or_else(|| target.to_string_lossy().into_owned());
                let source = source.as_deref().unwrap_or("/");
                // As in BuildKit: with a seed, the source is a path in the seed; without, in the cache.
                let seed = from.map(|from| self.input(place, Some(from), source, span));
                let source = if seed.is_some() { PathBuf::from("/") } else { clean(Path::new(source)) };
                let access = access(mode, 0o755, uid, gid);
                MountKind::Cache { target, id: self.cache_id(&id), seed, source, read_only, sharing, access }
            }
            MountSpec::Tmpfs { target, size_bytes } => {
                MountKind::Tmpfs { target: self.target(&target, span)?, size_bytes }
            }
            MountSpec::Secret { id, target, env, required, mode, uid, gid } => {
                let target = target.map(|target| self.target(&target, span)).transpose()?;
                MountKind::Secret { id, target, env, required, access: access(mode, 0o400, uid, gid) }
            }
            MountSpec::Ssh { id, target, required, mode, uid, gid } => {
                let default = format!("/run/buildkit/ssh_agent.{sockets}");
                *sockets += 1;
                let target = self.target(target.as_deref().unwrap_or(&default), span)?;
                MountKind::Ssh { id, target, required, access: access(mode, 0o600, uid, gid) }
            }
        })
    }

    fn input(&self, place: (usize, usize), from: Option<String>, path: &str, span: Span) -> Input {
        // A `from` that refers to nothing has been reported while the stages were selected.
        let origin = self.needed.origins.get(&place).cloned().unwrap_or(Origin::Context);
        Input { origin, from, paths: vec![(path.to_owned(), span)], unpack: false }
    }

    /// Below the working directory, and not the root itself.
    fn target(&self, target: &str, span: Span) -> Result<PathBuf, Diagnostic> {
        let path = clean(&self.working_dir().join(target));
        if path == Path::new("/") {
            return Err(
                Diagnostic::error(span, "a mount cannot cover `/`").hint("`target=` says where it appears")
            );
        }
        Ok(path)
    }

    fn cache_id(&self, id: &str) -> String {
        match self.request.build_args.get(CACHE_NAMESPACE) {
            Some(namespace) => format!("{namespace}/{id}"),
            None => id.to_owned(),
        }
    }
}
