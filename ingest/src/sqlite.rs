//! Tables of SQLite files, read only, in safe Rust: what ASE's databases (`.db`) need and nothing else.
//!
//! Understood are rowid tables with values on overflow pages, in UTF-8. There is no SQL, no lock and no memory map; every
//! page number, length and offset is checked, so that a damaged file is an error that names the page.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::error::{IngestError, input_error, io_error};

/// An open file; reading from several threads is fine.
#[derive(Debug)]
pub struct Database {
    file: File,
    path: PathBuf,
    page_size: usize,
    /// Bytes of a page without those reserved for extensions.
    usable: usize,
    pages: u32,
}

/// A table's columns and where its rows lie.
#[derive(Debug)]
pub struct Table {
    /// Names of the columns, in the order of a row's values.
    pub columns: Vec<String>,
    rows: Vec<Cell>,
}

/// The place of a row: its page, and the number of its cell there.
#[derive(Debug, Clone, Copy)]
struct Cell {
    page: u32,
    index: u16,
    rowid: i64,
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT; what is no UTF-8 in it is replaced.
    Text(String),
    /// BLOB.
    Blob(Vec<u8>),
}

/// Levels of a table's tree; the format's own limit is below it.
const DEEPEST: usize = 24;
/// Bytes of a row; a structure of 65,535 atoms takes some MB.
const LARGEST_ROW: u64 = 1 << 28;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

impl Database {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read, is no SQLite file, or has changes outside of it that SQLite must take in first.
    pub fn open(path: &Path) -> Result<Self, IngestError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let bytes = file.metadata().map_err(io_error("look at", path))?.len();
        let mut header = [0; 100];
        let start = file.read_exact_at(&mut header, 0);
        if start.is_err() || &header[..16] != MAGIC {
            return Err(input_error(path, "is no SQLite file: it does not begin with `SQLite format 3`"));
        }
        for end in ["-wal", "-journal"] {
            let beside = PathBuf::from(format!("{}{end}", path.display()));
            if std::fs::metadata(&beside).is_ok_and(|m| m.len() > 0) {
                let problem = format!(
                    "changes wait in {}: open the database once with SQLite (`sqlite3 FILE .schema`), which takes them in",
                    beside.display()
                );
                return Err(input_error(path, problem));
            }
        }
        let page_size = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65_536,
            n => usize::from(n),
        };
        let usable = page_size.saturating_sub(usize::from(header[20]));
        if !page_size.is_power_of_two() || page_size < 512 || usable < 480 {
            return Err(input_error(path, format!("its header is damaged: pages of {page_size} bytes")));
        }
        if !matches!(u32::from_be_bytes([header[56], header[57], header[58], header[59]]), 0 | 1) {
            return Err(input_error(path, "its text is not UTF-8, the only encoding that is read"));
        }
        let pages = u32::try_from(bytes / page_size as u64).unwrap_or(u32::MAX);
        Ok(Self { file, path: path.to_path_buf(), page_size, usable, pages })
    }

    /// Finds a table and its rows.
    ///
    /// # Errors
    /// When there is no such table, or the way to its rows is damaged.
    pub fn table(&self, name: &str) -> Result<Table, IngestError> {
        let mut known = Vec::new();
        for cell in self.cells(1)? {
            let (_, values) = self.values(cell)?;
            let [Value::Text(kind), Value::Text(table), _, Value::Integer(root), Value::Text(sql)] =
                values.as_slice()
            else {
                continue;
            };
            if kind != "table" {
                continue;
            }
            if table == name {
                let root =
                    u32::try_from(*root).map_err(|_| self.damaged(1, "a root page is no page number"))?;
                return Ok(Table { columns: column_names(sql), rows: self.cells(root)? });
            }
            known.push(table.clone());
        }
        Err(IngestError::Missing {
            path: self.path.clone(),
            place: "the database".to_owned(),
            key: name.to_owned(),
            known,
        })
    }

    /// The rowid and values of a row.
    ///
    /// # Errors
    /// When it is damaged. `row` must be below [`Table::len`].
    pub fn row(&self, table: &Table, row: usize) -> Result<(i64, Vec<Value>), IngestError> {
        self.values(table.rows[row])
    }

    /// The places of all rows below a page, in the order of their rowids.
    fn cells(&self, root: u32) -> Result<Vec<Cell>, IngestError> {
        let (mut cells, mut pending, mut visited) = (Vec::new(), vec![(root, 0)], 0u32);
        while let Some((number, depth)) = pending.pop() {
            visited += 1;
            // A tree has no more pages than the file: a damaged one could lead in circles.
            if visited > self.pages || depth > DEEPEST {
                return Err(self.damaged(number, "the tree has more pages than the file, or too many levels"));
            }
            let page = self.page(number)?;
            match page.kind()? {
                Kind::Leaf => {
                    for index in 0..page.count() {
                        let mut rest = page.bytes.get(page.cell(index)?..).unwrap_or_default();
                        let rowid = varint(&mut rest).and_then(|_| varint(&mut rest));
                        let rowid =
                            rowid.ok_or_else(|| self.damaged(number, "a row reaches beyond its page"))?;
                        cells.push(Cell { page: number, index, rowid });
                    }
                }
                Kind::Interior => {
                    let mut children = Vec::with_capacity(usize::from(page.count()) + 1);
                    for index in 0..page.count() {
                        children.push(page.number_at(page.cell(index)?)?);
                    }
                    children.push(page.number_at(page.header + 8)?);
                    pending.extend(children.into_iter().rev().map(|child| (child, depth + 1)));
                }
            }
        }
        Ok(cells)
    }

    fn values(&self, cell: Cell) -> Result<(i64, Vec<Value>), IngestError> {
        let page = self.page(cell.page)?;
        let damaged = |what: &str| self.damaged(cell.page, what);
        let short = || damaged("a row reaches beyond its page");
        if page.kind()? != Kind::Leaf || cell.index >= page.count() {
            return Err(damaged("it changed while it was read"));
        }
        let mut rest = page.bytes.get(page.cell(cell.index)?..self.usable).ok_or_else(short)?;
        let size = varint(&mut rest).ok_or_else(short)?;
        let rowid = varint(&mut rest).ok_or_else(short)?;
        let total = (u64::from(self.pages) * self.page_size as u64).min(LARGEST_ROW);
        let size = usize::try_from(size).ok().filter(|&s| s as u64 <= total);
        let size = size.ok_or_else(|| damaged("a row claims to be larger than the file, or than 256 MiB"))?;
        let local = self.local(size);
        let mut payload = rest.get(..local).ok_or_else(short)?.to_vec();
        if local < size {
            let next = rest.get(local..local + 4).ok_or_else(short)?;
            let next = u32::from_be_bytes([next[0], next[1], next[2], next[3]]);
            self.overflow(next, size, &mut payload)?;
        }
        let values =
            record(&payload, rowid).ok_or_else(|| damaged("a row's values do not fit its header"))?;
        Ok((rowid, values))
    }

    /// How much of a payload stands on the row's own page.
    fn local(&self, size: usize) -> usize {
        let largest = self.usable - 35;
        if size <= largest {
            return size;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let kept = least + (size - least) % (self.usable - 4);
        if kept <= largest { kept } else { least }
    }

    fn overflow(&self, mut number: u32, size: usize, payload: &mut Vec<u8>) -> Result<(), IngestError> {
        // Each page adds bytes, so the chain ends after as many as the row has.
        while payload.len() < size {
            let page = self.read_page(number)?;
            let wanted = (size - payload.len()).min(self.usable - 4);
            payload.extend_from_slice(&page[4..4 + wanted]);
            number = u32::from_be_bytes([page[0], page[1], page[2], page[3]]);
        }
        Ok(())
    }

    fn page(&self, number: u32) -> Result<Page, IngestError> {
        let bytes = self.read_page(number)?;
        let page = Page { header: if number == 1 { 100 } else { 0 }, bytes, number, path: self.path.clone() };
        let end = page.header + 12 + 2 * usize::from(page.count());
        if end > page.bytes.len() {
            return Err(self.damaged(number, "it claims more cells than fit"));
        }
        Ok(page)
    }

    fn read_page(&self, number: u32) -> Result<Vec<u8>, IngestError> {
        if number == 0 || number > self.pages {
            let what =
                format!("it is asked for, but the file has {} pages: it is truncated or damaged", self.pages);
            return Err(self.damaged(number, &what));
        }
        let mut bytes = vec![0; self.page_size];
        let offset = u64::from(number - 1) * self.page_size as u64;
        self.file.read_exact_at(&mut bytes, offset).map_err(io_error("read", &self.path))?;
        Ok(bytes)
    }

    fn damaged(&self, page: u32, what: &str) -> IngestError {
        input_error(&self.path, format!("page {page}: {what}"))
    }
}

impl Table {
    /// The rowids, in the order of the rows.
    pub fn rowids(&self) -> impl Iterator<Item = i64> + '_ {
        self.rows.iter().map(|cell| cell.rowid)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Interior,
    Leaf,
}

struct Page {
    bytes: Vec<u8>,
    /// Where the page's header begins: behind the file's on the first page.
    header: usize,
    number: u32,
    path: PathBuf,
}

impl Page {
    fn kind(&self) -> Result<Kind, IngestError> {
        match self.bytes[self.header] {
            0x05 => Ok(Kind::Interior),
            0x0d => Ok(Kind::Leaf),
            other => Err(self.damaged(&format!("expected a page of a table, found kind {other}"))),
        }
    }

    fn count(&self) -> u16 {
        u16::from_be_bytes([self.bytes[self.header + 3], self.bytes[self.header + 4]])
    }

    /// Where a cell begins.
    fn cell(&self, index: u16) -> Result<usize, IngestError> {
        let pointers = self.header + if self.bytes[self.header] == 0x05 { 12 } else { 8 };
        let at = pointers + 2 * usize::from(index);
        let start = usize::from(u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]));
        if start < pointers || start + 4 > self.bytes.len() {
            return Err(self.damaged("a cell lies outside of it"));
        }
        Ok(start)
    }

    fn number_at(&self, at: usize) -> Result<u32, IngestError> {
        let bytes =
            self.bytes.get(at..at + 4).ok_or_else(|| self.damaged("a page number lies outside of it"))?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn damaged(&self, what: &str) -> IngestError {
        input_error(&self.path, format!("page {}: {what}", self.number))
    }
}

/// SQLite's integers of one to nine bytes.
fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for at in 0..9 {
        let byte = *rest.get(at)?;
        if at == 8 {
            *rest = &rest[9..];
            return Some((value << 8 | u64::from(byte)) as i64);
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            *rest = &rest[at + 1..];
            return Some(value as i64);
        }
    }
    None
}

/// The values of a row; a NULL in the first column stands for the rowid where that is the primary key.
fn record(payload: &[u8], rowid: i64) -> Option<Vec<Value>> {
    let mut header = payload;
    let header_size = usize::try_from(varint(&mut header)?).ok()?;
    let used = payload.len() - header.len();
    let mut kinds = payload.get(used..header_size)?;
    let mut body = payload.get(header_size..)?;
    let mut values = Vec::new();
    while !kinds.is_empty() {
        // SQLite's own limit of columns.
        if values.len() > 32_767 {
            return None;
        }
        let value = value(varint(&mut kinds)?, &mut body)?;
        values.push(if values.is_empty() && value == Value::Null { Value::Integer(rowid) } else { value });
    }
    Some(values)
}

fn value(kind: i64, body: &mut &[u8]) -> Option<Value> {
    let mut take = |n: usize| {
        let (head, tail) = body.split_at_checked(n)?;
        *body = tail;
        Some(head)
    };
    let integer = |bytes: &[u8]| {
        let negative = bytes[0] & 0x80 != 0;
        bytes.iter().fold(if negative { -1i64 } else { 0 }, |n, &b| n << 8 | i64::from(b))
    };
    Some(match kind {
        0 => Value::Null,
        1..=4 => Value::Integer(integer(take(kind as usize)?)),
        5 => Value::Integer(integer(take(6)?)),
        6 => Value::Integer(integer(take(8)?)),
        7 => Value::Real(f64::from_be_bytes(take(8)?.try_into().ok()?)),
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        12.. => {
            let bytes = take(usize::try_from((kind - 12) / 2).ok()?)?;
            if kind % 2 == 0 {
                Value::Blob(bytes.to_vec())
            } else {
                Value::Text(String::from_utf8_lossy(bytes).into_owned())
            }
        }
        _ => return None,
    })
}

/// The names of the columns in a `CREATE TABLE`.
fn column_names(sql: &str) -> Vec<String> {
    // Comments go on to the end of their line, and may hold anything.
    let plain: String =
        sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    let inside = plain.split_once('(').map_or("", |(_, rest)| rest);
    let (mut names, mut depth, mut start) = (Vec::new(), 0usize, 0);
    let mut add = |part: &str| {
        let word =
            part.split_whitespace().next().unwrap_or_default().trim_matches(['"', '`', '[', ']', '\'']);
        let rule =
            ["FOREIGN", "PRIMARY", "UNIQUE", "CHECK", "CONSTRAINT"].contains(&word.to_uppercase().as_str());
        if !word.is_empty() && !rule {
            names.push(word.to_owned());
        }
    };
    for (at, c) in inside.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => {
                add(&inside[start..at]);
                break;
            }
            ')' => depth -= 1,
            ',' if depth == 0 => {
                add(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_a_statement() {
        let sql = "CREATE TABLE systems (\n id INTEGER PRIMARY KEY AUTOINCREMENT,  -- ID's, and (more\n \"unique_id\" TEXT UNIQUE,\n \
                   x DECIMAL(3, 4),\n energy REAL,\n FOREIGN KEY (id) REFERENCES y(id))";
        assert_eq!(column_names(sql), ["id", "unique_id", "x", "energy"]);
    }

    #[test]
    fn integers_of_all_lengths() {
        let check = |bytes: &[u8], want: Option<i64>| {
            let mut rest = bytes;
            assert_eq!(varint(&mut rest), want);
        };
        check(&[0x7f], Some(127));
        check(&[0x81, 0x00], Some(128));
        check(&[0xff; 9], Some(-1));
        check(&[0x80], None);
        let read = |kind, bytes: &[u8]| value(kind, &mut &bytes[..]);
        assert_eq!(read(1, &[0xfe]), Some(Value::Integer(-2)));
        assert_eq!(read(3, &[0x01, 0, 0]), Some(Value::Integer(65_536)));
        assert_eq!(read(5, &[0xff; 6]), Some(Value::Integer(-1)));
        assert_eq!(read(7, &1.5f64.to_be_bytes()), Some(Value::Real(1.5)));
        assert_eq!(read(17, b"ab"), Some(Value::Text("ab".to_owned())));
        assert_eq!((read(16, b"a"), read(10, b"")), (None, None));
    }
}
