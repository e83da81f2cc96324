//! How the groups of an HDF5 file become units.

use std::path::Path;

use crate::source::Unit;

/// A group that is read as a whole.
pub(super) trait Part {
    /// Its name.
    fn name(&self) -> &str;

    /// Its structures.
    fn rows(&self) -> u64;
}

/// Units of neighbouring groups, each closed by the group that brings it to `unit_rows` structures, and their groups.
pub(super) fn cut<P: Part>(parts: Vec<P>, path: &Path, unit_rows: u64) -> (Vec<Unit>, Vec<Vec<P>>) {
    let mut members: Vec<Vec<P>> = Vec::new();
    let mut left = 0;
    for part in parts {
        if left == 0 {
            members.push(Vec::new());
            left = unit_rows;
        }
        left = left.saturating_sub(part.rows());
        if let Some(open) = members.last_mut() {
            open.push(part);
        }
    }
    let unit = |members: &Vec<P>| {
        let ends = members.first().zip(members.last());
        Unit {
            name: ends.map(|(first, last)| format!("{}..{}", first.name(), last.name())).unwrap_or_default(),
            files: vec![path.to_path_buf()],
            structures: members.iter().map(P::rows).sum(),
        }
    };
    (members.iter().map(unit).collect(), members)
}
