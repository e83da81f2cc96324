//! One run over one stream: the read position, the stack and the memo, each checked at every use.

use super::Refusal;
use super::value::Value;
use crate::array::Blob;

/// One run over one stream.
pub(super) struct Run<'a> {
    input: Blob<'a>,
    pub(super) position: usize,
    /// Offset of `input` in the outermost input, for messages.
    pub(super) base: usize,
    pub(super) opcode_at: usize,
    pub(super) stack: Vec<Value>,
    pub(super) marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    memo_entries: usize,
}

impl<'a> Run<'a> {
    pub(super) fn new(input: Blob<'a>, base: usize) -> Self {
        Self {
            input,
            position: 0,
            base,
            opcode_at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            memo_entries: 0,
        }
    }

    pub(super) fn take(&mut self, n: usize, what: &'static str) -> Result<Blob<'a>, Refusal> {
        let left = self.input.len() - self.position;
        let end = self.position.checked_add(n);
        match end.and_then(|end| self.input.slice(self.position, end)) {
            Some(blob) => {
                self.position += n;
                Ok(blob)
            }
            None => Err(Refusal::Truncated { what, needed: n as u64, left }),
        }
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Refusal> {
        let left = self.input.len() - self.position;
        let bytes = self.input.as_slice().get(self.position..self.position + N);
        match bytes.and_then(|b| <[u8; N]>::try_from(b).ok()) {
            Some(array) => {
                self.position += N;
                Ok(array)
            }
            None => Err(Refusal::Truncated { what, needed: N as u64, left }),
        }
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, Refusal> {
        self.array::<1>(what).map(|[b]| b)
    }

    pub(super) fn line(&mut self) -> Result<String, Refusal> {
        let rest = &self.input.as_slice()[self.position..];
        let left = rest.len();
        let end = rest.iter().take(1 << 10).position(|&b| b == b'\n').ok_or(Refusal::Truncated {
            what: "the line of a name",
            needed: left as u64 + 1,
            left,
        })?;
        let text = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.position += end + 1;
        Ok(text)
    }

    pub(super) fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn empty() -> Refusal {
        Refusal::Unexpected { expected: "a value on the stack", found: "an empty stack".to_owned() }
    }

    /// Values above the last mark belong to the opcode that will pop it.
    pub(super) fn pop(&mut self) -> Result<Value, Refusal> {
        if self.marks.last().is_some_and(|&m| m >= self.stack.len()) {
            return Err(Self::empty());
        }
        self.stack.pop().ok_or_else(Self::empty)
    }

    pub(super) fn top(&self) -> Result<Value, Refusal> {
        self.stack.last().copied().ok_or_else(Self::empty)
    }

    pub(super) fn pop_many(&mut self, n: usize) -> Result<Vec<Value>, Refusal> {
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        Ok(items)
    }

    pub(super) fn pop_mark(&mut self) -> Result<Vec<Value>, Refusal> {
        let mark = self.marks.pop().ok_or_else(Self::empty)?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    pub(super) fn memo_opcode(&mut self, op: u8) -> Result<(), Refusal> {
        let index = match op {
            0x94 => self.memo_entries,
            b'q' | b'h' => self.byte("a memo index")? as usize,
            _ => u32::from_le_bytes(self.array("a memo index")?) as usize,
        };
        if matches!(op, b'h' | b'j') {
            let value = self.memo.get(index).copied().flatten().ok_or_else(|| Refusal::Unexpected {
                expected: "a memo entry",
                found: format!("nothing under index {index}"),
            })?;
            self.push(value);
            return Ok(());
        }
        // Every entry takes at least two bytes to write, so no honest index exceeds the input's length.
        if index > self.input.len() {
            return Err(Refusal::Limit { what: "memo entries", limit: self.input.len() });
        }
        if index >= self.memo.len() {
            self.memo.resize(index + 1, None);
        }
        let value = self.top()?;
        self.memo_entries += usize::from(self.memo[index].is_none());
        self.memo[index] = Some(value);
        Ok(())
    }
}
