//! What libtorch's operations cost.

use super::ffi;

/// What one kind of operation cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// libtorch's name of the operation, for example `aten::mm`.
    pub name: String,
    /// How often it ran.
    pub calls: u64,
    /// Its own time, without that of operations it called, s.
    pub seconds: f64,
    /// Multiplications and additions, of matrix products only.
    pub flop: f64,
}

/// A recording of all operations of the process.
#[derive(Debug)]
pub struct Profile(());

impl Profile {
    /// Starts recording; slows small operations down. One at a time.
    pub fn start() -> Self {
        ffi::profile_start();
        Self(())
    }

    /// Ends it; the costliest operation first.
    pub fn stop(self) -> Vec<Cost> {
        let mut costs: Vec<Cost> = ffi::profile_stop()
            .into_iter()
            .map(|(name, calls, seconds, flop)| Cost { name, calls, seconds, flop })
            .collect();
        costs.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.name.cmp(&b.name)));
        costs
    }
}
