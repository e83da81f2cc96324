//! JSON documents larger than memory, walked from front to end: one value at a time is held, and no value is trusted to end.
//!
//! What is passed over is only checked for closed strings and brackets; what is taken out is parsed by `serde_json`. Python
//! writes NaN and infinities, which JSON has not: they come out as the strings `"NaN"`, `"Infinity"` and `"-Infinity"`, so that
//! one such number spoils its own value and not the document.

use std::io::{self, Read};

use thiserror::Error;

use crate::packed::is_damage;

/// Brackets within brackets.
const MAX_DEPTH: u32 = 64;
/// Bytes of a key.
const MAX_KEY: usize = 4096;
const BUFFER: usize = 128 << 10;

/// Why a document is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The bytes cannot be read.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// The bytes cannot be unpacked.
    #[error("byte {byte} of the unpacked text: {problem}; fetch the file again")]
    Damaged {
        /// How much had been unpacked.
        byte: u64,
        /// What is wrong.
        problem: String,
    },
    /// Another character than JSON or the format asks for.
    #[error("byte {byte}: expected {expected}, found {found}")]
    Unexpected {
        /// Where, in the unpacked text.
        byte: u64,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The document ends inside a value.
    #[error("byte {byte}: the text ends, expected {expected}; the file is truncated, fetch it again")]
    Truncated {
        /// Where, in the unpacked text.
        byte: u64,
        /// What belongs there.
        expected: &'static str,
    },
    /// A value is larger or deeper than any of the format.
    #[error("byte {byte}: {what}, which no such file has")]
    TooMuch {
        /// Where, in the unpacked text.
        byte: u64,
        /// What there is too much of.
        what: String,
    },
}

impl JsonError {
    /// Whether the document is at fault, as opposed to the machine.
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Io(_))
    }
}

/// A place in a document.
#[derive(Debug)]
pub struct JsonStream<R> {
    input: R,
    buffer: Vec<u8>,
    at: usize,
    /// Bytes before the buffer.
    before: u64,
}

impl<R: Read> JsonStream<R> {
    /// Starts at the bytes that `input` gives next; `offset` is their place in the document, for messages.
    pub fn new(input: R, offset: u64) -> Self {
        Self { input, buffer: Vec::new(), at: 0, before: offset }
    }

    /// Where the next byte lies in the document.
    pub fn position(&self) -> u64 {
        self.before + self.at as u64
    }

    /// The next byte, or `None` at the end.
    fn peek(&mut self) -> Result<Option<u8>, JsonError> {
        if self.at == self.buffer.len() {
            self.before += self.buffer.len() as u64;
            self.at = 0;
            self.buffer.resize(BUFFER, 0);
            let read = loop {
                match self.input.read(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            if let Err(error) = read {
                return Err(if is_damage(&error) {
                    JsonError::Damaged { byte: self.before, problem: error.to_string() }
                } else {
                    JsonError::Io(error)
                });
            }
        }
        Ok(self.buffer.get(self.at).copied())
    }

    fn peek_past_space(&mut self) -> Result<Option<u8>, JsonError> {
        while let Some(byte) = self.peek()? {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(Some(byte));
            }
            self.at += 1;
        }
        Ok(None)
    }

    fn unexpected(&self, expected: &'static str, found: Option<u8>) -> JsonError {
        let byte = self.position();
        match found {
            None => JsonError::Truncated { byte, expected },
            Some(found) => {
                let found = format!("`{}`", char::from(found).escape_default());
                JsonError::Unexpected { byte, expected, found }
            }
        }
    }

    fn expect(&mut self, wanted: u8, expected: &'static str) -> Result<(), JsonError> {
        match self.peek_past_space()? {
            Some(found) if found == wanted => {
                self.at += 1;
                Ok(())
            }
            found => Err(self.unexpected(expected, found)),
        }
    }

    /// Enters an array.
    ///
    /// # Errors
    /// When the next value is none.
    pub fn begin_array(&mut self) -> Result<(), JsonError> {
        self.expect(b'[', "an array `[`")
    }

    /// Enters an object.
    ///
    /// # Errors
    /// When the next value is none.
    pub fn begin_object(&mut self) -> Result<(), JsonError> {
        self.expect(b'{', "an object `{`")
    }

    /// Whether another element follows in the array that is open; if so, it is next. `first` says that none was read yet.
    ///
    /// # Errors
    /// When neither a comma nor the end follows.
    pub fn next_element(&mut self, first: bool) -> Result<bool, JsonError> {
        match self.peek_past_space()? {
            Some(b']') => {
                self.at += 1;
                Ok(false)
            }
            Some(_) if first => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            found => Err(self.unexpected("`,` or `]`", found)),
        }
    }

    /// The next key of the object that is open, or `None` at its end; the key's value is next.
    ///
    /// # Errors
    /// When neither a key nor the end follows.
    pub fn next_key(&mut self, first: bool) -> Result<Option<String>, JsonError> {
        match self.peek_past_space()? {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !first => self.at += 1,
            Some(_) if first => {}
            found => return Err(self.unexpected("`,` or `}`", found)),
        }
        let found = self.peek_past_space()?;
        if found != Some(b'"') {
            return Err(self.unexpected("a key in quotes", found));
        }
        let (byte, mut raw) = (self.position(), Vec::new());
        self.take(&mut raw, MAX_KEY)?;
        let key = serde_json::from_slice(&raw).map_err(|_| JsonError::Unexpected {
            byte,
            expected: "a key in quotes",
            found: String::from_utf8_lossy(&raw).into_owned(),
        })?;
        self.expect(b':', "`:`")?;
        Ok(Some(key))
    }

    /// Checks that nothing follows the document.
    ///
    /// # Errors
    /// When something does.
    pub fn end(&mut self) -> Result<(), JsonError> {
        match self.peek_past_space()? {
            None => Ok(()),
            found => Err(self.unexpected("the end of the text", found)),
        }
    }

    /// Passes over the next value.
    ///
    /// # Errors
    /// When it does not end.
    pub fn skip(&mut self) -> Result<(), JsonError> {
        self.value(&mut Discard)
    }

    /// Appends the text of the next value, of at most `limit` bytes.
    ///
    /// # Errors
    /// When it does not end, or is larger.
    pub fn take(&mut self, text: &mut Vec<u8>, limit: usize) -> Result<(), JsonError> {
        self.value(&mut Keep { text, limit })
    }

    fn value(&mut self, keep: &mut impl Collect) -> Result<(), JsonError> {
        // One bit for each open bracket: 1 for `{`. `apart`: the last thing was no value, so that another may follow.
        let (mut depth, mut kinds, mut apart) = (0u32, 0u64, true);
        loop {
            let Some(byte) = self.peek_past_space()? else {
                return Err(self.unexpected("a value", None));
            };
            match byte {
                b',' | b':' if depth > 0 && !apart => {
                    self.one(keep)?;
                    apart = true;
                    continue;
                }
                b']' | b'}' if depth > 0 && (kinds & 1 == 1) == (byte == b'}') => {
                    kinds >>= 1;
                    depth -= 1;
                    self.one(keep)?;
                }
                _ if !apart => return Err(self.unexpected("`,` or a closing bracket", Some(byte))),
                b'[' | b'{' => {
                    if depth == MAX_DEPTH {
                        return Err(
                            self.too_much(format!("more than {MAX_DEPTH} brackets within each other"))
                        );
                    }
                    kinds = kinds << 1 | u64::from(byte == b'{');
                    depth += 1;
                    self.one(keep)?;
                    continue;
                }
                b'"' => self.string(keep)?,
                b'-' | b'0'..=b'9' | b'a'..=b'z' | b'N' | b'I' => self.word(keep)?,
                _ => return Err(self.unexpected("a value", Some(byte))),
            }
            if depth == 0 {
                return Ok(());
            }
            apart = false;
        }
    }

    fn one(&mut self, keep: &mut impl Collect) -> Result<(), JsonError> {
        let kept = keep.bytes(&self.buffer[self.at..=self.at]);
        self.kept(kept)?;
        self.at += 1;
        Ok(())
    }

    fn kept(&self, kept: Result<(), usize>) -> Result<(), JsonError> {
        kept.map_err(|limit| self.too_much(format!("a value of more than {limit} bytes")))
    }

    fn too_much(&self, what: String) -> JsonError {
        JsonError::TooMuch { byte: self.position(), what }
    }

    /// A string from its first to its last quote.
    fn string(&mut self, keep: &mut impl Collect) -> Result<(), JsonError> {
        self.one(keep)?;
        let mut escaped = false;
        loop {
            if self.peek()?.is_none() {
                return Err(self.unexpected("`\"` at the end of a string", None));
            }
            let rest = &self.buffer[self.at..];
            let mut length = rest.len();
            let mut closed = false;
            for (k, &byte) in rest.iter().enumerate() {
                if escaped {
                    escaped = false;
                } else if byte == b'\\' {
                    escaped = true;
                } else if byte == b'"' {
                    (length, closed) = (k + 1, true);
                    break;
                }
            }
            let kept = keep.bytes(&rest[..length]);
            self.kept(kept)?;
            self.at += length;
            if closed {
                return Ok(());
            }
        }
    }

    /// A number, `true`, `false`, `null`, or one of Python's words for what is no number.
    fn word(&mut self, keep: &mut impl Collect) -> Result<(), JsonError> {
        let start = keep.mark();
        let mut last = 0;
        while self.peek()?.is_some() {
            let rest = &self.buffer[self.at..];
            let inside = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
            let length = rest.iter().position(|b| !inside(b)).unwrap_or(rest.len());
            let word = &rest[..length];
            last = word.last().copied().unwrap_or(last);
            let (kept, ended) = (keep.bytes(word), length < rest.len());
            self.kept(kept)?;
            self.at += length;
            if ended {
                break;
            }
        }
        // No word of JSON ends in these but for `Infinity` and `NaN`.
        if matches!(last, b'y' | b'N') {
            keep.quote(start);
        }
        Ok(())
    }
}

/// What becomes of a value's bytes.
trait Collect {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), usize>;
    fn mark(&self) -> usize;
    /// Puts what came since `mark` between quotes.
    fn quote(&mut self, mark: usize);
}

struct Discard;

impl Collect for Discard {
    fn bytes(&mut self, _: &[u8]) -> Result<(), usize> {
        Ok(())
    }

    fn mark(&self) -> usize {
        0
    }

    fn quote(&mut self, _: usize) {}
}

struct Keep<'t> {
    text: &'t mut Vec<u8>,
    limit: usize,
}

impl Collect for Keep<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), usize> {
        if self.text.len() + bytes.len() > self.limit {
            return Err(self.limit);
        }
        self.text.extend_from_slice(bytes);
        Ok(())
    }

    fn mark(&self) -> usize {
        self.text.len()
    }

    fn quote(&mut self, mark: usize) {
        self.text.insert(mark, b'"');
        self.text.push(b'"');
    }
}

/// Why parsing a value that [`JsonStream::take`] gave failed, with the key it failed at: "`xyz`: invalid type: …".
pub fn describe(text: &[u8], error: &serde_json::Error) -> String {
    let full = error.to_string();
    let problem = full.rsplit_once(" at line ").map_or(full.as_str(), |(problem, _)| problem);
    // `take` keeps no line breaks outside strings, where JSON allows none; columns count from 1.
    let before = &text[..error.column().min(text.len())];
    let key = before.windows(2).rposition(|pair| pair == b"\":").and_then(|end| {
        let start = before[..end].iter().rposition(|&b| b == b'"')?;
        std::str::from_utf8(&before[start + 1..end]).ok()
    });
    match key {
        Some(key) => format!("`{key}`: {problem}"),
        None => problem.to_owned(),
    }
}

#[cfg(test)]
mod tests;
