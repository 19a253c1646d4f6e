//! What a signal does to a build: the first one ends it, a second one has its usual effect.
//!
//! What runs in a container is killed and nothing more begins; the build then ends by itself, which takes as
//! long as this machine takes to finish what it is at. A registry may take for ever. While one is asked
//! ([`Interrupt::remotely`]) the process therefore ends where it stands. That is sound: containers do not
//! outlive it, what is visible in the store is whole, and what is not is cleared when the store is next opened.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use builder::Cancel;
use builder::error::ImageError;
use builder::exec::Executor;
use builder::remote::{Fetch, FetchError, FetchRequest, Remote, Tree};
use builder::source::{BaseImage, ImageSource, Progress as Transferred};
use layerfs::snapshot::SnapshotId;
use oci::{Platform, Reference};

use crate::failure::Failure;
use crate::progress::Progress;
use crate::signal::Signals;

/// The way to end one build.
pub(super) struct Interrupt<'a> {
    /// Ends the builder.
    pub(super) cancel: Cancel,
    executor: &'a dyn Executor,
    progress: &'a Progress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    has_come: bool,
    /// How many threads may be waiting for a registry.
    remote: usize,
}

impl<'a> Interrupt<'a> {
    /// Of a build that has not begun.
    pub(super) fn new(executor: &'a dyn Executor, progress: &'a Progress) -> Interrupt<'a> {
        Interrupt { cancel: Cancel::default(), executor, progress, state: Mutex::default() }
    }

    /// Does `work`, which the first signal interrupts.
    pub(super) fn watch<T>(
        &self,
        signals: &Signals,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let result = thread::scope(|scope| {
            let (received, subscription) = signals.subscribe();
            scope.spawn(|| {
                if received.into_iter().next().is_some() {
                    self.come();
                }
            });
            let result = work();
            // Ends the thread above, which the scope waits for.
            drop(subscription);
            result
        });
        // What fails because it was killed is not what the user wants to read about.
        result.map_err(|failure| if self.cancel.is_cancelled() { Failure::cancelled() } else { failure })
    }

    /// Does `work`, which may wait for a registry: it is not waited for.
    pub(super) fn remotely<T>(&self, work: impl FnOnce() -> T) -> T {
        {
            let mut state = self.state();
            if state.has_come {
                self.end();
            }
            state.remote += 1;
        }
        let result = work();
        self.state().remote -= 1;
        result
    }

    fn come(&self) {
        self.cancel.cancel();
        self.executor.cancel();
        let mut state = self.state();
        state.has_come = true;
        if state.remote > 0 {
            self.end();
        }
    }

    /// Ends the process as a build does that ended by itself.
    #[expect(clippy::disallowed_methods, reason = "the thread that could return is waiting for a registry")]
    fn end(&self) -> ! {
        self.progress.finish();
        let failure = Failure::cancelled();
        // Nobody is left to tell.
        write!(io::stderr().lock(), "{failure}").ok();
        std::process::exit(failure.exit().code().into())
    }

    /// The lock holds plain data: a panic of another thread leaves it usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Downloads that are not waited for. Git is told to end instead, so that it does not outlive this process.
pub(super) struct InterruptibleFetch<'a> {
    pub(super) remotes: &'a dyn Fetch,
    pub(super) interrupt: &'a Interrupt<'a>,
}

impl Fetch for InterruptibleFetch<'_> {
    fn fetch(&self, remote: &Remote, request: &FetchRequest<'_>) -> Result<Tree, FetchError> {
        match remote {
            Remote::Http(_) => self.interrupt.remotely(|| self.remotes.fetch(remote, request)),
            Remote::Git(_) => self.remotes.fetch(remote, request),
        }
    }
}

/// Images that are not waited for.
pub(super) struct Interruptible<'a> {
    pub(super) images: &'a dyn ImageSource,
    pub(super) interrupt: &'a Interrupt<'a>,
}

impl ImageSource for Interruptible<'_> {
    fn resolve(&self, name: &Reference, platform: &Platform, fresh: bool) -> Result<BaseImage, ImageError> {
        self.interrupt.remotely(|| self.images.resolve(name, platform, fresh))
    }

    fn fetch(&self, image: &BaseImage, progress: Transferred<'_>) -> Result<(), ImageError> {
        self.interrupt.remotely(|| self.images.fetch(image, progress))
    }

    fn snapshot(
        &self,
        image: &BaseImage,
        progress: Transferred<'_>,
    ) -> Result<Option<SnapshotId>, ImageError> {
        self.interrupt.remotely(|| self.images.snapshot(image, progress))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use builder::exec::Job;

    use super::*;
    use crate::args;

    #[derive(Default)]
    struct Ended(AtomicUsize);

    impl Executor for Ended {
        fn run(&self, _: Job<'_>, _: &mut dyn FnMut(&[u8])) -> Result<runner::Exit, runner::Error> {
            unreachable!("nothing is built here")
        }

        fn cancel(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_signal_ends_what_waits_for_no_registry_by_itself() {
        let executor = Ended::default();
        let progress = Progress::new(args::Progress::Quiet, true).unwrap();
        let signals = Signals::start(&[]).unwrap();
        let interrupt = Interrupt::new(&executor, &progress);
        let fails = || Err::<(), _>(Failure::usage("odd"));
        let undisturbed = interrupt.watch(&signals, || interrupt.remotely(fails));
        assert_eq!(undisturbed, Err(Failure::usage("odd")));
        assert!(!interrupt.cancel.is_cancelled());
        let disturbed = interrupt.watch(&signals, || {
            interrupt.come();
            fails()
        });
        assert_eq!(disturbed, Err(Failure::cancelled()));
        assert_eq!(executor.0.into_inner(), 1);
    }
}
