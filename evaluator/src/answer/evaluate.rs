//! A model's answers to all texts of a set, in several ways, scored against the accepted answers.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use data::branched::{Branch, BranchPrompts, BranchedText};
use model::CausalLm;
use serde::{Deserialize, Serialize};

use super::config::{AnswerConfig, AnswerDecoder, AnswerNormalisation};
use super::{AnswerOptions, AnswerPrompt, Answers, answer_columns, answer_one_by_one, answer_shared_prefix};
use crate::EvaluatorError;
use crate::measures::squad::{exact_match, f1};

/// What every decoder answered to the questions of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerLine {
    /// What it depends on.
    pub content_key: String,
    /// Id of the text.
    pub id: String,
    /// In the order of the settings.
    pub decoders: Vec<DecodedAnswers>,
}

/// One decoder's answers to the questions of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecodedAnswers {
    /// Which.
    pub decoder: AnswerDecoder,
    /// First line of each answer.
    pub answers: Vec<String>,
    /// Tokens of all answers, end tokens included.
    pub new_tokens: u64,
    /// Passes of the model.
    pub forward_passes: u32,
    /// Tokens that went through the model.
    pub tokens_computed: u64,
    /// Wall clock.
    pub seconds: f64,
}

/// One model on one set.
pub struct AnswerJob<'a> {
    /// The model.
    pub model: &'a CausalLm,
    /// Tokenises the texts.
    pub prompts: &'a BranchPrompts,
    /// The texts.
    pub texts: &'a [BranchedText],
    /// Ways to answer.
    pub decoders: &'a [AnswerDecoder],
    /// Limits and the choice of tokens.
    pub config: &'a AnswerConfig,
    /// Changes when lines made before are no longer right.
    pub content_key: &'a str,
    /// Where lines are kept.
    pub predictions: &'a Path,
}

/// How far an evaluation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerProgress {
    /// Texts done.
    pub done: usize,
    /// Texts.
    pub total: usize,
}

/// Answers every text that has no line yet; the lines of all texts, in their order.
///
/// # Errors
/// A text longer than the context, logits that are not finite, a file that cannot be written, or `on_text` broke off.
pub fn evaluate_answers(
    job: &AnswerJob<'_>,
    on_text: &mut dyn FnMut(AnswerProgress) -> ControlFlow<()>,
) -> Result<Vec<AnswerLine>, EvaluatorError> {
    let mut kept = KeptLines::open(job.predictions, job.content_key)?;
    let mut lines: Vec<Option<AnswerLine>> = job.texts.iter().map(|text| kept.take(text, job.decoders)).collect();
    let total = job.texts.len();
    let open: Vec<usize> = (0..total).filter(|index| lines[*index].is_none()).collect();
    let before = total - open.len();
    let size = job.config.texts_per_batch.max(1);
    for (number, batch) in open.chunks(size).enumerate() {
        if on_text(AnswerProgress { done: before + number * size, total }).is_break() {
            return Err(EvaluatorError::Interrupted);
        }
        if number == 0 {
            // the first passes of a process are slow
            job.answer(batch)?;
        }
        for (index, line) in batch.iter().zip(job.answer(batch)?) {
            kept.add(&line)?;
            lines[*index] = Some(line);
        }
    }
    let _ = on_text(AnswerProgress { done: total, total });
    Ok(lines.into_iter().flatten().collect())
}

impl AnswerJob<'_> {
    /// The lines of some texts, by their places.
    fn answer(&self, batch: &[usize]) -> Result<Vec<AnswerLine>, EvaluatorError> {
        let prompts: Vec<AnswerPrompt> =
            batch.iter().map(|index| self.prompt(&self.texts[*index])).collect::<Result<_, _>>()?;
        let options = AnswerOptions {
            max_new_tokens: self.config.max_new_tokens,
            end_tokens: self.prompts.end_tokens(),
            sampling: self.config.sampling,
        };
        let line = |prompt: &AnswerPrompt| AnswerLine {
            content_key: self.content_key.to_owned(),
            id: prompt.id.clone(),
            decoders: Vec::with_capacity(self.decoders.len()),
        };
        let mut lines: Vec<AnswerLine> = prompts.iter().map(line).collect();
        for decoder in self.decoders {
            let answers = match decoder {
                AnswerDecoder::Columnar => shared(answer_columns(self.model, &prompts, &options, &mut |_, _, _| ())?),
                _ => prompts
                    .iter()
                    .map(|prompt| answer_with(*decoder, self.model, prompt, &options))
                    .collect::<Result<Vec<_>, _>>()?,
            };
            for (line, answers) in lines.iter_mut().zip(answers) {
                line.decoders.push(self.decoded(*decoder, &answers)?);
            }
        }
        Ok(lines)
    }

    fn prompt(&self, text: &BranchedText) -> Result<AnswerPrompt, EvaluatorError> {
        let question = |(number, branch): (usize, &Branch)| self.prompts.question(number + 1, &branch.prompt);
        Ok(AnswerPrompt {
            id: text.id.clone(),
            background: self.prompts.background(&text.background)?,
            questions: text.branches.iter().enumerate().map(question).collect::<Result<_, _>>()?,
        })
    }

    fn decoded(&self, decoder: AnswerDecoder, answers: &Answers) -> Result<DecodedAnswers, EvaluatorError> {
        let first_line = |ids: &Vec<i64>| -> Result<String, EvaluatorError> {
            Ok(self.prompts.text(ids)?.lines().next().unwrap_or_default().trim().to_owned())
        };
        Ok(DecodedAnswers {
            decoder,
            answers: answers.answers.iter().map(first_line).collect::<Result<_, _>>()?,
            new_tokens: answers.answers.iter().map(|ids| ids.len() as u64).sum(),
            forward_passes: answers.forward_passes,
            tokens_computed: answers.tokens_computed,
            seconds: answers.seconds,
        })
    }
}

/// A batch's seconds, in equal parts.
fn shared(mut answers: Vec<Answers>) -> Vec<Answers> {
    let texts = answers.len().max(1) as f64;
    answers.iter_mut().for_each(|answers| answers.seconds /= texts);
    answers
}

/// Answers the questions of one text.
///
/// # Errors
/// As [`answer_columns`].
pub fn answer_with(
    decoder: AnswerDecoder,
    model: &CausalLm,
    prompt: &AnswerPrompt,
    options: &AnswerOptions,
) -> Result<Answers, EvaluatorError> {
    let mut silent = |_: usize, _: usize, _: i64| ();
    match decoder {
        AnswerDecoder::OneByOne => answer_one_by_one(model, prompt, options, false, &mut silent),
        AnswerDecoder::OneByOneCached => answer_one_by_one(model, prompt, options, true, &mut silent),
        AnswerDecoder::SharedPrefix => answer_shared_prefix(model, prompt, options, &mut silent),
        AnswerDecoder::Columnar => answer_columns(model, std::slice::from_ref(prompt), options, &mut silent)
            .map(|mut answers| answers.remove(0)),
    }
}

/// Exact match and F1 of an answer, the best over the accepted ones.
#[must_use]
pub fn score(answer: &str, accepted: &[String], normalisation: AnswerNormalisation) -> (f64, f64) {
    let answer = match normalisation {
        AnswerNormalisation::Official => answer,
        AnswerNormalisation::Published => without_label(answer),
    };
    let best = |measure: fn(&str, &str) -> f64| accepted.iter().map(|text| measure(answer, text)).fold(0.0, f64::max);
    (best(exact_match), best(f1))
}

fn without_label(answer: &str) -> &str {
    let labels = ["答案:", "答案：", "answer:"];
    let starts = |label: &&str| answer.get(..label.len()).is_some_and(|start| start.eq_ignore_ascii_case(label));
    labels.iter().find(|label| starts(label)).map_or(answer, |label| answer[label.len()..].trim_start())
}

/// Lines that were written before, and the file that new ones are appended to.
struct KeptLines {
    path: PathBuf,
    file: File,
    lines: HashMap<String, AnswerLine>,
}

impl KeptLines {
    /// Lines of another key, and a last line that was cut short, are taken out of the file.
    fn open(path: &Path, content_key: &str) -> Result<Self, EvaluatorError> {
        let bytes = if path.exists() { data::files::read_bytes(path)? } else { Vec::new() };
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = HashMap::new();
        let mut kept = String::new();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let Ok(parsed) = serde_json::from_str::<AnswerLine>(line) else { continue };
            if parsed.content_key == content_key {
                kept += line;
                lines.insert(parsed.id.clone(), parsed);
            }
        }
        if kept != text {
            data::files::write_whole(path, kept.as_bytes())?;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(EvaluatorError::write(folder))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(EvaluatorError::write(path))?;
        Ok(Self { path: path.to_owned(), file, lines })
    }

    fn take(&mut self, text: &BranchedText, decoders: &[AnswerDecoder]) -> Option<AnswerLine> {
        let line = self.lines.remove(&text.id)?;
        let fits = line.decoders.iter().map(|d| d.decoder).eq(decoders.iter().copied())
            && line.decoders.iter().all(|d| d.answers.len() == text.branches.len());
        fits.then_some(line)
    }

    fn add(&mut self, line: &AnswerLine) -> Result<(), EvaluatorError> {
        let json = serde_json::to_string(line).expect("strings and numbers") + "\n";
        // one write, so that a kill leaves a whole line or a cut one, never two mixed
        self.file.write_all(json.as_bytes()).map_err(EvaluatorError::write(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_before_the_answer_costs_only_officially() {
        let accepted = ["Denver Broncos".to_owned()];
        assert_eq!(score("Answer: the Denver Broncos", &accepted, AnswerNormalisation::Published), (1.0, 1.0));
        assert_eq!(score("答案: Denver Broncos!", &accepted, AnswerNormalisation::Published), (1.0, 1.0));
        let (exact, overlap) = score("Answer: the Denver Broncos", &accepted, AnswerNormalisation::Official);
        assert_eq!((exact, overlap), (0.0, 0.8));
        assert_eq!(score("", &[], AnswerNormalisation::Official), (0.0, 0.0));
    }

    #[test]
    fn lines_of_another_key_and_cut_lines_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.jsonl");
        let text = |id: &str| BranchedText {
            id: id.into(),
            background: String::new(),
            branches: vec![],
            origin: String::new(),
        };
        let line = |key: &str, id: &str| AnswerLine { content_key: key.into(), id: id.into(), decoders: vec![] };
        let mut kept = KeptLines::open(&path, "a").unwrap();
        for (key, id) in [("a", "1"), ("b", "2"), ("a", "3")] {
            kept.add(&line(key, id)).unwrap();
        }
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let mut again = KeptLines::open(&path, "a").unwrap();
        assert_eq!(again.take(&text("1"), &[]), Some(line("a", "1")));
        assert_eq!((again.take(&text("2"), &[]), again.take(&text("3"), &[])), (None, None));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }
}
