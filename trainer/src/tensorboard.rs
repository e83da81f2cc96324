//! TensorBoard's event files: records of protocol buffers in TFRecord framing.
//!
//! A record is its length (u64), the masked CRC-32C of that, the bytes of an `Event`, and their masked CRC-32C, all little
//! endian. Of `Event` we write `wall_time` (1), `step` (2), `file_version` (3), `summary` (5) with `value` (1) of `tag` (1)
//! and `simple_value` (2), and `session_log` (7) with `status` (1).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Castagnoli's polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// What the framing adds to a rotated checksum.
const MASK: u32 = 0xA282_EAD8;
/// How names of event files begin, by which TensorBoard knows them.
const NAME: &str = "events.out.tfevents.";
/// Wire types of protocol buffers.
const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// One run's event file, open for appending events.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// Begins a file in `folder`. Steps above `step` that earlier files hold are not shown any more: a resumed run makes
    /// them anew.
    ///
    /// # Errors
    /// The system's.
    pub fn create(folder: &Path, step: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let has_earlier = has_event_files(folder)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // TensorBoard reads the files of a folder in the order of their names.
        let name = |n: u32| format!("{NAME}{:010}.{:09}.{n}.jmp", now.as_secs(), now.subsec_nanos());
        let mut number = 0;
        let file = loop {
            match File::create_new(folder.join(name(number))) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
                outcome => break outcome?,
            }
        };
        let mut events = Self { file };
        events.write(&event(0, |e| string(e, 3, "brain.Event:2")))?;
        if has_earlier {
            // Status START: what was told of this step and later ones is void. At step 0, too: a run that was killed before its
            // next checkpoint begins again there.
            events.write(&event(step + 1, |e| message(e, 7, |log| field(log, 1, VARINT, &varint(1)))))?;
        }
        Ok(events)
    }

    /// Tells the values at `step`.
    ///
    /// # Errors
    /// The system's.
    pub fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> io::Result<()> {
        self.write(&event(step, |e| {
            message(e, 5, |summary| {
                for (tag, value) in values {
                    message(summary, 1, |entry| {
                        string(entry, 1, tag);
                        entry.extend(varint(2 << 3 | 5));
                        entry.extend((*value as f32).to_le_bytes());
                    });
                }
            });
        }))
    }

    /// One call of the system for a record, so that a reader or a crash finds whole records but for the last.
    fn write(&mut self, event: &[u8]) -> io::Result<()> {
        self.file.write_all(&record(event))
    }
}

fn has_event_files(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        if entry?.file_name().to_string_lossy().starts_with(NAME) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(event.len() + 16);
    record.extend(length);
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(event);
    record.extend(masked(crc32c(event)).to_le_bytes());
    record
}

fn event(step: u64, content: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut event = varint(1 << 3 | 1);
    event.extend(now.to_le_bytes());
    field(&mut event, 2, VARINT, &varint(step));
    content(&mut event);
    event
}

fn field(into: &mut Vec<u8>, number: u64, wire: u64, content: &[u8]) {
    into.extend(varint(number << 3 | wire));
    into.extend(content);
}

fn message(into: &mut Vec<u8>, number: u64, content: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    content(&mut inner);
    field(into, number, BYTES, &varint(inner.len() as u64));
    into.extend(inner);
}

fn string(into: &mut Vec<u8>, number: u64, text: &str) {
    message(into, number, |inner| inner.extend(text.bytes()));
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(MASK)
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the newest file in a folder.
    fn newest(folder: &Path) -> Vec<u8> {
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        fs::read(files.last().unwrap()).unwrap()
    }

    #[test]
    fn a_file_beside_earlier_ones_says_where_it_begins_also_at_step_0() {
        let folder = tempfile::tempdir().unwrap();
        // Field 7, a message of two bytes: status (field 1) START (1).
        let start: [u8; 4] = [7 << 3 | 2, 2, 1 << 3, 1];
        let has_start = |bytes: &[u8]| bytes.windows(start.len()).any(|window| window == start);
        drop(EventFile::create(folder.path(), 0).unwrap());
        assert!(!has_start(&newest(folder.path())), "nothing was told before");
        for (step, next) in [(0_u64, 1_u8), (5, 6)] {
            drop(EventFile::create(folder.path(), step).unwrap());
            let bytes = newest(folder.path());
            assert!(has_start(&bytes));
            // The step of the event, field 2, comes right before.
            let at = bytes.windows(start.len()).position(|window| window == start).unwrap();
            assert_eq!(bytes[at - 2..at], [2_u8 << 3, next]);
        }
    }

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        // RFC 3720, B.4; and the check value of the polynomial.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_record_is_framed_and_numbers_are_varints() {
        let record = record(b"abc");
        assert_eq!(record.len(), 8 + 4 + 3 + 4);
        assert_eq!(record[..8], 3_u64.to_le_bytes());
        assert_eq!(record[12..15], *b"abc");
        assert_eq!(varint(300), [0xAC, 0x02]);
        let mut text = Vec::new();
        string(&mut text, 1, "loss");
        assert_eq!(text, [0x0A, 4, b'l', b'o', b's', b's']);
    }
}
