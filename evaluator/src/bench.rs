//! Decoding speed on one machine: random prompts, nothing to learn, the protocol beside the figures.

use std::path::Path;
use std::rc::Rc;

use data::prompt::RankingPrompt;
use data::random::Stream;
use model::blockwise::BlockwiseHeads;
use model::draft_heads::identifier_rows;
use model::medusa::MedusaHeads;
use model::one_pass::{HierarchicalAttention, OnePassSettings};
use model::{AttentionPattern, CausalLm, LoadOptions};
use serde::Serialize;
use tch::{Device, Tensor, no_grad};

use crate::decode::{Decoded, Decoder, DecoderKind, DecoderParts, LastRead};
use crate::generate::{GenerateOptions, generate_until};
use crate::latency::Latency;
use crate::{EvaluatorError, stats};

/// What is timed.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeBench {
    /// Random prompt tokens. Default 1500.
    pub prompt_tokens: usize,
    /// Candidates; each takes 4 answer tokens (identifier and separator of three) but the last, which takes one less.
    /// Default 20, hence 79 tokens.
    pub num_candidates: usize,
    /// Decoders to time, with heads that are not trained: what they compute does not change what it costs, but how many passes a
    /// lossless decoder takes does. Default those that need no head.
    pub decoders: Vec<DecoderKind>,
    /// Timed rounds; all decoders run once in each. Default 5.
    pub repeats: usize,
    /// Rounds before them. Default 1.
    pub warmup: usize,
    /// Prompts of a round, which decoders take together where they can; seconds are a prompt's share. Default 1.
    pub batch: usize,
    /// Seed of the prompts. Default 42.
    pub seed: u64,
}

impl Default for DecodeBench {
    fn default() -> Self {
        Self {
            prompt_tokens: 1500,
            num_candidates: 20,
            decoders: DecoderKind::PLAIN.to_vec(),
            repeats: 5,
            warmup: 1,
            batch: 1,
            seed: 42,
        }
    }
}

/// One way to decode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecodeTiming {
    /// Decoder, or `prompt_pass` for the bare pass over the prompt.
    pub name: String,
    /// Median seconds.
    pub seconds: f64,
    /// 95th percentile.
    pub seconds_p95: f64,
    /// All rounds, in order.
    pub all_seconds: Vec<f64>,
    /// Passes of the model.
    pub forward_passes: u32,
    /// Tokens of the answer.
    pub new_tokens: u32,
    /// Tokens that went through the model.
    pub tokens_computed: u64,
    /// Answer tokens per second, prompt included in the time.
    pub new_tokens_per_second: f64,
    /// Median over rounds of seconds / seconds of the bare prompt pass in the same round.
    pub prompt_passes: f64,
    /// Median share of the time after the model's last pass, for decoders that tell.
    pub share_after_model: Option<f64>,
}

/// Figures of all decoders.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecodeReport {
    /// What was done, for a reader.
    pub protocol: String,
    /// The bare prompt pass first.
    pub timings: Vec<DecodeTiming>,
    /// Largest resident memory of the process so far.
    pub peak_rss_mib: f64,
    /// Threads libtorch uses in an operation.
    pub threads: i32,
}

/// Times the decoders in turn, round by round, so that what else the machine does meets all of them.
///
/// # Errors
/// Too few tokens or candidates, a prompt beyond the model's context, logits that are not finite.
pub fn decode(
    model: &CausalLm,
    bench: &DecodeBench,
    on_round: &mut dyn FnMut(usize),
) -> Result<DecodeReport, EvaluatorError> {
    check(model, bench)?;
    let ways = bench.decoders.iter().map(|kind| Way::of(model, kind, bench)).collect::<Result<Vec<_>, _>>()?;
    let mut rounds: Vec<Vec<Run>> = Vec::new();
    for round in 0..bench.warmup + bench.repeats {
        let first = round * bench.batch;
        let prompts: Vec<RankingPrompt> =
            (first..first + bench.batch).map(|number| random_prompt(model, bench, number as u64)).collect();
        let bare = prompts.iter().map(|prompt| prompt_pass(model, prompt)).collect::<Result<Vec<_>, _>>()?;
        let mut runs = vec![Run::mean(&bare)];
        for way in &ways {
            runs.push(way.run(model, &prompts)?);
        }
        if round >= bench.warmup {
            rounds.push(runs);
        }
        on_round(round);
    }
    let names = std::iter::once("prompt_pass".to_owned()).chain(bench.decoders.iter().map(DecoderKind::name));
    let timings = names.enumerate().map(|(index, name)| timing(&name, index, &rounds)).collect();
    Ok(DecodeReport {
        protocol: protocol(model, bench),
        timings,
        peak_rss_mib: native::memory::peak_mib(model.device()),
        threads: tch::get_num_threads(),
    })
}

/// Tokens of a full answer: identifiers of one token and separators of three.
fn answer_tokens(bench: &DecodeBench) -> usize {
    4 * bench.num_candidates - 1
}

fn check(model: &CausalLm, bench: &DecodeBench) -> Result<(), EvaluatorError> {
    let mut problems = Vec::new();
    let mut wanted = |name: &str, got: usize, low: usize, high: usize| {
        if got < low || got > high {
            problems.push(format!("`{name}`: {got}, wanted {low} to {high}"));
        }
    };
    wanted("prompt_tokens", bench.prompt_tokens, 1, usize::MAX);
    wanted("num_candidates", bench.num_candidates, 2, (model.config.vocab_size - 4).max(2) as usize);
    wanted("repeats", bench.repeats, 1, usize::MAX);
    wanted("batch", bench.batch, 1, 1024);
    wanted("decoders", bench.decoders.len(), 1, usize::MAX);
    if !problems.is_empty() {
        return Err(EvaluatorError::Config { problems });
    }
    crate::decode::check_context(model, "bench decode", bench.prompt_tokens + answer_tokens(bench) + 1)
}

fn protocol(model: &CausalLm, bench: &DecodeBench) -> String {
    format!(
        "random prompt of {} tokens, new in each round; {} candidates, answer of {} tokens; autoregressive is greedy, \
         one token a pass, with a key-value cache, and does not stop at end tokens; batch {}, weights {:?} on {:?}; \
         {} warm-up and {} timed rounds in which the bare prompt pass and all decoders run in turn; medians",
        bench.prompt_tokens,
        bench.num_candidates,
        answer_tokens(bench),
        bench.batch,
        model.kind(),
        model.device(),
        bench.warmup,
        bench.repeats,
    )
}

fn random_prompt(model: &CausalLm, bench: &DecodeBench, round: u64) -> RankingPrompt {
    let mut stream = Stream::new("bench decode", &[bench.seed, round]);
    let vocab = model.config.vocab_size as u64;
    let n = bench.num_candidates as i64;
    RankingPrompt {
        query_id: format!("bench round {round}"),
        text: String::new(),
        input_ids: (0..bench.prompt_tokens).map(|_| stream.below(vocab) as i64).collect(),
        opening: Vec::new(),
        // any tokens do: the cost does not depend on which
        identifiers: (0..n).map(|i| vec![i]).collect(),
        separator: vec![n, n + 1, n + 2],
        closing: vec![n],
    }
}

#[derive(Debug, Clone, Copy)]
struct Run {
    seconds: f64,
    forward_passes: u32,
    new_tokens: u32,
    tokens_computed: u64,
    /// Of `seconds`, those after the model's last pass.
    after_model: Option<f64>,
}

impl Run {
    /// A prompt's share of what several took.
    fn mean(runs: &[Self]) -> Self {
        let count = runs.len().max(1);
        let of = |value: fn(&Self) -> f64| runs.iter().map(value).sum::<f64>() / count as f64;
        let after: Option<Vec<f64>> = runs.iter().map(|run| run.after_model).collect();
        Self {
            seconds: of(|run| run.seconds),
            forward_passes: of(|run| f64::from(run.forward_passes)).round() as u32,
            new_tokens: of(|run| f64::from(run.new_tokens)).round() as u32,
            tokens_computed: of(|run| run.tokens_computed as f64).round() as u64,
            after_model: after.map(|after| after.iter().sum::<f64>() / count as f64),
        }
    }
}

/// The pass any decoder needs at least: prompt in, logits of the last row out.
fn prompt_pass(model: &CausalLm, prompt: &RankingPrompt) -> Result<Run, EvaluatorError> {
    let started = std::time::Instant::now();
    let logits = no_grad(|| {
        let input = Tensor::from_slice(&prompt.input_ids).unsqueeze(0).to_device(model.device()); // [1, seq]
        let last = [prompt.input_ids.len() as i64 - 1];
        let hidden = model.forward_rows(&input, &AttentionPattern::Causal, None, &last);
        model.logits(&hidden.select(1, -1), None) // [1, vocab]
    });
    // reading a value waits for the device
    let _ = logits.f_double_value(&[0, 0])?;
    let seconds = started.elapsed().as_secs_f64();
    let tokens_computed = prompt.input_ids.len() as u64;
    Ok(Run { seconds, forward_passes: 1, new_tokens: 0, tokens_computed, after_model: None })
}

/// A decoder as it is timed.
enum Way {
    /// Free text of a fixed length: random weights never write an end token where an answer would end.
    FreeText,
    Decoder(Box<dyn Decoder>),
}

impl Way {
    fn of(model: &CausalLm, kind: &DecoderKind, bench: &DecodeBench) -> Result<Self, EvaluatorError> {
        if *kind == DecoderKind::Autoregressive {
            return Ok(Self::FreeText);
        }
        let parts = UntrainedParts { model, num_candidates: bench.num_candidates };
        Ok(Self::Decoder(kind.build_headed(&parts, Rc::<LastRead>::default(), None)?))
    }

    fn run(&self, model: &CausalLm, prompts: &[RankingPrompt]) -> Result<Run, EvaluatorError> {
        let runs = match self {
            Self::FreeText => prompts.iter().map(|prompt| free_text(model, prompt)).collect::<Result<Vec<_>, _>>()?,
            Self::Decoder(decoder) => {
                let decoded = decoder.decode_batch(model, &prompts.iter().collect::<Vec<_>>())?;
                let run = |decoded: &Decoded| Run {
                    seconds: decoded.seconds,
                    forward_passes: decoded.forward_passes,
                    new_tokens: decoded.new_tokens,
                    tokens_computed: decoded.tokens_computed,
                    after_model: decoded.seconds_after_model,
                };
                decoded.iter().map(run).collect()
            }
        };
        Ok(Run::mean(&runs))
    }
}

fn free_text(model: &CausalLm, prompt: &RankingPrompt) -> Result<Run, EvaluatorError> {
    let max_new_tokens = prompt.identifiers.len() * 4 - 1;
    let options = GenerateOptions { max_new_tokens, ignore_eos: true, ..GenerateOptions::default() };
    let text = generate_until(model, &[], &prompt.input_ids, &options)?;
    Ok(Run {
        seconds: text.seconds,
        forward_passes: text.forward_passes,
        new_tokens: text.token_ids.len() as u32,
        tokens_computed: text.tokens_computed,
        after_model: None,
    })
}

/// Heads as they are before training.
struct UntrainedParts<'a> {
    model: &'a CausalLm,
    num_candidates: usize,
}

impl UntrainedParts<'_> {
    fn identifier_rows(&self) -> Tensor {
        let tokens: Vec<i64> = (0..self.num_candidates as i64).collect();
        identifier_rows(self.model, &tokens)
    }
}

impl DecoderParts for UntrainedParts<'_> {
    fn one_pass(&self, _: &OnePassSettings) -> Result<HierarchicalAttention, EvaluatorError> {
        Ok(HierarchicalAttention::new(self.num_candidates, 1, Device::Cpu))
    }

    fn blockwise(&self) -> Result<BlockwiseHeads, EvaluatorError> {
        let heads = BlockwiseHeads::default_num_heads(self.num_candidates);
        Ok(BlockwiseHeads::new(&self.identifier_rows(), heads, BlockwiseHeads::BOTTLENECK, 1))
    }

    fn medusa(&self, num_heads: usize) -> Result<MedusaHeads, EvaluatorError> {
        Ok(MedusaHeads::new(&self.identifier_rows(), num_heads))
    }

    fn draft_model(&self, folder: &Path) -> Result<Rc<CausalLm>, EvaluatorError> {
        let options = LoadOptions { device: self.model.device(), kind: self.model.kind() };
        Ok(Rc::new(CausalLm::load(folder, &options)?))
    }
}

fn timing(name: &str, index: usize, rounds: &[Vec<Run>]) -> DecodeTiming {
    let all_seconds: Vec<f64> = rounds.iter().map(|runs| runs[index].seconds).collect();
    let ratios: Vec<f64> = rounds.iter().map(|runs| runs[index].seconds / runs[0].seconds.max(1e-9)).collect();
    let after = rounds.iter().map(|runs| Some(runs[index].after_model? / runs[index].seconds.max(1e-9)));
    let after: Option<Vec<f64>> = after.collect();
    let latency = Latency::of(&all_seconds);
    // Drafting decoders need other numbers of passes for other prompts: those of the round in the middle.
    let mut by_time: Vec<Run> = rounds.iter().map(|runs| runs[index]).collect();
    by_time.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let middle = by_time[(by_time.len() - 1) / 2];
    DecodeTiming {
        name: name.to_owned(),
        seconds: latency.median,
        seconds_p95: latency.p95,
        all_seconds,
        forward_passes: middle.forward_passes,
        new_tokens: middle.new_tokens,
        tokens_computed: middle.tokens_computed,
        new_tokens_per_second: f64::from(middle.new_tokens) / latency.median.max(1e-9),
        prompt_passes: stats::percentile(&ratios, 50.0),
        share_after_model: after.map(|shares| stats::percentile(&shares, 50.0)),
    }
}

#[cfg(test)]
mod tests {
    use model::ModelConfig;
    use model::config::Architecture;
    use tch::Kind;

    use super::*;

    fn tiny() -> CausalLm {
        let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
        CausalLm::random(ModelConfig::tiny(Architecture::Llama, 60), 1, &options)
    }

    #[test]
    fn passes_are_what_the_protocol_says() {
        let bench = DecodeBench { prompt_tokens: 40, repeats: 2, ..DecodeBench::default() };
        let report = decode(&tiny(), &bench, &mut |_| {}).unwrap();
        let passes: Vec<_> = report.timings.iter().map(|t| (t.name.as_str(), t.forward_passes, t.new_tokens)).collect();
        let wanted = [
            ("prompt_pass", 1, 0),
            ("autoregressive", 79, 79),
            ("autoregressive_forced", 19, 77),
            ("single_token", 1, 1),
        ];
        assert_eq!(passes, wanted);
        assert!(report.timings.iter().all(|t| t.all_seconds.len() == 2 && t.seconds > 0.0));
        let bench = DecodeBench { batch: 3, decoders: vec![DecoderKind::SingleToken], ..bench };
        let report = decode(&tiny(), &bench, &mut |_| {}).unwrap();
        assert_eq!((report.timings[1].forward_passes, report.timings[1].tokens_computed), (1, 40));
    }

    #[test]
    fn impossible_settings_are_all_named() {
        let bench = DecodeBench { num_candidates: 1, repeats: 0, ..DecodeBench::default() };
        let message = decode(&tiny(), &bench, &mut |_| {}).unwrap_err().to_string();
        assert!(message.contains("`num_candidates`") && message.contains("`repeats`"), "{message}");
    }
}
