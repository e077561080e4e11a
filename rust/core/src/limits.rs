//! Declared limits. Every size that comes from input or an argument is checked against one before anything
//! is allocated, because a failed allocation aborts the process and cannot be caught.

use crate::{Error, Result};

/// Longest document, in bytes of UTF-8, unless the caller raises it (`max_document_bytes`).
pub const MAX_DOCUMENT_BYTES: usize = 256 << 20;

/// The most a caller may raise `max_document_bytes` to: text offsets inside one document fit an i32 with room.
pub const MAX_DOCUMENT_BYTES_CEILING: usize = 2_000_000_000;

/// Most rows in one call: row numbers fit a u32 with one value to spare.
pub const MAX_ROWS: usize = u32::MAX as usize - 1;

/// Deepest nesting of a JSON document.
pub const MAX_JSON_DEPTH: usize = 128;

/// Most threads a caller may ask for.
pub const MAX_THREADS: usize = 1024;

/// Most bytes of a stream that may be pushed into a reader and wait there to be decoded.
pub const MAX_PUSHED_BYTES: usize = 8 << 20;

/// Largest window of a zstd frame, as a power of two: 128 MiB, what the `zstd` tool takes unasked.
pub const MAX_ZSTD_WINDOW_LOG: u32 = 27;

/// Grows `buffer` by at least `additional` places, or says which buffer did not fit in memory.
pub fn reserve<T>(buffer: &mut Vec<T>, additional: usize, what: &'static str) -> Result<()> {
    buffer.try_reserve(additional).map_err(|_| Error::Memory {
        what,
        bytes: (additional as u64).saturating_mul(size_of::<T>() as u64),
    })
}

/// A new vector with room for exactly `capacity` items, or a `Memory` error naming it.
pub fn with_capacity<T>(capacity: usize, what: &'static str) -> Result<Vec<T>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(capacity).map_err(|_| Error::Memory {
        what,
        bytes: (capacity as u64).saturating_mul(size_of::<T>() as u64),
    })?;
    Ok(buffer)
}

/// A new vector of `len` copies of `value`, or a `Memory` error naming it.
pub fn filled<T: Clone>(len: usize, value: T, what: &'static str) -> Result<Vec<T>> {
    let mut buffer = with_capacity(len, what)?;
    buffer.resize(len, value);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_size_is_an_error() {
        let mut v: Vec<u64> = Vec::new();
        assert!(matches!(
            reserve(&mut v, usize::MAX / 16, "test"),
            Err(Error::Memory { .. })
        ));
        assert!(with_capacity::<u64>(usize::MAX, "test").is_err());
        assert_eq!(filled(3, 7u8, "test").unwrap(), vec![7, 7, 7]);
    }
}
