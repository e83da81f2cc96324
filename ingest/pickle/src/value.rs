//! What a pickle decodes to: values that refer to one another by index.

use super::globals::Global;
use crate::array::{Array, Blob, Dtype};

/// Index of a node among those of one decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(pub(super) u32);

/// A number, or a reference to something larger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Python's `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A float, also a numpy scalar.
    Float(f64),
    /// Anything else.
    Node(NodeId),
}

/// A storage of a tensor; `bytes` comes later in the legacy form, and never in an outline.
#[derive(Debug, Clone)]
pub(super) struct Storage<'a> {
    pub(super) key: String,
    pub(super) dtype: Dtype,
    pub(super) elements: usize,
    pub(super) bytes: Option<Blob<'a>>,
}

/// `_rebuild_tensor_v2` before its storage is known.
#[derive(Debug, Clone)]
pub(super) struct TensorSpec {
    pub(super) storage: NodeId,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
    /// Where the tensor was described, for messages.
    pub(super) at: usize,
}

/// A tensor of an outline: where its elements lie in which storage of the file.
///
/// They lie inside the storage if that has as many elements as it claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorHead {
    /// Element type.
    pub dtype: Dtype,
    /// Extent of every axis.
    pub shape: Vec<usize>,
    /// Steps of every axis, in elements.
    pub strides: Vec<usize>,
    /// First element.
    pub offset: usize,
    /// Name of the storage in the archive.
    pub storage: String,
    /// Elements that the storage claims to have.
    pub elements: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Node<'a> {
    Big(i128),
    Str(Blob<'a>),
    Bytes(Blob<'a>),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Global(Global),
    /// A record and its state; which of the inert classes it is of does not matter.
    Object(Value),
    NumpyDtype(Dtype),
    Storage(Storage<'a>),
    /// A window on another storage: old torch only.
    StorageView {
        base: NodeId,
        start: usize,
        elements: usize,
    },
    Tensor(TensorSpec),
    Head(TensorHead),
    /// `numpy._reconstruct` before its BUILD.
    EmptyArray,
    Array(Array<'a>),
}

impl Node<'_> {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Big(_) => "a long integer",
            Self::Str(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a class or function",
            Self::Object(_) => "a record",
            Self::NumpyDtype(_) => "a numpy dtype",
            Self::Storage(_) | Self::StorageView { .. } => "a tensor's storage",
            Self::Tensor(_) | Self::Head(_) => "a tensor",
            Self::EmptyArray | Self::Array(_) => "an array",
        }
    }
}

/// A decoded pickle. Tensors in it are known to lie inside their storages.
#[derive(Debug)]
pub struct Decoded<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) root: Value,
}

/// One value of a [`Decoded`], looked at.
#[derive(Debug, Clone, Copy)]
pub enum Item<'d, 'a> {
    /// Python's `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text.
    Str(&'d str),
    /// Bytes.
    Bytes(&'d [u8]),
    /// A tuple or list.
    Sequence(&'d [Value]),
    /// A dict, in order of insertion; a later entry with the same key replaces an earlier one.
    Dict(&'d [(Value, Value)]),
    /// A torch_geometric object with its state.
    Object(Value),
    /// A tensor or numpy array.
    Array(&'d Array<'a>),
    /// A tensor of an outline, whose elements were not read.
    Tensor(&'d TensorHead),
    /// A class, storage or other part that carries no data.
    Opaque,
}

impl<'a> Decoded<'a> {
    /// The value that the pickle returns.
    pub fn root(&self) -> Value {
        self.root
    }

    /// Looks at a value.
    pub fn item(&self, value: Value) -> Item<'_, 'a> {
        let id = match value {
            Value::None => return Item::None,
            Value::Bool(b) => return Item::Bool(b),
            Value::Int(i) => return Item::Int(i),
            Value::Float(f) => return Item::Float(f),
            Value::Node(id) => id,
        };
        match self.nodes.get(id.0 as usize) {
            Some(Node::Str(blob)) => std::str::from_utf8(blob.as_slice()).map_or(Item::Opaque, Item::Str),
            Some(Node::Bytes(blob)) => Item::Bytes(blob.as_slice()),
            Some(Node::Tuple(items) | Node::List(items)) => Item::Sequence(items),
            Some(Node::Dict(entries)) => Item::Dict(entries),
            Some(Node::Object(state)) => Item::Object(*state),
            Some(Node::Array(array)) => Item::Array(array),
            Some(Node::Head(head)) => Item::Tensor(head),
            _ => Item::Opaque,
        }
    }

    /// The entry of a dict under a text key, if `value` is a dict that has it.
    pub fn entry(&self, value: Value, key: &str) -> Option<Value> {
        let Item::Dict(entries) = self.item(value) else { return None };
        entries.iter().rev().find(|(k, _)| matches!(self.item(*k), Item::Str(s) if s == key)).map(|e| e.1)
    }
}
