//! Decompression of bytes that are pushed in, pulled out in blocks the caller sizes: whatever a compressed bomb
//! expands to, no more is in memory than was asked for.

use crate::gzip::Gzip;
use crate::{Error, Result, limits};
use zstd::stream::raw::{self, Operation};

/// How the bytes of a file are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, any number of members.
    Gzip,
    /// zstd, any number of frames, skippable ones among them.
    Zstd,
}

impl Compression {
    /// The compression called `name`: "none", "gzip" or "zstd".
    pub fn by_name(name: &str) -> Result<Self> {
        match name {
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(Error::input(
                "compression",
                format!("unknown compression {name:?}: none, gzip or zstd"),
            )),
        }
    }
}

/// What one pull gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Pulled {
    /// So many bytes (at least one) at the start of the output.
    Bytes(usize),
    /// Nothing until more is pushed, or [`Decoder::finish`] is called.
    Starved,
    /// Nothing any more.
    End,
}

enum Coding {
    Plain,
    Gzip(Box<Gzip>),
    Zstd {
        decoder: raw::Decoder<'static>,
        at_boundary: bool,
        began: bool,
    },
}

/// See the module.
pub struct Decoder {
    coding: Coding,
    /// Pushed and not yet taken: `input[taken..]`.
    input: Vec<u8>,
    taken: usize,
    finished: bool,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(compression: Compression) -> Result<Self> {
        let coding = match compression {
            Compression::None => Coding::Plain,
            Compression::Gzip => Coding::Gzip(Box::new(Gzip::new())),
            Compression::Zstd => {
                let wrong = |e: std::io::Error| Error::Internal(format!("zstd: {e}"));
                let mut decoder = raw::Decoder::new().map_err(wrong)?;
                let window = raw::DParameter::WindowLogMax(limits::MAX_ZSTD_WINDOW_LOG);
                decoder.set_parameter(window).map_err(wrong)?;
                Coding::Zstd {
                    decoder,
                    at_boundary: false,
                    began: false,
                }
            }
        };
        Ok(Self {
            coding,
            input: Vec::new(),
            taken: 0,
            finished: false,
        })
    }

    /// Hands over the next compressed bytes. They are kept until pulled: push blocks, not whole files.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.finished {
            return Err(Error::input(
                "bytes",
                "bytes were pushed after the end of the input was declared",
            ));
        }
        self.input.drain(..self.taken);
        self.taken = 0;
        limits::reserve(&mut self.input, bytes.len(), "compressed input")?;
        self.input.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes that were pushed and not yet decoded.
    pub fn pending_bytes(&self) -> usize {
        self.input.len() - self.taken
    }

    /// Declares that nothing more will be pushed.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether [`Decoder::finish`] was called.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Decodes the next bytes into `output`, which must not be empty.
    pub fn pull(&mut self, output: &mut [u8]) -> Result<Pulled> {
        loop {
            let input = &self.input[self.taken..];
            let (taken, written, may_end, name) = match &mut self.coding {
                Coding::Plain => {
                    let n = input.len().min(output.len());
                    output[..n].copy_from_slice(&input[..n]);
                    (n, n, true, "")
                }
                Coding::Gzip(gzip) => {
                    let between = gzip.at_boundary();
                    let (taken, written) = gzip.step(input, output)?;
                    if between && gzip.wants_header() {
                        self.taken += taken;
                        continue;
                    }
                    (taken, written, gzip.at_boundary(), "gzip")
                }
                Coding::Zstd {
                    decoder,
                    at_boundary,
                    began,
                } => {
                    let (taken, written) = zstd_step(decoder, input, output, at_boundary, began)?;
                    (taken, written, *at_boundary, "zstd")
                }
            };
            self.taken += taken;
            if written > 0 {
                return Ok(Pulled::Bytes(written));
            }
            if taken > 0 {
                continue;
            }
            if !self.finished {
                return Ok(Pulled::Starved);
            }
            if may_end {
                return Ok(Pulled::End);
            }
            return Err(Error::format(format!(
                "{name}: the data ends too early: the file is cut off"
            )));
        }
    }
}

/// One step of zstd; gives (bytes taken, bytes written).
fn zstd_step(
    decoder: &mut raw::Decoder<'static>,
    input: &[u8],
    output: &mut [u8],
    at_boundary: &mut bool,
    began: &mut bool,
) -> Result<(usize, usize)> {
    if input.is_empty() && (*at_boundary || !*began) {
        return Ok((0, 0));
    }
    let status = decoder.run_on_buffers(input, output).map_err(|e| {
        let reason = e.to_string();
        if reason.contains("too much memory") {
            let window = 1u64 << limits::MAX_ZSTD_WINDOW_LOG;
            let hint = "compress it again with a smaller window (zstd without --ultra --long)";
            return Error::limit("bytes of the zstd window", window + 1, window, hint);
        }
        let what = if *began {
            "the compressed data is damaged"
        } else {
            "not a zstd file"
        };
        Error::format(format!("zstd: {what} ({reason})"))
    })?;
    if status.bytes_read > 0 || status.bytes_written > 0 {
        *began = true;
        *at_boundary = status.remaining == 0;
    }
    Ok((status.bytes_read, status.bytes_written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(data, 1).unwrap()
    }

    /// Pushes `coded` in pieces and pulls with a small output.
    fn decode(compression: Compression, coded: &[u8], piece: usize, block: usize) -> Result<Vec<u8>> {
        let mut decoder = Decoder::new(compression)?;
        let (mut out, mut buffer) = (Vec::new(), vec![0; block]);
        let mut pieces = coded.chunks(piece);
        loop {
            match decoder.pull(&mut buffer)? {
                Pulled::Bytes(n) => out.extend_from_slice(&buffer[..n]),
                Pulled::Starved => match pieces.next() {
                    Some(p) => decoder.push(p)?,
                    None => decoder.finish(),
                },
                Pulled::End => return Ok(out),
            }
        }
    }

    fn sample() -> Vec<u8> {
        (0..50_000u32)
            .flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 20).to_le_bytes())
            .collect()
    }

    #[test]
    fn any_pieces_give_the_same_bytes() {
        let data = sample();
        let skippable = [0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let gz = [
            gzip(&data[..70_000]),
            gzip(b""),
            gzip(&data[70_000..]),
            vec![0; 20],
        ]
        .concat();
        let zst = [
            zstd(&data[..70_000]),
            zstd(b""),
            skippable.to_vec(),
            zstd(&data[70_000..]),
        ]
        .concat();
        for (compression, coded) in [
            (Compression::None, data.clone()),
            (Compression::Gzip, gz),
            (Compression::Zstd, zst),
        ] {
            for (piece, block) in [(1, 4096), (7, 1), (1000, 333), (1 << 20, 1 << 20)] {
                assert!(
                    decode(compression, &coded, piece, block).unwrap() == data,
                    "{compression:?} {piece} {block}"
                );
            }
        }
    }

    #[test]
    fn every_cut_is_an_error() {
        for (compression, coded) in [
            (Compression::Gzip, gzip(b"abcabcabc")),
            (Compression::Zstd, zstd(b"abcabcabc")),
        ] {
            for cut in 0..coded.len() {
                let r = decode(compression, &coded[..cut], 5, 64);
                assert!(
                    matches!(r, Err(Error::Format { .. })),
                    "{compression:?} cut at {cut}: {r:?}"
                );
            }
        }
    }

    #[test]
    fn no_flipped_bit_of_gzip_gives_other_bytes() {
        let data = b"the quick brown fox jumps over the lazy dog";
        let coded = gzip(data);
        for i in 0..coded.len() * 8 {
            let mut bad = coded.clone();
            bad[i / 8] ^= 1 << (i % 8);
            // Harmless: the header's time, hints and system byte, and the bits that fill the last byte.
            match decode(Compression::Gzip, &bad, 64, 64) {
                Ok(out) => assert!(out == data, "bit {i}"),
                Err(e) => assert!(matches!(e, Error::Format { .. }), "bit {i}: {e}"),
            }
        }
    }

    #[test]
    fn garbage_after_the_end_is_an_error() {
        for (compression, coded) in [
            (Compression::Gzip, gzip(b"abc")),
            (Compression::Zstd, zstd(b"abc")),
        ] {
            for tail in [&b"x"[..], b"garbage and more", b"\x1f", b"\x28\xb5\x2f"] {
                let r = decode(compression, &[&coded[..], tail].concat(), 100, 64);
                assert!(matches!(r, Err(Error::Format { .. })), "{compression:?} {tail:?}");
            }
        }
    }

    #[test]
    fn headers_with_all_fields_and_too_long_ones() {
        let body = gzip(b"abc")[10..].to_vec();
        let mut full = vec![0x1F, 0x8B, 8, 2 | 4 | 8 | 16, 0, 0, 0, 0, 0, 3, 4, 0, 9, 9, 9, 9];
        full.extend_from_slice(b"name\0comment\0");
        let mut crc = flate2::Crc::new();
        crc.update(&full);
        let sum = (crc.sum() as u16).to_le_bytes();
        let good = [&full[..], &sum, &body].concat();
        assert_eq!(decode(Compression::Gzip, &good, 1, 64).unwrap(), b"abc");
        let bad = [&full[..], &[sum[0] ^ 1, sum[1]], &body].concat();
        assert!(matches!(
            decode(Compression::Gzip, &bad, 100, 64),
            Err(Error::Format { .. })
        ));
        let endless = [&[0x1F, 0x8B, 8, 8, 0, 0, 0, 0, 0, 3][..], &vec![b'n'; 1 << 20]].concat();
        assert!(matches!(
            decode(Compression::Gzip, &endless, 4096, 64),
            Err(Error::Format { .. })
        ));
    }

    #[test]
    fn a_huge_zstd_window_is_a_limit() {
        // Magic, a header that names a window of 2^31 bytes, one empty last block.
        let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xA8, 1, 0, 0];
        assert!(matches!(
            decode(Compression::Zstd, &frame, 100, 64),
            Err(Error::Limit { .. })
        ));
    }
}
