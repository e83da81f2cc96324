//! The closed table of names a pickle may refer to.

use crate::array::Dtype;

/// A known class or function. None of them is ever Python code: each stands for a few lines in [`super::machine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// A record whose state is kept and nothing more: PyG's `Data`, its stores, sparse tensors.
    Inert,
    /// A class that occurs as a value only.
    ClassValue,
    /// `torch.FloatStorage` and its like.
    Storage(Dtype),
    RebuildTensor,
    RebuildParameter,
    RebuildFromType,
    LoadFromBytes,
    OrderedDict,
    NumpyDtype,
    NumpyScalar,
    NumpyReconstruct,
    NumpyFromBuffer,
    NumpyArrayClass,
    Encode,
    ByteArray,
    /// Any other name, where the reader wants tensors only and lets the rest pass as records without content.
    Foreign,
}

/// Looks a name up; `None` means that the pickle must be refused.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    // numpy 2 moved `numpy.core` to `numpy._core`; Python 2 called builtins `__builtin__`.
    let module = match module.strip_prefix("numpy._core.") {
        Some(rest) => NumpyCore::Core(rest),
        None => match module.strip_prefix("numpy.core.") {
            Some(rest) => NumpyCore::Core(rest),
            None => NumpyCore::Other(module),
        },
    };
    match module {
        NumpyCore::Core(part) => in_numpy_core(part, name),
        NumpyCore::Other(module) => elsewhere(module, name),
    }
}

enum NumpyCore<'a> {
    Core(&'a str),
    Other(&'a str),
}

fn in_numpy_core(part: &str, name: &str) -> Option<Global> {
    Some(match (part, name) {
        ("multiarray", "scalar") => Global::NumpyScalar,
        ("multiarray", "_reconstruct") => Global::NumpyReconstruct,
        ("numeric", "_frombuffer") => Global::NumpyFromBuffer,
        _ => return None,
    })
}

fn elsewhere(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("torch_geometric.data.data", "Data")
        | ("torch_geometric.data.storage", "GlobalStorage" | "BaseStorage")
        | ("torch_sparse.tensor", "SparseTensor")
        | ("torch_sparse.storage", "SparseStorage") => Global::Inert,
        ("torch_geometric.data.data", "DataEdgeAttr" | "DataTensorAttr")
        | ("torch", "Tensor")
        | ("torch.nn.parameter", "Parameter") => Global::ClassValue,
        ("torch", _) => Global::Storage(storage(name)?),
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
        ("torch.storage", "_load_from_bytes") => Global::LoadFromBytes,
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("numpy", "dtype") => Global::NumpyDtype,
        ("numpy", "ndarray") => Global::NumpyArrayClass,
        ("_codecs", "encode") => Global::Encode,
        ("builtins" | "__builtin__", "bytearray") => Global::ByteArray,
        _ => return None,
    })
}

/// The storage classes of torch and what they hold.
const STORAGES: [(&str, Dtype); 10] = [
    ("FloatStorage", Dtype::F32),
    ("DoubleStorage", Dtype::F64),
    ("HalfStorage", Dtype::F16),
    ("BFloat16Storage", Dtype::Bf16),
    ("LongStorage", Dtype::I64),
    ("IntStorage", Dtype::I32),
    ("ShortStorage", Dtype::I16),
    ("CharStorage", Dtype::I8),
    ("ByteStorage", Dtype::U8),
    ("BoolStorage", Dtype::Bool),
];

fn storage(name: &str) -> Option<Dtype> {
    STORAGES.iter().find(|(class, _)| *class == name).map(|(_, dtype)| *dtype)
}

/// The class under `torch` that holds such elements, if there is one.
pub(super) fn storage_class(dtype: Dtype) -> Option<&'static str> {
    STORAGES.iter().find(|(_, held)| *held == dtype).map(|(class, _)| *class)
}
