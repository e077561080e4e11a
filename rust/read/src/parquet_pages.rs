//! What the headers in a Parquet file say of sizes, read before anything is decoded by them. A reader that allocates
//! by such numbers can be made to take any amount of memory by a file of a few hundred bytes.
//!
//! Format: <https://github.com/apache/parquet-format>, `parquet.thrift`.

use crate::thrift::{Cursor, Fault, I32, LIST, STRUCT};
use biollm_core::{Error, Monitor, Result, limits};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Most bytes of one page header: as in Arrow. They hold statistics, which hold values.
const MAX_HEADER_BYTES: usize = 16 << 20;
/// Read at a time to find a header.
const HEADER_READ: usize = 4096;
/// Most pages of one column chunk.
const MAX_PAGES: usize = 1 << 20;
/// Bytes that a reader takes for an element of a list in the footer, about: a column chunk, another struct, others.
const CHUNK_BYTES: u64 = 1024;
const STRUCT_BYTES: u64 = 192;
const SCALAR_BYTES: u64 = 32;

/// Where the pages of a column of a row group lie, as the footer says.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// Where the first page begins, in bytes from the file's start.
    pub offset: u64,
    /// Bytes of all pages, compressed, with their headers.
    pub length: u64,
    /// Values of all pages, nulls among them.
    pub values: u64,
}

/// A dictionary page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dictionary {
    /// Where its data begins in the file.
    pub offset: u64,
    /// Bytes of its data in the file.
    pub compressed: u32,
    /// Bytes of its data decompressed.
    pub uncompressed: u32,
    /// Values in it.
    pub values: u32,
}

/// The pages of a chunk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// The dictionary page, where there is one.
    pub dictionary: Option<Dictionary>,
    /// Of each data page: bytes compressed, bytes uncompressed, values (nulls among them), encoding.
    pub data: Vec<u32>,
}

#[derive(Debug, Default)]
struct Header {
    kind: i64,
    uncompressed: u32,
    compressed: u32,
    values: u32,
    encoding: u32,
}

/// The pages of chunks of a file, from their headers.
pub fn pages(path: &Path, chunks: &[Chunk], monitor: &Monitor) -> Result<Vec<Pages>> {
    let file = File::open(path).map_err(|e| Error::file(path, e))?;
    let size = file.metadata().map_err(|e| Error::file(path, e))?.len();
    let mut found = limits::with_capacity(chunks.len(), "pages of Parquet chunks")?;
    for chunk in chunks {
        found.push(chunk_pages(&file, size, *chunk, monitor).map_err(|e| located(e, path))?);
        monitor.advance(1);
    }
    Ok(found)
}

/// Errors carry no path where they arise.
fn located(error: Error, path: &Path) -> Error {
    match error {
        Error::File { source, .. } => Error::file(path, source),
        other => other.at(Some(path), None),
    }
}

fn chunk_pages(file: &File, size: u64, chunk: Chunk, monitor: &Monitor) -> Result<Pages> {
    if chunk.values == 0 {
        return Ok(Pages::default()); // no reader looks at its pages, and some writers give it no place
    }
    let end = chunk
        .offset
        .checked_add(chunk.length)
        .filter(|end| *end <= size && chunk.offset >= 4)
        .ok_or_else(|| Error::format("a column chunk lies outside the file"))?;
    // Old writers left the dictionary's header out of the length.
    let end = end.saturating_add(100).min(size);
    let mut window = Window::new(file);
    let (mut at, mut seen, mut found) = (chunk.offset, 0u64, Pages::default());
    while seen < chunk.values {
        monitor.check()?;
        let (header, length) = window.header(at, end)?;
        let body = at + length as u64;
        at = body
            .checked_add(u64::from(header.compressed))
            .filter(|next| *next <= end)
            .ok_or_else(|| Error::format("a page is longer than its column chunk"))?;
        match header.kind {
            2 if found.dictionary.is_none() && seen == 0 => {
                found.dictionary = Some(Dictionary {
                    offset: body,
                    compressed: header.compressed,
                    uncompressed: header.uncompressed,
                    values: header.values,
                });
            }
            2 => {
                return Err(Error::format(
                    "a column chunk has two dictionaries, or one behind its values",
                ));
            }
            0 | 3 => {
                if found.data.len() >= 4 * MAX_PAGES {
                    let hint = "write the file again with larger pages";
                    return Err(Error::limit(
                        "pages of a column chunk",
                        MAX_PAGES as u64 + 1,
                        MAX_PAGES as u64,
                        hint,
                    ));
                }
                limits::reserve(&mut found.data, 4, "pages of a Parquet chunk")?;
                let page = [
                    header.compressed,
                    header.uncompressed,
                    header.values,
                    header.encoding,
                ];
                found.data.extend_from_slice(&page);
                seen += u64::from(header.values);
            }
            _ => {} // an index page, or one of a later format: readers step over it
        }
    }
    if seen != chunk.values {
        return Err(Error::format(format!(
            "the pages of a column chunk have {seen} values, its footer says {}",
            chunk.values
        )));
    }
    Ok(found)
}

/// The bytes around a place in the file.
struct Window<'a> {
    file: &'a File,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a File) -> Self {
        Self {
            file,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// The header at a place, and its length.
    fn header(&mut self, at: u64, end: u64) -> Result<(Header, usize)> {
        let mut wanted = HEADER_READ;
        loop {
            let behind = at.checked_sub(self.start).map_or(usize::MAX, |n| n as usize);
            if let Some(known) = self.bytes.get(behind..).filter(|known| !known.is_empty()) {
                match read_header(known) {
                    Ok(found) => return Ok(found),
                    Err(Fault::Broken(what)) => {
                        return Err(Error::format(format!("a page header is broken: {what}")));
                    }
                    Err(Fault::Short) if known.len() as u64 >= end - at => {
                        return Err(Error::format("the pages of a column chunk end too early"));
                    }
                    Err(Fault::Short) if known.len() >= MAX_HEADER_BYTES => {
                        return Err(Error::format("a page header is longer than 16 MiB"));
                    }
                    Err(Fault::Short) => wanted = known.len().max(HEADER_READ / 2) * 2,
                }
            }
            let length = (end - at).min(wanted.min(MAX_HEADER_BYTES) as u64) as usize;
            if length == 0 {
                return Err(Error::format("the pages of a column chunk end too early"));
            }
            self.bytes.clear();
            limits::reserve(&mut self.bytes, length, "a Parquet page header")?;
            self.bytes.resize(length, 0);
            let read = self.file.read_exact_at(&mut self.bytes, at);
            read.map_err(|e| Error::file(Path::new(""), e))?;
            self.start = at;
        }
    }
}

fn read_header(bytes: &[u8]) -> std::result::Result<(Header, usize), Fault> {
    let mut cursor = Cursor::new(bytes);
    let (mut header, mut last) = (Header::default(), 0);
    while let Some((id, kind)) = cursor.field(last)? {
        last = id;
        match id {
            1..=3 => {
                cursor.expect(kind, I32)?;
                let value = cursor.signed()?;
                match id {
                    1 => header.kind = value,
                    2 => header.uncompressed = size(value)?,
                    _ => header.compressed = size(value)?,
                }
            }
            // Of a data page, a dictionary page and a data page of version 2: the number of values, the encoding.
            5 | 7 | 8 => {
                cursor.expect(kind, STRUCT)?;
                let (mut inner, encoding) = (0, if id == 8 { 4 } else { 2 });
                while let Some((field, kind)) = cursor.field(inner)? {
                    inner = field;
                    if field == 1 || field == encoding {
                        cursor.expect(kind, I32)?;
                        let value = size(cursor.signed()?)?;
                        *(if field == 1 {
                            &mut header.values
                        } else {
                            &mut header.encoding
                        }) = value;
                    } else {
                        cursor.skip(kind)?;
                    }
                }
            }
            _ => cursor.skip(kind)?,
        }
    }
    Ok((header, cursor.position()))
}

fn size(value: i64) -> std::result::Result<u32, Fault> {
    i32::try_from(value)
        .ok()
        .and_then(|value| u32::try_from(value).ok())
        .ok_or(Fault::Broken("a size is negative or over 2 GiB"))
}

/// What a footer says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// Bytes that a reader takes for it, about.
    pub memory: u64,
    /// Groups in groups of the schema.
    pub depth: u64,
}

/// Looks through a footer (`FileMetaData`) without making anything of it.
pub fn footer(bytes: &[u8], monitor: &Monitor) -> Result<Footer> {
    let broken = |fault| match fault {
        Fault::Short => Error::format("the footer ends too early"),
        Fault::Broken(what) => Error::format(format!("the footer is broken: {what}")),
    };
    let mut cursor = Cursor::new(bytes);
    let (mut found, mut chunks, mut last) = (Footer::default(), 0u64, 0);
    while let Some((id, kind)) = cursor.field(last).map_err(broken)? {
        last = id;
        if !matches!(id, 2 | 4) || kind != LIST {
            cursor.skip(kind).map_err(broken)?;
            continue;
        }
        let (count, element) = cursor.list().map_err(broken)?;
        cursor.expect(element, STRUCT).map_err(broken)?;
        let mut open: Vec<u64> = Vec::new();
        for number in 0..count {
            if number % 1024 == 0 {
                monitor.check()?;
            }
            cursor.structs += 1;
            if id == 4 {
                chunks += row_group(&mut cursor).map_err(broken)?;
                continue;
            }
            let children = schema_element(&mut cursor).map_err(broken)?;
            // Elements lie in order of depth first: a group's children follow it.
            if children > 0 {
                limits::reserve(&mut open, 1, "the schema of a Parquet file")?;
                open.push(children);
            } else {
                while let Some(left) = open.last_mut() {
                    *left -= 1;
                    if *left > 0 {
                        break;
                    }
                    open.pop();
                }
            }
            found.depth = found.depth.max(open.len() as u64);
        }
    }
    found.memory = bytes.len() as u64
        + chunks * CHUNK_BYTES
        + cursor.structs * STRUCT_BYTES
        + cursor.scalars * SCALAR_BYTES;
    Ok(found)
}

/// The number of children of a schema element.
fn schema_element(cursor: &mut Cursor<'_>) -> std::result::Result<u64, Fault> {
    let (mut last, mut children) = (0, 0);
    while let Some((id, kind)) = cursor.field(last)? {
        last = id;
        if id == 5 {
            cursor.expect(kind, I32)?;
            children = u64::from(size(cursor.signed()?)?);
        } else {
            cursor.skip(kind)?;
        }
    }
    Ok(children)
}

/// The number of column chunks of a row group.
fn row_group(cursor: &mut Cursor<'_>) -> std::result::Result<u64, Fault> {
    let (mut last, mut chunks) = (0, 0);
    while let Some((id, kind)) = cursor.field(last)? {
        last = id;
        if id == 1 && kind == LIST {
            let (count, element) = cursor.list()?;
            cursor.expect(element, STRUCT)?;
            for _ in 0..count {
                cursor.skip(element)?;
                chunks += 1;
            }
        } else {
            cursor.skip(kind)?;
        }
    }
    Ok(chunks)
}

/// Bytes of the longest value of `values` byte arrays as they lie in a page: each its length (u32), then its bytes.
pub fn longest_value(bytes: &[u8], values: u64, monitor: &Monitor) -> Result<u64> {
    let (mut rest, mut longest) = (bytes, 0);
    for number in 0..values {
        if number % 65_536 == 0 {
            monitor.check()?;
        }
        let (length, behind) = rest
            .split_first_chunk::<4>()
            .map(|(head, behind)| (u32::from_le_bytes(*head), behind))
            .filter(|(length, behind)| *length as usize <= behind.len())
            .ok_or_else(|| Error::format("a dictionary page ends inside a value"))?;
        longest = longest.max(u64::from(length));
        rest = &behind[length as usize..];
    }
    Ok(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data page of 10 values: kind 0, 100 bytes, 8 compressed, {10 values, encoding 8}.
    const DATA: [u8; 15] = [
        0x15, 0, 0x15, 0xC8, 1, 0x15, 16, 0x2C, 0x15, 20, 0x15, 16, 0, 0, 0,
    ];

    fn write(name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("biollm-pages-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn walk(name: &str, bytes: &[u8], chunk: Chunk) -> Result<Vec<Pages>> {
        let path = write(name, bytes);
        let found = pages(&path, &[chunk], &Monitor::new());
        std::fs::remove_file(path).unwrap();
        found
    }

    #[test]
    fn pages_are_found_by_their_headers() {
        let mut bytes = b"PAR1".to_vec();
        for _ in 0..3 {
            bytes.extend_from_slice(&DATA[..14]);
            bytes.extend_from_slice(&[7; 8]);
        }
        let whole = Chunk {
            offset: 4,
            length: 66,
            values: 30,
        };
        let found = walk("found", &bytes, whole).unwrap();
        assert_eq!(found[0].data, [8, 100, 10, 8].repeat(3));
        assert_eq!(found[0].dictionary, None);
        for wrong in [
            Chunk { values: 29, ..whole },
            Chunk { values: 31, ..whole },
            Chunk {
                length: 1 << 40,
                ..whole
            },
            Chunk {
                length: u64::MAX,
                ..whole
            },
            Chunk { offset: 5, ..whole },
        ] {
            let result = walk("wrong", &bytes, wrong);
            assert!(
                matches!(result, Err(Error::Format { .. })),
                "{wrong:?}: {result:?}"
            );
        }
        let nowhere = Chunk {
            offset: 0,
            length: 0,
            values: 0,
        };
        assert_eq!(walk("nowhere", &bytes, nowhere).unwrap()[0], Pages::default());
        for cut in 4..bytes.len() {
            let length = cut as u64 - 4;
            let result = walk("cut", &bytes[..cut], Chunk { length, ..whole });
            assert!(matches!(result, Err(Error::Format { .. })), "{cut}: {result:?}");
        }
    }

    #[test]
    fn a_footer_tells_its_depth_and_size() {
        // version 1; schema: a root of 1 child, which has 1 child, a leaf; no row groups.
        let bytes = [
            0x15, 2, 0x19, 0x3C, 0x55, 2, 0, 0x55, 2, 0, 0x55, 0, 0, 0x29, 0x0C, 0,
        ];
        let found = footer(&bytes, &Monitor::new()).unwrap();
        assert_eq!((found.depth, found.memory), (2, 16 + 3 * STRUCT_BYTES));
        for cut in 0..bytes.len() {
            assert!(matches!(
                footer(&bytes[..cut], &Monitor::new()),
                Err(Error::Format { .. })
            ));
        }
    }

    #[test]
    fn the_longest_value_of_a_dictionary() {
        let bytes = [1, 0, 0, 0, b'a', 3, 0, 0, 0, b'a', b'b', b'c', 0, 0, 0, 0];
        assert_eq!(longest_value(&bytes, 3, &Monitor::new()).unwrap(), 3);
        assert!(longest_value(&bytes, 4, &Monitor::new()).is_err());
        assert!(longest_value(&[255; 8], 1, &Monitor::new()).is_err());
    }
}
