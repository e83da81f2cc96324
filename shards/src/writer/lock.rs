use std::fs;
use std::path::Path;

use crate::error::{ShardError, io_error};

/// Keeps other writers out of a dataset's directory; the system lets go of it when the process ends, however that is.
#[derive(Debug)]
pub(crate) struct DirLock(#[allow(dead_code, reason = "held, not read")] fs::File);

impl DirLock {
    pub(crate) fn take(dir: &Path) -> Result<Self, ShardError> {
        let file = fs::File::open(dir).map_err(io_error("open", dir))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(fs::TryLockError::WouldBlock) => Err(ShardError::Output {
                dir: dir.to_path_buf(),
                problem: "another jmp-ingest is writing here; wait for it or choose another directory".into(),
            }),
            Err(fs::TryLockError::Error(source)) => {
                Err(ShardError::Io { action: "lock", path: dir.to_path_buf(), source })
            }
        }
    }
}
