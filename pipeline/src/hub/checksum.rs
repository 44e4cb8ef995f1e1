//! Whether a downloaded file is what the hub says it is.
//!
//! The hub's cache names a file's bytes by their ETag: the SHA-256 of what the hub keeps in large-file storage, git's SHA-1 of a blob for
//! the rest. A file of another name (a mirror's ETag, say) cannot be checked.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::failure::InputError;

/// Hashes a file of the cache. One that is not what its name says is taken away, so that the next attempt fetches it anew.
///
/// # Errors
/// When the bytes are others, or cannot be read.
pub fn verify(path: &Path) -> Result<(), InputError> {
    let unreadable = |error: io::Error| {
        InputError::new(
            format!("cannot read `{}`: {error}", path.display()),
            "check the cache's folder (HF_HUB_CACHE, HF_HOME)",
        )
    };
    let blob = path.canonicalize().map_err(unreadable)?;
    let wanted = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(found) = hash_like(&wanted, &blob).map_err(unreadable)? else {
        tracing::debug!("`{}`: the hub gave no checksum", path.display());
        return Ok(());
    };
    if found == wanted {
        return Ok(());
    }
    // A copy that stays would be taken for whole the next time.
    let removed = fs::remove_file(&blob).and_then(|()| if path == blob { Ok(()) } else { fs::remove_file(path) });
    let hint = match removed {
        Ok(()) => "it was removed; the same command fetches it again".to_owned(),
        Err(error) => format!("remove `{}` ({error}) and run the same command again", blob.display()),
    };
    Err(InputError::new(format!("`{}` came damaged: its checksum is {found}, wanted {wanted}", path.display()), hint))
}

/// The hash of the file in the way in which `wanted` is one; none when it is no hash.
fn hash_like(wanted: &str, file: &Path) -> io::Result<Option<String>> {
    let is_hash = wanted.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    match wanted.len() {
        64 if is_hash => digest(Sha256::new(), file).map(Some),
        40 if is_hash => {
            let bytes = fs::metadata(file)?.len();
            digest(Sha1::new().chain_update(format!("blob {bytes}\0")), file).map(Some)
        }
        _ => Ok(None),
    }
}

fn digest<D: Digest>(mut hasher: D, file: &Path) -> io::Result<String> {
    let mut file = File::open(file)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | sha256sum`, and `printf hello | git hash-object --stdin`.
    const HELLO: [&str; 2] = [
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0",
    ];

    #[test]
    fn whole_files_pass_and_damaged_ones_are_taken_away() {
        for name in HELLO {
            let folder = tempfile::tempdir().unwrap();
            let (blob, pointer) = (folder.path().join(name), folder.path().join("model.safetensors"));
            std::os::unix::fs::symlink(&blob, &pointer).unwrap();
            fs::write(&blob, "hello").unwrap();
            verify(&pointer).unwrap();
            fs::write(&blob, "hellO").unwrap();
            let error = verify(&pointer).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("it was removed"), "{error}");
            assert!(!blob.exists() && pointer.symlink_metadata().is_err());
        }
    }

    #[test]
    fn a_name_that_is_no_hash_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("W-3f2a");
        fs::write(&file, "anything").unwrap();
        verify(&file).unwrap();
    }
}
