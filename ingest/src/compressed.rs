//! Files that may be compressed: xz and gzip are told by their first bytes and unpacked as they are read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

/// Bytes read at once.
const BUFFER: usize = 1 << 18;
/// Memory that an xz file may ask for, in KiB: the dictionary of `xz -9` is 64 MiB.
const XZ_MEMORY_KIB: u32 = 130 << 10;

/// A text or binary stream, unpacked.
pub type Stream = Box<dyn BufRead + Send>;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
}

impl Packing {
    /// Of a file's first bytes.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x1f, 0x8b, ..] => Self::Gzip,
            _ => Self::Plain,
        }
    }

    /// Of a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut start = Vec::new();
        File::open(path)?.take(6).read_to_end(&mut start)?;
        Ok(Self::of(&start))
    }
}

/// Unpacks a reader.
///
/// # Errors
/// When its first bytes cannot be read.
pub fn unpack(packed: impl Read + Send + 'static) -> io::Result<Stream> {
    let mut packed = BufReader::with_capacity(BUFFER, packed);
    Ok(match Packing::of(packed.fill_buf()?) {
        Packing::Plain => Box::new(packed),
        Packing::Gzip => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(packed))),
        Packing::Xz => {
            let xz = XzReader::new_mem_limit(packed, true, XZ_MEMORY_KIB);
            Box::new(BufReader::with_capacity(BUFFER, xz))
        }
    })
}

/// Opens a file, unpacked.
///
/// # Errors
/// When it cannot be read.
pub fn open(path: &Path) -> io::Result<Stream> {
    unpack(File::open(path)?)
}

/// Opens a range of a file's bytes, unpacked.
///
/// # Errors
/// When it cannot be read.
pub fn open_range(path: &Path, start: u64, bytes: u64) -> io::Result<Stream> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    unpack(file.take(bytes))
}

/// Reads a stream to its end, at most `limit` bytes.
///
/// # Errors
/// When it holds more, or cannot be read.
pub fn read_all(input: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let problem = format!("unpacks to more than {limit} bytes, which nothing of this kind has");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn packing_is_told_by_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.txt");
        let text = b"0123456789".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        for content in [text.clone(), gzip.clone(), gzip.repeat(2)] {
            std::fs::write(&path, &content).unwrap();
            let copies = if content == gzip.repeat(2) { 2 } else { 1 };
            assert_eq!(read_all(open(&path).unwrap(), 1 << 20).unwrap(), text.repeat(copies));
        }
        let error = read_all(open(&path).unwrap(), 100).unwrap_err();
        assert!(error.to_string().contains("more than 100 bytes"), "{error}");
        std::fs::write(&path, b"xx0123456789yy").unwrap();
        assert_eq!(read_all(open_range(&path, 2, 10).unwrap(), 99).unwrap(), b"0123456789");
    }

    #[test]
    fn a_damaged_xz_file_is_an_error() {
        let xz = [env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/oc20/s2ef_train_fixture.tar"].concat();
        let tar = std::fs::read(xz).unwrap();
        let start = tar.windows(6).position(|w| w == b"\xfd7zXZ\0").unwrap();
        let end = start + tar[start..].windows(2).position(|w| w == b"YZ").unwrap() + 2;
        let whole = &tar[start..end];
        let read = |bytes: Vec<u8>| unpack(io::Cursor::new(bytes)).and_then(|s| read_all(s, 1 << 24));
        assert!(read(whole.to_vec()).unwrap().len() > 100);
        for cut in (7..whole.len()).step_by(101) {
            assert!(read(whole[..cut].to_vec()).is_err(), "cut at {cut}");
        }
        for at in (0..whole.len()).step_by(53) {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 0x11;
            let _ = read(bytes);
        }
        // A dictionary of 4 GiB.
        let mut bytes = whole.to_vec();
        let block = bytes.windows(3).position(|w| w[0] == 0x21 && w[1] == 1).unwrap();
        bytes[block + 2] = 40;
        assert!(read(bytes).is_err());
    }
}
