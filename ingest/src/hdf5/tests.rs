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

#[test]
fn links_lead_where_they_say() {
    let links = links::Links::open(&fixture("transition1x/transition1x.h5")).unwrap().unwrap();
    let root: Vec<String> = links.list("/").unwrap().unwrap().into_iter().map(|l| l.0).collect();
    assert_eq!(root, ["data", "test", "train", "val"]);
    let test = links.list("test/C3H4").unwrap().unwrap();
    assert_eq!(test, [("rxn0003".to_owned(), links::Link::Soft("/data/C3H4/rxn0003".to_owned()))]);
    let followed = links.list("test/C3H4/rxn0003").unwrap().unwrap();
    let direct = links.list("data/C3H4/rxn0003").unwrap().unwrap();
    assert!(followed == direct && followed.len() == 7, "{followed:?}");
    assert_eq!(links.list("test/none").unwrap(), None);
}

#[test]
fn damaged_link_tables_end() {
    let whole = std::fs::read(fixture("transition1x/transition1x.h5")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.h5");
    for at in (0..whole.len().min(24_000)).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] = bytes[at].wrapping_add(0x11);
        std::fs::write(&path, &bytes).unwrap();
        let Ok(Some(links)) = links::Links::open(&path) else { continue };
        for group in ["/", "test", "test/C3H4", "val/C2H4O/rxn0107"] {
            let _ = links.list(group);
        }
    }
    // A soft link to itself.
    let mut bytes = whole.clone();
    let (old, new) = (b"/data/C3H4/rxn0003\0", b"/test/C3H4/rxn0003\0");
    let at = bytes.windows(old.len()).position(|w| w == old).unwrap();
    bytes[at..at + new.len()].copy_from_slice(new);
    std::fs::write(&path, &bytes).unwrap();
    let links = links::Links::open(&path).unwrap().unwrap();
    assert!(links.list("test/C3H4/rxn0003").unwrap_err().to_string().contains("in a circle"));
}
