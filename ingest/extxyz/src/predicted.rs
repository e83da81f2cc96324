//! A frame with the results of a model, as ASE's calculators leave it.

use std::io::{self, Write};

use shards::element::symbol;

use crate::write::{flag, key};
use crate::{Column, Frame, Values};

/// Results of one frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Predicted {
    /// Properties of the structure by name; ASE takes `energy` as a calculator's result, other names into `Atoms.info`.
    pub scalars: Vec<(String, f64)>,
    /// `−∂E/∂r`, flat `[3 · atoms]`.
    pub forces: Option<Vec<f64>>,
}

/// Entries and columns that ASE takes as results of a calculator. Those of the input are another calculator's.
const RESULTS: [&str; 11] = [
    "energy",
    "energies",
    "free_energy",
    "forces",
    "stress",
    "stresses",
    "virial",
    "dipole",
    "charges",
    "magmom",
    "magmoms",
];

/// Writes a frame again, with a model's results in the place of those that it came with. Its other entries stand as they
/// were written; its other columns follow species and positions.
///
/// # Errors
/// When writing fails.
pub fn write_predicted(out: &mut impl Write, frame: &Frame, predicted: &Predicted) -> io::Result<()> {
    let is_result =
        |name: &str| RESULTS.contains(&name) || predicted.scalars.iter().any(|(scalar, _)| scalar == name);
    let columns: Vec<&Column> = frame.columns.iter().filter(|column| !is_result(&column.name)).collect();
    writeln!(out, "{}", frame.atomic_numbers.len())?;
    let entries = || frame.info.written().filter(|(name, _)| *name != "Properties" && !is_result(name));
    let is_lattice = |name: &str| name.eq_ignore_ascii_case("lattice");
    for (_, lattice) in entries().filter(|(name, _)| is_lattice(name)) {
        write!(out, "{lattice} ")?;
    }
    write!(out, "Properties=species:S:1:pos:R:3")?;
    for Column { name, width, values } in &columns {
        write!(out, ":{name}:{}:{width}", letter(values))?;
    }
    if predicted.forces.is_some() {
        write!(out, ":forces:R:3")?;
    }
    for (name, value) in &predicted.scalars {
        write!(out, " {}={value:?}", key(name))?;
    }
    for (_, entry) in entries().filter(|(name, _)| !is_lattice(name)) {
        write!(out, " {entry}")?;
    }
    writeln!(out)?;
    for (atom, z) in frame.atomic_numbers.iter().enumerate() {
        write!(out, "{:<2}", symbol(*z))?;
        reals(out, &frame.positions[3 * atom..3 * atom + 3])?;
        for Column { width, values, .. } in &columns {
            row(out, values, atom * width..(atom + 1) * width)?;
        }
        if let Some(forces) = &predicted.forces {
            reals(out, &forces[3 * atom..3 * atom + 3])?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn letter(values: &Values) -> char {
    match values {
        Values::Real(_) => 'R',
        Values::Integer(_) => 'I',
        Values::Logical(_) => 'L',
        Values::Text(_) => 'S',
    }
}

fn row(out: &mut impl Write, values: &Values, places: std::ops::Range<usize>) -> io::Result<()> {
    match values {
        Values::Real(values) => reals(out, &values[places]),
        Values::Integer(values) => values[places].iter().try_for_each(|v| write!(out, " {v}")),
        Values::Logical(values) => values[places].iter().try_for_each(|v| write!(out, " {}", flag(*v))),
        Values::Text(values) => values[places].iter().try_for_each(|v| write!(out, " {v}")),
    }
}

/// The shortest decimals that read back to the same 64 bits.
fn reals(out: &mut impl Write, values: &[f64]) -> io::Result<()> {
    values.iter().try_for_each(|v| write!(out, " {v:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Frames;

    fn rewritten(text: &str, predicted: &Predicted) -> String {
        let frame = Frames::whole(text.as_bytes()).next_frame().unwrap().unwrap();
        let mut out = Vec::new();
        write_predicted(&mut out, &frame, predicted).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn results_replace_results_and_the_rest_stays() {
        let text = "2\nid = \"a \\\"b\\\"\" energy=-1 Lattice=\"9 0 0 0 9 0 0 0 9\" bonds=[[0, 1], [1, 0]] relaxed pbc=\"T T F\" \
             stress=\"1 2 3 4 5 6 7 8 9\" Properties=species:S:1:tags:I:1:pos:R:3:forces:R:3:move_mask:L:1:name:S:1\n\
             O 0 0.50 0 1d-1 9 9 9 T a\nH 2 1 1 1.0000000000000002 8 8 8 F b\n";
        let predicted = Predicted {
            scalars: vec![("energy".to_owned(), -2.5)],
            forces: Some(vec![1.0, 2.0, 3.0, 0.1, 0.0, -1e-9]),
        };
        let expected = "2\nLattice=\"9 0 0 0 9 0 0 0 9\" \
             Properties=species:S:1:pos:R:3:tags:I:1:move_mask:L:1:name:S:1:forces:R:3 energy=-2.5 \
             id = \"a \\\"b\\\"\" bonds=[[0, 1], [1, 0]] relaxed pbc=\"T T F\"\n\
             O  0.5 0.0 0.1 0 T a 1.0 2.0 3.0\nH  1.0 1.0 1.0000000000000002 2 F b 0.1 0.0 -1e-9\n";
        assert_eq!(rewritten(text, &predicted), expected);
    }

    #[test]
    fn a_property_replaces_the_entry_of_its_name() {
        let predicted = Predicted { scalars: vec![("band gap".to_owned(), 1.0)], forces: None };
        let text = "1\n\"band gap\"=0.5 x=1\nCl 1 2 3 4 5\n";
        let expected = "1\nProperties=species:S:1:pos:R:3 \"band gap\"=1.0 x=1\nCl 1.0 2.0 3.0\n";
        assert_eq!(rewritten(text, &predicted), expected);
        assert_eq!(
            rewritten("1\nplain words\nH 0 0 0\n", &Predicted::default()),
            "1\nProperties=species:S:1:pos:R:3\nH  0.0 0.0 0.0\n"
        );
    }
}
