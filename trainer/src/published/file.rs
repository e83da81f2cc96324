//! Files of named tensors, read one tensor at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use pickle::archive::TorchArchive;
use pickle::array::Dtype;
use pickle::{Decoded, Item, Limits, TensorHead, Value};
use tch::{Kind, Tensor};

use super::names::is_averaged;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::safetensors::SafetensorsFile;

/// A tensor that a file offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Element type.
    pub kind: Kind,
    /// Extent of every axis.
    pub shape: Vec<i64>,
}

#[derive(Debug)]
enum Content {
    Torch { archive: TorchArchive<BufReader<File>>, weights: BTreeMap<String, TensorHead> },
    Safetensors(SafetensorsFile),
}

/// An open file: a torch zip with a state dict or a Lightning dictionary around one, or safetensors.
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    content: Content,
    offers: BTreeMap<String, Offer>,
    /// The state dict's names in its own order.
    order: Vec<String>,
    /// The file's averaged weights in their order.
    listed: Option<Vec<TensorHead>>,
    /// The same by name, once they are asked for.
    averages: BTreeMap<String, TensorHead>,
    step: Option<u64>,
}

impl WeightsFile {
    /// Opens a file and looks at names and shapes. What it is shows in its first bytes, not in its name.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        if path.is_dir() {
            let problem = "a directory, expected a .pt or .safetensors file (checkpoints of this program need no import)";
            return Err(CheckpointError::content(path, problem));
        }
        if is_safetensors(path)? {
            return Self::safetensors(path);
        }
        let file = File::open(path).map_err(CheckpointError::io("open", path))?;
        let refused = |e: pickle::archive::ArchiveError| CheckpointError::content(path, e.to_string());
        let mut archive = TorchArchive::open(BufReader::new(file)).map_err(refused)?;
        let bytes = archive.pickle().map_err(refused)?;
        let decoded = pickle::outline(&bytes, Limits::FILE)
            .map_err(|e| CheckpointError::content(path, format!("data.pkl: {e}")))?;
        let described = describe(&decoded).map_err(|problem| CheckpointError::content(path, problem))?;
        let Description { order, weights, averages, step } = described;
        let offer = |(name, head): (&String, &TensorHead)| {
            offer_of(head).map(|offer| (name.clone(), offer)).ok_or_else(|| {
                CheckpointError::content(path, format!("tensor `{name}`: unknown type {:?}", head.dtype))
            })
        };
        let offers: BTreeMap<String, Offer> = weights.iter().map(offer).collect::<Result<_, _>>()?;
        let content = Content::Torch { archive, weights };
        let path = path.to_path_buf();
        Ok(Self { path, content, offers, order, listed: averages, averages: BTreeMap::new(), step })
    }

    fn safetensors(path: &Path) -> Result<Self, CheckpointError> {
        let file = SafetensorsFile::open(path)?;
        let mut offers = BTreeMap::new();
        for (name, entry) in file.entries() {
            let shape = entry.shape.iter().map(|&n| n as i64).collect();
            offers.extend(entry.kind().map(|kind| (name.clone(), Offer { kind, shape })));
        }
        Ok(Self {
            path: path.to_path_buf(),
            content: Content::Safetensors(file),
            offers,
            order: Vec::new(),
            listed: None,
            averages: BTreeMap::new(),
            step: None,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it offers, by name.
    pub fn offers(&self) -> &BTreeMap<String, Offer> {
        &self.offers
    }

    /// Whether it holds averaged weights.
    pub fn has_averages(&self) -> bool {
        self.listed.is_some()
    }

    /// Makes [`Self::read`] know the averaged weights: a tuple in the state dict's order, whose number, shapes and types
    /// must agree with it.
    ///
    /// # Errors
    /// A tuple that does not fit, or none.
    pub fn match_averages(&mut self) -> Result<(), CheckpointError> {
        let refused = |problem: String| {
            CheckpointError::content(&self.path, format!("averaged weights (EMA): {problem}"))
        };
        let found = self.listed.as_ref().ok_or_else(|| {
            refused("there are none; --weights model takes those of the last step".to_owned())
        })?;
        let names: Vec<&String> = self.order.iter().filter(|name| is_averaged(name)).collect();
        if names.len() != found.len() {
            return Err(refused(format!(
                "expected {} tensors, one for each of the state_dict's, found {}; --weights model does without them",
                names.len(),
                found.len()
            )));
        }
        let mut averages = BTreeMap::new();
        for (name, head) in names.into_iter().zip(found) {
            let (expected, offer) = (self.offers.get(name), offer_of(head));
            if expected != offer.as_ref() {
                return Err(refused(format!(
                    "tensor `{name}`: expected {}, found {}; --weights model does without them",
                    words(expected),
                    words(offer.as_ref())
                )));
            }
            averages.insert(name.clone(), head.clone());
        }
        self.averages = averages;
        Ok(())
    }

    /// Optimiser steps that the file says were done.
    pub fn step(&self) -> Option<u64> {
        self.step
    }

    /// Reads a tensor; with `averaged` its average where it has one.
    pub fn read(&mut self, name: &str, averaged: bool) -> Result<Tensor, CheckpointError> {
        let refused =
            |problem: String| CheckpointError::content(&self.path, format!("tensor `{name}`: {problem}"));
        let (archive, weights) = match &mut self.content {
            Content::Safetensors(file) => return file.read(name),
            Content::Torch { archive, weights } => (archive, weights),
        };
        let average = self.averages.get(name).filter(|_| averaged);
        let head = average.or_else(|| weights.get(name)).ok_or_else(|| refused("missing".to_owned()))?;
        let bytes = archive.tensor(head).map_err(|e| refused(e.to_string()))?;
        let offer = offer_of(head).ok_or_else(|| refused(format!("unknown type {:?}", head.dtype)))?;
        Tensor::f_from_data_size(&bytes, &offer.shape, offer.kind).map_err(|e| refused(e.to_string()))
    }

    /// Reads all tensors.
    pub fn read_all(&mut self) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
        let names: Vec<String> = self.offers.keys().cloned().collect();
        names.into_iter().map(|name| Ok((name.clone(), self.read(&name, false)?))).collect()
    }

    /// Whether two names are one tensor: the same place in the file, or equal elements.
    pub(super) fn are_equal(&mut self, one: &str, other: &str) -> Result<bool, CheckpointError> {
        if let Content::Torch { weights, .. } = &self.content
            && weights.get(one) == weights.get(other)
        {
            return Ok(true);
        }
        Ok(self.offers.get(one) == self.offers.get(other)
            && self.read(one, false)?.equal(&self.read(other, false)?))
    }
}

/// A safetensors file starts with the length of its header, which is JSON.
fn is_safetensors(path: &Path) -> Result<bool, CheckpointError> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(9).read_to_end(&mut start))
        .map_err(CheckpointError::io("read", path))?;
    Ok(start.get(8) == Some(&b'{'))
}

fn offer_of(head: &TensorHead) -> Option<Offer> {
    let kind = match head.dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::Bf16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        _ => return None,
    };
    Some(Offer { kind, shape: head.shape.iter().map(|&n| n as i64).collect() })
}

struct Description {
    order: Vec<String>,
    weights: BTreeMap<String, TensorHead>,
    averages: Option<Vec<TensorHead>>,
    step: Option<u64>,
}

/// Finds the state dict, and the averaged weights beside it.
fn describe(decoded: &Decoded<'_>) -> Result<Description, String> {
    let root = decoded.root();
    let state = decoded.entry(root, "state_dict").unwrap_or(root);
    let Item::Dict(entries) = decoded.item(state) else {
        return Err("expected a dict of tensors, or a dict that has one under `state_dict`".to_owned());
    };
    let (mut order, mut weights) = (Vec::new(), BTreeMap::new());
    for (key, value) in entries {
        let Item::Str(name) = decoded.item(*key) else {
            return Err("state_dict: a key that is not text".to_owned());
        };
        let Item::Tensor(head) = decoded.item(*value) else {
            return Err(format!("state_dict: `{name}` is not a tensor"));
        };
        if weights.insert(name.to_owned(), head.clone()).is_none() {
            order.push(name.to_owned());
        }
    }
    let step = decoded.entry(root, "global_step").and_then(|step| match decoded.item(step) {
        Item::Int(step) => u64::try_from(step).ok(),
        _ => None,
    });
    Ok(Description { order, weights, averages: averages(decoded, root)?, step })
}

/// `optimizer_states[0]["ema"]`.
fn averages(decoded: &Decoded<'_>, root: Value) -> Result<Option<Vec<TensorHead>>, String> {
    let Some(states) = decoded.entry(root, "optimizer_states") else { return Ok(None) };
    let Item::Sequence(states) = decoded.item(states) else { return Ok(None) };
    let Some(ema) = states.first().and_then(|state| decoded.entry(*state, "ema")) else { return Ok(None) };
    let Item::Sequence(items) = decoded.item(ema) else {
        return Err("optimizer_states[0][\"ema\"]: expected a tuple of tensors".to_owned());
    };
    let head = |(i, value): (usize, &Value)| match decoded.item(*value) {
        Item::Tensor(head) => Ok(head.clone()),
        _ => Err(format!("optimizer_states[0][\"ema\"]: entry {i} is not a tensor")),
    };
    items.iter().enumerate().map(head).collect::<Result<Vec<_>, _>>().map(Some)
}

fn words(offer: Option<&Offer>) -> String {
    offer.map_or_else(|| "nothing".to_owned(), |o| format!("shape {:?} of type {:?}", o.shape, o.kind))
}
