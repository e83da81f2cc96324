//! The `key=value` entries of a frame's second line.

use std::iter::Peekable;
use std::str::CharIndices;

use super::columns::{logical, real};

/// The entries, in their order. A key that comes twice has its last value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    key: String,
    /// Without its quotes.
    value: String,
    /// Key and value as they stand in the line.
    written: String,
}

/// What opens a value that may hold blanks, and what closes it.
const BRACKETS: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('{', '}'), ('[', ']'), ('(', ')')];

impl Info {
    /// Reads a line. A line without any `=` is a comment and holds nothing.
    ///
    /// # Errors
    /// When a quoted value does not end.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut info = Self::default();
        if !line.contains('=') {
            return Ok(info);
        }
        let mut rest = line.char_indices().peekable();
        loop {
            skip_blanks(&mut rest);
            let Some(&(start, _)) = rest.peek() else { return Ok(info) };
            let key = match delimited(line, &mut rest)? {
                Some(quoted) => quoted,
                None => bare(line, &mut rest, |c| c == '='),
            };
            let mut end = place(line, &mut rest);
            skip_blanks(&mut rest);
            let mut value = "T".to_owned();
            if rest.next_if(|&(_, c)| c == '=').is_some() {
                skip_blanks(&mut rest);
                value = match delimited(line, &mut rest)? {
                    Some(quoted) => quoted,
                    None => bare(line, &mut rest, |_| false),
                };
                end = place(line, &mut rest);
            }
            info.entries.retain(|known| known.key != key);
            info.entries.push(Entry { key, value, written: line[start..end].to_owned() });
        }
    }

    /// The keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// The keys, each with the whole entry as it stands in the line.
    pub fn written(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), entry.written.as_str()))
    }

    /// The text of an entry, without its quotes.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    /// The first of several keys that is there.
    pub fn first<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, &str)> {
        keys.iter().find_map(|&key| Some((key, self.text(key)?)))
    }

    /// One number, under the first of several keys that is there.
    ///
    /// # Errors
    /// When there is something else.
    pub fn number(&self, keys: &[&str]) -> Result<Option<f64>, String> {
        let Some((key, text)) = self.first(keys) else { return Ok(None) };
        match numbers(text).as_deref() {
            Some([one]) => Ok(Some(*one)),
            _ => Err(format!("`{key}`: expected a number, found {text:?}")),
        }
    }

    /// Cell vectors as rows; `None` when there are none.
    ///
    /// # Errors
    /// When `Lattice` has not nine numbers.
    pub fn lattice(&self) -> Result<Option<[f64; 9]>, String> {
        let Some((key, text)) = self.first(&["Lattice", "lattice"]) else { return Ok(None) };
        let values = numbers(text).and_then(|v| <[f64; 9]>::try_from(v).ok());
        let cell = values.ok_or_else(|| format!("`{key}`: expected nine numbers, found {text:?}"))?;
        Ok(Some(cell).filter(|c| c.iter().any(|&x| x != 0.0)))
    }

    /// Which directions are periodic: `pbc`, else all if there is a lattice.
    ///
    /// # Errors
    /// When `pbc` is not three, or one, of T and F.
    pub fn pbc(&self, has_lattice: bool) -> Result<[bool; 3], String> {
        let Some((key, text)) = self.first(&["pbc", "PBC"]) else { return Ok([has_lattice; 3]) };
        let words: Vec<&str> = words(text).collect();
        let flags: Option<Vec<bool>> = match words.as_slice() {
            [one] if one.len() == 3 => one.split("").filter(|c| !c.is_empty()).map(logical).collect(),
            many => many.iter().map(|w| logical(w)).collect(),
        };
        match flags.as_deref() {
            Some(&[a, b, c]) => Ok([a, b, c]),
            Some(&[all]) => Ok([all; 3]),
            _ => Err(format!("`{key}`: expected three of T and F, found {text:?}")),
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || ",[](){}\"".contains(c)).filter(|w| !w.is_empty())
}

/// The numbers of a text such as `1 2 3`, `[1, 2, 3]` or `[[1.0], [2.0]]`; `None` if a word is no number.
pub fn numbers(text: &str) -> Option<Vec<f64>> {
    words(text).map(|word| real(word).ok()).collect()
}

type Rest<'l> = Peekable<CharIndices<'l>>;

fn skip_blanks(rest: &mut Rest<'_>) {
    while rest.next_if(|(_, c)| c.is_whitespace()).is_some() {}
}

/// The byte that comes next.
fn place(line: &str, rest: &mut Rest<'_>) -> usize {
    rest.peek().map_or(line.len(), |&(at, _)| at)
}

fn bare(line: &str, rest: &mut Rest<'_>, stop: impl Fn(char) -> bool) -> String {
    let start = place(line, rest);
    while rest.next_if(|&(_, c)| !c.is_whitespace() && !stop(c)).is_some() {}
    line[start..place(line, rest)].to_owned()
}

/// A value in quotes or brackets, `None` if there is no such thing next. Brackets keep those inside them.
fn delimited(line: &str, rest: &mut Rest<'_>) -> Result<Option<String>, String> {
    let Some(&(start, open)) = rest.peek() else { return Ok(None) };
    let Some(&(_, close)) = BRACKETS.iter().find(|b| b.0 == open) else { return Ok(None) };
    rest.next();
    let (mut value, mut depth) = (String::new(), 1usize);
    while let Some((_, c)) = rest.next() {
        if c == '\\' && open == close {
            match rest.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => break,
            }
            continue;
        }
        if c == close {
            depth -= 1;
            if depth == 0 {
                return Ok(Some(value));
            }
        } else if c == open {
            depth += 1;
        }
        value.push(c);
    }
    let shown: String = line[start..].chars().take(40).collect();
    Err(format!("a value that begins with {open} does not end: {shown:?}"))
}
