//! Text files, a line at a time, however long the file is and whatever is in it.

use std::io::{self, BufRead};

/// The longest line that is read, in bytes. A comment line of extxyz that carries a whole array stays far below.
pub const LONGEST_LINE: usize = 16 << 20;

/// Lines of a reader, with their numbers and where they begin. Ends of lines (`\n`, `\r\n`) are taken off.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    number: u64,
    start: u64,
    next: u64,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `input`, whose first byte is byte `offset` and begins line `line` (counted from 1) of the file.
    pub fn new(input: R, offset: u64, line: u64) -> Self {
        Self { input, buffer: Vec::new(), number: line.saturating_sub(1), start: offset, next: offset }
    }

    /// The number of the line read last, counted from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where the line read last begins, in bytes.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The line read last.
    pub fn current(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads the next line; `None` at the end.
    ///
    /// # Errors
    /// When reading fails, or a line is longer than [`LONGEST_LINE`].
    pub fn advance(&mut self) -> io::Result<Option<&[u8]>> {
        self.buffer.clear();
        self.start = self.next;
        loop {
            let available = match self.input.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = available.iter().position(|&b| b == b'\n');
            let taken = end.unwrap_or(available.len());
            if self.buffer.len() + taken > LONGEST_LINE {
                let problem = format!("line {} is longer than {LONGEST_LINE} bytes", self.number + 1);
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            if taken == 0 && end.is_none() {
                if self.start == self.next {
                    return Ok(None);
                }
                break;
            }
            self.buffer.extend_from_slice(&available[..taken]);
            let used = taken + usize::from(end.is_some());
            self.input.consume(used);
            self.next += used as u64;
            if end.is_some() {
                break;
            }
        }
        if self.buffer.last() == Some(&b'\r') {
            self.buffer.pop();
        }
        self.number += 1;
        Ok(Some(&self.buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_and_placed() {
        let mut lines = Lines::new(io::BufReader::with_capacity(3, &b"one\r\n\ntwo\nlast"[..]), 100, 5);
        let mut seen = Vec::new();
        while let Some(line) = lines.advance().unwrap() {
            let text = String::from_utf8(line.to_vec()).unwrap();
            seen.push((text, lines.number(), lines.start()));
        }
        let want = [("one", 5, 100), ("", 6, 105), ("two", 7, 106), ("last", 8, 110)];
        assert_eq!(seen, want.map(|(t, n, s)| (t.to_owned(), n, s)));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let input = io::BufReader::new(io::repeat(b'x'));
        let error = Lines::new(input, 0, 1).advance().unwrap_err();
        assert!(error.to_string().contains("line 1 is longer"), "{error}");
    }
}
