//! Safetensors files written and read one tensor at a time: a checkpoint of several gigabytes needs no second copy in
//! memory.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use crate::TrainError;

/// Elements copied from a tensor at a time.
const CHUNK_ELEMENTS: i64 = 1 << 20;
/// A header larger than this is no header: the format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Writes `tensors` as a safetensors file, syncs it and returns its size and BLAKE3.
///
/// # Errors
/// The file cannot be written, or a tensor is of a kind the format has no name for.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<(u64, String), TrainError> {
    let file = File::create(path).map_err(TrainError::io("create", path))?;
    let mut out = Hashing { out: BufWriter::with_capacity(1 << 20, file), hasher: blake3::Hasher::new(), bytes: 0 };
    let header = header(tensors)?;
    out.write(&(header.len() as u64).to_le_bytes(), path)?;
    out.write(&header, path)?;
    let mut buffer = Vec::new();
    for (_, tensor) in tensors {
        let flat = tch::no_grad(|| tensor.detach().contiguous().flatten(0, -1)); // [elements]
        let size = flat.kind().elt_size_in_bytes();
        let elements = flat.numel() as i64;
        let mut start = 0;
        while start < elements {
            let length = CHUNK_ELEMENTS.min(elements - start);
            let bytes = length as usize * size;
            buffer.resize(bytes, 0);
            let chunk = flat.narrow(0, start, length);
            chunk.f_copy_data_u8(&mut buffer, length as usize).map_err(TrainError::torch("copying a weight out"))?;
            out.write(&buffer, path)?;
            start += length;
        }
    }
    out.finish(path)
}

/// Reads every tensor of `wanted` from a safetensors file into its place.
///
/// # Errors
/// The file cannot be read, is no safetensors file, or its tensors are not exactly those wanted.
pub fn read_into(path: &Path, wanted: &[(String, Tensor)]) -> Result<(), TrainError> {
    let damaged = |problem: String| TrainError::DamagedCheckpoint { path: path.to_path_buf(), problem };
    let mut file = File::open(path).map_err(TrainError::io("open", path))?;
    let (header, data_start) = read_header(&mut file, path)?;
    let num_tensors = header.keys().filter(|name| *name != "__metadata__").count();
    if num_tensors != wanted.len() {
        return Err(damaged(format!("it holds {num_tensors} tensors, the model has {}", wanted.len())));
    }
    let mut buffer = Vec::new();
    for (name, tensor) in wanted {
        let entry = header.get(name).ok_or_else(|| damaged(format!("tensor `{name}` is missing")))?;
        let described = describe(tensor)?;
        for (what, value) in [("dtype", json!(described)), ("shape", json!(tensor.size()))] {
            if entry[what] != value {
                return Err(damaged(format!("tensor `{name}` has {what} {}, the model has {value}", entry[what])));
            }
        }
        let bytes = tensor.numel() * tensor.kind().elt_size_in_bytes();
        let start = entry["data_offsets"][0].as_u64().unwrap_or(u64::MAX);
        if entry["data_offsets"][1].as_u64() != start.checked_add(bytes as u64) {
            return Err(damaged(format!(
                "tensor `{name}` has offsets {}, wanted {bytes} bytes",
                entry["data_offsets"]
            )));
        }
        buffer.resize(bytes, 0);
        file.seek(SeekFrom::Start(data_start + start)).map_err(TrainError::io("read", path))?;
        file.read_exact(&mut buffer).map_err(TrainError::io("read", path))?;
        let value = Tensor::f_from_data_size(&buffer, &tensor.size(), tensor.kind())
            .map_err(TrainError::torch("reading a weight"))?;
        tch::no_grad(|| tensor.detach().f_copy_(&value)).map_err(TrainError::torch("reading a weight"))?;
    }
    Ok(())
}

/// Reads flat tensors from files that hold them, or pieces of them, in whatever cuts: a name is `NAME` or `NAME@FIRST`, where FIRST is the
/// number of its first element in the whole tensor.
///
/// # Errors
/// A file cannot be read, a tensor is of another kind, or some elements are in none of the files.
pub fn read_overlaps(files: &[PathBuf], wanted: &[(String, Tensor)]) -> Result<(), TrainError> {
    let mut filled = vec![0; wanted.len()];
    let mut buffer = Vec::new();
    for path in files {
        let damaged = |problem: String| TrainError::DamagedCheckpoint { path: path.clone(), problem };
        let mut file = File::open(path).map_err(TrainError::io("open", path))?;
        let (header, data_start) = read_header(&mut file, path)?;
        for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
            let (base, from) = name_and_first(name);
            let offset = entry["data_offsets"][0].as_u64().unwrap_or(u64::MAX);
            let elements: i64 = entry["shape"].as_array().into_iter().flatten().filter_map(Value::as_i64).product();
            for ((wanted, tensor), filled) in wanted.iter().zip(&mut filled) {
                let (wanted, own) = name_and_first(wanted);
                if wanted != base {
                    continue;
                }
                let (low, high) = (from.max(own), (from + elements).min(own + tensor.numel() as i64));
                if low >= high {
                    continue;
                }
                if entry["dtype"] != json!(describe(tensor)?) {
                    let kind = describe(tensor)?;
                    return Err(damaged(format!(
                        "tensor `{name}` has dtype {}, the model has \"{kind}\"",
                        entry["dtype"]
                    )));
                }
                let size = tensor.kind().elt_size_in_bytes();
                buffer.resize((high - low) as usize * size, 0);
                let start = offset.saturating_add((low - from) as u64 * size as u64).saturating_add(data_start);
                file.seek(SeekFrom::Start(start)).map_err(TrainError::io("read", path))?;
                file.read_exact(&mut buffer).map_err(TrainError::io("read", path))?;
                let value = Tensor::f_from_data_size(&buffer, &[high - low], tensor.kind())
                    .map_err(TrainError::torch("reading a weight"))?;
                let place = tensor.detach().view(-1).narrow(0, low - own, high - low);
                tch::no_grad(|| place.shallow_clone().f_copy_(&value))
                    .map_err(TrainError::torch("reading a weight"))?;
                *filled += high - low;
            }
        }
    }
    let missing = wanted.iter().zip(&filled).find(|((_, tensor), filled)| **filled != tensor.numel() as i64);
    match (missing, files.first()) {
        (None, _) => Ok(()),
        (Some(((name, tensor), filled)), file) => Err(TrainError::DamagedCheckpoint {
            path: file.and_then(|file| file.parent()).unwrap_or(Path::new("")).to_path_buf(),
            problem: format!("its optimiser files hold {filled} of the {} elements of `{name}`", tensor.numel()),
        }),
    }
}

/// `NAME@FIRST` in its parts; FIRST is 0 without `@`.
fn name_and_first(name: &str) -> (&str, i64) {
    name.rsplit_once('@').and_then(|(base, first)| Some((base, first.parse().ok()?))).unwrap_or((name, 0))
}

fn read_header(file: &mut File, path: &Path) -> Result<(Map<String, Value>, u64), TrainError> {
    let damaged = |problem: String| TrainError::DamagedCheckpoint { path: path.to_path_buf(), problem };
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(TrainError::io("read", path))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(damaged(format!("its header claims {length} bytes")));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(TrainError::io("read", path))?;
    let header = serde_json::from_slice(&header).map_err(|error| damaged(format!("its header is no JSON: {error}")))?;
    Ok((header, 8 + length))
}

/// The format's JSON header, padded with spaces so that the data starts at a multiple of 8.
fn header(tensors: &[(String, Tensor)]) -> Result<Vec<u8>, TrainError> {
    let mut entries = Map::new();
    let mut start = 0;
    for (name, tensor) in tensors {
        let end = start + tensor.numel() * tensor.kind().elt_size_in_bytes();
        let entry = json!({"dtype": describe(tensor)?, "shape": tensor.size(), "data_offsets": [start, end]});
        entries.insert(name.clone(), entry);
        start = end;
    }
    let mut header = Value::Object(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// The format's name of a tensor's kind.
fn describe(tensor: &Tensor) -> Result<&'static str, TrainError> {
    match tensor.kind() {
        Kind::Float => Ok("F32"),
        Kind::Double => Ok("F64"),
        Kind::BFloat16 => Ok("BF16"),
        Kind::Half => Ok("F16"),
        Kind::Int64 => Ok("I64"),
        other => Err(TrainError::Torch {
            doing: "saving a tensor".to_owned(),
            source: tch::TchError::Kind(format!("{other:?} has no name in safetensors")),
        }),
    }
}

/// Counts and hashes what passes through.
struct Hashing {
    out: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Hashing {
    fn write(&mut self, bytes: &[u8], path: &Path) -> Result<(), TrainError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(TrainError::io("write", path))
    }

    fn finish(self, path: &Path) -> Result<(u64, String), TrainError> {
        let file = self.out.into_inner().map_err(|error| TrainError::io("write", path)(error.into_error()))?;
        file.sync_all().map_err(TrainError::io("sync", path))?;
        Ok((self.bytes, self.hasher.finalize().to_hex().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn what_is_written_reads_back_and_is_safetensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let float = Tensor::arange(15, (Kind::Float, Device::Cpu)).view([3, 5]);
        let half = Tensor::arange(7, (Kind::BFloat16, Device::Cpu));
        let tensors = vec![("a.weight".to_owned(), float), ("b".to_owned(), half)];
        let (bytes, hash) = write_tensors(&path, &tensors).unwrap();
        let content = std::fs::read(&path).unwrap();
        assert_eq!((content.len() as u64, blake3::hash(&content).to_hex().to_string()), (bytes, hash));

        let view = safetensors::SafeTensors::deserialize(&content).unwrap();
        assert_eq!(view.tensor("a.weight").unwrap().shape(), [3, 5]);
        let back: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.zeros_like())).collect();
        read_into(&path, &back).unwrap();
        for ((_, got), (_, wanted)) in back.iter().zip(&tensors) {
            assert!(got.equal(wanted));
        }
    }

    #[test]
    fn other_tensors_than_wanted_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let named = |size: i64| vec![("a".to_owned(), Tensor::zeros(size, (Kind::Float, Device::Cpu)))];
        write_tensors(&path, &named(4)).unwrap();
        let error = read_into(&path, &named(5)).unwrap_err().to_string();
        assert!(error.contains("tensor `a` has shape [4], the model has [5]"), "{error}");
        std::fs::write(&path, [255; 16]).unwrap();
        assert!(read_into(&path, &named(4)).unwrap_err().to_string().contains("header claims"));
    }

    #[test]
    fn a_full_device_is_an_error() {
        let tensors = vec![("a".to_owned(), Tensor::zeros(1 << 20, (Kind::Float, Device::Cpu)))];
        let error = write_tensors(Path::new("/dev/full"), &tensors).unwrap_err();
        let TrainError::Io { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    }
}
