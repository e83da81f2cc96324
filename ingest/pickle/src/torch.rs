//! Tensors: their storages, and the two file forms of `torch.save`.

use std::io::Cursor;

use super::globals::Global;
use super::machine::Machine;
use super::value::{Node, NodeId, Storage, TensorHead, TensorSpec, Value};
use super::{PickleError, Refusal};
use crate::array::{self, Array, Blob, Dtype};

/// First value of a legacy file.
const LEGACY_MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// The bytes that such a file starts with, after the two of the protocol: LONG1 of ten bytes.
const LEGACY_START: [u8; 12] = [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// What a persistent id means in the pickle that is being run.
pub(super) enum Persistent<'a> {
    /// Nothing: a plain pickle has none.
    Refuse,
    /// A storage whose bytes follow after the pickles; its key and node are kept.
    Legacy { slots: Vec<(String, NodeId)> },
    /// A storage that is a member of the archive.
    Zip { archive: Box<Archive<'a>>, slots: Vec<(String, NodeId)> },
    /// A storage that is not looked at.
    Outline,
}

/// The members of a torch zip file, as slices of it.
pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    zip: zip::ZipArchive<Cursor<&'a [u8]>>,
    root: String,
}

/// Whether the bytes are a zip archive.
pub(super) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// Whether the bytes are a legacy torch file.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    bytes.get(2..).is_some_and(|rest| rest.starts_with(&LEGACY_START))
}

impl<'a> Persistent<'a> {
    /// The storage of `('storage', class, key, location, elements[, view])`.
    pub(super) fn storage(&mut self, machine: &mut Machine<'a>, id: Value) -> Result<Value, Refusal> {
        if matches!(self, Self::Refuse) {
            return Err(machine.unexpected("no persistent id in a plain pickle", id));
        }
        let parts = machine.tuple(id)?.to_vec();
        let (&[kind, class, key, _, elements], view) = match parts.split_at_checked(5) {
            Some((head, rest)) => (
                <&[Value; 5]>::try_from(head).map_err(|_| machine.unexpected("a storage", id))?,
                rest.first().copied().unwrap_or(Value::None),
            ),
            None => return Err(machine.unexpected("a storage of five or six parts", id)),
        };
        if machine.text(kind)? != "storage" {
            return Err(machine.unexpected("a storage", id));
        }
        if machine.lenient() && matches!(machine.node(class), Some(Node::Global(Global::Foreign))) {
            return machine.inert();
        }
        let Some(Node::Global(Global::Storage(dtype))) = machine.node(class) else {
            return Err(machine.unexpected("a storage class", class));
        };
        let (dtype, key) = (*dtype, machine.text(key)?.to_owned());
        let elements = machine.index(elements)?;
        let base = self.slot(machine, key, dtype, elements)?;
        if view == Value::None {
            return Ok(Value::Node(base));
        }
        let &[_, start, length] = machine.tuple(view)? else {
            return Err(machine.unexpected("a storage view of three parts", view));
        };
        let (start, elements) = (machine.index(start)?, machine.index(length)?);
        machine.add(Node::StorageView { base, start, elements })
    }

    fn slot(
        &mut self,
        machine: &mut Machine<'a>,
        key: String,
        dtype: Dtype,
        elements: usize,
    ) -> Result<NodeId, Refusal> {
        let slots = match self {
            Self::Legacy { slots } | Self::Zip { slots, .. } => slots,
            Self::Outline => return machine.storage(Storage { key, dtype, elements, bytes: None }),
            Self::Refuse => return Err(Refusal::Zip("a storage in a plain pickle".to_owned())),
        };
        // Keys of a zip are counted up, those of an LMDB value occur once: the last is the likeliest.
        if let Some((_, id)) = slots.iter().rev().take(64).find(|(k, _)| *k == key) {
            return Ok(*id);
        }
        let bytes = match self {
            Self::Zip { archive, .. } => Some(archive.storage(&key, elements, dtype)?),
            _ => None,
        };
        let id = machine.storage(Storage { key: key.clone(), dtype, elements, bytes })?;
        if let Self::Legacy { slots } | Self::Zip { slots, .. } = self {
            slots.push((key, id));
        }
        Ok(id)
    }
}

/// `_rebuild_tensor_v2(storage, offset, size, stride, …)`: kept until the storage's bytes are known.
pub(super) fn tensor(machine: &mut Machine<'_>, parts: [Value; 4], at: usize) -> Result<Value, Refusal> {
    let [storage, offset, shape, strides] = parts;
    let Some(Node::Storage(_) | Node::StorageView { .. }) = machine.node(storage) else {
        return Err(machine.unexpected("a tensor's storage", storage));
    };
    let Value::Node(storage) = storage else { return Err(machine.unexpected("a node", storage)) };
    let (offset, shape) = (machine.index(offset)?, machine.indices(shape)?);
    let strides = machine.indices(strides)?;
    machine.add(Node::Tensor(TensorSpec { storage, offset, shape, strides, at }))
}

/// The checked array of a tensor description.
pub(super) fn resolve<'a>(nodes: &[Node<'a>], spec: &TensorSpec) -> Result<Array<'a>, Refusal> {
    let missing = || Refusal::Unexpected {
        expected: "the bytes of a tensor's storage",
        found: "none in the file".to_owned(),
    };
    let (base, start, elements) = match nodes.get(spec.storage.0 as usize) {
        Some(Node::StorageView { base, start, elements }) => (*base, *start, Some(*elements)),
        _ => (spec.storage, 0, None),
    };
    let Some(Node::Storage(storage)) = nodes.get(base.0 as usize) else { return Err(missing()) };
    let elements = elements.unwrap_or(storage.elements);
    let size = storage.dtype.size();
    let bytes = storage.bytes.as_ref().ok_or_else(missing)?;
    let range = start.checked_mul(size).zip(start.checked_add(elements).and_then(|e| e.checked_mul(size)));
    let window = range.and_then(|(start, end)| bytes.slice(start, end)).ok_or(Refusal::Truncated {
        what: "a tensor's storage",
        needed: (elements as u64).saturating_mul(size as u64),
        left: bytes.len(),
    })?;
    Ok(Array::strided(storage.dtype, spec.shape.clone(), spec.strides.clone(), spec.offset, window)?)
}

/// Where the elements of a tensor description lie, checked against what its storage claims.
pub(super) fn head(nodes: &[Node<'_>], spec: &TensorSpec) -> Result<TensorHead, Refusal> {
    let Some(Node::Storage(storage)) = nodes.get(spec.storage.0 as usize) else {
        return Err(Refusal::Unexpected { expected: "a whole storage", found: "a view of one".to_owned() });
    };
    array::check_view(&spec.shape, &spec.strides, spec.offset, storage.elements)?;
    Ok(TensorHead {
        dtype: storage.dtype,
        shape: spec.shape.clone(),
        strides: spec.strides.clone(),
        offset: spec.offset,
        storage: storage.key.clone(),
        elements: storage.elements,
    })
}

/// `_load_from_bytes(bytes)`: a whole torch file inside a bytes object.
pub(super) fn load_from_bytes(machine: &mut Machine<'_>, bytes: Value, at: usize) -> Result<Value, Refusal> {
    if machine.nested {
        return Err(machine.unexpected("no torch file inside a torch file", bytes));
    }
    let blob = machine.bytes(bytes)?;
    let base = blob.origin().unwrap_or(at);
    machine.nested = true;
    let result = load_legacy(machine, &blob, base);
    machine.nested = false;
    result.map_err(|e| e.refusal)
}

/// Five pickles in a row, then the storages.
pub(super) fn load_legacy<'a>(
    machine: &mut Machine<'a>,
    input: &Blob<'a>,
    base: usize,
) -> Result<Value, PickleError> {
    let mut slots = Persistent::Legacy { slots: Vec::new() };
    let mut at = 0;
    let mut next = |machine: &mut Machine<'a>, persistent: &mut Persistent<'a>| {
        let rest = input.slice(at, input.len()).unwrap_or_else(|| Blob::borrowed(&[]));
        let (value, taken) = machine.run(rest, base + at, persistent)?;
        at += taken;
        Ok::<_, PickleError>((value, at))
    };
    let refuse = |offset: usize, refusal: Refusal| PickleError { offset: base + offset, refusal };

    let (magic, end) = next(machine, &mut Persistent::Refuse)?;
    if !matches!(machine.node(magic), Some(Node::Big(LEGACY_MAGIC))) {
        return Err(refuse(end, machine.unexpected("the magic number of a torch file", magic)));
    }
    let (version, end) = next(machine, &mut Persistent::Refuse)?;
    if version != Value::Int(1001) {
        return Err(refuse(end, machine.unexpected("torch's protocol 1001", version)));
    }
    let (system, end) = next(machine, &mut Persistent::Refuse)?;
    check_little_endian(machine, system).map_err(|refusal| refuse(end, refusal))?;
    let (root, _) = next(machine, &mut slots)?;
    let (keys, end) = next(machine, &mut Persistent::Refuse)?;
    fill_storages(machine, &slots, keys, input, end).map_err(|refusal| refuse(end, refusal))?;
    Ok(root)
}

fn check_little_endian(machine: &Machine<'_>, system: Value) -> Result<(), Refusal> {
    let Some(Node::Dict(entries)) = machine.node(system) else {
        return Err(machine.unexpected("torch's description of the machine", system));
    };
    let big = entries
        .iter()
        .any(|(k, v)| machine.text(*k).is_ok_and(|k| k == "little_endian") && *v != Value::Bool(true));
    if big { Err(machine.unexpected("a file from a little-endian machine", system)) } else { Ok(()) }
}

/// Gives each storage, in the order of `keys`, its bytes: a count, then the elements.
fn fill_storages<'a>(
    machine: &mut Machine<'a>,
    slots: &Persistent<'a>,
    keys: Value,
    input: &Blob<'a>,
    mut at: usize,
) -> Result<(), Refusal> {
    let Persistent::Legacy { slots } = slots else { return Ok(()) };
    let keys = match machine.node(keys) {
        Some(Node::List(keys)) => keys.clone(),
        _ => return Err(machine.unexpected("the list of storages", keys)),
    };
    for (n, key) in keys.into_iter().enumerate() {
        let text = machine.text(key)?;
        // Keys are listed in any order, mostly in that of their use.
        let found = slots.get(n).filter(|(k, _)| k == text).or_else(|| slots.iter().find(|(k, _)| k == text));
        let (_, id) = *found.as_ref().ok_or_else(|| machine.unexpected("a storage that is used", key))?;
        let truncated = |needed: u64| Refusal::Truncated {
            what: "a tensor's storage",
            needed,
            left: input.len().saturating_sub(at),
        };
        let head = input.slice(at, at + 8).ok_or_else(|| truncated(8))?;
        let count = head.as_slice().try_into().map(i64::from_le_bytes).map_err(|_| truncated(8))?;
        let Some(Node::Storage(storage)) = machine.node_mut(Value::Node(*id)) else {
            return Err(machine.unexpected("a storage", key));
        };
        let bytes = usize::try_from(count).ok().and_then(|n| n.checked_mul(storage.dtype.size()));
        let end = bytes.and_then(|n| n.checked_add(at + 8));
        let body = end.and_then(|end| input.slice(at + 8, end));
        storage.bytes = Some(body.ok_or_else(|| truncated(count.unsigned_abs()))?);
        at = end.unwrap_or(at);
    }
    Ok(())
}

/// The folder of a torch archive that holds `data.pkl`, with its slash.
pub(super) fn root_of<'n>(mut members: impl Iterator<Item = &'n str>) -> Option<String> {
    members
        .find_map(|name| name.strip_suffix("data.pkl").filter(|root| root.ends_with('/')))
        .map(str::to_owned)
}

/// `<root>/data.pkl` with its storages beside it.
pub(super) fn load_zip<'a>(machine: &mut Machine<'a>, bytes: &'a [u8]) -> Result<Value, PickleError> {
    let at_start = |refusal| PickleError { offset: 0, refusal };
    let zip = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| at_start(Refusal::Zip(e.to_string())))?;
    let root = root_of(zip.file_names())
        .ok_or_else(|| at_start(Refusal::Zip("no member `*/data.pkl`".to_owned())))?;
    let mut archive = Box::new(Archive { bytes, zip, root });
    let (pickle, start) = archive.member("data.pkl").map_err(at_start)?;
    let mut persistent = Persistent::Zip { archive, slots: Vec::new() };
    machine.run(Blob::borrowed(pickle), start, &mut persistent).map(|(value, _)| value)
}

impl<'a> Archive<'a> {
    /// A stored member as a slice of the file, and where it starts.
    fn member(&mut self, name: &str) -> Result<(&'a [u8], usize), Refusal> {
        let full = format!("{}{name}", self.root);
        let file = self.zip.by_name(&full).map_err(|e| Refusal::Zip(format!("member `{full}`: {e}")))?;
        if file.compression() != zip::CompressionMethod::Stored {
            return Err(Refusal::Zip(format!("member `{full}` is compressed, torch stores its members")));
        }
        let start = file.data_start().and_then(|s| usize::try_from(s).ok());
        let end = start.zip(usize::try_from(file.size()).ok()).and_then(|(s, n)| s.checked_add(n));
        match start.zip(end).and_then(|(s, e)| Some((self.bytes.get(s..e)?, s))) {
            Some(found) => Ok(found),
            None => Err(Refusal::Zip(format!("member `{full}` lies outside the file"))),
        }
    }

    fn storage(&mut self, key: &str, elements: usize, dtype: Dtype) -> Result<Blob<'a>, Refusal> {
        let (bytes, _) = self.member(&format!("data/{key}"))?;
        let needed = elements.saturating_mul(dtype.size());
        match bytes.get(..needed) {
            Some(part) => Ok(Blob::borrowed(part)),
            None => Err(Refusal::Truncated {
                what: "a tensor's storage",
                needed: needed as u64,
                left: bytes.len(),
            }),
        }
    }
}
