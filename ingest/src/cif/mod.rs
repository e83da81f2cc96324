//! Crystallographic information files, as far as structures of simulations need them: one data block, cell, symmetry
//! operations, sites in fractional coordinates. (Hall, Allen, Brown, Acta Cryst. A47, 655 (1991); CIF 1.1.)

mod symmetry;
mod tokens;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::crystal::{Crystal, CrystalFault, atomic_number, cartesian, reduced_formula};
use symmetry::{Operation, images};
use tokens::{Token, Tokens};

/// Bytes of a file; 65,535 sites with thirty columns have 20 MB.
pub const MAX_BYTES: u64 = 32 << 20;
/// A space group has at most 192 operations in a conventional cell.
const MAX_OPERATIONS: usize = 192;
/// Atoms that the shards can hold.
const MAX_ATOMS: usize = 65_535;

/// Why a file is no structure.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct CifError {
    line: usize,
    problem: String,
}

impl CifError {
    fn new(line: usize, problem: impl Into<String>) -> Self {
        Self { line, problem: problem.into() }
    }
}

impl From<CifError> for CrystalFault {
    fn from(error: CifError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The structure of a file's only data block that has sites.
///
/// # Errors
/// When the file is no CIF, has none or several such blocks, or describes no structure of whole atoms.
pub fn parse(text: &[u8]) -> Result<Crystal, CrystalFault> {
    let text = std::str::from_utf8(text)
        .map_err(|e| CrystalFault::Malformed(format!("byte {}: no text in UTF-8", e.valid_up_to())))?;
    let mut blocks = blocks(text)?;
    blocks.retain(|b| b.column("_atom_site_fract_x").is_some());
    match blocks.as_slice() {
        [only] => only.crystal(),
        [] => Err(CrystalFault::Malformed("no data block has `_atom_site_fract_x`".to_owned())),
        [_, second, ..] => {
            Err(CifError::new(second.line, "a second data block with sites; expected one structure").into())
        }
    }
}

/// A data block: single values, and loops column by column.
struct Block<'t> {
    line: usize,
    /// Tag in lower case → its values and the line of the first.
    columns: BTreeMap<String, (Vec<Value<'t>>, usize)>,
}

#[derive(Debug, Clone, Copy)]
struct Value<'t> {
    text: &'t str,
    line: usize,
    /// `.` and `?`.
    absent: bool,
}

fn blocks(text: &str) -> Result<Vec<Block<'_>>, CifError> {
    let mut tokens = Tokens::new(text);
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut pending = tokens.next()?;
    while let Some((token, line)) = pending.take() {
        if let Token::Data(_) = token {
            blocks.push(Block { line, columns: BTreeMap::new() });
            pending = tokens.next()?;
            continue;
        }
        let Some(block) = blocks.last_mut() else {
            return Err(CifError::new(line, "expected `data_…` at the start of a CIF"));
        };
        match token {
            Token::Tag(tag) => {
                let Some((Token::Value { text, quoted }, line)) = tokens.next()? else {
                    return Err(CifError::new(line, format!("`{tag}` has no value")));
                };
                block.add(tag, line, vec![Value::new(text, quoted, line)])?;
                pending = tokens.next()?;
            }
            Token::Loop => pending = read_loop(&mut tokens, block, line)?,
            Token::Value { text, .. } => {
                return Err(CifError::new(
                    line,
                    format!("expected a tag, found the value `{}`", short(text)),
                ));
            }
            Token::Data(_) => {}
        }
    }
    Ok(blocks)
}

type Next<'t> = Option<(Token<'t>, usize)>;

/// Reads tags and rows of a loop; what follows it is handed back.
fn read_loop<'t>(tokens: &mut Tokens<'t>, block: &mut Block<'t>, start: usize) -> Result<Next<'t>, CifError> {
    let mut tags: Vec<&str> = Vec::new();
    let mut next = tokens.next()?;
    while let Some((Token::Tag(tag), _)) = next {
        tags.push(tag);
        next = tokens.next()?;
    }
    if tags.is_empty() {
        return Err(CifError::new(start, "`loop_` without tags"));
    }
    let mut columns: Vec<Vec<Value<'t>>> = vec![Vec::new(); tags.len()];
    let mut count = 0;
    while let Some((Token::Value { text, quoted }, line)) = next {
        columns[count % tags.len()].push(Value::new(text, quoted, line));
        count += 1;
        next = tokens.next()?;
    }
    if count % tags.len() != 0 {
        let problem = format!(
            "the loop has {} tags but {count} values: its last row is incomplete, the file may be truncated",
            tags.len()
        );
        return Err(CifError::new(start, problem));
    }
    for (tag, values) in tags.into_iter().zip(columns) {
        block.add(tag, start, values)?;
    }
    Ok(next)
}

impl<'t> Value<'t> {
    fn new(text: &'t str, quoted: bool, line: usize) -> Self {
        Self { text, line, absent: !quoted && matches!(text, "." | "?") }
    }

    /// A number; the uncertainty of `1.234(5)` is passed over.
    fn number(&self, tag: &str) -> Result<f64, CifError> {
        let plain = match self.text.split_once('(') {
            Some((number, rest)) if rest.strip_suffix(')').is_some_and(is_digits) => number,
            _ => self.text,
        };
        let finite = |value: &f64| value.is_finite() && !plain.is_empty();
        plain.parse::<f64>().ok().filter(finite).ok_or_else(|| {
            CifError::new(self.line, format!("`{tag}`: expected a number, found `{}`", short(self.text)))
        })
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The beginning of what may be long.
fn short(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", text[..end].escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

impl<'t> Block<'t> {
    fn add(&mut self, tag: &str, line: usize, values: Vec<Value<'t>>) -> Result<(), CifError> {
        match self.columns.insert(tag.to_ascii_lowercase(), (values, line)) {
            None => Ok(()),
            Some(_) => Err(CifError::new(line, format!("`{tag}` is given twice"))),
        }
    }

    fn column(&self, tag: &str) -> Option<&[Value<'t>]> {
        self.columns.get(tag).map(|(values, _)| values.as_slice())
    }

    fn single(&self, tag: &str) -> Option<&Value<'t>> {
        self.column(tag).and_then(<[_]>::first).filter(|v| !v.absent)
    }

    fn missing(&self, tag: &str) -> CifError {
        CifError::new(self.line, format!("the data block has no `{tag}`"))
    }

    fn crystal(&self) -> Result<Crystal, CrystalFault> {
        let cell = self.cell()?;
        if let Some(volume) = self.single("_cell_volume") {
            Crystal::check_volume(&cell, volume.number("_cell_volume")?)?;
        }
        let operations = self.operations()?;
        let fractions = self.fractions()?;
        self.check_occupancy(fractions.len())?;
        let symbols = self.symbols(fractions.len())?;
        let (mut atomic_numbers, mut positions) = (Vec::new(), Vec::new());
        for (site, (fraction, symbol)) in fractions.into_iter().zip(symbols).enumerate() {
            let z = atomic_number(site, &symbol)?;
            for image in images(&cell, &operations, fraction) {
                atomic_numbers.push(z);
                positions.extend(cartesian(&cell, image));
            }
            if atomic_numbers.len() > MAX_ATOMS {
                return Err(CrystalFault::Malformed(format!("more than {MAX_ATOMS} atoms")));
            }
        }
        self.check_formula(&atomic_numbers)?;
        Ok(Crystal { atomic_numbers, positions, cell, pbc: [true; 3], charge: None })
    }

    /// `a` along x, `b` in the xy plane.
    fn cell(&self) -> Result<[f64; 9], CifError> {
        let number = |tag: &str| {
            let value = self.single(tag).ok_or_else(|| self.missing(tag))?;
            let number = value.number(tag)?;
            let limit = if tag.contains("angle") { 180.0 } else { 1e6 };
            if number > 0.0 && number < limit {
                return Ok(number);
            }
            Err(CifError::new(
                value.line,
                format!("`{tag}`: expected more than 0 and less than {limit}, found {number}"),
            ))
        };
        let [a, b, c] = [number("_cell_length_a")?, number("_cell_length_b")?, number("_cell_length_c")?];
        let [alpha, beta, gamma] =
            [number("_cell_angle_alpha")?, number("_cell_angle_beta")?, number("_cell_angle_gamma")?];
        let [ca, cb, cg] = [cosine(alpha), cosine(beta), cosine(gamma)];
        let sg = (1.0 - cg * cg).sqrt();
        let cy = (ca - cb * cg) / sg;
        let rest = 1.0 - cb * cb - cy * cy;
        if rest.is_nan() || rest <= 1e-12 {
            let problem = format!("angles {alpha}, {beta} and {gamma} span no volume");
            return Err(CifError::new(self.line, problem));
        }
        Ok([a, 0.0, 0.0, b * cg, b * sg, 0.0, c * cb, c * cy, c * rest.sqrt()])
    }

    fn operations(&self) -> Result<Vec<Operation>, CifError> {
        let tags = ["_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz"];
        let Some(given) = tags.iter().find_map(|tag| self.column(tag)) else {
            return self.without_operations();
        };
        if given.is_empty() || given.len() > MAX_OPERATIONS {
            let problem = format!("{} symmetry operations; expected 1 to {MAX_OPERATIONS}", given.len());
            return Err(CifError::new(self.line, problem));
        }
        let parse = |value: &Value<'_>| {
            Operation::parse(value.text).ok_or_else(|| {
                let problem =
                    format!("`{}` is no symmetry operation such as `-x+1/2, y, z`", short(value.text));
                CifError::new(value.line, problem)
            })
        };
        given.iter().map(parse).collect()
    }

    /// A space group other than P1 whose operations are not listed cannot be expanded.
    fn without_operations(&self) -> Result<Vec<Operation>, CifError> {
        let numbers = ["_symmetry_int_tables_number", "_space_group_it_number"];
        let names = ["_symmetry_space_group_name_h-m", "_space_group_name_h-m_alt"];
        let squeezed = |v: &Value<'_>| v.text.replace([' ', '_'], "");
        let number = numbers.iter().find_map(|tag| self.single(tag)).filter(|v| v.text != "1");
        let name =
            names.iter().find_map(|tag| self.single(tag)).filter(|v| !squeezed(v).eq_ignore_ascii_case("p1"));
        match number.or(name) {
            None => Ok(vec![Operation::identity()]),
            Some(group) => {
                let problem = format!(
                    "space group {} without its symmetry operations; write the CIF in P1 or with them",
                    short(group.text)
                );
                Err(CifError::new(group.line, problem))
            }
        }
    }

    fn fractions(&self) -> Result<Vec<[f64; 3]>, CifError> {
        let tags = ["_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z"];
        let mut columns = [&[] as &[Value<'_>]; 3];
        for (column, tag) in columns.iter_mut().zip(tags) {
            *column = self.column(tag).ok_or_else(|| self.missing(tag))?;
        }
        let [x, y, z] = columns;
        if x.len() != y.len() || y.len() != z.len() {
            return Err(CifError::new(self.line, "the three columns of coordinates have different lengths"));
        }
        let site = |k: usize| Ok([x[k].number(tags[0])?, y[k].number(tags[1])?, z[k].number(tags[2])?]);
        (0..x.len()).map(site).collect()
    }

    fn symbols(&self, sites: usize) -> Result<Vec<String>, CifError> {
        let tags = ["_atom_site_type_symbol", "_atom_site_label"];
        let Some((tag, given)) = tags.iter().find_map(|tag| Some((tag, self.column(tag)?))) else {
            return Err(self.missing(tags[0]));
        };
        if given.len() != sites {
            let problem = format!("`{tag}`: {} values for {sites} sites", given.len());
            return Err(CifError::new(self.line, problem));
        }
        let label = *tag == tags[1];
        Ok(given.iter().map(|value| symbol(value.text, label)).collect())
    }

    fn check_occupancy(&self, sites: usize) -> Result<(), CrystalFault> {
        let tag = "_atom_site_occupancy";
        let Some(given) = self.column(tag) else { return Ok(()) };
        if given.len() != sites {
            return Err(CifError::new(
                self.line,
                format!("`{tag}`: {} values for {sites} sites", given.len()),
            )
            .into());
        }
        for (site, value) in given.iter().enumerate().filter(|(_, v)| !v.absent) {
            let occupancy = value.number(tag)?;
            if occupancy != 1.0 {
                return Err(CrystalFault::Disordered { site, occupation: format!("occupancy {occupancy}") });
            }
        }
        Ok(())
    }

    /// A stated formula has the sites' composition: a file cut at the end of a line shows here.
    fn check_formula(&self, atomic_numbers: &[u8]) -> Result<(), CrystalFault> {
        let tag = "_chemical_formula_sum";
        let Some(stated) = self.single(tag) else { return Ok(()) };
        let Some(formula) = counts(stated.text) else { return Ok(()) };
        let found = reduced_formula(atomic_numbers);
        if reduced_formula(&formula) == found {
            return Ok(());
        }
        let stated = short(stated.text);
        Err(CrystalFault::Contradiction { what: format!("`{tag}`"), stated, found })
    }
}

/// Right angles are exact.
fn cosine(degrees: f64) -> f64 {
    if degrees == 90.0 { 0.0 } else { degrees.to_radians().cos() }
}

/// The element of a type symbol (`Fe3+` → `Fe`), or of a label, whose letters may be more than it: `CL12` → `Cl`, `O1W` and
/// `Ow` → `O`. What is none comes back as it is, to be refused.
fn symbol(text: &str, label: bool) -> String {
    let letters: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
    let cased = |length: usize| {
        let mut cased = letters.get(..length)?.to_ascii_lowercase();
        cased.get_mut(..1)?.make_ascii_uppercase();
        (cased == "D" || shards::element::atomic_number(&cased).is_some()).then_some(cased)
    };
    let whole = if letters.len() <= 2 { cased(letters.len()) } else { None };
    let part = if label { cased(2).or_else(|| cased(1)) } else { None };
    whole.or(part).unwrap_or_else(|| short(text))
}

/// `'Cd2 H16 C'` → atoms, if all counts are whole and few.
fn counts(formula: &str) -> Option<Vec<u8>> {
    let mut atoms = Vec::new();
    for part in formula.split_whitespace() {
        let digits = part.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(part.len());
        let (symbol, count) = part.split_at(digits);
        let count: usize = if count.is_empty() { 1 } else { count.parse().ok()? };
        if count > MAX_ATOMS - atoms.len() {
            return None;
        }
        atoms.extend(std::iter::repeat_n(atomic_number(0, symbol).ok()?, count));
    }
    Some(atoms)
}

#[cfg(test)]
mod tests;
