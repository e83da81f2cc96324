//! Checkpoints written beside the training: a copy of the tensors in memory, then a thread of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tch::{Device, Tensor, no_grad};

use super::{CheckpointError, Info, State, Store, Writing};

/// Writes the checkpoints of one run, one at a time.
#[derive(Debug)]
pub struct Writer {
    store: Arc<Store>,
    background: bool,
    pending: Option<JoinHandle<Result<PathBuf, CheckpointError>>>,
}

impl Writer {
    /// For the checkpoints of `store`; with `background` a call of [`Self::save`] returns before its files are there.
    pub fn new(store: Store, background: bool) -> Self {
        Self { store: Arc::new(store), background, pending: None }
    }

    /// Writes a checkpoint, once the one before is on disk. Returns the paths of those that are done.
    ///
    /// # Errors
    /// Those of this checkpoint or of the one before.
    pub fn save(&mut self, info: Info, state: &State) -> Result<Vec<PathBuf>, CheckpointError> {
        let mut done = self.wait()?;
        let writing = Writing::begin();
        if self.background {
            let (store, copy) = (Arc::clone(&self.store), state.to_host());
            self.pending = Some(thread::spawn(move || {
                let saved = store.save(info, &copy);
                drop(writing);
                saved
            }));
        } else {
            done.push(self.store.save(info, state)?);
        }
        Ok(done)
    }

    /// What the thread has finished since the last call, without waiting.
    ///
    /// # Errors
    /// Those of the checkpoint that it wrote.
    pub fn poll(&mut self) -> Result<Vec<PathBuf>, CheckpointError> {
        match &self.pending {
            Some(thread) if thread.is_finished() => self.wait(),
            _ => Ok(Vec::new()),
        }
    }

    /// Waits until everything is on disk.
    ///
    /// # Errors
    /// Those of the checkpoint that was being written.
    pub fn wait(&mut self) -> Result<Vec<PathBuf>, CheckpointError> {
        let Some(thread) = self.pending.take() else { return Ok(Vec::new()) };
        let path = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(vec![path])
    }
}

impl Drop for Writer {
    /// A run that ends with an error still leaves the last checkpoint whole; its own error, if any, is the lesser one.
    fn drop(&mut self) {
        if let Some(thread) = self.pending.take() {
            drop(thread.join());
        }
    }
}

impl State {
    /// A copy in the host's memory, which later steps do not change.
    fn to_host(&self) -> Self {
        let copied = |tensors: &BTreeMap<String, Tensor>| {
            let copy = |tensor: &Tensor| no_grad(|| tensor.detach().to_device(Device::Cpu).copy());
            tensors.iter().map(|(name, tensor)| (name.clone(), copy(tensor))).collect()
        };
        Self {
            model: copied(&self.model),
            ema: copied(&self.ema),
            first: copied(&self.first),
            second: copied(&self.second),
            updates: self.updates,
        }
    }
}
