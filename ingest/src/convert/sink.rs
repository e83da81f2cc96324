use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shards::writer::{Reject, UnitWriter};
use shards::{ShardError, Structure};

use super::Run;
use crate::error::IngestError;
use crate::source::Sink;

/// Structures between two reports to the progress bar.
const REPORT_EVERY: u64 = 64;

/// Stores what a unit's reader finds.
pub(super) struct UnitSink<'r, 'a> {
    run: &'r Run<'a>,
    unit: usize,
    pub(super) writer: UnitWriter<'r>,
    unreported: u64,
    /// Time spent here, which is none of the reader's.
    pub(super) inside: Duration,
}

impl<'r, 'a> UnitSink<'r, 'a> {
    pub(super) fn new(run: &'r Run<'a>, unit: usize, writer: UnitWriter<'r>) -> Self {
        Self { run, unit, writer, unreported: 0, inside: Duration::ZERO }
    }

    pub(super) fn report(&mut self) {
        self.run.progress.advance(std::mem::take(&mut self.unreported), 0);
    }

    fn files(&self) -> &'r [PathBuf] {
        &self.run.source.units()[self.unit].files
    }

    /// The reason without the directories of this machine: what is written must not depend on where the input lies.
    fn note(&mut self, id: &str, code: &str, reason: &str) -> Reject {
        let reason = self.files().iter().fold(reason.to_owned(), |text, file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            text.replace(&file.display().to_string(), &name)
        });
        self.run.progress.advance(0, 1);
        Reject { id: id.to_owned(), code: code.to_owned(), reason }
    }

    fn store(&mut self, structure: &Structure) -> Result<(), IngestError> {
        if self.run.stopped() {
            return Err(IngestError::Interrupted);
        }
        if let Some((code, reason)) = self.run.settings.filters.iter().find_map(|f| f.refuses(structure)) {
            let reject = self.note(&structure.id, code, &reason);
            self.writer.leave_out(reject);
            return Ok(());
        }
        match self.writer.push(structure) {
            Ok(()) => {}
            Err(ShardError::Structure { id, fault }) => {
                return self.reject(&id, fault.code(), &fault.to_string());
            }
            Err(ShardError::Graph { id, source }) => return self.reject(&id, "graph", &source.to_string()),
            Err(error @ ShardError::FarNeighbor { .. }) => {
                return self.reject(&structure.id, "far_neighbor", &error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
        self.unreported += 1;
        if self.unreported >= REPORT_EVERY {
            self.report();
        }
        Ok(())
    }
}

impl Sink for UnitSink<'_, '_> {
    fn structure(&mut self, structure: Structure) -> Result<(), IngestError> {
        let start = Instant::now();
        let result = self.store(&structure);
        self.inside += start.elapsed();
        result
    }

    fn reject(&mut self, id: &str, code: &'static str, reason: &str) -> Result<(), IngestError> {
        let reject = self.note(id, code, reason);
        let limit = self.run.settings.max_rejects;
        if self.run.rejects.fetch_add(1, Ordering::Relaxed) >= limit {
            let path = self.files().first().cloned().unwrap_or_default();
            return Err(IngestError::TooManyRejects {
                path,
                id: id.to_owned(),
                reason: reject.reason,
                limit,
            });
        }
        self.writer.reject(reject);
        Ok(())
    }

    fn leave_out(&mut self, id: &str, code: &'static str, reason: &str) {
        let reject = self.note(id, code, reason);
        self.writer.leave_out(reject);
    }
}
