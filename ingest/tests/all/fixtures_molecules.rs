//! QM9, MD17, rMD17, MD22 and SPICE: every fixture decodes to its truth.json, in every form it comes in.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ingest::convert::{Progress, Settings, convert};
use ingest::formats::{Format, Options, open};
use ingest::input::Input;
use ingest::source::{Members, Source, SplitPlan};
use serde_json::Value as Json;
use shards::targets::TargetTransform;
use shards::units::ConstantSet;
use shards::writer::DuplicateIds;
use shards::{FloatWidth, Structure};

use crate::{Collect, check, close, fixture, numbers, read, source, truth};

fn options() -> Options {
    Options::default()
}

/// The rows of a split, by where their ids stand among the structures.
fn rows(plan: &SplitPlan, structures: &[Structure]) -> BTreeSet<usize> {
    let Members::Ids(ids) = &plan.members else { panic!("{} is not made of ids", plan.name) };
    let rows: BTreeSet<usize> =
        structures.iter().enumerate().filter(|(_, s)| ids.contains(&s.id)).map(|(row, _)| row).collect();
    assert_eq!(rows.len(), ids.len(), "{} names structures that are not there", plan.name);
    rows
}

fn list(value: &Json) -> BTreeSet<usize> {
    numbers(value).into_iter().map(|x| x as usize).collect()
}

#[track_caller]
fn split<'s>(source: &'s dyn Source, name: &str) -> &'s SplitPlan {
    let splits = source.splits();
    splits.iter().find(|s| s.name == name).unwrap_or_else(|| {
        panic!("no split {name}; there is {:?}", splits.iter().map(|s| &s.name).collect::<Vec<_>>())
    })
}

fn open_one(format: Format, path: &Path, options: &Options) -> (Box<dyn Source>, Collect) {
    let source = source(format, &[path.to_path_buf()], options);
    let all = read(source.as_ref());
    (source, all)
}

/// Names of QM9's targets → their values.
fn targets(source: &dyn Source, structure: &Structure) -> BTreeMap<String, Option<f64>> {
    let names = source.layout().targets.iter().map(|t| t.name.clone());
    names.zip(structure.targets.iter().copied()).collect()
}

const ATOMISATION: [&str; 4] = ["U_0_ATOM", "U_ATOM", "H_ATOM", "G_ATOM"];

#[test]
fn qm9_in_its_three_forms() {
    let truth = truth("qm9");
    let forms = ["pyg_raw", "pyg_raw/gdb9.sdf", "xyz", "dsgdb9nsd.xyz.tar.bz2", "qm9_v3.pt"];
    for form in forms {
        let inputs = match form {
            // The list lies with the other form's files.
            "xyz" | "dsgdb9nsd.xyz.tar.bz2" => {
                vec![fixture("qm9").join(form), fixture("qm9/pyg_raw/uncharacterized.txt")]
            }
            _ => vec![fixture("qm9").join(form)],
        };
        let source = source(Format::Qm9, &inputs, &options());
        let all = read(source.as_ref());
        let ids: Vec<String> =
            numbers(&truth["kept_ids"]).into_iter().map(|id| format!("gdb_{}", id as u64)).collect();
        assert_eq!(all.structures.iter().map(|s| s.id.clone()).collect::<Vec<_>>(), ids, "{form}");
        let skipped: Vec<(String, String)> = numbers(&truth["skipped_ids_1based"])
            .into_iter()
            .map(|id| (format!("gdb_{}", id as u64), "uncharacterised".to_owned()))
            .collect();
        let torch = form == "qm9_v3.pt";
        assert_eq!(all.rejects, if torch { vec![] } else { skipped }, "{form}");
        let order: Vec<String> = source.layout().targets.iter().map(|t| t.name.clone()).collect();
        assert_eq!(Json::from(order), truth["target_order"]);
        let xyz = source.layout().float == FloatWidth::F64;
        assert_eq!(xyz, form.contains("xyz"), "{form}");
        for key in ["first", "last", "third_has_tiny"] {
            let want = &truth[key];
            let id = format!("gdb_{}", want["id"]);
            let got = all.structures.iter().find(|s| s.id == id).unwrap();
            let z: Vec<f64> = got.atomic_numbers.iter().map(|&z| f64::from(z)).collect();
            assert_eq!(z, numbers(&want["numbers"]), "{form}");
            let (places, tolerance) =
                if xyz { ("positions_ang", 0.0) } else { ("positions_sdf_4_decimals", 1e-6) };
            close(&id, "positions", &got.positions.to_f64(), &numbers(&want[places]), tolerance);
            assert!(got.energy.is_none() && got.forces.is_none());
            for (name, value) in targets(source.as_ref(), got) {
                if xyz && ATOMISATION.contains(&name.as_str()) {
                    continue; // The fixture's are made up; `qm9_atomisation_energies_of_the_xyz_files` looks at them.
                }
                let (value, expected) = (value.unwrap(), want["targets"][&name].as_f64().unwrap());
                // The torch file holds products of single precision.
                let tolerance = if torch { 3e-7 * expected.abs() } else { 1e-9 };
                assert!((value - expected).abs() <= tolerance, "{form}: {id}: {name} {value} {expected}");
            }
        }
        assert_eq!(source.header().constants.unwrap().hartree_ev, 27.211_386_246);
        let warnings = source.warnings();
        assert!(
            warnings.len() == 1 && warnings[0].contains("27 molecules are not the 130831"),
            "{warnings:?}"
        );
        // The split of 27 molecules, by numpy.
        let held_out = |name| rows(split(source.as_ref(), name), &all.structures);
        assert_eq!((held_out("val"), held_out("test")), ([10, 14].into(), [6, 19].into()), "{form}");
        assert_eq!(held_out("train").len(), 23);
    }
}

#[test]
fn qm9_atomisation_energies_of_the_xyz_files() {
    let (source, all) = open_one(Format::Qm9, &fixture("qm9/xyz"), &options());
    // No list beside it: told, and nothing is left out.
    assert_eq!((all.structures.len(), all.rejects.len()), (30, 0));
    assert!(source.warnings()[0].contains("no uncharacterized.txt"), "{:?}", source.warnings());
    // The first molecule is OH: U_0 − O − H.
    let first = targets(source.as_ref(), &all.structures[0]);
    let atoms = -2_042.611_235_93 - 13.613_121_72;
    assert!((first["U_0_ATOM"].unwrap() - (first["U_0"].unwrap() - atoms)).abs() < 1e-9);
}

#[test]
fn qm9_says_which_file_it_wants() {
    let told = |inputs: &[PathBuf], why: &str| {
        let inputs: Vec<Input> = inputs.iter().map(|p| Input { split: None, path: p.clone() }).collect();
        let error = open(Format::Qm9, &inputs, &options()).err().unwrap();
        assert!(error.to_string().contains(why) && error.is_bad_input(), "{error}");
    };
    told(&[fixture("qm9")], "dsgdb9nsd.xyz.tar.bz2 and ");
    told(&[fixture("qm9/truth.json")], "expected gdb9.sdf, qm9_v3.pt");
    told(&[fixture("qm9/qm9_v3.pt"), fixture("qm9/xyz")], "QM9 is one input");
    told(&[fixture("md22")], "no file named *.sdf");
}

#[test]
fn rmd17_and_md22_npz() {
    let truth = truth("md22");
    for (molecule, want) in truth["molecules"].as_object().unwrap() {
        let path = fixture("md22").join(format!("md22_{molecule}.npz"));
        let options = Options { train_total: Some(20), ..options() };
        let (source, all) = open_one(Format::Md22, &path, &options);
        assert_eq!(source.header().name, format!("md22-{molecule}"));
        assert_eq!(all.structures.len() as u64, want["frames"].as_u64().unwrap());
        check(&all.structures[0], &want["first"]);
        check(&all.structures[39], &want["last"]);
        let jmp = &want["jmp_style_split"];
        for (name, key) in [("train", "train"), ("val", "val_idx"), ("test", "test")] {
            let got = rows(split(source.as_ref(), name), &all.structures);
            assert_eq!(got, list(&jmp[key]), "{molecule}: {name}");
        }
        // JMP's own number of rows is more than the fixture has: one split of everything.
        let (source, _) = open_one(Format::Md22, &path, &Options::default());
        let names: Vec<&str> = source.splits().iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["all"]);
    }
}

#[test]
fn md22_extxyz_is_the_npz() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { train_total: Some(20), ..options() };
    let (npz, want) = open_one(Format::Md22, &fixture("md22/md22_stachyose.npz"), &options);
    let kcal = 0.043_364_103_900_593_22;
    let path = dir.path().join("md22_stachyose.xyz");
    let mut file = std::fs::File::create(&path).unwrap();
    for s in &want.structures {
        let (energy, forces) = (s.energy.unwrap() / kcal, s.forces.as_ref().unwrap().to_f64());
        writeln!(file, "{}\nProperties=species:S:1:pos:R:3:forces:R:3 Energy={energy:?}", s.atoms()).unwrap();
        for (i, &z) in s.atomic_numbers.iter().enumerate() {
            let at = |v: &[f64], k: usize| v[3 * i + k];
            let (r, f) = (s.positions.to_f64(), forces.iter().map(|f| f / kcal).collect::<Vec<_>>());
            let symbol = shards::element::symbol(z);
            let numbers = [at(&r, 0), at(&r, 1), at(&r, 2), at(&f, 0), at(&f, 1), at(&f, 2)];
            writeln!(file, "{symbol} {}", numbers.map(|x| format!("{x:?}")).join(" ")).unwrap();
        }
    }
    drop(file);
    let (xyz, got) = open_one(Format::Md22, &path, &options);
    assert_eq!(got.rejects, []);
    assert_eq!(got.structures.len(), want.structures.len());
    for (got, want) in got.structures.iter().zip(&want.structures) {
        assert_eq!(
            (&got.id, &got.atomic_numbers, &got.positions),
            (&want.id, &want.atomic_numbers, &want.positions)
        );
        assert!((got.energy.unwrap() - want.energy.unwrap()).abs() < 1e-12);
        let forces = |s: &Structure| s.forces.as_ref().unwrap().to_f64();
        close(&got.id, "forces", &forces(got), &forces(want), 1e-14);
    }
    assert_eq!(xyz.splits(), npz.splits());
    assert_eq!(xyz.header().name, "md22-stachyose");
}

/// An npz whose members are named as given; `keys`: (name in the fixture, name in the new file).
fn renamed(dir: &Path, name: &str, from: &str, keys: &[(&str, &str)]) -> PathBuf {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(fixture(from)).unwrap()).unwrap();
    let path = dir.join(name);
    let mut out = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    for (old, new) in keys {
        let mut member = archive.by_name(&format!("{old}.npy")).unwrap();
        out.start_file(format!("{new}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        std::io::copy(&mut member, &mut out).unwrap();
    }
    out.finish().unwrap();
    path
}

type Keys<'k> = &'k [(&'k str, &'k str)];

#[test]
fn npz_with_some_keys_of_any_name() {
    let dir = tempfile::tempdir().unwrap();
    let from = "rmd17/rmd17/npz_data/rmd17_ethanol.npz";
    let whole = read(source(Format::Rmd17, &[fixture(from)], &options()).as_ref()).structures;
    let both = [("nuclear_charges", "z"), ("coords", "R"), ("energies", "E"), ("forces", "F")];
    let cases: [(Format, &str, Keys, &str); 4] = [
        (
            Format::Rmd17,
            "ethanol.npz",
            &[both[0], both[1], ("energies", "energies"), ("forces", "forces")],
            "rmd17-ethanol",
        ),
        (Format::Md17, "ethanol_dft.npz", &both, "md17-ethanol"),
        (Format::Md17, "md17_ethanol_2000.npz", &both[..3], "md17-ethanol"),
        (Format::Md17, "x-y.npz", &[both[0], both[1], both[3]], "md17-x-y"),
    ];
    for (format, name, keys, dataset) in cases {
        let path = renamed(dir.path(), name, from, keys);
        let (source, all) = open_one(format, &path, &options());
        assert_eq!(source.header().name, dataset);
        let molecule = dataset.split_once('-').unwrap().1;
        let has = |key: &str| keys.iter().any(|k| k.0 == key);
        for (row, (got, want)) in all.structures.iter().zip(&whole).enumerate() {
            assert_eq!(got.id, format!("{molecule}/{row}"), "{name}: no old_indices, so rows are counted");
            assert_eq!(got.positions, want.positions);
            assert_eq!(got.energy, want.energy.filter(|_| has("energies")), "{name}");
            assert_eq!(got.forces, want.forces.clone().filter(|_| has("forces")), "{name}");
        }
        assert_eq!(all.structures.len(), whole.len());
    }
}

#[test]
fn rmd17_lists_are_found_beside_the_file_too_and_fifty_rows_are_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let npz = dir.path().join("rmd17_ethanol.npz");
    std::fs::copy(fixture("rmd17/rmd17/npz_data/rmd17_ethanol.npz"), &npz).unwrap();
    let (plain, _) = open_one(Format::Rmd17, &npz, &options());
    assert_eq!(plain.splits().iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["all"]);
    std::fs::write(dir.path().join("index_train_01.csv"), "3\n0\n\n7\n").unwrap();
    let (source, all) = open_one(Format::Rmd17, &npz, &options());
    assert_eq!(rows(split(source.as_ref(), "train_01"), &all.structures), [0, 3, 7].into());
    std::fs::write(dir.path().join("index_train_01.csv"), "3\nfour\n").unwrap();
    let inputs = [Input { split: None, path: npz }];
    let error = open(Format::Rmd17, &inputs, &options()).err().unwrap().to_string();
    assert!(
        error.contains("index_train_01.csv: line 2: expected a row number below 50, found \"four\""),
        "{error}"
    );
}

#[test]
fn spice_subsets_splits_and_signs() {
    let truth = truth("spice");
    for (file, want) in truth["files"].as_object().unwrap() {
        let (source, all) = open_one(Format::Spice, &fixture("spice").join(file), &options());
        assert_eq!(all.structures.len() as u64, want["count"].as_u64().unwrap(), "{file}");
        for name in ["train", "val", "test"] {
            let got = rows(split(source.as_ref(), name), &all.structures);
            assert_eq!(got, list(&want["jmp_split"][name]), "{file}: {name}");
        }
        let mut groups: Vec<Json> = all.structures.iter().map(|s| Json::from(s.group.clone())).collect();
        groups.dedup();
        assert_eq!(Json::from(groups), want["group_order"], "{file}");
    }
    let (source, all) = open_one(Format::Spice, &fixture("spice/SPICE.hdf5"), &options());
    assert_eq!(source.layout().float, FloatWidth::F32);
    for key in ["first_dipeptide", "last_dipeptide", "first_saa", "ion_pair_first"] {
        let want = &truth[key];
        let got = all.structures.iter().find(|s| want["sid"] == s.id.as_str()).unwrap();
        check(got, want);
        let formation = want["formation_energy_ev"].as_f64().unwrap();
        assert!((got.targets[0].unwrap() - formation).abs() < 1e-9, "{key}");
    }
    // The subsets' own splits are there beside those of the whole file, and are those of the single files.
    for (subset, file) in
        [("dipeptides", "dipeptides.h5"), ("solvated amino acids", "solvated_amino_acids.h5")]
    {
        let (alone, one) = open_one(Format::Spice, &fixture("spice").join(file), &options());
        let chosen = Options { subset: Some(subset.to_owned()), ..options() };
        let (part, same) = open_one(Format::Spice, &fixture("spice/SPICE.hdf5"), &chosen);
        assert_eq!(one.structures, same.structures);
        assert_eq!(part.splits(), alone.splits());
        assert_eq!(part.header().name, format!("spice-{}", subset.replace(' ', "-")));
        for name in ["train", "val", "test"] {
            let inside = split(source.as_ref(), &format!("{}_{name}", subset.replace(' ', "_")));
            assert_eq!(inside.members, split(alone.as_ref(), name).members);
        }
    }
}

#[test]
fn spice_filter_and_constants() {
    let path = fixture("spice/SPICE.hdf5");
    let limit = 0.035;
    let (_, all) = open_one(Format::Spice, &path, &Options { max_gradient: Some(limit), ..options() });
    assert_eq!(all.structures.len() + all.rejects.len(), 42);
    assert!(!all.rejects.is_empty() && all.rejects.iter().all(|r| r.1 == "large_gradient"));
    let largest = |s: &Structure| s.forces.as_ref().unwrap().iter().map(f64::abs).fold(0.0, f64::max);
    assert!(all.structures.iter().all(|s| largest(s) <= limit * 51.422_067_1));
    let (_, jmp) = open_one(Format::Spice, &path, &Options { constants: ConstantSet::Jmp, ..options() });
    let (_, ase) = open_one(Format::Spice, &path, &options());
    let ratio = jmp.structures[0].energy.unwrap() / ase.structures[0].energy.unwrap();
    assert!((ratio - 27.211_402_666_173_235 / 27.211_386_024_367_243).abs() < 1e-14);
}

/// Hears nothing.
struct Silent;

impl Progress for Silent {
    fn advance(&self, _: u64, _: u64) {}
    fn resumed(&self, _: u64) {}
    fn measuring(&self) {}
}

fn settings(output: PathBuf) -> Settings {
    Settings {
        output,
        jobs: 2,
        neighbors: None,
        max_rejects: 0,
        resume: false,
        filters: vec![],
        reference: None,
        duplicate_ids: DuplicateIds::Refuse,
    }
}

#[test]
fn qm9_references_are_fitted_on_each_split_and_kept_in_the_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(Format::Qm9, &[fixture("qm9/pyg_raw")], &options());
    let settings = settings(dir.path().join("qm9"));
    let outcome = convert(source.as_ref(), &settings, &Silent, &AtomicBool::new(false)).unwrap();
    assert_eq!(outcome.manifest.rejects, BTreeMap::from([("uncharacterised".to_owned(), 3)]));
    let dataset = shards::Dataset::open(&settings.output).unwrap();
    let manifest = dataset.manifest();
    let structures: Vec<Structure> =
        dataset.split("train").unwrap().iter().map(|row| dataset.structure(row).unwrap()).collect();
    let labels = &manifest.split(dataset.dir(), "train").unwrap().statistics.labels;
    assert_eq!((structures.len(), labels.len()), (23, 19));
    for (place, target) in manifest.layout.targets.iter().enumerate() {
        let label = &labels[&target.name];
        let y: Vec<f64> = structures.iter().map(|s| s.targets[place].unwrap()).collect();
        let n = y.len() as f64;
        let moments = |v: &[f64]| {
            let mean = v.iter().sum::<f64>() / n;
            (mean, (v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
        };
        let near = |a: f64, b: f64| (a - b).abs() < 1e-8 * (1.0 + b.abs());
        let (mean, std) = moments(&y);
        assert!(near(label.mean, mean) && near(label.std, std), "{}", target.name);
        let residuals: Vec<f64> = structures
            .iter()
            .zip(&y)
            .map(|(s, y)| y - label.reference.of(&s.atomic_numbers).unwrap())
            .collect();
        // Least squares: what is left is orthogonal to the count of each element.
        for z in label.reference.coefficients.keys() {
            let count =
                |s: &Structure| s.atomic_numbers.iter().map(|a| f64::from(u8::from(a == z))).sum::<f64>();
            let product: f64 = structures.iter().zip(&residuals).map(|(s, r)| count(s) * r).sum();
            assert!(product.abs() < 1e-6, "{}: element {z}: {product}", target.name);
        }
        let (mean, std) = moments(&residuals);
        assert!(near(label.referenced.mean, mean) && near(label.referenced.std, std), "{}", target.name);
        let transform = TargetTransform::of_label(manifest, dataset.dir(), "train", &target.name).unwrap();
        assert_eq!(transform.reference.is_some(), target.referenced);
    }
}

#[test]
fn a_directory_of_files_is_one_source_with_one_hash() {
    let dir = tempfile::tempdir().unwrap();
    let xyz = dir.path().join("xyz");
    std::fs::create_dir(&xyz).unwrap();
    for id in ["000001", "000002", "000003"] {
        let name = format!("dsgdb9nsd_{id}.xyz");
        std::fs::copy(fixture("qm9/xyz").join(&name), xyz.join(&name)).unwrap();
    }
    let converted = |name: &str| {
        let source = source(Format::Qm9, std::slice::from_ref(&xyz), &options());
        let settings = settings(dir.path().join(name));
        convert(source.as_ref(), &settings, &Silent, &AtomicBool::new(false)).unwrap().manifest.sources
    };
    let before = converted("before");
    assert_eq!((before.len(), before[0].name.as_str()), (1, "xyz"));
    assert_eq!(before, converted("again"));
    let file = xyz.join("dsgdb9nsd_000002.xyz");
    std::fs::rename(&file, xyz.join("dsgdb9nsd_000009.xyz")).unwrap();
    assert!(before[0].blake3 != converted("after")[0].blake3);
}
