//! Threads for one call. They are made when a call begins and joined before it returns, so no lock, queue or
//! thread of ours exists between calls: a fork at any moment, from any thread, finds nothing to inherit broken.
//! Making a thread costs about 20 µs, which a call that is worth splitting does not notice.

use crate::{Error, Monitor, Result, limits};
use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads a call may use.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    threads: usize,
}

impl Pool {
    /// `None`: as many as the process may run on, by its affinity mask and its cgroup's quota.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        match threads {
            None => Ok(Self {
                threads: available_threads(),
            }),
            Some(0) => Err(Error::input(
                "threads",
                "threads is 0: give 1 or more, or None for all cores",
            )),
            Some(n) if n > limits::MAX_THREADS => Err(Error::limit(
                "threads",
                n as u64,
                limits::MAX_THREADS as u64,
                "give fewer, or None for all cores",
            )),
            Some(threads) => Ok(Self { threads }),
        }
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Splits `0..n` into chunks of `grain` and gives each to `f`; the results come back in chunk order, so
    /// they do not depend on the number of threads. The first error (in chunk order) ends the rest.
    pub fn map_chunks<T: Send>(
        &self,
        n: usize,
        grain: usize,
        monitor: &Monitor,
        f: impl Fn(Range<usize>) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let grain = grain.max(1);
        let chunks = n.div_ceil(grain);
        let range = |i: usize| i * grain..n.min(i.saturating_add(1).saturating_mul(grain));
        let workers = self.threads.min(chunks);
        if workers <= 1 {
            let mut results = limits::with_capacity(chunks, "results of chunks")?;
            for i in 0..chunks {
                monitor.check()?;
                results.push(f(range(i))?);
            }
            return Ok(results);
        }
        let next = AtomicUsize::new(0);
        let slots: Mutex<Vec<Option<Result<T>>>> = Mutex::new((0..chunks).map(|_| None).collect());
        let work = || {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= chunks {
                    return;
                }
                let result = match monitor.check() {
                    Err(stopped) => Err(stopped),
                    Ok(()) => guarded(|| f(range(i))),
                };
                if result.is_err() {
                    // Later chunks are not begun; earlier ones, already begun, still end.
                    next.store(chunks, Ordering::Relaxed);
                }
                if let Ok(mut slots) = slots.lock() {
                    slots[i] = Some(result);
                }
            }
        };
        std::thread::scope(|scope| -> Result<()> {
            for k in 1..workers {
                let thread = std::thread::Builder::new().name(format!("biollm-{k}"));
                if thread.spawn_scoped(scope, work).is_err() {
                    break; // The system gives no more threads: go on with those there are.
                }
            }
            work();
            Ok(())
        })?;
        let slots = slots
            .into_inner()
            .map_err(|_| Error::Internal("a worker left its lock broken".into()))?;
        let mut results = limits::with_capacity(chunks, "results of chunks")?;
        for slot in slots {
            match slot {
                Some(result) => results.push(result?),
                // Chunks after a failed one may be empty; the failure itself stands in an earlier or later slot.
                None => continue,
            }
        }
        if results.len() == chunks {
            Ok(results)
        } else {
            Err(Error::Internal("a chunk has no result".into()))
        }
    }
}

/// Runs `f` and turns a panic into [`Error::Internal`].
pub fn guarded<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| Err(Error::Internal(panic_message(&*panic))))
}

/// The text of a caught panic.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into());
    format!("{text} (a fault of biollm: please report it with the input)")
}

/// Cores this process may use: affinity and cgroup quota are heeded by the standard library on Linux.
pub fn available_threads() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(limits::MAX_THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_for_any_number_of_threads() {
        let want: Vec<Range<usize>> = Pool::new(Some(1))
            .unwrap()
            .map_chunks(103, 10, &Monitor::new(), Ok)
            .unwrap();
        for threads in [2, 3, 8, 64] {
            let got = Pool::new(Some(threads))
                .unwrap()
                .map_chunks(103, 10, &Monitor::new(), Ok)
                .unwrap();
            assert_eq!(got, want);
        }
        assert_eq!(want.last(), Some(&(100..103)));
    }

    #[test]
    fn nothing_to_do() {
        let got: Vec<()> = Pool::new(Some(4))
            .unwrap()
            .map_chunks(0, 8, &Monitor::new(), |_| Ok(()))
            .unwrap();
        assert!(got.is_empty());
    }

    #[test]
    fn an_error_and_a_panic_come_back_as_errors() {
        let pool = Pool::new(Some(4)).unwrap();
        let r = pool.map_chunks(100, 1, &Monitor::new(), |r| {
            if r.start == 17 {
                Err(Error::input("x", "seventeen"))
            } else {
                Ok(r.start)
            }
        });
        assert!(matches!(r, Err(Error::Input { .. })));
        let r = pool.map_chunks(100, 1, &Monitor::new(), |r| {
            assert!(r.start != 17, "seventeen");
            Ok(())
        });
        assert!(matches!(r, Err(Error::Internal(m)) if m.contains("seventeen")));
    }

    #[test]
    fn a_stopped_monitor_ends_it() {
        let monitor = Monitor::new();
        let r = Pool::new(Some(2)).unwrap().map_chunks(1000, 1, &monitor, |r| {
            if r.start == 5 {
                monitor.stop();
            }
            Ok(())
        });
        assert!(matches!(r, Err(Error::Stopped)));
    }

    #[test]
    fn limits_on_threads() {
        assert!(Pool::new(Some(0)).is_err());
        assert!(matches!(Pool::new(Some(1 << 40)), Err(Error::Limit { .. })));
        assert!(Pool::new(None).unwrap().threads() >= 1);
    }
}
