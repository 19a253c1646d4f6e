//! How many transfers a host has at once: no more than the user allows, and fewer once the host says that it has had
//! enough.
//!
//! A refusal (429) halves the number, and each round of transfers that ends without one adds one again: what TCP does
//! with a network that it does not know. (RFC 5681.)

use std::sync::{Arc, Condvar, Mutex};

use crate::transport::lock;

/// One host's transfers, in one direction.
pub(crate) struct Gate {
    state: Mutex<State>,
    freed: Condvar,
    most: usize,
}

struct State {
    busy: usize,
    limit: usize,
    /// How many have ended since the limit changed.
    ended: usize,
}

impl Gate {
    /// For `most` transfers at once, at least one.
    pub(crate) fn new(most: usize) -> Gate {
        let most = most.max(1);
        Gate { state: Mutex::new(State { busy: 0, limit: most, ended: 0 }), freed: Condvar::new(), most }
    }

    /// Waits until one more transfer may run.
    pub(crate) fn enter(self: Arc<Self>) -> Permit {
        let mut state = lock(&self.state);
        while state.busy >= state.limit {
            state = self.freed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        state.busy += 1;
        drop(state);
        Permit { gate: self }
    }

    /// The host has had enough. Those that run go on.
    pub(crate) fn narrow(&self) {
        let mut state = lock(&self.state);
        state.limit = (state.limit / 2).max(1);
        state.ended = 0;
    }
}

/// The right to one transfer, given back when dropped.
pub(crate) struct Permit {
    gate: Arc<Gate>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = lock(&self.gate.state);
        state.busy -= 1;
        state.ended += 1;
        if state.ended >= state.limit && state.limit < self.gate.most {
            state.limit += 1;
            state.ended = 0;
        }
        drop(state);
        // More than one may pass where the limit has grown.
        self.gate.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(gate: &Gate) -> usize {
        lock(&gate.state).limit
    }

    #[test]
    fn a_refusal_halves_and_calm_restores() {
        let gate = Arc::new(Gate::new(6));
        let pass = |times: usize| (0..times).for_each(|_| drop(gate.clone().enter()));
        pass(20);
        assert_eq!(limit(&gate), 6, "never more than the user allows");
        gate.narrow();
        assert_eq!(limit(&gate), 3);
        pass(2);
        assert_eq!(limit(&gate), 3);
        pass(1);
        assert_eq!(limit(&gate), 4, "a round of three has ended");
        for _ in 0..9 {
            gate.narrow();
        }
        assert_eq!(limit(&gate), 1, "never none at all");
        pass(1);
        assert_eq!(limit(&gate), 2);
        assert_eq!(limit(&Gate::new(0)), 1);
    }

    #[test]
    fn those_that_run_go_on_and_the_next_wait() {
        let gate = Arc::new(Gate::new(2));
        let (first, second) = (gate.clone().enter(), gate.clone().enter());
        gate.narrow();
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiting = gate.clone();
        let third = std::thread::spawn(move || {
            let permit = waiting.enter();
            sender.send(()).unwrap();
            drop(permit);
        });
        drop(first);
        assert!(receiver.try_recv().is_err(), "one still runs, and the limit is one");
        drop(second);
        receiver.recv().unwrap();
        third.join().unwrap();
    }
}
