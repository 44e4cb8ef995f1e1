//! Question by question: what two systems answered, in one run or in two.

use std::collections::HashMap;

use data::branched::BranchedText;
use evaluator::answer::{AnswerLine, AnswerNormalisation, score};
use evaluator::read_lines;
use evaluator::report::{AnsweredQuestion, QueryDifferences};

use crate::run_folder::RunFolder;

/// A row of a run's answers.
pub struct AnsweredBy<'a> {
    /// As the page names it.
    pub label: String,
    /// The run.
    pub folder: &'a RunFolder,
    /// Model.
    pub model: &'a str,
    /// Decoder.
    pub decoder: &'a str,
}

/// One system against another on a set's texts; none where they have no question with accepted answers in common.
///
/// # Errors
/// Predictions that cannot be read.
pub fn question_by_question(
    set: &str,
    texts: &[BranchedText],
    (own, baseline): (&AnsweredBy<'_>, &AnsweredBy<'_>),
    normalisation: AnswerNormalisation,
) -> anyhow::Result<Option<QueryDifferences>> {
    let (ours, theirs) = (own.answers(set)?, baseline.answers(set)?);
    let questions = questions(texts, &ours, &theirs, normalisation);
    let found = || QueryDifferences::of_answers(set, (&own.label, &baseline.label), &questions);
    Ok((!questions.is_empty()).then(found))
}

impl AnsweredBy<'_> {
    /// Answers by the id of their text; none where the file is not there, as in a run that was copied without its predictions.
    fn answers(&self, set: &str) -> anyhow::Result<HashMap<String, Vec<String>>> {
        let file = self.folder.answers_of(set, self.model, "jsonl");
        let lines = if file.exists() { read_lines::<AnswerLine>(&file)? } else { Vec::new() };
        let of_row = |line: AnswerLine| {
            let own = line.decoders.into_iter().find(|own| own.decoder.name() == self.decoder)?;
            Some((line.id, own.answers))
        };
        Ok(lines.into_iter().filter_map(of_row).collect())
    }
}

/// Questions with accepted answers that both rows answered.
fn questions<'a>(
    texts: &'a [BranchedText],
    own: &'a HashMap<String, Vec<String>>,
    other: &'a HashMap<String, Vec<String>>,
    normalisation: AnswerNormalisation,
) -> Vec<AnsweredQuestion<'a>> {
    let mut questions = Vec::new();
    for text in texts {
        let (Some(own), Some(other)) = (own.get(&text.id), other.get(&text.id)) else { continue };
        for (branch, (own, other)) in text.branches.iter().zip(own.iter().zip(other)) {
            if branch.answers.is_empty() {
                continue;
            }
            let f1 = |answer: &str| score(answer, &branch.answers, normalisation).1;
            questions.push(AnsweredQuestion {
                id: &branch.id,
                question: &branch.prompt,
                accepted: &branch.answers,
                own: (f1(own), own),
                baseline: (f1(other), other),
            });
        }
    }
    questions
}
