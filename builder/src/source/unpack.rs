//! Layers on top of each other: each is unpacked while it comes from its registry, and those above it come meanwhile.

use std::io::Read;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use layerfs::Arrival;
use layerfs::snapshot::SnapshotId;
use oci::{ChainId, Descriptor, DiffId};

use super::{BaseImage, Images, Progress};
use crate::error::ImageError;
use crate::workers::Queue;

/// Layers of an image, from the bottom, and where those come to that are not here.
pub(super) struct Coming<'a> {
    pub(super) image: &'a BaseImage,
    pub(super) layers: Vec<(&'a Descriptor, DiffId)>,
    pub(super) arrivals: &'a [Option<Arrival>],
    pub(super) progress: Progress<'a>,
}

impl Images<'_> {
    /// Unpacks each layer while it comes, and those above it with it.
    pub(super) fn unpack_while_coming(
        &self,
        coming: &Coming<'_>,
        mut parent: Option<ChainId>,
    ) -> Result<(), ImageError> {
        let mut fetches = Vec::new();
        let answers: Vec<_> = coming
            .layers
            .iter()
            .zip(coming.arrivals)
            .map(|((layer, _), arrival)| {
                let (sender, answer) = channel();
                fetches.push((*layer, arrival.as_ref()?, sender));
                Some(answer)
            })
            .collect();
        let fetch = |(layer, arrival, answer): (&Descriptor, &Arrival, Sender<_>)| {
            let fetched = self.fetch_layer(&coming.image.reference, layer, coming.progress, arrival);
            let is_here = fetched.is_ok();
            // Whoever wanted it may have failed meanwhile.
            answer.send(fetched).ok();
            is_here
        };
        let mut unpack_next = |layer: &Descriptor, diff_id: DiffId, arrival: Option<&Arrival>| {
            let above = parent.map_or(ChainId::bottom(diff_id), |chain| chain.with(diff_id));
            match arrival {
                Some(arrival) => self.unpack(parent, above, arrival.reader(), diff_id)?,
                None => {
                    let here = self.store.verified(layer);
                    // A layer that does not unpack is perhaps not the one that was fetched.
                    here.and_then(|here| self.unpack(parent, above, here, diff_id))
                        .map_err(|error| self.store.blame(&layer.digest, error))?;
                }
            }
            parent = Some(above);
            Ok(())
        };
        let fetches = Queue::new(fetches);
        thread::scope(|scope| {
            fetches.work(scope, fetch);
            let mut steps = coming.layers.iter().zip(coming.arrivals).zip(answers);
            let unpacked = steps.try_for_each(|(((layer, diff_id), arrival), answer)| {
                let unpacked = unpack_next(layer, *diff_id, arrival.as_ref());
                // That a layer did not come is the reason why it could not be unpacked. Nobody answers after a panic,
                // which goes on behind this.
                answer.map_or(Ok(()), |answer| answer.recv().unwrap_or(Ok(())))?;
                unpacked.map_err(ImageError::Store)
            });
            fetches.stop();
            unpacked
        })
    }

    fn unpack(
        &self,
        parent: Option<ChainId>,
        chain: ChainId,
        source: impl Read + Send,
        diff_id: DiffId,
    ) -> layerfs::Result<()> {
        let parent = parent.map(SnapshotId::chain);
        let active = self.snapshots.prepare(parent.as_ref())?;
        layerfs::layer::unpack::unpack_layer(source, &active, diff_id)?;
        self.snapshots.commit(active, &SnapshotId::chain(chain))
    }
}
