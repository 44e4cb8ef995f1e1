//! SQuAD's questions, those about one paragraph together (Rajpurkar et al. 2016).

use std::collections::HashMap;
use std::path::Path;

use super::{Branch, BranchedText, SquadQuestionsConfig, TextSink};
use crate::DataError;
use crate::random::Stream;
use crate::squad_file::{SquadFile, SquadParagraph, SquadQuestion};

impl SquadQuestionsConfig {
    pub(super) fn read(&self, sink: &mut TextSink<'_>) -> Result<(), DataError> {
        let file = SquadFile::read(&self.path)?;
        let mut paragraphs: Vec<(String, SquadParagraph)> = Vec::new();
        // A text that stands in the file twice is one text with the questions of both.
        let mut place_of: HashMap<String, usize> = HashMap::new();
        for (number, article) in file.data.into_iter().enumerate() {
            for (place, paragraph) in article.paragraphs.into_iter().enumerate() {
                match place_of.get(&paragraph.context) {
                    Some(earlier) => {
                        sink.report.note("paragraphs put together with the same text before", 1);
                        paragraphs[*earlier].1.qas.extend(paragraph.qas);
                    }
                    None => {
                        place_of.insert(paragraph.context.clone(), paragraphs.len());
                        paragraphs.push((format!("{number}-{place}"), paragraph));
                    }
                }
            }
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
        paragraph: SquadParagraph,
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
        let branch = |question: SquadQuestion| Branch {
            id: question.id,
            prompt: question.question.trim().to_owned(),
            answers: question.answers.into_iter().map(|answer| answer.text).collect(),
        };
        let branches = paragraph.qas.into_iter().take(self.max_questions).map(branch).collect();
        let background = paragraph.context.trim().to_owned();
        sink.offer(BranchedText { id, background, branches, origin: "squad".into() }, path, row)
    }
}
