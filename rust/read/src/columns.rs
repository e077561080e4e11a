//! Columns as Arrow lays them out, filled a row at a time.

use biollm_core::{Result, limits};

/// A column of texts: row `i` is `data[offsets[i]..offsets[i + 1]]`, as in Arrow's large_string.
#[derive(Debug)]
pub struct TextColumn {
    /// One more than there are rows; the first is 0.
    pub offsets: Vec<i64>,
    /// UTF-8.
    pub data: Vec<u8>,
}

impl Default for TextColumn {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            data: Vec::new(),
        }
    }
}

impl TextColumn {
    /// Appends to the row that is being written.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<()> {
        limits::reserve(&mut self.data, bytes.len(), "a text column")?;
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes of the row that is being written.
    pub fn open_row(&self) -> &[u8] {
        &self.data[self.offsets.last().map_or(0, |&end| end as usize)..]
    }

    /// Ends the row.
    pub fn end_row(&mut self) -> Result<()> {
        limits::reserve(&mut self.offsets, 1, "a text column's offsets")?;
        self.offsets.push(self.data.len() as i64);
        Ok(())
    }

    /// Forgets the row that is being written.
    pub fn drop_row(&mut self) {
        self.data
            .truncate(self.offsets.last().map_or(0, |&end| end as usize));
    }
}

/// A column of texts some of which may be missing.
#[derive(Debug, Default)]
pub struct OptionalTexts {
    /// The texts; a missing one is empty.
    pub texts: TextColumn,
    /// Bit `i` (least significant first) says whether row `i` is there.
    pub validity: Vec<u8>,
}

impl OptionalTexts {
    /// Ends the row that was written, or one that is missing.
    pub fn end_row(&mut self, valid: bool) -> Result<()> {
        let row = self.texts.offsets.len() - 1;
        if row.is_multiple_of(8) {
            limits::reserve(&mut self.validity, 1, "a validity bitmap")?;
            self.validity.push(0);
        }
        self.validity[row / 8] |= u8::from(valid) << (row % 8);
        self.texts.end_row()
    }
}

/// A record that was passed over.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its line, counted from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// Some documents, in the order of the file.
#[derive(Debug, Default)]
pub struct Batch {
    /// How many.
    pub rows: usize,
    /// Names.
    pub id: TextColumn,
    /// Texts.
    pub text: TextColumn,
    /// Where each comes from; JSON Lines only.
    pub source: OptionalTexts,
    /// The fields that went into no other column, as one JSON object; JSON Lines only.
    pub meta: TextColumn,
    /// The records passed over since the last batch.
    pub rejected: Vec<Rejected>,
}

impl Batch {
    /// Bytes in all columns.
    pub fn bytes(&self) -> usize {
        self.id.data.len() + self.text.data.len() + self.source.texts.data.len() + self.meta.data.len()
    }

    /// Forgets the row that is being written.
    pub fn drop_row(&mut self) {
        for column in [
            &mut self.id,
            &mut self.text,
            &mut self.source.texts,
            &mut self.meta,
        ] {
            column.drop_row();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_dropped_rows() {
        let mut column = TextColumn::default();
        column.extend(b"ab").unwrap();
        column.end_row().unwrap();
        column.extend(b"gone").unwrap();
        assert_eq!(column.open_row(), b"gone");
        column.drop_row();
        column.end_row().unwrap();
        assert_eq!((column.offsets, column.data), (vec![0, 2, 2], b"ab".to_vec()));
    }

    #[test]
    fn validity_bits() {
        let mut column = OptionalTexts::default();
        for i in 0..11 {
            column.end_row(i % 3 == 0).unwrap();
        }
        assert_eq!(column.validity, vec![0b0100_1001, 0b010]);
        assert_eq!(column.texts.offsets.len(), 12);
    }
}
