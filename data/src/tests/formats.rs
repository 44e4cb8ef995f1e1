use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::golden;
use crate::sources::{
    BeirConfig, BrokenResponse, ConversationsConfig, JsonlConfig, RankingSetConfig, RetrieveResultsConfig, Selection,
    ShuffleConfig, SourceConfig, TargetConfig, TeacherRunConfig, TrecConfig, load, write_jsonl,
};
use crate::{RankingSample, SetReport};

fn set(source: SourceConfig) -> RankingSetConfig {
    RankingSetConfig::new(source)
}

fn conversations(path: PathBuf, broken: BrokenResponse) -> RankingSetConfig {
    set(SourceConfig::Conversations(ConversationsConfig { path, broken }))
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn conversations_in_parquet_and_both_arrow_forms_are_the_same() {
    let mut loaded: Vec<(Vec<RankingSample>, SetReport)> = Vec::new();
    for name in ["conversations.parquet", "conversations.arrow", "conversations.arrows"] {
        loaded.push(load(&conversations(golden(name), BrokenResponse::Drop)).unwrap());
    }
    let (samples, report) = &loaded[0];
    assert_eq!(samples.iter().map(|s| s.query_id.as_str()).collect::<Vec<_>>(), ["c1", "c2"]);
    assert_eq!(samples[1].target, Some(vec![2, 0, 1]), "letters");
    assert_eq!(samples[0].passages[2].text, "An Insect Growth Regulator (IGR) breaks the flea lifecycle.");
    assert_eq!(samples[0].passages[0].doc_id, samples[1].passages[0].doc_id, "named by content");
    assert_eq!(report.dropped["answer is no permutation"], 1);
    assert!(loaded.iter().all(|(other, _)| other == samples));
    let (repaired, report) = load(&conversations(golden("conversations.arrow"), BrokenResponse::Repair)).unwrap();
    assert_eq!(repaired[2].target, Some(vec![2, 1, 0]), "third, second, and the one not named");
    assert_eq!(report.notes["answers repaired"], 1);
    let error = load(&conversations(golden("conversations.arrow"), BrokenResponse::Error)).unwrap_err().to_string();
    assert!(error.contains(":3: answer `[3] > [3] > [2]` is no permutation"), "{error}");
}

#[test]
fn retrieve_results_in_both_layouts() {
    let folder = tempfile::tempdir().unwrap();
    let old = r#"[{"query": "q one", "hits": [
        {"content": "Title: Content: second", "qid": 7, "docid": "d2", "rank": 2, "score": 1.5},
        {"content": "first", "qid": 7, "docid": "d1", "rank": 1, "score": 2.5}]}]"#;
    let new = concat!(
        r#"{"query": {"text": "q one", "qid": "7"}, "candidates": [{"doc": {"contents": "first"}, "docid": "d1", "score": 2.5},"#,
        r#" {"doc": {"segment": "second"}, "docid": "d2", "score": 1.5}]}"#,
        "\n"
    );
    let qrels = write(folder.path(), "qrels.txt", "7 0 d2 3\n7 0 nowhere 1\n8 0 d1 1\n");
    let mut loaded = Vec::new();
    for (name, text) in [("old.json", old), ("new.jsonl", new)] {
        let path = write(folder.path(), name, text);
        let config = RetrieveResultsConfig { path, qrels: Some(qrels.clone()) };
        loaded.push(load(&set(SourceConfig::RetrieveResults(config))).unwrap());
    }
    let (samples, report) = &loaded[0];
    assert_eq!(samples, &loaded[1].0);
    assert_eq!(samples[0].query_id, "7");
    assert_eq!(samples[0].passages[1].text, "second");
    assert_eq!(samples[0].target, Some(vec![1, 0]), "by label");
    assert_eq!(report.notes["qrels for unknown documents"], 1);
    assert_eq!(report.notes["qrels for unknown queries"], 1);
}

#[test]
fn trec_run_with_corpus_queries_and_a_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let run =
        write(folder.path(), "run.txt", "1 Q0 a 1 9 t\n1 Q0 b 2 8 t\n1 Q0 gone 3 7 t\n1 Q0 c 4 6 t\n5 Q0 a 1 1 t\n");
    let corpus = write(folder.path(), "corpus.tsv", "a\ttext a\nb\ttext b\nc\ttext c\nbroken line\n");
    let queries = write(folder.path(), "queries.jsonl", "{\"_id\": \"1\", \"text\": \"query one\"}\n");
    let teacher = write(folder.path(), "teacher.txt", "1 Q0 c 1 3 t\n1 Q0 a 2 2 t\n1 Q0 z 3 1 t\n");
    let source = TrecConfig { run, qrels: None, corpus, queries };
    let mut config = set(SourceConfig::Trec(source));
    config.target = TargetConfig::TeacherRun(TeacherRunConfig { path: teacher });
    let (samples, report) = load(&config).unwrap();
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].passages.iter().map(|p| p.doc_id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(samples[0].target, Some(vec![2, 0, 1]));
    assert_eq!(report.notes["candidates not in the corpus"], 1);
    assert_eq!(report.notes["candidates the teacher did not rank"], 1);
    assert_eq!(report.dropped["query of the run without text"], 1);
    assert_eq!(report.malformed[0].line, 4);
    config.strict = true;
    assert!(load(&config).unwrap_err().to_string().contains("corpus.tsv:4: neither a JSON object nor `id<TAB>text`"));
}

#[test]
fn beir_folder_with_bm25_and_common_options() {
    let folder = tempfile::tempdir().unwrap();
    let mut corpus = String::new();
    for i in 0..12 {
        corpus += &format!("{{\"_id\": \"d{i:02}\", \"title\": \"T{i}\", \"text\": \"flea number {i}\"}}\n");
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(corpus.as_bytes()).unwrap();
    std::fs::write(folder.path().join("corpus.jsonl.gz"), encoder.finish().unwrap()).unwrap();
    write(
        folder.path(),
        "queries.jsonl",
        "{\"_id\": \"1\", \"text\": \"flea 7\"}\n{\"_id\": \"2\", \"text\": \"flea\"}\n{\"_id\": \"3\", \"text\": \"unjudged\"}\n",
    );
    write(folder.path(), "qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\td07\t2\n1\td03\t1\n2\td99\t1\n");
    let source = BeirConfig { path: folder.path().to_owned(), split: "test".into(), run: None, num_candidates: 10 };
    let mut config = set(SourceConfig::Beir(source));
    config.top_k = Some(5);
    let (samples, report) = load(&config).unwrap();
    assert_eq!(samples.len(), 2);
    assert_eq!(samples[0].passages[0].doc_id, "d07");
    assert_eq!(samples[0].target.as_ref().map(|target| target[0]), Some(0));
    assert_eq!(samples[1].target, None, "nothing relevant among its candidates");
    assert_eq!(report.notes["candidates beyond top_k"], 10);
    assert_eq!(report.notes["qrels for unknown documents"], 1);
    assert_eq!(report.dropped["query without judgements"], 1);
    // A first stage made elsewhere ranks all queries of the file.
    let run = folder.path().join("run.txt");
    std::fs::write(&run, "1 Q0 d07 1 2.0 t\n3 Q0 d01 1 2.0 t\n2 Q0 d02 1 2.0 t\n").unwrap();
    let source =
        BeirConfig { path: folder.path().to_owned(), split: "test".into(), run: Some(run), num_candidates: 10 };
    let (of_run, report) = load(&set(SourceConfig::Beir(source))).unwrap();
    assert_eq!(of_run.iter().map(|sample| sample.query_id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(report.dropped["query without judgements"], 1);
    // A query that is a document of the corpus is no candidate of its own list.
    let itself = tempfile::tempdir().unwrap();
    std::fs::create_dir(itself.path().join("qrels")).unwrap();
    write(
        itself.path(),
        "corpus.jsonl",
        "{\"_id\": \"a\", \"text\": \"flea\"}\n{\"_id\": \"b\", \"text\": \"flea\"}\n{\"_id\": \"c\", \"text\": \"flea\"}\n",
    );
    write(itself.path(), "queries.jsonl", "{\"_id\": \"a\", \"text\": \"flea\"}\n");
    write(itself.path(), "qrels/test.tsv", "query-id\tcorpus-id\tscore\na\tb\t1\n");
    let run = itself.path().join("run.txt");
    std::fs::write(&run, "a Q0 a 1 3.0 t\na Q0 b 2 2.0 t\na Q0 c 3 1.0 t\n").unwrap();
    for run in [None, Some(run)] {
        let source = BeirConfig { path: itself.path().to_owned(), split: "test".into(), run, num_candidates: 2 };
        let (own, report) = load(&set(SourceConfig::Beir(source))).unwrap();
        let mut ids: Vec<&str> = own[0].passages.iter().map(|passage| passage.doc_id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!((ids, report.notes["queries among their own candidates left out"]), (vec!["b", "c"], 1));
    }
    config.require_target = true;
    config.shuffle_candidates = Some(ShuffleConfig { seed: 3 });
    let (shuffled, report) = load(&config).unwrap();
    assert_eq!(report.dropped["no target"], 1);
    assert_ne!(shuffled[0].passages, samples[0].passages);
    let best = usize::from(shuffled[0].target.as_ref().unwrap()[0]);
    assert_eq!(shuffled[0].passages[best].doc_id, "d07", "the target moves with its passages");
}

#[test]
fn own_jsonl_round_trip_and_selection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.jsonl");
    let samples: Vec<RankingSample> =
        (0..30).map(|i| super::sample(&format!("q{i}"), "query", &["a", "b"], Some(vec![1, 0]))).collect();
    write_jsonl(&path, &samples).unwrap();
    let mut config = set(SourceConfig::Jsonl(JsonlConfig { path }));
    assert_eq!(load(&config).unwrap().0, samples);
    config.max_queries = Some(4);
    assert_eq!(load(&config).unwrap().0, samples[..4]);
    config.select = Selection::Random(ShuffleConfig { seed: 1 });
    let (chosen, report) = load(&config).unwrap();
    assert_eq!((chosen.len(), report.read, report.kept), (4, 30, 4));
    assert_eq!(report.dropped["not in the random selection"], 26);
    assert_eq!(chosen, load(&config).unwrap().0, "a seed repeats");
    assert_ne!(chosen, samples[..4]);
    let places: Vec<usize> = chosen.iter().map(|s| s.query_id[1..].parse().unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
}
