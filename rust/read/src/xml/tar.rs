//! The members of a tar (POSIX.1-1988 "ustar", POSIX.1-2001 "pax", GNU), streamed: nothing is unpacked to disk.

use super::source::Input;
use biollm_core::{Error, Monitor, Result, limits};

const BLOCK: usize = 512;

/// Longest table of extended attributes of a member.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// Longest name of a member: what a file system takes.
const MAX_NAME_BYTES: usize = 4096;

const PASS_OVER_BYTES: usize = 64 << 10;

/// What the blocks that are being collected hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extension {
    /// GNU: the name of the next member.
    Name,
    /// pax: attributes of the next member.
    Attributes,
}

/// See the module. A call that was stopped is simply repeated: all progress stands in the fields.
pub(super) struct Tar {
    input: Input,
    /// The next header, as far as it has been read.
    header: Vec<u8>,
    /// Bytes of the open member still to come, and of the zeros behind it.
    remaining: u64,
    padding: u64,
    /// Bytes to pass over before the next header.
    passing: u64,
    collecting: Option<(Extension, u64, Vec<u8>)>,
    /// What extensions said of the next member.
    long_name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
    /// Behind the last member: only zeros may follow.
    past_end: bool,
    scratch: Vec<u8>,
}

impl Tar {
    pub(super) fn new(input: Input) -> Result<Self> {
        Ok(Self {
            input,
            header: limits::with_capacity(BLOCK, "a tar header")?,
            remaining: 0,
            padding: 0,
            passing: 0,
            collecting: None,
            long_name: None,
            size: None,
            sparse: false,
            past_end: false,
            scratch: limits::filled(PASS_OVER_BYTES, 0, "a block of a tar")?,
        })
    }

    pub(super) fn input(&self) -> &Input {
        &self.input
    }

    /// The next bytes of the open member; 0 at its end.
    pub(super) fn read(&mut self, output: &mut [u8], monitor: &Monitor) -> Result<usize> {
        let most = output
            .len()
            .min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let n = self.input.read(&mut output[..most], monitor)?;
        if n == 0 {
            return Err(torn());
        }
        self.remaining -= n as u64;
        Ok(n)
    }

    /// Opens the next XML file among the members (.xml, .nxml) and gives its name; `None` at the end, which is then
    /// all read.
    pub(super) fn next_member(&mut self, monitor: &Monitor) -> Result<Option<String>> {
        self.passing += std::mem::take(&mut self.remaining) + std::mem::take(&mut self.padding);
        loop {
            while self.passing > 0 {
                let most = usize::try_from(self.passing).map_or(PASS_OVER_BYTES, |n| n.min(PASS_OVER_BYTES));
                let n = self.input.read(&mut self.scratch[..most], monitor)?;
                if n == 0 {
                    return Err(torn());
                }
                self.passing -= n as u64;
            }
            if self.past_end {
                return self.end(monitor).map(|()| None);
            }
            if let Some((extension, size, mut data)) = self.collecting.take() {
                if let Err(stopped) = self.collect(size, &mut data, monitor) {
                    self.collecting = Some((extension, size, data));
                    return Err(stopped);
                }
                self.passing = padding(size);
                self.heed(extension, &data)?;
                continue;
            }
            while self.header.len() < BLOCK {
                let most = BLOCK - self.header.len();
                let n = self.input.read(&mut self.scratch[..most], monitor)?;
                if n == 0 {
                    return Err(torn());
                }
                self.header.extend_from_slice(&self.scratch[..n]);
            }
            let header = std::mem::take(&mut self.header);
            let member = self.member(&header);
            self.header = header;
            self.header.clear();
            if let Some(name) = member? {
                return Ok(Some(name));
            }
        }
    }

    /// Reads an extension's data until it is whole.
    fn collect(&mut self, size: u64, data: &mut Vec<u8>, monitor: &Monitor) -> Result<()> {
        while (data.len() as u64) < size {
            let left = size - data.len() as u64;
            let most = usize::try_from(left).map_or(PASS_OVER_BYTES, |n| n.min(PASS_OVER_BYTES));
            let n = self.input.read(&mut self.scratch[..most], monitor)?;
            if n == 0 {
                return Err(torn());
            }
            limits::reserve(data, n, "a tar extension")?;
            data.extend_from_slice(&self.scratch[..n]);
        }
        Ok(())
    }

    /// Takes in what an extension says of the next member.
    fn heed(&mut self, extension: Extension, data: &[u8]) -> Result<()> {
        if extension == Extension::Name {
            self.long_name = Some(until_zero(data).to_vec());
            return Ok(());
        }
        let damaged = || Error::format("tar: a pax header is damaged");
        let mut rest = data;
        while !rest.is_empty() && rest[0] != 0 {
            // "LENGTH KEY=VALUE\n", the length that of the whole.
            let space = rest.iter().position(|&b| b == b' ').ok_or_else(damaged)?;
            let length = number(&rest[..space], 10).ok_or_else(damaged)?;
            let length = usize::try_from(length).map_err(|_| damaged())?;
            let record = rest.get(space + 1..length).ok_or_else(damaged)?;
            let record = record.strip_suffix(b"\n").ok_or_else(damaged)?;
            let equals = record.iter().position(|&b| b == b'=').ok_or_else(damaged)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.long_name = Some(value.to_vec()),
                b"size" => self.size = Some(number(value, 10).ok_or_else(damaged)?),
                _ if key.starts_with(b"GNU.sparse") => self.sparse = true,
                _ => {}
            }
            rest = &rest[length..];
        }
        Ok(())
    }

    /// Acts on a header; gives the member's name if it is one to read.
    fn member(&mut self, header: &[u8]) -> Result<Option<String>> {
        if header.iter().all(|&b| b == 0) {
            self.past_end = true;
            return Ok(None);
        }
        let damaged = |what: &str| Error::format(format!("tar: {what}: not a tar, or a damaged one"));
        let mut sum = 0u64;
        let mut signed = 0i64;
        for (at, &byte) in header.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { byte };
            sum += u64::from(byte);
            signed += i64::from(byte as i8);
        }
        let stated = number(field(header, 148, 8), 8).ok_or_else(|| damaged("a header has no checksum"))?;
        if stated != sum && i64::try_from(stated) != Ok(signed) {
            return Err(damaged("a header's checksum does not match"));
        }
        let size = size_field(field(header, 124, 12)).ok_or_else(|| damaged("a header has no size"))?;
        let kind = header[156];
        match kind {
            b'L' | b'x' => {
                if size > MAX_EXTENSION_BYTES {
                    let what = "bytes of a tar member's extended header";
                    return Err(Error::limit(
                        what,
                        size,
                        MAX_EXTENSION_BYTES,
                        "write the tar anew",
                    ));
                }
                let extension = if kind == b'L' {
                    Extension::Name
                } else {
                    Extension::Attributes
                };
                self.collecting = Some((extension, size, Vec::new()));
                return Ok(None);
            }
            b'K' | b'g' => {
                // The target of a link; attributes of all members, which name none of them.
                self.passing = size.checked_add(padding(size)).ok_or_else(|| damaged("a size"))?;
                return Ok(None);
            }
            _ => {}
        }
        let size = self.size.take().unwrap_or(size);
        let sparse = std::mem::take(&mut self.sparse) || kind == b'S';
        let name = self.long_name.take().unwrap_or_else(|| short_name(header));
        if matches!(kind, b'1'..=b'6') {
            // Links, devices, folders, pipes: nothing follows.
            return Ok(None);
        }
        let whole = size.checked_add(padding(size)).ok_or_else(|| damaged("a size"))?;
        let lower = name.to_ascii_lowercase();
        let file = matches!(kind, b'0' | 0 | b'7' | b'S');
        if !file || !(lower.ends_with(b".xml") || lower.ends_with(b".nxml")) {
            self.passing = whole;
            return Ok(None);
        }
        if name.len() > MAX_NAME_BYTES {
            let (found, limit) = (name.len() as u64, MAX_NAME_BYTES as u64);
            return Err(Error::limit(
                "bytes of a tar member's name",
                found,
                limit,
                "write the tar anew",
            ));
        }
        let name = String::from_utf8_lossy(&name).into_owned();
        if sparse {
            let message =
                format!("tar: member {name} is stored as a sparse file: write the tar without them");
            return Err(Error::format(message));
        }
        (self.remaining, self.padding) = (size, padding(size));
        Ok(Some(name))
    }

    /// Behind the last member.
    fn end(&mut self, monitor: &Monitor) -> Result<()> {
        loop {
            let n = self.input.read(&mut self.scratch, monitor)?;
            if n == 0 {
                return Ok(());
            }
            if self.scratch[..n].iter().any(|&b| b != 0) {
                return Err(Error::format(
                    "tar: data follows the end of the archive: two tars in one file?",
                ));
            }
        }
    }
}

fn torn() -> Error {
    Error::format("tar: the data ends too early: the archive is cut off")
}

/// Bytes up to the next whole block.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn field(header: &[u8], at: usize, length: usize) -> &[u8] {
    &header[at..at + length]
}

fn until_zero(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    &field[..end]
}

/// Digits, with blanks or zero bytes around them.
fn number(field: &[u8], radix: u32) -> Option<u64> {
    let digits = until_zero(field).trim_ascii();
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = char::from(digit).to_digit(radix)?;
        value.checked_mul(radix.into())?.checked_add(digit.into())
    })
}

/// Octal, or (GNU) big-endian binary where the first bit is set.
fn size_field(field: &[u8]) -> Option<u64> {
    if field[0] == 0x80 {
        return field[1..].iter().try_fold(0u64, |value, &byte| {
            value.checked_mul(256)?.checked_add(u64::from(byte))
        });
    }
    number(field, 8)
}

/// The name as the header alone has it.
fn short_name(header: &[u8]) -> Vec<u8> {
    let name = until_zero(field(header, 0, 100));
    let prefix = until_zero(field(header, 345, 155));
    if field(header, 257, 6) == b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}
