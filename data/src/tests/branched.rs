use std::sync::Arc;

use model::{BranchAlignment, TargetAlignment};

use super::tokenizer;
use crate::DataError;
use crate::batch::{Loader, LoaderConfig, LoaderOptions, SamplePlace, SampleSource, TokenSource, TooLong};
use crate::branched::{
    Branch, BranchPromptConfig, BranchPrompts, BranchedSetConfig, BranchedText, ColumnarTexts, Learned,
    SequentialTexts, load,
};
use crate::prepared::{Counts, PreparedSet, prepare_branched};

fn set(source: &str) -> BranchedSetConfig {
    serde_json::from_str(&format!(r#"{{"source": {source}}}"#)).unwrap()
}

fn texts() -> Vec<BranchedText> {
    let branch = |id: &str, prompt: &str, answer: &str| Branch {
        id: id.into(),
        prompt: prompt.into(),
        answers: if answer.is_empty() { vec![] } else { vec![answer.into(), "other".into()] },
    };
    let (background, origin) = ("the sky is blue and grass is green".to_owned(), String::new());
    let branches = vec![
        branch("q1", "what is the sky?", "blue"),
        branch("q2", "and what is the grass then?", "green, it is"),
        branch("q3", "unanswered?", ""),
    ];
    let document = vec![branch("p1", "", "a paragraph of its own"), branch("p2", "", "another")];
    vec![
        BranchedText { id: "a".into(), background: background.clone(), branches, origin: origin.clone() },
        BranchedText { id: "b".into(), background, branches: document, origin },
    ]
}

fn prompts() -> BranchPrompts {
    BranchPrompts::new(tokenizer("bytes"), BranchPromptConfig::default()).unwrap()
}

fn columnar(learned: Learned, targets: TargetAlignment) -> ColumnarTexts {
    let texts: Arc<dyn SampleSource<BranchedText>> = Arc::new(texts());
    ColumnarTexts { texts, prompts: prompts(), learned, alignment: BranchAlignment::Prompts, targets }
}

fn at(index: usize) -> SamplePlace {
    SamplePlace { epoch: 0, index }
}

#[test]
fn squad_questions_are_grouped_by_their_paragraph() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("squad.json");
    let question = |n: usize| {
        serde_json::json!({"id": format!("q{n}"), "question": format!("what {n}? "),
        "answers": [{"text": "one", "answer_start": 0}, {"text": "1", "answer_start": 0}]})
    };
    let paragraph = |text: &str, from: usize, to: usize| serde_json::json!({"context": text, "qas": (from..to).map(question).collect::<Vec<_>>()});
    let paragraphs =
        [paragraph("one two", 0, 5), paragraph("one", 5, 6), paragraph("two one", 6, 7), paragraph("two one", 7, 8)];
    let file = serde_json::json!({"data": [{"title": "t", "paragraphs": paragraphs}]});
    std::fs::write(&path, file.to_string()).unwrap();
    let source = |more: &str| set(&format!(r#"{{"squad_questions": {{"path": {path:?}, "max_questions": 3{more}}}}}"#));
    let (texts, report) = load(&source("")).unwrap();
    let ids: Vec<Vec<&str>> = texts.iter().map(|text| text.branches.iter().map(|b| b.id.as_str()).collect()).collect();
    assert_eq!(ids, [vec!["q0", "q1", "q2"], vec!["q6", "q7"]]);
    assert_eq!((texts[0].branches[0].prompt.as_str(), texts[0].branches[0].answers.len()), ("what 0?", 2));
    assert_eq!(report.dropped["too few questions"], 1);
    assert_eq!(report.notes["questions beyond `max_questions` left out"], 2);
    assert_eq!(report.notes["paragraphs put together with the same text before"], 1);
    let (shuffled, _) = load(&source(r#", "shuffle_seed": 3"#)).unwrap();
    assert_eq!(shuffled.len(), 2);
    let problem = load(&source(r#", "min_questions": 4"#)).unwrap_err().to_string();
    assert!(problem.contains("`squad_questions.min_questions` is 4"), "{problem}");
}

#[test]
fn own_rows_are_read_and_bad_ones_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let rows = [
        r#"{"background": "text", "questions": [{"question": "what?", "answers": ["this"]}, {"question": "who?"}]}"#,
        r#"{"background": "text", "questions": []}"#,
        r#"{"questions": [{"question": "what?"}]}"#,
        r#"{"background": "text", "questions": [{"question": " "}]}"#,
    ];
    std::fs::write(&path, rows.join("\n")).unwrap();
    let mut config = set(&format!(r#"{{"questions": {{"path": {path:?}}}}}"#));
    let (texts, report) = load(&config).unwrap();
    assert_eq!((texts.len(), report.dropped["malformed row"]), (1, 3));
    assert_eq!(texts[0].branches[1].id, "1/1");
    assert!(report.to_string().contains("missing field `background`"), "{report}");
    config.strict = true;
    assert!(load(&config).unwrap_err().to_string().contains("rows.jsonl:2: no `questions`"));
    std::fs::write(&path, rows[0].replace("who?\"}", "who?\", \"id\": \"1/0\"}")).unwrap();
    assert!(matches!(load(&config), Err(DataError::DuplicateId { kind: "branch", .. })));
}

#[test]
fn prepared_texts_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("documents.txt");
    let paragraphs: Vec<String> = (0..9).map(|n| format!("paragraph number {n} of this document")).collect();
    std::fs::write(&path, paragraphs.join("\n")).unwrap();
    let config = set(&format!(r#"{{"documents": {{"path": {path:?}, "max_words": 24, "background_paragraphs": 1}}}}"#));
    let out = folder.path().join("set");
    let card = prepare_branched("documents", &config, &out).unwrap();
    let read = PreparedSet::<BranchedText>::open(&out).unwrap().samples().unwrap();
    assert_eq!(read, load(&config).unwrap().0);
    assert_eq!(read.len(), 2);
    let Counts::Texts(counts) = card.counts else { panic!("texts") };
    assert_eq!((counts.branches.max, counts.answered), (3, 6));
    let markdown = std::fs::read_to_string(out.join("CARD.md")).unwrap();
    assert!(markdown.contains("- texts: 2 kept of 3 read\n- branches per text: 3 to 3"), "{markdown}");
    let wrong = PreparedSet::<crate::RankingSample>::open(&out).unwrap().samples().unwrap_err().to_string();
    assert!(wrong.contains("query_id"), "{wrong}");
}

#[test]
fn in_columns_every_answer_is_learned_from_its_own_branch() {
    let sample = columnar(Learned::Answers, TargetAlignment::Branch).tokens(at(0), 0).unwrap();
    let columns = sample.columns.clone().unwrap();
    let prompts = prompts();
    let answers = [prompts.answer("blue").unwrap(), prompts.answer("green, it is").unwrap()];
    assert_eq!(sample.targets.len(), answers.iter().map(Vec::len).sum::<usize>());
    for (number, answer) in answers.iter().enumerate() {
        let own = |place: &usize| columns.branches[*place] == number as u32 + 1;
        let learned: Vec<i64> =
            sample.targets.iter().filter(|(_, to)| own(to)).map(|(_, to)| sample.input_ids[*to]).collect();
        assert_eq!(&learned, answer);
        assert!(sample.targets.iter().filter(|(_, to)| own(to)).all(|(from, _)| own(from)));
        let first = sample.targets.iter().find(|(_, to)| own(to)).unwrap();
        assert_eq!(columns.columns[first.0], columns.columns[sample.targets[0].0], "answers start in one column");
    }
    let background = prompts.background("the sky is blue and grass is green").unwrap();
    assert_eq!(sample.input_ids[..background.len()], background);
    assert!(columns.columns.is_sorted());
}

#[test]
fn the_published_shift_learns_other_branches_tokens() {
    let sample = columnar(Learned::Answers, TargetAlignment::Linear).tokens(at(0), 0).unwrap();
    let branches = sample.columns.unwrap().branches;
    assert!(sample.targets.iter().any(|(from, to)| branches[*from] != branches[*to]));
    assert!(sample.targets.iter().all(|(from, to)| from + 1 == *to));
}

#[test]
fn documents_learn_everything_but_the_first_tokens() {
    let sample = columnar(Learned::Everything, TargetAlignment::Branch).tokens(at(1), 0).unwrap();
    assert_eq!(sample.targets.len(), sample.input_ids.len() - 3, "background and two paragraphs begin unforetold");
}

#[test]
fn one_question_at_a_time_reads_the_same_tokens() {
    let source = SequentialTexts::new(Arc::new(texts()), prompts()).unwrap();
    assert_eq!(source.len(), 4, "two questions with answers, and two paragraphs");
    let sample = source.tokens(at(1), 0).unwrap();
    let prompts = prompts();
    let parts = [
        prompts.background("the sky is blue and grass is green").unwrap(),
        prompts.question(2, "and what is the grass then?").unwrap(),
        prompts.answer("green, it is").unwrap(),
    ];
    assert_eq!(sample.input_ids, parts.concat());
    assert_eq!((sample.targets[0].1, sample.targets.len()), (parts[0].len() + parts[1].len(), parts[2].len()));
    assert_eq!(prompts.text(&parts[2]).unwrap(), "green, it is");
}

#[test]
fn a_loader_packs_layouts_and_counts_texts_that_do_not_fit() {
    let config = LoaderConfig {
        seed: 1,
        rank: 0,
        world_size: 1,
        global_batch_size: 2,
        micro_batch_size: 8,
        max_micro_batch_tokens: 4096,
        prefetch_steps: 1,
        num_steps: 1,
        shuffle: false,
    };
    let open = |config: &LoaderConfig, options: LoaderOptions| {
        let source = Arc::new(columnar(Learned::Everything, TargetAlignment::Branch));
        Loader::of_tokens(source, config.clone(), options, 0).unwrap()
    };
    let step = open(&config, LoaderOptions::default()).next().unwrap().unwrap();
    let batch = &step.micro_batches[0];
    assert_eq!((step.micro_batches.len(), batch.layouts.len()), (1, 2));
    let tokens: usize = batch.layouts.iter().map(model::ColumnTokens::len).sum();
    assert_eq!(tokens as i64, batch.num_tokens());
    let lengths: Vec<i64> = batch.layouts.iter().map(|layout| layout.len() as i64).collect();
    assert_eq!(batch.cu_seqlens, [0, lengths[0], lengths[0] + lengths[1]]);

    let small = LoaderConfig { max_micro_batch_tokens: lengths[1] as usize, ..config };
    let mut loader = open(&small, LoaderOptions::default());
    assert_eq!(loader.next().unwrap().unwrap().micro_batches[0].query_ids, ["b"]);
    assert_eq!(loader.skipped().too_long, 1);
    let error = open(&small, LoaderOptions { too_long: TooLong::Error, ..LoaderOptions::default() }).next().unwrap();
    let message = error.unwrap_err().to_string();
    assert!(
        message.starts_with("text `a` has ") && message.contains(&format!("the limit is {}", lengths[1])),
        "{message}"
    );
}

#[test]
fn wording_without_its_text_is_refused() {
    let config = BranchPromptConfig { question: "What?".into(), ..BranchPromptConfig::default() };
    let problem = BranchPrompts::new(tokenizer("bytes"), config.clone()).unwrap_err().to_string();
    assert!(problem.contains("`question` is \"What?\", wanted a text with `{question}` in it"), "{problem}");
    let other = BranchPromptConfig { answer: "{answer}".into(), ..BranchPromptConfig::default() };
    assert_ne!(prompts().hash(), BranchPrompts::new(tokenizer("bytes"), other).unwrap().hash());
}
