//! What fine-tuning takes over from another model, tensor by tensor.

mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tch::{Tensor, no_grad};

use self::kept::Heads;
use crate::checkpoint::{CheckpointError, Info, TaskRecord};
use crate::inference;
use crate::network::Network;
use crate::published::{KnownPooling, Weights};

/// Where a model comes from, and how much of it is taken.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// A run directory, a checkpoint in it, or a file of weights.
    pub path: PathBuf,
    /// Which weights; averaged ones where there are any when absent.
    pub weights: Option<Weights>,
    /// Whose heads are kept; new ones when absent.
    pub heads: Option<KeptHeads>,
    /// Whether tensors that do not match are left as they are instead of refusing the model.
    pub allow_mismatch: bool,
}

/// Which task's heads are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptHeads {
    /// The only task's, or that of the dataset's name.
    Same,
    /// The task's of this name.
    Task(String),
}

/// Names of the atom embedding in pre-training and in fine-tuning.
const EMBEDDINGS: [&str; 2] = ["embedding.atom_embedding.weight", "embedding.weight"];
/// Tensors of a backbone that only direct forces need.
const OF_DIRECT_FORCES: [&str; 4] = [".seq_forces.", ".dense_rbf_F.", ".scale_rbf_F.", "backbone.out_mlp_F."];
/// What to do about heads of something else.
const WITHOUT_HEADS: &str = "without --keep-heads, or with --allow-mismatch, new ones are drawn";
/// This many mismatches are told; the first show what is wrong.
const TOLD: usize = 8;

/// Copies embedding and backbone, and the heads if they are to be kept, into a fresh network.
///
/// Every tensor that is to be taken must be there with its shape, and no tensor of the other model's backbone may be left
/// over, except those of direct forces that this network does not have. Returns what was done, in words.
///
/// # Errors
/// A model that cannot be read or does not match, told tensor by tensor; heads that predict something else than is to be
/// learnt.
pub fn take(
    network: &Network,
    record: Option<&TaskRecord>,
    source: &Source,
) -> Result<Vec<String>, CheckpointError> {
    let (path, info, tensors) =
        inference::read_weights(&source.path, source.weights, KnownPooling::NotNeeded)?;
    let refused = |problem: String| CheckpointError::content(&path, problem);
    let mut notes = Vec::new();
    let kept = match (&source.heads, record) {
        (Some(wanted), Some(record)) => {
            let place = kept::place(&info, wanted, record).map_err(refused)?;
            match Heads::of(&info, place, record) {
                Ok(heads) => Some(heads),
                Err(problem) if source.allow_mismatch => {
                    notes.push(format!("{problem}; they are drawn anew"));
                    None
                }
                Err(problem) => return Err(refused(format!("{problem}\n{WITHOUT_HEADS}"))),
            }
        }
        _ => None,
    };
    let mut taking =
        Taking { tensors: &tensors, used: BTreeSet::new(), mismatches: Vec::new(), heads: BTreeMap::new() };
    let variables: BTreeMap<String, Tensor> = network.store().variables().into_iter().collect();
    let has_direct_forces = network.config().direct_forces;
    for (name, target) in &variables {
        taking.copy(name, target, kept.as_ref());
    }
    let left = taking.left_over(has_direct_forces, kept.as_ref());
    let Taking { used, mismatches, heads, .. } = taking;
    if !mismatches.is_empty() && !source.allow_mismatch {
        return Err(refused(mismatch_text(&info, network, &mismatches)));
    }
    let whole = format!(
        "weights of {} (step {}, {} tasks): {} tensors taken, {} not used",
        path.display(),
        info.position.step,
        info.tasks.len(),
        used.len(),
        left.len()
    );
    notes.insert(0, whole);
    notes.extend(mismatches.iter().map(|m| format!("left as it is: {m}")));
    match kept {
        Some(kept) => notes.extend(kept.scale(&heads)),
        None => notes.push("the heads begin with random numbers".to_owned()),
    }
    Ok(notes)
}

struct Taking<'a> {
    tensors: &'a BTreeMap<String, Tensor>,
    used: BTreeSet<&'a str>,
    mismatches: Vec<String>,
    /// The heads' tensors that were copied.
    heads: BTreeMap<String, Tensor>,
}

impl<'a> Taking<'a> {
    fn copy(&mut self, name: &str, target: &Tensor, kept: Option<&Heads>) {
        let is_head = !name.starts_with("backbone.") && !EMBEDDINGS.contains(&name);
        let candidates: Vec<String> = match kept {
            _ if EMBEDDINGS.contains(&name) => EMBEDDINGS.map(str::to_owned).to_vec(),
            _ if !is_head => vec![name.to_owned()],
            Some(heads) => vec![heads.source_name(name)],
            None => return,
        };
        let Some((found, tensor)) = candidates.iter().find_map(|c| self.tensors.get_key_value(c)) else {
            self.mismatches.push(format!("tensor `{name}` is missing (`{}`)", candidates[0]));
            return;
        };
        self.used.insert(found);
        if tensor.size() != target.size() {
            let (expected, found) = (target.size(), tensor.size());
            self.mismatches.push(format!("tensor `{name}`: expected shape {expected:?}, found {found:?}"));
            return;
        }
        let mut target = target.shallow_clone();
        match no_grad(|| target.f_copy_(tensor)) {
            Ok(()) if is_head => drop(self.heads.insert(name.to_owned(), target)),
            Ok(()) => {}
            Err(error) => self.mismatches.push(format!("tensor `{name}`: {error}")),
        }
    }

    /// Tensors that found no place; those that should have are mismatches.
    fn left_over(&mut self, has_direct_forces: bool, kept: Option<&Heads>) -> Vec<&'a str> {
        let all = self.tensors.keys().map(String::as_str);
        let left: Vec<&str> = all.filter(|name| !self.used.contains(name)).collect();
        for name in &left {
            let of_forces = OF_DIRECT_FORCES.iter().any(|part| name.contains(part));
            let backbone = name.starts_with("backbone.") && (has_direct_forces || !of_forces);
            if backbone || kept.is_some_and(|heads| heads.owns(name)) {
                self.mismatches.push(format!("tensor `{name}` of the checkpoint has no place in this model"));
            }
        }
        left
    }
}

fn mismatch_text(info: &Info, network: &Network, mismatches: &[String]) -> String {
    let (theirs, ours) = (info.model.gemnet(network.config().direct_forces), network.config());
    let sizes = [theirs, ours.clone()]
        .map(|c| format!("{} blocks, atoms {}, edges {}", c.num_blocks, c.emb_size_atom, c.emb_size_edge));
    let hint = if sizes[0] == sizes[1] {
        String::new()
    } else {
        format!(" (it has {}; the configuration {})", sizes[0], sizes[1])
    };
    let told: Vec<&str> = mismatches.iter().take(TOLD).map(String::as_str).collect();
    let more =
        if mismatches.len() > TOLD { format!("\n  … {} in all", mismatches.len()) } else { String::new() };
    format!(
        "does not match the configured model{hint}:\n  {}{more}\n--allow-mismatch leaves such tensors as they are drawn",
        told.join("\n  ")
    )
}

impl Source {
    /// The model at a path: averaged weights where there are any, new heads, strictly.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf(), ..Self::default() }
    }
}
