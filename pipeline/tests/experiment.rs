//! A whole experiment through the binary: done once, skipped when nothing changed, redone where something did.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::fs;

use fixture::{EXPERIMENT, Workplace};

const WHOLE: &str = "  models: [base, rank_zephyr, first]\n  decoders: [autoregressive, autoregressive_forced, single_token]\n  latency: {warmup: 0}\n  max_new_tokens: 24\n";

fn workplace() -> Workplace {
    let place = Workplace::new(4096);
    place.write("tiny.yaml", &format!("{EXPERIMENT}{WHOLE}"));
    place
}

#[test]
fn an_experiment_runs_is_skipped_and_is_redone_where_it_changed() {
    let place = workplace();
    let first = place.run(&["run", "tiny.yaml"]).expect_code(0);
    for heading in ["nDCG@10", "single_token", "autoregressive_forced", "first stage", "rank_zephyr"] {
        assert!(first.stdout.contains(heading), "{heading} is not in\n{}", first.stdout);
    }
    for file in [
        "config.yaml",
        "run.log",
        "report.html",
        "data/lists/samples.parquet",
        "data/held_out/card.json",
        "train/first/metrics.jsonl",
        "model/first/model.safetensors",
        "model/first/monopass.json",
        "model/rank_zephyr/tokenizer.json",
    ] {
        assert!(place.path(&format!("runs/tiny/{file}")).exists(), "{file}");
    }
    let report = place.read("runs/tiny/report.html");
    assert!(report.contains("<svg"), "the report has no plots");
    assert!(!report.contains("TRAINED ON THE TEST"));

    trec_runs_hold_the_predicted_orders(&place);

    let again = place.run(&["run", "tiny.yaml"]).expect_code(0);
    let skipped = again.stderr.lines().filter(|line| line.ends_with("unchanged, skipped")).count();
    // two sets, two training stages, three models on one set, the report
    assert_eq!(skipped, 8, "{}", again.stderr);
    assert_eq!(again.stdout, first.stdout, "skipped evaluations give the same tables");

    // Other measures read the rankings that are there, which stay those of the program that made them.
    let origins = "runs/tiny/tables/origins.json";
    let earlier = place.read(origins).replace("monopass 0", "an earlier monopass 0");
    assert_eq!(earlier.matches("an earlier").count(), 3, "{earlier}");
    std::fs::write(place.path(origins), &earlier).unwrap();
    place.run(&["evaluate", "tiny.yaml", "--set", "evaluate.measures=[recip_rank]"]).expect_code(0);
    assert_eq!(place.read(origins), earlier);
    place.run(&["evaluate", "tiny.yaml", "--force"]).expect_code(0);
    assert!(!place.read(origins).contains("an earlier"), "all was decoded anew");

    let changed = place.run(&["train", "tiny.yaml", "--set", "train.stages.first.learning_rate=2e-3"]).expect_code(0);
    assert!(changed.stderr.contains("train/rank_zephyr: unchanged, skipped"), "{}", changed.stderr);
    assert!(changed.stderr.contains("train/first: done again, changed: settings"), "{}", changed.stderr);

    let forced = place.run(&["prepare", "tiny.yaml", "--force"]).expect_code(0);
    assert_eq!(forced.stderr.matches("done again (--force)").count(), 2, "{}", forced.stderr);

    std::fs::remove_dir_all(place.path("runs/tiny/data")).unwrap();
    place.run(&["report", "tiny.yaml", "--force"]).expect_code(0);
    assert!(place.read("runs/tiny/report.html").contains("<svg"), "tables and plots do not need the prepared sets");
}

fn trec_runs_hold_the_predicted_orders(place: &Workplace) {
    let run = place.read("runs/tiny/predictions/held_out.first.runs/autoregressive_forced.run");
    let mut expected = String::new();
    for line in place.read("runs/tiny/predictions/held_out.first.jsonl").lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let decoders = line["decoders"].as_array().unwrap();
        let of_decoder = decoders.iter().find(|one| one["decoder"] == "autoregressive_forced").unwrap();
        let order = of_decoder["ranking"]["order"].as_array().unwrap();
        for (place, index) in order.iter().enumerate() {
            let document = line["candidates"][index.as_u64().unwrap() as usize].as_str().unwrap();
            let (query, rank, score) = (line["query_id"].as_str().unwrap(), place + 1, order.len() - place);
            expected += &format!("{query} Q0 {document} {rank} {score} monopass-autoregressive_forced\n");
        }
    }
    assert_eq!(run, expected);
}

#[test]
fn the_resolved_config_runs_to_the_same_weights() {
    let place = workplace();
    place.run(&["train", "tiny.yaml"]).expect_code(0);
    let weights = fs::read(place.path("runs/tiny/model/first/model.safetensors")).unwrap();
    fs::copy(place.path("runs/tiny/config.yaml"), place.path("again.yaml")).unwrap();
    place.run(&["train", "again.yaml", "--set", "output_dir=other"]).expect_code(0);
    assert!(fs::read(place.path("other/tiny/model/first/model.safetensors")).unwrap() == weights);
}

#[test]
fn a_model_that_was_trained_on_the_evaluation_queries_is_named() {
    let place = workplace();
    let ended = place.run(&[
        "run",
        "tiny.yaml",
        "--set",
        "train.stages.first.data=[lists, held_out]",
        "--set",
        "evaluate.models=[first]",
        "--set",
        "evaluate.decoders=[single_token]",
    ]);
    let text = ended.expect_code(0).stderr;
    assert!(
        text.contains(
            "warning: TRAINED ON THE TEST: model `first` was trained on 6 of the 6 queries of set `held_out`"
        ),
        "{text}"
    );
    assert!(place.read("runs/tiny/report.html").contains("TRAINED ON THE TEST"));
    // What the base of another run was trained on counts too.
    let base = ["--set", "name=second", "--set", "model.path=runs/tiny/model/first"];
    let only = ["--set", "evaluate.models=[first]", "--set", "evaluate.decoders=[single_token]"];
    let text = place.run(&[&["run", "tiny.yaml"][..], &base, &only].concat()).expect_code(0).stderr;
    assert!(text.contains("model `first` was trained on 6 of the 6 queries of set `held_out`"), "{text}");
}

#[test]
fn an_evaluation_by_other_training_settings_is_told() {
    let place = workplace();
    let few = ["--set", "train.max_steps=2"];
    place.run(&[&["train", "tiny.yaml"][..], &few].concat()).expect_code(0);
    let only = ["--set", "evaluate.models=[first]", "--set", "evaluate.decoders=[single_token]"];
    let text = place.run(&[&["evaluate", "tiny.yaml"][..], &few, &only].concat()).expect_code(0).stderr;
    assert!(!text.contains("was trained before these changed"), "{text}");
    let other = ["--set", "train.stages.first.learning_rate=2e-3"];
    let text = place.run(&[&["evaluate", "tiny.yaml"][..], &few, &only, &other].concat()).expect_code(0).stderr;
    assert!(text.contains("stage `first` was trained before these changed: settings"), "{text}");
}

#[test]
fn queries_of_other_parts_of_a_split_do_not_count_as_missing() {
    let place = workplace();
    place.write("b/corpus.jsonl", "{\"_id\": \"d1\", \"title\": \"\", \"text\": \"red box\"}\n{\"_id\": \"d2\", \"title\": \"\", \"text\": \"blue box\"}\n");
    let query = |id: usize| format!("{{\"_id\": \"q{id}\", \"text\": \"red box\"}}\n");
    place.write("b/queries.jsonl", &(1..=4).map(query).collect::<String>());
    let judged = |id: usize| format!("q{id}\td1\t1\n");
    place
        .write("b/qrels/test.tsv", &format!("query-id\tcorpus-id\tscore\n{}", (1..=4).map(judged).collect::<String>()));
    let set = "data.sets.held_out={source: {beir: {path: b}}, split: {part: test, validation: 1, test: 2}}";
    let only = ["--set", "evaluate.models=[base]", "--set", "evaluate.decoders=[single_token]", "--set", "train=null"];
    place.run(&[&["run", "tiny.yaml", "--set", set][..], &only].concat()).expect_code(0);
    let table = place.read("runs/tiny/tables/results.md");
    assert!(table.contains("held_out: 2 judged queries.") && !table.contains("have no candidates"), "{table}");
}

#[test]
fn tables_of_an_earlier_evaluation_do_not_stay() {
    let place = workplace();
    let evaluate = |more: &[&str]| {
        let only = ["run", "tiny.yaml", "--set", "train=null", "--set", "evaluate.models=[base]"];
        place.run(&[&only[..], more].concat()).expect_code(0);
    };
    let is_there = |file: &str| place.path(&format!("runs/tiny/tables/{file}")).exists();
    evaluate(&[]);
    assert!(is_there("fidelity.json") && is_there("results.csv"));
    evaluate(&["--set", "evaluate.decoders=[single_token]", "--set", "evaluate.table_formats=[json]"]);
    assert!(!is_there("fidelity.json") && !is_there("fidelity.csv"), "there is no reference any more");
    assert!(is_there("results.json") && !is_there("results.csv"), "a format that is not written any more");
    let runs = fs::read_dir(place.path("runs/tiny/predictions/held_out.base.runs")).unwrap().count();
    assert_eq!(runs, 1, "no run of a decoder that is not evaluated any more");
}

#[test]
fn a_report_of_an_evaluation_under_other_settings_says_so() {
    let place = workplace();
    let set = ["--set", "train=null", "--set", "evaluate.models=[untrained]"];
    let baseline = ["--set", "evaluate.significance_baseline={model: untrained}"];
    place.run(&[&["run", "tiny.yaml"][..], &set, &baseline].concat()).expect_code(0);
    let same = place.run(&[&["report", "tiny.yaml", "--force"][..], &set, &baseline].concat()).expect_code(0).stderr;
    assert!(!same.contains("before these changed"), "{same}");
    let narrower = ["--set", "evaluate.bootstrap.confidence=0.5"];
    let told = place.run(&[&["report", "tiny.yaml"][..], &set, &baseline, &narrower].concat()).expect_code(0).stderr;
    assert!(told.contains("evaluate/base/held_out was done before these changed: evaluate"), "{told}");
    assert!(place.read("runs/tiny/report.html").contains("was done before these changed"));
}

/// Markdown alone is asked for; other commands read the JSON.
#[test]
fn tables_are_json_whatever_else_they_are() {
    let place = workplace();
    let set = ["--set", "train=null", "--set", "evaluate.models=[base]", "--set", "evaluate.table_formats=[markdown]"];
    place.run(&[&["run", "tiny.yaml"][..], &set].concat()).expect_code(0);
    assert!(place.path("runs/tiny/tables/results.md").exists() && !place.path("runs/tiny/tables/results.csv").exists());
    let shown = place.run(&["runs", "show", "runs/tiny"]).expect_code(0).stdout;
    assert!(shown.contains("single_token"), "{shown}");
}

/// Conversations have no judgements: closeness and cost are what there is to tell.
#[test]
fn a_set_without_judgements_is_evaluated() {
    let place = workplace();
    let row = |i: usize| {
        let passage = |d: usize| format!(r#"{{"doc_id": "d{d}", "title": "", "text": "text {d}"}}"#);
        let passages: Vec<String> = (0..4).map(passage).collect();
        format!(
            "{{\"query_id\": \"q{i}\", \"query\": \"x\", \"passages\": [{}], \"origin\": \"t\"}}\n",
            passages.join(", ")
        )
    };
    place.write("lists.jsonl", &(0..3).map(row).collect::<String>());
    let set = [
        "--set",
        "train=null",
        "--set",
        "evaluate.models=[base]",
        "--set",
        "data.sets.held_out={source: {jsonl: {path: lists.jsonl}}}",
    ];
    let ended = place.run(&[&["run", "tiny.yaml", "--json"][..], &set].concat()).expect_code(0).json();
    let tables: Vec<&str> =
        ended["tables"].as_array().unwrap().iter().map(|table| table["name"].as_str().unwrap()).collect();
    assert_eq!(tables, ["results", "fidelity", "cost"]);
    assert!(ended.to_string().contains("held_out: 0 judged queries; 3 more queries have no judgements"), "{ended}");
    assert!(place.read("runs/tiny/report.html").contains("held_out"));
}

#[test]
fn a_model_is_not_evaluated_with_another_prompt_unless_told() {
    let place = workplace();
    place.run(&["train", "tiny.yaml"]).expect_code(0);
    let other = [
        "evaluate",
        "tiny.yaml",
        "--set",
        "data.prompt.identifier_position=before",
        "--set",
        "evaluate.models=[first]",
        "--set",
        "evaluate.decoders=[single_token]",
    ];
    let text = place.run(&other).expect_code(3).stderr;
    assert!(text.contains("was trained with prompt") && text.contains("allow_prompt_mismatch"), "{text}");
    let mut allowed = other.to_vec();
    allowed.extend(["--set", "data.allow_prompt_mismatch=true"]);
    place.run(&allowed).expect_code(0);
}

#[test]
fn a_dry_run_plans_and_writes_nothing() {
    let place = workplace();
    let ended = place.run(&["run", "tiny.yaml", "--dry-run", "--json"]).expect_code(0);
    let plan = ended.json();
    assert_eq!(plan["stages"][0]["steps"], 6);
    assert_eq!(plan["stages"][1]["from"], "base");
    assert!(plan["stages"][0]["memory_mib"].as_f64().unwrap() > 0.0);
    assert!(plan["model"]["parameters"].as_i64().unwrap() > 1000);
    assert!(plan["device"] == "cpu" && plan["available_memory_mib"].as_f64().unwrap() > 0.0, "{plan}");
    let elsewhere = place.run(&["run", "tiny.yaml", "--dry-run", "--set", "model.device=cuda:99"]).expect_code(0);
    assert!(elsewhere.stdout.contains("this machine has no device `cuda:99`"), "{}", elsewhere.stdout);
    let uneven = place.monopass(&["run", "tiny.yaml", "--dry-run"]).env("WORLD_SIZE", "3").output().unwrap();
    let text = String::from_utf8_lossy(&uneven.stderr).into_owned();
    assert_eq!(text, "error: tiny.yaml:12: `train.global_batch_size`: got 4, wanted a multiple of the 3 ranks\n");
    assert_eq!(uneven.status.code(), Some(2));
    assert!(!place.path("runs").exists());
}

#[test]
fn two_runs_in_one_folder_are_refused() {
    let place = workplace();
    fs::create_dir_all(place.path("runs/tiny")).unwrap();
    let lock = fs::File::create(place.path("runs/tiny/.lock")).unwrap();
    lock.lock().unwrap();
    let text = place.run(&["run", "tiny.yaml"]).expect_code(2).stderr;
    assert!(text.contains("is in use by another run") && text.contains("--set name="), "{text}");
}

#[test]
fn held_out_sets_are_ranked_between_steps() {
    let place = workplace();
    let every = ["--set", "train.eval_every_steps=2", "--set", "train.max_steps=4"];
    let said = place.run(&[&["train", "tiny.yaml"][..], &every].concat()).expect_code(0).stderr;
    assert!(said.contains("evaluation after step 2: held_out/"), "{said}");
    let metrics = place.read("runs/tiny/train/first/metrics.jsonl");
    let evaluations: Vec<&str> = metrics.lines().filter(|line| line.contains(r#""kind":"eval""#)).collect();
    assert_eq!(evaluations.len(), 2, "{metrics}");
    assert!(evaluations[0].contains("held_out/ndcg_cut_10"), "{metrics}");
    // The same weights as without looking.
    place.run(&["train", "tiny.yaml", "--set", "name=blind", "--set", "train.max_steps=4"]).expect_code(0);
    let weights = |run: &str| fs::read(place.path(&format!("runs/{run}/model/first/model.safetensors"))).unwrap();
    assert!(weights("tiny") == weights("blind"));
}

#[test]
fn lora_trains_exports_and_merges() {
    let place = workplace();
    place.run(&["train", "tiny.yaml", "--set", "train.lora={r: 2}", "--set", "train.max_steps=2"]).expect_code(0);
    let adapter = place.path("runs/tiny/model/first/adapter");
    assert!(adapter.join("adapter_model.safetensors").exists());
    let note = |folder: &str| {
        serde_json::from_str::<serde_json::Value>(&place.read(&format!("{folder}/monopass.json"))).unwrap()
    };
    let (of_model, of_adapter) = (note("runs/tiny/model/first"), note("runs/tiny/model/first/adapter"));
    for key in ["prompt", "prompt_hash", "trained_queries"] {
        assert!(!of_model[key].is_null() && of_model[key] == of_adapter[key], "{key}");
    }
    let arguments = ["merge", "--model", "runs/tiny/model/first/adapter", "--out", "merged", "--precision", "fp32"];
    place.run(&arguments).expect_code(0);
    let merged = place.run(&["inspect", "merged", "--json"]).expect_code(0).json();
    let base = place.run(&["inspect", "model", "--json"]).expect_code(0).json();
    assert_eq!(merged["parameters"], base["parameters"]);
    assert_eq!(note("merged")["prompt_hash"], of_model["prompt_hash"]);

    let onto_itself = ["merge", "--model", "runs/tiny/model/first/adapter", "--out", "runs/tiny/model/first/adapter"];
    let refused = place.run(&onto_itself).expect_code(2).stderr;
    assert!(
        refused.contains("already holds a model") && adapter.join("adapter_model.safetensors").exists(),
        "{refused}"
    );

    // Trained on, the adapter still belongs to the same base.
    let further =
        ["--set", "name=further", "--set", "model.path=runs/tiny/model/first/adapter", "--set", "train.max_steps=2"];
    place.run(&[&["train", "tiny.yaml", "--set", "train.lora={r: 2}"][..], &further].concat()).expect_code(0);
    let bytes =
        |run: &str| fs::read(place.path(&format!("runs/{run}/model/first/adapter/adapter_model.safetensors"))).unwrap();
    assert!(bytes("tiny") != bytes("further"), "nothing was learned");
    let config = |run: &str| {
        let text = place.read(&format!("runs/{run}/model/first/adapter/adapter_config.json"));
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["base_model_name_or_path"].clone()
    };
    assert_eq!(config("further"), config("tiny"));
}

#[test]
fn evaluation_before_training_names_the_way() {
    let place = workplace();
    let text = place.run(&["evaluate", "tiny.yaml"]).expect_code(3).stderr;
    assert!(text.contains("has not been trained") && text.contains("monopass train tiny.yaml"), "{text}");
}

/// First losses of a stage's metrics.
fn losses(place: &Workplace, run: &str) -> Vec<f64> {
    let text = place.read(&format!("{run}/tiny/train/first/metrics.jsonl"));
    let loss = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap();
    text.lines().map(loss).collect()
}

#[test]
fn two_processes_train_as_one_and_only_rank_0_writes() {
    let place = workplace();
    place.run(&["train", "tiny.yaml", "--set", "output_dir=one"]).expect_code(0);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let start = |rank: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_monopass"));
        command.current_dir(place.path("")).args(["train", "tiny.yaml", "--set", "output_dir=two"]);
        command.env("OMP_NUM_THREADS", "1").env("HF_HUB_OFFLINE", "1").env("RANK", rank).env("LOCAL_RANK", rank);
        command.env("WORLD_SIZE", "2").env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", &port);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let ranks = [start("0"), start("1")];
    for rank in ranks {
        let ended = rank.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    let (one, two) = (losses(&place, "one"), losses(&place, "two"));
    assert_eq!((one.len(), two.len()), (6, 6));
    for (a, b) in one.iter().zip(&two) {
        assert!((a - b).abs() < 1e-3 * a.abs(), "{one:?} {two:?}");
    }
}

#[test]
fn a_stage_done_again_keeps_its_model_until_the_new_one_is_whole() {
    let place = workplace();
    place.run(&["train", "tiny.yaml"]).expect_code(0);
    let weights =
        |folder: &str| std::fs::read(place.path(&format!("runs/tiny/model/{folder}/model.safetensors"))).unwrap();
    let before = weights("first");
    let failing = ["--set", "train.too_long=error", "--set", "train.max_micro_batch_tokens=1"];
    let failed = place.run(&[&["train", "tiny.yaml"][..], &failing].concat());
    assert!(failed.code != Some(0) && failed.stderr.contains("kept in `"), "{}", failed.stderr);
    assert!(weights(".rank_zephyr.old").len() == before.len() && weights("first") == before);
    place.run(&["train", "tiny.yaml", "--set", "train.learning_rate=1e-2"]).expect_code(0);
    assert!(weights("first") != before);
    let model = place.path("runs/tiny/model");
    let left =
        std::fs::read_dir(model).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert!(left.into_iter().all(|name| !name.starts_with('.')), "a model of before is left");
}
