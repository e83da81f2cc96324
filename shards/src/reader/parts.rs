//! Open parts: those used last are kept, and what was read of them without a checksum is compared later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::RowGroup;
use super::files::Files;
use super::part::{Columns, PartFile};
use crate::error::ShardError;
use crate::manifest::Manifest;

/// Decoded footers of a dataset that are kept, bytes: those of some thousand row groups. A dataset may have a hundred times
/// as many, and a footer is read again in a millisecond.
pub(crate) const FOOTERS: usize = 64 << 20;

/// The parts of one dataset; shared by its readers.
#[derive(Debug, Default)]
pub(super) struct Parts {
    open: Mutex<OpenParts>,
    /// Columns that were read without the rest of their row group, which alone has a checksum: part, row group, columns.
    alone: Mutex<BTreeMap<(usize, usize, Columns), Digest>>,
}

#[derive(Debug, Default)]
struct OpenParts {
    parts: BTreeMap<usize, (u64, Arc<PartFile>)>,
    /// Bytes of their footers.
    bytes: usize,
    /// Uses so far: what tells how long ago one was used.
    uses: u64,
}

/// A shortened BLAKE3.
pub(super) type Digest = [u8; 16];

impl Parts {
    /// A part, opened if it is not open.
    pub(super) fn get(
        &self,
        files: &Files,
        manifest: &Manifest,
        index: usize,
    ) -> Result<Arc<PartFile>, ShardError> {
        if let Some(part) = self.open().used(index) {
            return Ok(part);
        }
        // Not under the lock: two threads that open the same part do a little more work, others do not wait.
        let part = Arc::new(PartFile::open(files, manifest, index)?);
        self.open().keep(index, &part);
        Ok(part)
    }

    fn open(&self) -> std::sync::MutexGuard<'_, OpenParts> {
        // A panic elsewhere leaves at worst a part that is opened again.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was read of a row group's columns without the rest; false if other bytes were read before.
    pub(super) fn note_alone(&self, group: &RowGroup, columns: Columns, digest: Digest) -> bool {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        alone.insert((group.part, group.index, columns), digest).is_none_or(|before| before == digest)
    }

    /// What was read of a row group's columns without the rest, to be compared now; each only once.
    pub(super) fn take_alone(&self, group: &RowGroup) -> Vec<(Columns, Digest)> {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let key = |columns| (group.part, group.index, columns);
        let found: Vec<_> = alone
            // The least of all columns.
            .range(key(Columns::sizes())..)
            .take_while(|((part, index, _), _)| (*part, *index) == (group.part, group.index))
            .map(|((_, _, columns), digest)| (*columns, *digest))
            .collect();
        found.iter().for_each(|(columns, _)| {
            alone.remove(&key(*columns));
        });
        found
    }
}

impl OpenParts {
    fn used(&mut self, index: usize) -> Option<Arc<PartFile>> {
        self.uses += 1;
        let (used, part) = self.parts.get_mut(&index)?;
        *used = self.uses;
        Some(part.clone())
    }

    fn keep(&mut self, index: usize, part: &Arc<PartFile>) {
        if let Some((_, before)) = self.parts.insert(index, (self.uses, part.clone())) {
            self.bytes -= before.footer_bytes();
        }
        self.bytes += part.footer_bytes();
        while self.bytes > FOOTERS && self.parts.len() > 1 {
            let oldest = self.parts.iter().min_by_key(|(_, (used, _))| *used).map(|(index, _)| *index);
            let Some((_, part)) = oldest.and_then(|index| self.parts.remove(&index)) else { break };
            self.bytes -= part.footer_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_read_alone_are_compared_once_and_must_not_change() {
        let parts = Parts::default();
        let group = |part, index| RowGroup { part, index, rows: 0..1 };
        assert!(parts.note_alone(&group(1, 2), Columns::sizes(), [1; 16]));
        assert!(parts.note_alone(&group(1, 2), Columns::counts(), [2; 16]));
        assert!(parts.note_alone(&group(1, 3), Columns::sizes(), [3; 16]));
        assert!(parts.note_alone(&group(1, 2), Columns::sizes(), [1; 16]));
        assert!(!parts.note_alone(&group(1, 3), Columns::sizes(), [4; 16]), "other bytes than before");
        let both = vec![(Columns::sizes(), [1; 16]), (Columns::counts(), [2; 16])];
        assert_eq!(parts.take_alone(&group(1, 2)), both);
        assert!(parts.take_alone(&group(1, 2)).is_empty());
        assert!(parts.take_alone(&group(0, 2)).is_empty());
    }
}
