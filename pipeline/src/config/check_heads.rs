//! Checks of decoders that need heads or groups: what would fail only after training is told before.

use data::sources::{RankingSetConfig, SourceConfig};
use evaluator::decode::DecoderKind;
use model::one_pass::{Groups, Variant};

use super::check::{identifier_limit, spoken_by_component};
use super::experiment::ExperimentConfig;
use super::problem::{Problem, suggestion};

/// Decoders with heads need the section that trains them; its sets must be there and of lists as long as those that are ranked.
pub(super) fn check(config: &ExperimentConfig, problems: &mut Vec<Problem>) {
    let Some(evaluate) = &config.evaluate else { return };
    check_groups(config, &evaluate.decoders, problems);
    let headed = evaluate.decoders.iter().find(|kind| kind.head().is_some());
    let Some(heads) = &config.heads else {
        if let Some(kind) = headed {
            let text = format!("`{kind}` needs a trained head, and the file has no section `heads`");
            let hint = "write `heads: {train: SET, validation: SET}`; sets are those of `data.sets`";
            problems.push(Problem::new("evaluate.decoders", text).hint(hint));
        }
        return;
    };
    let sets: Vec<&str> = config.data.sets.keys().map(String::as_str).collect();
    for (key, names) in [("train", &heads.train), ("validation", &heads.validation)] {
        let path = format!("heads.{key}");
        if names.0.is_empty() {
            problems.push(Problem::new(&path, "empty, wanted the name of a data set"));
        }
        for name in &names.0 {
            match config.data.sets.get(name) {
                None => {
                    let problem = Problem::new(&path, format!("there is no data set `{name}`"));
                    problems.push(problem.hint(suggestion(name, &sets)));
                }
                Some(set) if headed.is_some() => problems.extend(check_length(config, &path, name, set)),
                Some(_) => {}
            }
        }
    }
    problems.extend(heads.one_pass.validate().iter().map(|text| spoken_by_component("heads.one_pass", text)));
    problems.extend(heads.draft.validate().iter().map(|text| spoken_by_component("heads.draft", text)));
}

/// Candidates of each list of the set; none where lists may differ.
fn length(set: &RankingSetConfig) -> Option<usize> {
    let own = match &set.source {
        SourceConfig::Generated(source) => Some(source.num_candidates.min(set.top_k.unwrap_or(usize::MAX))),
        _ => None,
    };
    set.exact_candidates.or(own)
}

/// Lengths of what decoders are given, each with the set: a list, or the windows of a longer one.
fn windows(config: &ExperimentConfig) -> Vec<(&str, usize)> {
    let Some(evaluate) = &config.evaluate else { return Vec::new() };
    // What is wrong with the window is told elsewhere, and sweeping by it would not end.
    if !evaluate.window.validate().is_empty() {
        return Vec::new();
    }
    let of_set = |name| {
        let length = config.data.sets.get(name).and_then(length)?;
        Some(evaluate.window.sweep(length).into_iter().map(move |window| (name, window.len())))
    };
    config.evaluation_sets().filter_map(of_set).flatten().collect()
}

/// A head serves lists of the length it has learned from.
fn check_length(config: &ExperimentConfig, path: &str, name: &str, set: &RankingSetConfig) -> Option<Problem> {
    let learned = length(set)?;
    let limit = identifier_limit(config);
    if learned > limit {
        let kind = config.data.prompt.identifiers.name();
        let text = format!("lists of `{name}` have {learned} candidates, and {kind} identifiers name at most {limit}");
        return Some(Problem::new(path, text).hint(format!("write `exact_candidates: {limit}` or less in `{name}`")));
    }
    let (other, ranked) = windows(config).into_iter().find(|(_, ranked)| *ranked != learned)?;
    let text = format!("heads would learn from lists of {learned} (`{name}`) and rank {ranked} at a time (`{other}`)");
    let hint = "lists must be of one length: `exact_candidates` in both sets, and `evaluate.window.size` no less";
    Some(Problem::new(path, text).hint(hint))
}

/// Candidates must divide into the groups asked for.
fn check_groups(config: &ExperimentConfig, decoders: &[DecoderKind], problems: &mut Vec<Problem>) {
    for (index, kind) in decoders.iter().enumerate() {
        // Ordered pairs need no groups.
        let DecoderKind::OnePass(settings) = kind else { continue };
        if settings.variant == Variant::Permutation {
            continue;
        }
        let wrong = windows(config).into_iter().find_map(|(_, n)| Groups::new(n, settings.n_group).err());
        problems.extend(wrong.map(|error| Problem::new(format!("evaluate.decoders[{index}]"), error.to_string())));
    }
}
