//! Where the frames of a file begin, without reading their numbers.

use std::io::{self, BufRead};

use crate::lines::Lines;

/// A place in a file at which a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Byte.
    pub offset: u64,
    /// Line, counted from 1.
    pub line: u64,
    /// Frames before it.
    pub frame: u64,
}

impl Mark {
    /// The start of a file.
    pub const START: Self = Self { offset: 0, line: 1, frame: 0 };
}

/// Marks every `every`-th frame, from the first; the last mark is where the frames end.
///
/// What is malformed ends the scan with the last frames not cut further: their reader says what is wrong.
///
/// # Errors
/// When reading fails.
pub fn scan(input: impl BufRead, every: u64) -> io::Result<Vec<Mark>> {
    let mut lines = Lines::new(input, 0, 1);
    let (mut marks, mut frame) = (Vec::new(), 0);
    while let Some(text) = lines.advance()? {
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let Ok(atoms) = atom_count(text) else { break };
        if frame % every == 0 {
            marks.push(Mark { offset: lines.start(), line: lines.number(), frame });
        }
        frame += 1;
        // The comment line, and a row for each atom.
        for _ in 0..=atoms {
            if lines.advance()?.is_none() {
                break;
            }
        }
    }
    marks.push(Mark { offset: lines.start(), line: lines.number(), frame });
    Ok(marks)
}

/// The number of atoms that a frame's first line says.
pub(super) fn atom_count(line: &[u8]) -> Result<u64, String> {
    let text = String::from_utf8_lossy(line);
    let wrong = || {
        let shown: String = text.chars().take(60).collect();
        format!("expected a number of atoms, which begins a frame, found {shown:?}")
    };
    text.trim().parse().map_err(|_| wrong())
}
