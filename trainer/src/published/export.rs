//! From a checkpoint of ours to a state dict for PyTorch.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use pickle::array::Dtype;
use pickle::state_dict::{self, Entry};
use tch::{Kind, Tensor};

use super::Weights;
use super::names::second_names;
use super::sizes::EMBEDDINGS;
use crate::checkpoint::{CheckpointError, State, tensors};

/// Whose names the embedding and the heads have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NameStyle {
    /// `embedding.atom_embedding.weight`, `output.…`.
    Pretrain,
    /// `embedding.weight`, `out_energy.…`, `out_forces.…`.
    Finetune,
}

/// Writes a checkpoint's weights and buffers to `out`: a torch zip, or safetensors by that extension.
///
/// Returns the names written. With another style of names than the checkpoint's own, its heads have no counterpart and are
/// left out. With `aliases`, tensors that the reference registers twice are written under both names (sharing one storage in
/// a torch zip).
///
/// # Errors
/// A checkpoint without the wanted weights, or the system's refusal.
pub fn export(
    checkpoint: &Path,
    out: &Path,
    weights: Option<Weights>,
    names: Option<NameStyle>,
    aliases: bool,
) -> Result<Vec<String>, CheckpointError> {
    let State { model, ema, .. } = State::read_weights(checkpoint)?;
    if weights == Some(Weights::Ema) && ema.is_empty() {
        let problem = "has no averaged weights (EMA); --weights model takes those of the last step";
        return Err(CheckpointError::content(checkpoint, problem));
    }
    let mut named = model;
    if weights != Some(Weights::Model) {
        named.extend(ema);
    }
    let named = match names {
        Some(style) => renamed(named, style),
        None => named,
    };
    if is_safetensors(out) {
        let mut all = BTreeMap::new();
        for (name, tensor) in named {
            let others = if aliases { second_names(&name) } else { Vec::new() };
            all.extend(others.into_iter().map(|other| (other, tensor.shallow_clone())));
            all.insert(name, tensor);
        }
        let temporary = temporary(out);
        tensors::write(&temporary, &all)?;
        std::fs::rename(&temporary, out).map_err(CheckpointError::io("rename into place", out))?;
        return Ok(all.into_keys().collect());
    }
    write_torch(&named, out, aliases)
}

/// Whether a file's name asks for safetensors.
pub(super) fn is_safetensors(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
}

/// The tensors that have a name in `style`: the embedding and the backbone always, heads where they are of that kind.
fn renamed(named: BTreeMap<String, Tensor>, style: NameStyle) -> BTreeMap<String, Tensor> {
    let (embedding, heads): (_, fn(&str) -> bool) = match style {
        NameStyle::Pretrain => (EMBEDDINGS[0], |name| name.starts_with("output.")),
        NameStyle::Finetune => (EMBEDDINGS[1], |name| name.starts_with("out_")),
    };
    named
        .into_iter()
        .filter_map(|(name, tensor)| match name.as_str() {
            n if EMBEDDINGS.contains(&n) => Some((embedding.to_owned(), tensor)),
            n if n.starts_with("backbone.") || heads(n) => Some((name, tensor)),
            _ => None,
        })
        .collect()
}

fn write_torch(
    named: &BTreeMap<String, Tensor>,
    out: &Path,
    aliases: bool,
) -> Result<Vec<String>, CheckpointError> {
    let mut entries = Vec::new();
    for (storage, (name, tensor)) in named.iter().enumerate() {
        let dtype = dtype(tensor.kind()).ok_or_else(|| {
            CheckpointError::content(out, format!("tensor `{name}`: cannot write {:?}", tensor.kind()))
        })?;
        let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        let others = if aliases { second_names(name) } else { Vec::new() };
        for name in std::iter::once(name.clone()).chain(others) {
            entries.push(Entry { name, storage, dtype, shape: shape.clone() });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let tensors: Vec<&Tensor> = named.values().collect();
    let temporary = temporary(out);
    let file = File::create(&temporary).map_err(CheckpointError::io("create", &temporary))?;
    state_dict::write(BufWriter::new(file), &entries, |storage| bytes(tensors[storage]))
        .and_then(|writer| writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all())
        .map_err(CheckpointError::io("write", &temporary))?;
    std::fs::rename(&temporary, out).map_err(CheckpointError::io("rename into place", out))?;
    Ok(entries.into_iter().map(|entry| entry.name).collect())
}

fn temporary(out: &Path) -> PathBuf {
    let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    out.with_file_name(format!(".{name}.tmp"))
}

fn bytes(tensor: &Tensor) -> io::Result<Vec<u8>> {
    let tensor = tensor.detach().contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel()).map_err(io::Error::other)?;
    Ok(bytes)
}

fn dtype(kind: Kind) -> Option<Dtype> {
    match kind {
        Kind::Float => Some(Dtype::F32),
        Kind::Double => Some(Dtype::F64),
        Kind::Half => Some(Dtype::F16),
        Kind::BFloat16 => Some(Dtype::Bf16),
        Kind::Int64 => Some(Dtype::I64),
        _ => None,
    }
}
