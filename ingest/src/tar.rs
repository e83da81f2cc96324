//! Where the members of a tar archive lie, so that each can be read by itself, by any thread, without unpacking the archive; and,
//! for an archive that is packed as a whole, its members as they come ([`Tar`]).
//!
//! Read are the headers alone: ustar, pax and GNU names and sizes. Nothing is written anywhere, so names such as
//! `../../etc/passwd` do no harm.

mod stream;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::{IngestError, input_error, io_error};
pub use stream::{Entry, Tar};

/// Bytes of a header, and the unit in which members are padded.
const BLOCK: u64 = 512;
/// Longest name, or set of pax entries, that is read.
const LONGEST_NAME: u64 = 1 << 20;

/// A regular file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Path in the archive.
    pub name: String,
    /// Where its bytes begin.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
}

/// Lists the regular files of an archive, in its order.
///
/// # Errors
/// When it cannot be read, is no tar archive, or is truncated.
pub fn members(path: &Path) -> Result<Vec<Member>, IngestError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let total = file.metadata().map_err(io_error("look at", path))?.len();
    let mut archive = Archive { file, path, total, offset: 0 };
    let mut members = Vec::new();
    while let Some(member) = archive.next()? {
        members.push(member);
    }
    Ok(members)
}

struct Archive<'p> {
    file: File,
    path: &'p Path,
    total: u64,
    offset: u64,
}

impl Archive<'_> {
    /// The next regular file; what precedes it and describes it (long names, pax entries) is taken in.
    fn next(&mut self) -> Result<Option<Member>, IngestError> {
        let (mut long_name, mut long_size) = (None, None);
        while let Some(header) = self.header()? {
            let size = match (header.kind, long_size) {
                (b'0' | 0, Some(size)) => size,
                _ => header.size,
            };
            let (offset, end) = (self.offset, self.offset.checked_add(size));
            let Some(end) = end.filter(|&end| end <= self.total) else {
                let problem = format!(
                    "the archive ends at byte {}, within its member {} ({size} bytes from byte {offset}): it is truncated; fetch it \
                     again",
                    self.total,
                    long_name.unwrap_or(header.name)
                );
                return Err(input_error(self.path, problem));
            };
            self.offset = end.next_multiple_of(BLOCK);
            match header.kind {
                b'0' | 0 => {
                    let name = long_name.unwrap_or(header.name);
                    return Ok(Some(Member { name, offset, bytes: size }));
                }
                b'L' => long_name = Some(text(&self.bytes(offset, size)?)),
                b'x' => {
                    let entries = self.bytes(offset, size)?;
                    long_name = pax(&entries, "path").or(long_name);
                    long_size = pax(&entries, "size").and_then(|s| s.parse().ok()).or(long_size);
                }
                b'g' => {}
                // Directories, links and devices hold no data.
                _ => (long_name, long_size) = (None, None),
            }
        }
        Ok(None)
    }

    fn header(&mut self) -> Result<Option<Header>, IngestError> {
        if self.offset + BLOCK > self.total {
            // An archive ends with two empty blocks, which some writers leave out.
            return if self.offset == self.total && self.offset > 0 {
                Ok(None)
            } else {
                Err(input_error(
                    self.path,
                    format!("is no tar archive, or ends within a header at byte {}", self.offset),
                ))
            };
        }
        let block = self.bytes(self.offset, BLOCK)?;
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let header = Header::parse(&block).ok_or_else(|| {
            input_error(
                self.path,
                format!("is no tar archive, or its header at byte {} is damaged", self.offset),
            )
        })?;
        self.offset += BLOCK;
        Ok(Some(header))
    }

    fn bytes(&self, offset: u64, size: u64) -> Result<Vec<u8>, IngestError> {
        if size > LONGEST_NAME {
            return Err(input_error(
                self.path,
                format!("has a name of {size} bytes in its header at byte {offset}"),
            ));
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(|e: io::Error| io_error("read", self.path)(e))?;
        Ok(bytes)
    }
}

struct Header {
    name: String,
    size: u64,
    kind: u8,
}

impl Header {
    /// `None`: the block is no header.
    fn parse(block: &[u8]) -> Option<Self> {
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u64::from(b) })
            .sum();
        if number(&block[148..156])? != sum {
            return None;
        }
        let mut name = text(&block[..100]);
        let prefix = text(&block[345..500]);
        if &block[257..263] == b"ustar\0" && !prefix.is_empty() {
            name = format!("{prefix}/{name}");
        }
        Some(Self { name, size: number(&block[124..136])?, kind: block[156] })
    }
}

/// An octal number, or a binary one when it is marked so.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (head, tail) = field.split_at(field.len() - 8);
        let clean = head[0] == 0x80 && head[1..].iter().all(|&b| b == 0);
        return <[u8; 8]>::try_from(tail).ok().filter(|_| clean).map(u64::from_be_bytes);
    }
    let digits = text(field);
    u64::from_str_radix(digits.trim(), 8).ok()
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// The value of a key among pax entries, `length key=value\n` each.
fn pax(entries: &[u8], key: &str) -> Option<String> {
    let text = String::from_utf8_lossy(entries);
    let values = text.lines().filter_map(|line| line.split_once(' ')?.1.split_once('='));
    values.filter(|(k, _)| *k == key).map(|(_, v)| v.to_owned()).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> Vec<u8> {
        let path = [env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/oc20/s2ef_train_fixture.tar"].concat();
        std::fs::read(path).unwrap()
    }

    fn list(bytes: &[u8]) -> Result<Vec<Member>, IngestError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar");
        std::fs::write(&path, bytes).unwrap();
        members(&path)
    }

    /// A header of the old kind with a checksum.
    fn header(name: &str, kind: u8, size: &[u8]) -> Vec<u8> {
        let mut block = vec![0; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..124 + size.len()].copy_from_slice(size);
        block[156] = kind;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    #[test]
    fn members_of_what_python_wrote() {
        let bytes = fixture();
        let found = list(&bytes).unwrap();
        let mut names: Vec<&str> = found.iter().map(|m| m.name.as_str()).collect();
        names.sort_unstable();
        let inner = "s2ef_train_fixture/s2ef_train_fixture";
        let want = ["0.extxyz.xz", "0.txt.xz", "1.extxyz.xz", "1.txt.xz"].map(|n| format!("{inner}/{n}"));
        assert_eq!(names[1..], want);
        for member in
            found.iter().filter(|m| std::path::Path::new(&m.name).extension().is_some_and(|e| e == "xz"))
        {
            assert_eq!(&bytes[member.offset as usize..][..6], b"\xfd7zXZ\0");
            assert_eq!(&bytes[(member.offset + member.bytes) as usize - 2..][..2], b"YZ");
        }
    }

    #[test]
    fn long_names_and_large_sizes() {
        let long = "d/".repeat(80) + "0.extxyz";
        let pad = |text: &str| [text.as_bytes(), &vec![0; 512 - text.len()]].concat();
        let entry = format!("{} path={long}\n", long.len() + 10);
        let binary = [&[0x80, 0, 0, 0][..], &3u64.to_be_bytes()].concat();
        let bytes = [
            header("././@LongLink", b'L', format!("{:o}", long.len()).as_bytes()),
            pad(&long),
            header("cut", b'0', b"3"),
            pad("abc"),
            header("pax", b'x', format!("{:o}", entry.len()).as_bytes()),
            pad(&entry),
            header("cut", 0, &binary),
            pad("def"),
            header("dir", b'5', b"0"),
            vec![0; 1024],
        ]
        .concat();
        let want = |offset| Member { name: long.clone(), offset, bytes: 3 };
        assert_eq!(list(&bytes).unwrap(), [want(3 * 512), want(7 * 512)]);
    }

    #[test]
    fn truncated_and_damaged_archives_are_refused() {
        let bytes = fixture();
        let check = |bytes: &[u8], expected: &str| {
            let error = list(bytes).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        let last = list(&bytes).unwrap().into_iter().max_by_key(|m| m.offset).unwrap();
        check(&bytes[..last.offset as usize + 10], "it is truncated; fetch it again");
        check(&bytes[..700], "header");
        check(b"", "no tar archive");
        check(&[7; 2000], "no tar archive");
        check(&header("x", b'0', b"77777777777"), "truncated");
        check(&header("x", b'L', b"77777777"), "truncated");
        check(&[header("x", b'L', b"7777777"), vec![0; 1 << 22]].concat(), "a name of 2097151 bytes");
        for at in (0..bytes.len()).step_by(97) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x15;
            let _ = list(&bytes);
        }
    }
}
