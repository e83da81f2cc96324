//! Bits of a stream, the highest of each byte first.

use std::io::{self, Read};

/// A reader of bits.
#[derive(Debug)]
pub(super) struct Bits<R> {
    input: R,
    buffer: Vec<u8>,
    at: usize,
    /// The low `count` bits are still to be given out.
    held: u64,
    count: u32,
}

impl<R: Read> Bits<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), at: 0, held: 0, count: 0 }
    }

    /// Holds at least `n` bits, at most 32, and at most 63 in all, if the input has them; says whether it has.
    fn fill(&mut self, n: u32) -> io::Result<bool> {
        if self.count >= n {
            return Ok(true);
        }
        if let Some(&[a, b, c, d]) = self.buffer.get(self.at..self.at + 4) {
            self.held = self.held << 32 | u64::from(u32::from_be_bytes([a, b, c, d]));
            self.at += 4;
            self.count += 32;
            return Ok(true);
        }
        while self.count < n {
            if self.at == self.buffer.len() && !self.refill()? {
                return Ok(false);
            }
            self.held = self.held << 8 | u64::from(self.buffer[self.at]);
            self.at += 1;
            self.count += 8;
        }
        Ok(true)
    }

    fn refill(&mut self) -> io::Result<bool> {
        self.buffer.resize(1 << 16, 0);
        self.at = 0;
        let read = loop {
            match self.input.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }

    /// The next `n` bits, at most 32.
    pub(super) fn take(&mut self, n: u32) -> io::Result<u32> {
        if !self.fill(n)? {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "bzip2: the file ends too early: it is truncated; fetch it again",
            ));
        }
        self.count -= n;
        Ok((self.held >> self.count) as u32 & mask(n))
    }

    /// The next bit.
    pub(super) fn flag(&mut self) -> io::Result<bool> {
        Ok(self.take(1)? == 1)
    }

    /// The next `n` bits, not taken away; zeros stand for what the input lacks.
    pub(super) fn peek(&mut self, n: u32) -> io::Result<u32> {
        let bits = if self.fill(n)? { self.held >> (self.count - n) } else { self.held << (n - self.count) };
        Ok(bits as u32 & mask(n))
    }

    /// Takes away `n` bits that were peeked at.
    pub(super) fn skip(&mut self, n: u32) -> io::Result<()> {
        if self.count < n {
            return self.take(n).map(drop);
        }
        self.count -= n;
        Ok(())
    }

    /// Passes over the rest of a byte.
    pub(super) fn align(&mut self) {
        self.count -= self.count % 8;
    }

    /// Whether nothing is left.
    pub(super) fn at_end(&mut self) -> io::Result<bool> {
        Ok(!self.fill(1)?)
    }
}

fn mask(n: u32) -> u32 {
    ((1u64 << n) - 1) as u32
}
