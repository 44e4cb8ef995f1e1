//! Texts with branches through the binary: pretrained, fine-tuned, answered, resumed, shown, and refused where they do not fit.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::fs;

use fixture::Workplace;
use serde_json::Value;

const EXPERIMENT: &str = "\
name: columns
seed: 7
model: {path: model, device: cpu, precision: fp32}
data:
  branched:
    documents: {source: {documents: {path: documents.txt, background_paragraphs: 1, max_words: 40}}}
    train: {source: {questions: {path: train.jsonl}}}
    dev: {source: {questions: {path: dev.jsonl}}}
train:
  precision: fp32
  learning_rate: 1e-3
  global_batch_size: 2
  micro_batch_size: 2
  max_micro_batch_tokens: 2048
  max_steps: 3
  checkpoint: {every_steps: 2}
  stages:
    - {name: documents, data: documents, objective: {columnar: {rope: {pairs: [1, 3]}}}}
    - {name: columns, data: train, objective: {columnar_qa: {}}}
    - {name: lora, from: documents, data: train, objective: {columnar_qa: {}}, lora: {r: 2}}
    - {name: sequential, from: base, data: train, objective: {sequential_qa: {}}}
answer:
  sets: [dev]
  max_new_tokens: 4
  systems:
    - {model: untrained, decoders: [one_by_one, one_by_one_cached, shared_prefix]}
    - {model: columns, decoders: [columnar]}
    - {model: lora, decoders: [columnar]}
    - {model: sequential, decoders: [shared_prefix]}
";

fn rows(part: &str, count: usize) -> String {
    let row = |n: usize| {
        let question = |k: usize| serde_json::json!({"id": format!("{part}{n}.{k}"), "question": format!("{part} number {k} of {n}?"), "answers": [format!("{k}")]});
        let questions: Vec<Value> = (0..2 + n % 2).map(question).collect();
        serde_json::json!({"background": format!("text {n} of {part}"), "questions": questions}).to_string() + "\n"
    };
    (0..count).map(row).collect()
}

fn workplace() -> Workplace {
    let place = Workplace::new(4096);
    place.write("columns.yaml", EXPERIMENT);
    let paragraphs: Vec<String> = (0..24).map(|n| format!("paragraph {n} has some words of its own")).collect();
    place.write("documents.txt", &paragraphs.join("\n\n"));
    place.write("train.jsonl", &rows("train", 8));
    place.write("dev.jsonl", &rows("dev", 3));
    place
}

fn json(place: &Workplace, file: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path(file)).unwrap()).unwrap()
}

#[test]
fn an_experiment_trains_answers_and_reports() {
    let place = workplace();
    let first = place.run(&["run", "columns.yaml"]).expect_code(0);
    assert!(first.stderr.contains("questions, from `base`"), "{}", first.stderr);
    let table = json(&place, "runs/columns/tables/answers.json");
    let rows = table["rows"].as_array().unwrap();
    let names: Vec<String> = rows.iter().map(|row| format!("{} {}", row[1]["text"], row[2]["text"])).collect();
    assert_eq!(
        names,
        [
            r#""base" "one_by_one""#,
            r#""base" "one_by_one_cached""#,
            r#""base" "shared_prefix""#,
            r#""columns" "columnar""#,
            r#""lora" "columnar""#,
            r#""sequential" "shared_prefix""#
        ]
    );
    assert!(table["caption"].as_str().unwrap().contains("7 questions about 3 texts"), "{table}");
    let memory = table["columns"].as_array().unwrap().iter().position(|column| column["key"] == "memory_mib").unwrap();
    assert!(rows.iter().all(|row| row[memory]["value"]["value"].as_f64().is_some_and(|mib| mib >= 0.0)), "{table}");
    // greedy answers are the same by all ways that read the same tokens
    let lines = fs::read_to_string(place.path("runs/columns/predictions/dev.base.answers.jsonl")).unwrap();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["decoders"][0]["answers"], line["decoders"][1]["answers"]);
        assert_eq!(line["decoders"][0]["answers"], line["decoders"][2]["answers"]);
    }
    // as SQuAD's official script reads them
    let squad = json(&place, "runs/columns/predictions/dev.columns.answers.columnar.squad.json");
    assert_eq!(squad.as_object().unwrap().len(), 7);
    assert!(place.path("runs/columns/predictions/dev.columns.answers.parquet").is_file());
    // the rope of pretraining stays with the models made from it
    for model in ["documents", "columns", "lora"] {
        let config = json(&place, &format!("runs/columns/model/{model}/config.json"));
        assert_eq!(config["columnar_rope"]["pairs"], serde_json::json!([1, 3]), "{model}");
    }
    assert!(json(&place, "runs/columns/model/sequential/config.json").get("columnar_rope").is_none());
    let page = fs::read_to_string(place.path("runs/columns/report.html")).unwrap();
    assert!(
        page.contains("<h2>Answers</h2>") && page.contains("class=\"mask\""),
        "no answers or no picture in the report"
    );
    assert!(page.contains("F1 (%) against latency on dev") && page.contains("F1 of columns (columnar) on dev"));
    assert!(page.contains("F1 of") && page.contains("against base · one_by_one"), "no question by question");

    let compared = place
        .run(&["compare", "runs/columns", "--baseline", "columns/base/one_by_one", "--json", "--out", "compared"])
        .expect_code(0)
        .json();
    let rows = compared["table"]["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &compared["table"]["name"]), (12, &serde_json::json!("answered_runs")), "{compared}");
    assert!(place.path("compared/answered_runs.csv").is_file());
    let page = fs::read_to_string(place.path("compared/report.html")).unwrap();
    assert!(
        page.contains("F1 of columns · ") && page.contains("against columns · base · one_by_one"),
        "no question by question"
    );

    let again = place.run(&["run", "columns.yaml"]).expect_code(0);
    let skipped = again.stderr.matches("unchanged, skipped").count();
    assert_eq!(skipped, 3 + 4 + 4 + 1, "{}", again.stderr);
}

/// Two ranks answer what one process does, and take over what an interrupted run of more ranks left.
#[test]
fn ranks_share_the_answering() {
    let place = workplace();
    let only =
        ["--set", "answer.systems=[{model: base, decoders: [one_by_one_cached, columnar]}]", "--set", "train=null"];
    let launched = [&["launch", "--nproc-per-node", "2", "--", "run", "columns.yaml"], &only[..]].concat();
    let predictions = "runs/columns/predictions";
    let answers = || json(&place, &format!("{predictions}/dev.base.answers.columnar.squad.json"));
    place.run(&[&["run", "columns.yaml"], &only[..]].concat()).expect_code(0);
    let alone = answers();
    fs::remove_dir_all(place.path(predictions)).unwrap();
    let said = place.run(&launched).expect_code(0).stderr;
    assert!(said.contains("base on dev, this rank's: 2 of 2 texts"), "{said}");
    assert_eq!(answers(), alone);

    let result = format!("{predictions}/dev.base.answers.json");
    let texts =
        || json(&place, &result)["rows"].as_array().unwrap().iter().map(|row| row["texts"].clone()).collect::<Vec<_>>();
    let before = texts();
    assert!(said.contains("report: done again") && said.contains("run: runs/columns"), "{said}");
    let lines = place.path(&format!("{predictions}/dev.base.answers.jsonl"));
    fs::rename(&lines, lines.with_extension("jsonl.rank-2")).unwrap();
    fs::remove_file(place.path(&result)).unwrap();
    place.run(&launched).expect_code(0);
    assert_eq!(texts(), before, "seconds of kept texts stay");
    let left = fs::read_dir(place.path(predictions)).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("rank-")), "parts are left");
}

#[test]
fn answering_goes_on_where_it_stopped() {
    let place = workplace();
    let only = ["--set", "answer.systems=[{model: base, decoders: [columnar]}]", "--set", "train=null"];
    place.run(&[&["run", "columns.yaml"], &only[..]].concat()).expect_code(0);
    let path = "runs/columns/predictions/dev.base.answers.jsonl";
    let whole = fs::read_to_string(place.path(path)).unwrap();
    let before = json(&place, "runs/columns/predictions/dev.base.answers.json");
    // the last line cut short, and the result gone: as after a kill
    fs::write(place.path(path), &whole[..whole.len() - 9]).unwrap();
    fs::remove_file(place.path("runs/columns/predictions/dev.base.answers.json")).unwrap();
    place.run(&[&["run", "columns.yaml"], &only[..]].concat()).expect_code(0);
    let after = json(&place, "runs/columns/predictions/dev.base.answers.json");
    let kept = |value: &Value, text: usize| value["rows"][0]["texts"][text].clone();
    assert_eq!(kept(&before, 0), kept(&after, 0), "seconds of kept texts stay");
    let scores =
        |value: &Value, text: usize| (kept(value, text)["f1"].clone(), kept(value, text)["new_tokens"].clone());
    assert_eq!(scores(&before, 2), scores(&after, 2));
    assert_eq!(fs::read_to_string(place.path(path)).unwrap().lines().count(), 3);
}

#[test]
fn a_model_may_be_read_in_columns_it_was_not_trained_in() {
    let place = workplace();
    let offset =
        "{model: base, name: offset, decoders: [columnar], rope: {positions: branch_offset, branch_stride: 64}}";
    let run = |systems: &str| {
        let systems = format!("answer.systems=[{{model: base, decoders: [columnar]}}, {systems}]");
        place.run(&["run", "columns.yaml", "--set", &systems, "--set", "train=null", "--set", "answer.baseline=null"])
    };
    run(offset).expect_code(0);
    let table = json(&place, "runs/columns/tables/answers.json");
    let names: Vec<&str> = table["rows"].as_array().unwrap().iter().filter_map(|row| row[1]["text"].as_str()).collect();
    assert_eq!(names, ["base", "offset"]);
    let stamp = json(&place, "runs/columns/stamps/answer.offset.dev.json").to_string();
    assert!(stamp.contains("\"rope\""), "other positions are another stage: {stamp}");
    let exported = place.run(&["runs", "export", "runs/columns", "--mlflow", "mlruns"]).expect_code(0).stdout;
    assert!(exported.contains("2 models"), "the system with a name of its own is exported too: {exported}");

    let twice = run("{model: base, decoders: [columnar]}").expect_code(2).stderr;
    assert!(twice.contains("or give it a `name`"), "{twice}");
    let pairs = run("{model: base, name: b, decoders: [columnar], rope: {pairs: [99]}}").expect_code(2).stderr;
    assert!(pairs.contains("`pairs` holds 99"), "{pairs}");
    let asked = ["answer", "--model", "model", "--background", "x", "--question", "y", "--rope"];
    place.run(&[&asked[..], &["{positions: branch_offset}"]].concat()).expect_code(0);
    let unread = place.run(&[&asked[..], &["{stride: 3}"]].concat()).expect_code(2).stderr;
    assert!(unread.contains("`--rope` cannot be read") && unread.contains("branch_stride"), "{unread}");
}

#[test]
fn texts_in_a_batch_get_the_answers_they_get_alone() {
    let place = workplace();
    let answers = |batch: &str| {
        let systems = "answer.systems=[{model: base, decoders: [columnar]}]";
        let batch = format!("answer.texts_per_batch={batch}");
        place.run(&["run", "columns.yaml", "--set", systems, "--set", "train=null", "--set", &batch]).expect_code(0);
        json(&place, "runs/columns/predictions/dev.base.answers.columnar.squad.json")
    };
    assert_eq!(answers("1"), answers("2"));
}

#[test]
fn another_rope_than_the_models_own_is_refused() {
    let place = workplace();
    let stages = "train.stages=[{name: a, data: train, objective: {columnar_qa: {rope: {pairs: [1]}}}}, \
                  {name: b, data: train, objective: {columnar_qa: {rope: {ratio: 0.5}}}}]";
    let run = place.run(&["train", "columns.yaml", "--set", stages, "--set", "answer=null"]).expect_code(2);
    assert!(run.stderr.contains("columnar_qa.rope") && run.stderr.contains("undone"), "{}", run.stderr);
    let none = "train.stages=[{name: a, data: train, objective: {columnar_qa: {rope: {pairs: [99]}}}}]";
    let run = place.run(&["train", "columns.yaml", "--set", none, "--set", "answer=null"]).expect_code(2);
    assert!(run.stderr.contains("`pairs` holds 99"), "{}", run.stderr);
}

#[test]
fn branches_that_nothing_tells_apart_are_warned_of() {
    let place = workplace();
    let train = |rope: &str| {
        let stages = format!("train.stages=[{{name: a, data: train, objective: {{columnar_qa: {{rope: {rope}}}}}}}]");
        place.run(&["train", "columns.yaml", "--set", &stages, "--set", "answer=null"])
    };
    let refused = train("{branch_stride: 8}").expect_code(2);
    assert!(refused.stderr.contains("nothing tells branches apart"), "{}", refused.stderr);
    let blind = train("{pairs: [], positions: column}").expect_code(0);
    assert!(blind.stderr.contains("an angle of at most 0.0000"), "{}", blind.stderr);
    let seeing = train("{positions: branch_offset}").expect_code(0);
    assert!(!seeing.stderr.contains("an angle of at most"), "{}", seeing.stderr);
    assert_eq!(json(&place, "runs/columns/model/a/config.json")["columnar_rope"]["positions"], "branch_offset");
}

#[test]
fn sets_of_the_wrong_kind_and_wrong_names_are_told() {
    let place = workplace();
    let run =
        place.run(&["config", "check", "columns.yaml", "--set", "train.stages.documents.data=trian"]).expect_code(2);
    assert!(run.stderr.contains("did you mean `train`?"), "{}", run.stderr);
    let run = place
        .run(&["config", "check", "columns.yaml", "--set", "train.stages.columns.objective={first: {}}"])
        .expect_code(2);
    assert!(run.stderr.contains("`train` stands in `data.branched`, but `first`"), "{}", run.stderr);
    let run = place
        .run(&["config", "check", "columns.yaml", "--set", "answer.baseline={model: columns, decoder: one_by_one}"])
        .expect_code(2);
    assert!(run.stderr.contains("not among `systems`"), "{}", run.stderr);
    let prompt = "data.branch_prompt={question: 'What?'}";
    let run = place.run(&["config", "check", "columns.yaml", "--set", prompt]).expect_code(2);
    assert!(run.stderr.contains("data.branch_prompt.question"), "{}", run.stderr);
}

#[test]
fn questions_are_answered_side_by_side_from_the_command_line() {
    let place = workplace();
    let ask = |decoder: &str, more: &[&str]| {
        let fixed = [
            "answer",
            "--model",
            "model",
            "--precision",
            "fp32",
            "--background",
            "a text",
            "--question",
            "who?",
            "--question",
            "and where is it?",
            "--max-new-tokens",
            "5",
            "--json",
            "--decoder",
            decoder,
        ];
        place.run(&[&fixed[..], more].concat())
    };
    let answer = |decoder: &str| -> Value { serde_json::from_str(&ask(decoder, &[]).expect_code(0).stdout).unwrap() };
    let (columns, shared, single) = (answer("columnar"), answer("shared_prefix"), answer("one_by_one"));
    assert_eq!(shared["answers"], single["answers"]);
    assert_eq!(columns["answers"].as_array().unwrap().len(), 2);
    assert!(columns["forward_passes"].as_u64() < single["forward_passes"].as_u64());
    let bad = ask("columnar", &["--prompt", "{question: who}"]).expect_code(2);
    assert!(bad.stderr.contains("`question` is \"who\""), "{}", bad.stderr);
    let unknown = ask("columnar", &["--prompt", "{qestion: who}"]).expect_code(2);
    assert!(unknown.stderr.contains("qestion"), "{}", unknown.stderr);
}

#[test]
fn layouts_are_printed() {
    let place = workplace();
    let shown = place
        .run(&["show-layout", "--background", "2", "--branches", "2+1,1+2", "--mask", "--svg", "mask.svg"])
        .expect_code(0);
    insta::assert_snapshot!(shown.stdout.replace(place.path("mask.svg").to_str().unwrap(), "mask.svg"));
    assert!(fs::read_to_string(place.path("mask.svg")).unwrap().starts_with("<svg"));
    let linear = place.run(&["show-layout", "--branches", "2+3,2+3", "--targets", "linear"]).expect_code(0);
    assert!(linear.stdout.contains("learned (6 tokens, 6 of them from another branch's token)"), "{}", linear.stdout);
    let of_file = place.run(&["show-layout", "columns.yaml", "--branched-set", "train", "--index", "1"]).expect_code(0);
    assert!(
        of_file.stdout.contains("text `2` of set `train`") && of_file.stdout.contains("branch 3"),
        "{}",
        of_file.stdout
    );
    place.run(&["show-layout", "--branches", "0+3"]).expect_code(2);
    place.run(&["show-layout", "columns.yaml", "--branched-set", "trian"]).expect_code(2);
}

#[test]
fn texts_are_shown_from_the_file_and_from_the_prepared_folder() {
    let place = workplace();
    let of_file = place.run(&["data", "show", "columns.yaml", "--query-set", "dev"]).expect_code(0).stdout;
    assert!(of_file.contains("dev1.2  dev number 2 of 1?\n      2"), "{of_file}");
    place.run(&["prepare", "columns.yaml"]).expect_code(0);
    let of_folder = place.run(&["data", "show", "runs/columns/data/dev"]).expect_code(0).stdout;
    assert_eq!(of_file.split_once('\n').unwrap().1, of_folder.split_once('\n').unwrap().1);
}

#[test]
fn the_ways_to_answer_are_timed() {
    let place = workplace();
    let args = [
        "bench",
        "answer",
        "--model",
        "model",
        "--questions",
        "2,3",
        "--background-tokens",
        "20",
        "--question-tokens",
        "4",
        "--answer-tokens",
        "3",
        "--repeats",
        "1",
        "--json",
    ];
    let report: Value = serde_json::from_str(&place.run(&args).expect_code(0).stdout).unwrap();
    assert_eq!(report["timings"].as_array().unwrap().len(), 8);
    assert_eq!(report["timings"][3]["decoder"], "columnar");
    assert_eq!(report["timings"][3]["forward_passes"], 3);
}
