//! Reading a set: by index, with a bounded number of row groups in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use polars::prelude::{ParallelStrategy, ParquetReader, SerReader};

use super::card::{Card, hash_file};
use super::record::Record;
use super::{ROWS_PER_GROUP, SAMPLES_FILE};
use crate::batch::SampleSource;
use crate::{DataError, RankingSample};

/// Bytes of text kept decoded. Sets smaller than this are decoded once.
const CACHE_BYTES: usize = 512 << 20;

/// A prepared set on disk.
#[derive(Debug)]
pub struct PreparedSet<R = RankingSample> {
    folder: PathBuf,
    card: Card,
    rows: usize,
    cache: Mutex<Cache<R>>,
}

/// Row groups decoded lately, oldest first.
#[derive(Debug)]
struct Cache<R> {
    groups: VecDeque<(usize, Arc<Vec<R>>, usize)>,
    bytes: usize,
}

/// The card of a set whose samples are those it describes.
///
/// # Errors
/// A missing or malformed card, another layout version, or samples with another hash than the card's.
pub fn verified_card(folder: &Path) -> Result<Card, DataError> {
    let card = Card::read(folder)?;
    let found = hash_file(&folder.join(SAMPLES_FILE))?;
    if found.blake3 == card.samples.blake3 {
        return Ok(card);
    }
    let (got, wanted) = (found.bytes, card.samples.bytes);
    let message =
        format!("`{SAMPLES_FILE}` ({got} bytes) is not what its card describes ({wanted} bytes, another hash)");
    Err(DataError::Prepared { path: folder.to_owned(), message })
}

impl<R: Record> PreparedSet<R> {
    /// Opens a set and checks its samples against the card.
    ///
    /// # Errors
    /// As [`verified_card`].
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let card = verified_card(folder)?;
        let damaged = |message: String| DataError::Prepared { path: folder.to_owned(), message };
        let rows = usize::try_from(card.report.kept).map_err(|error| damaged(error.to_string()))?;
        Ok(Self {
            folder: folder.to_owned(),
            card,
            rows,
            cache: Mutex::new(Cache { groups: VecDeque::new(), bytes: 0 }),
        })
    }

    /// Where the samples come from and what was left out.
    #[must_use]
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True when there are none (a set is never written empty).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// All samples, in memory.
    pub fn samples(&self) -> Result<Vec<R>, DataError> {
        self.iter().collect()
    }

    /// Samples in order, one row group in memory at a time.
    pub fn iter(&self) -> impl Iterator<Item = Result<R, DataError>> + '_ {
        (0..self.rows.div_ceil(ROWS_PER_GROUP)).flat_map(|group| match self.read_group(group) {
            Ok(samples) => samples.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    }

    /// The sample at `index`.
    ///
    /// # Errors
    /// A file that changed under the program.
    ///
    /// # Panics
    /// When `index` is not below [`Self::len`].
    pub fn get(&self, index: usize) -> Result<R, DataError> {
        assert!(index < self.rows, "sample {index} of {}", self.rows);
        let (group, place) = (index / ROWS_PER_GROUP, index % ROWS_PER_GROUP);
        if let Some(samples) = self.lock().find(group) {
            return Ok(samples[place].clone());
        }
        // Decoded outside the lock: another thread may do the same meanwhile, which costs time but nothing else.
        let samples = Arc::new(self.read_group(group)?);
        let sample = samples[place].clone();
        self.lock().keep(group, samples);
        Ok(sample)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache<R>> {
        // A panic elsewhere cannot leave the cache half changed in a way that matters.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_group(&self, group: usize) -> Result<Vec<R>, DataError> {
        let path = self.folder.join(SAMPLES_FILE);
        let start = group * ROWS_PER_GROUP;
        let length = ROWS_PER_GROUP.min(self.rows - start);
        let file = File::open(&path).map_err(DataError::io(&path))?;
        let frame = ParquetReader::new(file)
            .read_parallel(ParallelStrategy::None)
            .with_slice(Some((start, length)))
            .finish()
            .map_err(DataError::table(&path))?;
        let samples = R::samples_of(&frame).map_err(DataError::table(&path))?;
        if samples.len() == length {
            return Ok(samples);
        }
        let message = format!("{} rows from row {start}, wanted {length}", samples.len());
        Err(DataError::Prepared { path: self.folder.clone(), message })
    }
}

impl<R: Record> Cache<R> {
    fn find(&mut self, group: usize) -> Option<Arc<Vec<R>>> {
        let place = self.groups.iter().position(|(held, ..)| *held == group)?;
        let entry = self.groups.remove(place)?;
        let samples = Arc::clone(&entry.1);
        self.groups.push_back(entry);
        Some(samples)
    }

    fn keep(&mut self, group: usize, samples: Arc<Vec<R>>) {
        if self.find(group).is_some() {
            return;
        }
        let bytes = samples.iter().map(Record::bytes).sum();
        self.groups.push_back((group, samples, bytes));
        self.bytes += bytes;
        while self.bytes > CACHE_BYTES && self.groups.len() > 1 {
            if let Some((_, _, freed)) = self.groups.pop_front() {
                self.bytes -= freed;
            }
        }
    }
}

impl<R: Record> SampleSource<R> for PreparedSet<R> {
    fn len(&self) -> usize {
        self.rows
    }
    fn get(&self, index: usize) -> Result<R, DataError> {
        Self::get(self, index)
    }
}
