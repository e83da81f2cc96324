//! Files written by liblmdb itself, cut and damaged.

use std::path::PathBuf;

use super::*;

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../tests/fixtures", name].iter().collect()
}

/// All files that liblmdb wrote for the fixtures: with and without overflow pages, one and two levels.
const FILES: [&str; 6] = [
    "oc20/s2ef_pyg1/data.0000.lmdb",
    "oc20/s2ef_pyg2/data.0001.lmdb",
    "oc20/is2re/data.lmdb",
    "oc22/s2ef-total/train/data.0000.lmdb",
    "oc22/s2ef-total/test_id/data.0000.lmdb",
    "aselmdb/native.aselmdb",
];

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Every key with its value, or the first error.
fn read_all(path: &Path) -> Result<Entries, LmdbError> {
    let mut reader = Reader::open(path)?;
    let keys = reader.keys(10_000)?;
    let mut all = Vec::new();
    for key in keys {
        let value = reader.get(&key)?;
        all.push((key, value.unwrap_or_default()));
    }
    Ok(all)
}

#[test]
fn keys_come_in_order_and_each_has_its_value() {
    for name in FILES {
        let all = read_all(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let reader = Reader::open(&fixture(name)).unwrap();
        assert_eq!(all.len() as u64, reader.entries(), "{name}");
        assert!(all.windows(2).all(|w| w[0].0 < w[1].0), "{name}: unsorted");
        for (key, value) in &all {
            // Pickles begin with a protocol and end with a stop; ASE's values are zlib.
            let pickle = value.first() == Some(&0x80) && value.last() == Some(&b'.');
            assert!(pickle || value.first() == Some(&0x78), "{name}: {:?}", String::from_utf8_lossy(key));
        }
    }
}

#[test]
fn missing_keys_are_none() {
    let mut reader = Reader::open(&fixture(FILES[0])).unwrap();
    for key in ["", "-1", "99999", "lengthy", "zzz", "0 "] {
        assert!(reader.get(key.as_bytes()).unwrap().is_none(), "{key}");
    }
}

#[test]
fn a_cut_at_any_page_border_is_an_error_or_leaves_what_is_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.lmdb");
    let name = FILES[0];
    let whole = std::fs::read(fixture(name)).unwrap();
    let expected = read_all(&fixture(name)).unwrap();
    let mut refused = 0;
    for pages in 0..whole.len() / 4096 {
        std::fs::write(&path, &whole[..pages * 4096]).unwrap();
        match read_all(&path) {
            Ok(all) => assert!(all == expected, "cut at page {pages}"),
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                assert!(text.contains("truncated") || text.contains("not a readable LMDB"), "{text}");
            }
        }
    }
    assert!(refused > 2, "{refused}");
}

#[test]
fn every_flipped_header_or_index_byte_ends_without_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flipped.lmdb");
    for name in [FILES[1], FILES[3]] {
        let whole = std::fs::read(fixture(name)).unwrap();
        // The parts of each page that steer reading: header and first entries; values are the decoder's matter.
        let steering = (0..whole.len()).filter(|at| at % 4096 < 64);
        for at in steering {
            for value in [0xff, whole[at] ^ 0x10] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                std::fs::write(&path, &bytes).unwrap();
                let _ = read_all(&path);
            }
        }
    }
}

#[test]
fn what_is_no_lmdb_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lmdb");
    let check = |bytes: &[u8], why: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = Reader::open(&path).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    check(b"", "a file of 0 bytes");
    check(&[7; 8192], "0x07070707");
    let mut old = std::fs::read(fixture(FILES[0])).unwrap();
    for page in [0, 4096] {
        old[page + 20] = 2;
    }
    check(&old, "version 2");
    for page in [0, 4096] {
        old[page + 20] = 1;
        old[page + HEADER_FLAGS] = 0x04;
    }
    check(&old, "database flags 0x4");
}

/// Offset of the main database's flags in a header page.
const HEADER_FLAGS: usize = 16 + 72 + 4;

#[test]
fn a_damaged_first_header_leaves_the_second() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("half.lmdb");
    let mut bytes = std::fs::read(fixture(FILES[1])).unwrap();
    let newest = [0usize, 4096].map(|p| u64::from_le_bytes(bytes[p + 144..p + 152].try_into().unwrap()));
    let older = if newest[0] < newest[1] { 0 } else { 4096 };
    bytes[older + 16] ^= 0xff;
    std::fs::write(&path, &bytes).unwrap();
    assert!(read_all(&path).unwrap() == read_all(&fixture(FILES[1])).unwrap());
}
