//! The model's own rankings, and what heads on it learn from: kept on disk in parts, so that the model runs once per query.
//!
//! For every query: the forced autoregressive order, the probabilities of each tree that is asked for, and the state before each
//! place. The prompt is read once for all of them. Parts of the queries are dealt out over ranks; each is a file for each of these pieces,
//! written whole. A run that was stopped goes on with the parts that are missing, and what is asked for later costs what it
//! needs itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use data::{RankingRecord, RankingSample};
use model::CausalLm;
use model::one_pass::{OnePassSettings, Scorer, TreeShape};
use model::safetensors_file::{self, SafetensorsFile};
use tch::{Device, Kind, Tensor};

use crate::EvaluatorError;
use crate::decode::{Continuation, answer_tokens, check_context, check_forced, read_behind, write_ranking};
use crate::sliding::PromptSource;

/// Queries of a part.
const PART: usize = 32;

/// What to collect.
pub struct TeacherJob<'a> {
    /// The model.
    pub model: &'a CausalLm,
    /// Writes the prompts.
    pub prompts: &'a dyn PromptSource,
    /// Queries, all with the same number of candidates.
    pub samples: &'a [RankingSample],
    /// Settings whose trees are read; those that share a tree share its rows.
    pub trees: &'a [OnePassSettings],
    /// Whether the states before each place are kept.
    pub states: bool,
    /// Where the parts are: a folder for this model, prompt and data alone.
    pub folder: &'a Path,
    /// This process's number among `world_size`; it does every `world_size`-th part.
    pub rank: usize,
    /// Processes at work.
    pub world_size: usize,
}

/// What was collected of a set.
#[derive(Debug)]
pub struct Collected {
    /// The model's order of every query.
    pub records: Vec<RankingRecord>,
    /// By [`tree_key`].
    pub trees: BTreeMap<String, TreeRows>,
    /// States before each place, `[lists, n, hidden]` in the model's kind; zeros for the last place, which is never decided.
    pub states: Option<Tensor>,
}

/// Probabilities of one tree over a set.
#[derive(Debug)]
pub struct TreeRows {
    /// Float32 `[lists, nodes, n]`, columns by slot.
    pub probabilities: Tensor,
    /// The model's order of every query, in slots.
    pub orders: Vec<Vec<u16>>,
}

impl Collected {
    /// This and another set's, end to end; both collected with the same settings.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let join = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        for (key, rows) in other.trees {
            if let Some(own) = self.trees.get_mut(&key) {
                own.probabilities = join(&own.probabilities, &rows.probabilities);
                own.orders.extend(rows.orders);
            }
        }
        self.states = self.states.zip(other.states).map(|(a, b)| join(&a, &b));
        self.records.extend(other.records);
        self
    }
}

/// Name of the tree that settings read: the same for variants that share it.
#[must_use]
pub fn tree_key(settings: &OnePassSettings) -> String {
    let grouping = serde_json::to_value(settings.grouping).expect("a plain enum");
    let grouping = grouping.as_str().unwrap_or_default();
    match settings.tree_shape() {
        TreeShape::OrderedPairs => format!("pairs-{grouping}"),
        TreeShape::Subsets { n_group } => format!("subsets-{n_group}-{grouping}"),
        TreeShape::GroupSubsets { n_group } => format!("group-subsets-{n_group}-{grouping}"),
    }
}

/// Number of candidates of every list.
///
/// # Errors
/// No list, or lists of different lengths.
pub fn candidates_per_list(set: &str, samples: &[RankingSample]) -> Result<usize, EvaluatorError> {
    let Some(first) = samples.first() else { return Err(EvaluatorError::NoSamples { set: set.to_owned() }) };
    let n = first.passages.len();
    match samples.iter().find(|sample| sample.passages.len() != n) {
        None => Ok(n),
        Some(other) => Err(EvaluatorError::UnequalLists {
            set: set.to_owned(),
            first: n,
            other: other.passages.len(),
            query_id: other.query_id.clone(),
        }),
    }
}

/// The piece with the orders and what they cost.
const ORDER: &str = "order";
/// The piece with the states.
const STATES: &str = "states";

impl TeacherJob<'_> {
    fn piece_file(&self, part: usize, piece: &str) -> PathBuf {
        self.folder.join(format!("part-{part:05}.{piece}.safetensors"))
    }

    /// Orders, states if they are wanted, and each tree by its key.
    fn pieces(&self) -> BTreeSet<String> {
        let states = self.states.then(|| STATES.to_owned());
        std::iter::once(ORDER.to_owned()).chain(states).chain(self.trees.iter().map(tree_key)).collect()
    }

    fn missing_pieces(&self, part: usize) -> BTreeSet<String> {
        let missing = self.pieces().into_iter().filter(|piece| !self.piece_file(part, piece).is_file());
        let mut missing: BTreeSet<String> = missing.collect();
        if missing.contains(STATES) {
            // States are those of an order that was decoded with them: another device may decode another one.
            missing.insert(ORDER.to_owned());
        }
        missing
    }

    fn parts(&self) -> usize {
        self.samples.len().div_ceil(PART)
    }

    /// Collects this rank's missing parts. `on_query` is called with (queries done, queries to do) after each query; `Break` stops
    /// with [`EvaluatorError::Interrupted`], and finished parts stay.
    ///
    /// # Errors
    /// Prompts, decoding, and files that cannot be written.
    pub fn collect(&self, on_query: &mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> Result<(), EvaluatorError> {
        fs::create_dir_all(self.folder).map_err(EvaluatorError::write(self.folder))?;
        let n = candidates_per_list("teacher", self.samples)?;
        let scorers =
            self.trees.iter().map(|settings| Ok((tree_key(settings), Scorer::new(n, *settings, Device::Cpu)?)));
        let scorers: BTreeMap<String, Scorer> = scorers.collect::<Result<_, EvaluatorError>>()?;
        let own = (0..self.parts()).filter(|part| part % self.world_size == self.rank);
        let missing: Vec<(usize, BTreeSet<String>)> =
            own.map(|part| (part, self.missing_pieces(part))).filter(|(_, pieces)| !pieces.is_empty()).collect();
        let total: usize = missing.iter().map(|(part, _)| self.samples_of(*part).len()).sum();
        let mut done = 0;
        for (part, pieces) in missing {
            let mut rows = PartRows::default();
            let mut stopped = false;
            for sample in self.samples_of(part) {
                if stopped {
                    return Err(EvaluatorError::Interrupted);
                }
                self.collect_query(sample, &scorers, &pieces, &mut rows)?;
                done += 1;
                stopped = on_query(done, total).is_break();
            }
            for piece in &pieces {
                safetensors_file::write(&self.piece_file(part, piece), &rows.tensors(piece))?;
            }
            if stopped {
                return Err(EvaluatorError::Interrupted);
            }
        }
        Ok(())
    }

    fn samples_of(&self, part: usize) -> &[RankingSample] {
        &self.samples[part * PART..self.samples.len().min((part + 1) * PART)]
    }

    fn collect_query(
        &self,
        sample: &RankingSample,
        scorers: &BTreeMap<String, Scorer>,
        pieces: &BTreeSet<String>,
        rows: &mut PartRows,
    ) -> Result<(), EvaluatorError> {
        let prompt = self.prompts.prompt(sample)?;
        check_forced(&prompt)?;
        let ids: Vec<i64> = prompt.input_ids.iter().chain(&prompt.opening).copied().collect();
        let answer = answer_tokens(&prompt);
        check_context(self.model, &prompt.query_id, ids.len() + answer)?;
        let mut text = Continuation::new(self.model, ids.len() + answer);
        let first = text.feed(&ids);
        // reading a value waits for the device
        let _ = first.double_value(&[0, 0]);
        let prompt_seconds = text.seconds();
        for (key, scorer) in scorers.iter().filter(|(key, _)| pieces.contains(*key)) {
            let (p, slots) = read_behind(&mut text, &prompt, scorer.tree(), scorer.settings().grouping, &first)?;
            rows.push(key, "tree", p);
            rows.push(key, "slots", Tensor::from_slice(&as_int(&slots)));
        }
        if !pieces.contains(ORDER) && !pieces.contains(STATES) {
            return Ok(());
        }
        let started = Instant::now();
        let passes = text.passes;
        let mut states: Vec<Tensor> = Vec::new();
        let keep = &mut |state: &Tensor| states.push(state.shallow_clone());
        let (order, new_tokens) = write_ranking(&mut text, &prompt, Vec::new(), keep)?;
        if pieces.contains(STATES) {
            states.resize_with(order.len(), || first.zeros_like());
            rows.push(STATES, STATES, Tensor::cat(&states, 0).to_device(Device::Cpu));
        }
        // The cost is that of a ranking alone, without the trees that were read in between.
        let seconds = prompt_seconds + started.elapsed().as_secs_f64();
        rows.push(ORDER, "order", Tensor::from_slice(&as_int(&order)));
        rows.push(ORDER, "passes", Tensor::from_slice(&[1 + i64::from(text.passes - passes)]));
        rows.push(ORDER, "new_tokens", Tensor::from_slice(&[new_tokens as i64]));
        rows.push(ORDER, "seconds", Tensor::from_slice(&[seconds]));
        Ok(())
    }

    /// Everything collected; all ranks must be done.
    ///
    /// # Errors
    /// A part that is missing or damaged.
    pub fn read(&self) -> Result<Collected, EvaluatorError> {
        let all = |piece: &str, name: &str| -> Result<Tensor, EvaluatorError> {
            let of_part = |part| SafetensorsFile::open(&self.piece_file(part, piece))?.tensor(name);
            Ok(Tensor::cat(&(0..self.parts()).map(of_part).collect::<Result<Vec<_>, _>>()?, 0))
        };
        let orders = rows_of(&all(ORDER, "order")?)?;
        let mut trees = BTreeMap::new();
        for key in self.trees.iter().map(tree_key) {
            let slots = rows_of(&all(&key, "slots")?)?;
            let in_slots = orders.iter().zip(&slots).map(|(order, slots)| by_slot(order, slots)).collect();
            trees.insert(key.clone(), TreeRows { probabilities: all(&key, "tree")?, orders: in_slots });
        }
        let (passes, new_tokens) = (numbers(&all(ORDER, "passes")?)?, numbers(&all(ORDER, "new_tokens")?)?);
        let seconds = Vec::<f64>::try_from(all(ORDER, "seconds")?.view(-1))?;
        let record = |(index, order): (usize, Vec<u16>)| RankingRecord {
            query_id: self.samples[index].query_id.clone(),
            decoder: "autoregressive_forced".to_owned(),
            order,
            scores: None,
            forward_passes: passes[index] as u32,
            new_tokens: new_tokens[index] as u32,
            seconds: seconds[index],
        };
        let records = orders.into_iter().enumerate().map(record).collect();
        Ok(Collected { records, trees, states: if self.states { Some(all(STATES, STATES)?) } else { None } })
    }
}

/// Rows of a part by piece and name.
#[derive(Default)]
struct PartRows(BTreeMap<(String, &'static str), Vec<Tensor>>);

impl PartRows {
    fn push(&mut self, piece: &str, name: &'static str, row: Tensor) {
        self.0.entry((piece.to_owned(), name)).or_default().push(row);
    }

    fn tensors(&self, piece: &str) -> Vec<(String, Tensor)> {
        let of_piece = self.0.iter().filter(|((own, _), _)| own == piece);
        of_piece.map(|((_, name), rows)| ((*name).to_owned(), Tensor::stack(rows, 0))).collect()
    }
}

fn as_int(order: &[u16]) -> Vec<i64> {
    order.iter().map(|candidate| i64::from(*candidate)).collect()
}

fn numbers(tensor: &Tensor) -> Result<Vec<i64>, EvaluatorError> {
    Ok(Vec::try_from(tensor.to_kind(Kind::Int64).view(-1))?)
}

/// `[lists, n]` as orders.
fn rows_of(tensor: &Tensor) -> Result<Vec<Vec<u16>>, EvaluatorError> {
    let n = tensor.size()[1] as usize;
    let values: Vec<u16> = numbers(tensor)?.into_iter().map(|candidate| candidate as u16).collect();
    Ok(values.chunks(n).map(<[u16]>::to_vec).collect())
}

/// An order of candidates as one of slots; `slots` holds the candidate of each slot.
fn by_slot(order: &[u16], slots: &[u16]) -> Vec<u16> {
    let mut slot_of = vec![0u16; slots.len()];
    for (slot, candidate) in slots.iter().enumerate() {
        slot_of[usize::from(*candidate)] = slot as u16;
    }
    order.iter().map(|candidate| slot_of[usize::from(*candidate)]).collect()
}

#[cfg(test)]
mod tests {
    use data::prompt::Identifiers;
    use model::one_pass::{Grouping, Variant};

    use super::*;
    use crate::decode::tests::{FakePrompts, sample, tiny};
    use crate::decode::{AutoregressiveForced, Decoder};

    const PROMPTS: FakePrompts = FakePrompts(Identifiers::Alphabetic);

    fn trees() -> Vec<OnePassSettings> {
        let of = |variant, grouping| OnePassSettings { variant, n_group: 2, grouping, ..OnePassSettings::default() };
        vec![
            of(Variant::OnePass, Grouping::ByIdentifier),
            of(Variant::WoHas, Grouping::ByIdentifier),
            of(Variant::OnePass, Grouping::ByFirstToken),
            of(Variant::Permutation, Grouping::ByIdentifier),
        ]
    }

    /// Lists whose prompts differ: a part in the wrong place would be seen.
    fn lists(count: usize) -> Vec<RankingSample> {
        let list = |i: usize| {
            let mut list = sample(&format!("q{i}"), 5);
            list.passages
                .iter_mut()
                .enumerate()
                .for_each(|(k, passage)| passage.text = "x".repeat((5 * i + 3 * k) % 19));
            list
        };
        (0..count).map(list).collect()
    }

    #[test]
    fn ranks_share_the_parts_and_a_stopped_run_goes_on() {
        let model = tiny(3);
        let samples = lists(70);
        let (folder, trees) = (tempfile::tempdir().unwrap(), trees());
        let job = |rank| TeacherJob {
            model: &model,
            prompts: &PROMPTS,
            samples: &samples,
            trees: &trees,
            states: true,
            folder: folder.path(),
            rank,
            world_size: 2,
        };
        let stopped =
            job(0).collect(&mut |done, _| if done == 35 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
        assert!(matches!(stopped, Err(EvaluatorError::Interrupted)));
        assert!(job(0).read().is_err(), "rank 1's part is missing");
        let mut counts = Vec::new();
        for rank in [0, 1] {
            let mut asked = 0;
            job(rank)
                .collect(&mut |_, total| {
                    asked = total;
                    ControlFlow::Continue(())
                })
                .unwrap();
            counts.push(asked);
        }
        assert_eq!(counts, [6, 32], "part 0 was whole, part 2 has six queries");
        let collected = job(0).read().unwrap();
        assert_eq!(
            collected.trees.keys().collect::<Vec<_>>(),
            ["pairs-by_identifier", "subsets-2-by_first_token", "subsets-2-by_identifier"]
        );
        let forced =
            |sample: &RankingSample| AutoregressiveForced.decode(&model, &PROMPTS.prompt(sample).unwrap()).unwrap();
        for (sample, record) in samples.iter().zip(&collected.records) {
            let decoded = forced(sample);
            assert_eq!((&record.order, record.forward_passes), (&decoded.order, decoded.forward_passes));
            assert_eq!(record.query_id, sample.query_id);
        }
        assert_eq!(collected.states.unwrap().size(), [70, 5, model.config.hidden_size]);
        let by_first = &collected.trees["subsets-2-by_first_token"];
        assert!(by_first.orders.iter().all(|order| order[0] == 0), "the first place goes to the first token's best");
    }

    #[test]
    fn what_is_asked_for_later_is_collected_alone() {
        let model = tiny(3);
        let samples: Vec<_> = (0..3).map(|i| sample(&format!("q{i}"), 5)).collect();
        let (folder, trees) = (tempfile::tempdir().unwrap(), trees());
        let job = |trees, states| TeacherJob {
            model: &model,
            prompts: &PROMPTS,
            samples: &samples,
            trees,
            states,
            folder: folder.path(),
            rank: 0,
            world_size: 1,
        };
        let queries = |job: &TeacherJob<'_>| {
            let mut asked = 0;
            job.collect(&mut |done, _| {
                asked = done;
                ControlFlow::Continue(())
            })
            .unwrap();
            asked
        };
        let first = job(&trees[..1], false);
        assert_eq!((queries(&first), queries(&first)), (3, 0));
        let before = first.read().unwrap();
        let key = tree_key(&trees[0]);
        let written = || fs::metadata(first.piece_file(0, &key)).unwrap().modified().unwrap();
        let before_more = written();
        let more = job(&trees, true);
        assert_eq!((queries(&more), queries(&more), queries(&first)), (3, 0, 0));
        assert_eq!(written(), before_more, "a tree that is there is not read again");
        let after = more.read().unwrap();
        let orders =
            |collected: &Collected| collected.records.iter().map(|record| record.order.clone()).collect::<Vec<_>>();
        assert_eq!((orders(&after), after.trees.len()), (orders(&before), 3));
        assert_eq!(after.trees[&key].probabilities, before.trees[&key].probabilities);
        let all = tempfile::tempdir().unwrap();
        let together = TeacherJob { folder: all.path(), ..job(&trees, true) };
        queries(&together);
        let together = together.read().unwrap();
        assert_eq!(together.states.unwrap(), after.states.unwrap());
        for (key, rows) in &together.trees {
            assert_eq!(
                (&rows.probabilities, &rows.orders),
                (&after.trees[key].probabilities, &after.trees[key].orders)
            );
        }
    }

    #[test]
    fn lists_of_different_lengths_are_named() {
        let samples = [sample("a", 5), sample("b", 6)];
        let message = candidates_per_list("train", &samples).unwrap_err().to_string();
        assert!(message.contains("5 and of 6") && message.contains("exact_candidates"), "{message}");
    }
}
