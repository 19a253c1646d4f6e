//! Carries out a plan: a thread a stage, steps in order within it, stages side by side.
//!
//! A stage goes from step to step with a cursor: what the file system is by then, by identity and by place. At
//! each step: derive the key; a hit moves the cursor; a miss puts the parent's file system together (only now is a
//! base image fetched and unpacked), executes, commits, remembers. Layers are packed beside all that, and only those
//! that the target's image consists of.
//!
//! Invariants: at most `jobs` steps execute at once; a key is worked on by one thread of one process at a time; the
//! first failure ends all others, and is the one that is told.

mod wait;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Scope};
use std::time::Instant;

use layerfs::snapshot::SnapshotId;
use oci::{Descriptor, Digest};

use crate::cache::{Key, PackedLayer, Record};
use crate::plan::{Base, ImageRef, Origin, Plan, Stage, StageId, Step, StepKind};
use crate::remote::{FetchRequest, Remote, Tree};
use crate::source::{Bases, progress_events};
use crate::step::Place;
use crate::step::known::KnownFiles;
use crate::step::source::Source;
use crate::{Backends, Error, Event, Events, Request, VertexId, step, timestamp};
use wait::{Promise, Slots};

/// Asks a build to stop. The one who does also ends the commands that run (`Executor::cancel`).
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// From now on no further step begins.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether someone asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the target's own steps, and those of the stages below it, came to.
#[derive(Debug)]
pub struct Built {
    /// The layers on top of the base image, bottom first.
    pub layers: Vec<BuiltLayer>,
    /// The target's file system, if any step made it.
    pub snapshot: Option<SnapshotId>,
}

/// A layer and when it was made.
#[derive(Clone, Debug)]
pub struct BuiltLayer {
    /// The layer.
    pub packed: PackedLayer,
    /// RFC 3339.
    pub created: String,
}

/// Carries out `plan`.
///
/// # Errors
/// The first step that failed.
pub fn solve(
    plan: &Plan,
    bases: &Bases,
    request: &Request,
    backends: &Backends<'_>,
    cancel: &Cancel,
    events: Events<'_>,
) -> Result<Built, Error> {
    let known = KnownFiles::new(backends.store);
    let solver = Solver {
        plan,
        bases,
        request,
        backends,
        cancel,
        events,
        slots: Slots::new(request.jobs.get()),
        packers: Slots::new(request.jobs.min(processors()).get()),
        compressors: Slots::new(1),
        made: Mutex::default(),
        fetched: Mutex::default(),
        next_vertex: AtomicUsize::new(0),
        in_image: stages_in_image(plan),
        results: plan.stages.iter().map(|_| Promise::default()).collect(),
        failure: Mutex::new(None),
        known: &known,
    };
    thread::scope(|scope| {
        let solver = &solver;
        // The last stage runs right here: most Dockerfiles have no other.
        let last = plan.stages.len() - 1;
        for id in 0..last {
            scope.spawn(move || solver.stage(scope, id));
        }
        solver.stage(scope, last);
    });
    known.save();
    if let Some(error) = lock(&solver.failure).take() {
        return Err(if cancel.is_cancelled() { Error::Cancelled } else { error });
    }
    let target = solver.results[plan.target].wait().ok_or(Error::Cancelled)?;
    let layers = target.layers.iter().map(|slot| {
        let packed = slot.packed.get().cloned().ok_or(Error::Cancelled)?;
        Ok(BuiltLayer { packed, created: slot.created.clone() })
    });
    let snapshot = match &target.top {
        Top::Snapshot(id) => Some(*id),
        // Where all that is below is here, so is the image.
        Top::Stack(..) if solver.is_here(&target.top) => solver.materialise(&target.top)?,
        Top::Empty | Top::Image(_) | Top::Stack(..) => None,
    };
    Ok(Built { layers: layers.collect::<Result<_, Error>>()?, snapshot })
}

/// The target and the stages it derives from: only their layers are packed.
fn stages_in_image(plan: &Plan) -> Vec<bool> {
    let mut in_image = vec![false; plan.stages.len()];
    let mut next = Some(plan.target);
    while let Some(id) = next {
        in_image[id] = true;
        next = match plan.stages[id].base {
            Base::Stage(id) => Some(id),
            _ => None,
        };
    }
    in_image
}

struct Solver<'a> {
    plan: &'a Plan,
    bases: &'a Bases,
    request: &'a Request,
    backends: &'a Backends<'a>,
    cancel: &'a Cancel,
    events: Events<'a>,
    slots: Slots,
    next_vertex: AtomicUsize,
    in_image: Vec<bool>,
    results: Vec<Promise<Cursor>>,
    /// What this very build executed: all that counts as a hit when the cache is not to be used.
    made: Mutex<HashMap<Key, Record>>,
    /// What was fetched, each thing once.
    fetched: Mutex<HashMap<Remote, Arc<Mutex<Option<Cursor>>>>>,
    /// The right to pack, which keeps a processor busy.
    packers: Slots,
    /// The right to compress, which keeps all of them busy.
    compressors: Slots,
    failure: Mutex<Option<Error>>,
    known: &'a KnownFiles<'a>,
}

/// What a stage's file system is after some of its steps.
#[derive(Clone, Debug)]
struct Cursor {
    /// Stands for it in keys.
    identity: Digest,
    /// Where it is.
    top: Top,
    /// The layers made so far, if they are packed at all.
    layers: Vec<Arc<LayerSlot>>,
}

impl Cursor {
    fn empty() -> Cursor {
        Cursor { identity: Digest::of(b""), top: Top::Empty, layers: Vec::new() }
    }

    fn of_tree(tree: &Tree) -> Cursor {
        Cursor { identity: tree.identity, top: Top::Snapshot(tree.snapshot), layers: Vec::new() }
    }

    /// Goes on to what a step made.
    fn put(&mut self, record: &Record, is_independent: bool) {
        if is_independent {
            let both = format!("{}\n{}", self.identity, record.identity);
            self.identity = Digest::of(both.as_bytes());
            let below = std::mem::replace(&mut self.top, Top::Empty);
            self.top = Top::Stack(Arc::new(below), record.snapshot);
        } else {
            self.identity = record.identity;
            self.top = Top::Snapshot(record.snapshot);
        }
    }
}

/// Whether a step's layer depends on nothing below it.
fn is_independent(step: &Step) -> bool {
    matches!(&step.kind, StepKind::Copy(copy) if copy.is_independent())
}

/// Where a file system is.
#[derive(Clone, Debug)]
enum Top {
    /// Nowhere: it is empty.
    Empty,
    /// In an image that may have to be fetched first.
    Image(ImageRef),
    /// In the store.
    Snapshot(SnapshotId),
    /// A layer that depends on nothing below it, on top of what is below it.
    Stack(Arc<Top>, SnapshotId),
}

/// A layer that is being packed.
#[derive(Debug)]
struct LayerSlot {
    created: String,
    packed: OnceLock<PackedLayer>,
}

impl<'a> Solver<'a> {
    /// Runs one stage and keeps its result for those who wait.
    fn stage<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, id: StageId) {
        // Should this thread panic, those who wait learn that nothing comes.
        let promise = self.results[id].keeper();
        match self.steps(scope, id) {
            Ok(cursor) => promise.keep(cursor),
            Err(error) => self.fail(error),
        }
    }

    fn steps<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, id: StageId) -> Result<Cursor, Error> {
        let stage = &self.plan.stages[id];
        let mut cursor = self.base(&stage.base)?;
        for (at, step) in stage.steps.iter().enumerate() {
            // The line begins when there is something to do: waiting for another stage is not this step's work.
            let origins = self.origins(step)?;
            let line = self.begin(self.name(stage, at));
            let place = Place { step, stage, request: self.request, known: self.known };
            let made = self.step(place, &cursor, &origins, &line);
            let (record, _) = line.end(made, |(_, is_hit)| *is_hit)?;
            cursor.put(&record, is_independent(step));
            if self.in_image[id] {
                let slot = Arc::new(LayerSlot { created: record.created, packed: OnceLock::new() });
                cursor.layers.push(slot.clone());
                self.pack(scope, step, record.snapshot, slot);
            }
        }
        Ok(cursor)
    }

    fn base(&self, base: &Base) -> Result<Cursor, Error> {
        match base {
            Base::Scratch => Ok(Cursor::empty()),
            Base::Image(image) => Ok(self.image(image)),
            Base::Stage(id) => self.results[*id].wait().ok_or(Error::Cancelled),
        }
    }

    /// An image is its file system: its configuration enters keys through the steps that it changes.
    fn image(&self, image: &ImageRef) -> Cursor {
        let identity = self.bases.get(image).chain().map_or(Digest::of(b""), |chain| chain.0);
        Cursor { identity, top: Top::Image(image.clone()), layers: Vec::new() }
    }

    /// The step's result, and whether an earlier build made it.
    fn step(
        &self,
        place: Place<'a>,
        cursor: &Cursor,
        origins: &[Option<Cursor>],
        line: &Line<'_>,
    ) -> Result<(Record, bool), Error> {
        self.check()?;
        let step = place.step;
        let parent = if is_independent(step) { Digest::of(b"") } else { cursor.identity };
        let identities: Vec<_> = origins.iter().map(|o| o.as_ref().map(|o| o.identity)).collect();
        let mut inputs = step::Inputs::new(place, parent, &identities)?;
        if let Some(record) = self.hit(place.stage, &inputs) {
            return Ok((record, true));
        }
        let give_up = || self.check().is_err();
        let turn = self.backends.cache.lock(&inputs.key, &give_up).map_err(cache_error)?;
        let _turn = turn.ok_or(Error::Cancelled)?;
        if let Some(record) = self.hit(place.stage, &inputs) {
            return Ok((record, true));
        }
        let is_by_origin = identities.iter().any(Option::is_some);
        // What is read from a stage is known by its content now, whatever made the stage anew.
        let short_cut = match is_by_origin {
            true => Some(inputs.by_content(self.open(step, origins)?)?),
            false => None,
        };
        if let (Some(short_cut), Some(record)) = (short_cut, self.hit(place.stage, &inputs)) {
            self.backends.cache.put(&short_cut, &record).map_err(cache_error)?;
            return Ok((record, true));
        }
        let parent = match is_independent(step) {
            true => None,
            false => self.materialise(&cursor.top)?,
        };
        let _slot = self.slots.take();
        self.check()?;
        let record = self.execute(place, &inputs, parent.as_ref(), line.vertex)?;
        for key in short_cut.iter().chain([&inputs.key]) {
            self.backends.cache.put(key, &record).map_err(cache_error)?;
            lock(&self.made).insert(*key, record.clone());
        }
        Ok((record, false))
    }

    fn hit(&self, stage: &Stage, inputs: &step::Inputs<'_>) -> Option<Record> {
        if stage.no_cache {
            return lock(&self.made).get(&inputs.key).cloned();
        }
        self.backends.cache.get(&inputs.key)
    }

    fn execute(
        &self,
        place: Place<'a>,
        inputs: &step::Inputs<'a>,
        parent: Option<&SnapshotId>,
        vertex: VertexId,
    ) -> Result<Record, Error> {
        let step = place.step;
        let fail = |act| move |source| Error::Step { span: step.span, act, source };
        let identity = if place.stage.no_cache { salted(&inputs.key) } else { inputs.key.0 };
        // What earlier builds made becomes safe from a power cut while this one has something to do.
        self.backends.store.settle_beside();
        let snapshots = self.backends.snapshots;
        let prepare = || snapshots.prepare(parent).map_err(fail("prepare the file system"));
        let active = match &step.kind {
            StepKind::Run(run) => {
                let (active, give_up) = (prepare()?, || self.check().is_err());
                let line = (vertex, self.events);
                step::run::execute((run, place), &active, &inputs.chosen, self.backends, &give_up, line)?;
                active
            }
            StepKind::Copy(copy) => {
                step::copy::execute((step, copy), parent, &inputs.chosen, snapshots, self.events)?
            }
            StepKind::Workdir(workdir) => {
                let active = prepare()?;
                step::workdir::execute((step, workdir), &active, self.events)?;
                active
            }
        };
        let snapshot = SnapshotId::key(identity);
        snapshots.commit(active, &snapshot).map_err(fail("keep the file system"))?;
        let components = inputs.components.clone();
        Ok(Record { identity, snapshot, created: timestamp::now(), components })
    }

    /// Where each input of a step comes from, once that is known; none for directories of this machine and for what
    /// stands in the Dockerfile.
    fn origins(&self, step: &Step) -> Result<Vec<Option<Cursor>>, Error> {
        let origin = |origin: &Origin| match origin {
            Origin::Context => Ok(self.request.context.tree().map(Cursor::of_tree)),
            Origin::Named(_) | Origin::Inline(_) => Ok(None),
            Origin::Scratch => Ok(Some(Cursor::empty())),
            Origin::Stage(id) => self.results[*id].wait().map(Some).ok_or(Error::Cancelled),
            Origin::Image(image) => Ok(Some(self.image(image))),
            Origin::Remote(remote) => self.fetch(step, remote).map(Some),
        };
        step.inputs().into_iter().map(|input| origin(&input.origin)).collect()
    }

    /// What `remote` is now. Always asked anew: only then is it known whether it has changed.
    fn fetch(&self, step: &Step, remote: &Remote) -> Result<Cursor, Error> {
        let slot = lock(&self.fetched).entry(remote.clone()).or_default().clone();
        let mut slot = lock(&slot);
        if let Some(cursor) = &*slot {
            return Ok(cursor.clone());
        }
        self.check()?;
        let line = self.begin(format!("[fetch] {remote}"));
        let request = FetchRequest {
            secret: &|id| self.request.secrets.read(id).ok().flatten(),
            give_up: &|| self.check().is_err(),
            progress: &|done_bytes, total_bytes| {
                let (label, total_bytes) = (remote.to_string(), total_bytes.unwrap_or(done_bytes));
                (self.events)(Event::Transfer { vertex: line.vertex, label, done_bytes, total_bytes });
            },
        };
        let tree = self.backends.remotes.fetch(remote, &request).map_err(|source| Error::Fetch {
            span: step.span,
            remote: remote.to_string(),
            source,
        });
        let tree = line.end(tree, |_| false)?;
        Ok(slot.insert(Cursor::of_tree(&tree)).clone())
    }

    /// Opens what the origins of a step's inputs are.
    fn open(&self, step: &'a Step, origins: &[Option<Cursor>]) -> Result<Vec<Option<Source<'a>>>, Error> {
        let open = |origin: &Option<Cursor>| {
            let Some(origin) = origin else { return Ok(None) };
            let snapshot = self.materialise(&origin.top)?;
            Source::snapshot(self.backends.snapshots, snapshot).map(Some).map_err(|source| Error::Step {
                span: step.span,
                act: "open the source",
                source,
            })
        };
        origins.iter().map(open).collect()
    }

    /// Makes sure that a file system is in the store: the only place where a base image is fetched.
    fn materialise(&self, top: &Top) -> Result<Option<SnapshotId>, Error> {
        let image = match top {
            Top::Empty => return Ok(None),
            Top::Snapshot(id) => return Ok(Some(*id)),
            Top::Stack(below, layer) => return self.stack(below, layer).map(Some),
            Top::Image(image) => image,
        };
        let base = self.bases.get(image);
        let ready = base.chain().map(SnapshotId::chain).filter(|id| self.backends.snapshots.contains(id));
        if ready.is_some() {
            return Ok(ready);
        }
        let reference = &image.reference;
        let line = self.begin(format!("[pull] {}", reference.familiar()));
        let show = progress_events(line.vertex, self.events);
        let progress = |layer: &Descriptor, bytes| show(layer, bytes) && self.check().is_ok();
        let snapshot = self.backends.images.snapshot(base, &progress);
        let image_error =
            |source| Error::Image { reference: reference.clone(), span: None, stage: None, source };
        line.end(snapshot.map_err(image_error), |_| false)
    }

    /// Whether nothing has to be fetched to put a file system together.
    fn is_here(&self, top: &Top) -> bool {
        match top {
            Top::Empty | Top::Snapshot(_) => true,
            Top::Stack(below, _) => self.is_here(below),
            Top::Image(image) => {
                let chain = self.bases.get(image).chain().map(SnapshotId::chain);
                chain.is_none_or(|id| self.backends.snapshots.contains(&id))
            }
        }
    }

    /// Puts an independent layer on top of what is below it: only now does that have to be there.
    fn stack(&self, below: &Top, layer: &SnapshotId) -> Result<SnapshotId, Error> {
        let snapshots = self.backends.snapshots;
        let below = self.materialise(below)?.map(|id| snapshots.resolve(&id));
        let name = format!("stack\n{}\n{layer}", below.map(|id| id.to_string()).unwrap_or_default());
        let id = SnapshotId::key(Digest::of(name.as_bytes()));
        let stacked = snapshots.restack(below.as_ref(), layer, &id);
        stacked.map_err(|source| Error::Store { act: "put the layer of a `--link` in its place", source })?;
        Ok(id)
    }

    fn pack<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        step: &'a Step,
        snapshot: SnapshotId,
        slot: Arc<LayerSlot>,
    ) {
        if let Some(layer) = self.backends.cache.layer(&snapshot, self.plan.packing()) {
            slot.packed.get_or_init(|| layer);
            return;
        }
        scope.spawn(move || match self.pack_now(&snapshot) {
            Ok(layer) => {
                let diff_id = slot.packed.get_or_init(|| layer).diff_id;
                if let Some(form) = self.request.layers_leave_as {
                    let _turn = self.compressors.take();
                    // Delivery does it again, and says what was wrong.
                    let _unheard = form.make_ahead(diff_id, self.backends.store, &|| self.check().is_ok());
                }
            }
            Err(source) => self.fail(Error::Step { span: step.span, act: "pack the layer", source }),
        });
    }

    fn pack_now(&self, snapshot: &SnapshotId) -> layerfs::Result<PackedLayer> {
        let _slot = self.packers.take();
        let options = self.plan.packing();
        let changes = self.backends.snapshots.changes(snapshot)?;
        let packed = self.backends.store.put_layer(&changes, options)?;
        let layer = PackedLayer { diff_id: packed.diff_id, descriptor: packed.descriptor() };
        self.backends.cache.put_layer(snapshot, options, &layer)?;
        Ok(layer)
    }

    /// `[build 2/4] RUN make`
    fn name(&self, stage: &Stage, at: usize) -> String {
        let (number, count) = stage.position(at);
        let text = &stage.steps[at].text;
        match self.plan.stages_in_file {
            1 => format!("[{number}/{count}] {text}"),
            _ if stage.name.parse::<usize>().is_ok() => {
                format!("[stage-{} {number}/{count}] {text}", stage.name)
            }
            _ => format!("[{} {number}/{count}] {text}", stage.name),
        }
    }

    fn begin(&self, name: String) -> Line<'a> {
        let vertex = self.next_vertex.fetch_add(1, Ordering::Relaxed);
        (self.events)(Event::Started { vertex, name });
        Line { vertex, started: Instant::now(), events: self.events }
    }

    fn check(&self) -> Result<(), Error> {
        let failed = lock(&self.failure).is_some();
        if failed || self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn fail(&self, error: Error) {
        let first = {
            let mut failure = lock(&self.failure);
            let first = failure.is_none();
            // What follows from a failure is not told in its place.
            if first || matches!(*failure, Some(Error::Cancelled)) {
                *failure = Some(error);
            }
            first
        };
        if first {
            self.backends.executor.cancel();
        }
    }
}

fn processors() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn cache_error(source: layerfs::Error) -> Error {
    Error::Store { act: "use the build cache", source }
}

/// The identity of what was executed in spite of the cache: nothing that an earlier build made stands on it.
fn salted(key: &Key) -> Digest {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Digest::of(format!("{}\n{}\n{}\n{count}", key.0, timestamp::now(), std::process::id()).as_bytes())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line of progress while its work lasts.
struct Line<'a> {
    vertex: VertexId,
    started: Instant,
    events: Events<'a>,
}

impl Line<'_> {
    fn end<T>(self, result: Result<T, Error>, is_hit: impl FnOnce(&T) -> bool) -> Result<T, Error> {
        let (vertex, elapsed) = (self.vertex, self.started.elapsed());
        (self.events)(match &result {
            Ok(value) if is_hit(value) => Event::Cached { vertex },
            Ok(_) => Event::Finished { vertex, elapsed },
            Err(_) => Event::Failed { vertex, elapsed },
        });
        result
    }
}
