//! A model's answers to all texts of a set, in several ways, scored against the accepted answers.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use data::branched::{Branch, BranchPrompts, BranchedText};
use model::CausalLm;
use serde::{Deserialize, Serialize};

use super::config::{AnswerConfig, AnswerDecoder, AnswerNormalisation};
use super::{AnswerOptions, AnswerPrompt, Answers, answer_columns, answer_one_by_one, answer_shared_prefix};
use crate::EvaluatorError;
use crate::kept_lines::{KeptLine, KeptLines};
use crate::measures::squad::{exact_match, f1};
use crate::rank_share::{RankShare, parts};

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

impl KeptLine for AnswerLine {
    fn content_key(&self) -> &str {
        &self.content_key
    }

    fn id(&self) -> &str {
        &self.id
    }
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
    let mut kept = job.open(job.predictions)?;
    let all: Vec<usize> = (0..job.texts.len()).collect();
    job.answer_open(&all, &KeptLines::none(), &mut kept, on_text)?;
    Ok(job.texts.iter().filter_map(|text| kept.get(&text.id).cloned()).collect())
}

/// Answers a rank's texts that the job's file does not hold, into a part beside it. `Break` stops; what is done is kept.
///
/// # Errors
/// As [`evaluate_answers`].
pub fn answer_share(
    job: &AnswerJob<'_>,
    share: RankShare,
    on_text: &mut dyn FnMut(AnswerProgress) -> ControlFlow<()>,
) -> Result<(), EvaluatorError> {
    let before = job.read(job.predictions)?;
    let mut own = job.open(&share.part(job.predictions))?;
    let mine: Vec<usize> = share.of(job.texts.len()).collect();
    job.answer_open(&mine, &before, &mut own, on_text)
}

/// Takes the lines of all parts, of whatever number of ranks, into the job's file and removes the parts. For one rank, while no other
/// answers.
///
/// # Errors
/// Files that cannot be read or written.
pub fn merge_answers(job: &AnswerJob<'_>) -> Result<(), EvaluatorError> {
    let mut all = job.open(job.predictions)?;
    for part in parts(job.predictions)? {
        let lines = job.read(&part)?;
        for text in job.texts {
            if let (None, Some(line)) = (all.get(&text.id), lines.get(&text.id)) {
                all.add(line.clone())?;
            }
        }
        std::fs::remove_file(&part).map_err(EvaluatorError::write(&part))?;
    }
    Ok(())
}

impl AnswerJob<'_> {
    fn open(&self, path: &Path) -> Result<KeptLines<AnswerLine>, EvaluatorError> {
        KeptLines::open(path, self.content_key, self.is_whole())
    }

    fn read(&self, path: &Path) -> Result<KeptLines<AnswerLine>, EvaluatorError> {
        KeptLines::read(path, self.content_key, self.is_whole())
    }

    /// Whether a line has answers by the job's decoders to all questions of one of its texts.
    fn is_whole(&self) -> impl Fn(&AnswerLine) -> bool {
        let questions: HashMap<&str, usize> =
            self.texts.iter().map(|text| (text.id.as_str(), text.branches.len())).collect();
        move |line| {
            let wanted = questions.get(line.id.as_str());
            line.decoders.iter().map(|own| own.decoder).eq(self.decoders.iter().copied())
                && line.decoders.iter().all(|own| Some(&own.answers.len()) == wanted)
        }
    }

    /// Answers those of some texts that neither file holds, and adds them to `own`.
    fn answer_open(
        &self,
        places: &[usize],
        before: &KeptLines<AnswerLine>,
        own: &mut KeptLines<AnswerLine>,
        on_text: &mut dyn FnMut(AnswerProgress) -> ControlFlow<()>,
    ) -> Result<(), EvaluatorError> {
        let is_open = |id: &str| before.get(id).is_none() && own.get(id).is_none();
        let open: Vec<usize> = places.iter().copied().filter(|place| is_open(&self.texts[*place].id)).collect();
        let (total, done) = (places.len(), places.len() - open.len());
        let size = self.config.texts_per_batch.max(1);
        for (number, batch) in open.chunks(size).enumerate() {
            if on_text(AnswerProgress { done: done + number * size, total }).is_break() {
                return Err(EvaluatorError::Interrupted);
            }
            if number == 0 {
                // the first passes of a process are slow
                self.answer(batch)?;
            }
            for line in self.answer(batch)? {
                own.add(line)?;
            }
        }
        let _ = on_text(AnswerProgress { done: total, total });
        Ok(())
    }

    /// The lines of some texts, by their places.
    fn answer(&self, batch: &[usize]) -> Result<Vec<AnswerLine>, EvaluatorError> {
        let prompts = self.prompts(batch)?;
        let line = |prompt: &AnswerPrompt| AnswerLine {
            content_key: self.content_key.to_owned(),
            id: prompt.id.clone(),
            decoders: Vec::with_capacity(self.decoders.len()),
        };
        let mut lines: Vec<AnswerLine> = prompts.iter().map(line).collect();
        for decoder in self.decoders {
            for (line, answers) in lines.iter_mut().zip(self.answer_by(*decoder, &prompts)?) {
                line.decoders.push(self.decoded(*decoder, &answers)?);
            }
        }
        Ok(lines)
    }

    /// One decoder's answers to the questions about some texts: all side by side by `columnar`, else text by text.
    pub(super) fn answer_by(
        &self,
        decoder: AnswerDecoder,
        prompts: &[AnswerPrompt],
    ) -> Result<Vec<Answers>, EvaluatorError> {
        let options = AnswerOptions {
            max_new_tokens: self.config.max_new_tokens,
            end_tokens: self.prompts.end_tokens(),
            sampling: self.config.sampling,
        };
        match decoder {
            AnswerDecoder::Columnar => Ok(shared(answer_columns(self.model, prompts, &options, &mut |_, _, _| ())?)),
            _ => prompts.iter().map(|prompt| answer_with(decoder, self.model, prompt, &options)).collect(),
        }
    }

    /// The prompts of some texts, by their places.
    pub(super) fn prompts(&self, batch: &[usize]) -> Result<Vec<AnswerPrompt>, EvaluatorError> {
        batch.iter().map(|index| self.prompt(&self.texts[*index])).collect()
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

/// A batch's seconds in equal parts, and its passes dealt out: the sums are the batch's.
fn shared(mut answers: Vec<Answers>) -> Vec<Answers> {
    let texts = answers.len().max(1) as u32;
    for (place, answers) in answers.iter_mut().enumerate() {
        answers.seconds /= f64::from(texts);
        let all = answers.forward_passes;
        answers.forward_passes = all / texts + u32::from((place as u32) < all % texts);
    }
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
    fn a_batch_costs_what_its_texts_cost_together() {
        let one = Answers { answers: Vec::new(), forward_passes: 11, tokens_computed: 5, seconds: 6.0 };
        let each = shared(vec![one; 4]);
        assert_eq!(each.iter().map(|answers| answers.forward_passes).collect::<Vec<_>>(), [3, 3, 3, 2]);
        assert_eq!(each.iter().map(|answers| answers.seconds).sum::<f64>(), 6.0);
    }
}
