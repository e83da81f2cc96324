//! The columns of a frame's rows: what `Properties` promises, and the words it is made of.

use shards::element;

/// What is kept of a column beside species and positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name in `Properties`.
    pub name: String,
    /// Values an atom.
    pub width: usize,
    /// Its values, atom after atom.
    pub values: Values,
}

/// Values of one of the four types of extxyz.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// `R`.
    Real(Vec<f64>),
    /// `I`.
    Integer(Vec<i64>),
    /// `L`.
    Logical(Vec<bool>),
    /// `S`.
    Text(Vec<String>),
}

impl Values {
    /// Reads one word more.
    pub(super) fn push(&mut self, word: &str, name: &str) -> Result<(), String> {
        let wrong = |what: &str| format!("`{name}`: expected {what}, found {word:?}");
        match self {
            Self::Real(values) => values.push(real(word).map_err(|_| wrong("a number"))?),
            Self::Integer(values) => values.push(word.parse().map_err(|_| wrong("a whole number"))?),
            Self::Logical(values) => values.push(logical(word).ok_or_else(|| wrong("T or F"))?),
            Self::Text(values) => values.push(word.to_owned()),
        }
        Ok(())
    }

    /// The values as numbers, unless they are text.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        match self {
            Self::Real(values) => Some(values.clone()),
            Self::Integer(values) => Some(values.iter().map(|&v| v as f64).collect()),
            Self::Logical(values) => Some(values.iter().map(|&v| f64::from(u8::from(v))).collect()),
            Self::Text(_) => None,
        }
    }
}

/// `T`, `F`, `True`, `False` and what is like them.
pub(super) fn logical(word: &str) -> Option<bool> {
    match word {
        "T" | "True" | "true" | "TRUE" | "1" | ".true." | ".TRUE." => Some(true),
        "F" | "False" | "false" | "FALSE" | "0" | ".false." | ".FALSE." => Some(false),
        _ => None,
    }
}

/// A real number; Fortran writes the exponent with `d`.
pub(super) fn real(word: &str) -> Result<f64, String> {
    let wrong = || format!("expected a number, found {word:?}");
    if let Ok(value) = word.parse() {
        return Ok(value);
    }
    let point = word.find(['d', 'D']).ok_or_else(wrong)?;
    let (mantissa, exponent) = (&word[..point], &word[point + 1..]);
    format!("{mantissa}e{exponent}").parse().map_err(|_| wrong())
}

/// The element of a symbol such as `Fe`, `FE` or a label such as `C12`; a number stands for itself.
pub(super) fn element(word: &str) -> Result<u8, String> {
    if let Some(z) = element::atomic_number(word) {
        return Ok(z);
    }
    if word.bytes().all(|b| b.is_ascii_digit()) {
        return atomic_number(word);
    }
    let letters: String = word.chars().take_while(char::is_ascii_alphabetic).collect();
    let mut symbol = letters.to_ascii_lowercase();
    if let Some(first) = symbol.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    match (element::atomic_number(&symbol), symbol.as_str()) {
        (Some(z), _) => Ok(z),
        (None, "D" | "T") => Ok(1),
        _ => Err(format!("expected an element's symbol, found {word:?}")),
    }
}

pub(super) fn atomic_number(word: &str) -> Result<u8, String> {
    let z: Option<u8> = word.parse().ok().filter(|z| (1..=element::MAX_ATOMIC_NUMBER).contains(z));
    z.ok_or_else(|| format!("expected an atomic number from 1 to 118, found {word:?}"))
}

/// What a field of the row is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Species,
    AtomicNumber,
    Position,
    Column(usize),
    Skip,
}

/// A run of words of a row.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) kind: Kind,
    pub(super) width: usize,
}

/// Which columns are kept beside species and positions.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Those of these names.
    Named(Vec<String>),
    All,
}

impl Wanted {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|n| n == name),
            Self::All => true,
        }
    }
}

/// How the rows of a frame are read.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) fields: Vec<Field>,
    /// Words of a row.
    pub(super) width: usize,
    /// Whether a row may not be longer; plain XYZ often carries more.
    pub(super) exact: bool,
    /// The text it was made from.
    pub(super) text: String,
    kept: Vec<(String, usize, char)>,
}

/// What rows hold that no `Properties` describes.
const PLAIN: &str = "species:S:1:pos:R:3";
/// A row has fewer words than this.
const MOST_COLUMNS: usize = 10_000;

impl Plan {
    pub(super) fn new(properties: &str, wanted: &Wanted) -> Result<Self, String> {
        let exact = !properties.is_empty();
        let text = if exact { properties } else { PLAIN };
        let parts: Vec<&str> = text.split(':').collect();
        if !parts.len().is_multiple_of(3) {
            return Err(format!("expected Properties=name:type:columns:…, found {text:?}"));
        }
        let mut plan = Self { fields: vec![], width: 0, exact, text: text.to_owned(), kept: vec![] };
        for part in parts.chunks_exact(3) {
            plan.add(part[0], part[1], part[2], wanted)?;
        }
        let has = |kind| plan.fields.iter().any(|f| f.kind == kind);
        if !has(Kind::Position) || !(has(Kind::Species) || has(Kind::AtomicNumber)) {
            return Err(format!("expected species (or Z) and pos in Properties, found {text:?}"));
        }
        Ok(plan)
    }

    fn add(&mut self, name: &str, kind: &str, width: &str, wanted: &Wanted) -> Result<(), String> {
        let columns: Option<usize> = width.parse().ok().filter(|n| (1..MOST_COLUMNS).contains(n));
        let width = columns.ok_or_else(|| format!("Properties: `{name}` has {width:?} columns"))?;
        let read = match (name, kind, width) {
            ("species" | "symbols" | "element", "S", 1) => Kind::Species,
            ("Z" | "numbers" | "atomic_numbers", "I", 1) => Kind::AtomicNumber,
            ("pos" | "positions", "R", 3) => Kind::Position,
            (_, "R" | "I" | "L" | "S", _) if wanted.has(name) => {
                self.kept.push((name.to_owned(), width, kind.chars().next().unwrap_or('S')));
                Kind::Column(self.kept.len() - 1)
            }
            (_, "R" | "I" | "L" | "S", _) => Kind::Skip,
            _ => return Err(format!("Properties: `{name}` has type {kind:?}; known are S, R, I and L")),
        };
        let repeated = read != Kind::Skip && self.fields.iter().any(|f| f.kind == read);
        self.width += width;
        if repeated || self.width > MOST_COLUMNS {
            return Err(format!(
                "Properties: `{name}` comes twice, or there are more than {MOST_COLUMNS} columns"
            ));
        }
        self.fields.push(Field { kind: read, width });
        Ok(())
    }

    pub(super) fn empty_columns(&self) -> Vec<Column> {
        let values = |kind| match kind {
            'R' => Values::Real(vec![]),
            'I' => Values::Integer(vec![]),
            'L' => Values::Logical(vec![]),
            _ => Values::Text(vec![]),
        };
        let column = |(name, width, kind): &(String, usize, char)| Column {
            name: name.clone(),
            width: *width,
            values: values(*kind),
        };
        self.kept.iter().map(column).collect()
    }
}
