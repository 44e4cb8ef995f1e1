//! The commands beside experiments: generate, rank, metrics, bench, doctor, completions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use fixture::{EXPERIMENT, Ended, Workplace};

#[test]
fn generate_prints_text_or_one_object() {
    let place = Workplace::new(512);
    let ended = place.run(&[
        "generate",
        "--model",
        "model",
        "--prompt",
        "hello",
        "--max-new-tokens",
        "5",
        "--ignore-eos",
        "--json",
    ]);
    let object = ended.expect_code(0).json();
    assert_eq!(object["token_ids"].as_array().unwrap().len(), 5);
    assert!(object["text"].is_string());
    let text = place
        .run(&["generate", "--model", "model", "--prompt", "hello", "--max-new-tokens", "9999"])
        .expect_code(3)
        .stderr;
    assert!(text.contains("the model's context is 512"), "{text}");
}

#[test]
fn rank_reads_lists_and_writes_a_run() {
    let place = Workplace::new(4096);
    let list = |id: &str, query: &str| {
        format!(
            r#"{{"query_id": "{id}", "query": "{query}", "passages": [{{"doc_id": "d1", "title": "", "text": "x {query}"}}, {{"doc_id": "d2", "title": "", "text": "{query} y"}}, {{"doc_id": "d3", "title": "", "text": "z"}}], "origin": "t"}}"#
        )
    };
    let row = |id: &str| list(id, "box");
    place.write("lists.jsonl", &format!("{}\n{}\n", row("q1"), list("q2", "a much longer query about jugglers")));
    let arguments = [
        "rank",
        "--model",
        "model",
        "--candidates",
        "lists.jsonl",
        "--out",
        "run.txt",
        "--precision",
        "fp32",
        "--prompt",
        "{identifiers: alphabetic}",
        "--window",
        "2",
        "--stride",
        "1",
        "--json",
    ];
    let object = place.run(&arguments).expect_code(0).json();
    assert_eq!(object["queries"], 2);
    assert_eq!(object["forward_passes"], 4);
    let run = place.read("run.txt");
    assert_eq!(run.lines().count(), 6, "{run}");
    place.run(&[&arguments[..], &["--batch", "2"]].concat()).expect_code(0);
    assert_eq!(place.read("run.txt"), run, "side by side as one after the other");
    let text = place.run(&["rank", "--model", "model", "--candidates", "run.txt", "--out", "x"]).expect_code(2).stderr;
    assert!(text.contains("--queries FILE --corpus FILE"), "{text}");

    place.write("lists.jsonl", &row("q1").replace("\"d2\"", "\"Albert Einstein\""));
    let text = place.run(&arguments).expect_code(3).stderr;
    assert!(text.contains("the id `Albert Einstein` is empty or has blanks in it"), "{text}");
    assert_eq!(place.read("run.txt"), run, "the run of before");
}

#[test]
fn passages_are_cut_until_a_window_fits_the_context_where_that_is_wanted() {
    let place = Workplace::new(1024);
    let passages: Vec<_> = (0..4)
        .map(|n| serde_json::json!({"doc_id": n.to_string(), "title": "t", "text": "word ".repeat(60)}))
        .collect();
    let list = serde_json::json!({"query_id": "q", "query": "box", "passages": passages, "origin": "t"});
    place.write("lists.jsonl", &format!("{list}\n"));
    let rank = |prompt: &str| {
        place.run(&["rank", "--model", "model", "--candidates", "lists.jsonl", "--out", "run.txt", "--prompt", prompt])
    };
    let text = rank("{identifiers: alphabetic}").expect_code(3).stderr;
    assert!(text.contains("the model's context is 1024"), "{text}");
    rank("{identifiers: alphabetic, fit_context: true}").expect_code(0);
    assert_eq!(place.read("run.txt").lines().count(), 4);
}

#[test]
fn metrics_ranking_uses_trec_evals_names() {
    let place = Workplace::empty();
    place.write("qrels.txt", "q1 0 a 1\nq1 0 b 0\nq2 0 a 2\n");
    place.write("run.txt", "q1 Q0 b 1 2.0 t\nq1 Q0 a 2 1.0 t\nq3 Q0 a 1 1.0 t\n");
    let ended = place.run(&["metrics", "ranking", "--qrels", "qrels.txt", "--run", "run.txt", "--json"]).expect_code(0);
    let mean = &ended.json()["mean"];
    assert!((mean["recip_rank"].as_f64().unwrap() - 0.5).abs() < 1e-9);
    assert!((mean["ndcg_cut_10"].as_f64().unwrap() - 1.0 / 3f64.log2()).abs() < 1e-9);
    for name in ["map", "recall_100", "P_5"] {
        assert!(mean[name].is_number(), "{name}");
    }
    let complete =
        place.run(&["metrics", "ranking", "--qrels", "qrels.txt", "--run", "run.txt", "--complete", "--json"]);
    assert!((complete.expect_code(0).json()["mean"]["recip_rank"].as_f64().unwrap() - 0.25).abs() < 1e-9);
    place.write("bad.txt", "q1 Q0 b 1\n");
    let text = place.run(&["metrics", "ranking", "--qrels", "qrels.txt", "--run", "bad.txt"]).expect_code(3).stderr;
    assert!(text.contains("bad.txt:1:"), "{text}");
    place.run(&["metrics", "ranking", "--qrels", "qrels.txt", "--run", "run.txt", "--measure", "ndgc"]).expect_code(2);
}

#[test]
fn metrics_squad_counts_missing_predictions_as_wrong() {
    let place = Workplace::empty();
    let data = r#"{"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "c", "qas": [
        {"id": "1", "question": "q", "answers": [{"text": "The Cat", "answer_start": 0}]},
        {"id": "2", "question": "q", "answers": [{"text": "dog", "answer_start": 0}]}]}]}]}"#;
    place.write("dev.json", data);
    place.write("answers.json", r#"{"1": "cat"}"#);
    let object = place
        .run(&["metrics", "squad", "--dataset", "dev.json", "--predictions", "answers.json", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(object["exact_match"], 50.0);
    assert_eq!(object["f1"], 50.0);
}

#[test]
fn bench_prints_figures_with_their_protocol() {
    let place = Workplace::new(512);
    let step = [
        "bench",
        "train-step",
        "--model",
        "model",
        "--prompt-tokens",
        "32",
        "--label-tokens",
        "8",
        "--steps",
        "2",
        "--json",
    ];
    let object = place.run(&step).expect_code(0).json();
    for key in ["tokens_per_second", "peak_rss_mib", "seconds", "protocol"] {
        assert!(!object[key].is_null(), "{key}");
    }
    let decode = [
        "bench",
        "decode",
        "--model",
        "model",
        "--prompt-tokens",
        "32",
        "--candidates",
        "4",
        "--repeats",
        "1",
        "--json",
    ];
    let object = place.run(&decode).expect_code(0).json();
    assert_eq!(object["timings"].as_array().unwrap().len(), 4);
    let head = ["bench", "head", "--candidates", "8", "--lists", "9", "--epochs", "2", "--json", "--decoder"];
    let of = |decoder: &str| place.run(&[&head[..], &[decoder]].concat());
    let object = of("{one_pass: {n_group: 3}}").expect_code(0).json();
    let protocol = object["protocol"].as_str().unwrap();
    assert!(protocol.contains("for 8 candidates, 9 random lists") && protocol.contains("2 epochs"), "{object}");
    let figure = |key: &str| object[key].as_f64().unwrap();
    assert!((figure("seconds") / 2.0 - figure("seconds_per_epoch")).abs() < 1e-9, "{object}");
    let text = of("{one_pass: {variant: naive_add}}").expect_code(2).stderr;
    assert!(text.contains("has no head of ONE-PASS") && text.contains("`wo_mobius_1`"), "{text}");
}

#[test]
fn prompt_render_and_data_show_print_what_the_model_reads() {
    let place = Workplace::new(4096);
    place.write("tiny.yaml", EXPERIMENT);
    let text = place.run(&["prompt", "render", "tiny.yaml"]).expect_code(0).stdout;
    assert!(text.contains("<|im_start|>assistant") && text.contains("label tokens"), "{text}");
    let object =
        place.run(&["prompt", "render", "tiny.yaml", "--json", "--query-set", "held_out"]).expect_code(0).json();
    assert!(object["label_ids"].as_array().unwrap().len() > 4);
    let shown = place.run(&["data", "show", "tiny.yaml", "--query-set", "lists", "--limit", "2"]).expect_code(0).stdout;
    assert_eq!(shown.matches("target rank").count(), 8, "{shown}");
    let text = place.run(&["data", "show", "tiny.yaml", "--query-set", "list"]).expect_code(2).stderr;
    assert!(text.contains("did you mean `lists`?"), "{text}");
}

#[test]
fn doctor_and_completions_work_without_anything() {
    let place = Workplace::empty();
    let object = place.run(&["doctor", "--json"]).expect_code(0).json();
    assert!(object["findings"]["libtorch"]["found"].as_str().unwrap().contains("bf16 products work"));
    let with = |vectors: &str| {
        let output = place.monopass(&["doctor"]).env("MONOPASS_VECTORS", vectors).output().unwrap();
        Ended::new(&output, &place.path(""))
    };
    let text = with("none").expect_code(0).stdout;
    assert!(text.contains("kernels: none (libtorch's operations)") && text.contains("several times slower"), "{text}");
    let text = with("sse").expect_code(2).stderr;
    assert!(text.contains("MONOPASS_VECTORS is `sse`, wanted none, avx2, avx512f or avx512"), "{text}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(&["completions", shell]).expect_code(0).stdout.contains("monopass"), "{shell}");
    }
}

#[test]
fn help_says_exit_codes_and_examples() {
    let place = Workplace::empty();
    let help = place.run(&["--help"]).expect_code(0).stdout;
    assert!(help.contains("Exit codes:") && help.contains("130"), "{help}");
    let help = place.run(&["run", "--help"]).expect_code(0).stdout;
    assert!(help.contains("Examples:") && help.contains("--dry-run"), "{help}");
}

#[test]
fn import_copies_a_folder_and_does_not_overwrite() {
    let place = Workplace::new(512);
    place.run(&["import", "model", "--out", "copy"]).expect_code(0);
    let text = place.run(&["import", "model", "--out", "copy"]).expect_code(2).stderr;
    assert!(text.contains("already holds a model") && text.contains("--force"), "{text}");
    place.run(&["generate", "--model", "copy", "--prompt", "x", "--max-new-tokens", "2"]).expect_code(0);
}

#[test]
fn import_and_export_with_force_leave_nothing_of_the_model_before() {
    let place = Workplace::new(512);
    for command in [&["import", "model"][..], &["export", "--model", "model", "--precision", "fp32"]] {
        let replace = || place.run(&[command, &["--out", "there", "--force"]].concat()).expect_code(0);
        replace();
        let whole = std::fs::read(place.path("there/model.safetensors")).unwrap();
        std::fs::write(place.path("there/chat_template.jinja"), "old").unwrap();
        std::fs::write(place.path("there/model-00001-of-00002.safetensors"), "old").unwrap();
        std::fs::write(place.path("there/mine.txt"), "mine").unwrap();
        replace();
        assert!(std::fs::read(place.path("there/model.safetensors")).unwrap() == whole);
        let mut names: Vec<_> = std::fs::read_dir(place.path("there"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert!(names.contains(&"mine.txt".to_owned()), "{names:?}");
        let old =
            |name: &String| name.starts_with("model-0000") || name.starts_with('.') || name == "chat_template.jinja";
        assert!(!names.iter().any(old), "{names:?}");
        // A source that cannot be used leaves the model that was there.
        place.run(&["import", "nowhere.gguf", "--out", "there", "--force"]).expect_code(3);
        assert!(std::fs::read(place.path("there/model.safetensors")).unwrap() == whole);
        std::fs::remove_dir_all(place.path("there")).unwrap();
    }
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_model_is_told() {
    let place = Workplace::new(512);
    let mut tokenizer: serde_json::Value = serde_json::from_str(&place.read("model/tokenizer.json")).unwrap();
    let added = serde_json::json!({"id": 5000, "content": "<new>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true});
    tokenizer["added_tokens"].as_array_mut().unwrap().push(added);
    place.write("model/tokenizer.json", &tokenizer.to_string());
    place.run(&["generate", "--model", "model", "--prompt", "x", "--max-new-tokens", "2"]).expect_code(0);
    let generate = ["generate", "--model", "model", "--prompt", "a <new> one", "--max-new-tokens", "2"];
    let text = place.run(&generate).expect_code(3).stderr;
    assert!(text.contains("`<new>`") && text.contains("no row in the model's embedding table"), "{text}");
}

#[test]
fn launch_starts_the_processes_and_passes_their_exit_code_on() {
    let place = Workplace::new(4096);
    place.write("tiny.yaml", EXPERIMENT);
    place
        .run(&["launch", "--nproc-per-node", "2", "--", "train", "tiny.yaml", "--set", "train.max_steps=2"])
        .expect_code(0);
    assert!(place.path("runs/tiny/model/first/model.safetensors").exists());
    place.run(&["launch", "--", "train", "tiny.yaml", "--set", "sed=1"]).expect_code(2);
    let text = place.run(&["launch", "--", "report", "tiny.yaml"]).expect_code(2).stderr;
    assert!(text.contains("wanted `prepare FILE`, `train FILE`, `evaluate FILE` or `run FILE`"), "{text}");
}

#[test]
fn a_reader_that_leaves_early_is_no_fault() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_monopass"))
        .args(["doctor"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take()); // as `| head` does when it has seen enough
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

#[test]
fn a_checkpoint_becomes_a_model_folder() {
    let place = Workplace::new(4096);
    place.write("tiny.yaml", EXPERIMENT);
    place.run(&["train", "tiny.yaml"]).expect_code(0);
    let folder = |step: &str| format!("runs/tiny/train/first/checkpoints/step-{step}");
    let export = |from: &str, out: &str, more: &[&str]| {
        place.run(&[&["checkpoint", "export", from, "--out", out], more].concat())
    };
    let weights = |model: &str| std::fs::read(place.path(model).join("model.safetensors")).unwrap();
    let said = export(&folder("00000006"), "last", &[]).expect_code(0).stdout;
    assert!(said.contains("stage `first` after step 6 of 6"), "{said}");
    assert!(weights("last") == weights("runs/tiny/model/first"));
    for file in ["monopass.json", "README.md"] {
        assert_eq!(place.read(&format!("last/{file}")), place.read(&format!("runs/tiny/model/first/{file}")));
    }
    let card = place.read("last/README.md");
    for wanted in [
        "pipeline_tag: text-ranking",
        "| first | `first` | lists | base |",
        "learned from 24 lists",
        "learning_rate: 0.001",
    ] {
        assert!(card.contains(wanted), "{wanted} in {card}");
    }
    assert!(!card.contains("base_model"), "the base is a folder here: {card}");
    export(&folder("00000004"), "before", &[]).expect_code(0);
    assert!(weights("before") != weights("last"));
    place.run(&["generate", "--model", "before", "--prompt", "hello", "--max-new-tokens", "3"]).expect_code(0);

    // nothing that is there is lost
    let refused = export(&folder("00000004"), "last", &[]).expect_code(2).stderr;
    assert!(refused.contains("already holds a model") && refused.contains("--force"), "{refused}");
    export(&folder("00000004"), "last", &["--force"]).expect_code(0);
    assert!(weights("last") == weights("before"));
    place.write("mine/notes.txt", "keep");
    let refused = export(&folder("00000004"), "mine", &["--force"]).expect_code(2).stderr;
    assert!(refused.contains("is no model"), "{refused}");
    assert_eq!(place.read("mine/notes.txt"), "keep");

    let nowhere = export("model", "new", &[]).expect_code(3).stderr;
    assert!(nowhere.contains("`model` is no checkpoint of a run"), "{nowhere}");
    std::fs::write(place.path(&folder("00000004")).join("state.json"), "{}").unwrap();
    let damaged = export(&folder("00000004"), "new", &[]).expect_code(3).stderr;
    assert!(damaged.contains("state.json") && !place.path("new").exists(), "{damaged}");
}

/// HF_HUB_CACHE goes before HF_HOME, as in the hub's own library.
#[test]
fn a_model_that_was_fetched_before_is_found_without_the_hub() {
    let place = Workplace::new(512);
    let repository = "of-its-own/models--org--tiny";
    place.write(&format!("{repository}/refs/main"), "c0ffee");
    std::fs::create_dir_all(place.path(&format!("{repository}/snapshots"))).unwrap();
    std::fs::rename(place.path("model"), place.path(&format!("{repository}/snapshots/c0ffee"))).unwrap();
    let missing = place.run(&["inspect", "org/tiny"]).expect_code(3).stderr;
    assert!(missing.contains("the cache `[DIR]/hf/hub` does not have it"), "{missing}");
    let mut inspect = place.monopass(&["inspect", "org/tiny", "--json"]);
    inspect.env("HF_HUB_CACHE", place.path("of-its-own"));
    assert!(inspect.output().unwrap().status.success());
}
