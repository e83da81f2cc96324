//! numpy's parts: dtypes, scalars, arrays of protocols 2 to 5, and latin-1 bytes.

use super::Refusal;
use super::machine::Machine;
use super::value::{Node, Value};
use crate::array::{Array, Blob, Dtype};

/// `numpy.dtype('f8', False, True)`.
pub(super) fn dtype(machine: &mut Machine<'_>, code: Value) -> Result<Value, Refusal> {
    let text = machine.text(code)?;
    let dtype = match text.strip_prefix(['<', '=', '|']).unwrap_or(text) {
        code if text.starts_with('>') => Err(code),
        code => Dtype::from_numpy(code).ok_or(code),
    };
    let dtype = dtype.map_err(|code| Refusal::Unexpected {
        expected: "a little-endian number or boolean dtype",
        found: format!("dtype {code}"),
    })?;
    machine.add(Node::NumpyDtype(dtype))
}

/// The state of a dtype: `(3, '<', None, …)`. Only the byte order matters.
pub(super) fn check_byte_order(machine: &Machine<'_>, state: Value) -> Result<(), Refusal> {
    let order = *machine.tuple(state)?.get(1).unwrap_or(&Value::None);
    match machine.text(order)? {
        "<" | "|" | "=" => Ok(()),
        other => Err(Refusal::Unexpected {
            expected: "a little-endian dtype",
            found: format!("byte order {other}"),
        }),
    }
}

fn known_dtype(machine: &Machine<'_>, value: Value) -> Result<Dtype, Refusal> {
    match machine.node(value) {
        Some(Node::NumpyDtype(dtype)) => Ok(*dtype),
        _ => Err(machine.unexpected("a numpy dtype", value)),
    }
}

/// `scalar(dtype, bytes)`: a number.
pub(super) fn scalar(machine: &mut Machine<'_>, dtype: Value, bytes: Value) -> Result<Value, Refusal> {
    let (dtype, bytes) = (known_dtype(machine, dtype)?, machine.bytes(bytes)?);
    let array = Array::dense(dtype, vec![1], false, bytes)?;
    if dtype.is_float() {
        return Ok(Value::Float(array.to_f64()[0]));
    }
    let value = array.to_i64()?[0];
    Ok(if dtype == Dtype::Bool { Value::Bool(value != 0) } else { Value::Int(value) })
}

/// `_frombuffer(bytes, dtype, shape, order)` of protocol 5.
pub(super) fn from_buffer(machine: &mut Machine<'_>, arguments: [Value; 4]) -> Result<Value, Refusal> {
    let [bytes, dtype, shape, order] = arguments;
    let fortran = machine.text(order)? == "F";
    let (dtype, bytes) = (known_dtype(machine, dtype)?, machine.bytes(bytes)?);
    let shape = machine.indices(shape)?;
    let array = Array::dense(dtype, shape, fortran, bytes)?;
    machine.add(Node::Array(array))
}

/// The state of an array made by `_reconstruct`: `(1, shape, dtype, is_fortran, bytes)`.
pub(super) fn build_array(machine: &mut Machine<'_>, target: Value, state: Value) -> Result<(), Refusal> {
    let &[_, shape, dtype, fortran, bytes] = machine.tuple(state)? else {
        return Err(machine.unexpected("the five parts of an array's state", state));
    };
    let (dtype, bytes) = (known_dtype(machine, dtype)?, machine.bytes(bytes)?);
    let shape = machine.indices(shape)?;
    let array = Array::dense(dtype, shape, fortran == Value::Bool(true), bytes)?;
    if let Some(node) = machine.node_mut(target) {
        *node = Node::Array(array);
    }
    Ok(())
}

/// `_codecs.encode(text, 'latin1')`: how protocol 2 writes bytes.
pub(super) fn encode(machine: &mut Machine<'_>, text: Value, codec: Value) -> Result<Value, Refusal> {
    if !matches!(machine.text(codec)?, "latin1" | "latin-1") {
        return Err(machine.unexpected("the codec latin1", codec));
    }
    let source = machine.text(text)?;
    let copied = source.len();
    machine.spend_copy(copied)?;
    let bytes: Option<Vec<u8>> = machine.text(text)?.chars().map(|c| u8::try_from(c).ok()).collect();
    let bytes = bytes.ok_or_else(|| machine.unexpected("text of latin-1 characters", text))?;
    machine.add(Node::Bytes(Blob::shared(bytes.into())))
}
