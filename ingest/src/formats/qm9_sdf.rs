//! QM9 as MoleculeNet has it: `gdb9.sdf` and, molecule by molecule in the same order, `gdb9.sdf.csv`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use shards::Floats;
use shards::element::atomic_number;

use super::qm9::{MOST_MOLECULES, Molecule};
use super::qm9_targets::{COLUMNS, PROPERTIES, convert};
use crate::error::{IngestError, input_error, io_error};
use crate::lines::Lines;

/// Atoms that a block of this version can count, with three digits.
const MOST_ATOMS: usize = 999;

/// The table that belongs to an sdf file.
pub(super) fn table_beside(sdf: &Path) -> PathBuf {
    let mut name = sdf.as_os_str().to_owned();
    name.push(".csv");
    PathBuf::from(name)
}

/// Reads all molecules.
pub(super) fn read(sdf: &Path) -> Result<Vec<Molecule>, IngestError> {
    let table = table_beside(sdf);
    let mut rows = Table::open(&table)?;
    let mut blocks = Text::open(sdf)?;
    let mut molecules = Vec::new();
    while let Some((name, atomic_numbers, positions)) = block(&mut blocks)? {
        if molecules.len() == MOST_MOLECULES {
            return Err(blocks.error(&format!("more than {MOST_MOLECULES} molecules: this is not QM9")));
        }
        let Some((id, values)) = rows.next()? else {
            return Err(blocks.error(&format!("molecule {name} has no row in {}", table.display())));
        };
        if id != name {
            let problem = format!("{} has {id} where {} has {name}", table.display(), sdf.display());
            return Err(rows.text.error(&format!("{problem}: the two do not belong together")));
        }
        let number = id.strip_prefix("gdb_").and_then(|n| n.parse().ok());
        let Some(id) = number else {
            return Err(blocks.error(&format!("expected a name like gdb_1, found {name:?}")));
        };
        let targets = convert(&values);
        molecules.push(Molecule { id, atomic_numbers, positions: Floats::F32(positions), targets });
    }
    if let Some((id, _)) = rows.next()? {
        return Err(rows.text.error(&format!("{id} has no molecule in {}: it is truncated", sdf.display())));
    }
    Ok(molecules)
}

/// Lines of a file that say where they stand when something is wrong.
struct Text {
    path: PathBuf,
    lines: Lines<BufReader<File>>,
}

impl Text {
    fn open(path: &Path) -> Result<Self, IngestError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let lines = Lines::new(BufReader::with_capacity(1 << 20, file), 0, 1);
        Ok(Self { path: path.to_path_buf(), lines })
    }

    fn line(&mut self) -> Result<Option<&str>, IngestError> {
        let at = self.lines.number() + 1;
        let line = self.lines.advance().map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => input_error(&self.path, e.to_string()),
            _ => io_error("read", &self.path)(e),
        })?;
        let text =
            |l| std::str::from_utf8(l).map_err(|_| input_error(&self.path, format!("line {at}: no text")));
        line.map(text).transpose()
    }

    fn error(&self, problem: &str) -> IngestError {
        input_error(&self.path, format!("line {}: {problem}", self.lines.number()))
    }
}

/// Shows a line that is wrong, whatever its length.
fn shown(line: &str) -> String {
    format!("{:?}", line.chars().take(60).collect::<String>())
}

type Block = (String, Vec<u8>, Vec<f32>);

/// One V2000 block up to its `$$$$`. Columns are fixed and may touch; bonds and properties are passed over.
fn block(text: &mut Text) -> Result<Option<Block>, IngestError> {
    let name = match text.line()? {
        None => return Ok(None),
        Some(line) => line.trim().to_owned(),
    };
    let cut = |text: &Text| text.error("the file ends inside a molecule: it is truncated");
    for _ in 0..2 {
        if text.line()?.is_none() {
            return Err(cut(text));
        }
    }
    let Some(counts) = text.line()?.map(str::to_owned) else { return Err(cut(text)) };
    let atoms = counts.get(..3).and_then(|n| n.trim().parse::<usize>().ok());
    let Some(atoms) = atoms.filter(|&n| n > 0 && n <= MOST_ATOMS && !counts.contains("V3000")) else {
        let problem = format!("expected the number of atoms of a V2000 block, found {}", shown(&counts));
        return Err(text.error(&problem));
    };
    let (mut numbers, mut positions) = (Vec::with_capacity(atoms), Vec::with_capacity(3 * atoms));
    for row in 0..atoms {
        let Some(line) = text.line()? else { return Err(cut(text)) };
        let Some((z, xyz)) = atom(line) else {
            let problem =
                format!("atom {}: expected three coordinates and a symbol, found {}", row + 1, shown(line));
            return Err(text.error(&problem));
        };
        numbers.push(z);
        positions.extend(xyz);
    }
    loop {
        match text.line()? {
            None => return Err(cut(text)),
            Some(line) if line.starts_with("$$$$") => return Ok(Some((name, numbers, positions))),
            Some(_) => {}
        }
    }
}

fn atom(line: &str) -> Option<(u8, [f32; 3])> {
    let real = |at: usize| line.get(at..at + 10)?.trim().parse::<f32>().ok();
    let symbol = line.get(30..34.min(line.len()))?.trim();
    Some((atomic_number(symbol)?, [real(0)?, real(10)?, real(20)?]))
}

/// The rows of the table.
struct Table {
    text: Text,
    /// Place of the id and of each of [`COLUMNS`] in a row.
    id: usize,
    places: [usize; PROPERTIES],
    width: usize,
}

impl Table {
    fn open(path: &Path) -> Result<Self, IngestError> {
        let mut text = Text::open(path)?;
        let header: Vec<String> =
            text.line()?.unwrap_or_default().split(',').map(|c| c.trim().to_owned()).collect();
        let place = |name: &str| {
            header.iter().position(|c| c == name).ok_or_else(|| IngestError::Missing {
                path: path.to_path_buf(),
                place: "its first line".to_owned(),
                key: name.to_owned(),
                known: header.iter().map(|c| c.chars().take(40).collect()).take(40).collect(),
            })
        };
        let id = place("mol_id")?;
        let mut places = [0; PROPERTIES];
        for (slot, name) in places.iter_mut().zip(COLUMNS) {
            *slot = place(name)?;
        }
        Ok(Self { text, id, places, width: header.len() })
    }

    fn next(&mut self) -> Result<Option<(String, [f64; PROPERTIES])>, IngestError> {
        let (id, places, width) = (self.id, self.places, self.width);
        let Some(line) = self.text.line()?.filter(|l| !l.trim().is_empty()) else { return Ok(None) };
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        if fields.len() != width {
            let problem = format!("expected {width} fields, found {}", shown(line));
            return Err(self.text.error(&problem));
        }
        let mut values = [0.0; PROPERTIES];
        for (k, place) in places.into_iter().enumerate() {
            let Ok(value) = fields[place].parse() else {
                let problem = format!("`{}`: expected a number, found {}", COLUMNS[k], shown(fields[place]));
                return Err(self.text.error(&problem));
            };
            values[k] = value;
        }
        Ok(Some((fields[id].to_owned(), values)))
    }
}

/// Bounds what is read of a list.
const LONGEST_LIST: u64 = 16 << 20;
/// Lines before the first id of `uncharacterized.txt`.
const LIST_HEADER: usize = 9;

/// The ids of `uncharacterized.txt`: after nine lines, the first word of each but the last.
pub(super) fn read_list(path: &Path) -> Result<Vec<u32>, IngestError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let mut lines = Lines::new(BufReader::new(std::io::Read::take(file, LONGEST_LIST)), 0, 1);
    let mut rows: Vec<(u64, String)> = Vec::new();
    loop {
        let number = lines.number() + 1;
        match lines.advance().map_err(io_error("read", path))? {
            None => break,
            Some(line) if line.iter().all(u8::is_ascii_whitespace) && number > LIST_HEADER as u64 => {}
            Some(line) => rows.push((number, String::from_utf8_lossy(line).into_owned())),
        }
    }
    // The last line says how many there are.
    rows.pop();
    let rows = rows.get(LIST_HEADER..).unwrap_or_default();
    if rows.is_empty() {
        let problem = "expected nine lines of header, the ids of molecules, and a last line that counts them";
        return Err(input_error(path, problem));
    }
    let id = |(number, line): &(u64, String)| {
        let first = line.split_ascii_whitespace().next().and_then(|w| w.parse().ok());
        first.filter(|&id: &u32| id > 0).ok_or_else(|| {
            input_error(
                path,
                format!("line {number}: expected the number of a molecule, found {}", shown(line)),
            )
        })
    };
    rows.iter().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_atoms_may_touch() {
        let line = "-1234.5678  123.4567-9999.0001Cl  0  0";
        assert_eq!(atom(line), Some((17, [-1234.5678, 123.4567, -9999.0001])));
        assert_eq!(atom("    0.0000    1.0000    2.0000 C"), Some((6, [0.0, 1.0, 2.0])));
        assert_eq!(atom("    0.0000    1.0000    2.0000"), None);
        assert_eq!(atom("    0.0000    1.0000    2.0000 é"), None);
    }
}
