//! Our own samples, one JSON object per line.

use std::io::Write;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Sink;
use crate::{DataError, RankingSample, files};

/// Samples in the schema of the prepared sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    /// One object per line with `query_id`, `query`, `passages: [{doc_id, title?, text, first_stage_score?, label?}]` and
    /// optionally `target` (0-based candidate indices, best first). A JSON array, parquet or Arrow file works too.
    pub path: PathBuf,
}

impl JsonlConfig {
    pub(super) fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        sink.for_each_row(&self.path, |sink, line, row| match serde_json::from_value::<RankingSample>(row) {
            Ok(mut sample) => {
                if sample.origin.is_empty() {
                    "jsonl".clone_into(&mut sample.origin);
                }
                sink.offer(sample, &self.path, line)
            }
            Err(error) => sink.malformed(&self.path, line, error.to_string()),
        })
    }
}

/// Writes samples so that the `jsonl` source reads them back, whole or not at all.
pub fn write_jsonl<'a>(path: &Path, samples: impl IntoIterator<Item = &'a RankingSample>) -> Result<(), DataError> {
    files::write_with(path, |file| {
        let mut out = std::io::BufWriter::new(file);
        for sample in samples {
            let line = serde_json::to_string(sample).map_err(|error| DataError::write(path)(error.into()))?;
            writeln!(out, "{line}").map_err(DataError::write(path))?;
        }
        out.flush().map_err(DataError::write(path))
    })
}
