//! A report of made-up figures. With MONOPASS_SAMPLE_REPORT=FILE the page is also written there, to be looked at.

mod browser;

use std::collections::BTreeMap;

use super::*;
use crate::decode::{DecoderKind, RepairCounts};
use crate::evaluate::{
    Cost, DecoderLine, EvaluateConfig, FIRST_STAGE, MeasuredValue, PredictionLine, RowEvaluation, SetEvaluation,
    comparison_table, cost_table, fidelity_table, results_table,
};
use crate::latency::{Latency, Speedup};
use crate::measures::RankingMeasure;
use crate::sliding::Reranked;
use data::random::Stream;

const NUM_QUERIES: usize = 40;

fn config() -> EvaluateConfig {
    EvaluateConfig { decoders: DecoderKind::PLAIN.to_vec(), ..EvaluateConfig::default() }
}

fn row(decoder: &str, quality: f64, seconds: f64, stream: &mut Stream) -> RowEvaluation {
    let config = config();
    let values: Vec<f64> = (0..NUM_QUERIES).map(|_| (quality + 0.2 * stream.normal()).clamp(0.0, 1.0)).collect();
    let measures = config.measures.iter().enumerate();
    let per_query: BTreeMap<_, Vec<f64>> =
        measures.map(|(i, m)| (*m, values.iter().map(|v| (v - 0.05 * i as f64).max(0.0)).collect())).collect();
    let measured = |values: &Vec<f64>| MeasuredValue::of(values, &config.bootstrap).unwrap();
    let took: Vec<f64> = values.iter().map(|value| seconds * (0.9 + 0.2 * value)).collect();
    let baseline: Vec<f64> = values.iter().map(|value| 4.1 + 0.2 * value).collect();
    let is_baseline = decoder == "autoregressive";
    let closeness: Vec<f64> = values.iter().map(|v| if is_baseline { 1.0 } else { 0.7 + 0.3 * v }).collect();
    let cost = Cost {
        latency: Latency::of(&took),
        speedup: (!is_baseline).then(|| Speedup::paired(&took, &baseline, &config.bootstrap).unwrap()),
        windows: 1.0,
        forward_passes: (seconds * 20.0).round().max(1.0),
        new_tokens: 79.0,
        tokens_computed: 1579.0,
        prompt_seconds: 0.01,
        accepted_per_pass: None,
        memory_mib: Some(40.0 + 10.0 * seconds),
        speedup_over_forced: None,
    };
    let repair = RepairCounts { ok: 35, wrong_format: 2, repetition: 3, out_of_range: 0, missing: 4 };
    RowEvaluation {
        decoder: decoder.into(),
        values: per_query.iter().map(|(m, values)| (*m, measured(values))).collect(),
        per_query,
        fidelity: BTreeMap::from([
            ("ranking".into(), measured(&closeness)),
            ("kendall_tau".into(), measured(&closeness)),
        ]),
        cost: (decoder != FIRST_STAGE).then_some(cost),
        repair: if is_baseline { repair } else { RepairCounts::default() },
    }
}

fn evaluation(set: &str, model: &str, quality: f64) -> SetEvaluation {
    let mut stream = Stream::new(model, &[set.len() as u64]);
    let mut first_stage = row(FIRST_STAGE, 0.46, 1.0, &mut Stream::new(set, &[]));
    first_stage.fidelity.clear();
    SetEvaluation {
        set: set.into(),
        model: model.into(),
        num_queries: NUM_QUERIES,
        queries: (0..NUM_QUERIES).map(|i| format!("q{i}")).collect(),
        missing: vec!["q0".into()],
        num_unjudged: 3,
        complete: true,
        measures: config().measures,
        baseline_decoder: Some("autoregressive".into()),
        reference_decoder: Some("autoregressive".into()),
        first_stage,
        rows: vec![
            row("autoregressive", quality + 0.01, 4.2, &mut stream),
            row("autoregressive_forced", quality + 0.01, 1.6, &mut stream),
            row("single_token", quality, 0.62, &mut stream),
        ],
    }
}

fn stage(name: &str, parts: &[(&str, f64)]) -> StageCurves {
    let mut stream = Stream::new(name, &[]);
    let curve = |(part, start): &(&str, f64)| Curve {
        name: (*part).to_owned(),
        points: (1..=300)
            .map(|s| {
                (f64::from(s), start * (0.25 + 0.75 * (-f64::from(s) / 80.0).exp()) * (1.0 + 0.12 * stream.normal()))
            })
            .collect(),
    };
    let mut curves: Vec<Curve> = parts.iter().map(curve).collect();
    let evaluated = (0..6).map(|i| (f64::from(i) * 60.0, 0.5 + 0.05 * f64::from(i))).collect();
    curves.push(Curve { name: "eval ndcg_cut_10".into(), points: evaluated });
    StageCurves { name: name.into(), curves, ..StageCurves::default() }
}

pub(super) fn decoder_line(name: &str, order: Vec<u16>) -> DecoderLine {
    let ranking = Reranked {
        order,
        scores: None,
        windows: 1,
        forward_passes: 1,
        new_tokens: 1,
        tokens_computed: 1,
        seconds: 0.5,
        prompt_seconds: 0.0,
        repair: RepairCounts::default(),
        accepted_per_pass: None,
    };
    DecoderLine { decoder: name.into(), ranking, all_seconds: vec![0.5] }
}

/// Lists of eight in which `single_token` swaps two neighbours of the reference's order.
fn lines() -> Vec<PredictionLine> {
    let mut stream = Stream::new("orders", &[]);
    let line = |query: usize| {
        let mut order: Vec<u16> = (0..8).collect();
        stream.shuffle(&mut order);
        let mut swapped = order.clone();
        swapped.swap(query % 7, query % 7 + 1);
        PredictionLine {
            content_key: String::new(),
            query_id: format!("q{query}"),
            candidates: (0..8).map(|d| format!("d{d}")).collect(),
            decoders: vec![decoder_line("autoregressive", order), decoder_line("single_token", swapped)],
        }
    };
    (0..NUM_QUERIES).map(line).collect()
}

fn differences(evaluation: &SetEvaluation) -> QueryDifferences {
    let passage = |n: usize| data::Passage {
        doc_id: format!("d{n}"),
        title: "Title".into(),
        text: format!("passage {n} <of> the list"),
        first_stage_score: None,
        label: Some(i32::from(n == 3)),
    };
    let sample = |n: usize| data::RankingSample {
        query_id: format!("q{n}"),
        query: format!("what is number {n}?"),
        passages: (0..8).map(passage).collect(),
        target: None,
        origin: String::new(),
    };
    let samples: Vec<data::RankingSample> = (0..NUM_QUERIES).map(sample).collect();
    let lines = lines();
    let measure = RankingMeasure::NdcgCut(10);
    let values = |decoder: &str| evaluation.row(decoder).unwrap().per_query[&measure].clone();
    let (own, base) = (values("single_token"), values(FIRST_STAGE));
    let own =
        Side {
            label: "first · single_token", decoder: "single_token", values: &own, lines: &lines, samples: &samples
        };
    let base = Side { label: "first stage", decoder: FIRST_STAGE, values: &base, lines: &lines, samples: &samples };
    QueryDifferences::of(&evaluation.set, &measure.label(), (own, base), &evaluation.queries)
}

fn report() -> Report {
    let evaluations = [
        evaluation("SQuAD dev", "untrained", 0.4),
        evaluation("SQuAD dev", "first", 0.78),
        evaluation("TREC DL21", "untrained", 0.39),
        evaluation("TREC DL21", "first", 0.52),
    ];
    let config = config();
    let measure = RankingMeasure::NdcgCut(10);
    let headline = |figure: &str, label: &str, detail: &str| Headline {
        figure: figure.into(),
        label: label.into(),
        detail: detail.into(),
    };
    Report {
        differences: vec![differences(&evaluations[1])],
        orders: OrderMaps::of("first on SQuAD dev".into(), "autoregressive", &lines()).into_iter().collect(),
        layouts: Vec::new(),
        title: "first <on> SmolLM2-135M".into(),
        summary: "Generated lists, then SQuAD passages; evaluated on SQuAD dev and TREC DL21.".into(),
        headlines: vec![
            headline("0.78", "nDCG@10, SQuAD dev", "first stage 0.46, untrained 0.40"),
            headline("6.8×", "faster than plain decoding", "single_token against autoregressive"),
            headline("0.93", "fidelity to the full answer", "pairs in the same order"),
        ],
        warnings: vec!["4 of 500 evaluation queries of `SQuAD dev` are also training queries".into()],
        stages: vec![
            stage("1 · generated lists", &[("loss", 3.1), ("lm", 2.4), ("ranking", 0.07)]),
            stage("2 · squad", &[("loss", 1.4), ("lm", 1.1), ("ranking", 0.03)]),
        ],
        trade_offs: ["SQuAD dev", "TREC DL21"].iter().flat_map(|set| points_of(&evaluations, set, measure)).collect(),
        tables: vec![
            results_table(&evaluations, &config),
            comparison_table(&evaluations, &config),
            fidelity_table(&evaluations),
            cost_table(&evaluations),
        ],
        cards: vec![DataCard {
            name: "squad_train".into(),
            role: "training, stage 2".into(),
            source: "squad `train-v1.1.json`, BM25 candidates".into(),
            facts: vec![
                ("samples".into(), "4,000".into()),
                ("candidates".into(), "6 a query".into()),
                ("dropped".into(), "12 (prompt too long)".into()),
            ],
        }],
        config: "name: first\nseed: 42\nevaluate:\n  decoders: [autoregressive, single_token]\n".into(),
        environment: vec![
            ("command".into(), "monopass run configs/rank/smollm2.yaml".into()),
            ("monopass".into(), "0.1.0".into()),
            ("libtorch".into(), "2.11.0, 2 threads".into()),
        ],
    }
}

#[test]
fn fidelity_is_plotted_for_a_model_with_a_reference_and_only_for_rows_that_have_it() {
    let mut evaluation = evaluation("SQuAD dev", "first", 0.7);
    evaluation.reference_decoder = Some("autoregressive".to_owned());
    let told: Vec<&str> = evaluation
        .rows
        .iter()
        .filter(|row| row.cost.is_some() && row.fidelity.contains_key("ranking"))
        .map(|row| row.decoder.as_str())
        .collect();
    let plot = fidelity_points_of(&evaluation).unwrap();
    assert!(!told.is_empty());
    assert_eq!(plot.points.iter().map(|point| point.label.as_str()).collect::<Vec<_>>(), told);
    assert_eq!(plot.measure, "Pairs in the order of autoregressive");
    let row = evaluation.rows.iter().find(|row| row.decoder == told[0]).unwrap();
    assert_eq!(plot.points[0].value, row.fidelity["ranking"].mean);
    evaluation.reference_decoder = None;
    assert!(fidelity_points_of(&evaluation).is_none());
}

#[test]
fn models_with_many_decoders_have_a_plot_each() {
    let measure = config().measures[0];
    let mut evaluations = vec![evaluation("SQuAD dev", "base", 0.5), evaluation("SQuAD dev", "first", 0.7)];
    let [both] = &points_of(&evaluations, "SQuAD dev", measure)[..] else { panic!("six points have one plot") };
    assert!(both.points.iter().any(|point| point.label == "first · single_token"));
    for evaluation in &mut evaluations {
        evaluation.rows = evaluation.rows.iter().cycle().take(9).cloned().collect();
    }
    let plots = points_of(&evaluations, "SQuAD dev", measure);
    let sets: Vec<&str> = plots.iter().map(|plot| plot.set.as_str()).collect();
    assert_eq!(sets, ["SQuAD dev, base", "SQuAD dev, first"]);
    assert!(plots.iter().all(|plot| plot.points.len() == 9 && plot.points[0].label == "autoregressive"));
}

#[test]
fn a_report_holds_everything_and_nothing_from_elsewhere() {
    let page = report().render().unwrap();
    if let Some(path) = std::env::var_os("MONOPASS_SAMPLE_REPORT") {
        report().write(Path::new(&path)).unwrap();
    }
    for wanted in [
        "what is number 3?",
        "passage 3 &lt;of&gt; the list",
        "75 % at the same rank",
        "first &lt;on&gt; SmolLM2-135M",
        "also training queries",
        "Pareto front",
        "single_token",
        "squad_train",
        "seed: 42",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert_eq!(page.matches("<svg").count(), 2 + 2 * 4 + 2);
    assert_eq!(page.matches("<script>").count(), 1);
    for foreign in ["<script ", "<link", " src=", "@import", "url(", "fetch(", "import("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let addresses = page.matches("http").count();
    assert_eq!(addresses, page.matches("http://www.w3.org/2000/svg").count(), "only the name space of SVG");
}

/// Two sets of 1,000 queries with long questions, four models with 21 decoders each on lists of 20.
#[test]
fn a_page_of_a_thousand_queries_stays_below_two_megabytes() {
    let mut stream = Stream::new("large", &[]);
    let mut shuffled = || {
        let mut order: Vec<u16> = (0..20).collect();
        stream.shuffle(&mut order);
        order
    };
    let names: Vec<String> = (0..21).map(|decoder| format!("decoder_{decoder}")).collect();
    let lines: Vec<PredictionLine> = (0..1000)
        .map(|query| PredictionLine {
            content_key: String::new(),
            query_id: format!("query-{query:08}"),
            candidates: (0..20).map(|d| format!("document-{d:012}")).collect(),
            decoders: names.iter().map(|name| decoder_line(name, shuffled())).collect(),
        })
        .collect();
    let passage = |d: usize| data::Passage {
        doc_id: format!("document-{d:012}"),
        title: "A title of some words".into(),
        text: "words of a passage that goes on and on ".repeat(20),
        first_stage_score: None,
        label: Some(1),
    };
    let sample = |line: &PredictionLine| data::RankingSample {
        query_id: line.query_id.clone(),
        query: "a question that is rather long, as questions of people can be ".repeat(4),
        passages: (0..20).map(passage).collect(),
        target: None,
        origin: String::new(),
    };
    let samples: Vec<data::RankingSample> = lines.iter().map(sample).collect();
    let queries: Vec<String> = lines.iter().map(|line| line.query_id.clone()).collect();
    let values: Vec<f64> = (0..1000).map(|query| f64::from(query) / 1000.0).collect();
    let base: Vec<f64> = values.iter().rev().copied().collect();
    let side = |values, decoder: &'static str| Side {
        label: "model · decoder",
        decoder,
        values,
        lines: &lines,
        samples: &samples,
    };
    let sides = || (side(&values, "decoder_1"), side(&base, FIRST_STAGE));
    let differences = || QueryDifferences::of("set", "nDCG@10", sides(), &queries);
    let orders = OrderMaps::of("model on set".into(), "decoder_0", &lines).unwrap();
    let whole = Report { differences: vec![differences(), differences()], orders: vec![orders; 8], ..report() }
        .render()
        .unwrap();
    assert!(whole.len() < 2_000_000, "{} bytes", whole.len());
}

#[test]
fn what_stands_between_backticks_is_code_and_nothing_else_is_markup() {
    assert_eq!(super::prose("order by `a<b>` & more").as_str(), Some("order by <code>a&lt;b&gt;</code> &amp; more"));
    assert_eq!(super::prose("an odd ` one").as_str(), Some("an odd ` one"));
    assert_eq!(super::prose("").as_str(), Some(""));
}

#[test]
fn an_empty_report_is_a_page_too() {
    let page = Report { title: "nothing yet".into(), ..Report::default() }.render().unwrap();
    assert!(page.contains("nothing yet") && !page.contains("<section"), "{page}");
}

#[test]
fn flat_and_short_curves_are_drawn() {
    let points = vec![(1.0, 2.0), (2.0, 2.0)];
    let stage =
        StageCurves { name: "s".into(), curves: vec![Curve { name: "loss".into(), points }], ..StageCurves::default() };
    assert_eq!(stage.plots().unwrap().len(), 1);
    let trade_off = TradeOff { set: "s".into(), measure: "m".into(), points: Vec::new(), first_stage: None };
    assert!(points::plot(&trade_off).unwrap().starts_with("<svg"));
}
