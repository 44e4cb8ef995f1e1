//! `monopass bench answer`.

use evaluator::answer::{AnswerBench, answer_bench};
use serde_json::json;

use super::print_json;
use crate::cli::answer::BenchAnswerArgs;
use crate::model_source;

/// Runs the command.
///
/// # Errors
/// When the model cannot be loaded or an argument is out of range.
pub fn run(args: &BenchAnswerArgs) -> anyhow::Result<()> {
    let bench = AnswerBench {
        questions: args.questions.clone(),
        background_tokens: args.background_tokens,
        question_tokens: args.question_tokens,
        answer_tokens: args.answer_tokens,
        repeats: args.repeats,
        warmup: args.warmup,
    };
    let loaded = model_source::load(&args.model)?;
    let timings = answer_bench(&loaded.model, &bench, &mut |questions, round| {
        tracing::debug!("{questions} questions, round {}", round + 1);
    })?;
    let protocol = format!(
        "random text of {} tokens, questions of {} and answers of exactly {} tokens, new in each round; greedy; weights {:?} on {:?}; {} \
         warm-up and {} timed rounds in which all ways run in turn; medians, ratios within rounds; MiB beside the model at the fullest moment; {} threads",
        args.background_tokens,
        args.question_tokens,
        args.answer_tokens,
        loaded.model.kind(),
        loaded.model.device(),
        args.warmup,
        args.repeats,
        tch::get_num_threads(),
    );
    if args.json {
        return print_json(&json!({"timings": timings, "protocol": protocol}));
    }
    println!(
        "{:>9}  {:<18} {:>8} {:>7} {:>7} {:>15} {:>7}",
        "questions", "decoder", "seconds", "passes", "tokens", "over columnar", "MiB"
    );
    for timing in &timings {
        println!(
            "{:>9}  {:<18} {:>8.3} {:>7} {:>7} {:>15.2} {:>7}",
            timing.questions,
            timing.decoder,
            timing.seconds,
            timing.forward_passes,
            timing.tokens_computed,
            timing.over_columnar,
            timing.memory_mib.map_or_else(String::new, |mib| format!("{mib:.1}")),
        );
    }
    println!("protocol: {protocol}");
    Ok(())
}
