//! The decoded bytes of a file, or of the members of a tar, one after another.

use super::tar::Tar;
use biollm_core::decode::{Compression, Decoder, Pulled};
use biollm_core::lines::BLOCK_BYTES;
use biollm_core::{Error, Monitor, Result, limits};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// A file that is read once, from its start.
pub(super) struct Input {
    file: File,
    path: PathBuf,
    decoder: Decoder,
    block: Vec<u8>,
    hasher: Xxh3,
    bytes_read: u64,
    total_bytes: u64,
    ended: bool,
}

impl Input {
    /// Opens a regular file.
    pub(super) fn open(path: &Path, compression: Compression) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::file(path, e))?;
        if !metadata.is_file() {
            // Opening a pipe could block for ever; a folder only fails when read.
            let message = format!("{}: not a regular file", path.display());
            return Err(Error::input("path", message));
        }
        Ok(Self {
            file: File::open(path).map_err(|e| Error::file(path, e))?,
            path: path.to_path_buf(),
            decoder: Decoder::new(compression)?,
            block: limits::filled(BLOCK_BYTES, 0, "a block of a file")?,
            hasher: Xxh3::new(),
            bytes_read: 0,
            total_bytes: metadata.len(),
            ended: false,
        })
    }

    /// Decodes the next bytes into `output`, which must not be empty; 0 at the end.
    pub(super) fn read(&mut self, output: &mut [u8], monitor: &Monitor) -> Result<usize> {
        while !self.ended {
            monitor.check()?;
            match self.decoder.pull(output)? {
                Pulled::Bytes(n) => return Ok(n),
                Pulled::End => self.ended = true,
                Pulled::Starved => match self.file.read(&mut self.block) {
                    Ok(0) => self.decoder.finish(),
                    Ok(n) => {
                        self.decoder.push(&self.block[..n])?;
                        self.hasher.update(&self.block[..n]);
                        self.bytes_read += n as u64;
                        monitor.advance(n as u64);
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(Error::file(&self.path, e)),
                },
            }
        }
        Ok(0)
    }
}

/// Where a tokenizer's bytes come from.
pub(super) enum Source {
    File(Box<Input>),
    Tar(Box<Tar>),
    /// Bytes that come in pieces of a size.
    #[cfg(test)]
    Pieces(Vec<u8>, usize),
}

impl Source {
    /// See the module.
    pub(super) fn open(path: &Path, compression: Compression, tar: bool) -> Result<Self> {
        let input = Input::open(path, compression)?;
        Ok(if tar {
            Source::Tar(Box::new(Tar::new(input)?))
        } else {
            Source::File(Box::new(input))
        })
    }

    /// The next bytes of the file, or of the member that is open; 0 at its end.
    pub(super) fn read(&mut self, output: &mut [u8], monitor: &Monitor) -> Result<usize> {
        match self {
            Source::File(input) => input.read(output, monitor),
            Source::Tar(tar) => tar.read(output, monitor),
            #[cfg(test)]
            Source::Pieces(data, piece) => {
                let n = data.len().min(*piece).min(output.len());
                output[..n].copy_from_slice(&data[..n]);
                data.drain(..n);
                Ok(n)
            }
        }
    }

    fn input(&self) -> Option<&Input> {
        match self {
            Source::File(input) => Some(input),
            Source::Tar(tar) => Some(tar.input()),
            #[cfg(test)]
            Source::Pieces(..) => None,
        }
    }

    /// Reads what is left of a file, for its checksums. In a tar nothing: the members behind are still to come.
    pub(super) fn drain(&mut self, scratch: &mut [u8], monitor: &Monitor) -> Result<()> {
        if let Source::File(input) = self {
            while input.read(scratch, monitor)? > 0 {}
        }
        Ok(())
    }

    /// Bytes read so far, as they are in the file.
    pub(super) fn bytes_read(&self) -> u64 {
        self.input().map_or(0, |input| input.bytes_read)
    }

    /// The size the file had when it was opened.
    pub(super) fn total_bytes(&self) -> u64 {
        self.input().map_or(0, |input| input.total_bytes)
    }

    /// xxh3-128 of the file's bytes, once all of it has been read.
    pub(super) fn xxh3_128_hex(&self) -> Option<String> {
        let input = self.input()?;
        input.ended.then(|| format!("{:032x}", input.hasher.digest128()))
    }
}
