//! Broken data, models and checkpoints: a clear message, exit code 3 (4 for a full disk), nothing lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::fs;
use std::path::Path;

use fixture::{EXPERIMENT, Workplace};

const QUICK: &str = "  models: [base]\n  decoders: [single_token]\n  latency: {warmup: 0}\n";

fn workplace(context: i64) -> Workplace {
    let place = Workplace::new(context);
    place.write("tiny.yaml", &format!("{EXPERIMENT}{QUICK}"));
    place
}

fn with_source(place: &Workplace, source: &str) -> String {
    let set = format!("data.sets.lists.source={source}");
    place.run(&["prepare", "tiny.yaml", "--set", &set]).expect_code(3).stderr
}

const ROW: &str = r#"{"query_id": "q1", "query": "a", "passages": [{"doc_id": "d1", "title": "", "text": "x", "label": 1}, {"doc_id": "d2", "title": "", "text": "y", "label": 0}], "origin": "test"}"#;

#[test]
fn a_missing_data_file_is_named_with_the_line_that_names_it() {
    let place = Workplace::new(4096);
    let text =
        EXPERIMENT.replace("{generated: {num_queries: 24, num_candidates: 4, seed: 1}}", "{jsonl: {path: gone.jsonl}}");
    place.write("tiny.yaml", &text);
    let text = place.run(&["run", "tiny.yaml"]).expect_code(3).stderr;
    assert!(text.contains("tiny.yaml:7") && text.contains("there is no file `gone.jsonl`"), "{text}");
}

#[test]
fn an_empty_data_set_says_what_was_dropped() {
    let place = workplace(4096);
    place.write("empty.jsonl", "");
    let text = with_source(&place, "{jsonl: {path: empty.jsonl}}");
    assert!(text.contains("no samples left from"), "{text}");
    place.write("one.jsonl", &format!("{ROW}\n"));
    let text = place
        .run(&[
            "prepare",
            "tiny.yaml",
            "--set",
            "data.sets.lists={source: {jsonl: {path: one.jsonl}}, min_candidates: 5}",
        ])
        .expect_code(3)
        .stderr;
    assert!(text.contains("read 1, kept 0, dropped 1"), "{text}");
}

#[test]
fn a_malformed_line_is_counted_and_shown_or_fatal_when_strict() {
    let place = workplace(4096);
    place.write("rows.jsonl", &format!("{ROW}\n{{\"query_id\": \"q2\", \n{}\n", ROW.replace("q1", "q3")));
    let set = "data.sets.lists.source={jsonl: {path: rows.jsonl}}";
    let text = place.run(&["prepare", "tiny.yaml", "--set", set]).expect_code(0).stderr;
    assert!(text.contains("dropped 1 (malformed row)") && text.contains("rows.jsonl:2:"), "{text}");
    let text = place.run(&["prepare", "tiny.yaml", "--set", set, "--set", "data.strict=true"]).expect_code(3).stderr;
    assert!(text.contains("rows.jsonl:2:"), "{text}");
}

#[test]
fn judgements_of_unknown_documents_are_counted() {
    let place = workplace(4096);
    place.write("b/corpus.jsonl", "{\"_id\": \"d1\", \"title\": \"\", \"text\": \"red box\"}\n{\"_id\": \"d2\", \"title\": \"\", \"text\": \"blue box\"}\n");
    place.write("b/queries.jsonl", "{\"_id\": \"q1\", \"text\": \"red box\"}\n");
    place.write("b/qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\tgone\t1\n");
    let set = "data.sets.lists.source={beir: {path: b}}";
    let text = place.run(&["prepare", "tiny.yaml", "--set", set]).expect_code(0).stderr;
    assert!(text.contains("unknown documents"), "{text}");
}

#[test]
fn a_list_longer_than_the_identifiers_is_refused_in_training() {
    let place = workplace(4096);
    let set = "data.sets.lists.source={generated: {num_queries: 8, num_candidates: 30}}";
    let text = place.run(&["train", "tiny.yaml", "--set", set]).expect_code(3).stderr;
    assert!(text.contains("has 30 candidates but alphabetic identifiers name at most 26"), "{text}");
}

#[test]
fn a_prompt_longer_than_the_context_says_what_to_change() {
    let place = workplace(300);
    let text = place.run(&["train", "tiny.yaml"]).expect_code(3).stderr;
    assert!(text.contains("fits in 300 tokens,"), "{text}");
    let text = place.run(&["train", "tiny.yaml", "--set", "train.too_long=error"]).expect_code(3).stderr;
    assert!(text.contains("the limit is 300") && text.contains("max_passage_tokens"), "{text}");
    let text = place.run(&["run", "tiny.yaml", "--set", "train=null"]).expect_code(3).stderr;
    assert!(text.contains("the model's context is 300"), "{text}");
}

fn corrupt(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn truncated_weights_are_named() {
    let place = workplace(4096);
    corrupt(&place.path("model/model.safetensors"), |bytes| bytes.truncate(bytes.len() / 2));
    let text = place.run(&["train", "tiny.yaml"]).expect_code(3).stderr;
    assert!(text.contains("model.safetensors` is not a whole safetensors file"), "{text}");
}

#[test]
fn a_damaged_header_of_weights_is_named() {
    let place = workplace(4096);
    corrupt(&place.path("model/model.safetensors"), |bytes| bytes[20] ^= 0x40);
    let text = place.run(&["generate", "--model", "model", "--prompt", "x"]).expect_code(3).stderr;
    assert!(text.contains("model.safetensors"), "{text}");
}

#[test]
fn an_index_that_names_files_elsewhere_is_refused() {
    let place = workplace(4096);
    fs::rename(place.path("model/model.safetensors"), place.path("elsewhere.safetensors")).unwrap();
    for name in ["../elsewhere.safetensors", "..", "/etc/passwd", "deeper/x.safetensors"] {
        let index = serde_json::json!({"metadata": {}, "weight_map": {"model.norm.weight": name}});
        place.write("model/model.safetensors.index.json", &index.to_string());
        let text = place.run(&["generate", "--model", "model", "--prompt", "x"]).expect_code(3).stderr;
        assert!(text.contains(&format!("names the file `{name}`")) && text.contains("its own folder"), "{text}");
    }
}

#[test]
fn a_bit_flipped_checkpoint_is_passed_over_for_the_one_before() {
    let place = workplace(4096);
    place.run(&["train", "tiny.yaml"]).expect_code(0);
    let wanted = fs::read(place.path("runs/tiny/model/first/model.safetensors")).unwrap();
    // As if the run had ended between the last checkpoint and the export.
    fs::remove_dir_all(place.path("runs/tiny/model/first")).unwrap();
    fs::remove_file(place.path("runs/tiny/stamps/train.first.json")).unwrap();
    let last = place.path("runs/tiny/train/first/checkpoints/step-00000006/optimizer.safetensors");
    corrupt(&last, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let text = place.run(&["train", "tiny.yaml"]).expect_code(0).stderr;
    assert!(text.contains("step-00000006") && text.contains("damaged"), "{text}");
    assert!(fs::read(place.path("runs/tiny/model/first/model.safetensors")).unwrap() == wanted);
}

#[test]
fn a_flipped_bit_in_a_trained_model_is_found() {
    let place = workplace(4096);
    place.run(&["train", "tiny.yaml"]).expect_code(0);
    corrupt(&place.path("runs/tiny/model/first/model.safetensors"), |bytes| {
        let last = bytes.len() - 10;
        bytes[last] ^= 1;
    });
    let text = place.run(&["evaluate", "tiny.yaml", "--set", "evaluate.models=[first]"]).expect_code(3).stderr;
    assert!(text.contains("model.safetensors` is damaged") && text.contains("hint:"), "{text}");
}

#[test]
fn a_gguf_of_an_unsupported_kind_is_named() {
    let place = Workplace::empty();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/model/llama.gguf");
    let import = |change: &dyn Fn(&mut Vec<u8>)| {
        fs::copy(&golden, place.path("x.gguf")).unwrap();
        corrupt(&place.path("x.gguf"), change);
        let text = place.run(&["import", "x.gguf", "--out", "out"]).expect_code(3).stderr;
        assert!(text.contains("x.gguf") && !place.path("out/config.json").exists(), "{text}");
        text
    };
    let after = |bytes: &[u8], name: &[u8]| bytes.windows(name.len()).position(|w| w == name).unwrap() + name.len();
    let text = import(&|bytes| *bytes = b"not a gguf file at all".to_vec());
    assert!(text.contains("not a GGUF file"), "{text}");
    let text = import(&|bytes| bytes[4] = 1);
    assert!(text.contains("version 1") && text.contains("2 and 3"), "{text}");
    // The value follows its kind (4 bytes) and its length (8 bytes).
    let text = import(&|bytes| {
        let at = after(bytes, b"general.architecture") + 12;
        bytes[at..at + 5].copy_from_slice(b"gemma");
    });
    assert!(text.contains("`gemma`") && text.contains("qwen3"), "{text}");
    // A tensor's type follows its two dimensions: bf16 (30) becomes IQ4_XS (23).
    let text = import(&|bytes| {
        let at = after(bytes, b"blk.0.ffn_up.weight") + 20;
        assert_eq!(bytes[at], 30);
        bytes[at] = 23;
    });
    assert!(text.contains("IQ4_XS") && text.contains("Q4_K"), "{text}");
    let text = import(&|bytes| bytes.truncate(bytes.len() - 1000));
    assert!(text.contains("cut short"), "{text}");
}

#[test]
fn a_model_that_is_nowhere_names_the_way_round() {
    let place = workplace(4096);
    let text = place.run(&["train", "tiny.yaml", "--set", "model.path=models/gone"]).expect_code(3).stderr;
    assert!(text.contains("models/gone") && text.contains("monopass import"), "{text}");
    let text = place.run(&["generate", "--model", "org/name", "--prompt", "x"]).expect_code(3).stderr;
    assert!(text.contains("HF_HUB_OFFLINE") && text.contains("local path"), "{text}");
}

/// A limit on the size of written files stands in for a full disk: writing fails half-way in the same place.
#[test]
fn a_full_disk_while_saving_leaves_the_checkpoints_before_and_the_run_goes_on_later() {
    let place = workplace(4096);
    place.run(&["prepare", "tiny.yaml"]).expect_code(0);
    let binary = env!("CARGO_BIN_EXE_monopass");
    // Blocks of 1024 bytes: enough for logs and metrics, too little for the optimiser's state.
    let script = format!("trap '' XFSZ; ulimit -f 24; exec '{binary}' train tiny.yaml");
    let mut command = assert_cmd::Command::new("bash");
    command.current_dir(place.path("")).args(["-c", &script]).env("OMP_NUM_THREADS", "1").env("HF_HUB_OFFLINE", "1");
    let ended = fixture::Ended::new(&command.output().unwrap(), &place.path("")).expect_code(4);
    assert!(ended.stderr.contains("checkpoint") || ended.stderr.contains("cannot write"), "{}", ended.stderr);
    place.run(&["train", "tiny.yaml"]).expect_code(0);
}
