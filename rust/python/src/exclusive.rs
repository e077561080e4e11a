//! State behind a Python object that one call at a time may use, in the process that made it.

use biollm_core::{Error, Result};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// A value with the name of its class. Never waits for it: a thread that holds it is an error of the caller, and in a
/// forked child it may be held for ever.
pub struct Exclusive<T> {
    value: Mutex<T>,
    class: &'static str,
    /// The process that made it: a child shares the positions of open files with its parent.
    process: u32,
}

impl<T> Exclusive<T> {
    /// A value made by this process.
    pub fn new(class: &'static str, value: T) -> Self {
        Self {
            value: Mutex::new(value),
            class,
            process: std::process::id(),
        }
    }

    /// The value, for as long as the guard lives.
    pub fn lock(&self) -> Result<MutexGuard<'_, T>> {
        let class = self.class;
        let wrong = |message: String| Err(Error::input("reader", message));
        if self.process != std::process::id() {
            return wrong(format!(
                "this {class} was made by the parent process: open the file anew after a fork"
            ));
        }
        match self.value.try_lock() {
            Ok(value) => Ok(value),
            Err(TryLockError::WouldBlock) => wrong(format!(
                "this {class} is in use by another thread: make one for each"
            )),
            Err(TryLockError::Poisoned(_)) => {
                wrong(format!("this {class} has failed before: make a new one"))
            }
        }
    }
}
