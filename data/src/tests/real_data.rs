//! Published files, where they are at hand (MONOPASS_SHARED or ../shared).

use std::collections::HashSet;

use super::{shared, tokenizer};
use crate::overlap::{query_overlap, query_texts};
use crate::prompt::{PromptBuilder, PromptConfig, PromptStyle, PromptTemplate};
use crate::sources::{
    BeirConfig, BrokenResponse, ConversationsConfig, GoldMissing, RankingSetConfig, RetrieveResultsConfig,
    SourceConfig, SquadConfig, SquadPart, SquadPool, load,
};
use crate::{Qrels, RankingSample, SetReport, TrecRun};

fn retrieve_results(folder: &str, file: &str, qrels: &str) -> Option<(Vec<RankingSample>, SetReport)> {
    let (path, qrels) = (shared(&format!("{folder}/{file}"))?, shared(&format!("{folder}/{qrels}"))?);
    let config = RetrieveResultsConfig { path, qrels: Some(qrels) };
    Some(load(&RankingSetConfig::new(SourceConfig::RetrieveResults(config))).unwrap())
}

/// trec_eval's nDCG@10 (linear gain, ideal over all judged documents), mean over queries.
fn ndcg_at_10(samples: &[RankingSample], qrels: &Qrels) -> f64 {
    let dcg = |grades: &[i32]| -> f64 {
        grades.iter().take(10).enumerate().map(|(i, g)| f64::from((*g).max(0)) / (i as f64 + 2.0).log2()).sum()
    };
    let of = |sample: &RankingSample| {
        let given: Vec<i32> = sample.passages.iter().map(|p| p.label.unwrap_or(0)).collect();
        let mut ideal: Vec<i32> = qrels.judged(&sample.query_id).unwrap().values().copied().collect();
        ideal.sort_by_key(|grade| std::cmp::Reverse(*grade));
        dcg(&given) / dcg(&ideal)
    };
    samples.iter().map(of).sum::<f64>() / samples.len() as f64
}

#[test]
fn dl19_and_dl21_lists_load_without_loss() {
    for (folder, short, queries, published) in [("trec-dl19", "dl19", 43, 0.5058), ("trec-dl21", "dl21", 53, 0.4458)] {
        let results = format!("retrieve_results_{short}.json.gz");
        let judged = format!("qrels.{short}-passage.txt");
        let Some((samples, report)) = retrieve_results(folder, &results, &judged) else { return };
        assert_eq!((samples.len(), report.read, report.kept), (queries, queries as u64, queries as u64));
        assert!(samples.iter().all(|sample| sample.passages.len() == 100));
        assert!(report.dropped.is_empty() && report.malformed.is_empty(), "{report}");
        let folder = shared(folder).unwrap();
        let qrels = Qrels::read(&folder.join(&judged)).unwrap();
        assert!((ndcg_at_10(&samples, &qrels) - published).abs() < 5e-5);
        let Some(run) = shared(&format!("trec-{short}/run.bm25.{short}.trec.txt.gz")) else { continue };
        let run = TrecRun::read(&run).unwrap();
        for sample in &samples {
            let ids: Vec<&str> = run.ranked(&sample.query_id).unwrap().iter().map(|e| e.doc_id.as_str()).collect();
            assert_eq!(ids, sample.passages.iter().map(|p| p.doc_id.as_str()).collect::<Vec<_>>());
        }
    }
}

fn windows(file: &str, broken: BrokenResponse) -> Option<(Vec<RankingSample>, SetReport)> {
    let path = shared(&format!("llm-rank-responses/{file}"))?;
    let source = SourceConfig::Conversations(ConversationsConfig { path, broken });
    Some(load(&RankingSetConfig::new(source)).unwrap())
}

#[test]
fn rankvicuna_windows_load_as_their_readme_counts_them() {
    let file = "rankvicuna-7b.dl19.windows.all-retrievers.jsonl.gz";
    let Some((samples, report)) = windows(file, BrokenResponse::Drop) else { return };
    assert_eq!((report.read, report.kept), (3870, 3865), "{report}");
    assert_eq!(report.dropped["answer is no permutation"], 5);
    assert!(samples.iter().all(|sample| sample.passages.len() == 20));
    let queries: HashSet<&str> = samples.iter().map(|sample| sample.query.as_str()).collect();
    assert_eq!(queries.len(), 43);
    let (_, report) = windows(file, BrokenResponse::Repair).unwrap();
    assert_eq!((report.kept, report.notes["answers repaired"]), (3870, 5));
    // These are DL19's own queries: scoring DL19 with a model trained on them says nothing.
    let dl19 = retrieve_results("trec-dl19", "retrieve_results_dl19.json.gz", "qrels.dl19-passage.txt");
    let Some((dl19, _)) = dl19 else { return };
    let overlap = query_overlap(&query_texts(&samples), &dl19);
    assert_eq!((overlap.shared, overlap.evaluation), (43, 43));
}

#[test]
fn several_turn_prompts_and_broken_answers_of_vicuna() {
    let exact = [("vicuna-7b-v1.5.dl19.windows.jsonl.gz", 6), ("vicuna-13b-v1.5.dl19.windows.jsonl.gz", 0)];
    for (file, ok) in exact {
        let Some((samples, report)) = windows(file, BrokenResponse::Repair) else { return };
        assert_eq!((samples.len(), report.malformed.len()), (387, 0), "{report}");
        let clean = 387 - report.notes["answers repaired"];
        // An exact permutation after `1. ` counts as one here, not in the strict count of the data's description.
        assert!(clean >= ok, "{clean} exact permutations, at least {ok} wanted");
        assert!(samples.iter().all(|sample| sample.passages.len() == 20));
    }
}

#[test]
fn published_rankvicuna_prompts_are_written_back_word_for_word() {
    let Some((samples, _)) = windows("rankvicuna-7b.dl19.top20.jsonl.gz", BrokenResponse::Drop) else { return };
    let path = shared("llm-rank-responses").unwrap().join("rankvicuna-7b.dl19.top20.jsonl.gz");
    let text = String::from_utf8(crate::files::read_bytes(&path).unwrap()).unwrap();
    let config = PromptConfig { template: PromptTemplate::Vicuna, ..PromptConfig::of(PromptStyle::RankVicuna) };
    let builder = PromptBuilder::new(tokenizer("bytes"), config).unwrap();
    for (line, sample) in text.lines().zip(&samples) {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(builder.text(sample).unwrap(), row["prompt"].as_str().unwrap(), "{}", sample.query_id);
    }
    assert_eq!(samples.len(), 43);
}

#[test]
fn squad_dev_questions_find_their_paragraph() {
    let Some(folder) = shared("squad") else { return };
    let config = SquadConfig {
        path: folder.join("dev-v1.1.json.gz"),
        num_candidates: 10,
        pool: SquadPool::Article,
        passage_words: None,
        gold_missing: GoldMissing::Keep,
        max_questions: Some(400),
        seed: 1,
        part: SquadPart::All,
        held_out_fraction: 0.1,
    };
    let (samples, report) = load(&RankingSetConfig::new(SourceConfig::Squad(config.clone()))).unwrap();
    assert_eq!(samples.len(), 400);
    let gold = |sample: &RankingSample| sample.passages.iter().position(|p| p.label == Some(1));
    let found = samples.iter().filter(|sample| gold(sample).is_some()).count();
    let first = samples.iter().filter(|sample| gold(sample) == Some(0)).count();
    println!("BM25 within the article: {found} of 400 in the first 10, {first} first; {report}");
    assert!(found > 340 && first > 200 && first < 360, "{found} {first}");
    assert_eq!(report.notes["BM25 misses the paragraph: list kept"], 400 - found as u64);
    let passages = SquadConfig { passage_words: Some(45), ..config.clone() };
    let (short, report) = load(&RankingSetConfig::new(SourceConfig::Squad(passages))).unwrap();
    let longest = |samples: &[RankingSample]| {
        let words = samples.iter().flat_map(|s| &s.passages).map(|p| p.text.split_whitespace().count());
        words.filter(|words| *words > 45).count()
    };
    let found = short.iter().filter(|sample| gold(sample).is_some()).count();
    println!("BM25 over passages of 45 words: {found} of 400 in the first 10; {report}");
    assert!(found > 320 && longest(&short) * 5 < longest(&samples), "{found}");
    let inserted = SquadConfig { gold_missing: GoldMissing::Insert, ..config };
    let (samples, _) = load(&RankingSetConfig::new(SourceConfig::Squad(inserted))).unwrap();
    for sample in &samples {
        let place = gold(sample).unwrap() as u16;
        let mut wanted: Vec<u16> = (0..sample.passages.len() as u16).filter(|index| *index != place).collect();
        wanted.insert(0, place);
        assert_eq!(sample.target, Some(wanted), "the gold paragraph, then BM25's order");
    }
}

#[test]
fn cranfield_with_bm25_and_noveleval() {
    let Some(path) = shared("cranfield") else { return };
    let config = BeirConfig { path: path.clone(), split: "test".into(), run: None, num_candidates: 100 };
    let (samples, report) = load(&RankingSetConfig::new(SourceConfig::Beir(config))).unwrap();
    assert_eq!((samples.len(), report.kept), (225, 225), "{report}");
    let ndcg = ndcg_at_10(&samples, &Qrels::read(&path.join("qrels/test.tsv")).unwrap());
    println!("Cranfield, BM25 k1 1.2 b 0.75: nDCG@10 {ndcg:.4}");
    assert!((0.30..0.45).contains(&ndcg), "{ndcg} (0.340 by another BM25)");
    let noveleval = retrieve_results("noveleval", "retrieve_results_noveleval.json.gz", "qrels.txt");
    let Some((samples, report)) = noveleval else { return };
    assert_eq!((samples.len(), samples[0].passages.len()), (21, 20), "{report}");
    assert!(samples.iter().all(|sample| sample.target.is_some()));
}
