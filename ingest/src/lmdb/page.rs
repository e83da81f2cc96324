//! The layout of LMDB pages (`mdb.c`, structures `MDB_page`, `MDB_meta`, `MDB_node`), every field checked as it is read.

use super::LmdbError;

/// Bytes of a page header: number (8), padding (2), flags (2), lower and upper bound of the free space (2 + 2).
pub(super) const HEADER: usize = 16;
/// Bytes of a header page that are used.
pub(super) const META_BYTES: usize = HEADER + 136;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
const META: u16 = 0x08;

const MAGIC: u32 = 0xbeef_c0de;
/// Node flag: the value lies on overflow pages.
const BIG_DATA: u16 = 0x01;
/// Bytes of a node before its key: size or child (2 + 2), flags (2), key size (2).
const NODE: usize = 8;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// What a header page says of the main database.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) page_size: u32,
    pub(super) depth: u16,
    pub(super) entries: u64,
    pub(super) root: u64,
    pub(super) last_page: u64,
    pub(super) transaction: u64,
}

impl Meta {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, LmdbError> {
        let wrong = |expected, found: String| LmdbError::NotLmdb { expected, found };
        let field32 = |at| u32_at(bytes, at).unwrap_or(0);
        let field64 = |at| u64_at(bytes, at).unwrap_or(0);
        let field16 = |at| u16_at(bytes, at).unwrap_or(0);
        let magic = field32(HEADER);
        if magic != MAGIC {
            let found = match (magic, field32(12)) {
                (m, _) if m == MAGIC.swap_bytes() => "a file from a big-endian machine".to_owned(),
                (_, MAGIC) => "a file from a 32-bit machine".to_owned(),
                (other, _) => format!("0x{other:08x}"),
            };
            return Err(wrong("the magic number 0xbeefc0de", found));
        }
        if field16(10) & META == 0 {
            return Err(wrong("a header page", format!("page flags 0x{:x}", field16(10))));
        }
        let version = field32(HEADER + 4);
        if version != 1 {
            return Err(wrong("data format version 1", format!("version {version}")));
        }
        // Two database records of 48 bytes: free pages, then the main one; the first one's padding holds the page size.
        let (free, main) = (HEADER + 24, HEADER + 72);
        let page_size = field32(free);
        if !page_size.is_power_of_two() || !(256..=65536).contains(&page_size) {
            return Err(wrong("a page size that is a power of two up to 65536", page_size.to_string()));
        }
        let flags = field16(main + 4);
        if flags & 0x7f != 0 {
            return Err(wrong("plain keys without duplicates", format!("database flags 0x{flags:x}")));
        }
        let depth = field16(main + 6);
        if depth > 32 {
            return Err(wrong("a tree of at most 32 levels", depth.to_string()));
        }
        Ok(Self {
            page_size,
            depth,
            entries: field64(main + 32),
            root: field64(main + 40),
            last_page: field64(HEADER + 120),
            transaction: field64(HEADER + 128),
        })
    }
}

/// Where a value lies.
pub(super) enum Payload<'a> {
    /// In the leaf.
    Inline(&'a [u8]),
    /// On pages of its own, from this one.
    Overflow { page: u64, bytes: u32 },
}

/// A branch or leaf page.
#[derive(Debug)]
pub(super) struct Page {
    number: u64,
    bytes: Vec<u8>,
    leaf: bool,
    entries: usize,
}

impl Page {
    pub(super) fn parse(number: u64, bytes: Vec<u8>) -> Result<Self, LmdbError> {
        let damaged = |what: String| LmdbError::Damaged { page: number, what };
        let flags = u16_at(&bytes, 10).unwrap_or(0);
        // 0x10 marks a dirty page and may stay on disk.
        let leaf = match flags & !0x10 {
            BRANCH => false,
            LEAF => true,
            other => return Err(damaged(format!("flags 0x{other:x}, expected a branch or a leaf"))),
        };
        let stated = u64_at(&bytes, 0).unwrap_or(0);
        if stated != number {
            return Err(damaged(format!("it calls itself page {stated}")));
        }
        let lower = u16_at(&bytes, 12).unwrap_or(0) as usize;
        if lower < HEADER || lower > bytes.len() || !lower.is_multiple_of(2) {
            return Err(damaged(format!("its index ends at byte {lower}")));
        }
        Ok(Self { number, leaf, entries: (lower - HEADER) / 2, bytes })
    }

    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    pub(super) fn expect_kind(&self, leaf: bool) -> Result<(), LmdbError> {
        if self.leaf == leaf {
            return Ok(());
        }
        let names = ["a branch", "a leaf"];
        Err(self.damaged(format!(
            "it is {}, expected {}",
            names[usize::from(self.leaf)],
            names[usize::from(leaf)]
        )))
    }

    fn damaged(&self, what: String) -> LmdbError {
        LmdbError::Damaged { page: self.number, what }
    }

    /// The node's bytes from its start, and the length of its key.
    fn node(&self, index: usize) -> Result<(&[u8], usize), LmdbError> {
        let start = u16_at(&self.bytes, HEADER + 2 * index).unwrap_or(0) as usize;
        let node = self.bytes.get(start..).filter(|n| start >= HEADER && n.len() >= NODE);
        let key_bytes = node.and_then(|n| u16_at(n, 6)).unwrap_or(0) as usize;
        node.filter(|n| n.len() >= NODE + key_bytes)
            .map(|n| (n, key_bytes))
            .ok_or_else(|| self.damaged(format!("entry {index} lies outside it")))
    }

    pub(super) fn key(&self, index: usize) -> Result<&[u8], LmdbError> {
        let (node, key_bytes) = self.node(index)?;
        Ok(&node[NODE..NODE + key_bytes])
    }

    /// The page below entry `index` of a branch.
    pub(super) fn child_at(&self, index: usize) -> Result<u64, LmdbError> {
        let (node, _) = self.node(index)?;
        let field = |at| u64::from(u16_at(node, at).unwrap_or(0));
        Ok(field(0) | field(2) << 16 | field(4) << 32)
    }

    /// The page below a branch that holds `key`, if any does. The first key of a branch is empty and counts as smallest.
    pub(super) fn child(&self, key: &[u8]) -> Result<u64, LmdbError> {
        self.expect_kind(false)?;
        if self.entries == 0 {
            return Err(self.damaged("a branch without entries".to_owned()));
        }
        let (mut low, mut high) = (1, self.entries);
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle)? <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.child_at(low - 1)
    }

    /// The value of `key` in a leaf.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<Payload<'_>>, LmdbError> {
        self.expect_kind(true)?;
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low.midpoint(high);
            match self.key(middle)?.cmp(key) {
                std::cmp::Ordering::Equal => return self.payload(middle).map(Some),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    fn payload(&self, index: usize) -> Result<Payload<'_>, LmdbError> {
        let (node, key_bytes) = self.node(index)?;
        let bytes = u32_at(node, 0).unwrap_or(0);
        let data = &node[NODE + key_bytes..];
        match u16_at(node, 4).unwrap_or(0) {
            0 => data
                .get(..bytes as usize)
                .map(Payload::Inline)
                .ok_or_else(|| self.damaged(format!("the value of entry {index} lies outside it"))),
            BIG_DATA => u64_at(data, 0)
                .map(|page| Payload::Overflow { page, bytes })
                .ok_or_else(|| self.damaged(format!("entry {index} lies outside it"))),
            other => {
                Err(self.damaged(format!("entry {index} has flags 0x{other:x}: sub-databases are not read")))
            }
        }
    }
}

/// Checks the first page of a value that takes `pages` pages.
pub(super) fn check_overflow(number: u64, header: &[u8], pages: u64) -> Result<(), LmdbError> {
    let damaged = |what: String| Err(LmdbError::Damaged { page: number, what });
    let (stated, flags) = (u64_at(header, 0).unwrap_or(0), u16_at(header, 10).unwrap_or(0));
    let there = u64::from(u32_at(header, 12).unwrap_or(0));
    if flags & OVERFLOW == 0 {
        return damaged(format!("flags 0x{flags:x}, expected an overflow page"));
    }
    if stated != number {
        return damaged(format!("it calls itself page {stated}"));
    }
    if there < pages {
        return damaged(format!("a value needs {pages} overflow pages, the page says {there}"));
    }
    Ok(())
}
