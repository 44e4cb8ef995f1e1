use std::sync::Arc;

use super::{sample, tokenizer};
use crate::batch::{Loader, LoaderConfig, LoaderOptions, MicroBatch, StepBatch, TooLong};
use crate::prompt::{PromptBuilder, PromptConfig, PromptStyle};
use crate::{DataError, RankingSample};

fn samples(n: usize) -> Vec<RankingSample> {
    (0..n)
        .map(|i| {
            let words = format!("passage {}", "word ".repeat(i % 7));
            sample(&format!("q{i}"), "a query", &[&words, "second", "third"], Some(vec![2, 0, 1]))
        })
        .collect()
}

fn builder() -> PromptBuilder {
    PromptBuilder::new(tokenizer("bytes"), PromptConfig::of(PromptStyle::First)).unwrap()
}

fn config() -> LoaderConfig {
    LoaderConfig {
        seed: 11,
        rank: 0,
        world_size: 1,
        global_batch_size: 4,
        micro_batch_size: 2,
        max_micro_batch_tokens: 4096,
        prefetch_steps: 3,
        num_steps: 9,
        shuffle: true,
    }
}

/// A micro-batch's tokens, boundaries, label rows, labels and ids.
type Content = (Vec<i64>, Vec<i64>, Vec<i64>, Vec<i64>, Vec<String>);

/// Everything in a step, comparable.
fn content(step: &StepBatch) -> Vec<Content> {
    let numbers = |tensor: &tch::Tensor| Vec::<i64>::try_from(tensor.flatten(0, -1)).unwrap();
    let content = |m: &MicroBatch| {
        (numbers(&m.input_ids), m.cu_seqlens.clone(), numbers(&m.label_rows), numbers(&m.labels), m.query_ids.clone())
    };
    step.micro_batches.iter().map(content).collect()
}

fn steps(config: LoaderConfig, options: LoaderOptions, start: u64) -> Vec<StepBatch> {
    let source = Arc::new(samples(10));
    Loader::with_options(source, builder(), config, options, start).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn resuming_gives_the_steps_an_unbroken_run_would_have_given() {
    for shuffle_candidates in [false, true] {
        let options = |threads| LoaderOptions { shuffle_candidates, threads, ..LoaderOptions::default() };
        let whole = steps(config(), options(1), 0);
        assert_eq!(whole.iter().map(|s| s.step).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
        assert_eq!(whole.iter().map(|s| s.epoch).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 2, 2, 2, 3]);
        let resumed = steps(config(), options(3), 5);
        assert_eq!(resumed.len(), 4);
        for (a, b) in whole[5..].iter().zip(&resumed) {
            assert_eq!((a.step, a.epoch, content(a)), (b.step, b.epoch, content(b)));
        }
    }
}

#[test]
fn two_ranks_join_to_the_batch_of_one_process() {
    let ids =
        |step: &StepBatch| -> Vec<String> { step.micro_batches.iter().flat_map(|m| m.query_ids.clone()).collect() };
    let one = steps(config(), LoaderOptions::default(), 0);
    let ranks: Vec<Vec<StepBatch>> = (0..2)
        .map(|rank| steps(LoaderConfig { rank, world_size: 2, ..config() }, LoaderOptions::default(), 0))
        .collect();
    for (step, whole) in one.iter().enumerate() {
        let joined = [ids(&ranks[0][step]), ids(&ranks[1][step])].concat();
        assert_eq!(joined, ids(whole), "step {step}");
    }
    // Ten samples, nine steps of four: 36 places, every sample three or four times.
    let mut counts = std::collections::HashMap::new();
    one.iter().flat_map(ids).for_each(|id| *counts.entry(id).or_insert(0) += 1);
    assert!(counts.len() == 10 && counts.values().all(|count| [3, 4].contains(count)), "{counts:?}");
}

#[test]
fn shuffled_candidates_keep_the_target_on_its_passage() {
    let options = LoaderOptions { shuffle_candidates: true, ..LoaderOptions::default() };
    let builder = builder();
    let mut best_at = std::collections::HashSet::new();
    for step in steps(config(), options, 0) {
        for micro_batch in step.micro_batches {
            let tokens = Vec::<i64>::try_from(micro_batch.input_ids.flatten(0, -1)).unwrap();
            for (place, rank) in micro_batch.rankings.iter().enumerate() {
                let (start, end) = (micro_batch.cu_seqlens[place] as usize, micro_batch.cu_seqlens[place + 1] as usize);
                let text = builder.tokenizer.decode(&tokens[start..end], false).unwrap();
                let best = rank.ranks.iter().position(|rank| *rank == 1).unwrap();
                let letter = char::from(b'A' + best as u8);
                assert!(text.contains(&format!("[{letter}] third\n")), "{text}");
                assert!(text.contains(&format!("assistant\n[{letter}] >")), "{text}");
                assert_eq!(tokens[rank.row as usize + 1], rank.identifier_ids[best]);
                best_at.insert(best);
            }
        }
    }
    assert_eq!(best_at.len(), 3, "every position occurs");
}

#[test]
fn samples_that_do_not_fit_are_counted_or_fatal() {
    let longest = steps(LoaderConfig { shuffle: false, ..config() }, LoaderOptions::default(), 0)
        .iter()
        .flat_map(|step| &step.micro_batches)
        .flat_map(|m| m.cu_seqlens.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>())
        .max()
        .unwrap() as usize;
    let config = LoaderConfig { max_micro_batch_tokens: longest - 1, num_steps: 5, ..config() };
    let source = Arc::new(samples(10));
    let mut loader = Loader::new(source.clone(), builder(), config.clone(), 0).unwrap();
    let kept: usize =
        loader.by_ref().map(|step| step.unwrap().micro_batches.iter().map(|m| m.query_ids.len()).sum::<usize>()).sum();
    let skipped = loader.skipped().too_long;
    assert!(skipped > 0 && kept as u64 + skipped == 20, "{kept} kept, {skipped} skipped");
    let options = LoaderOptions { too_long: TooLong::Error, ..LoaderOptions::default() };
    let error = Loader::with_options(source.clone(), builder(), config.clone(), options, 0)
        .unwrap()
        .find_map(Result::err)
        .unwrap();
    assert!(matches!(error, DataError::PromptTooLong { limit, .. } if limit == longest - 1), "{error}");
    // Another rank, or another step, may have samples that fit: the trainer looks at all of them.
    let tiny = LoaderConfig { max_micro_batch_tokens: 10, ..config };
    let mut loader = Loader::new(source, builder(), tiny, 0).unwrap();
    assert!(loader.by_ref().all(|step| step.unwrap().micro_batches.is_empty()));
    assert_eq!(loader.skipped().too_long, 20);
}

#[test]
fn bad_settings_missing_targets_and_early_drops() {
    let source: Arc<Vec<RankingSample>> = Arc::new(samples(3));
    let wrong = LoaderConfig { world_size: 3, rank: 3, micro_batch_size: 0, ..config() };
    let message = Loader::new(source.clone(), builder(), wrong, 0).unwrap_err().to_string();
    assert!(message.contains("`micro_batch_size` is 0") && message.contains("not a multiple"), "{message}");
    assert!(Loader::new(Arc::new(Vec::new()), builder(), config(), 0).is_err());
    let mut untargeted = samples(3);
    untargeted.iter_mut().for_each(|sample| sample.target = None);
    let mut loader = Loader::new(Arc::new(untargeted), builder(), config(), 0).unwrap();
    assert!(matches!(loader.next(), Some(Err(DataError::NoTarget { .. }))));
    assert!(loader.next().is_none(), "nothing after an error");
    // Dropping a loader with full channels must not hang.
    let mut loader = Loader::new(source, builder(), LoaderConfig { num_steps: 1_000_000, ..config() }, 0).unwrap();
    loader.next().unwrap().unwrap();
    drop(loader);
}
