//! What decoders need of data and draft models, looked at as soon as the data is prepared: it would fail only after hours of training.

use std::path::Path;

use anyhow::Context as _;
use evaluator::decode::DecoderKind;
use evaluator::evaluate::EvaluateConfig;
use evaluator::teacher::candidates_per_list;
use model::Tokenizer;

use super::{Experiment, prepare};
use crate::config::heads::HeadsSection;
use crate::failure::InputError;
use crate::hub;

/// Lists as long as the heads are for, and draft models that read the same tokens.
///
/// # Errors
/// When a decoder could not rank what it is given.
pub fn check(experiment: &Experiment<'_>) -> anyhow::Result<()> {
    let Some(evaluate) = &experiment.config.evaluate else { return Ok(()) };
    for draft in evaluate.decoders.iter().filter_map(DecoderKind::draft_model) {
        check_draft(experiment, draft).with_context(|| experiment.place("evaluate.decoders"))?;
    }
    let headed = evaluate.decoders.iter().any(|kind| kind.head().is_some());
    match &experiment.config.heads {
        Some(heads) if headed => check_lists(experiment, heads, evaluate),
        _ => Ok(()),
    }
}

/// The folder of a draft model, by path or hub id.
///
/// # Errors
/// When it cannot be had.
pub fn draft_folder(draft: &Path) -> anyhow::Result<std::path::PathBuf> {
    hub::model_folder(&draft.display().to_string())
}

/// Tokens of the draft model are the same as the model's, as far as it has any: others would be noise that costs acceptance and says nothing.
fn check_draft(experiment: &Experiment<'_>, draft: &Path) -> anyhow::Result<()> {
    let own = Tokenizer::load(&experiment.tokenizer_folder()?)?;
    let drafts = Tokenizer::load(&draft_folder(draft)?)?;
    let shared = own.vocab_size().min(drafts.vocab_size()) as i64;
    let Some(id) = (0..shared).find(|id| own.id_to_token(*id) != drafts.id_to_token(*id)) else { return Ok(()) };
    let text = format!(
        "draft model `{}`: token {id} is {:?} there and {:?} in the model's tokenizer",
        draft.display(),
        drafts.id_to_token(id).unwrap_or_default(),
        own.id_to_token(id).unwrap_or_default()
    );
    Err(InputError::new(
        text,
        "a draft model has the tokenizer of the model it drafts for: take a smaller one of its family",
    )
    .into())
}

/// Heads learn for one number of candidates, and every window of what is ranked has to have as many.
fn check_lists(experiment: &Experiment<'_>, heads: &HeadsSection, evaluate: &EvaluateConfig) -> anyhow::Result<()> {
    let mut first: Option<(&str, usize)> = None;
    for set in heads.train.0.iter().chain(&heads.validation.0) {
        let n =
            candidates_per_list(set, &prepare::samples(experiment, set)?).with_context(|| experiment.place("heads"))?;
        let (other, wanted) = *first.get_or_insert((set, n));
        if n != wanted {
            let text = format!("lists of `{other}` have {wanted} candidates, those of `{set}` have {n}");
            let hint = "heads learn for one number of candidates: set `exact_candidates`";
            return Err(InputError::new(text, hint)).with_context(|| experiment.place("heads"));
        }
    }
    let Some((learned_from, n)) = first else { return Ok(()) };
    for set in &evaluate.sets {
        let samples = prepare::samples(experiment, set)?;
        for sample in samples.iter().take(evaluate.max_queries.unwrap_or(usize::MAX)) {
            let windows = evaluate.window.sweep(sample.passages.len());
            let Some(other) = windows.into_iter().find(|window| window.len() != n) else { continue };
            let text = format!(
                "query `{}` of `{set}` has {} candidates, {} of them in one window, and heads learn from lists of {n} (`{learned_from}`)",
                sample.query_id,
                sample.passages.len(),
                other.len()
            );
            let hint = format!(
                "every window has to have {n} candidates: write `exact_candidates` in `data.sets.{set}` (lists of other lengths are \
                 dropped and counted), and windows that come out even"
            );
            return Err(InputError::new(text, hint)).with_context(|| experiment.place("evaluate"));
        }
    }
    Ok(())
}
