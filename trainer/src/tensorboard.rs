//! TensorBoard event files: length-framed protobuf records with masked CRC-32C.
//!
//! Only scalars are written, so the few messages needed (Event, Summary, SessionLog of tensorflow's event.proto and
//! summary.proto) are encoded here.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::TrainError;

/// Added to a rotated checksum so that a checksum of checksummed data is not degenerate (TFRecord's mask).
const MASK_DELTA: u32 = 0xa282_ead8;
const STATUS_START: u64 = 1;

/// Appends scalars to an event file.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Starts an event file in `folder`. TensorBoard forgets what earlier files of the folder say of steps after `resumed_at`, of all without.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(folder: &Path, resumed_at: Option<u64>) -> Result<Self, TrainError> {
        let seconds = wall_time();
        let path = folder.join(format!("events.out.tfevents.{:010}.{}.monopass", seconds as u64, std::process::id()));
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(TrainError::io("create", &path))?;
        let mut writer = Self { file, path };
        let mut version = event(seconds, 0);
        put_bytes(&mut version, 3, b"brain.Event:2");
        writer.append(&version)?;
        let mut session = Vec::new();
        put_varint_field(&mut session, 1, STATUS_START);
        let mut start = event(seconds, resumed_at.map_or(0, |step| step + 1));
        put_bytes(&mut start, 7, &session);
        writer.append(&start)?;
        Ok(writer)
    }

    /// Appends the values of one step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> Result<(), TrainError> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, tag.as_bytes());
            entry.push(2 << 3 | 5); // simple_value: 32-bit
            entry.extend((*value as f32).to_le_bytes());
            put_bytes(&mut summary, 1, &entry);
        }
        let mut record = event(wall_time(), step);
        put_bytes(&mut record, 5, &summary);
        self.append(&record)
    }

    fn append(&mut self, data: &[u8]) -> Result<(), TrainError> {
        self.file.write_all(&framed(data)).map_err(TrainError::io("write", &self.path))
    }
}

/// A TFRecord: length, its checksum, data, its checksum.
fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(MASK_DELTA)
}

/// An Event with wall time (field 1, double) and step (field 2).
fn event(wall_time: f64, step: u64) -> Vec<u8> {
    let mut message = vec![1 << 3 | 1];
    message.extend(wall_time.to_le_bytes());
    put_varint_field(&mut message, 2, step);
    message
}

fn put_varint_field(message: &mut Vec<u8>, field: u8, value: u64) {
    message.push(field << 3);
    put_varint(message, value);
}

fn put_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(field << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_framed_with_masked_checksums() {
        // CRC-32C of "123456789" is 0xe3069283 (RFC 3720's check value).
        assert_eq!(masked_crc(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(MASK_DELTA));
        let record = framed(b"abc");
        assert_eq!(record.len(), 8 + 4 + 3 + 4);
        assert_eq!(record[..8], 3u64.to_le_bytes());
    }

    #[test]
    fn numbers_are_varints() {
        let mut message = Vec::new();
        put_varint(&mut message, 300);
        assert_eq!(message, [0xac, 0x02]);
    }

    /// Reads with TensorBoard itself where MONOPASS_PEER_PYTHON names a Python that has it.
    #[test]
    fn tensorboard_reads_what_is_written_and_forgets_what_a_resume_repeats() {
        let Ok(python) = std::env::var("MONOPASS_PEER_PYTHON") else {
            eprintln!("skipped: MONOPASS_PEER_PYTHON is not set");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let value = |value: f64| [("train/loss".to_owned(), value)];
        let mut writer = EventWriter::create(folder.path(), None).unwrap();
        for step in 1..=3 {
            writer.scalars(step, &value(step as f64 * 0.5)).unwrap();
        }
        drop(writer);
        let mut writer = EventWriter::create(folder.path(), Some(2)).unwrap();
        writer.scalars(3, &value(7.5)).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/trainer/read_events.py");
        let output = std::process::Command::new(python).arg(script).arg(folder.path()).output().unwrap();
        let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(read, serde_json::json!({"train/loss": [[1, 0.5], [2, 1.0], [3, 7.5]]}));
    }
}
