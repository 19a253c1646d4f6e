//! Signals, taken by one thread and handed to whoever wants them at the moment.
//!
//! [`Signals::start`] blocks them before any other thread exists, so that all threads inherit the mask. Without a
//! [`Subscription`] a signal does what it does to every program: that is how a pull is interrupted. What one does to
//! a build is said in `command/build/interrupt`, to a container in `command/run/attach`.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::signal::{self, SigSet, Signal};

use crate::failure::Failure;

/// Those that end a build.
pub(crate) const ENDING: &[Signal] = &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
/// Those that are passed on to a container, and the one that says that the terminal has another size.
pub(crate) const PROXIED: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
];

/// The thread that takes signals.
#[derive(Clone, Debug)]
pub(crate) struct Signals(Arc<Mutex<Option<Sender<Signal>>>>);

impl Signals {
    /// Takes `signals` from now on. To be called before there is a second thread.
    ///
    /// # Errors
    /// When there can be no second thread.
    pub(crate) fn start(signals: &[Signal]) -> Result<Signals, Failure> {
        let set: SigSet = signals.iter().copied().collect();
        let environment = |error: std::io::Error| Failure::environment(&error);
        set.thread_block().map_err(|errno| environment(errno.into()))?;
        let subscriber = Signals(Arc::default());
        let signals = subscriber.clone();
        let take = move || {
            while let Ok(signal) = set.wait() {
                signals.deliver(signal);
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(take).map_err(environment)?;
        Ok(subscriber)
    }

    /// Signals come out of the receiver until the subscription is dropped, which ends the receiver.
    pub(crate) fn subscribe(&self) -> (Receiver<Signal>, Subscription<'_>) {
        let (sender, receiver) = mpsc::channel();
        *self.subscriber() = Some(sender);
        (receiver, Subscription(self))
    }

    fn deliver(&self, signal: Signal) {
        let sent = self.subscriber().as_ref().is_some_and(|subscriber| subscriber.send(signal).is_ok());
        if sent {
            return;
        }
        let set = SigSet::from(signal);
        // With the signal let through to this thread, raising it does what it does by default; most end here.
        let _ = set.thread_unblock().and_then(|()| signal::raise(signal)).and_then(|()| set.thread_block());
    }

    fn subscriber(&self) -> MutexGuard<'_, Option<Sender<Signal>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropped, signals have their usual effect again.
#[derive(Debug)]
pub(crate) struct Subscription<'a>(&'a Signals);

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        *self.0.subscriber() = None;
    }
}
