//! Checksums and the seeded mixer.

use crate::{Error, Monitor, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// Bytes read at a time from a file that is hashed.
const BLOCK_BYTES: usize = 1 << 20;

/// xxh3-128 of `bytes` as 32 hexadecimal digits.
pub fn xxh3_128_hex(bytes: &[u8]) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes))
}

/// xxh3-128 of a file as 32 hexadecimal digits.
pub fn file_xxh3_128_hex(path: &Path, monitor: &Monitor) -> Result<String> {
    let mut file = File::open(path).map_err(|e| Error::file(path, e))?;
    let mut hasher = Xxh3::new();
    let mut block = crate::limits::filled(BLOCK_BYTES, 0u8, "block of a file")?;
    loop {
        monitor.check()?;
        match file.read(&mut block) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&block[..n]);
                monitor.advance(n as u64);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::file(path, e)),
        }
    }
    Ok(format!("{:032x}", hasher.digest128()))
}

/// One step of splitmix64 (Steele, Lea, Flood 2014): a bijective mixer of 64 bits, also a generator of seeds.
#[inline]
pub fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // The reference implementation's value for empty input, and Vigna's first output for seed 0.
        assert_eq!(xxh3_128_hex(b""), "99aa06d3014798d86001c324468d497f");
        assert_eq!(splitmix64(0), 0xE220_A839_7B1D_CDAF);
    }

    #[test]
    fn a_file_hashes_as_its_bytes() {
        let path = std::env::temp_dir().join(format!("biollm-hash-{}", std::process::id()));
        let bytes = vec![7u8; 3_000_001];
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(
            file_xxh3_128_hex(&path, &Monitor::new()).unwrap(),
            xxh3_128_hex(&bytes)
        );
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            file_xxh3_128_hex(&path, &Monitor::new()),
            Err(Error::File { .. })
        ));
    }
}
