//! The layers of an image become snapshots: fetched all at once, unpacked while they come, as many at a time as there are
//! processors, and put on each other from the bottom up.
//!
//! Order for one layer: unpacked apart from what lies below; when that is there, fitted onto it and committed. A layer that
//! cannot be had apart is unpacked anew, onto its parent. A layer that did not come is the reason why it could not be
//! unpacked, so that is said first.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use layerfs::Arrival;
use layerfs::layer::unpack::{Apart, unpack_apart, unpack_layer};
use layerfs::snapshot::{Active, SnapshotId};
use oci::{ChainId, Descriptor, DiffId, Reference};

use super::{Images, Progress, join};
use crate::error::ImageError;

/// A layer that has to be unpacked.
struct Layer<'a> {
    descriptor: &'a Descriptor,
    diff_id: DiffId,
    /// Where it comes, if it is not in the store.
    arrival: Option<Arrival>,
}

/// Which layer, and what came of it: nothing if it needs its parent.
type Done = (usize, layerfs::Result<Option<(Active, Apart)>>);

/// Which layer is unpacked next, and whether any more are.
#[derive(Default)]
struct Queue {
    next: AtomicUsize,
    is_over: AtomicBool,
}

/// Ends the queue whichever way the work ends.
struct End<'a>(&'a Queue);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
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
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let (queue, (results, done)) = (Queue::default(), channel());
        thread::scope(|scope| {
            let _end = End(&queue);
            let fetchers = layers.iter().map(|Layer { descriptor, arrival, .. }| {
                let arrival = arrival.as_ref()?;
                Some(scope.spawn(move || self.fetch_layer(reference, descriptor, progress, arrival)))
            });
            let fetchers: Vec<_> = fetchers.collect();
            for _ in 0..processors.min(layers.len()) {
                let (results, queue, layers) = (results.clone(), &queue, &layers);
                scope.spawn(move || self.unpack_apart(layers, queue, &results));
            }
            drop(results);
            let (mut parent, mut waiting) = (parent, BTreeMap::new());
            for ((place, layer), fetcher) in layers.iter().enumerate().zip(fetchers) {
                while !waiting.contains_key(&place) {
                    // Whoever has panicked is heard of at the end of the scope.
                    let Ok((place, unpacked)) = done.recv() else { break };
                    waiting.insert(place, unpacked);
                }
                let apart = waiting.remove(&place).unwrap_or(Ok(None));
                let above = parent.map_or(ChainId::bottom(layer.diff_id), |chain| chain.with(layer.diff_id));
                let put = apart.and_then(|apart| self.put(layer, apart, parent, above));
                fetcher.map_or(Ok(()), join)?;
                put.map_err(ImageError::Store)?;
                parent = Some(above);
            }
            Ok(())
        })
    }

    fn layer<'a>(&self, descriptor: &'a Descriptor, diff_id: DiffId) -> Result<Layer<'a>, ImageError> {
        let held = self.store.hold(&descriptor.digest).map_err(ImageError::Store)?;
        Ok(Layer { descriptor, diff_id, arrival: held.is_none().then(Arrival::default) })
    }

    /// Unpacks one layer after the other until none is left.
    fn unpack_apart(&self, layers: &[Layer<'_>], queue: &Queue, results: &Sender<Done>) {
        while !queue.is_over.load(Ordering::Relaxed) {
            let place = queue.next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = layers.get(place) else { return };
            let unpacked = self.snapshots.prepare_apart().and_then(|active| {
                let Some(active) = active else { return Ok(None) };
                let apart = self.read(layer, |source| unpack_apart(source, &active, layer.diff_id))?;
                Ok(apart.map(|apart| (active, apart)))
            });
            if results.send((place, unpacked)).is_err() {
                return;
            }
        }
    }

    /// Commits a layer as `chain`, on top of `parent`.
    fn put(
        &self,
        layer: &Layer<'_>,
        apart: Option<(Active, Apart)>,
        parent: Option<ChainId>,
        chain: ChainId,
    ) -> layerfs::Result<()> {
        let (parent, id) = (parent.map(SnapshotId::chain), SnapshotId::chain(chain));
        if let Some((active, apart)) = apart {
            let fits = match &parent {
                None => true,
                Some(parent) => apart.settle(&active, self.snapshots.view(parent)?.root())?,
            };
            if fits {
                return self.snapshots.commit_onto(parent.as_ref(), active, &id);
            }
        }
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
