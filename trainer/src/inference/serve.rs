//! A conversation over a pipe: one JSON object a line, a question and its answer in turn (docs/predict.md).

use std::io::{self, BufRead, ErrorKind, Read, Write};

use anyhow::{Context as _, anyhow};
use extxyz::own_tags;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shards::{Floats, Structure};

use super::{Predicted, Predictor};

/// Version of the conversation.
pub const PROTOCOL: u32 = 1;
/// A longer question is refused, in bytes. One of the largest structure that can be stored is a few megabytes.
const LONGEST_QUESTION: u64 = 64 << 20;

/// The first line, before any question.
#[derive(Debug, Serialize)]
struct Greeting<'a> {
    kind: &'static str,
    protocol: u32,
    checkpoint: String,
    task: &'a str,
    /// Name of what is predicted, beside forces; null: forces alone.
    label: Option<&'a str>,
    forces: bool,
    cutoff: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// A structure to be predicted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// Taken out before, to be given back with the answer.
    #[serde(default, rename = "id")]
    _id: Value,
    numbers: Vec<u8>,
    positions: Vec<[f64; 3]>,
    /// Vectors as rows, Å; absent, null or zeros: none.
    #[serde(default)]
    cell: Option<[[f64; 3]; 3]>,
    #[serde(default)]
    pbc: [bool; 3],
    #[serde(default)]
    tags: Option<Vec<i64>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Results { id: &'a Value, results: serde_json::Map<String, Value> },
    Error { id: &'a Value, error: String },
}

/// Answers questions until the input ends, or no one reads the answers. Whatever is wrong with a question is its answer.
///
/// # Errors
/// When reading or writing fails.
pub fn serve(predictor: &Predictor, mut input: impl BufRead, out: &mut dyn Write) -> io::Result<()> {
    let greeting = Greeting {
        kind: "ready",
        protocol: PROTOCOL,
        checkpoint: predictor.model().path.display().to_string(),
        task: predictor.task(),
        label: predictor.has_value().then(|| predictor.label()),
        forces: predictor.has_forces(),
        cutoff: predictor.rule().graph.cutoff,
        note: predictor.note(),
    };
    let mut line = Vec::new();
    let mut listening = tell(out, &greeting)?;
    while listening && next_line(&mut input, &mut line)? {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let (id, results) = answer(predictor, &line);
        listening = match results {
            Ok(results) => tell(out, &Answer::Results { id: &id, results })?,
            Err(error) => tell(out, &Answer::Error { id: &id, error: format!("{error:#}") })?,
        };
    }
    Ok(())
}

/// Writes a line; false when no one reads any more.
fn tell(out: &mut dyn Write, line: &impl Serialize) -> io::Result<bool> {
    let text = serde_json::to_string(line)?;
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        done => done.map(|()| true),
    }
}

/// Reads a line; false at the end. Of one that is too long the rest is passed over.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if input.by_ref().take(LONGEST_QUESTION).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.len() as u64 == LONGEST_QUESTION && line.last() != Some(&b'\n') {
        input.skip_until(b'\n')?;
    }
    Ok(true)
}

/// The question's `id`, and what the model says.
fn answer(predictor: &Predictor, line: &[u8]) -> (Value, anyhow::Result<serde_json::Map<String, Value>>) {
    if line.len() as u64 == LONGEST_QUESTION {
        return (Value::Null, Err(anyhow!("a line of more than {LONGEST_QUESTION} bytes")));
    }
    let mut question: Value = match serde_json::from_slice(line) {
        Ok(question) => question,
        Err(error) => return (Value::Null, Err(anyhow!("not JSON: {error}"))),
    };
    let id = question.get_mut("id").map(Value::take).unwrap_or_default();
    (id, results(predictor, question))
}

fn results(predictor: &Predictor, question: Value) -> anyhow::Result<serde_json::Map<String, Value>> {
    let question: Question = serde_json::from_value(question).context("the question")?;
    let structure = question.structure().map_err(anyhow::Error::msg)?;
    let prepared = predictor.rule().prepare(&structure)?;
    let mut predicted = predictor.predict(std::iter::once(&prepared))?;
    let Predicted { value, forces } = predicted.pop().context("the model gave nothing")??;
    let mut results = serde_json::Map::new();
    if let Some(value) = value {
        results.insert(predictor.label().to_owned(), value.into());
    }
    if let Some(forces) = forces {
        let rows: Vec<&[f64]> = forces.chunks_exact(3).collect();
        results.insert("forces".to_owned(), serde_json::to_value(rows)?);
    }
    Ok(results)
}

impl Question {
    fn structure(self) -> Result<Structure, String> {
        let cell = self.cell.map(|rows| rows.as_flattened().to_vec()).filter(|c| c.iter().any(|&x| x != 0.0));
        let cell = cell.and_then(|flat| flat.try_into().ok());
        let tags = self.tags.and_then(|tags| own_tags(&tags)).transpose()?;
        let positions = Floats::F64(self.positions.into_flattened());
        let bare = Structure::new(String::new(), String::new(), self.numbers, positions);
        Ok(Structure { cell, pbc: self.pbc, tags, ..bare })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_is_passed_over() {
        let long = io::repeat(b' ').take(LONGEST_QUESTION + 5).chain(&b"\nnext\nlast"[..]);
        let mut input = io::BufReader::new(long);
        let mut line = Vec::new();
        assert!(next_line(&mut input, &mut line).unwrap());
        assert_eq!(line.len() as u64, LONGEST_QUESTION);
        for expected in [&b"next\n"[..], b"last"] {
            assert!(next_line(&mut input, &mut line).unwrap());
            assert_eq!(line, expected);
        }
        assert!(!next_line(&mut input, &mut line).unwrap());
    }
}
