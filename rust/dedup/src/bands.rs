//! Band keys of all documents, and the rows that share one.

use biollm_core::{Monitor, Result, limits};

/// Rows sorted by one task: about what the second cache holds.
const PART_ROWS: usize = 1 << 14;

/// Rows looked at between two looks at the monitor.
const CHECK_ROWS: usize = 1 << 16;

/// The band keys of all documents, in the chunks they were made in.
pub struct BandKeys {
    /// Rows of every chunk but the last.
    grain: usize,
    /// Each chunk's keys, all of band 0 first.
    chunks: Vec<Vec<u64>>,
    rows: usize,
    bands: usize,
}

impl BandKeys {
    /// `chunks[k]` holds the keys of rows `k * grain ..`, band by band.
    pub fn new(grain: usize, chunks: Vec<Vec<u64>>, rows: usize, bands: usize) -> Self {
        Self {
            grain,
            chunks,
            rows,
            bands,
        }
    }

    /// The number of bands.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The keys of one chunk in one band.
    fn chunk(&self, chunk: usize, band: usize) -> &[u64] {
        let rows = self.grain.min(self.rows - chunk * self.grain);
        &self.chunks[chunk][band * rows..(band + 1) * rows]
    }

    fn key(&self, row: u32, band: usize) -> u64 {
        let row = row as usize;
        self.chunk(row / self.grain, band)[row % self.grain]
    }

    /// Whether two rows share a key in a band before `band`: then they have been candidates already.
    pub fn share_before(&self, a: u32, b: u32, band: usize) -> bool {
        (0..band).any(|earlier| self.key(a, earlier) == self.key(b, earlier))
    }

    /// The rows that share a key in this band, among those that `takes_part` says.
    pub fn groups(&self, band: usize, takes_part: impl Fn(u32) -> bool, monitor: &Monitor) -> Result<Groups> {
        let keys = || (0..self.chunks.len()).flat_map(|c| self.chunk(c, band)).copied();
        let entries = || keys().zip(0u32..).filter(|&(_, row)| takes_part(row));
        Groups::new(self.rows, entries, monitor)
    }
}

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

    #[test]
    fn bands_of_chunks() {
        // Rows 0..5 in chunks of 2; two bands with keys row / 2 and row % 2.
        let chunks = vec![vec![0, 0, 0, 1], vec![1, 1, 0, 1], vec![2, 0]];
        let keys = BandKeys::new(2, chunks, 5, 2);
        let groups = |band| {
            let groups = keys.groups(band, |_| true, &Monitor::new()).unwrap();
            (0..groups.len())
                .map(|i| groups.get(i).to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(groups(0), [vec![0, 1], vec![2, 3]]);
        assert_eq!(groups(1), [vec![0, 2, 4], vec![1, 3]]);
        assert!(keys.share_before(0, 1, 1) && !keys.share_before(0, 2, 1) && !keys.share_before(0, 1, 0));
        let even = keys.groups(1, |row| row != 2, &Monitor::new()).unwrap();
        assert_eq!((even.len(), even.get(0)), (2, &[0, 4][..]));
    }
}
