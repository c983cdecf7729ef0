//! Work on several items at once, in a stated number of threads.

use std::sync::{Mutex, PoisonError};
use std::thread;

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
        let workers: Vec<_> = (0..threads.min(count)).map(|_| scope.spawn(take)).collect();
        let joined = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().flat_map(joined).collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Applies `work` to both, at once where there are threads for it.
pub fn both<T: Send, R: Send>(threads: usize, pair: (T, T), work: impl Fn(T) -> R + Sync) -> (R, R) {
    if threads <= 1 {
        return (work(pair.0), work(pair.1));
    }
    thread::scope(|scope| {
        let second = scope.spawn(|| work(pair.1));
        let first = work(pair.0);
        (first, second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
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
}
