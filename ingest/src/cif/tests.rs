use super::*;

const QUARTZ_LIKE: &str = "\
data_x
_cell_length_a 4.0(2)
_cell_length_b 4.0
_cell_length_c 5.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120.
_cell_volume 69.282
_chemical_formula_sum 'O2 Si1'
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
'-x, -y, -z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Si1 Si4+ 0 0 0 1
O1 O2- 0.25(1) 0.5 -0.125 1.0
";

#[test]
fn cell_and_operations_make_the_atoms() {
    let crystal = parse(QUARTZ_LIKE.as_bytes()).unwrap();
    assert_eq!(crystal.atomic_numbers, [14, 8, 8]);
    let height = 4.0 * (3.0_f64).sqrt() / 2.0;
    let close = |got: &[f64], want: &[f64]| {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-9), "{got:?}, expected {want:?}");
    };
    close(&crystal.cell, &[4.0, 0.0, 0.0, -2.0, height, 0.0, 0.0, 0.0, 5.0]);
    // O at (¼, ½, −⅛) and (¾, ½, ⅛).
    close(&crystal.positions, &[0.0, 0.0, 0.0, 0.0, height / 2.0, -0.625, 2.0, height / 2.0, 0.625]);
}

#[track_caller]
fn refused(from: &str, to: &str, code: &str, expected: &str) {
    assert!(QUARTZ_LIKE.contains(from), "{from}");
    let fault = parse(QUARTZ_LIKE.replacen(from, to, 1).as_bytes()).unwrap_err();
    assert_eq!(fault.code(), code, "{fault}");
    assert!(fault.to_string().contains(expected), "{fault}");
}

#[test]
fn what_is_wrong_is_told() {
    refused("4.0(2)", "-4.0", "malformed", "line 2: `_cell_length_a`: expected more than 0");
    refused("4.0(2)", "NaN", "malformed", "line 2: `_cell_length_a`: expected a number, found `NaN`");
    refused("4.0(2)", "?", "malformed", "the data block has no `_cell_length_a`");
    refused("120.", "180", "malformed", "less than 180");
    refused("_cell_angle_alpha 90", "_cell_angle_alpha 10", "malformed", "span no volume");
    refused("69.282", "-69.282", "contradiction", "stated -69.282, but the other numbers give 69.28");
    refused("O2 Si1", "O2 Si2", "contradiction", "stated O2 Si2, but the other numbers give O2Si");
    refused("'-x, -y, -z'", "'-x, -y, q'", "malformed", "line 13: `-x, -y, q` is no symmetry operation");
    refused("-0.125 1.0", "-0.125 0.5", "disordered", "site 1 is disordered: occupancy 0.5");
    refused("Si4+", "Vac", "unknown_element", "site 0: `Vac` is no chemical element");
    refused("0.25(1)", "1e999", "malformed", "line 22: `_atom_site_fract_x`: expected a number");
    refused("Si1 Si4+ 0 0 0 1", "Si1 Si4+ 0 0 0", "malformed", "line 14: the loop has 6 tags but 11 values");
    refused(
        "_cell_length_b 4.0",
        "_cell_length_a 4.0",
        "malformed",
        "line 3: `_cell_length_a` is given twice",
    );
    refused("data_x", "x", "malformed", "line 1: expected `data_…`");
    refused(
        "_atom_site_fract_x",
        "_atom_site_Cartn_x",
        "malformed",
        "no data block has `_atom_site_fract_x`",
    );
    refused("O1 O2-", "data_y\nO1 O2-", "malformed", "expected a tag, found the value `O1`");
}

#[test]
fn a_space_group_without_operations_is_refused() {
    let bare = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n'-x, -y, -z'\n";
    refused(
        bare,
        "_symmetry_space_group_name_H-M 'P -1'\n",
        "malformed",
        "space group P -1 without its symmetry",
    );
    refused(bare, "_space_group_IT_number 225\n", "malformed", "space group 225 without its symmetry");
    let p1 = QUARTZ_LIKE.replace(bare, "_symmetry_Int_Tables_number 1\n").replace("O2 Si1", "O Si");
    assert_eq!(parse(p1.as_bytes()).unwrap().atomic_numbers, [14, 8]);
}

#[test]
fn symbols_of_types_and_labels() {
    for (text, want) in [("Fe3+", "Fe"), ("CL", "Cl"), ("D", "D"), ("Vac", "Vac"), ("Hw", "Hw"), ("+", "+")] {
        assert_eq!(symbol(text, false), want, "{text}");
    }
    for (text, want) in [("CL12", "Cl"), ("O1W", "O"), ("Ow", "O"), ("Fe1", "Fe"), ("1", "1"), ("é", "é")] {
        assert_eq!(symbol(text, true), want, "{text}");
    }
}

#[test]
fn no_cut_and_no_flipped_byte_panics() {
    let whole = QUARTZ_LIKE.as_bytes();
    for end in 0..whole.len() {
        let _ = parse(&whole[..end]);
        let mut bytes = whole.to_vec();
        for flip in [0x01, 0x20, 0x80] {
            bytes[end] ^= flip;
            let _ = parse(&bytes);
        }
    }
}
