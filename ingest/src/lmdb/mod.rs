//! A reader of LMDB files in safe Rust.
//!
//! The usual way, liblmdb, maps the file into memory: when the file is shorter than its own page numbers say (a download
//! that broke off, the most common fault of a 100 GB file) the process dies of SIGBUS without a word, and a damaged page
//! number reads wherever it points. Here every page is read with `pread`, every offset in it is checked, and a missing page
//! is an error that says which file ends where. Reading needs no lock file, no write access and no 2 TiB map.
//!
//! Understood are data files of format version 1 (LMDB 0.9 and 1.0) from 64-bit little-endian machines: the main database
//! with plain keys, in-line and overflow values. Sub-databases and sorted duplicates do not occur in the datasets read here.

mod page;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use thiserror::Error;

use page::{Meta, Page, Payload};

/// Why an LMDB file, or a part of it, is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LmdbError {
    /// The operating system refused a read.
    #[error("cannot read at byte {offset}: {source}")]
    Io {
        /// Where.
        offset: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// Not an LMDB file, or of a kind that is not read here.
    #[error("not a readable LMDB file: expected {expected}, found {found}")]
    NotLmdb {
        /// What the header must say.
        expected: &'static str,
        /// What it says.
        found: String,
    },
    /// A page lies behind the end of the file.
    #[error(
        "the file ends at byte {file_bytes}, but page {page} goes to byte {needed}: the file is truncated (its header counts {pages} \
         pages); fetch it again"
    )]
    Truncated {
        /// Bytes the file has.
        file_bytes: u64,
        /// The page asked for.
        page: u64,
        /// Bytes it needs.
        needed: u64,
        /// Pages that the header counts.
        pages: u64,
    },
    /// A page contradicts itself.
    #[error("page {page} is damaged: {what}")]
    Damaged {
        /// The page's number.
        page: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// Pages kept by a [`Reader`]: the whole tree of a file of 5000 structures, and the upper levels of any.
const CACHED_PAGES: usize = 256;

/// An open LMDB file. One reader serves one thread; open the file again for another.
#[derive(Debug)]
pub struct Reader {
    file: File,
    path: PathBuf,
    file_bytes: u64,
    meta: Meta,
    cache: BTreeMap<u64, Rc<Page>>,
}

impl Reader {
    /// Opens a single-file LMDB, or the `data.mdb` of a directory.
    ///
    /// # Errors
    /// When the file cannot be opened or neither of its two header pages is valid.
    pub fn open(path: &Path) -> Result<Self, LmdbError> {
        let path = if path.is_dir() { path.join("data.mdb") } else { path.to_path_buf() };
        let at_start = |source| LmdbError::Io { offset: 0, source };
        let file = File::open(&path).map_err(at_start)?;
        let file_bytes = file.metadata().map_err(at_start)?.len();
        let meta = Self::newest_meta(&file, file_bytes)?;
        // Callers reckon with the count, and an entry takes more than a byte.
        if meta.entries > file_bytes {
            let found = format!("{} entries in {file_bytes} bytes", meta.entries);
            return Err(LmdbError::NotLmdb { expected: "fewer entries than bytes", found });
        }
        Ok(Self { file, path, file_bytes, meta, cache: BTreeMap::new() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of entries, reserved keys such as `length` included.
    pub fn entries(&self) -> u64 {
        self.meta.entries
    }

    /// The value of a key, or `None` if the file does not have it.
    ///
    /// # Errors
    /// When the way to it is damaged or lies behind the end of the file.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, LmdbError> {
        if self.meta.depth == 0 {
            return Ok(None);
        }
        let mut number = self.meta.root;
        for level in 1..=self.meta.depth {
            let page = self.page(number)?;
            if level < self.meta.depth {
                number = page.child(key)?;
                continue;
            }
            return match page.find(key)? {
                None => Ok(None),
                Some(Payload::Inline(bytes)) => Ok(Some(bytes.to_vec())),
                Some(Payload::Overflow { page, bytes }) => self.overflow(page, bytes).map(Some),
            };
        }
        Ok(None)
    }

    /// All keys in the file's own (bytewise) order, at most `limit`.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn keys(&mut self, limit: usize) -> Result<Vec<Vec<u8>>, LmdbError> {
        let mut keys = Vec::new();
        if self.meta.depth > 0 {
            let mut pages_left = self.meta.last_page;
            self.collect_keys(self.meta.root, 1, &mut pages_left, limit, &mut keys)?;
        }
        Ok(keys)
    }

    fn collect_keys(
        &mut self,
        number: u64,
        level: u16,
        pages_left: &mut u64,
        limit: usize,
        keys: &mut Vec<Vec<u8>>,
    ) -> Result<(), LmdbError> {
        // A tree has no more pages than the file: branches of a damaged one could lead to the same page for ever.
        *pages_left = pages_left.checked_sub(1).ok_or_else(|| LmdbError::Damaged {
            page: number,
            what: "the tree has more pages than the file".to_owned(),
        })?;
        let page = self.page(number)?;
        let leaf = level == self.meta.depth;
        page.expect_kind(leaf)?;
        for i in 0..page.entries() {
            if keys.len() >= limit {
                break;
            }
            if leaf {
                keys.push(page.key(i)?.to_vec());
            } else {
                self.collect_keys(page.child_at(i)?, level + 1, pages_left, limit, keys)?;
            }
        }
        Ok(())
    }

    fn page(&mut self, number: u64) -> Result<Rc<Page>, LmdbError> {
        if let Some(page) = self.cache.get(&number) {
            return Ok(Rc::clone(page));
        }
        let size = self.meta.page_size as usize;
        let mut bytes = vec![0; size];
        self.read_at(number, self.page_offset(number, size as u64)?, &mut bytes)?;
        let page = Rc::new(Page::parse(number, bytes)?);
        if self.cache.len() >= CACHED_PAGES {
            // Leaves are visited in key order, so what was read long ago is rarely asked for again.
            self.cache.clear();
        }
        self.cache.insert(number, Rc::clone(&page));
        Ok(page)
    }

    /// A value on pages of its own: a page header, then the bytes across page borders.
    fn overflow(&self, number: u64, bytes: u32) -> Result<Vec<u8>, LmdbError> {
        let size = self.meta.page_size as u64;
        let total = page::HEADER as u64 + u64::from(bytes);
        let offset = self.page_offset(number, total)?;
        let mut header = [0; page::HEADER];
        self.read_at(number, offset, &mut header)?;
        page::check_overflow(number, &header, total.div_ceil(size))?;
        let mut value = vec![0; bytes as usize];
        self.read_at(number, offset + page::HEADER as u64, &mut value)?;
        Ok(value)
    }

    /// The byte offset of a page from which `bytes` must be there.
    fn page_offset(&self, number: u64, bytes: u64) -> Result<u64, LmdbError> {
        let offset = number.checked_mul(self.meta.page_size as u64);
        let needed = offset.and_then(|o| o.checked_add(bytes)).unwrap_or(u64::MAX);
        if number < 2 || number > self.meta.last_page {
            let what = format!("it is asked for, but the file's pages are 2 to {}", self.meta.last_page);
            return Err(LmdbError::Damaged { page: number, what });
        }
        if needed > self.file_bytes {
            return Err(self.truncated(number, needed));
        }
        Ok(offset.unwrap_or(0))
    }

    fn truncated(&self, page: u64, needed: u64) -> LmdbError {
        let pages = self.meta.last_page.saturating_add(1);
        LmdbError::Truncated { file_bytes: self.file_bytes, page, needed, pages }
    }

    fn read_at(&self, page: u64, offset: u64, out: &mut [u8]) -> Result<(), LmdbError> {
        self.file.read_exact_at(out, offset).map_err(|source| match source.kind() {
            // The file shrank while it was open.
            io::ErrorKind::UnexpectedEof => self.truncated(page, offset + out.len() as u64),
            _ => LmdbError::Io { offset, source },
        })
    }

    /// The header page of the newer of the last two transactions.
    fn newest_meta(file: &File, file_bytes: u64) -> Result<Meta, LmdbError> {
        let read = |offset: u64| -> Result<Vec<u8>, LmdbError> {
            let mut bytes = vec![0; page::META_BYTES];
            if offset + bytes.len() as u64 > file_bytes {
                let found = format!("a file of {file_bytes} bytes");
                return Err(LmdbError::NotLmdb { expected: "two header pages", found });
            }
            file.read_exact_at(&mut bytes, offset).map_err(|source| LmdbError::Io { offset, source })?;
            Ok(bytes)
        };
        let first = Meta::parse(&read(0)?);
        if let Ok(meta) = &first {
            // Both header pages exist from the first moment of an LMDB; without the second, the first may be an old one.
            let needed = 2 * u64::from(meta.page_size);
            if needed > file_bytes {
                let pages = meta.last_page.saturating_add(1);
                return Err(LmdbError::Truncated { file_bytes, page: 1, needed, pages });
            }
        }
        // The second page's place follows from the first; when that is damaged, from the usual sizes.
        let sizes = match &first {
            Ok(meta) => vec![u64::from(meta.page_size)],
            Err(_) => vec![4096, 8192, 16384, 32768, 65536],
        };
        let second = sizes
            .into_iter()
            .find_map(|size| Meta::parse(&read(size).ok()?).ok().filter(|m| m.page_size as u64 == size));
        match (first, second) {
            (Ok(a), Some(b)) => Ok(if b.transaction > a.transaction { b } else { a }),
            (Ok(a), None) => Ok(a),
            (Err(_), Some(b)) => Ok(b),
            (Err(error), None) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
