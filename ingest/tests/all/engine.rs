//! What holds for every format: partitions, going on, filters, given references, explanations.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value as Json;

use crate::command_line::{contents, ok, refused, run, text};
use crate::fixture;

/// A source of several units: the LMDB files of a fixture, some of them under other names too.
fn several_files(dir: &Path) -> String {
    for (split, copies) in [("train", 4), ("val_id", 3)] {
        fs::create_dir_all(dir.join(split)).unwrap();
        for copy in 0..copies {
            let name = format!("{split}/data.{copy:04}.lmdb");
            fs::copy(fixture("oc22/s2ef-total").join(format!("{split}/data.0000.lmdb")), dir.join(name))
                .unwrap();
        }
    }
    dir.display().to_string()
}

#[test]
fn partitions_merge_into_the_bytes_of_one_conversion() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name).display().to_string();
    let input = several_files(&dir.path().join("source"));
    let convert = |output: &str, more: &[&str]| {
        let base =
            ["convert", "--dataset", "oc22", "--input", &input, "--output", output, "--allow-duplicate-ids"];
        run(&[&base, more].concat())
    };
    assert!(convert(&out("one"), &[]).status.success());
    let one = contents(&dir.path().join("one"));
    assert!(one.contains_key("outliers.parquet") && one.contains_key("splits/val_id.parquet"));
    for n in [1, 2, 3, 7] {
        let mut parts: Vec<String> = (1..=n).map(|i| out(&format!("{n}-{i}"))).collect();
        for (i, part) in parts.iter().enumerate() {
            let output = convert(part, &["--partition", &format!("{}/{n}", i + 1), "--jobs", "2"]);
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
        parts.reverse();
        let merged = out(&format!("merged-{n}"));
        let arguments: Vec<&str> =
            ["merge", &merged].into_iter().chain(parts.iter().map(String::as_str)).collect();
        ok(&arguments);
        assert!(contents(Path::new(&merged)) == one, "{n} partitions make other bytes");
    }
    ok(&["verify", &out("merged-3")]);
    refused(&["merge", &out("x"), &out("3-1"), &out("3-3")], "partitions are missing: 2/3");
    refused(&["merge", &out("x"), &out("3-1"), &out("3-1"), &out("3-2")], "is partition 1/3 again");
    refused(&["merge", &out("x"), &out("3-1"), &out("2-2")], "is a partition of another conversion");
    refused(&["merge", &out("x"), &out("one")], "holds no finished partition");
    refused(&["verify", &out("3-1")], "holds one partition of a dataset; put all of them together");
    refused(&["merge", &out("merged-2"), &out("2-1"), &out("2-2")], "holds a finished dataset already");
    assert_eq!(convert(&out("y"), &["--partition", "4/3"]).status.code(), Some(2));
}

#[test]
fn an_interrupted_conversion_is_not_continued_with_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let input = several_files(&dir.path().join("source"));
    let out = dir.path().join("out").display().to_string();
    // The last file breaks off.
    let broken = dir.path().join("source/val_id/data.0002.lmdb");
    let whole = fs::read(&broken).unwrap();
    fs::write(&broken, &whole[..whole.len() - 3 * 4096]).unwrap();
    let base = [
        "convert",
        "--dataset",
        "oc22",
        "--input",
        &input,
        "--output",
        &out,
        "--jobs",
        "1",
        "--allow-duplicate-ids",
    ];
    let resumed = [&base[..], &["--resume"]].concat();
    refused(&base, "is truncated");
    fs::write(&broken, &whole).unwrap();
    // A file that finished units were read from is now another of the same size.
    let first = dir.path().join("source/train/data.0000.lmdb");
    let bytes = fs::read(&first).unwrap();
    let mut other = bytes.clone();
    let at = other.len() - 1;
    other[at] ^= 1;
    fs::write(&first, &other).unwrap();
    refused(&resumed, "data.0000.lmdb: is not the file that the interrupted conversion has read");
    fs::File::options().append(true).open(&first).unwrap().write_all(&[0; 4096]).unwrap();
    refused(&resumed, "is not the file that the interrupted conversion has read");
    // The same bytes again, though written later, will do.
    fs::write(&first, &bytes).unwrap();
    let said = ok(&resumed);
    assert!(said.contains("6 units finished by an earlier run"), "{said}");
    let straight = dir.path().join("straight").display().to_string();
    ok(&["convert", "--dataset", "oc22", "--input", &input, "--output", &straight, "--allow-duplicate-ids"]);
    assert!(contents(Path::new(&out)) == contents(Path::new(&straight)));
}

#[test]
fn a_full_disk_is_told_and_the_conversion_goes_on_later() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let input = fixture("ani1x/ani1x-release.h5").display().to_string();
    let command = format!(
        "trap '' XFSZ; ulimit -f 8; exec {} convert --dataset ani1x --input {input} --output {out} --quiet",
        env!("CARGO_BIN_EXE_jmp-ingest")
    );
    // A limit on the size of files stands in for the end of a disk: writes fail halfway in the same manner.
    let output = std::process::Command::new("bash").args(["-c", &command]).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("part-00000.parquet") && said.contains("File too large") && said.lines().count() == 1,
        "{said}"
    );
    assert!(!Path::new(&out).join("manifest.json").exists());
    ok(&["convert", "--dataset", "ani1x", "--input", &input, "--output", &out, "--resume"]);
    ok(&["verify", &out]);
}

#[test]
fn ids_that_come_twice_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (out, input) =
        (dir.path().join("out").display().to_string(), several_files(&dir.path().join("source")));
    let base = ["convert", "--dataset", "oc22", "--input", &input, "--output", &out];
    refused(&base, "rows have the id of an earlier row");
    let said = ok(&[&base[..], &["--resume", "--allow-duplicate-ids"]].concat());
    assert!(said.contains("(duplicate_id)") && said.contains("(duplicate_structure)"), "{said}");
}

#[test]
fn filters_are_recorded_and_what_they_leave_out_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let input = fixture("ani1x/ani1x-release.h5").display().to_string();
    let base = ["convert", "--dataset", "ani1x", "--input", &input, "--output"];
    let all = dir.path().join("all").display().to_string();
    let count = |said: &str| serde_json::from_str::<Json>(said).unwrap()["structures"].as_u64().unwrap();
    let before = count(&ok(&[&base[..], &[&all, "--json"]].concat()));
    let said =
        ok(&[&base[..], &[&out, "--json", "--filter", "max-force=2.5", "--filter", "max-atoms=12"]].concat());
    let result: Json = serde_json::from_str(&said).unwrap();
    let left = |code: &str| result["left_out"][code].as_u64().unwrap_or(0);
    let (forces, atoms) = (left("filter_max_force"), left("filter_max_atoms"));
    assert!(forces > 0 && forces + atoms + count(&said) == before, "{result}");
    let manifest: Json =
        serde_json::from_slice(&fs::read(dir.path().join("out/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["dataset"]["choices"]["filter"], "max-force=2.5, max-atoms=12");
    assert!(manifest["checks"]["forces"]["median"].as_f64().unwrap() < 2.5);
    refused(&[&base[..], &[&out, "--filter", "nice=1"]].concat(), "max-energy-per-atom");
    // Other filters are another conversion.
    let part = dir.path().join("part").display().to_string();
    ok(&[&base[..], &[&part, "--partition", "1/2", "--filter", "max-force=3"]].concat());
    let other = dir.path().join("other").display().to_string();
    ok(&[&base[..], &[&other, "--partition", "2/2"]].concat());
    refused(&["merge", &dir.path().join("m").display().to_string(), &part, &other], "of another conversion");
}

/// An npz of one array, uncompressed, as numpy writes it.
fn npz(path: &Path, name: &str, shape: &str, values: &[f64]) {
    let mut header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend_from_slice(&(header.len() as u16).to_le_bytes());
    npy.extend_from_slice(header.as_bytes());
    values.iter().for_each(|v| npy.extend_from_slice(&v.to_le_bytes()));
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file(format!("{name}.npy"), options).unwrap();
    zip.write_all(&npy).unwrap();
    zip.finish().unwrap();
}

#[test]
fn a_published_reference_is_taken_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("linref.npz"), dir.path().join("out").display().to_string());
    let input = fixture("ani1x/ani1x-release.h5").display().to_string();
    let mut values = vec![0.0; 2 * 10];
    for (z, value) in [(1, -13.6), (6, -1029.4), (7, -1484.9), (8, -2041.8)] {
        (values[z], values[10 + z]) = (value, 1.0);
    }
    npz(&file, "coeff", "(2, 10)", &values);
    let path = file.display().to_string();
    let base =
        ["convert", "--dataset", "ani1x", "--input", &input, "--output", &out, "--linear-reference", &path];
    ok(&base);
    let manifest: Json =
        serde_json::from_slice(&fs::read(dir.path().join("out/manifest.json")).unwrap()).unwrap();
    let reference = &manifest["splits"]["train"]["statistics"]["labels"]["energy"]["reference"];
    assert_eq!((&reference["given"], &reference["rank"]), (&"linref.npz".into(), &Json::Null));
    assert_eq!(reference["coefficients"]["6"], -1029.4);
    assert!(
        manifest["dataset"]["choices"]["linear_reference"]
            .as_str()
            .unwrap()
            .starts_with("linref.npz (BLAKE3 ")
    );

    let inspected: Json = serde_json::from_str(&ok(&["inspect", &out, "--json"])).unwrap();
    assert!(inspected.is_object());
    let missing = text(&run(&["explain", &out, "no such"]).stderr);
    let id = missing.split("the first id is `").nth(1).unwrap().split('`').next().unwrap();
    let told: Json = serde_json::from_str(&ok(&["explain", &out, id, "--json"])).unwrap();
    let energy = &told["labels"]["energy"];
    let number = |v: &Json| v.as_f64().unwrap();
    let counted: f64 = told["atomic_numbers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|z| number(&reference["coefficients"][z.to_string()]))
        .sum();
    assert!((number(&energy["reference"]) - counted).abs() < 1e-9);
    assert_eq!(energy["raw_unit"], "hartree");
    assert!((number(&energy["raw"]) * 27.211_386_024_367_243 - number(&energy["converted"])).abs() < 1e-9);
    let (mean, std) = (number(&energy["mean"]), number(&energy["std"]));
    let normalised = (number(&energy["converted"]) - counted - mean) / std;
    assert!((number(&energy["normalised"]) - normalised).abs() < 1e-9);
    let forces = &told["forces"];
    let component = |kind: &str| number(&forces[kind][4]);
    assert!((component("raw") * 27.211_386_024_367_243 - component("converted")).abs() < 1e-6);
    assert!((component("normalised") * number(&forces["scale"]) - component("converted")).abs() < 1e-9);
    let said = ok(&["explain", &out, id]);
    for word in ["hartree", "referenced", "normalised", "reference and normalisation of split train"] {
        assert!(said.contains(word), "{said}");
    }

    let out = dir.path().join("again").display().to_string();
    values[8] = 0.0;
    npz(&file, "coeff", "(2, 10)", &values);
    let base =
        ["convert", "--dataset", "ani1x", "--input", &input, "--output", &out, "--linear-reference", &path];
    refused(&base, "element O (Z = 8) is absent from the linear reference `linref.npz`");
    npz(&file, "mean", "(20,)", &values);
    refused(&base, "coeff");
}

#[test]
fn a_profile_adds_up() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let input = fixture("rmd17/rmd17/npz_data/rmd17_ethanol.npz").display().to_string();
    let base = ["convert", "--dataset", "rmd17", "--input", &input, "--output", &out, "--jobs", "1"];
    let told: Json = serde_json::from_str(&ok(&[&base[..], &["--json"]].concat())).unwrap();
    let profile = &told["profile"];
    let seconds = |name: &str| profile[name].as_f64().unwrap();
    let steps: f64 = ["parse", "check", "neighbors", "compress", "write", "hash_sources", "measure"]
        .map(seconds)
        .iter()
        .sum();
    assert!(steps > 0.0 && steps <= seconds("wall") + 1e-3, "{profile}");
    assert!(["check", "neighbors", "compress", "write"].iter().all(|s| seconds(s) > 0.0), "{profile}");
}
