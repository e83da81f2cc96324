//! A file, or a member of a zip archive, whose bytes are unpacked while they are read.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::Crc;
use flate2::read::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use crate::compressed;

/// Text of a dataset shrinks four- to twentyfold; what unpacks to far more is made to fill memory or time.
const MAX_RATIO: u64 = 100;
/// Unpacked bytes that no ratio is asked of.
const FREE_BYTES: u64 = 16 << 20;
/// Members that an archive may list.
const MAX_MEMBERS: usize = 1_000_000;

/// Where bytes lie and how they are packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    path: PathBuf,
    packing: Packing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Packing {
    Plain,
    Compressed,
    Member(Member),
}

/// A member of a zip archive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    name: String,
    start: u64,
    packed: u64,
    unpacked: u64,
    crc: u32,
    deflated: bool,
}

impl Packed {
    /// A file by itself, which may be compressed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(path: &Path) -> io::Result<Self> {
        let packing = match compressed::Packing::of_file(path)? {
            compressed::Packing::Plain => Packing::Plain,
            _ => Packing::Compressed,
        };
        Ok(Self { path: path.to_path_buf(), packing })
    }

    /// The file on disk.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name of the file, or of the member, without directories.
    pub fn name(&self) -> &str {
        let full = match &self.packing {
            Packing::Member(member) => return member.name.rsplit('/').next().unwrap_or_default(),
            _ => &self.path,
        };
        full.file_name().and_then(|n| n.to_str()).unwrap_or_default()
    }

    /// Reads from the beginning of the unpacked bytes.
    ///
    /// Damaged packing, and more bytes than such a file can honestly hold, show as errors of kind `InvalidData`,
    /// `InvalidInput` or `UnexpectedEof` from the reader.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        Ok(match &self.packing {
            Packing::Plain => Box::new(file),
            Packing::Compressed => {
                let bytes = file.metadata()?.len();
                Box::new(Bounded::new(compressed::unpack(file)?, bytes))
            }
            Packing::Member(member) => {
                file.seek(SeekFrom::Start(member.start))?;
                let packed = BufReader::new(file).take(member.packed);
                let bytes: Box<dyn Read + Send> =
                    if member.deflated { Box::new(DeflateDecoder::new(packed)) } else { Box::new(packed) };
                let checked = Checked { inner: bytes, crc: Crc::new(), member: member.clone() };
                Box::new(Bounded::new(checked, member.packed))
            }
        })
    }

    /// Reads from a byte of the unpacked bytes on. What is packed is unpacked up to there and thrown away.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before.
    pub fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        if self.packing == Packing::Plain {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(offset))?;
            return Ok(Box::new(file));
        }
        let mut reader = self.open()?;
        let passed = io::copy(&mut reader.by_ref().take(offset), &mut io::sink())?;
        if passed < offset {
            return Err(damaged("the file has become shorter since it was opened"));
        }
        Ok(reader)
    }

    /// All unpacked bytes, if they are at most `limit`.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or is larger.
    pub fn read(&self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(damaged(format!("larger than the {limit} bytes that are read of such a file")));
        }
        Ok(bytes)
    }
}

/// The members of a zip archive, sorted by name; directories are left out.
///
/// # Errors
/// When the file cannot be read, is no zip archive, or has a member that is encrypted or packed by an uncommon method.
pub fn members(path: &Path) -> io::Result<Vec<Packed>> {
    let broken = |error: zip::result::ZipError| match error {
        zip::result::ZipError::Io(error) => error,
        other => damaged(format!("not a readable zip archive: {other}")),
    };
    let mut archive = ZipArchive::new(BufReader::new(File::open(path)?)).map_err(broken)?;
    if archive.len() > MAX_MEMBERS {
        return Err(damaged(format!("{} members; at most {MAX_MEMBERS} are read", archive.len())));
    }
    let mut found = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        if !entry.is_file() {
            continue;
        }
        let name = entry.name().to_owned();
        let deflated = match entry.compression() {
            CompressionMethod::Deflated => true,
            CompressionMethod::Stored => false,
            other => return Err(damaged(format!("member `{name}` is packed by {other}, which is not read"))),
        };
        if entry.encrypted() {
            return Err(damaged(format!("member `{name}` is encrypted")));
        }
        let Some(start) = entry.data_start() else {
            return Err(damaged(format!("member `{name}` has no place in the archive")));
        };
        let member = Member {
            name,
            start,
            packed: entry.compressed_size(),
            unpacked: entry.size(),
            crc: entry.crc32(),
            deflated,
        };
        found.push(Packed { path: path.to_path_buf(), packing: Packing::Member(member) });
    }
    let name = |packed: &Packed| match &packed.packing {
        Packing::Member(member) => member.name.clone(),
        _ => String::new(),
    };
    found.sort_by_cached_key(name);
    Ok(found)
}

/// Whether an error means that the file is not what it should be, as opposed to a failure of the machine.
pub fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::InvalidData | K::InvalidInput | K::UnexpectedEof | K::NotFound)
}

fn damaged(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

/// Refuses to go on behind what the packed bytes can honestly hold.
struct Bounded<R> {
    inner: R,
    packed: u64,
    left: u64,
}

impl<R> Bounded<R> {
    fn new(inner: R, packed: u64) -> Self {
        Self { inner, packed, left: packed.saturating_mul(MAX_RATIO).saturating_add(FREE_BYTES) }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            damaged(format!("{} packed bytes unpack to more than {MAX_RATIO} times as many", self.packed))
        })?;
        Ok(read)
    }
}

/// Compares size and checksum with the archive's index when the bytes are through.
struct Checked {
    inner: Box<dyn Read + Send>,
    crc: Crc,
    member: Member,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.crc.update(&buffer[..read]);
        let Member { name, unpacked, crc, .. } = &self.member;
        // The checksum counts modulo 2³².
        let through = read == 0 && !buffer.is_empty();
        if through && (self.crc.amount() != *unpacked as u32 || self.crc.sum() != *crc) {
            return Err(damaged(format!(
                "member `{name}` does not fit its checksum: the archive is damaged"
            )));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn all(packed: &Packed, offset: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        packed.open_at(offset)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn every_packing_gives_the_same_bytes() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|i| (i % 251).to_string().into_bytes()).collect();
        let plain = file(&text);
        // Two gzip members in a row are one stream, as `cat a.gz b.gz` makes it.
        let halves = [gzip(&text[..777]), gzip(&text[777..])].concat();
        let gz = file(&halves);
        let mut zip = zip::ZipWriter::new(tempfile::NamedTempFile::new().unwrap());
        let stored = zip::write::SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file("dir/b.txt", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&text).unwrap();
        zip.start_file("a.txt", stored).unwrap();
        zip.write_all(&text).unwrap();
        let zip = zip.finish().unwrap();
        let inside = members(zip.path()).unwrap();
        assert_eq!(inside.iter().map(Packed::name).collect::<Vec<_>>(), ["a.txt", "b.txt"]);
        let files = [Packed::file(plain.path()).unwrap(), Packed::file(gz.path()).unwrap()];
        for packed in files.iter().chain(&inside) {
            assert!(all(packed, 0).unwrap() == text);
            assert!(all(packed, 54_321).unwrap() == text[54_321..]);
            assert_eq!(packed.read(10).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn bombs_and_damage_are_errors() {
        let zeros = vec![b' '; 80 << 20];
        let bomb = file(&gzip(&zeros));
        let error = all(&Packed::file(bomb.path()).unwrap(), 0).map(|b| b.len()).unwrap_err();
        assert!(is_damage(&error) && error.to_string().contains("100 times as many"), "{error}");

        let mut whole = gzip(b"some bytes that are not many");
        let cut = file(&whole[..whole.len() - 5]);
        assert!(is_damage(&all(&Packed::file(cut.path()).unwrap(), 0).unwrap_err()));
        let crc = whole.len() - 6;
        whole[crc] ^= 1;
        assert!(is_damage(&all(&Packed::file(file(&whole).path()).unwrap(), 0).unwrap_err()));

        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file("a.txt", stored).unwrap();
        zip.write_all(b"UNPACKED").unwrap();
        let mut bytes = zip.finish().unwrap().into_inner();
        let at = bytes.windows(8).position(|w| w == b"UNPACKED").unwrap();
        bytes[at] = b'X';
        let archive = file(&bytes);
        let inside = members(archive.path()).unwrap();
        let error = all(&inside[0], 0).unwrap_err();
        assert!(error.to_string().contains("`a.txt` does not fit its checksum"), "{error}");
        assert!(is_damage(&members(file(b"PK no archive").path()).unwrap_err()));
    }
}
