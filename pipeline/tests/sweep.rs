//! Sweeps through the binary: listed, run, one run failing, gone on with, refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::fs;

use fixture::Workplace;
use serde_json::Value;

const EXPERIMENT: &str = "\
name: base
seed: 7
model: {path: model, device: cpu, precision: fp32}
data:
  prompt: {identifiers: alphabetic}
  sets:
    held_out: {source: {generated: {num_queries: 3, num_candidates: 4, seed: 2, part: held_out}}}
evaluate:
  sets: [held_out]
  models: [base]
  decoders: [single_token]
  latency: {warmup: 0}
";

const SWEEP: &str = "\
name: sizes
experiment: base.yaml
over:
  grid:
    data.sets.held_out.source.generated.num_candidates: [3, 4]
    seed: [1, 2]
jobs: 2
";

fn workplace() -> Workplace {
    let place = Workplace::new(4096);
    place.write("base.yaml", EXPERIMENT);
    place.write("sweep.yaml", SWEEP);
    place
}

#[test]
fn all_combinations_are_run_and_put_together() {
    let place = workplace();
    let listed = place.run(&["sweep", "sweep.yaml", "--dry-run"]).expect_code(0);
    assert!(listed.stdout.contains("03-num_candidates-4-seed-1\n  monopass run base.yaml --set"), "{}", listed.stdout);
    assert!(!place.path("runs").exists());

    let report: Value =
        serde_json::from_str(&place.run(&["sweep", "sweep.yaml", "--json"]).expect_code(0).stdout).unwrap();
    let table = &report["table"];
    let keys: Vec<&str> =
        table["columns"].as_array().unwrap().iter().take(4).map(|c| c["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["run", "data.sets.held_out.source.generated.num_candidates", "seed", "set"]);
    // first stage and one decoder of each of the four runs
    let rows = table["rows"].as_array().unwrap();
    let seeds: Vec<&str> = rows.iter().map(|row| row[2]["text"].as_str().unwrap()).collect();
    assert_eq!(seeds, ["1", "1", "2", "2", "1", "1", "2", "2"]);
    let page = fs::read_to_string(place.path("runs/sizes/report.html")).unwrap();
    assert!(page.contains("4 of 4 runs are done") && page.contains("against latency on held_out"), "no page");
    assert!(
        place.path("runs/sizes/results.md").is_file()
            && place.path("runs/sizes/logs/01-num_candidates-3-seed-1.log").is_file()
    );
}

#[test]
fn a_run_that_fails_is_told_and_the_others_go_on() {
    let place = workplace();
    // a file that is missing for one of the two runs
    let over = "over: {zip: {evaluate.models: [[base], [missing/model]], seed: [1, 2]}}";
    place.write("sweep.yaml", &format!("name: pair\nexperiment: base.yaml\n{over}\n"));
    let ended = place.run(&["sweep", "sweep.yaml"]).expect_code(4);
    assert!(ended.stderr.contains("1 of 2 runs failed: 02-models-"), "{}", ended.stderr);
    assert!(ended.stderr.contains("the others go on"), "{}", ended.stderr);
    let state: Value = serde_json::from_slice(&fs::read(place.path("runs/pair/sweep.json")).unwrap()).unwrap();
    assert_eq!(state["runs"][0]["end"], "done");
    assert_eq!(state["runs"][1]["end"]["failed"]["code"], 3);
    let table = fs::read_to_string(place.path("runs/pair/results.md")).unwrap();
    assert!(table.contains("01-models-") && table.contains("failed with code 3"), "{table}");
}

#[test]
fn wrong_sweeps_are_refused_before_anything_runs() {
    let place = workplace();
    let refused = |text: &str| {
        place.write("bad.yaml", text);
        place.run(&["sweep", "bad.yaml"]).expect_code(2).stderr
    };
    let unknown = refused("name: s\nexperiment: base.yaml\novr: {grid: {seed: [1]}}\n");
    assert!(
        unknown.contains("bad.yaml:3: `ovr`: unknown key") && unknown.contains("did you mean `over`?"),
        "{unknown}"
    );
    let table = refused("name: s\nexperiment: base.yaml\nover: {grid: {seed: [1]}}\ntable: result\n");
    assert!(table.contains("result") && table.contains("results"), "{table}");
    let uneven = refused("name: s\nexperiment: base.yaml\nover: {zip: {seed: [1, 2], name: [a]}}\n");
    assert!(uneven.contains("bad.yaml:3: `over.zip`"), "{uneven}");
    let key = refused("name: s\nexperiment: base.yaml\nover: {list: [{sead: 1}]}\n");
    assert!(key.contains("`sead`: unknown key") && key.contains("--set sead=1"), "{key}");
    assert!(!place.path("runs").exists());
}
