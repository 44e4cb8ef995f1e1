//! Query by query: the best row of several runs beside the row that it is compared with.

use std::collections::HashMap;

use data::RankingSample;
use data::branched::BranchedText;
use data::prepared::{PreparedSet, Record};
use evaluator::answer::{AnswerNormalisation, AnsweredRun, best_answered_pairs};
use evaluator::evaluate::{FIRST_STAGE, PredictionLine, RowName, RunBaseline, RunEvaluations, RunPair, best_pairs};
use evaluator::measures::RankingMeasure;
use evaluator::read_lines;
use evaluator::report::{QueryDifferences, Side};

use crate::run_folder::RunFolder;
use crate::stages::answered::{AnsweredBy, question_by_question};

/// The runs' folders by their names.
pub type Folders = HashMap<String, RunFolder>;

/// Of rankings, by the first measure; a set each.
///
/// # Errors
/// Predictions or a prepared set that cannot be read.
pub fn of_rankings(
    folders: &Folders,
    runs: &[RunEvaluations],
    baseline: &RunBaseline,
    measures: &[RankingMeasure],
) -> anyhow::Result<Vec<QueryDifferences>> {
    best_pairs(runs, baseline, measures).iter().map(|pair| of_pair(folders, pair)).collect()
}

fn of_pair(folders: &Folders, pair: &RunPair) -> anyhow::Result<QueryDifferences> {
    let sides = [&pair.own, &pair.baseline];
    let labels = sides.map(|(row, _)| label(row));
    let samples: [Vec<RankingSample>; 2] =
        [rows(folders, &pair.own.0, &pair.set)?, rows(folders, &pair.baseline.0, &pair.set)?];
    let lines = [lines(folders, &pair.own.0, &pair.set)?, lines(folders, &pair.baseline.0, &pair.set)?];
    let side = |place: usize| Side {
        label: &labels[place],
        decoder: &sides[place].0.decoder,
        values: &sides[place].1,
        lines: &lines[place],
        samples: &samples[place],
    };
    Ok(QueryDifferences::of(&pair.set, &pair.measure.label(), (side(0), side(1)), &pair.queries))
}

/// Of answers, by F1, scored as `normalisation` says.
///
/// # Errors
/// As [`of_rankings`].
pub fn of_answers(
    folders: &Folders,
    runs: &[AnsweredRun],
    baseline: &RunBaseline,
    normalisation: impl Fn(&RunFolder) -> anyhow::Result<AnswerNormalisation>,
) -> anyhow::Result<Vec<QueryDifferences>> {
    let mut found = Vec::new();
    for (set, own, base) in best_answered_pairs(runs, baseline) {
        let texts: Vec<BranchedText> = rows(folders, &own, &set)?;
        let sides = (answered(folders, &own), answered(folders, &base));
        let scored = normalisation(&folders[&own.run])?;
        found.extend(question_by_question(&set, &texts, (&sides.0, &sides.1), scored)?);
    }
    Ok(found)
}

fn answered<'a>(folders: &'a Folders, row: &'a RowName) -> AnsweredBy<'a> {
    AnsweredBy { label: label(row), folder: &folders[&row.run], model: &row.model, decoder: &row.decoder }
}

/// A set's rows as the row's run prepared them; none where that run was copied without its sets.
fn rows<R: Record>(folders: &Folders, row: &RowName, set: &str) -> anyhow::Result<Vec<R>> {
    let folder = folders[&row.run].set(set);
    if folder.exists() { Ok(PreparedSet::open(&folder)?.samples()?) } else { Ok(Vec::new()) }
}

fn lines(folders: &Folders, row: &RowName, set: &str) -> anyhow::Result<Vec<PredictionLine>> {
    let file = folders[&row.run].predictions_of(set, &row.model, "jsonl");
    if file.exists() { Ok(read_lines(&file)?) } else { Ok(Vec::new()) }
}

fn label(row: &RowName) -> String {
    if row.decoder == FIRST_STAGE {
        format!("{} · first stage", row.run)
    } else {
        format!("{} · {} · {}", row.run, row.model, row.decoder)
    }
}
