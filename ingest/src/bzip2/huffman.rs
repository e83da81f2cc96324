//! The prefix codes of a block.

use std::io::{self, Read};

use super::bits::Bits;
use super::damaged;

/// Longest code, in bits.
const LONGEST: usize = 20;
/// Codes up to this length are looked up at once.
const QUICK: u32 = 10;

/// A canonical prefix code.
#[derive(Debug)]
pub(super) struct Code {
    /// First code of each length.
    first: [u32; LONGEST + 1],
    /// How many codes each length has.
    count: [u32; LONGEST + 1],
    /// Place in `symbols` of each length's first code.
    place: [u32; LONGEST + 1],
    /// Symbols by length, then by value.
    symbols: Vec<u16>,
    /// For the next [`QUICK`] bits: symbol · 32 + length; 0 where the code is longer.
    quick: Vec<u16>,
}

impl Code {
    /// Reads the lengths of `alphabet` symbols, each as a difference from the one before.
    pub(super) fn read<R: Read>(bits: &mut Bits<R>, alphabet: usize) -> io::Result<Self> {
        let mut length = bits.take(5)? as usize;
        let mut lengths = Vec::with_capacity(alphabet);
        for _ in 0..alphabet {
            loop {
                if !(1..=LONGEST).contains(&length) {
                    return Err(damaged("a code has an impossible length"));
                }
                if !bits.flag()? {
                    break;
                }
                if bits.flag()? { length -= 1 } else { length += 1 }
            }
            lengths.push(length);
        }
        Self::new(&lengths)
    }

    fn new(lengths: &[usize]) -> io::Result<Self> {
        let (mut first, mut count, mut place) =
            ([0u32; LONGEST + 1], [0u32; LONGEST + 1], [0u32; LONGEST + 1]);
        lengths.iter().for_each(|&l| count[l] += 1);
        let (mut code, mut at) = (0u32, 0u32);
        for length in 1..=LONGEST {
            (first[length], place[length]) = (code, at);
            code += count[length];
            at += count[length];
            if code > 1 << length {
                return Err(damaged("a block has more codes than bits"));
            }
            code <<= 1;
        }
        let mut order: Vec<u16> = (0..lengths.len() as u16).collect();
        order.sort_by_key(|&s| lengths[s as usize]);
        let mut quick = vec![0u16; 1 << QUICK];
        for (at, &symbol) in order.iter().enumerate() {
            let length = lengths[symbol as usize];
            let Some(spare) = (QUICK as usize).checked_sub(length) else { break };
            let start = ((first[length] + at as u32 - place[length]) as usize) << spare;
            quick[start..start + (1 << spare)].fill(symbol << 5 | length as u16);
        }
        Ok(Self { first, count, place, symbols: order, quick })
    }

    /// Reads one symbol.
    pub(super) fn symbol<R: Read>(&self, bits: &mut Bits<R>) -> io::Result<u16> {
        let entry = self.quick[bits.peek(QUICK)? as usize];
        if entry != 0 {
            bits.skip(u32::from(entry & 31))?;
            return Ok(entry >> 5);
        }
        let next = bits.peek(LONGEST as u32)?;
        for length in 1..=LONGEST {
            let code = next >> (LONGEST - length);
            let Some(step) = code.checked_sub(self.first[length]) else { continue };
            if step < self.count[length] {
                bits.skip(length as u32)?;
                return Ok(self.symbols[(self.place[length] + step) as usize]);
            }
        }
        Err(damaged("a code means nothing"))
    }
}
