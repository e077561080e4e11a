//! gzip (RFC 1952) over raw inflate: every member's header, CRC and size are checked here, because a wrapper that
//! stops at the first member or forgives a bad tail loses documents without a word.

use crate::{Error, Result};
use flate2::{Crc, Decompress, FlushDecompress, Status};

/// Longest member header taken: the extra field may hold 64 KiB, a name and a comment the rest.
const MAX_HEADER_BYTES: usize = 128 << 10;

const FLAG_HEADER_CRC: u8 = 2;
const FLAG_EXTRA: u8 = 4;
const FLAG_NAME: u8 = 8;
const FLAG_COMMENT: u8 = 16;
const FLAGS_RESERVED: u8 = 0b1110_0000;

/// Where in a stream of members the decoder stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a member's header.
    Header,
    /// Inside the compressed data.
    Body,
    /// Before the CRC and the size.
    Trailer,
    /// Past at least one whole member: another one, zero bytes of padding, or the end.
    Between,
}

/// One decoder for all members of a stream.
pub(crate) struct Gzip {
    inflate: Decompress,
    crc: Crc,
    state: State,
}

impl Gzip {
    pub(crate) fn new() -> Self {
        Self {
            inflate: Decompress::new(false),
            crc: Crc::new(),
            state: State::Header,
        }
    }

    /// Whether the stream may end here.
    pub(crate) fn at_boundary(&self) -> bool {
        self.state == State::Between
    }

    /// One step: takes from `input`, writes to `output`; gives (bytes taken, bytes written). Nothing taken and
    /// nothing written means that more input is needed.
    pub(crate) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize)> {
        match self.state {
            State::Header => match header_length(input)? {
                None => Ok((0, 0)),
                Some(length) => {
                    self.inflate.reset(false);
                    self.crc.reset();
                    self.state = State::Body;
                    Ok((length, 0))
                }
            },
            State::Body => self.inflate(input, output),
            State::Trailer => {
                let Some(trailer) = input.first_chunk::<8>() else {
                    return Ok((0, 0));
                };
                let [a, b, c, d, e, f, g, h] = *trailer;
                if u32::from_le_bytes([a, b, c, d]) != self.crc.sum() {
                    return Err(Error::format(
                        "gzip: the checksum does not match: the file is damaged",
                    ));
                }
                if u32::from_le_bytes([e, f, g, h]) != self.crc.amount() {
                    return Err(Error::format(
                        "gzip: the size does not match: the file is damaged",
                    ));
                }
                self.state = State::Between;
                Ok((8, 0))
            }
            State::Between => {
                // Zero bytes pad archives on tapes and in some stores; gzip and Python skip them too.
                let padding = input.iter().take_while(|&&b| b == 0).count();
                if padding < input.len() {
                    self.state = State::Header;
                    if input[padding] != 0x1F {
                        return Err(Error::format(
                            "gzip: bytes follow the last member that are no gzip data",
                        ));
                    }
                }
                Ok((padding, 0))
            }
        }
    }

    /// Whether a step without progress still changed the state (from between members to a header).
    pub(crate) fn wants_header(&self) -> bool {
        self.state == State::Header
    }

    fn inflate(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize)> {
        let (taken_before, written_before) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(input, output, FlushDecompress::None)
            .map_err(|_| Error::format("gzip: the compressed data is damaged"))?;
        let taken = (self.inflate.total_in() - taken_before) as usize;
        let written = (self.inflate.total_out() - written_before) as usize;
        self.crc.update(&output[..written]);
        match status {
            Status::StreamEnd => self.state = State::Trailer,
            Status::BufError if !input.is_empty() && taken == 0 && written == 0 => {
                return Err(Error::format("gzip: the compressed data is damaged"));
            }
            Status::Ok | Status::BufError => {}
        }
        Ok((taken, written))
    }
}

/// The length of the member header at the start of `input`, or `None` while it is not all there.
fn header_length(input: &[u8]) -> Result<Option<usize>> {
    let wrong = |what: &str| Err(Error::format(format!("gzip: {what}")));
    for (byte, want) in input.iter().zip([0x1F, 0x8B]) {
        if *byte != want {
            return wrong("the data does not begin with 1f 8b: not a gzip file");
        }
    }
    let Some(&[_, _, method, flags, ..]) = input.first_chunk::<10>() else {
        return Ok(None);
    };
    if method != 8 || flags & FLAGS_RESERVED != 0 {
        return wrong("the header asks for an unknown method or flag");
    }
    let scan = || -> Option<usize> {
        let mut at = 10;
        if flags & FLAG_EXTRA != 0 {
            let length = input.get(at..at + 2)?;
            at += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
        }
        for flag in [FLAG_NAME, FLAG_COMMENT] {
            if flags & flag != 0 {
                at += memchr::memchr(0, input.get(at..)?)? + 1;
            }
        }
        Some(at)
    };
    let (end, crc_bytes) = (scan(), if flags & FLAG_HEADER_CRC != 0 { 2 } else { 0 });
    match end {
        Some(end) if end <= MAX_HEADER_BYTES => {
            let Some(tail) = input.get(end..end + crc_bytes) else {
                return Ok(None);
            };
            if let [low, high] = *tail {
                let mut crc = Crc::new();
                crc.update(&input[..end]);
                if u16::from_le_bytes([low, high]) != (crc.sum() & 0xFFFF) as u16 {
                    return wrong("the header's checksum does not match");
                }
            }
            Ok(Some(end + crc_bytes))
        }
        None if input.len() <= MAX_HEADER_BYTES => Ok(None),
        _ => wrong("a member's header is longer than 128 KiB"),
    }
}
