//! MatBench and QMOF: fixtures, real samples, and inputs that are wrong; the published folds in a part of its own.

mod published_folds;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use ingest::formats::{Format, Options};
use ingest::source::{Members, Source};
use serde_json::Value as Json;
use shards::{FloatWidth, Structure};

use crate::hostile::{check, refused};
use crate::real_data::samples;
use crate::{Collect, close, fixture, numbers, read, source, truth};

fn members(source: &dyn Source, split: &str) -> BTreeSet<String> {
    let plan = source.splits().iter().find(|p| p.name == split).unwrap_or_else(|| panic!("no {split}"));
    match &plan.members {
        Members::Ids(ids) => ids.clone(),
        other => panic!("{split}: {other:?}"),
    }
}

/// Ids of rows that truth.json lists by number.
fn named(structures: &[Structure], rows: &Json) -> BTreeSet<String> {
    numbers(rows).iter().map(|&row| structures[row as usize].id.clone()).collect()
}

#[track_caller]
fn check_crystal(got: &Structure, want: &Json, tolerance: f64) {
    let z: Vec<f64> = got.atomic_numbers.iter().map(|&z| f64::from(z)).collect();
    assert_eq!(z, numbers(&want["numbers"]), "{}", got.id);
    close(&got.id, "positions", &got.positions.to_f64(), &numbers(&want["positions_ang"]), tolerance);
    close(&got.id, "cell", &got.cell.unwrap(), &numbers(&want["cell"]), tolerance);
    assert_eq!(got.pbc, [true; 3]);
    assert!(got.forces.is_none());
}

#[test]
fn matbench_tasks_and_folds() {
    let (truth, folds) = (truth("matbench"), json("matbench/folds.json"));
    for (name, want) in truth["tasks"].as_object().unwrap() {
        let path = fixture("matbench").join(format!("{name}.json.gz"));
        let source = source(Format::Matbench, &[path], &Options::default());
        let all = read(source.as_ref());
        assert!(all.rejects.is_empty(), "{name}: {:?}", all.rejects);
        let rows = all.structures;
        assert_eq!((rows.len(), rows[0].id.as_str()), (30, want["mbid_first"].as_str().unwrap()), "{name}");
        for (row, target) in [(0, "first"), (29, "last")] {
            check_crystal(&rows[row], &want[target], 0.0);
        }
        let targets: Vec<f64> = rows.iter().map(|s| s.targets[0].unwrap()).collect();
        let expected: Vec<f64> = want["targets"].as_array().unwrap().iter().map(target).collect();
        assert_eq!(targets, expected, "{name}");
        let layout = source.layout();
        assert_eq!((layout.targets.len(), layout.float), (1, FloatWidth::F64));
        assert!(layout.targets[0].meaning.contains(want["target_column"].as_str().unwrap()));
        assert!(source.warnings()[0].contains("has 30 rows, the published file"), "{:?}", source.warnings());
        for k in 0..5 {
            let fold = &folds[name][format!("fold_{k}")];
            for (split, key) in [
                ("train_val", "train_val_rows"),
                ("test", "test_rows"),
                ("train", "jmp_train_rows"),
                ("val", "jmp_val_rows"),
            ] {
                let got = members(source.as_ref(), &format!("fold{k}_{split}"));
                assert_eq!(got, named(&rows, &fold[key]), "{name}: fold{k}_{split}");
            }
        }
    }
}

fn target(value: &Json) -> f64 {
    value.as_bool().map_or_else(|| value.as_f64().unwrap(), |b| f64::from(u8::from(b)))
}

fn json(name: &str) -> Json {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

#[test]
fn matbench_narrows_positions_when_asked() {
    let path = fixture("matbench/matbench_phonons.json.gz");
    let narrow = source(
        Format::Matbench,
        std::slice::from_ref(&path),
        &Options { narrow: true, ..Options::default() },
    );
    let (narrow, wide) =
        (read(narrow.as_ref()), read(source(Format::Matbench, &[path], &Options::default()).as_ref()));
    let rounded: Vec<f64> = wide.structures[0].positions.iter().map(|x| f64::from(x as f32)).collect();
    assert_eq!(narrow.structures[0].positions.to_f64(), rounded);
}

/// The JSON pair, the CSV with CIFs in the archive, and with CIFs unpacked give the same rows.
#[test]
fn qmof_by_all_its_ways() {
    let truth = truth("qmof");
    let db = fixture("qmof/qmof_database");
    let dir = tempfile::tempdir().unwrap();
    let unpacked = dir.path().join("cifs");
    std::fs::create_dir(&unpacked).unwrap();
    let mut archive =
        zip::ZipArchive::new(std::fs::File::open(db.join("relaxed_structures.zip")).unwrap()).unwrap();
    archive.extract(&unpacked).unwrap();
    let options = Options { all_targets: true, train_size: 11, ..Options::default() };
    let ways = [
        (vec![db.clone()], 0.0),
        (vec![db.join("qmof_structure_data.json"), db.join("qmof.json")], 0.0),
        (vec![zipped(&db, &dir.path().join("qmof_database.zip"))], 0.0),
        (vec![db.join("qmof.csv"), db.join("relaxed_structures.zip")], 2e-7),
        (vec![db.join("qmof.csv"), unpacked.join("relaxed_structures")], 2e-7),
    ];
    for (paths, tolerance) in ways {
        let source = source(Format::Qmof, &paths, &options);
        let all = read(source.as_ref());
        assert!(all.rejects.is_empty(), "{:?}", all.rejects);
        let rows = all.structures;
        assert_eq!(rows.len(), truth["count"].as_u64().unwrap() as usize);
        for (row, key) in [(0, "first"), (24, "last")] {
            check_crystal(&rows[row], &truth[key], tolerance);
            assert_eq!(rows[row].id, truth[key]["qmof_id"].as_str().unwrap());
            assert_eq!(rows[row].energy, truth[key]["energy_total_ev"].as_f64());
        }
        let gaps: Vec<f64> = rows.iter().map(|s| s.targets[0].unwrap()).collect();
        assert_eq!(gaps, numbers(&truth["bandgaps_ev"]));
        // PBE, HLE17, HSE06 with 10 % exchange, HSE06; the last is there for even rows.
        assert_eq!(rows[2].targets, [Some(0.2), None, None, Some(0.26)]);
        assert_eq!(rows[3].targets, [Some(0.3), None, None, None]);
        for part in ["train", "val", "test"] {
            let want = named(&rows, &truth["jmp_split_80_10_10"][part]);
            assert_eq!(members(source.as_ref(), &format!("split80_{part}")), want, "{part}");
        }
        let sizes = ["train", "val", "test"].map(|part| members(source.as_ref(), part).len());
        assert_eq!(sizes, [11, 7, 7]);
        // The shuffle is the same, so the eleven begin the script's twenty.
        let begins = numbers(&truth["jmp_split_80_10_10"]["train"]);
        let eleven = begins[..11].iter().map(|&row| rows[row as usize].id.clone()).collect();
        assert_eq!(members(source.as_ref(), "train"), eleven);
    }
    let default = source(Format::Qmof, &[db], &Options::default());
    assert_eq!(
        default.layout().targets.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(),
        ["band_gap_pbe"]
    );
    assert!(default.warnings()[0].contains("25 entries are too few for 10000 training rows"));
    assert_eq!(default.splits().len(), 3);
}

/// The database's folder as the archive that is downloaded.
fn zipped(db: &Path, path: &Path) -> PathBuf {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for name in ["qmof.csv", "qmof.json", "qmof_structure_data.json", "relaxed_structures.zip"] {
        zip.start_file(format!("qmof_database/{name}"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&std::fs::read(db.join(name)).unwrap()).unwrap();
    }
    zip.finish().unwrap();
    path.to_path_buf()
}

#[test]
fn real_phonons() {
    let Some(dir) = samples() else { return };
    let source =
        source(Format::Matbench, &[dir.join("matbench/matbench_phonons.json.gz")], &Options::default());
    assert_eq!(source.units().len(), 3);
    let all = read(source.as_ref());
    assert!(all.rejects.is_empty(), "{:?}", all.rejects);
    let rows = all.structures;
    assert_eq!((rows.len(), rows[0].targets[0]), (1265, Some(98.585_771_227_036_91)));
    assert_eq!((rows[0].id.as_str(), rows[1264].id.as_str()), ("mb-phonons-0001", "mb-phonons-1265"));
    let atoms: Vec<usize> = rows.iter().map(Structure::atoms).collect();
    assert_eq!(
        (*atoms.iter().min().unwrap(), *atoms.iter().max().unwrap(), atoms.iter().sum()),
        (2, 48, 9521)
    );
    // Two structures picked by hand: YSF is row 5.
    assert_eq!(rows[5].atomic_numbers, [9, 9, 16, 16, 39, 39]);
    assert_eq!(rows[5].group, "FSY");
    assert_eq!(rows[5].targets, [Some(339.585_752_091_204_77)]);
}

#[test]
fn real_cifs() {
    let Some(dir) = samples() else { return };
    let mut seen = 0;
    for path in ingest::input::sorted_dir(&dir.join("qmof/relaxed_structures")).unwrap() {
        let text = std::fs::read(&path).unwrap();
        let crystal = ingest::cif::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // Formula and volume are compared by the reader; the formula lists the whole cell in these files.
        let text = String::from_utf8(text).unwrap();
        let stated =
            |tag: &str| text.lines().find_map(|l| l.strip_prefix(tag)).unwrap().trim().trim_matches('\'');
        let atoms: usize = stated("_chemical_formula_sum")
            .split(' ')
            .map(|part| part.trim_start_matches(char::is_alphabetic).parse().unwrap_or(1))
            .sum();
        assert_eq!(crystal.atomic_numbers.len(), atoms, "{}", path.display());
        assert!((17..=500).contains(&atoms), "{}", path.display());
        let volume: f64 = stated("_cell_volume").parse().unwrap();
        let found = shards::structure::cell_volume(&crystal.cell);
        assert!((volume - found).abs() < 1e-5 * volume, "{}: {found}", path.display());
        seen += 1;
    }
    assert!(seen >= 100, "{seen}");
}

/// The table of the first release with the two structures whose reference codes are known.
#[test]
fn real_band_gaps_of_the_first_release() {
    let Some(dir) = samples() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let real = dir.join("qmof/relaxed_structures");
    for (file, code) in [("qmof-81035b4", "GORGOL_FSR"), ("qmof-fc0e787", "UNISEQ01_FSR")] {
        let from = real.join(format!("{file}.cif"));
        if from.exists() {
            std::fs::copy(from, scratch.path().join(format!("{code}.cif"))).unwrap();
        }
    }
    let inputs = [dir.join("qmof/opt-bandgaps.csv"), scratch.path().to_path_buf()];
    let source = source(Format::Qmof, &inputs, &Options::default());
    let total: u64 = source.units().iter().map(|u| u.structures).sum();
    assert_eq!((total, members(source.as_ref(), "train").len()), (14_482, 10_000));
    let all = read(source.as_ref());
    let got: BTreeMap<&str, (usize, Option<f64>)> =
        all.structures.iter().map(|s| (s.id.as_str(), (s.atoms(), s.targets[0]))).collect();
    assert_eq!(got["GORGOL_FSR"], (60, Some(1.647_473)));
    if let Some(second) = got.get("UNISEQ01_FSR") {
        assert_eq!(*second, (32, Some(3.899_547)));
    }
    assert_eq!(got.len() + all.rejects.len(), 14_482);
    assert_eq!(all.rejects[0].1, "there is no ABACUF01_FSR.cif");
}

const SODIUM: &str = r#"{"@class":"Structure","charge":null,"lattice":{"matrix":[[4,0,0],[0,4,0],[0,0,4]],"volume":64},"sites":[{"species":[{"element":"Na","occu":1}],"abc":[0,0,0.5],"xyz":[0,0,2],"label":"Na"}]}"#;

fn gzipped(dir: &Path, name: &str, text: &[u8]) -> PathBuf {
    let path = dir.join(name);
    let mut packed = GzEncoder::new(std::fs::File::create(&path).unwrap(), Compression::best());
    packed.write_all(text).unwrap();
    packed.finish().unwrap();
    path
}

fn document(row: &str) -> String {
    format!(r#"{{"columns":["structure","n"],"data":[[{SODIUM},1],{row}],"index":[0,1]}}"#)
}

/// A file whose second row is made from the sound one.
#[track_caller]
fn row_refused(from: &str, to: &str, expected: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let sound = format!("[{SODIUM},1]");
    assert!(sound.contains(from), "{from}");
    let text = document(&sound.replacen(from, to, 1));
    let path = gzipped(dir.path(), "matbench_dielectric.json.gz", text.as_bytes());
    check(Format::Matbench, &path, expected);
}

#[test]
fn matbench_rows_that_are_wrong() {
    row_refused("\"occu\":1", "\"occu\":0.5", &["row 1: site 0 is disordered: 0.5 of Na"]);
    row_refused("\"occu\":1}", "\"occu\":1},{\"element\":\"K\",\"occu\":1}", &["1 of Na, 1 of K"]);
    row_refused("\"Na\"", "\"Qq\"", &["row 1: site 0: `Qq` is no chemical element"]);
    row_refused("\"volume\":64", "\"volume\":-64", &["row 1: the cell's volume in Å³: stated -64"]);
    row_refused("[0,0,2]", "[0,NaN,2]", &["row 1: `xyz`: invalid type: string \"NaN\", expected f64"]);
    row_refused("[0,0,2]", "[0,2]", &["row 1: `xyz`: invalid length 2"]);
    row_refused("[0,0,2]", "\"up\"", &["row 1: `xyz`: invalid type: string \"up\""]);
    row_refused("[4,0,0]", "[1e999,0,0]", &["row 1: `matrix`: number out of range"]);
    row_refused("\"sites\":[", "\"sights\":[", &["row 1: `label`: missing field `sites`"]);
    row_refused(",1]", ",null]", &["row 1: `label`: expected a number, true or false"]);
    row_refused(",1]", ",1,2]", &["row 1: `label`: trailing characters"]);
    row_refused("\"element\":\"Na\"", "\"element\":{\"a\":[]}", &["row 1: `element`: invalid type: map"]);
}

#[test]
fn a_target_that_is_no_number_reaches_no_shard() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        gzipped(dir.path(), "matbench_dielectric.json.gz", document(&format!("[{SODIUM},NaN]")).as_bytes());
    let source = source(Format::Matbench, &[path], &Options::default());
    let mut all = Collected::default();
    source.read(0, &mut all).unwrap();
    assert_eq!(all.0[1].check().unwrap_err().to_string(), "`targets`: value 0 is NaN or infinite");
}

/// Keeps structures without judging them.
#[derive(Default)]
struct Collected(Vec<Structure>);

impl ingest::source::Sink for Collected {
    fn structure(&mut self, structure: Structure) -> Result<(), ingest::IngestError> {
        self.0.push(structure);
        Ok(())
    }

    fn reject(&mut self, id: &str, _: &'static str, reason: &str) -> Result<(), ingest::IngestError> {
        panic!("{id}: {reason}")
    }

    fn leave_out(&mut self, _: &str, _: &'static str, _: &str) {}
}

#[track_caller]
fn document_refused(text: &str, expected: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = gzipped(dir.path(), "matbench_dielectric.json.gz", text.as_bytes());
    check(Format::Matbench, &path, expected);
}

#[test]
fn matbench_documents_that_are_wrong() {
    let sound = document(&format!("[{SODIUM},1]"));
    let changed = |from: &str, to: &str| {
        assert!(sound.contains(from), "{from}");
        sound.replacen(from, to, 1)
    };
    document_refused(&changed("[0,1]}", "[1,0]}"), &["`index`: entry 0 is 1, expected 0"]);
    document_refused(&changed("[0,1]}", "[0]}"), &["1 entries in `index`, but 2 rows in `data`"]);
    document_refused(&changed(",\"index\":[0,1]", ""), &["no `index`: expected a table"]);
    document_refused(
        &changed("\"n\"", "\"last phdos peak\""),
        &["expected [\"structure\", \"n\"] for the task dielectric"],
    );
    document_refused("[1]", &["matbench_dielectric.json.gz: byte 0: expected an object `{`, found `[`"]);
    document_refused(&sound[..300], &["the text ends", "the file is truncated, fetch it again"]);
    document_refused(&changed("\"sites\":[{", "\"sites\":[}"), &["expected a value, found `}`"]);
    document_refused(&format!("{{\"data\":[[{}", "[".repeat(1 << 20)), &["more than 64 brackets"]);
    document_refused(&format!("{{\"{}\":1}}", "k".repeat(1 << 20)), &["a value of more than 4096 bytes"]);
    document_refused("{\"index\":[],\"columns\":[\"structure\",\"n\"],\"data\":[]}", &["`data` has no rows"]);
    let huge = format!("[{},1]", SODIUM.replace("\"Na\"}", &format!("\"{}\"}}", "N".repeat(17 << 20))));
    document_refused(&document(&huge), &["a value of more than 16777216 bytes, which no such file has"]);
}

#[test]
fn matbench_files_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture("matbench/matbench_phonons.json.gz")).unwrap();
    let cut = dir.path().join("matbench_phonons.json.gz");
    std::fs::write(&cut, &whole[..whole.len() - 100]).unwrap();
    check(Format::Matbench, &cut, &["matbench_phonons.json.gz", "fetch the file again"]);
    let renamed = dir.path().join("phonons.json.gz");
    std::fs::write(&renamed, &whole).unwrap();
    check(Format::Matbench, &renamed, &["expected a file named matbench_<task>.json.gz", "mp_is_metal"]);
    check(Format::Matbench, &fixture("matbench"), &["is one of 11 files", "give one task's file"]);

    // 80 MB of blanks in 80 kB.
    let bomb = gzipped(dir.path(), "matbench_mp_gap.json.gz", &vec![b' '; 80 << 20]);
    assert!(std::fs::metadata(&bomb).unwrap().len() < 1 << 20);
    check(Format::Matbench, &bomb, &["unpack to more than 100 times as many"]);

    let mut text = String::new();
    let metal = std::fs::File::open(fixture("matbench/matbench_mp_is_metal.json.gz")).unwrap();
    GzDecoder::new(metal).read_to_string(&mut text).unwrap();
    let unknown = text.replacen("}, false]", "}, null]", 1);
    assert_ne!(text, unknown);
    let path = gzipped(dir.path(), "matbench_mp_is_metal.json.gz", unknown.as_bytes());
    check(Format::Matbench, &path, &["`is_metal`: expected true or false, found null"]);
}

#[test]
fn qmof_inputs_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let db = fixture("qmof/qmof_database");
    let text = |name: &str| std::fs::read_to_string(db.join(name)).unwrap();
    let (properties, structures) = (text("qmof.json"), text("qmof_structure_data.json"));
    let pair = |properties: &str, structures: &str| {
        std::fs::write(dir.path().join("qmof.json"), properties).unwrap();
        std::fs::write(dir.path().join("qmof_structure_data.json"), structures).unwrap();
        refused(Format::Qmof, dir.path())
    };
    let says = |found: String, expected: &str| assert!(found.contains(expected), "{found}");
    says(
        pair(&properties, &structures.replacen("qmof-0000000", "qmof-0000001", 1)),
        "has `qmof-0000001` where the properties have `qmof-0000000`",
    );
    says(pair(&properties, "[]"), "0 structures, but qmof.json has 25 entries");
    says(pair(&properties, &structures[..2000]), "the text ends");
    says(
        pair(&properties.replacen("qmof-0000000", "../etc/passwd", 1), &structures),
        "entry 0: \"../etc/passwd\" is no id",
    );
    says(
        pair(&properties.replacen("\"bandgap\": 0.0", "\"bandgap\": []", 1), &structures),
        "entry 0: `bandgap`: expected a number",
    );
    says(
        pair(&properties, &structures.replacen("\"occu\": 1", "\"occu\": 2", 1)),
        "site 0 is disordered: 2 of Na",
    );
    // What was not calculated is no error: the row is left out, and said to be.
    says(pair(&properties.replacen("\"bandgap\": 0.0", "\"bandgap\": NaN", 1), &structures), "no_target");

    std::fs::remove_file(dir.path().join("qmof_structure_data.json")).unwrap();
    says(refused(Format::Qmof, dir.path()), "expected both qmof.json and qmof_structure_data.json");
    says(refused(Format::Qmof, &db.join("qmof.csv")), "expected both a table (qmof.csv) and CIF files");
    let zip = dir.path().join("relaxed_structures.zip");
    std::fs::write(&zip, "PK no archive").unwrap();
    says(refused(Format::Qmof, &zip), "not a readable zip archive");
}

#[test]
fn qmof_tables_and_cifs_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let db = fixture("qmof/qmof_database");
    let csv = std::fs::read_to_string(db.join("qmof.csv")).unwrap();
    let mut archive =
        zip::ZipArchive::new(std::fs::File::open(db.join("relaxed_structures.zip")).unwrap()).unwrap();
    archive.extract(dir.path()).unwrap();
    let first = dir.path().join("relaxed_structures/qmof-0000000.cif");
    let cif = std::fs::read_to_string(&first).unwrap();
    let with = |csv: &str, cif: &str| {
        std::fs::write(dir.path().join("qmof.csv"), csv).unwrap();
        std::fs::write(&first, cif).unwrap();
        refused(Format::Qmof, dir.path())
    };
    let says = |found: String, expected: &str| assert!(found.contains(expected), "{found}");
    says(
        with(&csv.replacen("bandgap", "bindgap", 1), &cif),
        "expected columns `qmof_id` and `outputs.pbe.bandgap`",
    );
    says(
        with(&csv.replacen("-50.0", "fifty", 1), &cif),
        "line 2: `outputs.pbe.energy_total`: expected a number, found \"fifty\"",
    );
    says(with(&csv.replacen(",-50.0", "", 1), &cif), "line 2: 5 fields, but the header has 6");
    says(
        with(&csv, &cif.replacen("_cell_length_a   3", "_cell_length_a   -3", 1)),
        "qmof-0000000.cif: line 4: `_cell_length_a`",
    );
    says(with(&csv, &cif[..cif.len() - 20]), "its last row is incomplete");
    says(with(&csv.replace("qmof-0000000", "qmof-1111111"), &cif), "there is no qmof-1111111.cif");
    let mut all = Collect::default();
    let source = source(Format::Qmof, &[dir.path().to_path_buf()], &Options::default());
    source.read(0, &mut all).unwrap();
    assert_eq!((all.structures.len(), all.rejects.len()), (24, 1));
    assert!(source.warnings().iter().any(|w| w.contains("1 CIF files are not in the table")));
}
