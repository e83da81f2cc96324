//! The members of an archive that can only be read from its start, such as one inside bzip2.

use std::io::{self, Read};

use super::{BLOCK, Header, pax, text};

/// Longest name, or set of pax entries, that is read.
const LONGEST_NAME: u64 = 1 << 16;

/// A regular file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// An archive that is being read. Damage shows as errors of kind `InvalidData` or `UnexpectedEof`.
#[derive(Debug)]
pub struct Tar<R> {
    input: R,
    /// Bytes of the present member, and of its padding, that were not read.
    left: u64,
    padding: u64,
}

fn damaged(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("tar: {problem}"))
}

impl<R: Read> Tar<R> {
    /// Reads the archive from `input`.
    pub fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// Passes over what is left of the present member and goes to the next regular file; `None` at the end.
    ///
    /// # Errors
    /// When the archive is damaged or truncated, or the input cannot be read.
    pub fn advance(&mut self) -> io::Result<Option<Entry>> {
        let (mut long_name, mut long_size) = (None, None);
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            self.begin(header.size);
            match header.kind {
                b'L' => long_name = Some(text(&self.content(LONGEST_NAME)?)),
                b'x' => {
                    let records = self.content(LONGEST_NAME)?;
                    long_name = pax(&records, "path").or(long_name);
                    long_size = pax(&records, "size").and_then(|s| s.parse().ok());
                }
                b'0' | 0 => {
                    let size = long_size.unwrap_or(header.size);
                    self.begin(size);
                    return Ok(Some(Entry { name: long_name.unwrap_or(header.name), size }));
                }
                b'g' => {}
                // Directories, links and devices hold no data.
                _ => (long_name, long_size) = (None, None),
            }
        }
    }

    /// The whole of the present member.
    ///
    /// # Errors
    /// When it has more than `limit` bytes, or the archive ends in it.
    pub fn content(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        if self.left > limit {
            return Err(damaged(&format!("a member has {} bytes; at most {limit} are expected", self.left)));
        }
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(self.left).read_to_end(&mut bytes)?;
        if read as u64 != self.left {
            return Err(truncated());
        }
        self.left = 0;
        Ok(bytes)
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK;
    }

    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left.checked_add(self.padding).ok_or_else(|| damaged("a member's size is absurd"))?;
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink())?;
        (self.left, self.padding) = (0, 0);
        if skipped == rest { Ok(()) } else { Err(truncated()) }
    }

    /// The next header; `None` at the block of zeros that ends an archive. That block must be there: of a stream, it alone tells
    /// a whole archive from one that was cut.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut block = [0; BLOCK as usize];
        self.input.read_exact(&mut block).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => truncated(),
            _ => e,
        })?;
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let header = Header::parse(&block);
        header.map(Some).ok_or_else(|| damaged("a header is damaged, or this is no tar archive"))
    }
}

fn truncated() -> io::Error {
    let text = "tar: the archive ends too early: it is truncated; fetch it again";
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header as tar writes it.
    fn header(name: &str, kind: u8, size: &[u8]) -> Vec<u8> {
        let mut block = vec![0; BLOCK as usize];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..124 + size.len()].copy_from_slice(size);
        block[156] = kind;
        block[257..263].copy_from_slice(b"ustar\0");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn padded(content: &[u8]) -> Vec<u8> {
        let mut block = content.to_vec();
        block.resize(content.len().next_multiple_of(BLOCK as usize), 0);
        block
    }

    fn names(archive: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut tar = Tar::new(archive);
        let mut found = Vec::new();
        while let Some(member) = tar.advance()? {
            let content = tar.content(1000)?;
            assert_eq!(content.len() as u64, member.size);
            found.push((member.name, content));
        }
        Ok(found)
    }

    #[test]
    fn names_of_every_kind_and_nothing_but_files() {
        let long = format!("{}/x", "d".repeat(200));
        let record = format!("{} path={long}2\n", long.len() + 11);
        let archive = [
            header("dir/", b'5', b"0"),
            header("a", b'0', b"00000000003\0"),
            padded(b"one"),
            header("././@LongLink", b'L', format!("{:o}", long.len() + 1).as_bytes()),
            padded(format!("{long}\0").as_bytes()),
            header("cut", b'0', &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]),
            padded(b"two"),
            header("pax", b'x', format!("{:o}", record.len()).as_bytes()),
            padded(record.as_bytes()),
            header("cut", 0, b"3"),
            padded(b"six"),
            header("link", b'2', b"0"),
            vec![0; 2 * BLOCK as usize],
        ]
        .concat();
        let want = [("a".to_owned(), "one"), (long.clone(), "two"), (format!("{long}2"), "six")];
        assert_eq!(names(&archive).unwrap(), want.map(|(n, c)| (n, c.as_bytes().to_vec())));
        for end in (0..archive.len() - 2 * BLOCK as usize).step_by(7) {
            assert!(names(&archive[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn lies_are_told() {
        let told = |archive: &[u8], why: &str| {
            let error = names(archive).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        told(&header("a", b'0', b"77777777777"), "at most 1000 are expected");
        told(&header("a", b'5', &[0xff; 12]), "header is damaged");
        told(&header("a", b'L', b"777777777"), "at most 65536");
        let mut wrong = header("a", b'0', b"1");
        wrong[0] = b'b';
        told(&wrong, "header is damaged");
        told(&[b'x'; BLOCK as usize], "no tar archive");
    }
}
