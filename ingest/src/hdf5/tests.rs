//! Files written by h5py: contiguous, chunked, filtered, old and new layouts.

use super::*;

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../tests/fixtures", name].iter().collect()
}

#[test]
fn names_with_dots_and_parentheses_are_names() {
    let file = Hdf5::open(&fixture("ani1x/ani1x-release.h5")).unwrap();
    let groups = file.root().groups().unwrap();
    let names: Vec<&str> = groups.iter().map(|g| g.0.as_str()).collect();
    assert_eq!(names, ["C10H2", "C1H2O1", "C1H4", "C2H6O1", "C3H4", "H2O1", "N2"]);
    let [z, x, e, cc] = groups[1]
        .1
        .require(["atomic_numbers", "coordinates", "wb97x_dz.energy", "ccsd(t)_cbs.energy"])
        .unwrap();
    assert_eq!(z.atomic_numbers().unwrap(), [6, 8, 1, 1]);
    assert_eq!(x.shape().unwrap(), [9, 4, 3]);
    assert!(matches!(x.numbers().unwrap(), Numbers::F32(v) if v.len() == 108));
    assert!(matches!(e.numbers().unwrap(), Numbers::F64(v) if v.len() == 9));
    assert_eq!(cc.shape().unwrap(), [9]);
}

#[test]
fn a_missing_dataset_is_named_with_what_there_is() {
    let file = Hdf5::open(&fixture("ani1x/ani1x-release.h5")).unwrap();
    let group = &file.root().groups().unwrap()[0].1;
    let error = group.require(["wb97x_qz.energy"]).unwrap_err().to_string();
    assert!(
        error.contains("group `/C10H2`: no `wb97x_qz.energy`; there is atomic_numbers, ccsd(t)_cbs.energy"),
        "{error}"
    );
}

#[test]
fn text_of_variable_length_is_read() {
    let file = Hdf5::open(&fixture("spice/SPICE.hdf5")).unwrap();
    let groups = file.root().groups().unwrap();
    let subset = groups.iter().find(|g| g.0 == "ala-gly").unwrap().1.text("subset").unwrap().unwrap();
    assert!(subset.contains("Dipeptides"), "{subset}");
    assert_eq!(groups[0].1.text("nothing").unwrap(), None);
}

#[test]
fn cut_files_are_refused_and_flipped_bytes_never_panic() {
    let whole = std::fs::read(fixture("ani1x/ani1x-release.h5")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.h5");
    let read = |bytes: &[u8]| -> Result<(), IngestError> {
        std::fs::write(&path, bytes).unwrap();
        for (_, group) in Hdf5::open(&path)?.root().groups()? {
            for name in group.datasets()? {
                let [dataset] = group.require([name.as_str()])?;
                dataset.numbers()?;
            }
        }
        Ok(())
    };
    read(&whole).unwrap();
    for end in (0..whole.len() - 64).step_by(1009) {
        assert!(read(&whole[..end]).is_err(), "cut at {end}");
    }
    for at in (0..whole.len()).step_by(37) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xa5;
        let _ = read(&bytes);
    }
    let error = read(b"no such thing").unwrap_err().to_string();
    assert!(error.ends_with("not an HDF5 file"), "{error}");
}
