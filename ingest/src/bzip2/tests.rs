//! Against bzip2 itself: streams that Python's `bz2` wrote, and the fixtures' archives, whose members lie beside them.

use std::fs::File;
use std::path::PathBuf;

use super::*;
use crate::tar::Tar;

fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    Decoder::new(bytes).read_to_end(&mut out).map(|_| out)
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

const HELLO: &str = "425a6839314159265359cc2e03a10000065180001040040644908020002190320400c2a832d9416e9c079af177245385090cc2e03a10";
const RUNS: &str = "425a68313141592653596dd4a3dd000004c101e000380000800008200021b547ea342180fbe1a6b2185ac9c2ee48a70a120dba947ba0";
const NOTHING: &str = "425a683917724538509000000000";

#[test]
fn what_bzip2_wrote_is_read() {
    let hello = b"hello, hello, hello world\n";
    let runs = [vec![b'a'; 1000], vec![b'b'; 5], vec![b'a'; 4], vec![b'c']].concat();
    assert_eq!(unpack(&bytes(HELLO)).unwrap(), hello);
    assert_eq!(unpack(&bytes(RUNS)).unwrap(), runs);
    assert_eq!(unpack(&bytes(NOTHING)).unwrap(), b"");
    let several = [HELLO, NOTHING, RUNS].concat();
    assert_eq!(unpack(&bytes(&several)).unwrap(), [hello.to_vec(), runs.clone()].concat());
    // One byte at a time: a run goes on over the end of a buffer.
    let packed = bytes(RUNS);
    let mut decoder = Decoder::new(&packed[..]);
    let mut slowly = Vec::new();
    let mut one = [0];
    while decoder.read(&mut one).unwrap() == 1 {
        slowly.push(one[0]);
    }
    assert_eq!(slowly, runs);
}

#[test]
fn archives_hold_the_files_beside_them() {
    let fixtures: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../tests/fixtures"].iter().collect();
    let mut compared = 0;
    for (archive, dir) in [("rmd17/rmd17.tar.bz2", "rmd17"), ("qm9/dsgdb9nsd.xyz.tar.bz2", "qm9/xyz")] {
        let mut tar = Tar::new(Decoder::new(File::open(fixtures.join(archive)).unwrap()));
        while let Some(member) = tar.advance().unwrap() {
            let beside = std::fs::read(fixtures.join(dir).join(&member.name)).unwrap();
            assert!(tar.content(1 << 20).unwrap() == beside, "{}", member.name);
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn damage_is_told_and_never_panics() {
    let told = |bytes: &[u8], why: &str| {
        let error = unpack(bytes).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    };
    told(b"", "the file is empty");
    told(b"BZip", "not a bzip2 file");
    let (whole, hello) = (bytes(HELLO), unpack(&bytes(HELLO)).unwrap());
    for end in 1..whole.len() {
        told(&whole[..end], "ends too early");
    }
    told(&[&whole[..], b"x1234"].concat(), "bytes follow after the end");
    for at in 4..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            // A code that no symbol uses, and the bits after the stream's end, mean nothing.
            assert!(
                unpack(&changed).is_ok_and(|out| out == hello) || unpack(&changed).is_err(),
                "byte {at}, bit {bit}"
            );
        }
    }
    let mut randomised = whole;
    randomised[14] |= 0x80;
    told(&randomised, "randomised");
}
