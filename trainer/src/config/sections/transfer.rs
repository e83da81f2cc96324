//! `[transfer]`: what moves when a pre-trained model is fine-tuned.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// `[transfer]` of fine-tuning: what moves, and what of a pre-trained model is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransferSection {
    /// Tensors that stay as they are, by name or the beginning of one up to a dot; `*` stands for anything.
    pub freeze: Vec<String>,
    /// Whether the atom embedding begins with random numbers again.
    pub reset_embedding: bool,
}

impl TransferSection {
    pub(in crate::config) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a tensor stays as it is.
    pub fn freezes(&self, name: &str) -> bool {
        self.freeze.iter().any(|pattern| matches(pattern, name))
    }

    /// The first pattern that no name matches.
    pub fn idle(&self, names: &BTreeSet<String>) -> Option<&String> {
        self.freeze.iter().find(|pattern| !names.iter().any(|name| matches(pattern, name)))
    }
}

/// Whether a pattern stands for a name, or for the beginning of it up to a dot.
fn matches(pattern: &str, name: &str) -> bool {
    let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    ends.into_iter().any(|end| matches_whole(pattern, &name[..end]))
}

fn matches_whole(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            starts.any(|start| matches_whole(after, &rest[start..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names_and_their_beginnings() {
        let name = "backbone.int_blocks.1.dense_ca.linear.weight";
        for pattern in ["backbone", "backbone.int_blocks.1", name, "backbone.*.1", "*.weight", "*dense*"] {
            assert!(matches(pattern, name), "{pattern}");
        }
        for pattern in ["back", "backbone.int_blocks.1.d", "int_blocks", "backbone.*.2", "*.bias", ""] {
            assert!(!matches(pattern, name), "{pattern}");
        }
    }
}
