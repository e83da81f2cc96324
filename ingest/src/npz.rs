//! `.npz` archives of numeric `.npy` members (numpy format 1.0 to 3.0).
//!
//! Of text and bytes members (`name`, `e_unit` of sGDML files) single strings are read, pickled object arrays are refused:
//! nothing is executed. A member's declared shape is compared with its size in the archive, and that with what the compressed bytes can
//! possibly hold, before memory is taken.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;
use zip::ZipArchive;

use crate::array::{Array, ArrayError, Blob, Dtype};

/// Why an archive or one of its members is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NpzError {
    /// The file cannot be opened or is no zip archive.
    #[error("not a readable npz archive: {0}")]
    Archive(String),
    /// A member of that name does not exist.
    #[error("no array `{name}`; there is {}", known.join(", "))]
    NoMember {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A member is damaged or of a kind that is not read here.
    #[error("array `{name}`: {problem}")]
    Member {
        /// The member's name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A member's shape does not fit its bytes.
    #[error("array `{name}`: {source}")]
    Shape {
        /// The member's name.
        name: String,
        /// What is wrong.
        source: ArrayError,
    },
}

/// Longest text that is read.
const LONGEST_TEXT: u64 = 1 << 12;
/// Larger members that shrink by more than this are bombs, not measurements.
const MAX_DEFLATE_RATIO: u64 = 100;
/// Members up to this many bytes may shrink by more: constant arrays do.
const SMALL: u64 = 16 << 20;

/// An open archive.
#[derive(Debug)]
pub struct Npz {
    zip: ZipArchive<BufReader<File>>,
}

/// What a member holds, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// Name without `.npy`.
    pub name: String,
    /// numpy's type code, for example `<f8`, `|S12` or `<U3`.
    pub descr: String,
    /// Shape; empty for a single value.
    pub shape: Vec<usize>,
}

impl Npz {
    /// Opens an archive.
    ///
    /// # Errors
    /// When the file cannot be opened or is no zip archive.
    pub fn open(path: &Path) -> Result<Self, NpzError> {
        let file = File::open(path).map_err(|e| NpzError::Archive(e.to_string()))?;
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|e| NpzError::Archive(e.to_string()))?;
        Ok(Self { zip })
    }

    /// Names of the arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.zip.file_names().filter_map(|n| n.strip_suffix(".npy")).map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Type and shape of a member, from its first bytes.
    ///
    /// # Errors
    /// When it does not exist or has no valid header.
    pub fn info(&mut self, name: &str) -> Result<MemberInfo, NpzError> {
        let mut file = self.member(name)?;
        let size = file.size();
        let header = Header::read(name, &mut file)?;
        if header.dtype().is_ok() {
            header.bytes_of_values(name, size)?;
        }
        Ok(MemberInfo { name: name.to_owned(), descr: header.descr, shape: header.shape })
    }

    /// A numeric array.
    ///
    /// # Errors
    /// When it does not exist, is not numeric, or its bytes do not fit its shape.
    pub fn array(&mut self, name: &str) -> Result<Array<'static>, NpzError> {
        let mut file = self.member(name)?;
        let (size, packed) = (file.size(), file.compressed_size());
        let wrong = |problem: String| NpzError::Member { name: name.to_owned(), problem };
        let header = Header::read(name, &mut file)?;
        let dtype = header.dtype().map_err(wrong)?;
        let bytes = header.bytes_of_values(name, size)?;
        if size > packed.saturating_mul(MAX_DEFLATE_RATIO).saturating_add(SMALL) {
            return Err(wrong(format!(
                "unpacks from {packed} to {size} bytes, more than {MAX_DEFLATE_RATIO} times as many"
            )));
        }
        let mut data = Vec::with_capacity(bytes.min(1 << 24) as usize);
        // One byte more than expected would be a member that contradicts the archive's index.
        file.take(bytes + 1).read_to_end(&mut data).map_err(|e| wrong(format!("damaged: {e}")))?;
        if data.len() as u64 != bytes {
            return Err(wrong(format!(
                "ends after {} of {bytes} bytes: the file is truncated or damaged",
                data.len()
            )));
        }
        Array::dense(dtype, header.shape, header.fortran, Blob::shared(Arc::from(data)))
            .map_err(|source| NpzError::Shape { name: name.to_owned(), source })
    }

    /// The text of a member that is a single string (`<U12`, `|S12`), without the zeros that fill it up; `None` when there is
    /// no such member, or it holds something else.
    ///
    /// # Errors
    /// When the member is damaged.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, NpzError> {
        if self.zip.index_for_name(&format!("{name}.npy")).is_none() {
            return Ok(None);
        }
        let mut file = self.member(name)?;
        let header = Header::read(name, &mut file)?;
        let (wide, length) = match (header.descr.split_at_checked(2), header.shape.as_slice()) {
            (Some(("<U" | "=U", length)), [] | [1]) => (true, length.parse::<u64>()),
            (Some(("|S", length)), [] | [1]) => (false, length.parse::<u64>()),
            _ => return Ok(None),
        };
        let Some(length) = length.ok().filter(|&n| n <= LONGEST_TEXT) else { return Ok(None) };
        let mut bytes = Vec::new();
        let size = if wide { 4 * length } else { length };
        let wrong = |problem: String| NpzError::Member { name: name.to_owned(), problem };
        file.take(size).read_to_end(&mut bytes).map_err(|e| wrong(format!("damaged: {e}")))?;
        if bytes.len() as u64 != size {
            return Err(wrong("ends too early: the file is truncated or damaged".to_owned()));
        }
        let text: String = if wide {
            let codes = bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
            codes.map(|code| char::from_u32(code).unwrap_or('?')).collect()
        } else {
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(Some(text.trim_end_matches('\0').to_owned()))
    }

    fn member(&mut self, name: &str) -> Result<zip::read::ZipFile<'_, BufReader<File>>, NpzError> {
        let full = format!("{name}.npy");
        if self.zip.index_for_name(&full).is_none() {
            return Err(NpzError::NoMember { name: name.to_owned(), known: self.names() });
        }
        let problem =
            |e: zip::result::ZipError| NpzError::Member { name: name.to_owned(), problem: e.to_string() };
        self.zip.by_name(&full).map_err(problem)
    }
}

/// The header of an `.npy` member.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
    /// Bytes up to the data.
    bytes: u64,
}

impl Header {
    /// Bytes that the values of a numeric member of `size` bytes take.
    fn bytes_of_values(&self, name: &str, size: u64) -> Result<u64, NpzError> {
        let wrong = |problem: String| NpzError::Member { name: name.to_owned(), problem };
        let dtype = self.dtype().map_err(wrong)?;
        let elements = self.shape.iter().try_fold(1u64, |n, &s| n.checked_mul(s as u64));
        let bytes = elements.and_then(|n| n.checked_mul(dtype.size() as u64)).unwrap_or(u64::MAX);
        if self.bytes.checked_add(bytes) == Some(size) {
            return Ok(bytes);
        }
        Err(wrong(format!("shape {:?} of {} does not fit its {size} bytes", self.shape, self.descr)))
    }

    fn read(name: &str, input: &mut impl Read) -> Result<Self, NpzError> {
        let wrong = |problem: &str| NpzError::Member { name: name.to_owned(), problem: problem.to_owned() };
        let mut start = [0; 8];
        input.read_exact(&mut start).map_err(|_| wrong("is too short for an .npy header"))?;
        if &start[..6] != b"\x93NUMPY" {
            return Err(wrong("is no .npy member"));
        }
        let (length, start_bytes) = match start[6] {
            1 => {
                let mut n = [0; 2];
                input.read_exact(&mut n).map_err(|_| wrong("ends inside its header"))?;
                (u32::from(u16::from_le_bytes(n)), 10)
            }
            2 | 3 => {
                let mut n = [0; 4];
                input.read_exact(&mut n).map_err(|_| wrong("ends inside its header"))?;
                (u32::from_le_bytes(n), 12)
            }
            _ => return Err(wrong("has an .npy version other than 1, 2 and 3")),
        };
        if length > 1 << 16 {
            return Err(wrong("has a header of more than 64 KiB"));
        }
        let mut text = vec![0; length as usize];
        input.read_exact(&mut text).map_err(|_| wrong("ends inside its header"))?;
        let text = String::from_utf8(text).map_err(|_| wrong("has a header that is no text"))?;
        let (descr, fortran, shape) =
            parse_dict(&text).ok_or_else(|| wrong("has a header without descr, fortran_order and shape"))?;
        Ok(Self { descr, fortran, shape, bytes: start_bytes + u64::from(length) })
    }

    fn dtype(&self) -> Result<Dtype, String> {
        let code = self.descr.as_str();
        if code.contains('O') || code.starts_with('[') {
            return Err(
                "holds pickled objects or records; nothing is unpickled, and no reader here needs them"
                    .to_owned(),
            );
        }
        match code.split_at_checked(1) {
            Some((">", _)) => Err(format!("has type {code}: big-endian numbers are not read")),
            Some(("<" | "|" | "=", rest)) => {
                Dtype::from_numpy(rest).ok_or_else(|| format!("has type {code}, expected numbers"))
            }
            _ => Err(format!("has type {code}, expected numbers")),
        }
    }
}

/// The three entries of `{'descr': '<f8', 'fortran_order': False, 'shape': (5, 3), }`.
fn parse_dict(text: &str) -> Option<(String, bool, Vec<usize>)> {
    let value = |key: &str| {
        let after = text.split_once(&format!("'{key}'"))?.1.trim_start();
        Some(after.strip_prefix(':')?.trim_start())
    };
    let descr = value("descr")?;
    let descr = match descr.strip_prefix('\'') {
        Some(rest) => rest.split_once('\'')?.0,
        None => descr.split_once(']')?.0, // a record type: a list
    };
    let fortran = match value("fortran_order")? {
        v if v.starts_with("True") => true,
        v if v.starts_with("False") => false,
        _ => return None,
    };
    let inside = value("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let numbers = inside.split(',').map(str::trim).filter(|n| !n.is_empty());
    let shape: Option<Vec<usize>> = numbers.map(|n| n.trim_end_matches('L').parse().ok()).collect();
    Some((descr.to_owned(), fortran, shape?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "../tests/fixtures", name].iter().collect()
    }

    fn npy(version: u8, dict: &str, data: &[u8]) -> Vec<u8> {
        let mut out = b"\x93NUMPY".to_vec();
        out.extend([version, 0]);
        match version {
            1 => out.extend((dict.len() as u16).to_le_bytes()),
            _ => out.extend((dict.len() as u32).to_le_bytes()),
        }
        out.extend(dict.as_bytes());
        out.extend(data);
        out
    }

    fn archive(members: &[(&str, Vec<u8>)]) -> tempfile::NamedTempFile {
        let mut zip = zip::ZipWriter::new(tempfile::NamedTempFile::new().unwrap());
        for (name, bytes) in members {
            zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap()
    }

    #[test]
    fn versions_types_and_orders_are_read() {
        let values: Vec<u8> = (0..6i32).flat_map(i32::to_le_bytes).collect();
        let dict =
            |fortran| format!("{{'descr': '<i4', 'fortran_order': {fortran}, 'shape': (2, 3), }}   \n");
        let file = archive(&[
            ("v1", npy(1, &dict("False"), &values)),
            ("v2", npy(2, &dict("True"), &values)),
            ("v3", npy(3, "{'shape': (), 'descr': '|b1', 'fortran_order': False}", &[1])),
        ]);
        let mut npz = Npz::open(file.path()).unwrap();
        assert_eq!(npz.names(), ["v1", "v2", "v3"]);
        assert_eq!(npz.array("v1").unwrap().to_i64().unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(npz.array("v2").unwrap().to_i64().unwrap(), [0, 2, 4, 1, 3, 5]);
        let v3 = npz.array("v3").unwrap();
        assert_eq!((v3.shape(), v3.to_f64()), (&[] as &[usize], vec![1.0]));
    }

    #[test]
    fn what_numpy_wrote_is_read() {
        let mut npz = Npz::open(&fixture("md22/md22_AT-AT.npz")).unwrap();
        assert!(npz.info("name").unwrap().descr.contains(['U', 'S']));
        let mut text = |name: &str| npz.text(name).unwrap();
        assert_eq!((text("e_unit").as_deref(), text("type").as_deref()), (Some("kcal/mol"), Some("d")));
        assert_eq!((text("R"), text("absent")), (None, None));
        let energies = npz.array("E").unwrap();
        let atoms = npz.array("z").unwrap().len();
        assert_eq!(npz.array("R").unwrap().shape(), [energies.shape()[0], atoms, 3]);
    }

    #[test]
    fn hostile_members_are_refused() {
        let object = "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}";
        let huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 9)}";
        let text = "{'descr': '<U3', 'fortran_order': False, 'shape': ()}";
        let big_endian = "{'descr': '>f8', 'fortran_order': False, 'shape': (1,)}";
        let record = "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}";
        let file = archive(&[
            ("object", npy(1, object, b"\x80\x04cos\nsystem\n.")),
            ("huge", npy(1, huge, &[0; 8])),
            ("text", npy(1, text, &[0; 12])),
            ("big_endian", npy(1, big_endian, &[0; 8])),
            ("record", npy(1, record, &[0; 8])),
            ("short", npy(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", &[0; 8])),
            ("nothing", vec![]),
            ("version", npy(9, object, &[])),
            ("dict", npy(1, "{}", &[])),
        ]);
        let mut npz = Npz::open(file.path()).unwrap();
        let mut check = |name: &str, why: &str| {
            let error = npz.array(name).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        check("object", "nothing is unpickled");
        check("huge", "does not fit");
        check("text", "expected numbers");
        check("big_endian", "big-endian");
        check("record", "records");
        check("short", "does not fit its");
        check("nothing", "too short");
        check("version", "version other than");
        check("dict", "without descr");
        check("absent", "there is big_endian, dict");
    }

    #[test]
    fn no_truncation_and_no_flipped_byte_panics() {
        let whole = std::fs::read(fixture("rmd17/rmd17/npz_data/rmd17_ethanol.npz")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let mut npz = Npz::open(&path)?;
            for name in npz.names() {
                npz.array(&name)?;
            }
            Ok::<_, NpzError>(())
        };
        assert!(read(&whole).is_ok());
        for end in (0..whole.len()).step_by(997) {
            assert!(read(&whole[..end]).is_err(), "cut at {end}");
        }
        for at in (0..whole.len()).step_by(211).chain(whole.len() - 600..whole.len()) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            let _ = read(&bytes);
        }
    }
}
