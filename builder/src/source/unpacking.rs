//! The layers of an image become snapshots: fetched all at once, unpacked while they come, as many at a time as there are
//! processors, and put on each other from the bottom up.
//!
//! Order for one layer: unpacked apart from what lies below; when that is there, fitted onto it and committed. A layer that
//! cannot be had apart is unpacked anew, onto its parent. A layer that did not come is the reason why it could not be
//! unpacked, so that is said first.

use std::io::Read;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use layerfs::Arrival;
use layerfs::layer::unpack::{Apart, unpack_apart, unpack_layer};
use layerfs::snapshot::{Active, SnapshotId};
use oci::{ChainId, Descriptor, DiffId, Reference};

use super::{Images, Progress};
use crate::error::ImageError;
use crate::workers::{self, Queue};

/// A layer that has to be unpacked.
struct Layer<'a> {
    descriptor: &'a Descriptor,
    diff_id: DiffId,
    /// Where it comes, if it is not in the store.
    arrival: Option<Arrival>,
}

/// What came of a layer: nothing if it needs its parent.
type Unpacked = layerfs::Result<Option<(Active, Apart)>>;

/// Where it is said that a layer has come, if it has to, and what it was unpacked to.
type Answers = (Option<Receiver<Result<(), ImageError>>>, Receiver<Unpacked>);

/// Whoever waits for a layer that nobody fetches any more learns of it, whichever way the work ends.
struct End<'a>(&'a [Layer<'a>]);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.iter().filter_map(|layer| layer.arrival.as_ref()).for_each(Arrival::give_up);
    }
}

impl Images<'_> {
    /// Commits a snapshot for each of `layers`, bottom first, on top of `parent`.
    pub(super) fn unpack_all(
        &self,
        reference: &Reference,
        layers: &[(&Descriptor, DiffId)],
        parent: Option<ChainId>,
        progress: Progress<'_>,
    ) -> Result<(), ImageError> {
        let layers = layers.iter().map(|(descriptor, diff_id)| self.layer(descriptor, *diff_id));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let (mut fetches, mut unpacks) = (Vec::new(), Vec::new());
        let answers = layers.iter().map(|layer| {
            let fetched = layer.arrival.as_ref().map(|arrival| {
                let (sender, answer) = channel();
                fetches.push((layer.descriptor, arrival, sender));
                answer
            });
            let (sender, unpacked) = channel();
            unpacks.push((layer, sender));
            (fetched, unpacked)
        });
        let answers: Vec<Answers> = answers.collect();
        // Whoever wanted an answer may have failed meanwhile.
        let fetch = |(descriptor, arrival, answer): (&Descriptor, &Arrival, Sender<_>)| {
            let fetched = self.fetch_layer(reference, descriptor, progress, arrival);
            let is_here = fetched.is_ok();
            answer.send(fetched).is_ok() && is_here
        };
        let unpack = |(layer, answer): (&Layer<'_>, Sender<Unpacked>)| {
            let unpacked = self.unpack_apart(layer);
            let is_well = unpacked.is_ok();
            answer.send(unpacked).is_ok() && is_well
        };
        let (fetches, unpacks) = (Queue::new(fetches), Queue::new(unpacks));
        let processors = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let _end = End(&layers);
            fetches.work(scope, workers::MOST, fetch);
            unpacks.work(scope, processors, unpack);
            let put = self.put_all(&layers, answers, parent);
            fetches.stop();
            unpacks.stop();
            put
        })
    }

    /// Puts the layers on each other as they come.
    fn put_all(
        &self,
        layers: &[Layer<'_>],
        answers: Vec<Answers>,
        mut parent: Option<ChainId>,
    ) -> Result<(), ImageError> {
        layers.iter().zip(answers).try_for_each(|(layer, (fetched, unpacked))| {
            let above = parent.map_or(ChainId::bottom(layer.diff_id), |chain| chain.with(layer.diff_id));
            // Nobody answers after a panic, which goes on behind this.
            let apart = unpacked.recv().unwrap_or(Ok(None));
            let put = apart.and_then(|apart| self.put(layer, apart, parent, above));
            // That a layer did not come is the reason why it could not be unpacked.
            fetched.map_or(Ok(()), |answer| answer.recv().unwrap_or(Ok(())))?;
            let put = match put {
                // What was unpacked was not the layer, which is here now.
                Err(_) if layer.arrival.as_ref().is_some_and(Arrival::has_restarted) => {
                    self.put_anew(&Layer { arrival: None, ..*layer }, parent, above)
                }
                put => put,
            };
            put.map_err(ImageError::Store)?;
            parent = Some(above);
            Ok(())
        })
    }

    fn layer<'a>(&self, descriptor: &'a Descriptor, diff_id: DiffId) -> Result<Layer<'a>, ImageError> {
        let held = self.store.hold(&descriptor.digest).map_err(ImageError::Store)?;
        Ok(Layer { descriptor, diff_id, arrival: held.is_none().then(Arrival::default) })
    }

    /// Nothing if the layer needs its parent.
    fn unpack_apart(&self, layer: &Layer<'_>) -> layerfs::Result<Option<(Active, Apart)>> {
        let Some(snapshots) = self.snapshots.apart() else { return Ok(None) };
        let active = snapshots.prepare_apart()?;
        let apart = self.read(layer, |source| unpack_apart(source, &active, layer.diff_id))?;
        Ok(apart.map(|apart| (active, apart)))
    }

    /// Commits a layer as `chain`, on top of `parent`.
    fn put(
        &self,
        layer: &Layer<'_>,
        apart: Option<(Active, Apart)>,
        parent: Option<ChainId>,
        chain: ChainId,
    ) -> layerfs::Result<()> {
        if let (Some((active, apart)), Some(snapshots)) = (apart, self.snapshots.apart()) {
            let below = parent.map(SnapshotId::chain);
            let fits = match &below {
                None => true,
                Some(below) => apart.settle(&active, self.snapshots.view(below)?.root())?,
            };
            if fits {
                return snapshots.commit_onto(below.as_ref(), active, &SnapshotId::chain(chain));
            }
        }
        self.put_anew(layer, parent, chain)
    }

    /// Unpacks a layer onto `parent`.
    fn put_anew(&self, layer: &Layer<'_>, parent: Option<ChainId>, chain: ChainId) -> layerfs::Result<()> {
        let (parent, id) = (parent.map(SnapshotId::chain), SnapshotId::chain(chain));
        let active = self.snapshots.prepare(parent.as_ref())?;
        self.read(layer, |source| unpack_layer(source, &active, layer.diff_id))?;
        self.snapshots.commit(active, &id)
    }

    /// Reads a layer from where it comes or is.
    fn read<T>(
        &self,
        layer: &Layer<'_>,
        read: impl FnOnce(&mut (dyn Read + Send)) -> layerfs::Result<T>,
    ) -> layerfs::Result<T> {
        match &layer.arrival {
            Some(arrival) => read(&mut arrival.reader()),
            // A layer that does not unpack is perhaps not the one that was fetched.
            None => (self.store.verified(layer.descriptor))
                .and_then(|mut here| read(&mut here))
                .map_err(|error| self.store.blame(&layer.descriptor.digest, error)),
        }
    }
}
