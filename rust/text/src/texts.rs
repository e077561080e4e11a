//! A column of texts as Arrow lays it out (`large_string`: 64-bit offsets into UTF-8 bytes), borrowed and checked.

use biollm_core::{Error, Pool, Result, limits, monitor::Monitor};

/// Rows and (about) bytes validated by one task, between two looks at the stop token.
const VALIDATION_GRAIN_ROWS: usize = 4096;
const VALIDATION_GRAIN_BYTES: usize = 8 << 20;

/// One chunk of a column: row `i` is `data[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Copy)]
pub struct Chunk<'a> {
    offsets: &'a [i64],
    data: &'a [u8],
}

/// A column of texts in one or more chunks, every row of which is known to be valid UTF-8.
pub struct Texts<'a> {
    chunks: Vec<Chunk<'a>>,
    /// First row of each chunk, and the number of rows at the end.
    starts: Vec<usize>,
    total_bytes: u64,
}

impl<'a> Texts<'a> {
    /// Checks offsets (rising, inside the data), row sizes against `max_document_bytes`, and UTF-8, so that
    /// [`Texts::get`] need not.
    pub fn new(
        parts: impl IntoIterator<Item = (&'a [i64], &'a [u8])>,
        max_document_bytes: usize,
        pool: &Pool,
        monitor: &Monitor,
    ) -> Result<Self> {
        let mut chunks = Vec::new();
        let mut starts = vec![0];
        let (mut rows, mut total_bytes) = (0usize, 0u64);
        for (offsets, data) in parts {
            let n = offsets.len().saturating_sub(1);
            let row_bytes = (data.len() / n.max(1)).max(1);
            let grain = (VALIDATION_GRAIN_BYTES / row_bytes).clamp(1, VALIDATION_GRAIN_ROWS);
            pool.map_chunks(n, grain, monitor, |range| {
                check_rows(offsets, data, range, rows, max_document_bytes)
            })?;
            if n > 0 {
                total_bytes += offsets[n].abs_diff(offsets[0]);
                rows += n;
                chunks.push(Chunk { offsets, data });
                starts.push(rows);
            }
        }
        if rows > limits::MAX_ROWS {
            let hint = "split the input into several calls";
            return Err(Error::limit(
                "rows in one call",
                rows as u64,
                limits::MAX_ROWS as u64,
                hint,
            ));
        }
        Ok(Self {
            chunks,
            starts,
            total_bytes,
        })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// UTF-8 bytes of all rows.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Row `row`, which must be less than [`Texts::len`].
    #[inline]
    pub fn get(&self, row: usize) -> &'a str {
        let k = if self.chunks.len() == 1 {
            0
        } else {
            self.starts.partition_point(|&s| s <= row) - 1
        };
        let chunk = &self.chunks[k];
        let i = row - self.starts[k];
        let bytes = &chunk.data[chunk.offsets[i] as usize..chunk.offsets[i + 1] as usize];
        // SAFETY: `new` has validated exactly this range of bytes as UTF-8, and `data` is borrowed since.
        unsafe { std::str::from_utf8_unchecked(bytes) }
    }
}

fn check_rows(
    offsets: &[i64],
    data: &[u8],
    range: std::ops::Range<usize>,
    first_row: usize,
    max_document_bytes: usize,
) -> Result<()> {
    let rows = range.clone();
    for i in range {
        let (start, end) = (offsets[i], offsets[i + 1]);
        if start < 0 || end < start || end as u64 > data.len() as u64 {
            let message = format!(
                "row {}: Arrow offsets {start}..{end} do not fit the data",
                first_row + i
            );
            return Err(Error::row("text", first_row + i, message));
        }
        if (end - start) as u64 > max_document_bytes as u64 {
            return Err(Error::Limit {
                what: format!("bytes of the document in row {}", first_row + i),
                value: (end - start) as u64,
                limit: max_document_bytes as u64,
                hint: "raise max_document_bytes, or split the document".into(),
                path: None,
                line: None,
                row: Some((first_row + i) as u64),
            });
        }
    }
    // One pass over the block is faster than one a row; on failure (or where a boundary cuts a character in
    // two, which a whole-block check does not see) the rows say which.
    let block = &data[offsets[rows.start] as usize..offsets[rows.end] as usize];
    let boundaries_whole = || {
        rows.clone()
            .all(|i| starts_a_character(data, offsets[i] as usize, offsets[i + 1] as usize))
    };
    if simdutf8::basic::from_utf8(block).is_ok() && boundaries_whole() {
        return Ok(());
    }
    for i in rows {
        if simdutf8::basic::from_utf8(&data[offsets[i] as usize..offsets[i + 1] as usize]).is_err() {
            let message = format!("row {}: the text is not valid UTF-8", first_row + i);
            return Err(Error::row("text", first_row + i, message));
        }
    }
    Ok(())
}

/// Whether the row's first byte begins a character (an empty row has none to cut).
fn starts_a_character(data: &[u8], start: usize, end: usize) -> bool {
    start == end || data[start] & 0xC0 != 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(parts: &[(&'a [i64], &'a [u8])]) -> Result<Texts<'a>> {
        Texts::new(
            parts.iter().copied(),
            100,
            &Pool::new(Some(2)).unwrap(),
            &Monitor::new(),
        )
    }

    #[test]
    fn rows_across_chunks() {
        let t = texts(&[(&[0, 2, 2], b"ab"), (&[0], b""), (&[1, 3], "xé".as_bytes())]).unwrap();
        assert_eq!((t.len(), t.total_bytes()), (3, 4));
        assert_eq!((t.get(0), t.get(1), t.get(2)), ("ab", "", "é"));
    }

    #[test]
    fn no_rows() {
        assert!(texts(&[]).unwrap().is_empty());
        assert!(texts(&[(&[], b"")]).unwrap().is_empty());
    }

    #[test]
    fn bad_offsets_and_bytes_name_the_row() {
        for offsets in [[0i64, 5, 4], [0, -1, 2], [0, 1, 9]] {
            let r = texts(&[(&[0, 1], b"a"), (&offsets, b"abcdef")]);
            assert!(
                matches!(r, Err(Error::Input { row: Some(1 | 2), .. })),
                "{offsets:?}"
            );
        }
        assert!(matches!(
            texts(&[(&[0, 1, 2], b"a\xff")]),
            Err(Error::Input { row: Some(1), .. })
        ));
        // A boundary inside a character: valid as a whole, not row by row.
        assert!(matches!(
            texts(&[(&[0, 1, 2], "é".as_bytes())]),
            Err(Error::Input { row: Some(0), .. })
        ));
        let long = [b'a'; 101];
        assert!(matches!(
            texts(&[(&[0, 101], &long)]),
            Err(Error::Limit { row: Some(0), .. })
        ));
    }
}
