//! Whether this process is writing a checkpoint: one worth waiting for, though another rank has failed.

use std::sync::atomic::{AtomicU32, Ordering};

static UNDER_WAY: AtomicU32 = AtomicU32::new(0);

/// A checkpoint that is being written, for as long as this lives.
#[derive(Debug)]
pub struct Writing(());

impl Writing {
    /// Begins one.
    pub fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Whether there is any.
    pub fn is_under_way() -> bool {
        UNDER_WAY.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_ends_with_the_last_that_writes() {
        let (first, second) = (Writing::begin(), Writing::begin());
        drop(first);
        assert!(Writing::is_under_way());
        drop(second);
        assert!(!Writing::is_under_way());
    }
}
