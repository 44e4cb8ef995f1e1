//! Scores and costs of answers, and their table.

use data::branched::BranchedText;
use serde::{Deserialize, Serialize};

use super::config::{AnswerConfig, AnswerDecoder, AnswerNormalisation};
use super::evaluate::{AnswerLine, score};
use crate::EvaluatorError;
use crate::latency::{Latency, Speedup};
use crate::stats::{Bootstrap, Interval};
use crate::table::{Better, Cell, Column, Table};

/// One decoder of one model on one text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TextScores {
    /// Questions with accepted answers.
    pub questions: u32,
    /// All questions: costs are those of all of them. 0 in what was written before they were counted.
    #[serde(default)]
    pub asked: u32,
    /// Sum of exact matches over them.
    pub exact_match: f64,
    /// Sum of F1.
    pub f1: f64,
    /// Wall clock of all questions of the text.
    pub seconds: f64,
    /// Passes of the model.
    pub forward_passes: u32,
    /// Tokens that went through the model.
    pub tokens_computed: u64,
    /// Tokens of the answers.
    pub new_tokens: u64,
}

/// One decoder of one model on a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerRow {
    /// Which.
    pub decoder: AnswerDecoder,
    /// In the set's order.
    pub texts: Vec<TextScores>,
    /// MiB beside the model, at the fullest moment of answering the longest text (`columnar`: the longest text's batch). None where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<f64>,
}

/// One model on a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerEvaluation {
    /// Set.
    pub set: String,
    /// Model.
    pub model: String,
    /// In the order of the settings.
    pub rows: Vec<AnswerRow>,
}

impl AnswerEvaluation {
    /// F1 of each decoder, in percent, for a line of the log: `F1 columnar 70.0, one_by_one 69.7`.
    #[must_use]
    pub fn key_figures(&self) -> String {
        let of = |row: &AnswerRow| {
            let questions: u32 = row.texts.iter().map(|text| text.questions).sum();
            let f1: f64 = row.texts.iter().map(|text| text.f1).sum();
            (questions > 0).then(|| 100.0 * f1 / f64::from(questions))
        };
        let figure = |row: &AnswerRow| match of(row) {
            Some(f1) => format!("{} {f1:.1}", row.decoder.name()),
            None => format!("{} without accepted answers", row.decoder.name()),
        };
        format!("F1 {}", self.rows.iter().map(figure).collect::<Vec<_>>().join(", "))
    }

    /// Scores lines; `texts` and `lines` are in the same order.
    #[must_use]
    pub fn of(
        set: &str,
        model: &str,
        texts: &[BranchedText],
        lines: &[AnswerLine],
        normalisation: AnswerNormalisation,
    ) -> Self {
        let decoders = lines.first().map_or(0, |line| line.decoders.len());
        let rows = (0..decoders).map(|index| AnswerRow {
            decoder: lines[0].decoders[index].decoder,
            texts: texts
                .iter()
                .zip(lines)
                .map(|(text, line)| TextScores::of(text, line, index, normalisation))
                .collect(),
            memory_mib: None,
        });
        Self { set: set.to_owned(), model: model.to_owned(), rows: rows.collect() }
    }
}

impl TextScores {
    fn of(text: &BranchedText, line: &AnswerLine, decoder: usize, normalisation: AnswerNormalisation) -> Self {
        let line = &line.decoders[decoder];
        let answered = text.branches.iter().zip(&line.answers).filter(|(branch, _)| !branch.answers.is_empty());
        let scores: Vec<(f64, f64)> =
            answered.map(|(branch, answer)| score(answer, &branch.answers, normalisation)).collect();
        Self {
            questions: scores.len() as u32,
            asked: text.branches.len() as u32,
            exact_match: scores.iter().map(|score| score.0).sum(),
            f1: scores.iter().map(|score| score.1).sum(),
            seconds: line.seconds,
            forward_passes: line.forward_passes,
            tokens_computed: line.tokens_computed,
            new_tokens: line.new_tokens,
        }
    }
}

impl AnswerRow {
    fn questions(&self) -> f64 {
        self.texts.iter().map(|text| f64::from(text.questions)).sum()
    }

    /// Wall clock of each text.
    #[must_use]
    pub fn seconds(&self) -> Vec<f64> {
        self.texts.iter().map(|text| text.seconds).collect()
    }

    fn asked(&self) -> f64 {
        self.texts.iter().map(|text| f64::from(text.asked.max(text.questions))).sum()
    }

    /// Mean over the questions with accepted answers.
    fn per_question(&self, of: impl Fn(&TextScores) -> f64) -> f64 {
        self.texts.iter().map(of).sum::<f64>() / self.questions().max(1.0)
    }

    /// A cost, over all questions.
    fn per_asked(&self, of: impl Fn(&TextScores) -> f64) -> Cell {
        Cell::number(self.texts.iter().map(of).sum::<f64>() / self.asked().max(1.0))
    }

    /// F1 in percent over the questions with accepted answers, and its interval over texts; none without such questions.
    ///
    /// # Errors
    /// Nothing to resample.
    pub fn f1_percent(&self, bootstrap: &Bootstrap) -> Result<Option<(f64, Interval)>, EvaluatorError> {
        let Cell::Value(value) = self.percent(|text| text.f1, bootstrap)? else { return Ok(None) };
        Ok(value.interval.map(|interval| (value.value, interval)))
    }

    /// Percent of a measure over the questions with accepted answers, with an interval over texts; nothing without such questions.
    pub(super) fn percent(
        &self,
        of: impl Fn(&TextScores) -> f64,
        bootstrap: &Bootstrap,
    ) -> Result<Cell, EvaluatorError> {
        if self.questions() == 0.0 {
            return Ok(Cell::Empty);
        }
        let pairs: Vec<(f64, f64)> =
            self.texts.iter().map(|text| (100.0 * of(text), f64::from(text.questions))).collect();
        Ok(Cell::with_interval(100.0 * self.per_question(of), bootstrap.ratio(&pairs)?))
    }

    /// Points of a measure that this row is above another one over the same texts.
    pub(super) fn above(
        &self,
        other: &Self,
        of: impl Fn(&TextScores) -> f64,
        bootstrap: &Bootstrap,
    ) -> Result<Cell, EvaluatorError> {
        if self.questions() == 0.0 {
            return Ok(Cell::Empty);
        }
        let pair = |(own, other): (&TextScores, &TextScores)| (100.0 * (of(own) - of(other)), f64::from(own.questions));
        let pairs: Vec<(f64, f64)> = self.texts.iter().zip(&other.texts).map(pair).collect();
        let points = 100.0 * (self.per_question(&of) - other.per_question(&of));
        Ok(Cell::with_interval(points, bootstrap.ratio(&pairs)?))
    }
}

/// The table of all models and decoders.
///
/// # Errors
/// Nothing to resample, or rows of different texts.
pub fn answers_table(evaluations: &[AnswerEvaluation], config: &AnswerConfig) -> Result<Table, EvaluatorError> {
    let columns = vec![
        Column::text("set", "Set"),
        Column::text("model", "Model"),
        Column::text("decoder", "Decoder"),
        Column::number("exact_match", "EM", 1, Some(Better::Higher)).unit("%"),
        Column::number("f1", "F1", 1, Some(Better::Higher)).unit("%"),
        Column::number("f1_difference", "F1 above baseline", 1, None).unit("points"),
        Column::number("seconds", "Median a text", 3, Some(Better::Lower)).unit("s"),
        Column::number("speedup", "Speedup", 2, Some(Better::Higher)).unit("x"),
        Column::number("passes", "Passes a question", 2, Some(Better::Lower)),
        Column::number("tokens_read", "Tokens read a question", 0, Some(Better::Lower)),
        Column::number("new_tokens", "New tokens a question", 1, None),
        Column::number("memory_mib", "Memory", 0, Some(Better::Lower)).unit("MiB"),
    ];
    let mut table = Table::new("answers", "Answers", columns);
    let baseline = config.baseline();
    let mut counts = Vec::new();
    for evaluation in evaluations {
        let base = baseline.as_ref().and_then(|baseline| {
            let of_set = evaluations.iter().filter(|other| other.set == evaluation.set);
            let other = of_set.into_iter().find(|other| other.model == baseline.model)?;
            other.rows.iter().find(|row| row.decoder == baseline.decoder)
        });
        for row in &evaluation.rows {
            let mut count = format!("{}: {} questions about {} texts", evaluation.set, row.asked(), row.texts.len());
            if row.questions() < row.asked() {
                count += &format!(" ({} with accepted answers, which EM and F1 are of)", row.questions());
            }
            if !counts.contains(&count) {
                counts.push(count);
            }
            table.push(cells(evaluation, row, base, config)?);
        }
    }
    if let Some(baseline) = &baseline {
        table.caption = format!("{}. Baseline: {} of {}.", counts.join("; "), baseline.decoder.name(), baseline.model);
    }
    if evaluations.iter().any(|evaluation| evaluation.set != evaluations[0].set) {
        // The best of several sets would compare what cannot be compared.
        table.columns.iter_mut().for_each(|column| column.better = None);
    }
    let script = match config.normalisation {
        AnswerNormalisation::Official => "SQuAD's official script",
        AnswerNormalisation::Published => {
            "SQuAD's official script after a label `answer:` is taken off (the published evaluation)"
        }
    };
    table.notes.push(format!(
        "EM and F1 as {script}, first lines of the answers; intervals from resampled texts. Speedup: median over texts of the \
         baseline's seconds by the row's. Memory: what answering the longest text (`columnar`: its batch) takes beside the model at the fullest moment."
    ));
    Ok(table)
}

fn cells(
    evaluation: &AnswerEvaluation,
    row: &AnswerRow,
    base: Option<&AnswerRow>,
    config: &AnswerConfig,
) -> Result<Vec<Cell>, EvaluatorError> {
    let bootstrap = &config.bootstrap;
    let other = base.filter(|base| !std::ptr::eq(*base, row));
    let difference = other.map_or(Ok(Cell::Empty), |base| row.above(base, |text| text.f1, bootstrap))?;
    let speedup = other.map_or(Ok(Cell::Empty), |base| {
        let speedup = Speedup::paired(&row.seconds(), &base.seconds(), bootstrap)?;
        Ok::<_, EvaluatorError>(Cell::with_interval(speedup.median, speedup.interval))
    })?;
    Ok(vec![
        Cell::text(&evaluation.set),
        Cell::text(&evaluation.model),
        Cell::text(row.decoder.name()),
        row.percent(|text| text.exact_match, bootstrap)?,
        row.percent(|text| text.f1, bootstrap)?,
        difference,
        Cell::number(Latency::of(&row.seconds()).median),
        speedup,
        row.per_asked(|text| f64::from(text.forward_passes)),
        row.per_asked(|text| text.tokens_computed as f64),
        row.per_asked(|text| text.new_tokens as f64),
        row.memory_mib.map_or(Cell::Empty, Cell::number),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::config::AnswerSystem;

    fn row(decoder: AnswerDecoder, scores: &[(u32, f64)], seconds: f64) -> AnswerRow {
        let text = |(questions, f1): &(u32, f64)| TextScores {
            questions: *questions,
            asked: *questions + 1,
            exact_match: f1.floor(),
            f1: *f1,
            seconds,
            forward_passes: 4,
            tokens_computed: 100,
            new_tokens: 8,
        };
        AnswerRow { decoder, texts: scores.iter().map(text).collect(), memory_mib: None }
    }

    #[test]
    fn means_are_over_questions_and_differences_are_paired() {
        let evaluation = AnswerEvaluation {
            set: "dev".into(),
            model: "m".into(),
            rows: vec![
                row(AnswerDecoder::OneByOne, &[(4, 2.0), (1, 1.0)], 2.0),
                row(AnswerDecoder::Columnar, &[(4, 3.0), (1, 1.0)], 0.5),
            ],
        };
        let system = AnswerSystem {
            model: "m".into(),
            decoders: vec![AnswerDecoder::OneByOne, AnswerDecoder::Columnar],
            name: None,
            rope: None,
        };
        let config: AnswerConfig =
            serde_json::from_value(serde_json::json!({"sets": ["dev"], "systems": [system]})).unwrap();
        assert!(config.validate().is_empty());
        let first = evaluation.clone();
        let table = answers_table(std::slice::from_ref(&evaluation), &config).unwrap();
        let value =
            |row: usize, column: usize| table.rows[row][column].value().map(|value| (value * 1e6).round() / 1e6);
        assert_eq!((value(0, 4), value(1, 4)), (Some(60.0), Some(80.0)), "3 of 5 and 4 of 5");
        assert_eq!((value(0, 5), value(1, 5)), (None, Some(20.0)));
        assert_eq!((value(0, 7), value(1, 7)), (None, Some(4.0)));
        assert_eq!(value(1, 8), Some((8.0f64 / 7.0 * 1e6).round() / 1e6), "costs are those of all seven questions");
        let counted = "7 questions about 2 texts (5 with accepted answers, which EM and F1 are of)";
        assert!(table.caption.contains(counted), "{}", table.caption);
        assert!(table.columns.iter().any(|column| column.better.is_some()));

        let mut other = evaluation;
        other.set = "test".into();
        other.rows.iter_mut().flat_map(|row| &mut row.texts).for_each(|text| text.questions = 0);
        let table = answers_table(&[first, other], &config).unwrap();
        assert!(table.columns.iter().all(|column| column.better.is_none()), "two sets");
        assert_eq!((&table.rows[2][3], &table.rows[3][5]), (&Cell::Empty, &Cell::Empty), "nothing to score");
    }
}
