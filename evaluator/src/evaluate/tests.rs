//! A whole evaluation on a tiny random model.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use data::prompt::{Identifiers, RankingPrompt};

use super::*;
use crate::decode::tests::{FakePrompts, sample, tiny, tokenizer};
use crate::decode::{BuildDecoder, Decoded, DecoderKind, LastPrompt, LastRead, NoParts};
use crate::measures::RankingMeasure;

struct Fixture {
    model: CausalLm,
    samples: Vec<RankingSample>,
    judgements: Judgements,
    decoders: Vec<Box<dyn Decoder>>,
    config: EvaluateConfig,
    forget_passes: Box<dyn Fn()>,
    /// How often passes were forgotten.
    rounds: Rc<Cell<usize>>,
}

fn fixture(num_queries: usize) -> Fixture {
    let samples: Vec<RankingSample> = (0..num_queries).map(|i| sample(&format!("q{i}"), 8 + i)).collect();
    let mut judgements = crate::measures::trec_eval::judgements(&data::Qrels::from_samples(&samples));
    judgements.insert("never retrieved".into(), HashMap::from([("d".to_owned(), 1)]));
    judgements.remove("q0");
    let config = EvaluateConfig {
        decoders: DecoderKind::PLAIN.to_vec(),
        window: WindowConfig { size: 6, stride: 3, num_passes: 1 },
        ..EvaluateConfig::default()
    };
    let tokenizer = tokenizer();
    let (last_read, last_prompt) = (Rc::<LastRead>::default(), Rc::<LastPrompt>::default());
    let with = BuildDecoder {
        tokenizer: &tokenizer,
        answer: Identifiers::Alphabetic.into(),
        max_new_tokens: None,
        parts: &NoParts,
        last_read: Rc::clone(&last_read),
        last_prompt: Some(Rc::clone(&last_prompt)),
    };
    let decoders = config.decoders.iter().map(|kind| kind.build(&with).unwrap()).collect();
    let rounds = Rc::<Cell<usize>>::default();
    let counted = Rc::clone(&rounds);
    let forget_passes = Box::new(move || {
        counted.set(counted.get() + 1);
        last_read.forget();
        last_prompt.forget();
    });
    Fixture { model: tiny(5), samples, judgements, decoders, config, forget_passes, rounds }
}

impl Fixture {
    fn job<'a>(&'a self, content_key: &'a str, predictions: Option<&'a Path>) -> EvaluationJob<'a> {
        EvaluationJob {
            set: "test",
            model_name: "tiny",
            model: &self.model,
            prompts: &FakePrompts(Identifiers::Alphabetic),
            samples: &self.samples,
            judgements: &self.judgements,
            decoders: &self.decoders,
            forget_passes: self.forget_passes.as_ref(),
            config: &self.config,
            content_key,
            predictions,
        }
    }
}

fn run(job: &EvaluationJob) -> (SetEvaluation, usize) {
    let mut decoded = 0;
    let evaluation = evaluate(job, &mut |_| {
        decoded += 1;
        ControlFlow::Continue(())
    });
    (evaluation.unwrap(), decoded)
}

/// What does not depend on the clock.
fn values(evaluation: &SetEvaluation) -> Vec<String> {
    let rows = evaluation.rows.iter().chain([&evaluation.first_stage]);
    let rounded = |values: &[f64]| values.iter().map(|value| format!("{value:.9}")).collect::<Vec<_>>();
    rows.map(|row| {
        let measures: Vec<_> = row.per_query.iter().map(|(measure, values)| (measure, rounded(values))).collect();
        let fidelity: Vec<_> = row.fidelity.iter().map(|(name, value)| (name, rounded(&[value.mean]))).collect();
        format!("{} {measures:?} {fidelity:?} {:?}", row.decoder, row.repair)
    })
    .collect()
}

#[test]
fn figures_are_complete_and_a_second_run_decodes_nothing() {
    let fixture = fixture(5);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("predictions/test.jsonl");
    let (first, decoded) = run(&fixture.job("key", Some(&path)));
    assert_eq!((decoded, first.num_queries, first.num_unjudged), (5, 5, 1));
    assert_eq!(first.missing, ["never retrieved"]);
    assert_eq!(first.queries, ["never retrieved", "q1", "q2", "q3", "q4"]);
    let row = first.row("autoregressive").unwrap();
    assert_eq!(row.fidelity["ranking"].mean, 1.0);
    assert!(row.cost.unwrap().speedup.is_none(), "it is the baseline");
    assert!(!row.repair.all_ok(), "a random model writes no rankings");
    let single = first.row("single_token").unwrap().cost.unwrap();
    assert_eq!(single.forward_passes, single.windows);
    assert!(single.speedup.unwrap().median > 1.0);
    let ndcg = &first.first_stage.per_query[&RankingMeasure::NdcgCut(10)];
    assert_eq!(ndcg[0], 0.0, "a query without candidates counts 0");
    assert!(first.first_stage.cost.is_none());

    let (second, decoded) = run(&fixture.job("key", Some(&path)));
    assert_eq!(decoded, 0);
    // seconds may differ in the last bit after a trip through JSON
    assert_eq!(values(&first), values(&second));
    let text = serde_json::to_string(&first).unwrap();
    assert_eq!(values(&serde_json::from_str(&text).unwrap()), values(&first));

    let (_, decoded) = run(&fixture.job("another key", Some(&path)));
    assert_eq!(decoded, 5, "lines of another key are not used");
}

#[test]
fn a_stopped_run_goes_on_after_its_last_whole_line() {
    let fixture = fixture(4);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.jsonl");
    let stopped = evaluate(&fixture.job("key", Some(&path)), &mut |progress| {
        if progress.done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(EvaluatorError::Interrupted)));
    let mut text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    text.push_str("{\"content_key\":\"key\",\"query_id\":\"q2\",\"cand");
    std::fs::write(&path, &text).unwrap();
    let (evaluation, decoded) = run(&fixture.job("key", Some(&path)));
    assert_eq!(decoded, 2);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
    let (anew, _) = run(&fixture.job("key", None));
    assert_eq!(values(&evaluation), values(&anew));
}

#[test]
fn ranks_share_the_queries_and_what_one_did_before_is_kept() {
    let fixture = fixture(5);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.jsonl");
    let (alone, _) = run(&fixture.job("key", None));
    let job = fixture.job("key", Some(&path));
    let decode = |rank, world_size, limit: usize| {
        let mut decoded = 0;
        let ended = evaluate_share(&job, crate::RankShare { rank, world_size }, &mut |_| {
            decoded += 1;
            if decoded == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        (ended.is_ok(), decoded)
    };
    // Of three ranks one is stopped early and one never comes.
    assert_eq!((decode(0, 3, 1), decode(1, 3, 9)), ((false, 1), (true, 2)));
    merge_shares(&job).unwrap();
    // Two ranks do the rest: queries 2 and 4 are rank 0's now, 3 is rank 1's.
    assert_eq!((decode(0, 2, 9), decode(1, 2, 9)), ((true, 1), (true, 1)));
    merge_shares(&job).unwrap();
    let (together, decoded) = run(&job);
    assert_eq!(decoded, 0);
    assert_eq!(values(&together), values(&alone));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "parts are left");
}

#[test]
fn cutting_the_set_leaves_missing_queries_out() {
    let mut fixture = fixture(4);
    fixture.config.max_queries = Some(3);
    let (evaluation, _) = run(&fixture.job("key", None));
    assert_eq!((evaluation.queries, evaluation.complete), (vec!["q1".to_owned(), "q2".into()], false));
}

#[test]
fn a_lower_limit_keeps_what_was_decoded() {
    let mut fixture = fixture(5);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.jsonl");
    let (whole, _) = run(&fixture.job("key", Some(&path)));
    fixture.config.max_queries = Some(2);
    let (cut, decoded) = run(&fixture.job("key", Some(&path)));
    assert_eq!((decoded, cut.num_queries), (0, 2));
    fixture.config.max_queries = None;
    let (again, decoded) = run(&fixture.job("key", Some(&path)));
    assert_eq!(decoded, 0);
    assert_eq!(values(&again), values(&whole));
}

#[test]
fn every_round_is_timed_with_its_own_passes() {
    let mut fixture = fixture(2);
    fixture.config.latency = LatencyConfig { warmup: 2, repeats: 3 };
    run(&fixture.job("key", None));
    assert_eq!(fixture.rounds.get(), 2 + 2 * 3);
}

#[test]
fn first_stage_scores_decide_over_the_order() {
    let mut fixture = fixture(2);
    let reciprocal = |fixture: &Fixture| {
        let (evaluation, _) = run(&fixture.job("key", None));
        *evaluation.first_stage.per_query[&RankingMeasure::RecipRank].last().unwrap()
    };
    assert_eq!(reciprocal(&fixture), 0.5, "the second candidate is relevant");
    for (index, passage) in fixture.samples[1].passages.iter_mut().enumerate() {
        passage.first_stage_score = Some(if index == 1 { 9.0 } else { 1.0 });
    }
    assert_eq!(reciprocal(&fixture), 1.0);
}

#[test]
fn nothing_to_do_and_bad_settings_are_errors() {
    let mut empty = fixture(0);
    let stop = &mut |_: &Progress| ControlFlow::Continue(());
    assert!(evaluate(&empty.job("key", None), stop).unwrap_err().to_string().contains("`test` has no samples"));
    empty.config.measures.clear();
    assert!(evaluate(&empty.job("key", None), stop).unwrap_err().to_string().contains("`measures`"));
}

#[test]
fn a_set_without_judgements_has_closeness_and_cost() {
    let mut fixture = fixture(3);
    let stop = &mut |_: &Progress| panic!("decoded before the judgements were looked at");
    fixture.judgements.retain(|query, _| query == "never retrieved");
    let message = evaluate(&fixture.job("key", None), stop).unwrap_err().to_string();
    assert!(message.contains("1 judged queries, 3 queries in the run"), "{message}");
    fixture.judgements.clear();
    let (evaluation, decoded) = run(&fixture.job("key", None));
    assert_eq!((decoded, evaluation.num_unjudged, evaluation.queries.len()), (3, 3, 0));
    assert!(evaluation.rows.iter().all(|row| row.values.is_empty() && row.cost.is_some()));
    assert_eq!(evaluation.row("autoregressive").unwrap().fidelity["ranking"].mean, 1.0);
    let evaluations = [evaluation];
    let results = results_table(&evaluations, &fixture.config).render(crate::table::TableFormat::Markdown);
    assert!(results.contains("0 judged queries; 3 more queries have no judgements"), "{results}");
    assert!(comparison_table(&evaluations, &fixture.config).rows.is_empty());
    assert_eq!(fidelity_table(&evaluations).rows.len(), 2);
    let measure = fixture.config.measures[0];
    assert!(crate::report::points_of(&evaluations, "test", measure).is_empty());
}

#[test]
fn tables_have_a_row_per_decoder_and_one_for_the_first_stage() {
    let fixture = fixture(3);
    let (evaluation, _) = run(&fixture.job("key", None));
    let evaluations = [evaluation];
    let results = results_table(&evaluations, &fixture.config);
    assert_eq!(results.rows.len(), 4);
    assert!(results.render(crate::table::TableFormat::Markdown).contains("| test | first stage |"));
    assert_eq!(comparison_table(&evaluations, &fixture.config).rows.len(), 3 * 3);
    assert_eq!(fidelity_table(&evaluations).rows.len(), 2);
    assert_eq!(cost_table(&evaluations).rows.len(), 3);
    assert!(
        results.notes.iter().any(|note| note.contains("of which 1 have no candidates and count 0")),
        "{:?}",
        results.notes
    );
}

/// Takes 64 MiB the first time, as a decoder does that keeps what it read; nothing later.
struct Keeping {
    inner: crate::decode::SingleToken,
    kept: std::cell::RefCell<Vec<Vec<u8>>>,
}

impl Keeping {
    fn boxed() -> Box<dyn Decoder> {
        Box::new(Self { inner: crate::decode::SingleToken, kept: Vec::new().into() })
    }
}

impl Decoder for Keeping {
    fn name(&self) -> &'static str {
        "single_token"
    }

    fn decode(&self, model: &CausalLm, prompt: &RankingPrompt) -> Result<Decoded, EvaluatorError> {
        let mut kept = self.kept.borrow_mut();
        if kept.is_empty() {
            kept.extend((0..64).map(|_| vec![1u8; 1 << 20]));
        }
        self.inner.decode(model, prompt)
    }
}

#[test]
fn memory_is_that_of_a_decoder_that_has_read_nothing_before() {
    let mut fixture = fixture(3);
    fixture.decoders = vec![Keeping::boxed()];
    fixture.config.decoders = vec![DecoderKind::SingleToken];
    let job = fixture.job("key", None);
    let (mut evaluation, _) = run(&job);
    measure_memory(&job, &[Keeping::boxed()], &mut evaluation).unwrap();
    let Some(mib) = evaluation.rows[0].cost.unwrap().memory_mib else {
        return eprintln!("skipped: this kernel does not reset a peak");
    };
    assert!((48.0..1024.0).contains(&mib), "{mib}");
}
