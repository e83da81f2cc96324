//! Extended XYZ, frame by frame, in every spelling that ASE and its relatives write.
//!
//! A frame is a line with the number of atoms, a line of `key=value` entries ([`Info`]), and a row for each atom, whose
//! columns the entry `Properties` names. Plain XYZ is the same without entries. Blank lines between frames, `\r\n`, blanks
//! round `=`, Fortran exponents and entries without a value are accepted. Memory is one frame.

mod columns;
mod info;
pub mod lines;
mod predicted;
mod scan;
mod tags;
mod write;

use std::io::BufRead;

use thiserror::Error;

pub use columns::{Column, Values};
pub use info::{Info, numbers};
pub use predicted::{Predicted, write_predicted};
pub use scan::{Mark, scan};
pub use tags::{own_tags, stated_tags};
pub use write::write_frame;

use columns::{Kind, Plan, Wanted};
use lines::Lines;

/// Rows that a frame may have; what is larger cannot be stored.
const MOST_ATOMS: u64 = 65_535;

/// Why a frame is refused.
#[derive(Debug, Error)]
#[error("frame {frame} (line {line}): {problem}")]
pub struct FrameError {
    /// Its number in the file, counted from 0.
    pub frame: u64,
    /// The line at fault, counted from 1.
    pub line: u64,
    /// What is wrong.
    pub problem: String,
    /// Whether the reader knows where the next frame begins, so that it can go on.
    pub can_go_on: bool,
}

/// A frame as it is written: no unit is converted.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Its number in the file, counted from 0.
    pub index: u64,
    /// The line with the number of atoms.
    pub line: u64,
    /// The entries of the comment line.
    pub info: Info,
    /// Atomic numbers, from the symbols or the column `Z`.
    pub atomic_numbers: Vec<u8>,
    /// Positions, flat `[3 · atoms]`.
    pub positions: Vec<f64>,
    /// The other columns that were asked for and are there.
    pub columns: Vec<Column>,
}

impl Frame {
    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The column `tags`.
    ///
    /// # Errors
    /// When it is not one whole number an atom.
    pub fn tags(&self) -> Result<Option<Vec<i64>>, String> {
        match self.column("tags").map(|column| (&column.values, column.width)) {
            None => Ok(None),
            Some((Values::Integer(tags), 1)) => Ok(Some(tags.clone())),
            Some(_) => Err("`tags`: expected one whole number an atom (tags:I:1)".to_owned()),
        }
    }
}

/// The frames of a text.
#[derive(Debug)]
pub struct Frames<R> {
    lines: Lines<R>,
    wanted: Wanted,
    index: u64,
    /// The plan of the last frame: the next one nearly always has the same columns.
    plan: Option<(String, Plan)>,
}

impl<R: BufRead> Frames<R> {
    /// Reads from `input`, which begins at `mark`. Of the columns beside species and positions, those in `wanted` are kept.
    pub fn new(input: R, mark: Mark, wanted: &[&str]) -> Self {
        Self {
            lines: Lines::new(input, mark.offset, mark.line),
            wanted: Wanted::Named(wanted.iter().map(|&w| w.to_owned()).collect()),
            index: mark.frame,
            plan: None,
        }
    }

    /// Reads from `input`, the start of a file, and keeps all columns.
    pub fn whole(input: R) -> Self {
        Self { wanted: Wanted::All, ..Self::new(input, Mark::START, &[]) }
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// When it is malformed; if [`FrameError::can_go_on`], the next call reads the frame after it.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(atoms) = self.count()? else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        let first = self.lines.number();
        let info = match self.lines.advance() {
            Ok(Some(line)) => Info::parse(&String::from_utf8_lossy(line)),
            Ok(None) => return Err(error(index, first, "the file ends after its number of atoms", false)),
            Err(e) => return Err(error(index, first + 1, &e.to_string(), false)),
        };
        let plan = info.map_err(|p| (first + 1, p)).and_then(|info| {
            if atoms > MOST_ATOMS {
                return Err((first, format!("{atoms} atoms; at most {MOST_ATOMS} can be stored")));
            }
            self.make_plan(&info).map_err(|p| (first + 1, p))?;
            Ok(info)
        });
        let mut rows = Rows::new(plan.as_ref().ok().and(self.plan.as_ref()).map(|p| &p.1));
        let mut fault = plan.as_ref().err().cloned();
        for row in 0..atoms {
            match self.lines.advance() {
                Ok(Some(line)) if fault.is_none() => {
                    if let Err(problem) = rows.push(line) {
                        fault = Some((first + 2 + row, problem));
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    let problem = format!("the file ends after {row} of its {atoms} atoms: it is truncated");
                    return Err(error(index, first, &problem, false));
                }
                Err(e) => return Err(error(index, first + 2 + row, &e.to_string(), false)),
            }
        }
        match (fault, plan) {
            (None, Ok(info)) => {
                let (atomic_numbers, positions, columns) = rows.finish();
                Ok(Some(Frame { index, line: first, info, atomic_numbers, positions, columns }))
            }
            (Some((line, problem)), _) | (None, Err((line, problem))) => {
                Err(error(index, line, &problem, true))
            }
        }
    }

    /// The number of atoms of the next frame, blank lines before it passed over.
    fn count(&mut self) -> Result<Option<u64>, FrameError> {
        let index = self.index;
        loop {
            let line = self.lines.number() + 1;
            match self.lines.advance() {
                Err(e) => return Err(error(index, line, &e.to_string(), false)),
                Ok(None) => return Ok(None),
                Ok(Some(text)) if text.iter().all(u8::is_ascii_whitespace) => {}
                Ok(Some(text)) => {
                    return scan::atom_count(text).map(Some).map_err(|p| error(index, line, &p, false));
                }
            }
        }
    }

    fn make_plan(&mut self, info: &Info) -> Result<(), String> {
        let properties = info.text("Properties").unwrap_or_default();
        if self.plan.as_ref().is_none_or(|(known, _)| known != properties) {
            self.plan = Some((properties.to_owned(), Plan::new(properties, &self.wanted)?));
        }
        Ok(())
    }
}

fn error(frame: u64, line: u64, problem: &str, can_go_on: bool) -> FrameError {
    FrameError { frame, line, problem: problem.to_owned(), can_go_on }
}

/// The rows of a frame as they are gathered.
struct Rows<'p> {
    plan: Option<&'p Plan>,
    atomic_numbers: Vec<u8>,
    positions: Vec<f64>,
    columns: Vec<Column>,
}

impl<'p> Rows<'p> {
    fn new(plan: Option<&'p Plan>) -> Self {
        let columns = plan.map(Plan::empty_columns).unwrap_or_default();
        Self { plan, atomic_numbers: vec![], positions: vec![], columns }
    }

    fn push(&mut self, line: &[u8]) -> Result<(), String> {
        let Some(plan) = self.plan else { return Ok(()) };
        let line = std::str::from_utf8(line).map_err(|_| "the row is no text".to_owned())?;
        let mut words = line.split_ascii_whitespace();
        let mut number = None;
        for field in &plan.fields {
            let mut word = || {
                words
                    .next()
                    .ok_or_else(|| format!("expected {} columns ({}), found {line:?}", plan.width, plan.text))
            };
            match field.kind {
                Kind::Skip => (0..field.width).try_for_each(|_| word().map(drop))?,
                Kind::Species => number = Some(columns::element(word()?)?),
                Kind::AtomicNumber => {
                    let z = columns::atomic_number(word()?)?;
                    // The symbol says it already; of two that differ neither can be trusted.
                    match number {
                        Some(known) if known != z => {
                            return Err(format!("the symbol is of element {known}, but `Z` is {z}"));
                        }
                        _ => number = Some(z),
                    }
                }
                Kind::Position => {
                    for _ in 0..3 {
                        self.positions.push(columns::real(word()?)?);
                    }
                }
                Kind::Column(at) => {
                    let Column { name, values, .. } = &mut self.columns[at];
                    for _ in 0..field.width {
                        values.push(word()?, name)?;
                    }
                }
            }
        }
        if plan.exact && words.next().is_some() {
            return Err(format!("expected {} columns ({}), found more: {line:?}", plan.width, plan.text));
        }
        self.atomic_numbers.push(number.unwrap_or(0));
        Ok(())
    }

    fn finish(self) -> (Vec<u8>, Vec<f64>, Vec<Column>) {
        (self.atomic_numbers, self.positions, self.columns)
    }
}

#[cfg(test)]
mod tests;
