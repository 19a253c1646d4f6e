//! The user's small files: credentials and settings, which may or may not be there.

use std::io::{self, Read as _};
use std::path::Path;

use crate::Error;

/// Nobody writes that much by hand.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The text of the file at `path`; `None` where there is no such file.
///
/// # Errors
/// [`Error::ReadFile`]; a file of more than 4 MiB is one.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    let mut text = String::new();
    let file = std::fs::File::open(path);
    match file.and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)) {
        Ok(bytes) if bytes as u64 > MAX_FILE_BYTES => {
            Err(Error::ReadFile { path: path.to_owned(), source: io::ErrorKind::FileTooLarge.into() })
        }
        Ok(_) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(Error::ReadFile { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_or_not_and_has_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read_if_there(&path).unwrap(), None);
        let most = "x".repeat(usize::try_from(MAX_FILE_BYTES).unwrap());
        for text in ["", &most] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_if_there(&path).unwrap().as_deref(), Some(text));
        }
        std::fs::write(&path, most + "x").unwrap();
        assert!(matches!(read_if_there(&path), Err(Error::ReadFile { .. })));
        assert_eq!(read_if_there(&path.join("below")).unwrap(), None);
        assert!(matches!(read_if_there(folder.path()), Err(Error::ReadFile { .. })));
    }
}
