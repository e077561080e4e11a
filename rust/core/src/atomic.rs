//! Publishing a finished file: nobody ever sees a torn one under its final name.

use crate::{Error, Monitor, Result, hash};
use std::fs::{self, File};
use std::path::Path;

/// Makes `temporary` durable under the name `target`: flush to disk, rename, flush the folder.
/// Gives the xxh3-128 of the content, read back before the rename. Both names lie in one folder.
pub fn publish(temporary: &Path, target: &Path, monitor: &Monitor) -> Result<String> {
    let file = File::options()
        .write(true)
        .open(temporary)
        .map_err(|e| Error::file(temporary, e))?;
    file.sync_all().map_err(|e| Error::file(temporary, e))?;
    drop(file);
    let checksum = hash::file_xxh3_128_hex(temporary, monitor)?;
    monitor.check()?;
    fs::rename(temporary, target).map_err(|e| Error::file(target, e))?;
    if let Some(folder) = target.parent() {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        // Some file systems (network ones) refuse to sync a folder; the rename itself has happened.
        if let Ok(handle) = File::open(folder) {
            let _ = handle.sync_all();
        }
    }
    Ok(checksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishes_and_replaces() {
        let folder = std::env::temp_dir().join(format!("biollm-atomic-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (tmp, target) = (folder.join("a.tmp"), folder.join("a"));
        for content in ["one", "two"] {
            fs::write(&tmp, content).unwrap();
            let sum = publish(&tmp, &target, &Monitor::new()).unwrap();
            assert_eq!(sum, hash::xxh3_128_hex(content.as_bytes()));
            assert_eq!(fs::read_to_string(&target).unwrap(), content);
            assert!(!tmp.exists());
        }
        assert!(matches!(
            publish(&tmp, &target, &Monitor::new()),
            Err(Error::File { .. })
        ));
        fs::remove_dir_all(&folder).unwrap();
    }
}
