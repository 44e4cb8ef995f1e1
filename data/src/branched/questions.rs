//! SQuAD's questions, those about one paragraph together (Rajpurkar et al. 2016).

use std::path::Path;

use serde::Deserialize;

use super::{Branch, BranchedText, SquadQuestionsConfig, TextSink};
use crate::random::Stream;
use crate::{DataError, files};

#[derive(Deserialize)]
struct File {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    id: String,
    question: String,
    #[serde(default)]
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
}

impl SquadQuestionsConfig {
    pub(super) fn read(&self, sink: &mut TextSink<'_>) -> Result<(), DataError> {
        let file: File = serde_json::from_slice(&files::read_bytes(&self.path)?)
            .map_err(|error| DataError::malformed(&self.path, error.line() as u64, error.to_string()))?;
        let mut paragraphs: Vec<(String, Paragraph)> = Vec::new();
        for (number, article) in file.data.into_iter().enumerate() {
            let named = |(place, paragraph)| (format!("{number}-{place}"), paragraph);
            paragraphs.extend(article.paragraphs.into_iter().enumerate().map(named));
        }
        if let Some(seed) = self.shuffle_seed {
            Stream::new("order of SQuAD paragraphs", &[seed]).shuffle(&mut paragraphs);
        }
        for (row, (id, paragraph)) in paragraphs.into_iter().enumerate() {
            if !self.offer(id, paragraph, &self.path, row as u64 + 1, sink)? {
                break;
            }
        }
        Ok(())
    }

    /// Offers a paragraph with enough questions; false when no further one is wanted.
    fn offer(
        &self,
        id: String,
        paragraph: Paragraph,
        path: &Path,
        row: u64,
        sink: &mut TextSink<'_>,
    ) -> Result<bool, DataError> {
        if paragraph.qas.len() < self.min_questions.max(1) {
            sink.report.drop_sample("too few questions");
            return Ok(true);
        }
        let over = paragraph.qas.len().saturating_sub(self.max_questions);
        sink.report.note("questions beyond `max_questions` left out", over as u64);
        let branch = |question: Question| Branch {
            id: question.id,
            prompt: question.question.trim().to_owned(),
            answers: question.answers.into_iter().map(|answer| answer.text).collect(),
        };
        let branches = paragraph.qas.into_iter().take(self.max_questions).map(branch).collect();
        let background = paragraph.context.trim().to_owned();
        sink.offer(BranchedText { id, background, branches, origin: "squad".into() }, path, row)
    }
}
