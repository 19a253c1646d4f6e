//! Work side by side, by a bounded number of threads: a manifest names as many blobs as its author likes.
//!
//! Things are taken in their order, so that whoever waits for the first of them does not wait for the last. After a
//! failure nothing more is taken.

use std::cell::Cell;
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

/// More than any registry is asked for at once.
pub(crate) const MOST: usize = 16;

/// Things to be done, in their order.
pub(crate) struct Queue<T>(Mutex<std::vec::IntoIter<T>>);

impl<T: Send> Queue<T> {
    /// All of these.
    pub(crate) fn new(things: Vec<T>) -> Queue<T> {
        Queue(Mutex::new(things.into_iter()))
    }

    /// Lets up to `most` threads of `scope` do what there is, until there is nothing more or one of them says that it has
    /// failed.
    pub(crate) fn work<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        most: usize,
        act: impl Fn(T) -> bool + Sync + Send + Copy + 'scope,
    ) {
        let count = lock(&self.0).len();
        for _ in 0..count.min(most) {
            scope.spawn(move || {
                while let Some(thing) = self.next() {
                    if !act(thing) {
                        self.stop();
                    }
                }
            });
        }
    }

    /// Takes what is left away; it is dropped.
    pub(crate) fn stop(&self) {
        let left = std::mem::take(&mut *lock(&self.0));
        drop(left);
    }

    fn next(&self) -> Option<T> {
        lock(&self.0).next()
    }
}

/// Does `act` to all of `things`.
///
/// # Errors
/// That of the first of those that failed.
pub(crate) fn for_each<T: Send, E: Send>(
    things: impl IntoIterator<Item = T>,
    act: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let things: Vec<T> = things.into_iter().collect();
    let count = things.len();
    let give_all = |give: &dyn Fn(T)| -> Result<(), E> {
        things.into_iter().for_each(give);
        Ok(())
    };
    while_given(count, give_all, act)
}

/// Does `act` to what `source` gives, which is about `count` things, while it goes on giving.
///
/// # Errors
/// Its own, or that of the first of those that failed.
pub(crate) fn while_given<T: Send, R, E: Send>(
    count: usize,
    source: impl FnOnce(&dyn Fn(T)) -> Result<R, E>,
    act: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<R, E> {
    let (sender, given) = channel::<(usize, T)>();
    let (given, failed) = (Mutex::new(given), Mutex::new(None::<(usize, E)>));
    let work = || loop {
        let next = lock(&given).recv();
        let Ok((place, thing)) = next else { return };
        // After a failure what is left is only taken away.
        let has_failed = lock(&failed).is_some();
        let Err(error) = (if has_failed { Ok(()) } else { act(thing) }) else { continue };
        let mut failed = lock(&failed);
        if failed.as_ref().is_none_or(|(first, _)| place < *first) {
            *failed = Some((place, error));
        }
    };
    let made = thread::scope(|scope| {
        (0..count.min(MOST)).for_each(|_| drop(scope.spawn(work)));
        let place = Cell::new(0);
        // They stay until this has gone, unless they panic, which goes on behind this.
        let made = source(&|thing| drop(sender.send((place.replace(place.get() + 1), thing))));
        drop(sender);
        made
    })?;
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(made),
        Some((_, error)) => Err(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn many_things_are_done_by_few() {
        let (done, threads) = (AtomicUsize::new(0), Mutex::new(HashSet::new()));
        let result: Result<(), ()> = for_each(0..10_000, |_| {
            threads.lock().unwrap().insert(thread::current().id());
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        assert_eq!((result, done.into_inner()), (Ok(()), 10_000));
        assert!((1..=MOST).contains(&threads.into_inner().unwrap().len()));
    }

    #[test]
    fn the_first_failure_is_told_and_ends_the_rest() {
        let done = AtomicUsize::new(0);
        let result = for_each(0..100_000, |number| {
            done.fetch_add(1, Ordering::Relaxed);
            if number >= 20 { Err(number) } else { Ok(()) }
        });
        assert_eq!(result, Err(20));
        assert!(done.into_inner() <= 20 + MOST);
    }
}
