//! The run's numbers: `metrics.jsonl` (the source of truth, one object a line) and TensorBoard events beside it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::TrainError;
use crate::tensorboard::EventWriter;

const FILE: &str = "metrics.jsonl";

/// Writes what the main rank measures.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    path: PathBuf,
    events: EventWriter,
}

impl MetricsLog {
    /// Opens the log of `folder`. On resume, lines of steps after `resumed_at` are cut off: those steps are done again.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub fn open(folder: &Path, resumed_at: Option<u64>) -> Result<Self, TrainError> {
        fs::create_dir_all(folder).map_err(TrainError::io("create", folder))?;
        let path = folder.join(FILE);
        let kept = match resumed_at {
            Some(step) => lines_up_to(&path, step)?,
            None => String::new(),
        };
        let temporary = folder.join(format!(".{FILE}.unfinished"));
        fs::write(&temporary, kept).map_err(TrainError::io("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(TrainError::io("rename", &temporary))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(TrainError::io("open", &path))?;
        Ok(Self { file, path, events: EventWriter::create(folder, resumed_at)? })
    }

    /// Writes the values of one step. `kind` is `train` or `eval`; `step` counts the steps done. Values that are not finite
    /// become null in the JSON.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn write(&mut self, kind: &str, step: u64, values: &[(String, f64)]) -> Result<(), TrainError> {
        let mut line = Map::new();
        line.insert("kind".to_owned(), json!(kind));
        line.insert("step".to_owned(), json!(step));
        line.extend(values.iter().map(|(name, value)| (name.clone(), json!(value))));
        let line = Value::Object(line).to_string() + "\n";
        self.file.write_all(line.as_bytes()).map_err(TrainError::io("write", &self.path))?;
        let tagged: Vec<_> = values.iter().map(|(name, value)| (format!("{kind}/{name}"), *value)).collect();
        self.events.scalars(step, &tagged)
    }
}

/// Lines whose step is at most `step`; a last line that was cut short is dropped.
fn lines_up_to(path: &Path, step: u64) -> Result<String, TrainError> {
    if !path.exists() {
        return Ok(String::new());
    }
    let text = fs::read_to_string(path).map_err(TrainError::io("read", path))?;
    let keeps = |line: &&str| {
        serde_json::from_str::<Value>(line).is_ok_and(|value| value["step"].as_u64().is_some_and(|at| at <= step))
    };
    Ok(text.lines().filter(keeps).flat_map(|line| [line, "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_log_continues_after_its_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let values = |value: f64| vec![("loss".to_owned(), value)];
        let mut log = MetricsLog::open(folder.path(), None).unwrap();
        for step in 1..=5 {
            log.write("train", step, &values(step as f64)).unwrap();
        }
        log.file.write_all(b"{\"step\": 6, \"lo").unwrap();
        drop(log);
        let mut log = MetricsLog::open(folder.path(), Some(3)).unwrap();
        log.write("train", 4, &values(f64::NAN)).unwrap();
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!((&lines[2]["loss"], &lines[3]["loss"]), (&json!(3.0), &Value::Null));
    }
}
