//! The link tables of old-style HDF5 groups, soft links included.
//!
//! `hdf5-pure` cannot list a group that holds a soft link. Transition-1x refers to its reactions by links, hard or soft, and a
//! split that came out empty would be worse than an error; so the tables are read here: superblock 0 or 1, object header 1,
//! symbol table message, version 1 B-tree, symbol table nodes, local heap (HDF5 File Format Specification 3.0, II.A, III.A,
//! III.B, III.D, IV.A). New-style groups are left to `hdf5-pure`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::error::{IngestError, io_error};

/// Most links of a group, messages of a header, and nodes of a tree that are followed.
const MAX_ITEMS: usize = 1 << 20;
/// Deepest tree, longest chain of soft links.
const MAX_DEPTH: usize = 32;

/// Where a link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// To the object header at this address.
    Hard(u64),
    /// To a path.
    Soft(String),
}

/// An old-style file, opened for its links only.
#[derive(Debug)]
pub struct Links {
    file: File,
    path: PathBuf,
    bytes: u64,
    root: u64,
}

impl Links {
    /// Opens a file; `None` when it is not of the old style (superblock 0 or 1 with 8-byte addresses).
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path) -> Result<Option<Self>, IngestError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let bytes = file.metadata().map_err(io_error("look at", path))?.len();
        let mut links = Self { file, path: path.to_path_buf(), bytes, root: 0 };
        let head = links.read(0, 16)?;
        let version = head[8];
        if &head[..8] != b"\x89HDF\r\n\x1a\n" || version > 1 || head[13..15] != [8, 8] {
            return Ok(None);
        }
        // Root entry after: fixed fields (24 or 28 bytes), then base, free space, end of file and driver addresses.
        let addresses = if version == 0 { 24 } else { 28 };
        if links.u64_at(addresses)? != 0 {
            return Ok(None);
        }
        links.root = links.u64_at(addresses + 32 + 8)?;
        Ok(Some(links))
    }

    /// The links of the group at `path` (`a/b`), in bytewise order; soft links on the way are followed. `None` when the group is
    /// not there or is of the new style.
    ///
    /// # Errors
    /// When a table is damaged.
    pub fn list(&self, path: &str) -> Result<Option<Vec<(String, Link)>>, IngestError> {
        self.list_at(path, 0)
    }

    fn list_at(&self, path: &str, depth: usize) -> Result<Option<Vec<(String, Link)>>, IngestError> {
        if depth > MAX_DEPTH {
            return Err(self.damaged(0, "soft links lead in a circle"));
        }
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
        let mut header = self.root;
        for (at, name) in parts.iter().enumerate() {
            let Some(links) = self.links_of(header)? else { return Ok(None) };
            match links.into_iter().find(|(n, _)| n == name) {
                None => return Ok(None),
                Some((_, Link::Hard(address))) => header = address,
                Some((_, Link::Soft(target))) => {
                    let parent = if target.starts_with('/') { String::new() } else { parts[..at].join("/") };
                    let rest = parts[at + 1..].join("/");
                    return self.list_at(&format!("{parent}/{target}/{rest}"), depth + 1);
                }
            }
        }
        self.links_of(header)
    }

    fn links_of(&self, header: u64) -> Result<Option<Vec<(String, Link)>>, IngestError> {
        let Some((tree, heap)) = self.symbol_table(header)? else { return Ok(None) };
        let heap_head = self.read(heap, 32)?;
        if &heap_head[..4] != b"HEAP" {
            return Err(self.damaged(heap, "expected a local heap"));
        }
        let (names_bytes, names_at) = (self.u64_at(heap + 8)?, self.u64_at(heap + 24)?);
        let names = self.read(names_at, names_bytes)?;
        let text = |offset: u64| {
            let rest = usize::try_from(offset).ok().and_then(|o| names.get(o..));
            let end = rest.and_then(|r| r.iter().position(|&b| b == 0));
            match rest.zip(end) {
                Some((rest, end)) => Ok(String::from_utf8_lossy(&rest[..end]).into_owned()),
                None => Err(self.damaged(heap, "a name lies outside the heap")),
            }
        };
        let mut nodes = Vec::new();
        self.leaves(tree, MAX_DEPTH, &mut 0, &mut nodes)?;
        let mut links = Vec::new();
        for node in nodes {
            let head = self.read(node, 8)?;
            if &head[..4] != b"SNOD" {
                return Err(self.damaged(node, "expected a symbol table node"));
            }
            for i in 0..u64::from(u16::from_le_bytes([head[6], head[7]])) {
                let entry = node + 8 + 40 * i;
                let name = text(self.u64_at(entry)?)?;
                let is_soft = self.read(entry + 16, 8)?[..4] == [2, 0, 0, 0];
                let link = if is_soft {
                    let offset = u64::from(u32::from_le_bytes(self.array(entry + 24)?));
                    Link::Soft(text(offset)?)
                } else {
                    Link::Hard(self.u64_at(entry + 8)?)
                };
                links.push((name, link));
                if links.len() > MAX_ITEMS {
                    return Err(self.damaged(node, "too many links"));
                }
            }
        }
        links.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Some(links))
    }

    /// The B-tree and heap of a group whose object header is of version 1.
    fn symbol_table(&self, header: u64) -> Result<Option<(u64, u64)>, IngestError> {
        let head = self.read(header, 16)?;
        if head[0] != 1 {
            return Ok(None);
        }
        let mut left = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let first = u64::from(u32::from_le_bytes([head[8], head[9], head[10], head[11]]));
        let mut blocks = vec![(header + 16, first)];
        let mut next_block = 0;
        while let Some(&(mut at, length)) = blocks.get(next_block) {
            next_block += 1;
            let end = at.saturating_add(length);
            while left > 0 && at + 8 <= end {
                let message = self.read(at, 8)?;
                let kind = u16::from_le_bytes([message[0], message[1]]);
                match kind {
                    0x11 => return Ok(Some((self.u64_at(at + 8)?, self.u64_at(at + 16)?))),
                    0x10 if blocks.len() < MAX_DEPTH => {
                        blocks.push((self.u64_at(at + 8)?, self.u64_at(at + 16)?));
                    }
                    _ => {}
                }
                at += 8 + u64::from(u16::from_le_bytes([message[2], message[3]]));
                left -= 1;
            }
        }
        Ok(None)
    }

    /// Addresses of the symbol table nodes below a B-tree node.
    ///
    /// `visits` counts nodes, since nodes that several point at are visited several times.
    fn leaves(
        &self,
        node: u64,
        depth: usize,
        visits: &mut usize,
        found: &mut Vec<u64>,
    ) -> Result<(), IngestError> {
        *visits += 1;
        let head = self.read(node, 24)?;
        if &head[..4] != b"TREE" || head[4] != 0 {
            return Err(self.damaged(node, "expected a B-tree node of a group"));
        }
        if depth == 0 || found.len() > MAX_ITEMS || *visits > MAX_ITEMS {
            return Err(self.damaged(node, "the B-tree is too deep or too large"));
        }
        for i in 0..u64::from(u16::from_le_bytes([head[6], head[7]])) {
            // A key of 8 bytes stands before each child.
            let child = self.u64_at(node + 24 + 8 + 16 * i)?;
            match head[5] {
                0 => found.push(child),
                level if usize::from(level) < depth => {
                    self.leaves(child, usize::from(level), visits, found)?;
                }
                _ => return Err(self.damaged(node, "the levels of the B-tree do not descend")),
            }
        }
        Ok(())
    }

    fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, IngestError> {
        if offset.checked_add(length).is_none_or(|end| end > self.bytes) {
            return Err(self
                .damaged(offset, "a table lies behind the end of the file, which is truncated or damaged"));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(io_error("read", &self.path))?;
        Ok(bytes)
    }

    fn array<const N: usize>(&self, offset: u64) -> Result<[u8; N], IngestError> {
        let bytes = self.read(offset, N as u64)?;
        bytes.try_into().map_err(|_| self.damaged(offset, "a field is cut off"))
    }

    fn u64_at(&self, offset: u64) -> Result<u64, IngestError> {
        self.array(offset).map(u64::from_le_bytes)
    }

    fn damaged(&self, offset: u64, problem: &str) -> IngestError {
        IngestError::Hdf5 {
            path: self.path.clone(),
            object: format!("byte {offset}"),
            problem: problem.to_owned(),
        }
    }
}
