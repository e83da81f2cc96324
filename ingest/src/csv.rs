//! Tables of comma-separated values with a header line (RFC 4180): quoted fields may hold commas, quotes and line breaks.

use std::io::{BufRead, BufReader, Read};

use thiserror::Error;

/// Bytes of one record.
const MAX_RECORD: usize = 4 << 20;

/// Why a table is refused.
#[derive(Debug, Error)]
#[error("line {line}: {problem}")]
pub struct CsvError {
    line: u64,
    problem: String,
}

/// A table that is read record by record.
#[derive(Debug)]
pub struct Csv<R> {
    input: BufReader<R>,
    /// Line that the next record begins on, from 1.
    line: u64,
    columns: Vec<String>,
}

impl<R: Read> Csv<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(input: R) -> Result<Self, CsvError> {
        let mut csv = Self { input: BufReader::new(input), line: 1, columns: Vec::new() };
        match csv.fields()? {
            Some(columns) => csv.columns = columns,
            None => return Err(CsvError { line: 1, problem: "the table is empty".to_owned() }),
        }
        if let Some(first) = csv.columns.first_mut() {
            *first = first.trim_start_matches('\u{feff}').to_owned();
        }
        Ok(csv)
    }

    /// Names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Line that the next record begins on, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The next record: as many fields as there are columns.
    ///
    /// # Errors
    /// When a quote does not end, or there are more or fewer fields.
    pub fn record(&mut self) -> Result<Option<Vec<String>>, CsvError> {
        let line = self.line;
        let Some(fields) = self.fields()? else { return Ok(None) };
        if fields.len() == self.columns.len() {
            return Ok(Some(fields));
        }
        let problem = format!(
            "{} fields, but the header has {}: the table may be truncated or damaged",
            fields.len(),
            self.columns.len()
        );
        Err(CsvError { line, problem })
    }

    /// Fields of the next line that is not empty, with the lines that its quotes reach over.
    fn fields(&mut self) -> Result<Option<Vec<String>>, CsvError> {
        let mut raw = Vec::new();
        let mut start = self.line;
        loop {
            let error = |problem: String| CsvError { line: start, problem };
            let room = (MAX_RECORD - raw.len()) as u64;
            let read = self.input.by_ref().take(room).read_until(b'\n', &mut raw);
            if read.map_err(|e| error(format!("cannot be read: {e}")))? == 0 {
                break;
            }
            if raw.len() == MAX_RECORD {
                return Err(error(format!("a record of more than {MAX_RECORD} bytes")));
            }
            self.line += 1;
            if raw.iter().all(u8::is_ascii_whitespace) {
                raw.clear();
                start = self.line;
            } else if !raw.iter().fold(false, |open, &b| open ^ (b == b'"')) {
                return split(&raw).map(Some).map_err(error);
            }
        }
        if raw.is_empty() {
            return Ok(None);
        }
        Err(CsvError { line: start, problem: "a quoted field does not end".to_owned() })
    }
}

fn split(raw: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(raw).map_err(|_| "no text in UTF-8".to_owned())?;
    let mut rest = text.trim_end_matches(['\n', '\r']);
    let mut fields = Vec::new();
    loop {
        let after = if let Some(inside) = rest.strip_prefix('"') {
            let (field, after) = unquote(inside).ok_or("a quoted field does not end")?;
            fields.push(field);
            after
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            fields.push(rest[..end].to_owned());
            &rest[end..]
        };
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("text follows the end of a quoted field".to_owned()),
        }
    }
}

/// A field up to its closing quote, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Vec<Vec<String>>, CsvError> {
        let mut csv = Csv::new(text.as_bytes())?;
        let mut rows = vec![csv.columns().to_vec()];
        while let Some(row) = csv.record()? {
            rows.push(row);
        }
        Ok(rows)
    }

    #[test]
    fn fields_are_cut_where_they_end() {
        let rows = table("\u{feff}a,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n\r\n,\r\n").unwrap();
        assert_eq!(rows, [["a", "b"], ["1", "x, \"y\"\nz"], ["", ""]]);
        assert_eq!(table("a\n1").unwrap(), [["a"], ["1"]]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let check = |text: &str, expected: &str| {
            let error = table(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        };
        check("", "line 1: the table is empty");
        check("a,b\n1,2\n3\n", "line 3: 1 fields, but the header has 2");
        check("a,b\n\"x\ny\",1\n2,\"y", "line 4: a quoted field does not end");
        check("a\n\"x\"y\n", "line 2: text follows the end of a quoted field");
        check(&format!("a\n{}", "x".repeat(MAX_RECORD + 5)), "a record of more than");
    }
}
