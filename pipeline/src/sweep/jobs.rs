//! The runs of a sweep: names, folders, command lines.

use std::path::PathBuf;

use super::config::{SweepConfig, Values, as_override, one_line};
use crate::run_folder::RunFolder;

/// Characters of a run's name at most.
const NAME_LENGTH: usize = 80;

/// One run.
#[derive(Debug, Clone)]
pub struct Job {
    /// Number and values: `02-learning_rate-0.0003`.
    pub name: String,
    /// The values that differ.
    pub values: Values,
    /// Arguments of `monopass`.
    pub arguments: Vec<String>,
    /// Where it keeps everything.
    pub folder: RunFolder,
    /// What it says.
    pub log: PathBuf,
}

impl SweepConfig {
    /// Folder of the sweep.
    pub fn folder(&self) -> PathBuf {
        self.output_dir.join(&self.name)
    }

    /// All runs, in order.
    pub fn runs(&self) -> Vec<Job> {
        let values = self.values();
        let digits = values.len().to_string().len().max(2);
        values.into_iter().enumerate().map(|(index, values)| self.job(index + 1, digits, values)).collect()
    }

    fn job(&self, number: usize, digits: usize, values: Values) -> Job {
        let mut name = format!("{number:0digits$}");
        for (key, value) in &values {
            let key = key.rsplit('.').next().unwrap_or(key);
            name += &plain(&format!("-{key}-{}", one_line(value)));
        }
        name.truncate(NAME_LENGTH);
        let folder = self.folder();
        let mut arguments = vec!["run".to_owned(), self.experiment.display().to_string()];
        let own = [("name", name.clone()), ("output_dir", folder.display().to_string())];
        let given = self.fixed().into_iter().chain(values.clone()).map(|(key, value)| (key, as_override(&value)));
        for (key, value) in given.chain(own.map(|(key, value)| (key.to_owned(), value))) {
            arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        let log = folder.join("logs").join(format!("{name}.log"));
        Job { folder: RunFolder::new(&folder, &name), name, values, arguments, log }
    }
}

/// Letters, digits, `-`, `_` and `.` as they are, anything else as `_`.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::decode;

    #[test]
    fn runs_have_folders_and_arguments_of_their_own() {
        let text = "{name: s, experiment: e.yaml, set: {train.max_steps: 2}, over: {grid: {a.rate: [1e-4, 0.5], m: [{x: 1}]}}}";
        let sweep: SweepConfig = decode(serde_yaml::from_str(text).unwrap()).unwrap();
        let runs = sweep.runs();
        assert_eq!(runs[1].name, "02-rate-0.5-m-__x__1_");
        assert_eq!(runs[1].folder.root(), std::path::Path::new("runs/s/02-rate-0.5-m-__x__1_"));
        let wanted = [
            "run",
            "e.yaml",
            "--set",
            "train.max_steps=2",
            "--set",
            "a.rate=0.5",
            "--set",
            "m={\"x\":1}",
            "--set",
            "name=02-rate-0.5-m-__x__1_",
            "--set",
            "output_dir=runs/s",
        ];
        assert_eq!(runs[1].arguments, wanted);
    }
}
