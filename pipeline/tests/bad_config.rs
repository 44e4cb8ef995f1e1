//! Wrong experiment files: every fault is named with file, line and a way out, and the exit code is 2.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use fixture::{EXPERIMENT, Workplace};

/// What `config check` says about EXPERIMENT after `change`.
fn said(change: impl Fn(&str) -> String) -> String {
    let place = Workplace::empty();
    place.write("tiny.yaml", &change(EXPERIMENT));
    place.run(&["config", "check", "tiny.yaml"]).expect_code(2).stderr
}

fn replaced(from: &str, to: &str) -> String {
    assert!(EXPERIMENT.contains(from), "{from}");
    said(|text| text.replace(from, to))
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_its_neighbour() {
    insta::assert_snapshot!(replaced("learning_rate", "lerning_rate"));
}

#[test]
fn an_unknown_section_is_named() {
    insta::assert_snapshot!(replaced("evaluate:", "evalute:"));
}

#[test]
fn a_file_of_another_kind_is_told_as_what_it_is() {
    let place = Workplace::empty();
    place.write("tiny.yaml", EXPERIMENT);
    place.write("table.yaml", "name: t\ntitle: T\nexperiments: {}\ncolumns: []\nrows: []\n");
    place.write("sweep.yaml", "name: s\nexperiment: tiny.yaml\nover: {grid: {seed: [1]}}\n");
    let said = |arguments: &[&str]| place.run(arguments).expect_code(2).stderr;
    insta::assert_snapshot!(
        [
            said(&["run", "table.yaml"]),
            said(&["train", "sweep.yaml"]),
            said(&["table", "tiny.yaml"]),
            said(&["sweep", "table.yaml"])
        ]
        .concat()
    );
    // A slip in an experiment does not make it something else.
    place.write("slip.yaml", &EXPERIMENT.replace("evaluate:", "rows:"));
    assert!(said(&["run", "slip.yaml"]).contains("`rows`: unknown key"));
}

#[test]
fn a_wrong_type_is_named_with_what_was_wanted() {
    insta::assert_snapshot!(replaced("seed: 7", "seed: seven"));
}

#[test]
fn several_faults_are_named_at_once() {
    let text = said(|text| {
        text.replace("seed: 7", "seed: seven")
            .replace("global_batch_size: 4", "global_batch_size: 4.5")
            .replace("objective: {first: {}}", "objective: {frist: {}}")
            .replace("sets: [held_out]", "sets: [held_out]\n  decoder: [single_token]")
    });
    insta::assert_snapshot!(text);
}

#[test]
fn faults_between_keys_are_named_at_once() {
    let text = said(|text| {
        text.replace("from: base, data: lists", "from: rank_zephir, data: list")
            .replace("learning_rate: 1e-3", "learning_rate: -1")
            .replace("sets: [held_out]", "sets: [heldout]\n  models: [base, frist]\n  window: {size: 40}")
    });
    insta::assert_snapshot!(text);
}

#[test]
fn a_key_given_twice_is_refused() {
    insta::assert_snapshot!(replaced("seed: 7", "seed: 7\nseed: 8"));
}

#[test]
fn a_missing_section_is_named() {
    insta::assert_snapshot!(said(|text| text.replace("model: {path: model, device: cpu, precision: fp32}\n", "")));
}

#[test]
fn broken_yaml_is_placed() {
    insta::assert_snapshot!(replaced("data:\n  prompt", "data: [\n  prompt"));
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    insta::assert_snapshot!(replaced("path: model", "path: '${NO_SUCH_VARIABLE}/model'"));
}

#[test]
fn lists_longer_than_the_identifiers_allow_are_refused() {
    let text = replaced("lists: {source", "lists: {top_k: 40, source");
    insta::assert_snapshot!(text);
}

#[test]
fn an_evaluation_of_nothing_is_refused() {
    let without_held_out = |text: &str| {
        let text = text.replace("  sets: [held_out]", "  max_queries: 3");
        text.lines().filter(|line| !line.contains("held_out")).map(|line| format!("{line}\n")).collect()
    };
    insta::assert_snapshot!(said(without_held_out));
}

#[test]
fn a_missing_file_is_named() {
    let place = Workplace::empty();
    insta::assert_snapshot!(place.run(&["config", "check", "absent.yaml"]).expect_code(2).stderr);
}

fn with_set(arguments: &[&str]) -> String {
    let place = Workplace::empty();
    place.write("tiny.yaml", EXPERIMENT);
    let mut all = vec!["config", "check", "tiny.yaml"];
    all.extend(arguments.iter().flat_map(|argument| ["--set", argument]));
    place.run(&all).expect_code(2).stderr
}

#[test]
fn faults_of_overrides_name_the_argument() {
    insta::assert_snapshot!(with_set(&["train.max_stps=3"]));
    insta::assert_snapshot!(with_set(&["train.stages.frist.learning_rate=1"]));
    insta::assert_snapshot!(with_set(&["train.learning_rate=fast"]));
    insta::assert_snapshot!(with_set(&["train.learning_rate"]));
    insta::assert_snapshot!(with_set(&["name.deeper=1"]));
}

#[test]
fn overrides_reach_lists_by_name_and_numbers_may_be_written_short() {
    let place = Workplace::empty();
    place.write("tiny.yaml", EXPERIMENT);
    let shown = place
        .run(&[
            "config",
            "show",
            "tiny.yaml",
            "--set",
            "train.stages.first.learning_rate=1e-5",
            "--set",
            "train.max_steps=3",
        ])
        .expect_code(0)
        .stdout;
    assert!(shown.contains("learning_rate: 1e-5") || shown.contains("learning_rate: 0.00001"), "{shown}");
    assert_eq!(shown.matches("max_steps: 3").count(), 2, "{shown}");
}

#[test]
fn commands_that_do_not_exist_end_with_2() {
    Workplace::empty().run(&["rnu"]).expect_code(2);
    let ended = Workplace::empty().run(&[
        "rank",
        "--model",
        "x",
        "--candidates",
        "y",
        "--out",
        "z",
        "--decoder",
        "single_tokn",
    ]);
    let text = ended.expect_code(2).stderr;
    assert!(text.contains("did you mean `single_token`?"), "{text}");
}

#[test]
fn heads_and_groups_that_cannot_fit_are_told_before_training() {
    let text = said(|text| {
        let held_out =
            "sets: [held_out]\n  window: {size: 6, stride: 3}\n  decoders: [{one_pass: {n_group: 4}}, {blockwise: {}}]";
        let text = text.replace("num_candidates: 4, seed: 2", "num_candidates: 8, seed: 2");
        text.replace("sets: [held_out]", held_out) + "heads: {train: lists, validation: lists}\n"
    });
    insta::assert_snapshot!(text);
}
