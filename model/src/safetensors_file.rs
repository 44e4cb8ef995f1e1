//! Safetensors files: eight bytes of header length, a JSON header, raw little-endian values.
//!
//! Read by position, one tensor at a time: a file cut short while it is read is an error, where a memory map would
//! end the process with a bus error.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::ModelError;
use crate::atomic_write::PendingFile;

/// Larger headers are refused, as the reference implementation does.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Kind of the values.
    pub kind: Kind,
    /// Shape.
    pub shape: Vec<i64>,
    /// Byte range behind the header.
    offsets: (u64, u64),
}

/// An open file with a checked header.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

#[derive(Deserialize)]
struct RawInfo {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl SafetensorsFile {
    /// Opens a file and checks its header: sizes, offsets inside the file, no gaps, no overlaps.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let io = |source| ModelError::Io { path: path.into(), source };
        let damaged = |problem: String| ModelError::Safetensors { path: path.into(), problem };
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        if size < 8 {
            return Err(damaged(format!("{size} bytes, wanted at least 8")));
        }
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES || length > size - 8 {
            return Err(damaged(format!("header of {length} bytes in a file of {size}")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact_at(&mut header, 8).map_err(io)?;
        let raw: HashMap<String, serde_json::Value> =
            serde_json::from_slice(&header).map_err(|error| damaged(format!("header: {error}")))?;
        let mut tensors = BTreeMap::new();
        for (name, value) in raw {
            if name != "__metadata__" {
                let info = check(value).map_err(|problem| damaged(format!("tensor `{name}`: {problem}")))?;
                tensors.insert(name, info);
            }
        }
        let data_start = 8 + length;
        check_layout(&tensors, size - data_start).map_err(damaged)?;
        Ok(Self { path: path.into(), file, data_start, tensors })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// Values of one tensor, on the CPU, in the file's kind.
    pub fn tensor(&self, name: &str) -> Result<Tensor, ModelError> {
        let info = self.tensors.get(name).ok_or_else(|| ModelError::MissingTensor {
            name: name.into(),
            others: 0,
            place: self.path.clone(),
        })?;
        let (start, end) = info.offsets;
        let mut bytes = vec![0; (end - start) as usize];
        let read = self.file.read_exact_at(&mut bytes, self.data_start + start);
        read.map_err(|source| ModelError::Io { path: self.path.clone(), source })?;
        Ok(Tensor::f_from_data_size(&bytes, &info.shape, info.kind)?)
    }
}

/// Number of bytes by shape and kind, none when it overflows.
fn num_bytes(shape: &[i64], kind: Kind) -> Option<u64> {
    let numel = shape.iter().try_fold(1u64, |numel, size| numel.checked_mul(u64::try_from(*size).ok()?))?;
    numel.checked_mul(kind.elt_size_in_bytes() as u64)
}

fn check(value: serde_json::Value) -> Result<TensorInfo, String> {
    let raw: RawInfo = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let kind = kind_of(&raw.dtype).ok_or_else(|| format!("dtype `{}` is not supported", raw.dtype))?;
    let shape: Option<Vec<i64>> = raw.shape.iter().map(|size| i64::try_from(*size).ok()).collect();
    let shape = shape.ok_or_else(|| format!("shape {:?}", raw.shape))?;
    let (start, end) = raw.data_offsets;
    if end < start || num_bytes(&shape, kind) != Some(end - start) {
        return Err(format!("bytes {start}..{end} for shape {shape:?} of {}", raw.dtype));
    }
    Ok(TensorInfo { kind, shape, offsets: raw.data_offsets })
}

/// The tensors fill the data exactly, in some order.
fn check_layout(tensors: &BTreeMap<String, TensorInfo>, available: u64) -> Result<(), String> {
    let mut ranges: Vec<_> = tensors.iter().map(|(name, info)| (info.offsets, name)).collect();
    ranges.sort();
    let mut at = 0;
    for ((start, end), name) in ranges {
        if start != at {
            return Err(format!("tensor `{name}` starts at byte {start}, wanted {at}"));
        }
        at = end;
    }
    if at == available { Ok(()) } else { Err(format!("{available} bytes of values, wanted {at}")) }
}

fn kind_of(dtype: &str) -> Option<Kind> {
    Some(match dtype {
        "F64" => Kind::Double,
        "F32" => Kind::Float,
        "F16" => Kind::Half,
        "BF16" => Kind::BFloat16,
        "I64" => Kind::Int64,
        "I32" => Kind::Int,
        "U8" => Kind::Uint8,
        "BOOL" => Kind::Bool,
        _ => return None,
    })
}

fn dtype_of(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Double => "F64",
        Kind::Float => "F32",
        Kind::Half => "F16",
        Kind::BFloat16 => "BF16",
        Kind::Int64 => "I64",
        Kind::Int => "I32",
        Kind::Uint8 => "U8",
        Kind::Bool => "BOOL",
        _ => return None,
    })
}

/// A tensor about to be written.
#[derive(Debug, Clone)]
pub struct TensorHeader {
    /// Name.
    pub name: String,
    /// Shape.
    pub shape: Vec<i64>,
    /// Kind in the file.
    pub kind: Kind,
}

impl TensorHeader {
    /// Bytes of its values.
    pub fn num_bytes(&self) -> u64 {
        num_bytes(&self.shape, self.kind).unwrap_or(u64::MAX)
    }
}

/// Writes a file beside `path`, values fetched one by one from `value(index)`. The caller finishes it.
pub fn write_pending(
    path: &Path,
    headers: &[TensorHeader],
    mut value: impl FnMut(usize) -> Result<Tensor, ModelError>,
) -> Result<PendingFile, ModelError> {
    let mut json = serde_json::Map::new();
    json.insert("__metadata__".into(), serde_json::json!({"format": "pt"}));
    let mut at = 0;
    for header in headers {
        let end = at + header.num_bytes();
        let dtype = dtype_of(header.kind).ok_or_else(|| ModelError::Safetensors {
            path: path.into(),
            problem: format!("tensor `{}` has kind {:?}", header.name, header.kind),
        })?;
        let info = serde_json::json!({"dtype": dtype, "shape": header.shape, "data_offsets": [at, end]});
        json.insert(header.name.clone(), info);
        at = end;
    }
    let mut json = serde_json::Value::Object(json).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');

    let mut file = PendingFile::create(path)?;
    file.write(&(json.len() as u64).to_le_bytes())?;
    file.write(&json)?;
    let mut bytes = Vec::new();
    for (index, header) in headers.iter().enumerate() {
        let tensor = value(index)?.to_kind(header.kind);
        bytes.resize(header.num_bytes() as usize, 0);
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        file.write(&bytes)?;
    }
    file.flush()?;
    Ok(file)
}

/// Writes named tensors, whole or not at all, each in its own kind.
pub fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), ModelError> {
    let header = |(name, tensor): &(String, Tensor)| TensorHeader {
        name: name.clone(),
        shape: tensor.size(),
        kind: tensor.kind(),
    };
    let headers: Vec<_> = tensors.iter().map(header).collect();
    write_pending(path, &headers, |index| Ok(tensors[index].1.shallow_clone()))?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<(String, Tensor)> {
        let values = Tensor::arange(6, (Kind::Float, tch::Device::Cpu));
        vec![("a".into(), values.view([2, 3])), ("b".into(), values.to_kind(Kind::BFloat16).narrow(0, 1, 4))]
    }

    #[test]
    fn round_trip_and_the_reference_reader_agrees() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        write(&path, &sample()).unwrap();
        let file = SafetensorsFile::open(&path).unwrap();
        for (name, tensor) in sample() {
            let read = file.tensor(&name).unwrap();
            assert_eq!((read.size(), read.kind()), (tensor.size(), tensor.kind()));
            assert_eq!(read.to_kind(Kind::Float), tensor.to_kind(Kind::Float));
        }
        let bytes = std::fs::read(&path).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(reference.tensor("a").unwrap().shape(), [2, 3]);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        write(&path, &sample()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = SafetensorsFile::open(&path).unwrap_err();
            assert!(matches!(&error, ModelError::Safetensors { .. }), "{length}: {error}");
        }
    }

    proptest! {
        /// Flipped header bits are an error or another valid header, never a panic.
        #[test]
        fn flipped_bits_never_panic(position in 0usize..200, bit in 0u8..8) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.safetensors");
            write(&path, &sample()).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let position = position % bytes.len();
            bytes[position] ^= 1 << bit;
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(file) = SafetensorsFile::open(&path) {
                for name in file.tensors().keys() {
                    let _ = file.tensor(name).unwrap();
                }
            }
        }
    }
}
