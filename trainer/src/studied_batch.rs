//! A batch whose loss or gradient was not finite, kept for study.

use std::fs;
use std::path::{Path, PathBuf};

use data::batch::MicroBatch;
use serde_json::json;

use crate::TrainError;
use crate::checkpoint::write_tensors;
use crate::train_step::StepMetrics;

/// Writes this rank's share of a step into `folder`: token ids, labels and boundaries as safetensors, query ids and numbers as
/// JSON. Returns the JSON's path. Writing a step again replaces it.
///
/// # Errors
/// The files cannot be written.
pub fn save(
    folder: &Path,
    step: u64,
    rank: usize,
    micro_batches: &[MicroBatch],
    metrics: &StepMetrics,
) -> Result<PathBuf, TrainError> {
    fs::create_dir_all(folder).map_err(TrainError::io("create", folder))?;
    let mut tensors = Vec::new();
    for (index, batch) in micro_batches.iter().enumerate() {
        let mut add = |name: &str, tensor: tch::Tensor| tensors.push((format!("{index}.{name}"), tensor));
        add("input_ids", batch.input_ids.shallow_clone());
        add("label_rows", batch.label_rows.shallow_clone());
        add("labels", batch.labels.shallow_clone());
        add("cu_seqlens", tch::Tensor::from_slice(&batch.cu_seqlens));
    }
    let name = format!("step-{step:08}-rank-{rank}");
    write_tensors(&folder.join(format!("{name}.safetensors")), &tensors)?;
    let text = json!({
        "step": step,
        "rank": rank,
        "loss": metrics.loss.to_string(),
        "parts": metrics.parts.iter().map(|(part, value)| (*part, value.to_string())).collect::<Vec<_>>(),
        "grad_norm": metrics.grad_norm.to_string(),
        "query_ids": micro_batches.iter().map(|batch| &batch.query_ids).collect::<Vec<_>>(),
    });
    let path = folder.join(format!("{name}.json"));
    fs::write(&path, format!("{text:#}\n")).map_err(TrainError::io("write", &path))?;
    Ok(path)
}
