//! The report's pictures of who sees whom: ONE-PASS's trees, columns of answers.

use std::sync::Arc;

use data::branched::{BranchPrompts, ColumnarTexts, Learned};
use evaluator::decode::DecoderKind;
use evaluator::report::{Layout, mask_picture, tree_picture};
use model::one_pass::{CandidateTree, Groups, Variant};
use model::{BranchAlignment, TargetAlignment, Tokenizer};

use super::{Experiment, prepare};

/// More subsets than this in one picture are too small to see.
const MOST_SUBSETS: usize = 400;

/// Of each tree that a decoder reads, and of the first text that was answered.
///
/// # Errors
/// A prepared set or a tokenizer that cannot be read.
pub fn of(experiment: &Experiment<'_>) -> anyhow::Result<Vec<Layout>> {
    let mut layouts = trees(experiment)?;
    layouts.extend(columns(experiment)?);
    Ok(layouts)
}

fn trees(experiment: &Experiment<'_>) -> anyhow::Result<Vec<Layout>> {
    let Some(evaluate) = &experiment.config.evaluate else { return Ok(Vec::new()) };
    let mut groups: Vec<usize> = Vec::new();
    for kind in &evaluate.decoders {
        let DecoderKind::OnePass(settings) = kind else { continue };
        if settings.variant != Variant::Permutation && !groups.contains(&settings.n_group) {
            groups.push(settings.n_group);
        }
    }
    let set = evaluate.sets.first().filter(|set| !groups.is_empty() && experiment.folder.set(set).exists());
    let Some(set) = set else { return Ok(Vec::new()) };
    let longest = prepare::samples(experiment, set)?.iter().map(|sample| sample.passages.len()).max().unwrap_or(0);
    let n = longest.min(evaluate.window.size);
    let picture = |n_group: usize| {
        let tree = CandidateTree::subsets(&Groups::new(n, n_group).ok()?);
        let title = format!("ONE-PASS, {n} candidates in {n_group} groups");
        (tree.len() <= MOST_SUBSETS).then(|| tree_picture(&tree, &title))
    };
    Ok(groups.into_iter().filter_map(picture).collect())
}

/// As it would be trained on.
fn columns(experiment: &Experiment<'_>) -> anyhow::Result<Option<Layout>> {
    let data = &experiment.config.data;
    let set = experiment.config.answer.as_ref().and_then(|answer| answer.sets.first());
    let Some(set) = set.filter(|set| experiment.folder.set(set).exists()) else { return Ok(None) };
    let mut texts = prepare::texts(experiment, set)?;
    texts.truncate(1);
    let title = texts.first().map_or_else(String::new, |text| format!("Text {} of {set}", text.id));
    let tokenizer = Arc::new(Tokenizer::load(&experiment.tokenizer_folder()?)?);
    let prompts = BranchPrompts::new(tokenizer, data.branch_prompt.clone())?;
    let (texts, learned) = (Arc::new(texts), Learned::Answers);
    let (alignment, targets) = (BranchAlignment::default(), TargetAlignment::default());
    let layout = ColumnarTexts { texts, prompts, learned, alignment, targets }.layout(0)?;
    let svg = mask_picture(&layout, &title);
    let caption =
        "row: the token that sees, column: the token that is seen, both in linear order; strip: the row's branch"
            .to_owned();
    Ok(Some(Layout { title, caption, svg }))
}
