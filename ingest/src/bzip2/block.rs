//! One block: prefix codes, move to front, the inverse Burrows–Wheeler transform, runs.

use std::io::{self, Read};

use super::bits::Bits;
use super::damaged;
use super::huffman::Code;

/// Symbols between two changes of the code.
const GROUP: usize = 50;
/// Changes of the code that a block of 900,000 bytes may need; more are read and passed over.
const MOST_GROUPS: usize = 18_002;
/// Equal bytes after which a count follows.
const RUN: u32 = 4;

/// A block on its way out.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// For each place of the transform: where the next byte stands · 256 + the byte.
    next: Vec<u32>,
    at: u32,
    left: usize,
    /// The byte last written, how many in a row there were, and how many more are owed.
    byte: u8,
    run: u32,
    owed: u32,
    checksum: u32,
    expected: u32,
}

impl Block {
    /// The checksum that the block should have.
    pub(super) fn expected(&self) -> u32 {
        self.expected
    }

    /// Reads a block of at most `limit` bytes.
    pub(super) fn read<R: Read>(&mut self, bits: &mut Bits<R>, limit: usize) -> io::Result<()> {
        self.expected = bits.take(32)?;
        if bits.flag()? {
            return Err(damaged("a randomised block, which bzip2 has not written since 1999"));
        }
        let origin = bits.take(24)? as usize;
        let used = used_bytes(bits)?;
        let alphabet = used.len() + 2;
        let groups = bits.take(3)? as usize;
        if !(2..=6).contains(&groups) {
            return Err(damaged("a block has an impossible number of codes"));
        }
        let selectors = selectors(bits, groups)?;
        let codes: Vec<Code> = (0..groups).map(|_| Code::read(bits, alphabet)).collect::<io::Result<_>>()?;
        self.next.clear();
        symbols(bits, &codes, &selectors, used, limit, &mut self.next)?;
        if origin >= self.next.len() {
            return Err(damaged("a block begins outside itself"));
        }
        invert(&mut self.next);
        self.at = self.next[origin] >> 8;
        self.left = self.next.len();
        (self.run, self.owed, self.checksum) = (0, 0, u32::MAX);
        Ok(())
    }

    /// Writes as much as fits; 0 when the block is done.
    pub(super) fn write(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && self.owed == 0 {
            return Ok(0);
        }
        let mut written = 0;
        while written < out.len() {
            if self.owed > 0 {
                let count = (self.owed as usize).min(out.len() - written);
                out[written..written + count].fill(self.byte);
                written += count;
                self.owed -= count as u32;
                continue;
            }
            if self.left == 0 {
                break;
            }
            let entry = self.next[self.at as usize];
            let byte = entry as u8;
            self.at = entry >> 8;
            self.left -= 1;
            if self.run == RUN {
                (self.owed, self.run) = (u32::from(byte), 0);
                continue;
            }
            self.run = if self.run > 0 && byte == self.byte { self.run + 1 } else { 1 };
            self.byte = byte;
            out[written] = byte;
            written += 1;
        }
        for &byte in &out[..written] {
            let index = (self.checksum >> 24) as u8 ^ byte;
            self.checksum = self.checksum << 8 ^ CRC[index as usize];
        }
        if self.left == 0 && self.owed == 0 && !self.checksum != self.expected {
            return Err(damaged("the checksum of a block is wrong: the file is damaged; fetch it again"));
        }
        Ok(written)
    }
}

/// The byte values that occur in the block, from a map of maps.
fn used_bytes<R: Read>(bits: &mut Bits<R>) -> io::Result<Vec<u8>> {
    let rows = bits.take(16)?;
    let mut used = Vec::new();
    for row in 0..16u8 {
        if rows >> (15 - row) & 1 == 0 {
            continue;
        }
        let columns = bits.take(16)?;
        used.extend((0..16u8).filter(|c| columns >> (15 - c) & 1 == 1).map(|c| 16 * row + c));
    }
    if used.is_empty() {
        return Err(damaged("a block without bytes"));
    }
    Ok(used)
}

/// Which code each group of symbols uses.
fn selectors<R: Read>(bits: &mut Bits<R>, groups: usize) -> io::Result<Vec<u8>> {
    let count = bits.take(15)? as usize;
    let mut recent: Vec<u8> = (0..groups as u8).collect();
    let mut selectors = Vec::with_capacity(count.min(MOST_GROUPS));
    for _ in 0..count {
        let mut place = 0;
        while bits.flag()? {
            place += 1;
            if place >= groups {
                return Err(damaged("a block names a code that it does not have"));
            }
        }
        recent[..=place].rotate_right(1);
        if selectors.len() < MOST_GROUPS {
            selectors.push(recent[0]);
        }
    }
    Ok(selectors)
}

/// Decodes the symbols of a block into the transform's last column.
fn symbols<R: Read>(
    bits: &mut Bits<R>,
    codes: &[Code],
    selectors: &[u8],
    mut recent: Vec<u8>,
    limit: usize,
    out: &mut Vec<u32>,
) -> io::Result<()> {
    let end = recent.len() as u16 + 1;
    let (mut run, mut digit) = (0usize, 1usize);
    for &selector in selectors {
        let code = &codes[selector as usize];
        for _ in 0..GROUP {
            let symbol = code.symbol(bits)?;
            if symbol <= 1 {
                // The length of a run, in digits 1 and 2 of base 2.
                run += digit << symbol;
                digit <<= 1;
                if run > limit {
                    return Err(damaged("a run is longer than a block"));
                }
                continue;
            }
            if out.len() + run + usize::from(symbol != end) > limit {
                return Err(damaged("a block is longer than it may be"));
            }
            out.resize(out.len() + run, u32::from(recent[0]));
            (run, digit) = (0, 1);
            if symbol == end {
                return Ok(());
            }
            let place = symbol as usize - 1;
            let byte = recent[place];
            recent.copy_within(..place, 1);
            recent[0] = byte;
            out.push(u32::from(byte));
        }
    }
    Err(damaged("a block does not end"))
}

/// Adds to each byte of the last column where the byte after it stands.
fn invert(column: &mut [u32]) {
    let mut counts = [0u32; 256];
    column.iter().for_each(|&byte| counts[byte as usize] += 1);
    let mut sum = 0;
    for count in &mut counts {
        sum += std::mem::replace(count, sum);
    }
    for at in 0..column.len() {
        let place = &mut counts[column[at] as u8 as usize];
        column[*place as usize] |= (at as u32) << 8;
        *place += 1;
    }
}

/// CRC-32, the highest bit first.
const CRC: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 0x8000_0000 == 0 { value << 1 } else { value << 1 ^ 0x04c1_1db7 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};
