//! Work side by side, by a bounded number of threads: a manifest names as many blobs as its author likes.
//!
//! Things are taken in their order, so that whoever waits for the first of them does not wait for the last. After a
//! failure nothing more is taken.

use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};

/// More than any registry is asked for at once.
const MOST: usize = 16;

/// Things to be done, in their order.
pub(crate) struct Queue<T>(Mutex<std::vec::IntoIter<T>>);

impl<T: Send> Queue<T> {
    /// All of these.
    pub(crate) fn new(things: Vec<T>) -> Queue<T> {
        Queue(Mutex::new(things.into_iter()))
    }

    /// Lets threads of `scope` do what there is, until there is nothing more or one of them says that it has failed.
    pub(crate) fn work<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        act: impl Fn(T) -> bool + Sync + Send + Copy + 'scope,
    ) {
        let count = self.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        for _ in 0..count.min(MOST) {
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
        let left = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(left);
    }

    fn next(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
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
    let queue = Queue::new(things.into_iter().enumerate().collect());
    let failed: Mutex<Option<(usize, E)>> = Mutex::new(None);
    let try_one = |(place, thing)| match act(thing) {
        Ok(()) => true,
        Err(error) => {
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            if failed.as_ref().is_none_or(|(first, _)| place < *first) {
                *failed = Some((place, error));
            }
            false
        }
    };
    thread::scope(|scope| queue.work(scope, try_one));
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some((_, error)) => Err(error),
    }
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
