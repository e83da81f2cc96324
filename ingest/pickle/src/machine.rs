//! The stack machine: what the opcodes do, and the node table.

use super::run::Run;
use super::torch::Persistent;
use super::value::{Decoded, Node, NodeId, Storage, Value};
use super::{Limits, PickleError, Refusal, torch};
use crate::array::Blob;

mod call;

/// The state that outer and inner pickles share: the nodes made so far and what may still be spent.
pub(super) struct Machine<'a> {
    nodes: Vec<Node<'a>>,
    limits: Limits,
    /// Opcodes that may still run. A memoised blob could otherwise be run again and again.
    fuel: usize,
    fuel_limit: usize,
    /// Bytes that may still be copied, for the same reason.
    copies: usize,
    copies_limit: usize,
    /// `_load_from_bytes` inside `_load_from_bytes` is refused.
    pub(super) nested: bool,
    /// Unknown names and calls become records without content, and storages are not looked at.
    outline: bool,
}

impl<'a> Machine<'a> {
    pub(super) fn new(limits: Limits, input_bytes: usize) -> Self {
        let fuel = input_bytes.saturating_mul(4).saturating_add(1024);
        let copies = input_bytes.saturating_add(1024);
        Self {
            nodes: Vec::new(),
            limits,
            fuel,
            fuel_limit: fuel,
            copies,
            copies_limit: copies,
            nested: false,
            outline: false,
        }
    }

    /// A machine that wants to know of tensors only.
    pub(super) fn outlining(limits: Limits, input_bytes: usize) -> Self {
        Self { outline: true, ..Self::new(limits, input_bytes) }
    }

    /// Whether unknown parts pass as records without content.
    pub(super) fn lenient(&self) -> bool {
        self.outline
    }

    /// A record without content.
    pub(super) fn inert(&mut self) -> Result<Value, Refusal> {
        self.add(Node::Object(Value::None))
    }

    /// Adds a storage.
    pub(super) fn storage(&mut self, storage: Storage<'a>) -> Result<NodeId, Refusal> {
        self.add_node(Node::Storage(storage))
    }

    /// Runs one pickle that may not refer to storages outside itself.
    pub(super) fn run_plain(&mut self, input: Blob<'a>, base: usize) -> Result<Value, PickleError> {
        self.run(input, base, &mut Persistent::Refuse).map(|(value, _)| value)
    }

    /// Runs the pickle at the start of `input`; returns its value and the bytes it took.
    pub(super) fn run(
        &mut self,
        input: Blob<'a>,
        base: usize,
        persistent: &mut Persistent<'a>,
    ) -> Result<(Value, usize), PickleError> {
        let mut run = Run::new(input, base);
        loop {
            run.opcode_at = run.position;
            match self.step(&mut run, persistent) {
                Ok(None) => {}
                Ok(Some(value)) => return Ok((value, run.position)),
                Err(refusal) => return Err(PickleError { offset: run.base + run.opcode_at, refusal }),
            }
        }
    }

    /// Turns tensor descriptions into checked arrays and hands the nodes over.
    pub(super) fn finish(mut self, root: Value) -> Result<Decoded<'a>, PickleError> {
        for i in 0..self.nodes.len() {
            let Node::Tensor(spec) = &self.nodes[i] else { continue };
            let offset = spec.at;
            let settled = if self.outline {
                torch::head(&self.nodes, spec).map(Node::Head)
            } else {
                torch::resolve(&self.nodes, spec).map(Node::Array)
            };
            self.nodes[i] = settled.map_err(|refusal| PickleError { offset, refusal })?;
        }
        Ok(Decoded { nodes: self.nodes, root })
    }

    pub(super) fn add(&mut self, node: Node<'a>) -> Result<Value, Refusal> {
        self.add_node(node).map(Value::Node)
    }

    fn add_node(&mut self, node: Node<'a>) -> Result<NodeId, Refusal> {
        if self.nodes.len() >= self.limits.nodes {
            return Err(Refusal::Limit { what: "values", limit: self.limits.nodes });
        }
        self.nodes.push(node);
        Ok(NodeId(self.nodes.len() as u32 - 1))
    }

    pub(super) fn node(&self, value: Value) -> Option<&Node<'a>> {
        match value {
            Value::Node(id) => self.nodes.get(id.0 as usize),
            _ => None,
        }
    }

    pub(super) fn node_mut(&mut self, value: Value) -> Option<&mut Node<'a>> {
        match value {
            Value::Node(id) => self.nodes.get_mut(id.0 as usize),
            _ => None,
        }
    }

    /// Accounts for `bytes` that are about to be copied.
    pub(super) fn spend_copy(&mut self, bytes: usize) -> Result<(), Refusal> {
        match self.copies.checked_sub(bytes) {
            Some(left) => {
                self.copies = left;
                Ok(())
            }
            None => Err(Refusal::Limit { what: "copied bytes", limit: self.copies_limit }),
        }
    }

    /// An [`Refusal::Unexpected`] that says what was found.
    pub(super) fn unexpected(&self, expected: &'static str, found: Value) -> Refusal {
        let found = match found {
            Value::None => "None".to_owned(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Float(f) => f.to_string(),
            Value::Node(_) => self.node(found).map_or("nothing", Node::kind).to_owned(),
        };
        Refusal::Unexpected { expected, found }
    }

    pub(super) fn tuple(&self, value: Value) -> Result<&[Value], Refusal> {
        match self.node(value) {
            Some(Node::Tuple(items)) => Ok(items),
            _ => Err(self.unexpected("a tuple", value)),
        }
    }

    pub(super) fn bytes(&self, value: Value) -> Result<Blob<'a>, Refusal> {
        match self.node(value) {
            Some(Node::Bytes(blob)) => Ok(blob.clone()),
            _ => Err(self.unexpected("bytes", value)),
        }
    }

    pub(super) fn text(&self, value: Value) -> Result<&str, Refusal> {
        match self.node(value) {
            Some(Node::Str(blob)) => {
                std::str::from_utf8(blob.as_slice()).map_err(|_| self.unexpected("UTF-8 text", value))
            }
            _ => Err(self.unexpected("a string", value)),
        }
    }

    pub(super) fn index(&self, value: Value) -> Result<usize, Refusal> {
        match value {
            Value::Int(i) if i >= 0 => Ok(i as usize),
            _ => Err(self.unexpected("a whole number that is not negative", value)),
        }
    }

    /// A tuple of non-negative integers: shapes and strides.
    pub(super) fn indices(&self, value: Value) -> Result<Vec<usize>, Refusal> {
        self.tuple(value)?.iter().map(|&v| self.index(v)).collect()
    }

    fn step(&mut self, run: &mut Run<'a>, persistent: &mut Persistent<'a>) -> Result<Option<Value>, Refusal> {
        self.fuel =
            self.fuel.checked_sub(1).ok_or(Refusal::Limit { what: "opcodes", limit: self.fuel_limit })?;
        match run.byte("an opcode")? {
            b'.' => return run.pop().map(Some),
            0x80 => match run.byte("the protocol")? {
                0..=5 => {}
                newer => return Err(Refusal::Protocol(newer)),
            },
            0x95 => drop(run.take(8, "a frame header")?),
            b'(' => run.marks.push(run.stack.len()),
            b'0' => drop(run.pop()?),
            b'1' => drop(run.pop_mark()?),
            b'2' => run.push(run.top()?),
            b'N' => run.push(Value::None),
            0x88 => run.push(Value::Bool(true)),
            0x89 => run.push(Value::Bool(false)),
            op @ (b'K' | b'M' | b'J' | b'G' | 0x8a) => self.number(run, op)?,
            op @ (0x8c | b'X' | 0x8d | b'C' | b'B' | 0x8e | 0x96) => self.text_or_bytes(run, op)?,
            op @ (b']' | b'}' | b')' | b'a' | b'e' | b's' | b'u' | b't' | 0x85 | 0x86 | 0x87) => {
                self.container(run, op)?;
            }
            op @ (b'q' | b'r' | 0x94 | b'h' | b'j') => run.memo_opcode(op)?,
            op @ (b'c' | 0x93) => self.global(run, op)?,
            b'R' => {
                let (args, function) = (run.pop()?, run.pop()?);
                let at = run.base + run.opcode_at;
                let result = self.or_inert(|machine| machine.call(function, args, at))?;
                run.push(result);
            }
            0x81 => {
                let (args, class) = (run.pop()?, run.pop()?);
                let object = self.or_inert(|machine| machine.new_object(class, args))?;
                run.push(object);
            }
            b'b' => {
                let state = run.pop()?;
                let target = run.top()?;
                self.or_inert(|machine| machine.build(target, state).map(|()| target))?;
            }
            op @ (0x8f..=0x92) if self.outline => self.set_or_keyword_object(run, op)?,
            b'Q' => {
                let id = run.pop()?;
                let storage = persistent.storage(self, id)?;
                run.push(storage);
            }
            op => return Err(Refusal::Opcode(op)),
        }
        Ok(None)
    }

    fn number(&mut self, run: &mut Run<'a>, op: u8) -> Result<(), Refusal> {
        let value = match op {
            b'K' => Value::Int(i64::from(run.byte("an integer")?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(run.array("an integer")?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(run.array("an integer")?))),
            b'G' => Value::Float(f64::from_be_bytes(run.array("a float")?)),
            _ => {
                let n = run.byte("a long integer")? as usize;
                let digits = run.take(n, "a long integer")?;
                self.long(digits.as_slice())?
            }
        };
        run.push(value);
        Ok(())
    }

    /// Little-endian two's complement of any length up to 16 bytes.
    fn long(&mut self, digits: &[u8]) -> Result<Value, Refusal> {
        if digits.len() > 16 && self.outline {
            // States of random generators, for one, which no reader of tensors wants.
            return self.inert();
        }
        if digits.len() > 16 {
            return Err(Refusal::Limit { what: "bytes in an integer", limit: 16 });
        }
        let negative = digits.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[..digits.len()].copy_from_slice(digits);
        let value = i128::from_le_bytes(wide);
        match i64::try_from(value) {
            Ok(small) => Ok(Value::Int(small)),
            Err(_) => self.add(Node::Big(value)),
        }
    }

    fn text_or_bytes(&mut self, run: &mut Run<'a>, op: u8) -> Result<(), Refusal> {
        let length = match op {
            0x8c | b'C' => u64::from(run.byte("a length")?),
            b'X' | b'B' => u64::from(u32::from_le_bytes(run.array("a length")?)),
            _ => u64::from_le_bytes(run.array("a length")?),
        };
        let is_text = matches!(op, 0x8c | b'X' | 0x8d);
        let what = if is_text { "a string" } else { "a bytes object" };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let blob = run.take(length, what)?;
        if is_text && std::str::from_utf8(blob.as_slice()).is_err() {
            return Err(Refusal::Unexpected { expected: "UTF-8 text", found: "other bytes".to_owned() });
        }
        let value = self.add(if is_text { Node::Str(blob) } else { Node::Bytes(blob) })?;
        run.push(value);
        Ok(())
    }

    fn container(&mut self, run: &mut Run<'a>, op: u8) -> Result<(), Refusal> {
        let outline = self.outline;
        let made = match op {
            b']' => Node::List(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            b')' => Node::Tuple(Vec::new()),
            b't' => Node::Tuple(run.pop_mark()?),
            0x85..=0x87 => Node::Tuple(run.pop_many(op as usize - 0x84)?),
            b'a' | b'e' => {
                let items = if op == b'a' { vec![run.pop()?] } else { run.pop_mark()? };
                let target = run.top()?;
                return match self.node_mut(target) {
                    Some(Node::List(list)) => {
                        list.extend(items);
                        Ok(())
                    }
                    Some(Node::Object(_)) if outline => Ok(()),
                    _ => Err(self.unexpected("a list to append to", target)),
                };
            }
            _ => {
                let items = if op == b's' { run.pop_many(2)? } else { run.pop_mark()? };
                let target = run.top()?;
                return match self.node_mut(target) {
                    Some(Node::Dict(dict)) if items.len() % 2 == 0 => {
                        dict.extend(items.chunks_exact(2).map(|kv| (kv[0], kv[1])));
                        Ok(())
                    }
                    Some(Node::Object(_)) if outline => Ok(()),
                    _ => Err(self.unexpected("a dict and pairs of items", target)),
                };
            }
        };
        let value = self.add(made)?;
        run.push(value);
        Ok(())
    }
}
