//! Decoders with heads through the binary: collected, trained, evaluated, skipped, and refused where they do not fit.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::fs;

use fixture::Workplace;
use serde_json::Value;

const EXPERIMENT: &str = "\
name: heads
seed: 7
model: {path: model, device: cpu, precision: fp32}
data:
  prompt: {style: rank_zephyr, identifiers: alphabetic, identifier_position: after}
  sets:
    lists: {source: {generated: {num_queries: 40, num_candidates: 6, seed: 1}}}
    valid: {source: {generated: {num_queries: 6, num_candidates: 6, seed: 3}}}
    held_out: {source: {generated: {num_queries: 5, num_candidates: 6, seed: 2, part: held_out}}}
heads:
  train: lists
  validation: valid
  one_pass: {epochs: 2}
  draft: {epochs: 2}
evaluate:
  sets: [held_out]
  models: [base]
  decoders:
    - autoregressive_forced
    - single_token
    - jacobi: {}
    - jacobi: {n_step: 2}
    - speculative: {}
    - blockwise: {}
    - medusa: {}
    - one_pass: {n_group: 2}
    - one_pass: {n_group: 2, target: listwise}
    - one_pass: {n_group: 2, arithmetic: as_published}
    - one_pass: {n_group: 3, variant: wo_mobius_2, grouping: by_first_token}
    - one_pass: {n_group: 2, variant: naive_add}
    - one_pass: {variant: permutation}
  latency: {warmup: 0}
";

fn workplace() -> Workplace {
    let place = Workplace::new(4096);
    place.write("heads.yaml", EXPERIMENT);
    place
}

#[test]
fn a_dry_run_names_heads_and_decoders() {
    let text = workplace().run(&["run", "heads.yaml", "--dry-run"]).expect_code(0).stdout;
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    assert_eq!(line("set         lists"), "set         lists: at most 40 lists from generated");
    assert_eq!(line("heads"), "heads       on lists, the best epoch by valid");
    assert!(line("evaluate").contains("by autoregressive_forced, single_token, jacobi, jacobi(n_step=2), "), "{text}");
}

/// Two ranks collect, rank and report what one process does; rank 0 trains the heads.
#[test]
fn ranks_share_a_run_with_heads() {
    let places = [workplace(), workplace()];
    let decoders = "evaluate.decoders=[autoregressive_forced, single_token, {blockwise: {}}, {one_pass: {n_group: 2}}]";
    let run = ["run", "heads.yaml", "--set", decoders];
    places[0].run(&run).expect_code(0);
    let said = places[1].run(&[&["launch", "--nproc-per-node", "2", "--"], &run[..]].concat()).expect_code(0).stderr;
    assert!(said.contains("report: runs/heads/report.html"), "{said}");
    let [alone, shared] = places.map(|place| {
        let evaluations: Value = serde_json::from_str(&place.read("runs/heads/tables/evaluations.json")).unwrap();
        let rows = evaluations[0]["rows"].as_array().unwrap().iter();
        let orders = rows.map(|row| (row["decoder"].to_string(), row["fidelity"].to_string())).collect::<Vec<_>>();
        (place.read("runs/heads/rankings/lists.base.runs/autoregressive_forced.run"), orders)
    });
    assert_eq!(alone, shared);
}

#[test]
fn heads_are_trained_once_and_lossless_decoders_lose_nothing() {
    let place = workplace();
    let first = place.run(&["run", "heads.yaml"]).expect_code(0);
    for file in [
        "rankings/lists.base.parquet",
        "teacher/lists.base/part-00001.order.safetensors",
        "heads/base/one_pass-n_group=2/head.json",
        "heads/base/one_pass-n_group=2-listwise/head.json",
        "heads/base/one_pass-n_group=2-as_published/head.safetensors",
        "heads/base/wo_mobius_2-n_group=3-by_first_token/head.json",
        "heads/base/blockwise/head.json",
        "heads/base/medusa-3/head.json",
    ] {
        assert!(place.path(&format!("runs/heads/{file}")).exists(), "{file}\n{}", first.stderr);
    }
    let table: serde_json::Value = serde_json::from_str(&place.read("runs/heads/tables/fidelity.json")).unwrap();
    let text = table.to_string();
    for name in ["one_pass(n_group=2)", "jacobi(n_step=2)", "naive_add(n_group=2)", "permutation"] {
        assert!(text.contains(name), "{name}: {text}");
    }
    let evaluations: serde_json::Value =
        serde_json::from_str(&place.read("runs/heads/tables/evaluations.json")).unwrap();
    let rows = evaluations[0]["rows"].as_array().unwrap();
    for row in rows
        .iter()
        .filter(|row| ["jacobi", "speculative", "blockwise", "medusa"].contains(&row["decoder"].as_str().unwrap()))
    {
        assert_eq!(row["fidelity"]["kendall_tau"]["mean"], 1.0, "{}", row["decoder"]);
        assert!(row["cost"]["accepted_per_pass"].as_f64().unwrap() >= 1.0);
    }
    // The model's own order is what another experiment can learn from: `target: {teacher_run: {path: ..}}`.
    let taught = place.read("runs/heads/rankings/lists.base.runs/autoregressive_forced.run");
    assert_eq!(taught.lines().count(), 40 * 6, "{taught}");
    let page = place.read("runs/heads/report.html");
    assert!(page.contains("ONE-PASS, 6 candidates in 2 groups") && page.contains("ONE-PASS, 6 candidates in 3 groups"));
    let again = place.run(&["run", "heads.yaml"]).expect_code(0);
    assert!(!again.stderr.contains("done again"), "{}", again.stderr);
    assert_eq!(again.stdout, first.stdout);
    let changed = place.run(&["run", "heads.yaml", "--set", "heads.one_pass.epochs=1"]).expect_code(0);
    assert!(changed.stderr.contains("teacher/base/lists: unchanged, skipped"), "{}", changed.stderr);
    assert!(changed.stderr.contains("head/base/blockwise: unchanged, skipped"), "{}", changed.stderr);
    assert!(
        changed.stderr.contains("head/base/one_pass-n_group=2: done again, changed: settings"),
        "{}",
        changed.stderr
    );
    // Another tree is read by itself: what was collected and learned stays.
    let more = "evaluate.decoders=[autoregressive_forced, {one_pass: {n_group: 2}}, {one_pass: {n_group: 3}}]";
    let more = place.run(&["run", "heads.yaml", "--set", "heads.one_pass.epochs=1", "--set", more]).expect_code(0);
    assert!(more.stderr.contains("head/base/one_pass-n_group=2: unchanged, skipped"), "{}", more.stderr);
    let pieces = fs::read_dir(place.path("runs/heads/teacher/lists.base")).unwrap();
    let pieces: Vec<String> = pieces.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for piece in ["order", "states", "subsets-2-by_identifier", "subsets-3-by_identifier"] {
        assert!(pieces.contains(&format!("part-00001.{piece}.safetensors")), "{pieces:?}");
    }
    assert!(changed.stderr.contains(" lines (of other settings, or cut short), kept 0"), "{}", changed.stderr);
}

#[test]
fn a_head_ranks_files_and_is_refused_where_it_does_not_belong() {
    let place = workplace();
    place.run(&["train", "heads.yaml"]).expect_code(0);
    let list = |n: usize| {
        let passage = |i: usize| format!(r#"{{"doc_id": "d{i}", "text": "text {i}"}}"#);
        let passages: Vec<String> = (0..n).map(passage).collect();
        format!(r#"{{"query_id": "q{n}", "query": "a", "passages": [{}]}}"#, passages.join(", "))
    };
    place.write("six.jsonl", &list(6));
    place.write("five.jsonl", &list(5));
    let prompt = "{style: rank_zephyr, identifiers: alphabetic, identifier_position: after}";
    let rank = |decoder: &str, head: &str, candidates: &str, extra: &[&str]| {
        let base = ["rank", "--model", "model", "--device", "cpu", "--precision", "fp32", "--out", "run.txt"];
        let head = format!("runs/heads/heads/base/{head}");
        let own = ["--decoder", decoder, "--head", &head, "--candidates", candidates];
        place.run(&[&base[..], &own[..], extra].concat())
    };
    let given = ["--prompt", prompt];
    rank("{one_pass: {n_group: 2}}", "one_pass-n_group=2", "six.jsonl", &given).expect_code(0);
    assert_eq!(place.read("run.txt").lines().count(), 6);
    rank("medusa", "medusa-3", "six.jsonl", &given).expect_code(0);

    let text = rank("{one_pass: {n_group: 2}}", "one_pass-n_group=2", "five.jsonl", &given).expect_code(3).stderr;
    assert!(text.contains("a head for lists of 6 candidates and is given one of 5"), "{text}");
    let text = rank("{one_pass: {n_group: 3}}", "one_pass-n_group=2", "six.jsonl", &given).expect_code(3).stderr;
    assert!(text.contains("does not fit") && text.contains("\"n_group\":2"), "another grouping: {text}");
    let text =
        rank("{one_pass: {n_group: 2}}", "one_pass-n_group=2-listwise", "six.jsonl", &given).expect_code(3).stderr;
    assert!(text.contains("does not fit") && text.contains("listwise"), "another target: {text}");
    let text = rank("{one_pass: {n_group: 2}}", "blockwise", "six.jsonl", &given).expect_code(3).stderr;
    assert!(text.contains("its method is blockwise"), "{text}");
    let other = ["--prompt", "{style: first, identifiers: alphabetic}"];
    let text = rank("{one_pass: {n_group: 2}}", "one_pass-n_group=2", "six.jsonl", &other).expect_code(3).stderr;
    assert!(text.contains("its prompt is"), "another prompt: {text}");
    let text = rank("one_pass", "nowhere", "six.jsonl", &given).expect_code(2).stderr;
    assert!(text.contains("needs a trained head"), "{text}");
    let left = fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.ends_with(".part")).count(), 0, "nothing was ranked, nothing is kept");
    let text = rank("{naive_ad: {}}", "nowhere", "six.jsonl", &given).expect_code(2).stderr;
    assert!(text.contains("naive_ad"), "{text}");
    let few = "{one_pass: {n_group: 4, variant: naive_add}}";
    let text = rank(few, "nowhere", "six.jsonl", &given).expect_code(2).stderr;
    assert!(text.contains("`n_group` is 4 for 6 candidates") && text.contains("at most 3 groups"), "{text}");

    // Other weights of the same shape: the head belongs to the ones it was trained on.
    let weights = place.path("model/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let text = rank("{one_pass: {n_group: 2}}", "one_pass-n_group=2", "six.jsonl", &given).expect_code(3).stderr;
    assert!(text.contains("its model is"), "{text}");
    let changed = place.run(&["train", "heads.yaml"]).expect_code(0);
    assert!(changed.stderr.contains("teacher/base/lists: done again, changed: weights"), "{}", changed.stderr);
    assert!(changed.stderr.contains("files of another model, prompt, data or precision"), "{}", changed.stderr);
    assert!(place.path("runs/heads/teacher/.lists.base.old/part-00000.order.safetensors").exists());
}

#[test]
fn what_cannot_be_is_said_before_anything_is_done() {
    let place = workplace();
    place.write(
        "bare.yaml",
        &EXPERIMENT.replace(
            "heads:\n  train: lists\n  validation: valid\n  one_pass: {epochs: 2}\n  draft: {epochs: 2}\n",
            "",
        ),
    );
    let text = place.run(&["run", "bare.yaml"]).expect_code(2).stderr;
    assert!(text.contains("`blockwise` needs a trained head") && text.contains("heads: {train: SET"), "{text}");
    let text = place.run(&["run", "heads.yaml", "--set", "heads.train=list", "--set", "heads.one_pass.epochs=0"]);
    let text = text.expect_code(2).stderr;
    assert!(text.contains("there is no data set `list`") && text.contains("heads.one_pass.epochs"), "{text}");
    let text = place.run(&["run", "heads.yaml", "--set", "evaluate.decoders=[{one_pass: {n_group: 1}}]"]);
    assert!(text.expect_code(2).stderr.contains("`n_group` is 1, wanted at least 2"));
    let text = place.run(&[
        "run",
        "heads.yaml",
        "--set",
        "evaluate.decoders=[{one_pass: {variant: naive_add, target: listwise}}]",
    ]);
    assert!(text.expect_code(2).stderr.contains("`naive_add` has no head to train"));
    let text = place.run(&["train", "heads.yaml", "--set", "evaluate.decoders=[{one_pass: {n_group: 5}}]"]);
    let text = text.expect_code(2).stderr;
    assert!(text.contains("`n_group` is 5 for 6 candidates"), "{text}");
    let uneven = "data.sets.valid.source={generated: {num_queries: 6, num_candidates: 5, seed: 3}}";
    let text = place.run(&["train", "heads.yaml", "--set", uneven]).expect_code(2).stderr;
    assert!(text.contains("heads would learn from lists of 5 (`valid`) and rank 6 at a time"), "{text}");
    // Where the file does not say how long lists are, the prepared sets do.
    let passages: Vec<_> = (0..5).map(|n| serde_json::json!({"doc_id": n.to_string(), "text": "a b"})).collect();
    let line = serde_json::json!({"query_id": "1", "query": "q", "passages": passages, "origin": "own"});
    place.write("five.jsonl", &format!("{line}\n"));
    let uneven = "data.sets.valid.source={jsonl: {path: five.jsonl}}";
    let text = place.run(&["train", "heads.yaml", "--set", uneven]).expect_code(3).stderr;
    assert!(text.contains("`lists` have 6 candidates, those of `valid` have 5"), "{text}");
    let ranked = "data.sets.held_out.source={jsonl: {path: five.jsonl}}";
    let text = place.run(&["run", "heads.yaml", "--set", ranked]).expect_code(3).stderr;
    assert!(text.contains("query `1` of `held_out` has 5 candidates, 5 of them in one window"), "{text}");
    assert!(text.contains("`exact_candidates` in `data.sets.held_out`"), "{text}");
    assert!(!place.path("runs/heads/teacher").exists(), "nothing was collected before it was said");
}

#[test]
fn a_draft_model_drafts_and_is_looked_at_before_hours_of_training() {
    let place = workplace();
    let decoders = |draft: &str| {
        format!(
            "evaluate.decoders=[autoregressive_forced, {{speculative: {{draft_model: {draft}}}}}, {{speculative: {{draft_model: {draft}, n_step: 2}}}}]"
        )
    };
    let run = |draft: &str| place.run(&["run", "heads.yaml", "--set", "heads=null", "--set", &decoders(draft)]);
    let text = run("models/smal").expect_code(3).stderr;
    assert!(text.contains("`evaluate.decoders`: `models/smal` is not on disk"), "{text}");
    // A tokenizer in which two tokens have changed places.
    let copy = place.run(&["import", "model", "--out", "other"]).expect_code(0);
    let mut tokenizer: Value = serde_json::from_str(&place.read("other/tokenizer.json")).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap_or_else(|| panic!("{copy:?}"));
    let named = |id: u64, vocabulary: &serde_json::Map<String, Value>| {
        vocabulary.iter().find(|(_, own)| own.as_u64() == Some(id)).unwrap().0.clone()
    };
    let (five, six) = (named(65, vocabulary), named(66, vocabulary));
    vocabulary.insert(five, 66.into());
    vocabulary.insert(six, 65.into());
    place.write("other/tokenizer.json", &tokenizer.to_string());
    let text = run("other").expect_code(3).stderr;
    assert!(text.contains("draft model `other`: 2 of ") && text.contains("the first 65"), "{text}");

    let said = run("model").expect_code(0).stderr;
    assert!(said.contains("base on held_out: nDCG@10 autoregressive_forced "), "{said}");
    let evaluations: Value = serde_json::from_str(&place.read("runs/heads/tables/evaluations.json")).unwrap();
    let rows = evaluations[0]["rows"].as_array().unwrap();
    let exact = rows.iter().find(|row| row["decoder"] == "speculative(draft=model)").unwrap();
    assert_eq!(exact["fidelity"]["kendall_tau"]["mean"], 1.0);
    assert!(
        exact["cost"]["accepted_per_pass"].as_f64().unwrap() > 2.0,
        "it drafts as the model itself writes: {exact}"
    );
}

#[test]
fn heads_that_learned_from_the_test_are_told() {
    let place = workplace();
    let decoders = "evaluate.decoders=[single_token, {blockwise: {}}]";
    let said = place.run(&["run", "heads.yaml", "--set", decoders, "--set", "evaluate.sets=[valid, held_out]"]);
    let said = said.expect_code(0).stderr;
    let warning = "TRAINED ON THE TEST: heads learned from or were chosen by 6 of the 6 queries of set `valid`";
    assert!(said.contains(warning) && !said.contains("queries of set `held_out`"), "{said}");
    assert!(
        place.read("runs/heads/report.html").contains(warning.trim_end_matches("`valid`").trim()),
        "in the report, too"
    );
}
