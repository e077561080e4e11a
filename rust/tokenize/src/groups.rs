//! Hashes of group names: which side of a split a group falls on.

use biollm_core::{Monitor, Pool, Result};
use biollm_text::Texts;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Rows hashed by one task.
const GRAIN_ROWS: usize = 1 << 13;

/// xxh3-64 of each text under a seed: equal texts have equal hashes, on every machine.
pub fn hash_texts(texts: &Texts<'_>, seed: u64, pool: &Pool, monitor: &Monitor) -> Result<Vec<u64>> {
    monitor.set_total(texts.len() as u64);
    let chunks = pool.map_chunks(texts.len(), GRAIN_ROWS, monitor, |rows| {
        let mut hashes = biollm_core::limits::with_capacity(rows.len(), "hashes of texts")?;
        for row in rows {
            if row.is_multiple_of(1 << 6) {
                monitor.check()?;
            }
            hashes.push(xxh3_64_with_seed(texts.get(row).as_bytes(), seed));
            monitor.advance(1);
        }
        Ok(hashes)
    })?;
    Ok(chunks.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_equal_hashes_that_the_seed_changes() {
        let (pool, monitor) = (Pool::new(Some(2)).unwrap(), Monitor::new());
        let texts = Texts::new([(&[0i64, 1, 2, 3][..], &b"aba"[..])], 9, &pool, &monitor).unwrap();
        let of = |seed| hash_texts(&texts, seed, &pool, &monitor).unwrap();
        assert!(of(1)[0] == of(1)[2] && of(1)[0] != of(1)[1] && of(1)[0] != of(2)[0]);
    }
}
