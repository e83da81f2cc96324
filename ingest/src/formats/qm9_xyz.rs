//! QM9 as deposited: `dsgdb9nsd_NNNNNN.xyz` in a directory or in the tar.bz2.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use shards::Floats;
use shards::element::atomic_number;

use super::qm9::{MOST_MOLECULES, Molecule};
use super::qm9_targets::{atomise, convert};
use crate::bzip2::Decoder;
use crate::error::{IngestError, input_error, io_error};
use crate::input::sorted_dir;
use crate::tar::Tar;

/// Bytes of one molecule's file; the largest has under 4 kB.
const LONGEST_FILE: u64 = 64 << 10;
/// Bytes that an archive unpacks to; QM9's some 300 million. What is packed to be longer ends as a truncated one.
const LARGEST_ARCHIVE: u64 = 4 << 30;
/// Numbers of the second line: the table's columns without the atomisation energies.
const VALUES: usize = 15;
/// Atoms of a molecule; QM9 has at most 29.
const MOST_ATOMS: usize = 500;

/// The molecules' files of a directory, sorted.
pub(super) fn files_of(dir: &Path) -> Result<Vec<PathBuf>, IngestError> {
    let named = |p: &PathBuf| p.file_name().and_then(|n| n.to_str()).is_some_and(is_molecule);
    Ok(sorted_dir(dir)?.into_iter().filter(named).collect())
}

/// Whether a file, or member of an archive, is named like one molecule's.
pub(super) fn is_molecule(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or_default();
    name.strip_prefix("dsgdb9nsd_").and_then(|n| n.strip_suffix(".xyz")).is_some()
}

/// Reads the files of a directory, or one file, in the order of their ids.
pub(super) fn read_files(files: &[PathBuf]) -> Result<Vec<Molecule>, IngestError> {
    let read = |path: &PathBuf| {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(io_error("open", path))?;
        file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
        molecule(&bytes).map_err(|problem| input_error(path, problem))
    };
    if let Some(first) = files.get(MOST_MOLECULES) {
        return Err(input_error(first, format!("is one file too many: QM9 has fewer than {MOST_MOLECULES}")));
    }
    let molecules = files.iter().map(read).collect::<Result<_, _>>()?;
    in_order(molecules, &files[0])
}

/// Reads `dsgdb9nsd.xyz.tar.bz2`, or the tar in it, in the order of the ids.
pub(super) fn read_archive(path: &Path) -> Result<Vec<Molecule>, IngestError> {
    let mut file = File::open(path).map_err(io_error("open", path))?;
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start).map_err(io_error("read", path))?;
    let whole = std::io::Cursor::new(start.clone()).chain(file);
    let stream: Box<dyn Read> =
        if crate::bzip2::is_bzip2(&start) { Box::new(Decoder::new(whole)) } else { Box::new(whole) };
    let mut tar = Tar::new(std::io::BufReader::with_capacity(1 << 16, stream.take(LARGEST_ARCHIVE)));
    let damaged = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
            input_error(path, e.to_string())
        }
        _ => io_error("read", path)(e),
    };
    let mut molecules = Vec::new();
    while let Some(member) = tar.advance().map_err(damaged)? {
        if !is_molecule(&member.name) {
            continue;
        }
        if molecules.len() == MOST_MOLECULES {
            return Err(input_error(path, format!("more than {MOST_MOLECULES} molecules: this is not QM9")));
        }
        let name: String = member.name.chars().take(80).collect();
        let wrong = |problem: String| input_error(path, format!("member {name}: {problem}"));
        let bytes = tar.content(LONGEST_FILE).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => wrong(e.to_string()),
            _ => damaged(e),
        })?;
        molecules.push(molecule(&bytes).map_err(wrong)?);
    }
    if molecules.is_empty() {
        return Err(input_error(path, "no member named dsgdb9nsd_*.xyz in this archive"));
    }
    in_order(molecules, path)
}

fn in_order(mut molecules: Vec<Molecule>, path: &Path) -> Result<Vec<Molecule>, IngestError> {
    molecules.sort_by_key(|m| m.id);
    match molecules.windows(2).find(|pair| pair[0].id == pair[1].id) {
        Some(pair) => Err(input_error(path, format!("molecule {} is there twice", pair[0].id))),
        None => Ok(molecules),
    }
}

/// A number as these files have it: `0.`, ` 0.00215`, `6.1000*^-6`.
fn number(word: &str) -> Option<f64> {
    match word.split_once("*^") {
        None => word.parse().ok(),
        Some((digits, exponent)) => format!("{digits}e{exponent}").parse().ok(),
    }
}

/// Reads one molecule's file; frequencies, SMILES and InChI after the atoms are passed over.
fn molecule(bytes: &[u8]) -> Result<Molecule, String> {
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(format!("more than {LONGEST_FILE} bytes; no molecule of QM9 has so many"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "not a text".to_owned())?;
    let mut lines = text.lines();
    let atoms = lines.next().and_then(|l| l.trim().parse::<usize>().ok());
    let atoms = atoms
        .filter(|n| (1..=MOST_ATOMS).contains(n))
        .ok_or_else(|| format!("line 1: expected a number of atoms up to {MOST_ATOMS}"))?;
    let (id, row) = properties(lines.next().unwrap_or_default())?;
    let (mut atomic_numbers, mut positions) = (Vec::with_capacity(atoms), Vec::with_capacity(3 * atoms));
    for at in 0..atoms {
        let line = lines.next().ok_or_else(|| format!("the file ends after {at} of its {atoms} atoms"))?;
        let (z, xyz) = atom(line).ok_or_else(|| {
            let found: String = line.chars().take(60).collect();
            format!("line {}: expected a symbol, three coordinates and a charge, found {found:?}", at + 3)
        })?;
        atomic_numbers.push(z);
        positions.extend(xyz);
    }
    let mut targets = convert(&row);
    atomise(&mut targets, &atomic_numbers);
    Ok(Molecule { id, atomic_numbers, positions: Floats::F64(positions), targets })
}

/// `gdb 1`, then fifteen numbers.
fn properties(line: &str) -> Result<(u32, [f64; VALUES]), String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let found: String = line.chars().take(60).collect();
    let wrong = || format!("line 2: expected `gdb`, a number and {VALUES} properties, found {found:?}");
    let id = words.get(1).and_then(|w| w.parse().ok()).ok_or_else(wrong)?;
    if words.len() != VALUES + 2 || !words[0].starts_with("gdb") {
        return Err(wrong());
    }
    let mut row = [0.0; VALUES];
    for (value, word) in row.iter_mut().zip(&words[2..]) {
        *value = number(word).ok_or_else(|| format!("line 2: expected a number, found {word:?}"))?;
    }
    Ok((id, row))
}

fn atom(line: &str) -> Option<(u8, [f64; 3])> {
    let mut words = line.split_ascii_whitespace();
    let z = atomic_number(words.next()?)?;
    let xyz = [number(words.next()?)?, number(words.next()?)?, number(words.next()?)?];
    // The Mulliken charge.
    number(words.next()?)?;
    words.next().is_none().then_some((z, xyz))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_the_manner_of_mathematica() {
        assert_eq!(number("6.1000*^-6"), Some(6.1e-6));
        assert_eq!(number("-1.*^2"), Some(-100.0));
        assert_eq!((number("0."), number("-0.0126981359")), (Some(0.0), Some(-0.012_698_135_9)));
        assert_eq!((number("6.1*^"), number("*^3"), number("C")), (None, None, None));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let second = "gdb 1\t157.7118\t157.70997\t157.70699\t0.\t13.21\t-0.3877\t0.1171\t0.5048\t35.3641\t0.044749\t-40.47893\t\
                      -40.476062\t-40.475117\t-40.498597\t6.469\t";
        let whole = format!("1\n{second}\nC\t0.\t6.1000*^-6\t-1.5\t0.1\n1341.307\nC\tC\n");
        let read = molecule(whole.as_bytes()).unwrap();
        assert_eq!((read.id, read.atomic_numbers), (1, vec![6]));
        assert_eq!(read.positions, Floats::F64(vec![0.0, 6.1e-6, -1.5]));
        let told = |text: &str, why: &str| {
            let error = molecule(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        told("", "line 1: expected a number of atoms");
        told("99999999999999999999\n", "line 1");
        told("1\ngdb 1 2 3\n", "line 2: expected `gdb`");
        told(&whole.replace("13.21", "x"), "line 2: expected a number, found \"x\"");
        told(&whole.replace("-1.5", "x"), "line 3: expected a symbol");
        told(&whole.replace("1\ngdb", "2\ngdb"), "line 4: expected a symbol");
        told(&format!("5\n{second}\n"), "ends after 0 of its 5 atoms");
        told(&"x".repeat(70_000), "more than 65536 bytes");
    }
}
