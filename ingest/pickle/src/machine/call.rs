//! Names, calls and objects: what stands for Python code in a pickle.

use super::Machine;
use crate::array::Blob;
use crate::globals::{self, Global};
use crate::run::Run;
use crate::value::{Node, Value};
use crate::{Refusal, numpy, torch};

impl<'a> Machine<'a> {
    pub(super) fn global(&mut self, run: &mut Run<'a>, op: u8) -> Result<(), Refusal> {
        let (module, name);
        if op == b'c' {
            (module, name) = (run.line()?, run.line()?);
        } else {
            let (n, m) = (run.pop()?, run.pop()?);
            (module, name) = (self.text(m)?.to_owned(), self.text(n)?.to_owned());
        }
        let global = match globals::find(&module, &name) {
            Some(global) => global,
            None if self.outline => Global::Foreign,
            None => return Err(Refusal::Global { name: format!("{module}.{name}") }),
        };
        let value = self.add(Node::Global(global))?;
        run.push(value);
        Ok(())
    }

    /// What a known call gives. In an outline a call that is not known, or not understood, gives a record without
    /// content: nothing is ever executed for it.
    pub(super) fn or_inert(
        &mut self,
        known: impl FnOnce(&mut Self) -> Result<Value, Refusal>,
    ) -> Result<Value, Refusal> {
        match known(self) {
            Err(Refusal::Unexpected { .. } | Refusal::Array(_) | Refusal::Truncated { .. })
                if self.outline =>
            {
                self.inert()
            }
            done => done,
        }
    }

    /// Sets, which hold no tensors that are wanted, and objects made with keyword arguments.
    pub(super) fn set_or_keyword_object(&mut self, run: &mut Run<'a>, op: u8) -> Result<(), Refusal> {
        match op {
            0x8f => {}
            0x90 => return run.pop_mark().map(drop),
            0x91 => drop(run.pop_mark()?),
            _ => drop(run.pop_many(3)?),
        }
        let record = self.inert()?;
        run.push(record);
        Ok(())
    }

    pub(super) fn new_object(&mut self, class: Value, args: Value) -> Result<Value, Refusal> {
        match self.node(class) {
            Some(Node::Global(Global::Inert)) if self.tuple(args)?.is_empty() => {
                self.add(Node::Object(Value::None))
            }
            _ => Err(self.unexpected("an inert record class without arguments", class)),
        }
    }

    /// REDUCE: what each known function does with its arguments.
    pub(super) fn call(&mut self, function: Value, args: Value, at: usize) -> Result<Value, Refusal> {
        let Some(Node::Global(global)) = self.node(function) else {
            return Err(self.unexpected("a known function to call", function));
        };
        let global = *global;
        let arguments = self.tuple(args)?.to_vec();
        match (global, arguments.as_slice()) {
            (Global::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                torch::tensor(self, [*storage, *offset, *shape, *strides], at)
            }
            (Global::RebuildParameter, [data, ..]) => Ok(*data),
            (Global::RebuildFromType, [function, _, inner, ..]) => match self.node(*function) {
                Some(Node::Global(Global::RebuildTensor)) => self.call(*function, *inner, at),
                _ => Err(self.unexpected("torch's tensor function", *function)),
            },
            (Global::LoadFromBytes, [bytes]) if !self.outline => torch::load_from_bytes(self, *bytes, at),
            (Global::OrderedDict, []) => self.add(Node::Dict(Vec::new())),
            (Global::NumpyDtype, [code, ..]) => numpy::dtype(self, *code),
            (Global::NumpyScalar, [dtype, bytes]) => numpy::scalar(self, *dtype, *bytes),
            (Global::NumpyReconstruct, [..]) => self.add(Node::EmptyArray),
            (Global::NumpyFromBuffer, [bytes, dtype, shape, order]) => {
                numpy::from_buffer(self, [*bytes, *dtype, *shape, *order])
            }
            (Global::Encode, [text, codec]) => numpy::encode(self, *text, *codec),
            (Global::ByteArray, []) => self.add(Node::Bytes(Blob::borrowed(&[]))),
            (Global::ByteArray, [bytes]) => Ok(*bytes),
            _ => Err(self.unexpected("a known call with its usual arguments", function)),
        }
    }

    /// BUILD: the state of an object.
    pub(super) fn build(&mut self, target: Value, state: Value) -> Result<(), Refusal> {
        match self.node(target) {
            Some(Node::Object(_)) => {
                // A pair is (`__dict__`, slots); only the first half carries attributes.
                let state = match self.node(state) {
                    Some(Node::Tuple(pair)) if pair.len() == 2 => pair[0],
                    _ => state,
                };
                if let Some(Node::Object(slot)) = self.node_mut(target) {
                    *slot = state;
                }
                Ok(())
            }
            Some(Node::EmptyArray) => numpy::build_array(self, target, state),
            Some(Node::NumpyDtype(_)) => numpy::check_byte_order(self, state),
            // Attributes that were hung on a tensor or on a state_dict: not needed.
            Some(Node::Tensor(_) | Node::Array(_) | Node::Dict(_)) => Ok(()),
            _ => Err(self.unexpected("an object that takes a state", target)),
        }
    }
}
