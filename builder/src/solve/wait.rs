//! What the threads of a build wait for: a free slot, and another stage's result.

use std::sync::{Condvar, Mutex, PoisonError};

use super::lock;

/// The right to execute a step: there are as many as `jobs`.
pub(super) struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Slots {
    pub(super) fn new(count: usize) -> Slots {
        Slots { free: Mutex::new(count), freed: Condvar::new() }
    }

    pub(super) fn take(&self) -> Slot<'_> {
        let free = lock(&self.free);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(self)
    }
}

pub(super) struct Slot<'a>(&'a Slots);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

/// A value that is there later, or never.
pub(super) struct Promise<T> {
    state: Mutex<State<T>>,
    kept: Condvar,
}

enum State<T> {
    Open,
    Kept(T),
    Broken,
}

impl<T> Default for Promise<T> {
    fn default() -> Promise<T> {
        Promise { state: Mutex::new(State::Open), kept: Condvar::new() }
    }
}

impl<T: Clone> Promise<T> {
    /// The value; none if it never comes.
    pub(super) fn wait(&self) -> Option<T> {
        let state = lock(&self.state);
        let is_open = |state: &mut State<T>| matches!(state, State::Open);
        match &*self.kept.wait_while(state, is_open).unwrap_or_else(PoisonError::into_inner) {
            State::Kept(value) => Some(value.clone()),
            _ => None,
        }
    }

    pub(super) fn keeper(&self) -> Keeper<'_, T> {
        Keeper(self)
    }
}

/// Breaks the promise when dropped without keeping it.
pub(super) struct Keeper<'a, T>(&'a Promise<T>);

impl<T> Keeper<'_, T> {
    pub(super) fn keep(&self, value: T) {
        *lock(&self.0.state) = State::Kept(value);
    }
}

impl<T> Drop for Keeper<'_, T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if matches!(*state, State::Open) {
            *state = State::Broken;
        }
        self.0.kept.notify_all();
    }
}
