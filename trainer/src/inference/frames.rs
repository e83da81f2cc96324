//! Extended XYZ through a model, in memory that does not grow with the file.

use std::io::{self, BufRead, Write};

use extxyz::{Frame, FrameError, Frames, own_tags, write_predicted};
use shards::{Floats, Structure};
use thiserror::Error;

use super::{Budget, Impossible, NonFinite, Predicted, Predictor, Prepared, Refused, Rule, batches};

/// Why predictions stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FramesError {
    /// A frame that cannot be read.
    #[error(transparent)]
    Unreadable(#[from] FrameError),
    /// A frame that says something impossible of its structure.
    #[error("frame {frame} (line {line}): {problem}")]
    Malformed {
        /// Its number in the file, counted from 0.
        frame: u64,
        /// Its first line, counted from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A frame of which the model can say nothing.
    #[error("frame {frame} (line {line})")]
    Impossible {
        /// Its number in the file, counted from 0.
        frame: u64,
        /// Its first line, counted from 1.
        line: u64,
        /// Why.
        source: Box<Impossible>,
    },
    /// A frame on which the model diverges.
    #[error("frame {frame} (line {line})")]
    NonFinite {
        /// Its number in the file, counted from 0.
        frame: u64,
        /// Its first line, counted from 1.
        line: u64,
        /// What came out.
        source: NonFinite,
    },
    /// Nothing to predict.
    #[error("no frame in it; expected extended XYZ")]
    Empty,
    /// The results cannot be written.
    #[error("cannot write the predictions")]
    Write(#[source] io::Error),
    /// The system gives no thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A batch that is not computed.
    #[error("frames {first} to {last}")]
    Refused {
        /// Its first frame, counted from 0.
        first: u64,
        /// Its last.
        last: u64,
        /// Why.
        source: Refused,
    },
}

impl FramesError {
    /// Whether the input is at fault, as opposed to the machine.
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Write(_) | Self::Thread(_) | Self::Refused { .. })
    }
}

/// How frames are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Size of batches.
    pub budget: Budget,
    /// Leave the tags out, which mean something else than sub-surface, surface and adsorbate.
    pub ignore_tags: bool,
}

/// Predicts frame after frame. `written`, told of the frames written so far, ends it early by returning false. On an
/// error every frame before the faulty one has been written, whole.
///
/// Returns how many were written.
pub fn predict_frames(
    predictor: &Predictor,
    input: impl BufRead + Send + 'static,
    out: &mut impl Write,
    reading: Reading,
    mut written: impl FnMut(u64) -> bool,
) -> Result<u64, FramesError> {
    let rule = predictor.rule().clone();
    let items = move || {
        let mut frames = Frames::whole(input);
        std::iter::from_fn(move || next(&mut frames, &rule, reading.ignore_tags).transpose())
    };
    let mut count = 0;
    for batch in batches(reading.budget, items).map_err(FramesError::Thread)? {
        let batch: Vec<(Frame, Prepared)> = batch.inspect_err(|_| drop(out.flush()))?;
        let [first, last] =
            [batch.first(), batch.last()].map(|item| item.map_or(0, |(frame, _)| frame.index));
        let predictions = predictor
            .predict(batch.iter().map(|(_, prepared)| prepared))
            .map_err(|source| FramesError::Refused { first, last, source })?;
        for ((frame, _), predicted) in batch.iter().zip(predictions) {
            let (index, line) = (frame.index, frame.line);
            let Predicted { value, forces } =
                predicted.map_err(|source| FramesError::NonFinite { frame: index, line, source })?;
            let scalars = value.map(|value| (predictor.label().to_owned(), value)).into_iter().collect();
            let results = extxyz::Predicted { scalars, forces };
            write_predicted(out, frame, &results).map_err(FramesError::Write)?;
            count += 1;
        }
        // A reader at the other end of a pipe gets whole batches as they are ready.
        out.flush().map_err(FramesError::Write)?;
        if !written(count) {
            break;
        }
    }
    if count == 0 { Err(FramesError::Empty) } else { Ok(count) }
}

fn next(
    frames: &mut Frames<impl BufRead>,
    rule: &Rule,
    ignore_tags: bool,
) -> Result<Option<(Frame, Prepared)>, FramesError> {
    let Some(frame) = frames.next_frame()? else { return Ok(None) };
    let (index, line) = (frame.index, frame.line);
    let structure = structure(&frame, ignore_tags).map_err(|problem| FramesError::Malformed {
        frame: index,
        line,
        problem,
    })?;
    let prepared = rule.prepare(&structure).map_err(|source| FramesError::Impossible {
        frame: index,
        line,
        source: Box::new(source),
    })?;
    Ok(Some((frame, prepared)))
}

/// The structure of a frame, without labels.
fn structure(frame: &Frame, ignore_tags: bool) -> Result<Structure, String> {
    let cell = frame.info.lattice()?;
    let pbc = frame.info.pbc(cell.is_some())?;
    let tags = frame.tags()?.filter(|_| !ignore_tags);
    let tags = tags.and_then(|tags| own_tags(&tags)).transpose()?;
    let positions = Floats::F64(frame.positions.clone());
    let bare = Structure::new(String::new(), String::new(), frame.atomic_numbers.clone(), positions);
    Ok(Structure { cell, pbc, tags, ..bare })
}
