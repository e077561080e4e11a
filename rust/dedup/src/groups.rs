//! Rows that share a key.

use biollm_core::{Monitor, Result, limits};

/// Rows sorted by one task: about what the second cache holds.
const PART_ROWS: usize = 1 << 14;

/// Rows looked at between two looks at the monitor.
const CHECK_ROWS: usize = 1 << 16;

/// Rows with equal keys: groups of two and more, each rising, in the order of their keys.
pub struct Groups {
    rows: Vec<u32>,
    /// The end of each group in `rows`.
    ends: Vec<usize>,
}

impl Groups {
    /// Groups `entries`, at most `n` of (key, row), rows rising. They are parted by the leading bits of their
    /// keys (two passes, so `entries` gives them twice) and each part is sorted.
    pub fn new<E: Iterator<Item = (u64, u32)>>(
        n: usize,
        entries: impl Fn() -> E,
        monitor: &Monitor,
    ) -> Result<Self> {
        let bits = (n / PART_ROWS).next_power_of_two().ilog2().min(16);
        let part_of = |key: u64| (key.rotate_left(bits) & ((1 << bits) - 1)) as usize;
        let mut next = limits::filled((1 << bits) + 1, 0usize, "parts of a band")?;
        for (i, (key, _)) in entries().enumerate() {
            if i % CHECK_ROWS == 0 {
                monitor.check()?;
            }
            next[part_of(key) + 1] += 1;
        }
        for part in 1..next.len() {
            next[part] += next[part - 1];
        }
        let count = next[1 << bits];
        let mut sorted = limits::filled(count, (0u64, 0u32), "keys of a band")?;
        for (i, entry) in entries().enumerate() {
            if i % CHECK_ROWS == 0 {
                monitor.check()?;
            }
            let place = &mut next[part_of(entry.0)];
            sorted[*place] = entry;
            *place += 1;
        }
        // Now `next` holds the end of each part.
        let (mut rows, mut ends) = (Vec::new(), Vec::new());
        let mut start = 0;
        for &end in &next[..1 << bits] {
            monitor.check()?;
            let part = &mut sorted[start..end];
            part.sort_unstable();
            for group in part.chunk_by(|x, y| x.0 == y.0).filter(|group| group.len() > 1) {
                limits::reserve(&mut rows, group.len(), "rows of a band")?;
                rows.extend(group.iter().map(|&(_, row)| row));
                limits::reserve(&mut ends, 1, "groups of a band")?;
                ends.push(rows.len());
            }
            start = end;
        }
        Ok(Self { rows, ends })
    }

    /// The rows of all groups.
    pub fn into_rows(self) -> Vec<u32> {
        self.rows
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The rows of group `i`.
    pub fn get(&self, i: usize) -> &[u32] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.rows[start..self.ends[i]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use biollm_core::hash::splitmix64;
    use std::collections::BTreeMap;

    #[test]
    fn groups_are_those_of_a_map() {
        for (n, distinct) in [
            (0usize, 1u64),
            (1, 1),
            (1000, 400),
            (100_000, 30_000),
            (50_000, 1),
        ] {
            let entries: Vec<(u64, u32)> = (0..n)
                .map(|i| (splitmix64(splitmix64(i as u64) % distinct), i as u32))
                .collect();
            let mut map: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            entries
                .iter()
                .for_each(|&(key, row)| map.entry(key).or_default().push(row));
            let want: Vec<Vec<u32>> = map.into_values().filter(|rows| rows.len() > 1).collect();
            let groups = Groups::new(n, || entries.iter().copied(), &Monitor::new()).unwrap();
            let got: Vec<Vec<u32>> = (0..groups.len()).map(|i| groups.get(i).to_vec()).collect();
            assert_eq!(got, want, "n = {n}");
        }
    }
}
