//! What decoders need of data and draft models, looked at as soon as the data is prepared: it would fail only after hours of training.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use evaluator::decode::DecoderKind;
use evaluator::evaluate::EvaluateConfig;
use evaluator::teacher::candidates_per_list;
use model::Tokenizer;

use super::{Experiment, prepare, subject};
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
        check_draft(experiment, &evaluate.models, draft).with_context(|| experiment.place("evaluate.decoders"))?;
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
pub fn draft_folder(draft: &Path) -> anyhow::Result<PathBuf> {
    hub::model_folder(&draft.display().to_string())
}

/// Of a thousand tokens the two share, so many may be others: names of special tokens differ within a family.
const OTHERS_IN_A_THOUSAND: usize = 1;

/// Tokens of the draft model are the same as those of every evaluated model, as far as it has any: others would be noise that costs acceptance
/// and says nothing.
fn check_draft(experiment: &Experiment<'_>, models: &[String], draft: &Path) -> anyhow::Result<()> {
    let drafts = Tokenizer::load(&draft_folder(draft)?)?;
    // Models that are trained here have the experiment's tokenizer.
    let folder_of = |model: &String| match model.contains('/') {
        true => subject::tokenizer_of(experiment, model, &hub::model_folder(model)?),
        false => experiment.tokenizer_folder(),
    };
    let folders: BTreeSet<PathBuf> = models.iter().map(folder_of).collect::<anyhow::Result<_>>()?;
    for folder in folders {
        let own = Tokenizer::load(&folder)?;
        let shared = own.vocab_size().min(drafts.vocab_size());
        let differs = |id: &i64| own.id_to_token(*id) != drafts.id_to_token(*id);
        let others: Vec<i64> = (0..shared as i64).filter(differs).collect();
        let Some(first) = others.first() else { continue };
        let text = format!(
            "draft model `{}`: {} of {shared} tokens are others than those of `{}`, the first {first}: {:?}, not {:?}",
            draft.display(),
            others.len(),
            folder.display(),
            drafts.id_to_token(*first).unwrap_or_default(),
            own.id_to_token(*first).unwrap_or_default()
        );
        if others.len() * 1000 > shared * OTHERS_IN_A_THOUSAND {
            let hint = "a draft model has the tokenizer of the model it drafts for: take a smaller one of its family";
            return Err(InputError::new(text, hint).into());
        }
        tracing::warn!("{text}");
    }
    Ok(())
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
