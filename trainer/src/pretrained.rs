//! What fine-tuning takes over from another model, tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tch::{Tensor, no_grad};

use crate::checkpoint::{CheckpointError, Info, TaskRecord};
use crate::config::{ForceMode, RunKind};
use crate::inference;
use crate::network::Network;
use crate::published::Weights;

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
/// This many mismatches are told; the first show what is wrong.
const TOLD: usize = 8;

/// Copies embedding and backbone, and the heads if they are to be kept, into a fresh network.
///
/// Every tensor that is to be taken must be there with its shape, and no tensor of the other model's backbone may be left
/// over, except those of direct forces that this network does not have. Returns what was done, in words.
///
/// # Errors
/// A model that cannot be read or does not match, told tensor by tensor; heads of another label.
pub fn take(
    network: &Network,
    record: Option<&TaskRecord>,
    source: &Source,
) -> Result<Vec<String>, CheckpointError> {
    let (path, info, tensors) = inference::read_weights(&source.path, source.weights)?;
    let refused = |problem: String| CheckpointError::content(&path, problem);
    let kept = match (&source.heads, record) {
        (Some(heads), Some(record)) => Some(Heads::of(&info, heads, record).map_err(refused)?),
        _ => None,
    };
    let mut taking = Taking { tensors: &tensors, used: BTreeSet::new(), mismatches: Vec::new(), heads: 0 };
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
    let mut notes = vec![format!(
        "weights of {} (step {}, {} tasks): {} tensors taken, {} not used",
        path.display(),
        info.position.step,
        info.tasks.len(),
        used.len(),
        left.len()
    )];
    notes.extend(mismatches.iter().map(|m| format!("left as it is: {m}")));
    if let Some(kept) = kept {
        notes.push(kept.scale(&variables, heads, &info));
    }
    Ok(notes)
}

struct Taking<'a> {
    tensors: &'a BTreeMap<String, Tensor>,
    used: BTreeSet<&'a str>,
    mismatches: Vec<String>,
    heads: usize,
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
            Ok(()) => self.heads += usize::from(is_head),
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

/// The heads of one task of another model.
struct Heads {
    /// The task's place among joint heads; `None`: single heads.
    joint: Option<usize>,
    name: String,
    /// Factors on outputs: the scales they were trained with over those that they will be read with.
    factors: Option<(f64, f64)>,
    direct_forces: bool,
}

impl Heads {
    fn of(info: &Info, kept: &KeptHeads, record: &TaskRecord) -> Result<Self, String> {
        let known = || info.tasks.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
        let wanted = match kept {
            KeptHeads::Task(name) => Some(name),
            KeptHeads::Same if info.tasks.len() == 1 => None,
            KeptHeads::Same => Some(&record.name),
        };
        let place = match wanted {
            None => 0,
            Some(name) => info.tasks.iter().position(|t| t.name == *name).ok_or_else(|| {
                format!("no heads of a task `{name}`; there are {}: name one, --keep-heads TASK", known())
            })?,
        };
        let theirs = &info.tasks[place];
        if theirs.forces != ForceMode::Direct && record.forces == ForceMode::Direct {
            return Err(format!("task `{}` has no direct force head to keep", theirs.name));
        }
        let scales = (&theirs.transform, &record.transform);
        let factors = (scales.0.std / scales.1.std, scales.0.force_std / scales.1.force_std);
        Ok(Self {
            joint: (info.kind == RunKind::Pretrain).then_some(place),
            name: theirs.name.clone(),
            factors: info.origin.is_none().then_some(factors),
            direct_forces: record.forces == ForceMode::Direct,
        })
    }

    /// `out_energy.0.weight` as the other model calls it.
    fn source_name(&self, name: &str) -> String {
        match (self.joint, name.split_once('.')) {
            (Some(place), Some((head, layer))) => format!("output.{head}.{place}.{layer}"),
            _ => name.to_owned(),
        }
    }

    /// Whether a tensor belongs to a head that is to be kept.
    fn owns(&self, name: &str) -> bool {
        let heads = if self.direct_forces { &["out_energy", "out_forces"][..] } else { &["out_energy"] };
        match self.joint {
            Some(place) => heads.iter().any(|head| name.starts_with(&format!("output.{head}.{place}."))),
            None => heads.iter().any(|head| name.starts_with(&format!("{head}."))),
        }
    }

    /// Multiplies the last layers, which are linear without bias, so that the outputs mean the same with the new scales.
    fn scale(&self, variables: &BTreeMap<String, Tensor>, taken: usize, info: &Info) -> String {
        let kept = format!("heads of task `{}` kept, {taken} tensors", self.name);
        let Some((energy, forces)) = self.factors else {
            let file = info.origin.as_ref().map_or("", |origin| &origin.file);
            return format!("{kept}; {file} does not tell their scales: they are taken to be this dataset's");
        };
        for (name, factor) in [("out_energy.8.weight", energy), ("out_forces.8.weight", forces)] {
            if let Some(weight) = variables.get(name) {
                let mut weight = weight.shallow_clone();
                let _ = no_grad(|| weight.g_mul_scalar_(factor));
            }
        }
        format!("{kept}; outputs times {energy:.6} to this dataset's scale")
    }
}

impl Source {
    /// The model at a path: averaged weights where there are any, new heads, strictly.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf(), ..Self::default() }
    }
}
