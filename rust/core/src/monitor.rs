//! The stop token and progress counter shared by the thread that called and its workers.

use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Default)]
struct State {
    stopped: AtomicBool,
    done: AtomicU64,
    /// Plus one, so that 0 means unknown.
    total: AtomicU64,
}

/// Cheap to clone and to ask: a kernel calls [`Monitor::check`] at least every few milliseconds of work.
///
/// Relaxed ordering is enough: the flag and the counters guard no other data.
#[derive(Clone, Default)]
pub struct Monitor(Arc<State>);

impl Monitor {
    /// A token that nobody has stopped.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks all work under this token to end.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    /// `Err(Stopped)` once someone has called [`Monitor::stop`].
    #[inline]
    pub fn check(&self) -> Result<()> {
        if self.0.stopped.load(Ordering::Relaxed) {
            Err(Error::Stopped)
        } else {
            Ok(())
        }
    }

    /// Counts `n` more units (documents, mostly) as done.
    #[inline]
    pub fn advance(&self, n: u64) {
        self.0.done.fetch_add(n, Ordering::Relaxed);
    }

    /// States how many units there are in all.
    pub fn set_total(&self, n: u64) {
        self.0.total.store(n.saturating_add(1), Ordering::Relaxed);
    }

    /// Units done, and the total where it is known.
    pub fn progress(&self) -> (u64, Option<u64>) {
        (
            self.0.done.load(Ordering::Relaxed),
            self.0.total.load(Ordering::Relaxed).checked_sub(1),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_is_seen_by_clones() {
        let a = Monitor::new();
        let b = a.clone();
        assert!(b.check().is_ok());
        a.stop();
        assert!(matches!(b.check(), Err(Error::Stopped)));
    }

    #[test]
    fn progress_counts() {
        let m = Monitor::new();
        assert_eq!(m.progress(), (0, None));
        m.set_total(10);
        m.advance(3);
        assert_eq!(m.progress(), (3, Some(10)));
    }
}
