//! bzip2 decompression in safe Rust: the format of bzip2 1.0, one stream or several in a row (as `pbzip2` writes them).
//!
//! Memory is one block, some 5 MB, whatever the input says. Every block's checksum is compared, and the stream's.

mod bits;
mod block;
mod huffman;

use std::io::{self, Read};

use bits::Bits;
use block::Block;

/// The digits of π that begin a block, and those of √π that end a stream.
const BLOCK: u64 = 0x3141_5926_5359;
const END: u64 = 0x1772_4538_5090;

/// Whether a file that starts so is a bzip2 file.
pub fn is_bzip2(start: &[u8]) -> bool {
    matches!(start, [b'B', b'Z', b'h', b'1'..=b'9', ..])
}

/// Unpacks while it is read. Damage shows as an error of kind `InvalidData` or `UnexpectedEof`.
#[derive(Debug)]
pub struct Decoder<R> {
    bits: Bits<R>,
    /// Largest number of bytes of a block; `None`: a stream is about to begin.
    level: Option<usize>,
    /// Checksum of the stream's blocks so far.
    checksum: u32,
    block: Block,
    /// Whether any stream was read: nothing at all is no bzip2 file.
    begun: bool,
    finished: bool,
}

fn damaged(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bzip2: {problem}"))
}

impl<R: Read> Decoder<R> {
    /// Unpacks `input`.
    pub fn new(input: R) -> Self {
        Self {
            bits: Bits::new(input),
            level: None,
            checksum: 0,
            block: Block::default(),
            begun: false,
            finished: false,
        }
    }

    /// Makes the next block ready; `false` at the end of the input.
    fn next_block(&mut self) -> io::Result<bool> {
        loop {
            let Some(level) = self.level else {
                if !self.start_stream()? {
                    return Ok(false);
                }
                continue;
            };
            let magic = u64::from(self.bits.take(24)?) << 24 | u64::from(self.bits.take(24)?);
            match magic {
                BLOCK => {
                    self.block.read(&mut self.bits, level)?;
                    self.checksum = self.checksum.rotate_left(1) ^ self.block.expected();
                    return Ok(true);
                }
                END => {
                    let expected = self.bits.take(32)?;
                    if expected != self.checksum {
                        return Err(damaged("the checksum of the stream is wrong"));
                    }
                    self.bits.align();
                    self.level = None;
                }
                _ => return Err(damaged("a block begins with the wrong bytes")),
            }
        }
    }

    fn start_stream(&mut self) -> io::Result<bool> {
        if self.bits.at_end()? {
            if self.begun {
                return Ok(false);
            }
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "bzip2: the file is empty"));
        }
        let start: [u8; 4] = [
            self.bits.take(8)? as u8,
            self.bits.take(8)? as u8,
            self.bits.take(8)? as u8,
            self.bits.take(8)? as u8,
        ];
        if !is_bzip2(&start) {
            return Err(damaged(if self.begun { "bytes follow after the end" } else { "not a bzip2 file" }));
        }
        self.level = Some(usize::from(start[3] - b'0') * 100_000);
        (self.begun, self.checksum) = (true, 0);
        Ok(true)
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.finished {
            return Ok(0);
        }
        loop {
            let written = self.block.write(out)?;
            if written > 0 {
                return Ok(written);
            }
            if !self.next_block()? {
                self.finished = true;
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests;
