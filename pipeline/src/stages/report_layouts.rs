//! The report's pictures of who sees whom: ONE-PASS's trees, columns of answers.

use std::sync::Arc;

use data::branched::{BranchPrompts, ColumnarTexts, Learned};
use evaluator::decode::DecoderKind;
use evaluator::report::{Layout, mask_picture, tree_picture};
use model::one_pass::{CandidateTree, Groups, TreeShape};
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
    let mut shapes: Vec<TreeShape> = Vec::new();
    for kind in &evaluate.decoders {
        let DecoderKind::OnePass(settings) = kind else { continue };
        let shape = settings.tree_shape();
        if shape != TreeShape::OrderedPairs && !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    // A picture with dual groups shows the groups as well.
    let whole = shapes.clone();
    shapes.retain(|shape| match shape {
        TreeShape::GroupSubsets { n_group } => !whole.contains(&TreeShape::Subsets { n_group: *n_group }),
        _ => true,
    });
    let set = evaluate.sets.first().filter(|set| !shapes.is_empty() && experiment.folder.set(set).exists());
    let Some(set) = set else { return Ok(Vec::new()) };
    let longest = prepare::samples(experiment, set)?.iter().map(|sample| sample.passages.len()).max().unwrap_or(0);
    let n = longest.min(evaluate.window.size);
    let picture = |shape: TreeShape| {
        let (tree, n_group, without) = match shape {
            TreeShape::Subsets { n_group } => (CandidateTree::subsets(&Groups::new(n, n_group).ok()?), n_group, ""),
            TreeShape::GroupSubsets { n_group } => {
                (CandidateTree::group_subsets(&Groups::new(n, n_group).ok()?), n_group, ", no dual groups")
            }
            TreeShape::OrderedPairs => return None,
        };
        let title = format!("ONE-PASS, {n} candidates in {n_group} groups{without}");
        (tree.len() <= MOST_SUBSETS).then(|| tree_picture(&tree, &title))
    };
    Ok(shapes.into_iter().filter_map(picture).collect())
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
