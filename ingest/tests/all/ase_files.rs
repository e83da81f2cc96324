//! ASE-LMDB, trajectories and databases: their fixtures' truth.json, and what is wrong with damaged ones.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use ingest::formats::{Format, Labels, Options, open};
use ingest::input::Input;
use serde_json::Value as Json;
use shards::Structure;

use crate::own_data::{check_ase, file, labelled};
use crate::{Collect, close, fixture, numbers, read, source, truth};

fn check_fixed(got: &Structure, want: &Json) {
    let none = vec![false; got.atoms()];
    let fixed: Vec<Json> = got.fixed.as_ref().unwrap_or(&none).iter().map(|&f| f.into()).collect();
    assert_eq!(Json::from(fixed), want["fixed"], "{}", got.id);
}

#[test]
fn ase_lmdb_in_both_spellings() {
    let truth = truth("aselmdb");
    for name in ["native", "manual"] {
        let source = source(
            Format::AseLmdb,
            &[fixture("aselmdb").join(format!("{name}.aselmdb"))],
            &Options::default(),
        );
        assert_eq!(source.units()[0].structures, truth["count"].as_u64().unwrap());
        let all = read(source.as_ref());
        assert!(all.rejects.is_empty(), "{:?}", all.rejects);
        let ids: Vec<String> =
            truth["ids"].as_array().unwrap().iter().map(|id| format!("{name}/{id}")).collect();
        assert_eq!(all.structures.iter().map(|s| s.id.clone()).collect::<Vec<_>>(), ids);
        for (row, key) in [(0, "first"), (1, "second"), (17, "last")] {
            check_ase(&all.structures[row], &truth[key]);
            check_fixed(&all.structures[row], &truth[key]);
        }
        assert!(source.warnings().is_empty(), "{:?}", source.warnings());
    }
}

#[test]
fn ids_and_groups_come_from_the_rows_data() {
    let labels = Labels {
        id_key: Some("sid".to_owned()),
        group_key: Some("split".to_owned()),
        targets: vec![("fid".to_owned(), "1".to_owned())],
        ..Labels::default()
    };
    let source = source(Format::AseLmdb, &[fixture("aselmdb/manual.aselmdb")], &labelled(labels));
    let all = read(source.as_ref()).structures;
    assert_eq!((all[0].id.as_str(), all[0].group.as_str(), all[0].targets[0]), ("random1", "a", Some(1.0)));
}

#[test]
fn a_trajectory_shares_what_does_not_change() {
    let truth = &truth("ase_files")["frames.traj"];
    let source = source(Format::Traj, &[fixture("ase_files/frames.traj")], &Options::default());
    let all = read(source.as_ref()).structures;
    assert_eq!(all.len() as u64, truth["count"].as_u64().unwrap());
    for (row, key) in [(0, "first"), (7, "last")] {
        check_ase(&all[row], &truth[key]);
        check_fixed(&all[row], &truth[key]);
        close("traj", "stress", &all[row].stress.unwrap(), &numbers(&truth[key]["stress"]), 0.0);
    }
    assert_eq!((all[3].id.as_str(), all[3].group.as_str(), all[3].charge), ("frames/3", "frames", Some(0.0)));
    assert_eq!(
        (all[3].atomic_numbers.clone(), all[3].fixed.clone()),
        (all[0].atomic_numbers.clone(), all[0].fixed.clone())
    );
}

#[test]
fn a_database_with_gaps_and_large_rows() {
    let truth = &truth("ase_files")["rows.db"];
    let labels = Labels { targets: vec![("gap".to_owned(), "eV".to_owned())], ..Labels::default() };
    let source = source(Format::Db, &[fixture("ase_files/rows.db")], &labelled(labels));
    let all = read(source.as_ref());
    assert!(all.rejects.is_empty(), "{:?}", all.rejects);
    let ids: Vec<String> = truth["ids"].as_array().unwrap().iter().map(|id| format!("rows/{id}")).collect();
    assert_eq!(all.structures.iter().map(|s| s.id.clone()).collect::<Vec<_>>(), ids);
    for (id, want) in truth["rows"].as_object().unwrap() {
        let got = all.structures.iter().find(|s| s.id == format!("rows/{id}")).unwrap();
        check_ase(got, want);
        check_fixed(got, want);
        assert_eq!((got.charge, got.spin), (want["charge"].as_f64(), want["spin"].as_f64()));
        assert_eq!(got.targets[0], want["gap"].as_f64());
    }
}

/// Opens and reads everything; the error, or the first reject, as text.
#[track_caller]
fn refused(format: Format, path: &Path) -> String {
    let inputs = [Input { split: None, path: path.to_path_buf() }];
    let result = open(format, &inputs, &Options::default()).and_then(|source| {
        let mut all = Collect::default();
        (0..source.units().len()).try_for_each(|u| source.read(u, &mut all)).map(|()| all.rejects)
    });
    match result {
        Err(error) => error.to_string(),
        Ok(rejects) => rejects.into_iter().map(|r| r.1).next().expect("nothing was refused"),
    }
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

/// An LMDB of one leaf page, with values on pages of their own where they are large.
fn lmdb(dir: &tempfile::TempDir, name: &str, entries: &[(&str, Vec<u8>)]) -> PathBuf {
    const PAGE: usize = 4096;
    let mut entries = entries.to_vec();
    entries.sort();
    let (mut leaf, mut overflow, mut next) = (vec![0u8; PAGE], Vec::new(), 3u64);
    let (mut low, mut high) = (16, PAGE);
    for (key, value) in &entries {
        let mut node = Vec::new();
        let large = value.len() > 1000;
        node.extend((value.len() as u16).to_le_bytes());
        node.extend(((value.len() >> 16) as u16).to_le_bytes());
        node.extend(u16::from(large).to_le_bytes());
        node.extend((key.len() as u16).to_le_bytes());
        node.extend(key.as_bytes());
        if large {
            let pages = (16 + value.len()).div_ceil(PAGE);
            let mut block = vec![0u8; pages * PAGE];
            block[..8].copy_from_slice(&next.to_le_bytes());
            block[10..12].copy_from_slice(&4u16.to_le_bytes());
            block[12..16].copy_from_slice(&(pages as u32).to_le_bytes());
            block[16..16 + value.len()].copy_from_slice(value);
            node.extend(next.to_le_bytes());
            overflow.extend(block);
            next += pages as u64;
        } else {
            node.extend(value);
        }
        if node.len() % 2 == 1 {
            node.push(0);
        }
        high -= node.len();
        leaf[high..high + node.len()].copy_from_slice(&node);
        leaf[low..low + 2].copy_from_slice(&(high as u16).to_le_bytes());
        low += 2;
    }
    leaf[..8].copy_from_slice(&2u64.to_le_bytes());
    leaf[10..12].copy_from_slice(&2u16.to_le_bytes());
    leaf[12..14].copy_from_slice(&(low as u16).to_le_bytes());
    leaf[14..16].copy_from_slice(&(high as u16).to_le_bytes());
    let mut bytes = std::fs::read(fixture("aselmdb/manual.aselmdb")).unwrap();
    // The header pages of a real file, made to speak of this one.
    bytes.truncate(2 * PAGE);
    for meta in [0, PAGE] {
        let main = meta + 16 + 24 + 48;
        bytes[main + 6..main + 8].copy_from_slice(&1u16.to_le_bytes());
        bytes[main + 8..main + 16].copy_from_slice(&0u64.to_le_bytes());
        bytes[main + 16..main + 24].copy_from_slice(&1u64.to_le_bytes());
        bytes[main + 24..main + 32].copy_from_slice(&(next - 3).to_le_bytes());
        bytes[main + 32..main + 40].copy_from_slice(&(entries.len() as u64).to_le_bytes());
        bytes[main + 40..main + 48].copy_from_slice(&2u64.to_le_bytes());
        bytes[main + 48..main + 56].copy_from_slice(&(next - 1).to_le_bytes());
    }
    bytes.extend(leaf);
    bytes.extend(overflow);
    file(dir, name, &bytes)
}

#[test]
fn hostile_ase_lmdbs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let row = zlib(br#"{"numbers": [1], "positions": [[0, 0, 0]], "energy": 1}"#);
    let good = lmdb(&dir, "good.aselmdb", &[("nextid", zlib(b"2")), ("1", row.clone())]);
    let all = read(source(Format::AseLmdb, &[good], &Options::default()).as_ref());
    assert_eq!((all.structures.len(), all.rejects.len()), (1, 0));
    let check = |name: &str, entries: &[(&str, Vec<u8>)], expected: &str| {
        let text = refused(Format::AseLmdb, &lmdb(&dir, name, entries));
        assert!(text.contains(expected) && text.contains(name), "{text:?} does not say {expected:?}");
    };
    let next = |n: &str| ("nextid", zlib(n.as_bytes()));
    check("a.aselmdb", &[("1", row.clone())], "no `nextid`");
    check("b.aselmdb", &[next("99999999999999"), ("1", row.clone())], "the file has 2 entries");
    check("c.aselmdb", &[next("3"), ("1", row.clone()), ("x", row.clone())], "no `2`");
    check("d.aselmdb", &[next("2"), ("1", b"not zlib".to_vec())], "key `1`: expected zlib-compressed JSON");
    check("e.aselmdb", &[next("2"), ("1", zlib(b"[1, 2"))], "key `1`: no JSON");
    check("f.aselmdb", &[next("2"), ("1", zlib(b"[1]"))], "expected an object");
    check(
        "g.aselmdb",
        &[next("2"), ("1", zlib(b"{\"numbers\": \"x\"}"))],
        "`numbers`: expected atomic numbers",
    );
    check("h.aselmdb", &[next("2"), ("1", row[..row.len() / 2].to_vec())], "expected zlib-compressed JSON");
    // 300 MB of blanks in 300 kB.
    check(
        "bomb.aselmdb",
        &[next("2"), ("1", zlib(&vec![b' '; 300 << 20]))],
        "unpacks to more than 33554432 bytes",
    );
    check("deep.aselmdb", &[next("2"), ("1", zlib(&b"[".repeat(1 << 20)))], "no JSON");
}

/// Cuts and flips bytes: none of it may panic, and every cut must be noticed.
fn torture(format: Format, from: &str, name: &str, step: usize) {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture(from)).unwrap();
    let attempt = |bytes: &[u8]| {
        let path = file(&dir, name, bytes);
        let inputs = [Input { split: None, path }];
        let mut all = Quiet(0);
        let source = open(format, &inputs, &Options::default())?;
        (0..source.units().len()).try_for_each(|u| source.read(u, &mut all))?;
        Ok::<usize, ingest::IngestError>(all.0)
    };
    assert_eq!(attempt(&whole).unwrap(), 0);
    for end in (0..whole.len()).step_by(step * 5) {
        assert!(attempt(&whole[..end]).map_or(true, |rejects| rejects > 0), "cut at {end}");
    }
    for at in (0..whole.len().min(9000)).step_by(step) {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            let _ = attempt(&bytes);
        }
    }
}

/// Counts what is refused.
struct Quiet(usize);

impl ingest::source::Sink for Quiet {
    fn structure(&mut self, structure: Structure) -> Result<(), ingest::IngestError> {
        self.0 += usize::from(structure.check().is_err());
        Ok(())
    }

    fn reject(&mut self, _: &str, _: &'static str, _: &str) -> Result<(), ingest::IngestError> {
        self.0 += 1;
        Ok(())
    }

    fn leave_out(&mut self, _: &str, _: &'static str, _: &str) {}
}

#[test]
fn no_damage_to_a_trajectory_panics() {
    torture(Format::Traj, "ase_files/frames.traj", "x.traj", 13);
}

#[test]
fn no_damage_to_a_database_panics() {
    torture(Format::Db, "ase_files/rows.db", "x.db", 17);
}

#[test]
fn files_of_another_kind_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let check = |format, name: &str, content: &[u8], expected: &str| {
        let text = refused(format, &file(&dir, name, content));
        assert!(text.contains(expected), "{text:?} does not say {expected:?}");
    };
    check(Format::Traj, "a.traj", b"PickleTrajectory....", "python -m ase.io.trajectory");
    check(Format::Traj, "b.traj", b"short", "is no ULM file");
    check(Format::Db, "c.db", b"{\"1\": {}}", "is no SQLite file");
    check(Format::AseLmdb, "d.aselmdb", &[0; 9000], "not a readable LMDB file");
    let traj = std::fs::read(fixture("ase_files/frames.traj")).unwrap();
    let mut many = traj.clone();
    many[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    check(Format::Traj, "e.traj", &many, "items");
    let mut far = traj;
    far[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
    check(Format::Traj, "f.traj", &far, "reach beyond the file's");
    let database = std::fs::read(fixture("ase_files/rows.db")).unwrap();
    let path = file(&dir, "g.db", &database);
    std::fs::write(dir.path().join("g.db-wal"), b"changes").unwrap();
    let text = refused(Format::Db, &path);
    assert!(text.contains("changes wait in") && text.contains("g.db-wal"), "{text}");
    // A root page that leads to itself.
    let mut circle = database;
    let size = 4096;
    let root = (1..circle.len() / size).find(|p| circle[p * size] == 5).expect("no tree of two levels");
    let child = circle[root * size + 8..root * size + 12].to_vec();
    assert!(!child.is_empty());
    circle[root * size + 8..root * size + 12].copy_from_slice(&(root as u32 + 1).to_be_bytes());
    check(Format::Db, "h.db", &circle, "the tree has more pages than the file, or too many levels");
}
