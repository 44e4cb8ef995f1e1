//! What all sources have in common: limits, targets, shuffling, counting.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;

use crate::overlap::normalised;
use crate::random::Stream;
use crate::report::SetReport;
use crate::rows::for_each_row;
use crate::schema::check_permutation;
use crate::sources::split::{Parts, TailSplit};
use crate::sources::{RankingSetConfig, Selection, SplitPart, TargetConfig};
use crate::{DataError, RankingSample, TrecRun};

/// Takes the samples of a source, applies the common options and passes on what is kept.
pub(crate) struct Sink<'a> {
    config: &'a RankingSetConfig,
    emit: &'a mut dyn FnMut(RankingSample) -> Result<(), DataError>,
    /// Counts so far.
    pub(crate) report: SetReport,
    seen: HashSet<String>,
    teacher: Option<TrecRun>,
    split: Option<TailSplit<RankingSample>>,
    reservoir: Option<Reservoir>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(
        config: &'a RankingSetConfig,
        emit: &'a mut dyn FnMut(RankingSample) -> Result<(), DataError>,
    ) -> Result<Self, DataError> {
        let path = config.source.files().first().map(|path| format!(" {}", path.display())).unwrap_or_default();
        let teacher = match &config.target {
            TargetConfig::TeacherRun(teacher) => Some(TrecRun::read(&teacher.path)?),
            _ => None,
        };
        let reservoir = match (config.max_queries, config.select) {
            (Some(size), Selection::Random(random)) => Some(Reservoir::new(size, random.seed)),
            _ => None,
        };
        let report = SetReport::new(format!("{}{path}", config.source.kind()), config.strict);
        let split = config.split.map(TailSplit::new);
        Ok(Self { config, emit, report, seen: HashSet::new(), teacher, split, reservoir })
    }

    /// A sample from `path`:`line`. Breaks when no further sample is wanted.
    pub(super) fn offer(
        &mut self,
        sample: RankingSample,
        path: &Path,
        line: u64,
    ) -> Result<ControlFlow<()>, DataError> {
        if !self.seen.insert(sample.query_id.clone()) {
            let id = sample.query_id;
            return Err(DataError::DuplicateId { path: path.to_owned(), line, kind: "query", id });
        }
        if let Some(problem) = candidate_problem(&sample) {
            self.report.malformed_sample(path, line, problem)?;
            return Ok(ControlFlow::Continue(()));
        }
        let mut sample = self.cut(sample);
        if sample.passages.len() < self.config.min_candidates.max(1) {
            self.report.drop_sample("too few candidates");
            return Ok(ControlFlow::Continue(()));
        }
        if self.config.exact_candidates.is_some_and(|exact| sample.passages.len() < exact) {
            self.report.drop_sample("fewer candidates than exact_candidates");
            return Ok(ControlFlow::Continue(()));
        }
        self.set_target(&mut sample);
        if sample.target.is_none() && self.config.require_target {
            self.report.drop_sample("no target");
            return Ok(ControlFlow::Continue(()));
        }
        if let Some(shuffle) = self.config.shuffle_candidates {
            sample = shuffled(&sample, shuffle.seed);
        }
        match &mut self.split {
            None => self.pass_on(sample),
            Some(split) => {
                let (part, trained_on) = (split.part(), split.push(sample));
                self.pass_on_part(trained_on, part == SplitPart::Train)
            }
        }
    }

    /// Rows of one part of a split: passed on while more are wanted, or counted.
    fn pass_on_part(
        &mut self,
        rows: impl IntoIterator<Item = RankingSample>,
        wanted: bool,
    ) -> Result<ControlFlow<()>, DataError> {
        for row in rows {
            if !wanted {
                self.report.drop_sample("in another part of the split");
            } else if self.pass_on(row)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Rows of a file of any kind, malformed ones counted here.
    pub(super) fn for_each_row(
        &mut self,
        path: &Path,
        mut each: impl FnMut(&mut Self, u64, Value) -> Result<ControlFlow<()>, DataError>,
    ) -> Result<(), DataError> {
        // The reader counts into the report while `each` uses the sink: it is lent out for the time.
        let mut report = std::mem::take(&mut self.report);
        let outcome = for_each_row(path, &mut report, |line, row, report| {
            std::mem::swap(&mut self.report, report);
            let flow = each(self, line, row);
            std::mem::swap(&mut self.report, report);
            flow
        });
        self.report = report;
        outcome
    }

    /// Counts a malformed row and goes on (or stops, when strict).
    pub(super) fn malformed(
        &mut self,
        path: &Path,
        line: u64,
        message: impl Into<String>,
    ) -> Result<ControlFlow<()>, DataError> {
        self.report.malformed_sample(path, line, message)?;
        Ok(ControlFlow::Continue(()))
    }

    fn pass_on(&mut self, sample: RankingSample) -> Result<ControlFlow<()>, DataError> {
        if let Some(reservoir) = &mut self.reservoir {
            self.report.read += 1;
            reservoir.offer(sample);
            return Ok(ControlFlow::Continue(()));
        }
        self.report.keep_sample();
        (self.emit)(sample)?;
        Ok(match self.config.max_queries {
            Some(limit) if self.report.kept >= limit as u64 => {
                self.report.note("stopped at max_queries", 1);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        })
    }

    fn cut(&mut self, sample: RankingSample) -> RankingSample {
        let limits = [("top_k", self.config.top_k), ("exact_candidates", self.config.exact_candidates)];
        let mut kept = sample.passages.len();
        for (key, limit) in limits {
            if let Some(limit) = limit.filter(|limit| *limit < kept) {
                self.report.note(&format!("candidates beyond {key}"), (kept - limit) as u64);
                kept = limit;
            }
        }
        if kept == sample.passages.len() { sample } else { sample.select(&(0..kept as u16).collect::<Vec<_>>()) }
    }

    fn set_target(&mut self, sample: &mut RankingSample) {
        match &self.config.target {
            TargetConfig::Auto => {
                if sample.target.is_none() {
                    sample.target = sample.order_by_label();
                }
            }
            TargetConfig::Labels => sample.target = sample.order_by_label(),
            TargetConfig::None => sample.target = None,
            TargetConfig::TeacherRun(_) => {
                let run = self.teacher.take();
                sample.target = run.as_ref().and_then(|run| self.teacher_order(run, sample));
                self.teacher = run;
            }
        }
    }

    /// The teacher's order of the candidates; those it left out come last.
    fn teacher_order(&mut self, run: &TrecRun, sample: &RankingSample) -> Option<Vec<u16>> {
        let Some(ranked) = run.ranked(&sample.query_id) else {
            self.report.note("queries the teacher did not rank", 1);
            return None;
        };
        let places: HashMap<&str, usize> =
            ranked.iter().enumerate().map(|(place, entry)| (entry.doc_id.as_str(), place)).collect();
        let place = |index: &u16| places.get(sample.passages[usize::from(*index)].doc_id.as_str());
        let mut order: Vec<u16> = (0..sample.passages.len() as u16).collect();
        let unranked = order.iter().filter(|index| place(index).is_none()).count();
        self.report.note("candidates the teacher did not rank", unranked as u64);
        if unranked == order.len() {
            return None;
        }
        order.sort_by_key(|index| place(index).copied().unwrap_or(usize::MAX));
        Some(order)
    }

    /// Emits what could not be decided before the end (parts of a split, a random selection), gives the counts back.
    pub(super) fn finish(mut self) -> Result<SetReport, DataError> {
        if let Some(split) = self.split.take() {
            let part = split.part();
            let Parts { train, validation, test, shared } =
                split.finish(&self.report.source, |sample| normalised(&sample.query))?;
            (0..shared).for_each(|_| self.report.drop_sample("its query is in a later part of the split as well"));
            // A limit that is reached ends its own part alone.
            let _ = self.pass_on_part(train, part == SplitPart::Train)?;
            let _ = self.pass_on_part(validation, part == SplitPart::Validation)?;
            let _ = self.pass_on_part(test, part == SplitPart::Test)?;
        }
        if let Some(reservoir) = self.reservoir.take() {
            let left_out = reservoir.offered - reservoir.chosen.len() as u64;
            if left_out > 0 {
                *self.report.dropped.entry("not in the random selection".to_owned()).or_default() += left_out;
            }
            for sample in reservoir.chosen.into_values() {
                self.report.kept += 1;
                (self.emit)(sample)?;
            }
        }
        Ok(self.report)
    }
}

/// What makes a candidate list unusable.
fn candidate_problem(sample: &RankingSample) -> Option<String> {
    if let Err(error) = sample.validate() {
        return Some(error.to_string());
    }
    let mut ids = HashSet::new();
    if let Some(twice) = sample.passages.iter().find(|passage| !ids.insert(passage.doc_id.as_str())) {
        return Some(format!("query `{}`: candidate `{}` occurs a second time", sample.query_id, twice.doc_id));
    }
    if sample.query.trim().is_empty() {
        return Some(format!("query `{}` has no text", sample.query_id));
    }
    sample
        .target
        .as_ref()
        .and_then(|target| check_permutation(&sample.query_id, "target", target, sample.passages.len()).err())
        .map(|error| error.to_string())
}

/// The list in an order that depends on the seed and the query id alone.
fn shuffled(sample: &RankingSample, seed: u64) -> RankingSample {
    let stream = Stream::for_id("shuffle candidates of a set", seed, &sample.query_id);
    let order = stream.permutation(sample.passages.len());
    sample.select(&order.into_iter().map(|index| index as u16).collect::<Vec<_>>())
}

/// Uniform sample of a stream of unknown length (algorithm R), keyed by place so that the order is kept.
struct Reservoir {
    size: usize,
    stream: Stream,
    offered: u64,
    slots: Vec<u64>,
    chosen: BTreeMap<u64, RankingSample>,
}

impl Reservoir {
    fn new(size: usize, seed: u64) -> Self {
        let stream = Stream::new("random selection of queries", &[seed]);
        Self { size, stream, offered: 0, slots: Vec::new(), chosen: BTreeMap::new() }
    }

    fn offer(&mut self, sample: RankingSample) {
        let place = self.offered;
        self.offered += 1;
        if self.slots.len() < self.size {
            self.slots.push(place);
        } else {
            let slot = self.stream.below(self.offered) as usize;
            let Some(held) = self.slots.get_mut(slot) else { return };
            self.chosen.remove(held);
            *held = place;
        }
        self.chosen.insert(place, sample);
    }
}
