//! Writing a set: row group by row group, whole or not at all.

use std::path::Path;

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{ParquetCompression, ParquetWriter};

use super::card::{Card, CardFile, hash_file, hash_inputs, hash_of_inputs, without_paths};
use super::record::{Record, Tally};
use super::{CARD_FILE, CARD_MARKDOWN, FORMAT_VERSION, ROWS_PER_GROUP, SAMPLES_FILE};
use crate::branched::{BranchedSetConfig, BranchedText, for_each_text};
use crate::report::SetReport;
use crate::sources::{RankingSetConfig, for_each_sample};
use crate::{DataError, RankingSample, files};

/// Prepares a set: reads its source and writes samples and card into `folder`, which then holds them completely or is
/// what it was before. Memory is bounded by a row group (and by what the source itself has to hold).
pub fn prepare(name: &str, config: &RankingSetConfig, folder: &Path) -> Result<Card, DataError> {
    let inputs = hash_inputs(&config.files())?;
    let origin = Origin::new(name, config, hash_of_inputs(&without_paths(config), config.version(), &inputs), inputs);
    whole_folder(folder, |partial| {
        let mut writer = SetWriter::<RankingSample>::create(&partial.join(SAMPLES_FILE))?;
        let report = for_each_sample(config, &mut |sample| writer.push(sample))?;
        writer.finish(partial, origin, report)
    })
}

/// As [`prepare`], of branched texts.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_branched(name: &str, config: &BranchedSetConfig, folder: &Path) -> Result<Card, DataError> {
    let inputs = hash_inputs(&config.files())?;
    let mut settings = config.clone();
    settings.paths_mut().into_iter().for_each(|path| *path = std::path::PathBuf::new());
    let origin = Origin::new(name, config, hash_of_inputs(&settings, config.version(), &inputs), inputs);
    whole_folder(folder, |partial| {
        let mut writer = SetWriter::<BranchedText>::create(&partial.join(SAMPLES_FILE))?;
        let report = for_each_text(config, &mut |text| writer.push(text))?;
        writer.finish(partial, origin, report)
    })
}

/// Writes samples that are at hand as a set.
///
/// # Errors
/// No samples, or one that is not valid.
pub fn write_set<'a>(
    name: &str,
    samples: impl IntoIterator<Item = &'a RankingSample>,
    folder: &Path,
) -> Result<Card, DataError> {
    whole_folder(folder, |partial| {
        let mut writer = SetWriter::<RankingSample>::create(&partial.join(SAMPLES_FILE))?;
        let mut report = SetReport::new("samples", false);
        for sample in samples {
            sample.validate()?;
            report.keep_sample();
            writer.push(sample.clone())?;
        }
        report.require_kept()?;
        let origin = Origin { name, config: None, inputs: Vec::new(), content_hash: String::new() };
        writer.finish(partial, origin, report)
    })
}

/// What the card tells beside the counts.
struct Origin<'a> {
    name: &'a str,
    config: Option<serde_json::Value>,
    inputs: Vec<CardFile>,
    content_hash: String,
}

impl<'a> Origin<'a> {
    fn new(name: &'a str, config: &impl serde::Serialize, content_hash: String, inputs: Vec<CardFile>) -> Self {
        Self { name, config: serde_json::to_value(config).ok(), inputs, content_hash }
    }
}

struct SetWriter<R> {
    path: std::path::PathBuf,
    writer: Option<BatchedWriter<std::fs::File>>,
    pending: Vec<R>,
    tally: Tally,
}

impl<R: Record> SetWriter<R> {
    fn create(path: &Path) -> Result<Self, DataError> {
        Ok(Self {
            path: path.to_owned(),
            writer: None,
            pending: Vec::with_capacity(ROWS_PER_GROUP),
            tally: Tally::default(),
        })
    }

    fn push(&mut self, sample: R) -> Result<(), DataError> {
        self.tally.add(&sample);
        self.pending.push(sample);
        if self.pending.len() == ROWS_PER_GROUP { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), DataError> {
        let table = DataError::table(&self.path);
        let frame = R::frame_of(&self.pending).map_err(&table)?;
        self.pending.clear();
        let writer = match &mut self.writer {
            Some(writer) => writer,
            empty => {
                let file = std::fs::File::create(&self.path).map_err(DataError::write(&self.path))?;
                let writer = ParquetWriter::new(file)
                    .with_compression(ParquetCompression::Zstd(None))
                    .set_parallel(false)
                    .batched(frame.schema())
                    .map_err(&table)?;
                empty.insert(writer)
            }
        };
        writer.write_batch(&frame).map_err(&table)
    }

    fn finish(mut self, partial: &Path, origin: Origin<'_>, report: SetReport) -> Result<Card, DataError> {
        if !self.pending.is_empty() || self.writer.is_none() {
            self.flush()?;
        }
        if let Some(writer) = self.writer.take() {
            writer.finish().map_err(DataError::table(&self.path))?;
        }
        sync(&self.path)?;
        let mut samples = hash_file(&self.path)?;
        samples.path = SAMPLES_FILE.into();
        let content_hash = if origin.content_hash.is_empty() { samples.blake3.clone() } else { origin.content_hash };
        let card = Card {
            format_version: FORMAT_VERSION,
            name: origin.name.to_owned(),
            made_by: format!("monopass {}", env!("CARGO_PKG_VERSION")),
            config: origin.config,
            report,
            inputs: origin.inputs,
            content_hash,
            samples,
            counts: R::counts(&self.tally),
        };
        let path = partial.join(CARD_FILE);
        let mut json = serde_json::to_vec_pretty(&card).map_err(|error| DataError::write(&path)(error.into()))?;
        json.push(b'\n');
        files::write_whole(&path, &json)?;
        files::write_whole(&partial.join(CARD_MARKDOWN), card.markdown().as_bytes())?;
        Ok(card)
    }
}

fn sync(path: &Path) -> Result<(), DataError> {
    let file = std::fs::File::open(path).map_err(DataError::write(path))?;
    file.sync_all().map_err(DataError::write(path))
}

/// Fills a folder beside `folder` and puts it in its place when that worked.
fn whole_folder<T>(folder: &Path, fill: impl FnOnce(&Path) -> Result<T, DataError>) -> Result<T, DataError> {
    let parent = files::parent(folder);
    std::fs::create_dir_all(&parent).map_err(DataError::write(&parent))?;
    let partial =
        tempfile::Builder::new().prefix(".preparing-").tempdir_in(&parent).map_err(DataError::write(folder))?;
    let made = fill(partial.path())?;
    open_to_group(partial.path());
    replace(partial.keep(), folder, &parent)?;
    files::sync_folder(&parent);
    Ok(made)
}

/// Renames `new` to `folder`; the folder that stood there goes once that worked, and comes back if it did not.
fn replace(new: std::path::PathBuf, folder: &Path, parent: &Path) -> Result<(), DataError> {
    if !folder.exists() {
        return std::fs::rename(new, folder).map_err(DataError::write(folder));
    }
    let aside = tempfile::Builder::new().prefix(".old-").tempdir_in(parent).map_err(DataError::write(folder))?;
    let old = aside.path().join("set");
    std::fs::rename(folder, &old).map_err(DataError::write(folder))?;
    std::fs::rename(&new, folder).map_err(|error| {
        // Best effort: the error below is what the caller needs to know.
        let _ = std::fs::rename(&old, folder);
        let _ = std::fs::remove_dir_all(&new);
        DataError::write(folder)(error)
    })
}

/// Temporary folders are made for their owner only; sets are for the group as well.
fn open_to_group(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755));
}
