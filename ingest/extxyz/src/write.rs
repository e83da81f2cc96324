//! Structures as extended XYZ that ASE reads back to the same numbers.

use std::io::{self, Write};

use shards::element::symbol;
use shards::{Structure, Target};

/// Writes a frame: energy, forces and stress under ASE's names, the rest as entries of its own.
///
/// Every number is the shortest decimal that reads back to the same 64 bits. `fixed` becomes `move_mask`, which ASE turns
/// into a constraint.
///
/// # Errors
/// When writing fails.
pub fn write_frame(out: &mut impl Write, structure: &Structure, targets: &[Target]) -> io::Result<()> {
    let s = structure;
    writeln!(out, "{}", s.atoms())?;
    if let Some(cell) = &s.cell {
        write!(out, "Lattice=\"{}\" ", joined(cell))?;
    }
    let columns = [
        (s.tags.is_some(), ":tags:I:1"),
        (s.fixed.is_some(), ":move_mask:L:1"),
        (s.forces.is_some(), ":forces:R:3"),
    ];
    let columns: String = columns.into_iter().filter(|c| c.0).map(|c| c.1).collect();
    write!(out, "Properties=species:S:1:pos:R:3{columns}")?;
    let scalars = [("energy", s.energy), ("charge", s.charge), ("spin", s.spin)];
    let named = targets.iter().map(|t| t.name.as_str()).zip(s.targets.iter().copied());
    for (name, value) in scalars.into_iter().chain(named) {
        if let Some(value) = value {
            write!(out, " {}={value:?}", key(name))?;
        }
    }
    if let Some([xx, yy, zz, yz, xz, xy]) = s.stress {
        write!(out, " stress=\"{}\"", joined(&[xx, xy, xz, xy, yy, yz, xz, yz, zz]))?;
    }
    write!(out, " id={} group={}", quoted(&s.id), quoted(&s.group))?;
    let [a, b, c] = s.pbc.map(flag);
    writeln!(out, " pbc=\"{a} {b} {c}\"")?;
    for atom in 0..s.atoms() {
        write!(out, "{:<2}", symbol(s.atomic_numbers[atom]))?;
        triple(out, &s.positions, atom)?;
        if let Some(tags) = &s.tags {
            write!(out, " {}", tags[atom])?;
        }
        if let Some(fixed) = &s.fixed {
            write!(out, " {}", flag(!fixed[atom]))?;
        }
        if let Some(forces) = &s.forces {
            triple(out, forces, atom)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn triple(out: &mut impl Write, values: &shards::Floats, atom: usize) -> io::Result<()> {
    (0..3).try_for_each(|axis| write!(out, " {:?}", values.get(3 * atom + axis)))
}

fn joined(values: &[f64]) -> String {
    values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(" ")
}

pub(crate) fn flag(value: bool) -> char {
    if value { 'T' } else { 'F' }
}

/// A key, in quotes when a blank or sign in it needs them.
pub(crate) fn key(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = plain && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use shards::Floats;

    use super::*;
    use crate::{Frames, Mark, Values, numbers};

    #[test]
    fn what_is_written_is_read_back() {
        let third = 1.0 / 3.0;
        let structure = Structure {
            id: "a \"b\"/1".to_owned(),
            group: "g\\".to_owned(),
            atomic_numbers: vec![29, 8],
            positions: Floats::F64(vec![0.1, -third, 1e-12, 5e3, 2.0_f64.sqrt(), 0.0]),
            cell: Some([3.5, 0.0, 0.1, 0.0, third, 0.0, 0.0, 0.0, 7.0]),
            pbc: [true, false, true],
            tags: Some(vec![0, 2]),
            fixed: Some(vec![true, false]),
            charge: Some(-1.0),
            spin: Some(2.0),
            energy: Some(-1_234.567_890_123_456_7),
            forces: Some(Floats::F32(vec![0.1, 0.2, 0.3, -0.1, -0.2, -0.3])),
            stress: Some([1.0, 2.0, 3.0, 4.0, 5.0, third]),
            targets: vec![Some(0.7), None],
        };
        let target = |name: &str| Target {
            name: name.to_owned(),
            unit: "1".to_owned(),
            meaning: String::new(),
            referenced: false,
        };
        let mut text = Vec::new();
        write_frame(&mut text, &structure, &[target("band gap"), target("x")]).unwrap();
        let mut frames = Frames::new(text.as_slice(), Mark::START, &["tags", "move_mask", "forces"]);
        let frame = frames.next_frame().unwrap().unwrap();
        assert_eq!(frame.positions, structure.positions.to_f64());
        assert_eq!(frame.column("forces").unwrap().values, Values::Real(structure.forces.unwrap().to_f64()));
        assert_eq!(frame.column("move_mask").unwrap().values, Values::Logical(vec![false, true]));
        assert_eq!(frame.column("tags").unwrap().values, Values::Integer(vec![0, 2]));
        let info = &frame.info;
        assert_eq!((info.lattice(), info.pbc(true)), (Ok(structure.cell), Ok(structure.pbc)));
        assert_eq!(
            (info.number(&["energy"]), info.number(&["band gap"])),
            (Ok(structure.energy), Ok(Some(0.7)))
        );
        assert_eq!(
            (info.text("id"), info.text("group"), info.text("x")),
            (Some("a \"b\"/1"), Some("g\\"), None)
        );
        let stress = numbers(info.text("stress").unwrap()).unwrap();
        assert_eq!(stress, [1.0, third, 5.0, third, 2.0, 4.0, 5.0, 4.0, 3.0]);
    }
}
