//! Torch files in their zip form, read one tensor at a time: a checkpoint is many times larger than what is wanted of it.

use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;
use zip::ZipArchive;

use crate::array::{Array, ArrayError, Blob};
use crate::torch;
use crate::value::TensorHead;

/// A pickle of more bytes is not that of any known checkpoint (tensors lie outside it).
const LARGEST_PICKLE: u64 = 1 << 28;

/// Why a torch file cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The form before torch 1.6, which has no parts that could be read alone.
    #[error(
        "a torch file in the legacy form (before torch 1.6), expected the zip form; \
         convert it once in Python: torch.save(torch.load(OLD, weights_only=True), NEW)"
    )]
    Legacy,
    /// Something else.
    #[error(
        "neither safetensors nor a torch file: that is a zip archive, which starts with `PK`; found the bytes {0:02x?}"
    )]
    NotTorch(Vec<u8>),
    /// The archive is damaged, or not one that torch wrote.
    #[error("torch zip archive: {0}")]
    Zip(String),
    /// A storage has not the elements it should.
    #[error("storage `{storage}`: {needed} bytes expected, {found} there; the file is truncated or damaged")]
    Short {
        /// Name of the storage.
        storage: String,
        /// Bytes that the pickle speaks of.
        needed: u64,
        /// Bytes in the archive.
        found: u64,
    },
    /// A tensor that lies outside its storage.
    #[error(transparent)]
    Array(#[from] ArrayError),
    /// The system refused.
    #[error("cannot read")]
    Io(#[from] io::Error),
}

/// An open torch file.
#[derive(Debug)]
pub struct TorchArchive<R> {
    zip: ZipArchive<R>,
    root: String,
    bytes: u64,
}

impl<R: Read + Seek> TorchArchive<R> {
    /// Reads the archive's directory.
    ///
    /// # Errors
    /// Anything that is not a little-endian torch file in the zip form.
    pub fn open(mut reader: R) -> Result<Self, ArchiveError> {
        let bytes = reader.seek(SeekFrom::End(0))?;
        reader.rewind()?;
        let mut start = Vec::new();
        reader.by_ref().take(16).read_to_end(&mut start)?;
        if torch::is_legacy(&start) {
            return Err(ArchiveError::Legacy);
        }
        if !torch::is_zip(&start) {
            start.truncate(8);
            return Err(ArchiveError::NotTorch(start));
        }
        let zip = ZipArchive::new(reader).map_err(|e| ArchiveError::Zip(e.to_string()))?;
        let root = torch::root_of(zip.file_names())
            .ok_or_else(|| ArchiveError::Zip("no member `*/data.pkl`".to_owned()))?;
        let mut archive = Self { zip, root, bytes };
        if archive.zip.index_for_name(&format!("{}byteorder", archive.root)).is_some() {
            let order = archive.member("byteorder", 64)?;
            if order != b"little" {
                let found = String::from_utf8_lossy(&order).into_owned();
                return Err(ArchiveError::Zip(format!("byte order: expected `little`, found `{found}`")));
            }
        }
        Ok(archive)
    }

    /// The pickle that describes the content, for [`crate::outline`].
    ///
    /// # Errors
    /// A damaged member, or one too large to be true.
    pub fn pickle(&mut self) -> Result<Vec<u8>, ArchiveError> {
        self.member("data.pkl", LARGEST_PICKLE)
    }

    /// The elements of a tensor in row-major order, little-endian. Its whole storage is read, and its checksum tested.
    ///
    /// # Errors
    /// A storage that is missing, damaged or too short.
    pub fn tensor(&mut self, head: &TensorHead) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = self.member(&format!("data/{}", head.storage), u64::MAX)?;
        let needed = head.elements.saturating_mul(head.dtype.size());
        if bytes.len() < needed {
            return Err(ArchiveError::Short {
                storage: head.storage.clone(),
                needed: needed as u64,
                found: bytes.len() as u64,
            });
        }
        let array = Array::strided(
            head.dtype,
            head.shape.clone(),
            head.strides.clone(),
            head.offset,
            Blob::borrowed(&bytes),
        )?;
        if head.offset > 0 || !array.is_row_major() {
            return Ok(array.to_bytes());
        }
        let length = array.len() * head.dtype.size();
        bytes.truncate(length);
        Ok(bytes)
    }

    fn member(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let full = format!("{}{name}", self.root);
        let refused = |problem: String| ArchiveError::Zip(format!("member `{full}`: {problem}"));
        let mut file = self.zip.by_name(&full).map_err(|e| refused(e.to_string()))?;
        if file.compression() != zip::CompressionMethod::Stored {
            return Err(refused("compressed, torch stores its members as they are".to_owned()));
        }
        let size = file.size();
        if size > self.bytes {
            return Err(refused(format!("{size} bytes in a file of {}", self.bytes)));
        }
        if size > limit {
            return Err(refused(format!("{size} bytes, expected at most {limit}")));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.read_to_end(&mut bytes).map_err(|e| refused(e.to_string()))?;
        Ok(bytes)
    }
}
