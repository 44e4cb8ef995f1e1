//! Speed of the ways to answer on one machine: random texts, answers of a fixed length, all ways in turn.

use data::random::Stream;
use model::CausalLm;
use native::memory::demand_mib;
use serde::Serialize;

use super::config::AnswerDecoder;
use super::evaluate::answer_with;
use super::{AnswerOptions, AnswerPrompt};
use crate::EvaluatorError;
use crate::sampling::Sampling;
use crate::stats::percentile;

/// What is timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerBench {
    /// Numbers of questions about a text.
    pub questions: Vec<usize>,
    /// Tokens of the text.
    pub background_tokens: usize,
    /// Tokens of a question.
    pub question_tokens: usize,
    /// Tokens of an answer; end tokens do not end it.
    pub answer_tokens: usize,
    /// Timed rounds.
    pub repeats: usize,
    /// Rounds before them.
    pub warmup: usize,
}

/// One way to answer one number of questions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswerTiming {
    /// Questions about the text.
    pub questions: usize,
    /// Name of the decoder.
    pub decoder: &'static str,
    /// Median seconds for all questions.
    pub seconds: f64,
    /// All rounds.
    pub all_seconds: Vec<f64>,
    /// Passes of the model.
    pub forward_passes: u32,
    /// Tokens that went through the model.
    pub tokens_computed: u64,
    /// Median over rounds of `columnar`'s gain: the decoder's seconds by `columnar`'s in the same round.
    pub over_columnar: f64,
    /// MiB beside the model at the fullest moment, in a round of its own. None where the system does not tell.
    pub memory_mib: Option<f64>,
}

/// Times the ways in turn, round by round, so that what else the machine does meets all of them.
///
/// # Errors
/// Nothing to do, a text longer than the context, logits that are not finite.
pub fn answer_bench(
    model: &CausalLm,
    bench: &AnswerBench,
    on_round: &mut dyn FnMut(usize, usize),
) -> Result<Vec<AnswerTiming>, EvaluatorError> {
    check(bench)?;
    let options =
        AnswerOptions { max_new_tokens: bench.answer_tokens, end_tokens: Vec::new(), sampling: Sampling::default() };
    let mut timings = Vec::new();
    for questions in &bench.questions {
        let mut rounds = Vec::new();
        for round in 0..bench.warmup + bench.repeats {
            on_round(*questions, round);
            let prompt = random_prompt(model, bench, *questions, round as u64);
            let run = |decoder: &AnswerDecoder| answer_with(*decoder, model, &prompt, &options);
            let answers = AnswerDecoder::ALL.iter().map(run).collect::<Result<Vec<_>, _>>()?;
            if round >= bench.warmup {
                rounds.push(answers);
            }
        }
        let columnar = AnswerDecoder::ALL.iter().position(|decoder| *decoder == AnswerDecoder::Columnar);
        let columnar = columnar.expect("it is one of them");
        let prompt = random_prompt(model, bench, *questions, 0);
        for (index, decoder) in AnswerDecoder::ALL.iter().enumerate() {
            let (answered, memory_mib) = demand_mib(model.device(), || answer_with(*decoder, model, &prompt, &options));
            answered?;
            let all_seconds: Vec<f64> = rounds.iter().map(|round| round[index].seconds).collect();
            let ratios: Vec<f64> =
                rounds.iter().map(|round| round[index].seconds / round[columnar].seconds.max(1e-9)).collect();
            timings.push(AnswerTiming {
                questions: *questions,
                decoder: decoder.name(),
                seconds: percentile(&all_seconds, 50.0),
                forward_passes: rounds[0][index].forward_passes,
                tokens_computed: rounds[0][index].tokens_computed,
                over_columnar: percentile(&ratios, 50.0),
                memory_mib,
                all_seconds,
            });
        }
    }
    Ok(timings)
}

fn check(bench: &AnswerBench) -> Result<(), EvaluatorError> {
    let numbers = [
        ("questions", bench.questions.iter().copied().min().unwrap_or(0)),
        ("question_tokens", bench.question_tokens),
        ("answer_tokens", bench.answer_tokens),
        ("repeats", bench.repeats),
    ];
    let problems: Vec<String> = numbers
        .iter()
        .filter(|(_, number)| *number == 0)
        .map(|(key, _)| format!("`{key}`: 0, wanted 1 or more"))
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(EvaluatorError::Config { problems }) }
}

fn random_prompt(model: &CausalLm, bench: &AnswerBench, questions: usize, round: u64) -> AnswerPrompt {
    let mut stream = Stream::new("bench answer", &[questions as u64, round]);
    let vocab = model.config.vocab_size as u64;
    let mut tokens = |count: usize| (0..count).map(|_| stream.below(vocab) as i64).collect::<Vec<_>>();
    AnswerPrompt {
        id: format!("bench round {round}"),
        background: tokens(bench.background_tokens),
        questions: (0..questions).map(|_| tokens(bench.question_tokens)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::Architecture;
    use model::{LoadOptions, ModelConfig};
    use tch::{Device, Kind};

    #[test]
    fn passes_and_tokens_are_what_the_ways_say() {
        let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
        let model = CausalLm::random(ModelConfig::tiny(Architecture::Llama, 60), 1, &options);
        let bench = AnswerBench {
            questions: vec![3],
            background_tokens: 10,
            question_tokens: 4,
            answer_tokens: 5,
            repeats: 1,
            warmup: 0,
        };
        let timings = answer_bench(&model, &bench, &mut |_, _| {}).unwrap();
        let costs: Vec<_> = timings.iter().map(|t| (t.decoder, t.forward_passes, t.tokens_computed)).collect();
        // the last token of an answer is never read
        let wanted = [
            ("one_by_one", 15, 3 * (10 + 4 + 4)),
            ("one_by_one_cached", 16, 10 + 3 * (4 + 4)),
            ("shared_prefix", 5, 10 + 3 * (4 + 4)),
            ("columnar", 5, 10 + 3 * (4 + 4)),
        ];
        assert_eq!(costs, wanted);
        let told = native::memory::reset_peak(Device::Cpu);
        assert!(timings.iter().all(|timing| timing.memory_mib.is_some() == told), "{timings:?}");
        let none = AnswerBench { questions: vec![], ..bench };
        assert!(answer_bench(&model, &none, &mut |_, _| {}).unwrap_err().to_string().contains("`questions`: 0"));
    }
}
