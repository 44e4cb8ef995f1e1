//! The container: header, typed metadata, table of tensors. Versions 2 and 3, little-endian.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::GgufError;
use super::metadata::MetadataValue;
use super::tensor_type::TensorType;

/// Strings and arrays inside arrays may not nest deeper.
const MAX_DEPTH: usize = 4;

/// One tensor of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufTensor {
    /// Shape, outermost dimension first (the file has it the other way round).
    pub shape: Vec<i64>,
    /// How values are stored.
    pub tensor_type: TensorType,
    /// First byte, from the start of the data.
    offset: u64,
    /// Bytes.
    num_bytes: u64,
}

/// An open file with a checked header.
#[derive(Debug)]
pub struct GgufFile {
    file: File,
    /// Metadata by key.
    pub metadata: BTreeMap<String, MetadataValue>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, GgufTensor>,
    data_start: u64,
}

impl GgufFile {
    /// Opens a file; checks that every tensor lies inside it.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut header = Header { reader: BufReader::new(file.try_clone()?), at: 0, size };
        let magic = header.bytes::<4>()?;
        if &magic != b"GGUF" {
            return Err(GgufError::Magic(magic));
        }
        let version = u32::from_le_bytes(header.bytes()?);
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let (num_tensors, num_values) = (header.u64()?, header.u64()?);
        let mut metadata = BTreeMap::new();
        for _ in 0..num_values {
            let key = header.string()?;
            let value_type = header.u32()?;
            let value = header.value(value_type, 0)?;
            metadata.insert(key, value);
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..num_tensors {
            let (name, tensor) = header.tensor()?;
            tensors.insert(name, tensor);
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(value) => value.as_u64().filter(|alignment| (1..=1 << 20).contains(alignment)).ok_or_else(|| {
                GgufError::Value { key: "general.alignment".into(), got: value.describe(), wanted: "a small number" }
            })?,
        };
        let data_start = header.at.next_multiple_of(alignment);
        for (name, tensor) in &tensors {
            let end = tensor.offset.checked_add(tensor.num_bytes).and_then(|end| end.checked_add(data_start));
            if end.is_none_or(|end| end > size) {
                return Err(GgufError::Truncated { what: format!("tensor `{name}`"), size });
            }
        }
        Ok(Self { file, metadata, tensors, data_start })
    }

    /// Raw bytes of a tensor.
    pub fn bytes(&self, tensor: &GgufTensor) -> Result<Vec<u8>, GgufError> {
        let mut bytes = vec![0; tensor.num_bytes as usize];
        self.file.read_exact_at(&mut bytes, self.data_start + tensor.offset)?;
        Ok(bytes)
    }
}

/// The header as it is read, never past the end of the file.
struct Header {
    reader: BufReader<File>,
    at: u64,
    size: u64,
}

impl Header {
    /// Claims `count` bytes before anything of that size is allocated.
    fn claim(&mut self, count: u64) -> Result<(), GgufError> {
        if count > self.size - self.at {
            return Err(GgufError::Truncated { what: format!("the header at byte {}", self.at), size: self.size });
        }
        self.at += count;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        self.claim(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn string(&mut self) -> Result<String, GgufError> {
        let length = self.u64()?;
        self.claim(length)?;
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| GgufError::Text { at: self.at - length })
    }

    fn value(&mut self, value_type: u32, depth: usize) -> Result<MetadataValue, GgufError> {
        Ok(match value_type {
            0 => MetadataValue::Unsigned(u64::from(self.bytes::<1>()?[0])),
            1 => MetadataValue::Signed(i64::from(i8::from_le_bytes(self.bytes()?))),
            2 => MetadataValue::Unsigned(u64::from(u16::from_le_bytes(self.bytes()?))),
            3 => MetadataValue::Signed(i64::from(i16::from_le_bytes(self.bytes()?))),
            4 => MetadataValue::Unsigned(u64::from(self.u32()?)),
            5 => MetadataValue::Signed(i64::from(i32::from_le_bytes(self.bytes()?))),
            6 => MetadataValue::Float(f64::from(f32::from_le_bytes(self.bytes()?))),
            7 => MetadataValue::Bool(self.bytes::<1>()?[0] != 0),
            8 => MetadataValue::Text(self.string()?),
            9 if depth < MAX_DEPTH => self.array(depth)?,
            10 => MetadataValue::Unsigned(self.u64()?),
            11 => MetadataValue::Signed(i64::from_le_bytes(self.bytes()?)),
            12 => MetadataValue::Float(f64::from_le_bytes(self.bytes()?)),
            other => return Err(GgufError::ValueType(other)),
        })
    }

    fn array(&mut self, depth: usize) -> Result<MetadataValue, GgufError> {
        let (element_type, length) = (self.u32()?, self.u64()?);
        // every element has at least one byte
        if length > self.size - self.at {
            return Err(GgufError::Truncated { what: format!("an array at byte {}", self.at), size: self.size });
        }
        let mut values = Vec::with_capacity((length as usize).min(1 << 16));
        for _ in 0..length {
            values.push(self.value(element_type, depth + 1)?);
        }
        Ok(MetadataValue::Array(values))
    }

    fn tensor(&mut self) -> Result<(String, GgufTensor), GgufError> {
        let name = self.string()?;
        let num_dims = self.u32()?;
        if num_dims > 4 {
            return Err(GgufError::Dimensions { name, num_dims });
        }
        let mut shape = Vec::new();
        for _ in 0..num_dims {
            shape.push(self.u64()?);
        }
        let type_id = self.u32()?;
        let offset = self.u64()?;
        let Some(tensor_type) = TensorType::from_id(type_id) else {
            return Err(GgufError::TensorType { name, type_name: super::tensor_type::name_of(type_id) });
        };
        let Some(num_bytes) = num_bytes(&shape, tensor_type) else {
            return Err(GgufError::Shape { name, shape });
        };
        let shape = shape.into_iter().rev().map(|size| size as i64).collect();
        Ok((name, GgufTensor { shape, tensor_type, offset, num_bytes }))
    }
}

/// Bytes of a tensor: rows (the first size in the file) are whole blocks. `None` when they are not, or are too large.
fn num_bytes(shape: &[u64], tensor_type: TensorType) -> Option<u64> {
    let (block_values, block_bytes) = (tensor_type.block_values() as u64, tensor_type.block_bytes() as u64);
    let row = shape.first().copied().unwrap_or(1);
    if !row.is_multiple_of(block_values) {
        return None;
    }
    let numel = shape.iter().try_fold(1u64, |numel, size| numel.checked_mul(*size))?;
    (numel / block_values).checked_mul(block_bytes).filter(|bytes| *bytes <= i64::MAX as u64)
}
