//! Work on several items at once, in a stated number of threads: the caller's and others, as far as the system has them.

use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use crate::threads;

/// Applies `work` to every item, on at most `threads` threads, and returns the results in order.
pub fn map<I, R>(threads: usize, items: I, work: impl Fn(I::Item) -> R + Sync) -> Vec<R>
where
    I: IntoIterator<IntoIter: ExactSizeIterator + Send>,
    R: Send,
{
    let items = items.into_iter();
    let count = items.len();
    if threads <= 1 || count <= 1 {
        return items.map(work).collect();
    }
    let left = Mutex::new(items.enumerate());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let take = || {
        let mut done = Vec::new();
        while let Some((index, item)) = next() {
            done.push((index, work(item)));
        }
        done
    };
    let mut all: Vec<(usize, R)> = thread::scope(|scope| {
        let start = |_| threads::start_in(scope, take).ok();
        let workers: Vec<_> = (1..threads.min(count)).map_while(start).collect();
        let own = take();
        workers.into_iter().flat_map(joined).chain(own).collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Applies `work` to both, at once where there are threads for it.
pub fn both<T: Send, R: Send>(threads: usize, pair: (T, T), work: impl Fn(T) -> R + Sync) -> (R, R) {
    if threads <= 1 {
        return (work(pair.0), work(pair.1));
    }
    // Where no thread can be started, the second is still here.
    let second = Mutex::new(Some(pair.1));
    let take = || second.lock().unwrap_or_else(PoisonError::into_inner).take().map(&work);
    thread::scope(|scope| {
        let other = threads::start_in(scope, take);
        let first = work(pair.0);
        let second = other.map_or_else(|_| take(), joined);
        (first, second.expect("whoever asks for it first is alone"))
    })
}

fn joined<T>(worker: ScopedJoinHandle<'_, T>) -> T {
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use crate::threads::tests::with_only;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..100).collect();
        for threads in [1, 3] {
            let squares = super::map(threads, &items, |item| item * item);
            assert!(squares.iter().zip(&items).all(|(square, item)| *square == item * item));
            assert_eq!(squares.len(), items.len());
            assert_eq!(super::both(threads, (2, 3), |item: u64| item * item), (4, 9));
        }
    }

    #[test]
    fn the_caller_does_what_threads_would_that_the_system_refuses() {
        for allowed in [0, 1] {
            let squares = with_only(allowed, || super::map(4, 0..100_u32, |item| item * item));
            assert!(squares.into_iter().eq((0..100).map(|item| item * item)));
        }
        assert_eq!(with_only(0, || super::both(2, (2, 3), |item: u64| item * item)), (4, 9));
    }
}
