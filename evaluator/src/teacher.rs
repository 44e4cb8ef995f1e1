//! The model's own rankings, and what heads on it learn from: kept on disk in parts, so that the model runs once per query.
//!
//! For every query: the forced autoregressive order, the probabilities of each tree that is asked for, and the state before each
//! place. The prompt is read once for all of them. Parts are dealt out over ranks and written whole; a run that was
//! stopped goes on with the parts that are missing.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use data::{RankingRecord, RankingSample};
use model::CausalLm;
use model::one_pass::{OnePassSettings, Scorer, Variant};
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
    /// Where the parts are: a folder for this model, prompt, data and these settings alone.
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
    match settings.variant {
        Variant::Permutation => format!("pairs-{grouping}"),
        _ => format!("subsets-{}-{grouping}", settings.n_group),
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

impl TeacherJob<'_> {
    fn part_file(&self, part: usize) -> PathBuf {
        self.folder.join(format!("part-{part:05}.safetensors"))
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
        let missing: Vec<usize> = own.filter(|part| !self.part_file(*part).is_file()).collect();
        let total: usize = missing.iter().map(|part| self.samples_of(*part).len()).sum();
        let mut done = 0;
        for part in missing {
            let mut rows = PartRows::default();
            let mut stopped = false;
            for sample in self.samples_of(part) {
                if stopped {
                    return Err(EvaluatorError::Interrupted);
                }
                self.collect_query(sample, &scorers, &mut rows)?;
                done += 1;
                stopped = on_query(done, total).is_break();
            }
            safetensors_file::write(&self.part_file(part), &rows.tensors())?;
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
        rows: &mut PartRows,
    ) -> Result<(), EvaluatorError> {
        let prompt = self.prompts.prompt(sample)?;
        check_forced(&prompt)?;
        let ids: Vec<i64> = prompt.input_ids.iter().chain(&prompt.opening).copied().collect();
        let answer = answer_tokens(&prompt);
        check_context(self.model, &prompt.query_id, ids.len() + answer)?;
        let mut text = Continuation::new(self.model, ids.len() + answer);
        let first = text.feed(&ids);
        let prompt_seconds = text.seconds();
        for (key, scorer) in scorers {
            let (p, slots) = read_behind(&mut text, &prompt, scorer.tree(), scorer.settings().grouping, &first)?;
            rows.push(&format!("tree.{key}"), p);
            rows.push(&format!("slots.{key}"), Tensor::from_slice(&as_int(&slots)));
        }
        let started = Instant::now();
        let passes = text.passes;
        let mut states: Vec<Tensor> = Vec::new();
        let keep = &mut |state: &Tensor| states.push(state.shallow_clone());
        let (order, new_tokens) = write_ranking(&mut text, &prompt, Vec::new(), keep)?;
        if self.states {
            states.resize_with(order.len(), || first.zeros_like());
            rows.push("states", Tensor::cat(&states, 0).to_device(Device::Cpu));
        }
        // The cost is that of a ranking alone, without the trees that were read in between.
        let seconds = prompt_seconds + started.elapsed().as_secs_f64();
        rows.push("order", Tensor::from_slice(&as_int(&order)));
        rows.push("passes", Tensor::from_slice(&[1 + i64::from(text.passes - passes)]));
        rows.push("new_tokens", Tensor::from_slice(&[new_tokens as i64]));
        rows.push("seconds", Tensor::from_slice(&[seconds]));
        Ok(())
    }

    /// Everything collected; all ranks must be done.
    ///
    /// # Errors
    /// A part that is missing or damaged.
    pub fn read(&self) -> Result<Collected, EvaluatorError> {
        let files: Vec<SafetensorsFile> =
            (0..self.parts()).map(|part| SafetensorsFile::open(&self.part_file(part))).collect::<Result<_, _>>()?;
        let all = |name: &str| -> Result<Tensor, EvaluatorError> {
            let parts = files.iter().map(|file| file.tensor(name)).collect::<Result<Vec<_>, _>>()?;
            Ok(Tensor::cat(&parts, 0))
        };
        let orders = rows_of(&all("order")?)?;
        let mut trees = BTreeMap::new();
        for key in self.trees.iter().map(tree_key) {
            let slots = rows_of(&all(&format!("slots.{key}"))?)?;
            let in_slots = orders.iter().zip(&slots).map(|(order, slots)| by_slot(order, slots)).collect();
            trees.insert(key.clone(), TreeRows { probabilities: all(&format!("tree.{key}"))?, orders: in_slots });
        }
        let (passes, new_tokens) = (numbers(&all("passes")?)?, numbers(&all("new_tokens")?)?);
        let seconds = Vec::<f64>::try_from(all("seconds")?.view(-1))?;
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
        Ok(Collected { records, trees, states: if self.states { Some(all("states")?) } else { None } })
    }
}

/// Rows of a part by name.
#[derive(Default)]
struct PartRows(BTreeMap<String, Vec<Tensor>>);

impl PartRows {
    fn push(&mut self, name: &str, row: Tensor) {
        self.0.entry(name.to_owned()).or_default().push(row);
    }

    fn tensors(&self) -> Vec<(String, Tensor)> {
        self.0.iter().map(|(name, rows)| (name.clone(), Tensor::stack(rows, 0))).collect()
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
    use model::one_pass::Grouping;

    use super::*;
    use crate::decode::tests::{FakePrompts, sample, tiny};
    use crate::decode::{AutoregressiveForced, Decoder};

    const PROMPTS: FakePrompts = FakePrompts(Identifiers::Alphabetic);

    fn trees() -> Vec<OnePassSettings> {
        let of = |variant, grouping| OnePassSettings { variant, n_group: 2, grouping, ..OnePassSettings::default() };
        vec![
            of(Variant::OnePass, Grouping::ByIdentifier),
            of(Variant::NaiveAdd, Grouping::ByIdentifier),
            of(Variant::OnePass, Grouping::ByFirstToken),
            of(Variant::Permutation, Grouping::ByIdentifier),
        ]
    }

    #[test]
    fn ranks_share_the_parts_and_a_stopped_run_goes_on() {
        let model = tiny(3);
        let samples: Vec<_> = (0..70).map(|i| sample(&format!("q{i}"), 5)).collect();
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
    fn lists_of_different_lengths_are_named() {
        let samples = [sample("a", 5), sample("b", 6)];
        let message = candidates_per_list("train", &samples).unwrap_err().to_string();
        assert!(message.contains("5 and of 6") && message.contains("exact_candidates"), "{message}");
    }
}
