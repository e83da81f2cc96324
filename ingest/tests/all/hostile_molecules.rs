//! QM9, MD17, MD22 and SPICE files that are wrong: each ends in an error that names file and key, none in a panic.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use ingest::formats::{Format, Options, open};
use ingest::input::Input;

use crate::hostile::{check, refused};
use crate::{Collect, fixture};

/// A copy of a fixture's file with some of its text replaced.
fn edited(dir: &Path, name: &str, from: &str, edits: &[(&str, &str)]) -> PathBuf {
    let mut text = std::fs::read_to_string(fixture(from)).unwrap();
    for (old, new) in edits {
        assert!(text.contains(old), "{from} has no {old:?}");
        text = text.replacen(old, new, 1);
    }
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Opens and reads; what is returned is what matters least: it must return, not panic.
fn survive(format: Format, path: &Path) -> bool {
    let inputs = [Input { split: None, path: path.to_path_buf() }];
    let read = open(format, &inputs, &Options::default()).and_then(|source| {
        let mut all = Unchecked(Collect::default());
        (0..source.units().len()).try_for_each(|u| source.read(u, &mut all))
    });
    read.is_ok()
}

/// Takes structures as they are.
struct Unchecked(Collect);

impl ingest::source::Sink for Unchecked {
    fn structure(&mut self, structure: shards::Structure) -> Result<(), ingest::IngestError> {
        let _ = structure.check();
        self.0.structures.push(structure);
        Ok(())
    }

    fn reject(&mut self, id: &str, _: &'static str, reason: &str) -> Result<(), ingest::IngestError> {
        self.0.rejects.push((id.to_owned(), reason.to_owned()));
        Ok(())
    }

    fn leave_out(&mut self, _: &str, _: &'static str, _: &str) {}
}

/// Cuts a file at many places, which must be refused, and flips bytes, which must not panic.
#[track_caller]
fn damage(format: Format, from: &str, beside: &[&str], cut_is_refused: bool) {
    let dir = tempfile::tempdir().unwrap();
    let source = fixture(from);
    for other in beside {
        let other = fixture(other);
        std::fs::copy(&other, dir.path().join(other.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join(source.file_name().unwrap());
    let whole = std::fs::read(&source).unwrap();
    std::fs::write(&path, &whole).unwrap();
    assert!(survive(format, &path), "{from} itself is refused");
    for k in 0..60 {
        let end = whole.len() * k / 61;
        std::fs::write(&path, &whole[..end]).unwrap();
        let accepted = survive(format, &path);
        assert!(!accepted || !cut_is_refused, "{from} cut at {end} of {} was accepted", whole.len());
    }
    for k in 0..120usize {
        let mut bytes = whole.clone();
        bytes[(k * 7919) % whole.len()] ^= [0x01, 0x80, 0x41, 0xff][k % 4];
        std::fs::write(&path, &bytes).unwrap();
        survive(format, &path);
    }
}

#[test]
fn damaged_files_never_panic() {
    damage(Format::Qm9, "qm9/pyg_raw/gdb9.sdf", &["qm9/pyg_raw/gdb9.sdf.csv"], true);
    damage(Format::Qm9, "qm9/dsgdb9nsd.xyz.tar.bz2", &[], true);
    damage(Format::Qm9, "qm9/qm9_v3.pt", &[], true);
    damage(Format::Md22, "md22/md22_AT-AT.npz", &[], true);
    // A cut inside what no one reads is no fault: HDF5 is read where it is needed.
    damage(Format::Spice, "spice/dipeptides.h5", &[], false);
}

#[test]
fn sdf_and_its_table() {
    let dir = tempfile::tempdir().unwrap();
    let (sdf, csv) = ("qm9/pyg_raw/gdb9.sdf", "qm9/pyg_raw/gdb9.sdf.csv");
    let both = |sdf_edits: &[(&str, &str)], csv_edits: &[(&str, &str)], expected: &[&str]| {
        edited(dir.path(), "gdb9.sdf.csv", csv, csv_edits);
        let path = edited(dir.path(), "gdb9.sdf", sdf, sdf_edits);
        check(Format::Qm9, &path, expected);
    };
    both(
        &[("  2  0  0", "999  0  0")],
        &[],
        &["gdb9.sdf: line 7: atom 3: expected three coordinates and a symbol, found \"M  END\""],
    );
    both(&[("  2  0  0", "  0  0  0")], &[], &["line 4: expected the number of atoms of a V2000 block"]);
    both(&[("999 V2000", "999 V3000")], &[], &["line 4: expected the number of atoms of a V2000 block"]);
    both(&[("    0.0309", "    x.0309")], &[], &["line 5: atom 1"]);
    both(&[(" O   0", " Q   0")], &[], &["line 5: atom 1"]);
    both(&[], &[("gdb_2,", "gdb_3,")], &["gdb9.sdf.csv: line 3", "has gdb_3 where", "has gdb_2"]);
    both(&[], &[(",zpve,", ",zero,")], &["gdb9.sdf.csv: its first line: no `zpve`; there is mol_id, A, B"]);
    both(&[], &[("gdb_1,100.0,", "gdb_1,1o0,")], &["line 2: `A`: expected a number, found \"1o0\""]);
    both(&[], &[("gdb_1,100.0,", "gdb_1,")], &["line 2: expected 20 fields"]);
    both(&[("gdb_30", "gdb_x")], &[("gdb_30", "gdb_x")], &["expected a name like gdb_1, found \"gdb_x\""]);
    std::fs::remove_file(dir.path().join("gdb9.sdf.csv")).unwrap();
    check(Format::Qm9, &edited(dir.path(), "gdb9.sdf", sdf, &[]), &["gdb9.sdf.csv", "No such file"]);
    std::fs::write(dir.path().join("gdb9.sdf.csv"), "").unwrap();
    check(Format::Qm9, &dir.path().join("gdb9.sdf"), &["no `mol_id`"]);
    std::fs::write(dir.path().join("gdb9.sdf"), b"\xff\xfe\x00").unwrap();
    std::fs::copy(fixture(csv), dir.path().join("gdb9.sdf.csv")).unwrap();
    check(Format::Qm9, &dir.path().join("gdb9.sdf"), &["gdb9.sdf: line 1: no text"]);
}

#[test]
fn lists_of_uncharacterised_molecules() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["gdb9.sdf", "gdb9.sdf.csv"] {
        std::fs::copy(fixture("qm9/pyg_raw").join(name), dir.path().join(name)).unwrap();
    }
    let list = |text: &str, expected: &[&str]| {
        std::fs::write(dir.path().join("uncharacterized.txt"), text).unwrap();
        check(Format::Qm9, dir.path(), expected);
    };
    list("", &["uncharacterized.txt", "expected nine lines of header"]);
    list(&"x\n".repeat(10), &["expected nine lines of header"]);
    list(
        &format!("{}four C\n1 compounds\n", "x\n".repeat(9)),
        &["line 10: expected the number of a molecule, found \"four C\""],
    );
    list(&format!("{}0 C\n1 compounds\n", "x\n".repeat(9)), &["line 10"]);
}

/// A tar header.
fn member(name: &str, content: &[u8], size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = b'0';
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

#[test]
fn xyz_archives() {
    let dir = tempfile::tempdir().unwrap();
    let one = std::fs::read(fixture("qm9/xyz/dsgdb9nsd_000001.xyz")).unwrap();
    let end = vec![0; 1024];
    let archive = |parts: &[Vec<u8>], expected: &[&str]| {
        let path = dir.path().join("dsgdb9nsd.xyz.tar");
        std::fs::write(&path, parts.concat()).unwrap();
        check(Format::Qm9, &path, expected);
    };
    let name = "dsgdb9nsd_000001.xyz";
    let whole = member(name, &one, one.len() as u64);
    archive(&[whole.clone(), whole.clone(), end.clone()], &["molecule 1 is there twice"]);
    archive(
        &[member(name, b"", 1 << 30), end.clone()],
        &["member dsgdb9nsd_000001.xyz", "at most 65536 are expected"],
    );
    archive(&[member("readme", b"x", 1), end.clone()], &["no member named dsgdb9nsd_*.xyz"]);
    archive(
        &[member(name, b"3\nx\n", 4), end.clone()],
        &["member dsgdb9nsd_000001.xyz: line 2: expected `gdb`"],
    );
    archive(&[whole], &["ends too early: it is truncated"]);
    archive(&[b"not an archive".to_vec()], &["tar: the archive ends too early"]);
    let bomb = dir.path().join("x.tar.bz2");
    std::fs::write(&bomb, b"BZh9garbage").unwrap();
    check(Format::Qm9, &bomb, &["x.tar.bz2", "bzip2: a block begins with the wrong bytes"]);
}

#[test]
fn torch_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qm9_v3.pt");
    let changed = |from: &[u8], to: &[u8], all: bool, expected: &[&str]| {
        let mut bytes = std::fs::read(fixture("qm9/qm9_v3.pt")).unwrap();
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(from.len()).position(|w| w == from) {
            bytes[at + found..at + found + to.len()].copy_from_slice(to);
            at += found + to.len();
            if !all {
                break;
            }
        }
        assert!(at > 0);
        // The archive's checksum of the pickle is not what protects: it is made right again.
        std::fs::write(&path, restored(&bytes)).unwrap();
        check(Format::Qm9, &path, expected);
    };
    // The name of a key as the pickle writes it: its length, then the letters.
    changed(
        b"\x03\0\0\0pos",
        b"\x03\0\0\0p0s",
        true,
        &["molecule 0 of the list: no `pos`; there is idx, name, p0s, y, z"],
    );
    changed(b"FloatStorage", b"LongStorage\n", false, &["qm9_v3.pt", "byte"]);
    changed(b"torch._utils", b"os.systemxyz", false, &["os.systemxyz", "nothing was executed"]);
    for (name, why) in [
        ("bad_os_system.pkl", "nothing was executed"),
        ("bad_huge_length.pkl", "truncated or damaged"),
        ("ok_pyg1_p5.pkl", "expected a list of dicts"),
        ("ok_list_zip.pt", "of the list: no `z`"),
    ] {
        let pickle = fixture("pickle").join(name);
        std::fs::copy(pickle, &path).unwrap();
        check(Format::Qm9, &path, &["qm9_v3.pt", why]);
    }
}

/// Writes a torch archive anew around its changed members.
fn restored(bytes: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for at in 0..archive.len() {
        let member = archive.by_index(at).unwrap();
        let (start, size) = (member.data_start().unwrap() as usize, member.size() as usize);
        out.start_file(member.name(), stored).unwrap();
        out.write_all(&bytes[start..start + size]).unwrap();
    }
    out.finish().unwrap().into_inner()
}

/// An npz of `.npy` members given by name, type, shape and bytes.
fn npz(path: &Path, members: &[(&str, &str, &str, Vec<u8>)]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, descr, shape, data) in members {
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        zip.write_all(b"\x93NUMPY\x01\0").unwrap();
        zip.write_all(&(dict.len() as u16).to_le_bytes()).unwrap();
        zip.write_all(dict.as_bytes()).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn npz_of_trajectories() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("md22_DHA.npz");
    let zeros = |n: usize| vec![0; 8 * n];
    let z = ("z", "|u1", "(2,)", vec![6, 8]);
    let positions = ("R", "<f8", "(3, 2, 3)", zeros(18));
    let energies = ("E", "<f8", "(3, 1)", zeros(3));
    let told = |members: &[(&str, &str, &str, Vec<u8>)], expected: &[&str]| {
        npz(&path, members);
        check(Format::Md22, &path, &[&["md22_DHA.npz"], expected].concat());
    };
    told(std::slice::from_ref(&z), &["no `coords` or `R`; there is z"]);
    told(&[positions.clone(), energies.clone()], &["no `nuclear_charges` or `z`; there is E, R"]);
    told(&[z.clone(), positions.clone()], &["no `energies` or `E`; there is R, z"]);
    told(
        &[("z", "|u1", "(2,)", vec![6, 119]), positions.clone(), energies.clone()],
        &["`z`: expected atomic numbers from 1 to 118, found 6 119"],
    );
    told(
        &[("z", "<f8", "(1,)", 0.5f64.to_le_bytes().to_vec()), positions.clone(), energies.clone()],
        &["`z`: expected numbers that fit", "0.5"],
    );
    told(
        &[z.clone(), ("R", "<f8", "(3, 3, 3)", zeros(27)), energies.clone()],
        &["`R`: expected shape [3, 2, 3]", "found [3, 3, 3]"],
    );
    told(
        &[z.clone(), positions.clone(), ("E", "<f8", "(1, 3)", zeros(3))],
        &["`E`: expected shape [3] or [3, 1]", "found [1, 3]"],
    );
    told(
        &[z.clone(), positions.clone(), energies.clone(), ("F", "<f8", "(2, 2, 3)", zeros(12))],
        &["`F`: expected shape [3, 2, 3]"],
    );
    told(&[z.clone(), ("R", "<f8", "(0, 2, 3)", vec![]), ("E", "<f8", "(0,)", vec![])], &["holds no frames"]);
    let unit = |key, text: &str| (key, "|S6", "()", format!("{text:\0<6}").into_bytes());
    told(
        &[z.clone(), positions.clone(), energies.clone(), unit("e_unit", "eV")],
        &["`e_unit`: expected kcal/mol, found \"eV\""],
    );
    told(
        &[z.clone(), positions.clone(), energies.clone(), unit("r_unit", "bohr")],
        &["`r_unit`: expected Ang, found \"bohr\""],
    );
    told(
        &[z.clone(), positions.clone(), ("E", "|O", "(3,)", b"\x80\x04cos\nsystem\n.".to_vec())],
        &["array `E`", "nothing is unpickled"],
    );
    let absurd = ("R", "<f8", "(9223372036854775807, 2, 3)", zeros(18));
    told(
        &[z.clone(), absurd, energies.clone()],
        &["`R`: shape [9223372036854775807, 2, 3] of <f8 does not fit"],
    );
    // An object array that no one needs is passed over, as are strings.
    npz(
        &path,
        &[
            z,
            positions,
            energies,
            ("perms", "|O", "(1,)", vec![0; 9]),
            unit("e_unit", "kcal/mol"[..6].into()),
        ],
    );
    assert!(refused(Format::Md22, &path).contains("e_unit"));
}

#[test]
fn extxyz_of_trajectories() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("md22_DHA.xyz");
    let told = |text: &str, expected: &[&str]| {
        std::fs::write(&path, text).unwrap();
        check(Format::Md22, &path, expected);
    };
    let frame = |symbol: &str| {
        format!("1\nEnergy=-1.5 Properties=species:S:1:pos:R:3:forces:R:3\n{symbol} 0 0 0 0 0 0\n")
    };
    told("", &["md22_DHA.xyz", "0 frames of extended XYZ"]);
    told("what\n", &["0 frames"]);
    told(&format!("{}{}", frame("C"), frame("N")), &["frame 1 (line 4): other atoms than the first frame"]);
    told(
        "1\nProperties=species:S:1:pos:R:3\nC 0 0 0\n",
        &["frame 0", "neither an entry `Energy` nor a column `forces`"],
    );
    told(&format!("{}2\n\nC 0 0 0\n", frame("C")), &["frame 1", "ends after 1 of its 2 atoms"]);
    told(&format!("{}junk\n", frame("C")), &["expected a number of atoms"]);
}

#[test]
fn hdf5_of_molecules() {
    let dir = tempfile::tempdir().unwrap();
    let changed = |from: &[u8], to: &[u8], expected: &[&str]| {
        let mut bytes = std::fs::read(fixture("spice/SPICE.hdf5")).unwrap();
        let places: Vec<usize> =
            (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
        let path = dir.path().join("SPICE.hdf5");
        std::fs::write(&path, bytes).unwrap();
        check(Format::Spice, &path, &[&["SPICE.hdf5"], expected].concat());
    };
    changed(
        b"dft_total_energy",
        b"dft_total_enthal",
        &["group `/103922982`: no `dft_total_energy`; there is atomic_numbers"],
    );
    changed(
        b"hartree/bohr",
        b"hartree/b0hr",
        &["dft_total_gradient", "expected units `hartree/bohr`, found `hartree/b0hr`"],
    );
    let options = Options { subset: Some("proteins".to_owned()), ..Options::default() };
    let inputs = [Input { split: None, path: fixture("spice/SPICE.hdf5") }];
    let error = open(Format::Spice, &inputs, &options).err().unwrap().to_string();
    assert!(
        error.contains(
            "no subset of the words `proteins`; there is spice dipeptides single points dataset v1.2; "
        ),
        "{error}"
    );
    check(Format::Spice, &fixture("ani1x/ani1x-release.h5"), &["no `dft_total_energy`"]);
}
