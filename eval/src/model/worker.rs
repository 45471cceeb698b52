//! Threads that run the tensor engine strictly on themselves.
//!
//! The engine splits large matrix products over as many tasks as the machine has cores and hands
//! them to the rayon pool it is called from; on a busy machine, two such calls at once wait for each
//! other's threads and become ten to a hundred times slower. Called from a pool of *one* thread, the
//! tasks run one after the other on that thread: nothing waits, workers scale side by side, and the
//! bits of a result do not depend on how many workers there are.
//!
//! Its elementwise operations on 65536 values or more go to yet another pool, which no caller can
//! choose. The models here avoid them: see `ops`.

use std::cell::OnceCell;
use std::num::NonZeroUsize;
use std::sync::Mutex;

use rayon::{ThreadPool, ThreadPoolBuilder};

thread_local! {
    /// The single-threaded pool that belongs to this thread; `None` if the system gave no thread.
    static POOL: OnceCell<Option<ThreadPool>> = const { OnceCell::new() };
}

/// Runs `work` on one thread, whatever it calls, and waits for it.
///
/// A call from inside another `alone` runs directly, so functions that use the engine can call this
/// freely. If the system refuses another thread, `work` runs on the calling one: slower when the
/// machine is busy, never different.
pub fn alone<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_some() && rayon::current_num_threads() == 1 {
        return work();
    }
    POOL.with(|pool| {
        let build = || ThreadPoolBuilder::new().num_threads(1).build().ok();
        match pool.get_or_init(build) {
            Some(pool) => pool.install(work),
            None => work(),
        }
    })
}

/// Applies `work` to every item on `workers` threads, each running [`alone`]; results come in the
/// order of the items.
pub fn map<T, R>(workers: NonZeroUsize, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R>
where
    T: Send,
    R: Send,
{
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let queue = Mutex::new(items.into_iter().enumerate());
    let drain = || {
        alone(|| {
            while let Some((index, item)) = next(&queue) {
                let result = work(item);
                if let Ok(mut slot) = results[index].lock() {
                    *slot = Some(result);
                }
            }
        });
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.get().min(results.len()) {
            scope.spawn(drain);
        }
    });
    // The scope has returned: no worker panicked, so every slot is filled.
    results
        .into_iter()
        .filter_map(|slot| slot.into_inner().ok().flatten())
        .collect()
}

/// Takes the next item off the queue, holding its lock no longer than that.
fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    queue.lock().ok().and_then(|mut queue| queue.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_inside_and_order_outside() {
        let workers = NonZeroUsize::new(3).unwrap();
        let squares = map(workers, (0..100u32).collect(), |x| {
            assert_eq!(rayon::current_num_threads(), 1);
            alone(|| x * x)
        });
        assert_eq!(squares, (0..100).map(|x| x * x).collect::<Vec<_>>());
    }

    #[test]
    fn no_items_no_results() {
        assert!(map(NonZeroUsize::MIN, Vec::<u8>::new(), |x| x).is_empty());
    }
}
