//! What has to be fetched or unpacked before a build can begin: contexts from afar, archives, layouts.
//!
//! Named contexts from afar stay where they are: the builder fetches those that a stage needs.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use builder::remote::{self, Fetch, FetchRequest, Remote, Tree};
use builder::source::layout;
use builder::{Event, Files, NamedContext};
use layerfs::confined::Root;
use layerfs::snapshot::Snapshotter;
use layerfs::store::Store;
use oci::Platform;

use super::named::NamedPlace;
use super::place::{ContextPlace, DockerfilePlace, USUAL_NAMES};
use super::text::{self, Dockerfile, MAX_DOCKERFILE_BYTES};
use super::{Material, Order};
use crate::command;
use crate::failure::Failure;
use crate::progress::Progress;

/// The number of the first line of progress here.
const FIRST_LINE: usize = 1000;

/// What gathering works with.
pub(crate) struct Gatherer<'a> {
    pub(crate) store: &'a Store,
    pub(crate) snapshots: &'a dyn Snapshotter,
    pub(crate) remotes: &'a dyn Fetch,
    pub(crate) progress: &'a Progress,
}

/// Whether whoever waits for a fetch has given up.
type GiveUp<'a> = &'a (dyn Fn() -> bool + Sync);

impl Order<'_> {
    /// What the build reads, if all of it is on this machine and can be read in place.
    pub(crate) fn material(&self) -> Option<Result<Material, Failure>> {
        let DockerfilePlace::Read(dockerfile) = &self.dockerfile else { return None };
        let context = match &self.context {
            ContextPlace::Directory(root) => text::context(root.clone(), Some(dockerfile)),
            // Whoever needs no store reads no files either.
            ContextPlace::Nothing => text::without_ignore_file(PathBuf::from("/")),
            ContextPlace::Archive { .. } | ContextPlace::Remote(_) => return None,
        };
        let contexts = self
            .contexts
            .iter()
            .map(|(name, platform, place)| Some((name.clone(), platform.clone(), place.in_place()?)));
        let contexts = contexts.collect::<Option<Vec<_>>>()?;
        let material = |context| Material { dockerfile: dockerfile.clone(), context, contexts };
        Some(context.map(|context| material(Files::Directory(context))))
    }

    /// Fetches and unpacks what is not here.
    ///
    /// # Errors
    /// When something is not where it was said to be, or is not what it should be.
    pub(crate) fn gather(&self, gatherer: &Gatherer<'_>, give_up: GiveUp<'_>) -> Result<Material, Failure> {
        let fetch = |remote: &Remote, nth| gatherer.fetch(remote, nth, self, give_up);
        let (dockerfile, context) = match &self.context {
            ContextPlace::Directory(root) => {
                let dockerfile = self.read(None, gatherer, &fetch)?;
                let context = text::context(root.clone(), Some(&dockerfile))?;
                (dockerfile, Files::Directory(context))
            }
            place => {
                let tree = match place {
                    ContextPlace::Remote(remote) => fetch(remote, 0)?,
                    ContextPlace::Archive { head } => {
                        gatherer.unpack(&mut head.as_slice().chain(io::stdin()))?
                    }
                    ContextPlace::Directory(_) | ContextPlace::Nothing => {
                        remote::empty_context(gatherer.store, gatherer.snapshots)
                            .map_err(|error| Failure::stdin(&error))?
                    }
                };
                (self.read(Some(&tree), gatherer, &fetch)?, Files::Tree(tree))
            }
        };
        let contexts = self.contexts.iter().map(|(name, platform, place)| {
            Ok((name.clone(), platform.clone(), gatherer.named(place, platform.as_ref(), &self.platforms)?))
        });
        Ok(Material { dockerfile, context, contexts: contexts.collect::<Result<_, Failure>>()? })
    }

    /// The Dockerfile; `tree` is the context where that is one.
    fn read(
        &self,
        tree: Option<&Tree>,
        gatherer: &Gatherer<'_>,
        fetch: &dyn Fn(&Remote, usize) -> Result<Tree, Failure>,
    ) -> Result<Dockerfile, Failure> {
        match (&self.dockerfile, tree) {
            (DockerfilePlace::Read(dockerfile), _) => Ok(dockerfile.clone()),
            (DockerfilePlace::Remote(remote), _) => {
                let tree = fetch(remote, 1)?;
                let mut file = gatherer.read(&tree, &[PathBuf::from(&tree.name)], &format!("`{remote}`"))?;
                file.name = remote.to_string();
                Ok(file)
            }
            (DockerfilePlace::Inside(path), Some(tree)) => {
                let usual = USUAL_NAMES.map(PathBuf::from);
                let paths = path.as_ref().map_or(usual.as_slice(), std::slice::from_ref);
                gatherer.read(tree, paths, &self.context.to_string())
            }
            (DockerfilePlace::Inside(_), None) => unreachable!("a directory's Dockerfile has been read"),
        }
    }
}

impl Gatherer<'_> {
    fn unpack(&self, archive: &mut (dyn Read + Send)) -> Result<Tree, Failure> {
        remote::unpack_context(archive, self.store, self.snapshots).map_err(|error| Failure::stdin(&error))
    }

    /// Fetches `remote` as the `nth` line of progress.
    fn fetch(
        &self,
        remote: &Remote,
        nth: usize,
        order: &Order<'_>,
        give_up: GiveUp<'_>,
    ) -> Result<Tree, Failure> {
        let name = remote.to_string();
        command::line(self.progress, FIRST_LINE + nth, format!("fetching {name}"), |vertex, events| {
            self.remotes.fetch(
                remote,
                &FetchRequest {
                    // A secret that cannot be read is none; the server then says what it thinks of that.
                    secret: &|id| order.secrets.read(id).ok().flatten(),
                    give_up,
                    progress: &|done_bytes, total_bytes| {
                        events(Event::Transfer {
                            vertex,
                            label: name.clone(),
                            done_bytes,
                            total_bytes: total_bytes.unwrap_or(done_bytes + 1),
                        });
                    },
                },
            )
        })
        .map_err(|error| Failure::fetch(&name, &error))
    }

    /// The first of `paths` that the tree has; `place` is what messages call the tree.
    fn read(&self, tree: &Tree, paths: &[PathBuf], place: &str) -> Result<Dockerfile, Failure> {
        let fail = |error: &layerfs::Error| Failure::tree("read the Dockerfile", place, error);
        let view = self.snapshots.view(&tree.snapshot).map_err(|error| fail(&error))?;
        let root = Root::duplicate(view.root()).map_err(|error| fail(&error))?;
        for path in paths {
            if let Some(bytes) = root.read_small(path, MAX_DOCKERFILE_BYTES).map_err(|error| fail(&error))? {
                return Dockerfile::of(path.to_string_lossy(), bytes.as_slice());
            }
        }
        let wanted = paths.first().map_or(Path::new(USUAL_NAMES[0]), PathBuf::as_path);
        Err(Failure::usage(format!("there is no `{}` in {place}", wanted.display()))
            .hint("`-f FILE` names another one"))
    }

    fn named(
        &self,
        place: &NamedPlace,
        only: Option<&Platform>,
        platforms: &[Platform],
    ) -> Result<NamedContext, Failure> {
        let NamedPlace::Layout(image) = place else {
            return Ok(place.in_place().expect("only layouts have to be read"));
        };
        let mut wanted = only.map_or_else(|| platforms.to_vec(), |only| vec![only.clone()]);
        wanted.push(Platform::host());
        layout::import(self.store, image, &wanted)
            .map(NamedContext::Image)
            .map_err(|error| Failure::environment(&error))
    }
}
