//! What a training stage learns from, as the objective wants it: lists, texts in columns, or single questions.

use std::collections::BTreeSet;
use std::sync::Arc;

use data::batch::{RankingTokens, SampleSource, TokenSource};
use data::branched::{BranchPrompts, BranchedText, ColumnarTexts, Learned, SequentialTexts};
use data::prepared::PreparedSet;
use data::prompt::PromptBuilder;
use data::{DataError, RankingSample};
use serde_json::Value;
use trainer::objectives::TrainsOn;

use super::overlap::{query_hashes, question_hashes};
use super::train::context_length;
use super::{Experiment, prepare};
use crate::config::experiment::StageSection;
use crate::failure::InputError;
use crate::model_source::LoadedModel;

/// Samples of a stage, and what the model's note tells of them.
pub struct Material {
    /// The samples.
    pub tokens: Arc<dyn TokenSource>,
    /// What they are called.
    pub kind: &'static str,
    /// Settings of the prompt.
    pub prompt: Value,
    /// Hash of wording, settings and tokenizer.
    pub prompt_hash: String,
    /// Hashes of the queries or questions.
    pub queries: BTreeSet<String>,
    /// Why the objective cannot learn all it says from the samples; nothing is wrong with reading them.
    pub unlearnable: Option<InputError>,
}

impl Material {
    /// Reads the prepared sets of a stage.
    ///
    /// # Errors
    /// When a set is not prepared, or holds nothing to learn from.
    pub fn read(experiment: &Experiment<'_>, stage: &StageSection, loaded: &LoadedModel) -> anyhow::Result<Self> {
        let data = &experiment.config.data;
        let settings = &stage.settings;
        if settings.objective.trains_on() == TrainsOn::Lists {
            let samples = lists(experiment, stage)?;
            let builder = PromptBuilder::new(Arc::clone(&loaded.tokenizer), data.prompt.clone())?
                .fitting(context_length(experiment, loaded));
            let unlearnable =
                settings.objective.reads_one_token().then(|| long_identifiers(stage, &samples, &builder)).flatten();
            let shuffle_candidates = settings.loader_options().shuffle_candidates;
            return Ok(Self {
                kind: "lists",
                prompt: serde_json::to_value(&data.prompt)?,
                prompt_hash: builder.hash(),
                queries: query_hashes(&samples),
                unlearnable,
                tokens: Arc::new(RankingTokens { source: Arc::new(samples), builder, shuffle_candidates }),
            });
        }
        let (texts, queries) = texts(experiment, stage)?;
        let prompts = BranchPrompts::new(Arc::clone(&loaded.tokenizer), data.branch_prompt.clone())?;
        let (prompt, prompt_hash) = (serde_json::to_value(&data.branch_prompt)?, prompts.hash());
        let texts: Arc<dyn SampleSource<BranchedText>> = Arc::new(texts);
        let (tokens, kind): (Arc<dyn TokenSource>, _) = match settings.objective.trains_on() {
            TrainsOn::Columns { layout, everything } => {
                let learned = if everything { Learned::Everything } else { Learned::Answers };
                let (alignment, targets) = (layout.alignment, layout.target_alignment);
                (Arc::new(ColumnarTexts { texts, prompts, learned, alignment, targets }), "texts")
            }
            TrainsOn::Lists | TrainsOn::Questions => (Arc::new(SequentialTexts::new(texts, prompts)?), "questions"),
        };
        Ok(Self { tokens, kind, prompt, prompt_hash, queries, unlearnable: None })
    }
}

/// A list of which one identifier takes several tokens would be learned from without its ranking loss.
fn long_identifiers(stage: &StageSection, samples: &[RankingSample], builder: &PromptBuilder) -> Option<InputError> {
    let single = builder.single_identifier_tokens().len();
    // Lists that no identifiers can name are told where prompts are written.
    let lengths = single + 1..=builder.config.identifiers.limit();
    let list = samples.iter().find(|sample| lengths.contains(&sample.passages.len()))?;
    let text = format!(
        "stage `{}`: list `{}` has {} candidates, and this tokenizer has one token each for the first {single} identifiers; the ranking loss of `{}` reads \
         one token a candidate",
        stage.name,
        list.query_id,
        list.passages.len(),
        stage.settings.objective.build().name()
    );
    Some(InputError::new(text, "write `identifiers: alphabetic` in `data.prompt`, or shorten the lists (`top_k`)"))
}

/// The lists of all sets of a stage, in the order the file names them.
fn lists(experiment: &Experiment<'_>, stage: &StageSection) -> anyhow::Result<Vec<RankingSample>> {
    let mut samples = Vec::new();
    for set in &stage.data.0 {
        let mut found = prepare::samples(experiment, set)?;
        let all = found.len();
        found.retain(|sample| sample.target.is_some());
        if found.len() < all {
            let without = all - found.len();
            tracing::warn!("set `{set}`: {without} of {all} lists have no target order and are not trained on");
        }
        samples.extend(found);
    }
    let hint = "give qrels or a teacher's order (`target:`), or use another set";
    nothing_left(stage, samples.is_empty(), "no list", "a target order", hint)?;
    Ok(samples)
}

/// The texts of all sets of a stage that have an answer, read from disk as they are wanted, and the hashes of their questions.
fn texts(experiment: &Experiment<'_>, stage: &StageSection) -> anyhow::Result<(AnsweredTexts, BTreeSet<String>)> {
    let mut texts = AnsweredTexts::default();
    let mut queries = BTreeSet::new();
    for (number, set) in stage.data.0.iter().enumerate() {
        let prepared: PreparedSet<BranchedText> = prepare::open(experiment, set)?;
        let before = texts.places.len();
        for (index, text) in prepared.iter().enumerate() {
            let text = text?;
            if text.branches.iter().any(|branch| !branch.answers.is_empty()) {
                texts.places.push((number as u32, index as u32));
                queries.extend(question_hashes([&text]));
            }
        }
        let (all, kept) = (prepared.len(), texts.places.len() - before);
        if kept < all {
            let without = all - kept;
            tracing::warn!("set `{set}`: {without} of {all} texts have no answer and are not trained on");
        }
        texts.sets.push(prepared);
    }
    nothing_left(stage, texts.places.is_empty(), "no text", "an answer", "give `answers`, or use another set")?;
    Ok((texts, queries))
}

/// Texts of prepared sets.
#[derive(Default)]
struct AnsweredTexts {
    sets: Vec<PreparedSet<BranchedText>>,
    /// Set and row of each text.
    places: Vec<(u32, u32)>,
}

impl SampleSource<BranchedText> for AnsweredTexts {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn get(&self, index: usize) -> Result<BranchedText, DataError> {
        let (set, row) = self.places[index];
        self.sets[set as usize].get(row as usize)
    }
}

fn nothing_left(stage: &StageSection, nothing: bool, no: &str, what: &str, hint: &str) -> anyhow::Result<()> {
    if !nothing {
        return Ok(());
    }
    let sets = stage.data.0.join(", ");
    let text = format!("stage `{}` has nothing to train on: {no} of {sets} has {what}", stage.name);
    Err(InputError::new(text, hint).into())
}
