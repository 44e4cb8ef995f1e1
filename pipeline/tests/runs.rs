//! Commands on runs that are there: compare, list, show, export, remove.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::fs;

use fixture::{EXPERIMENT, Workplace};

/// Two short runs that differ in their learning rate.
fn two_runs() -> Workplace {
    let place = Workplace::new(4096);
    place.write("tiny.yaml", EXPERIMENT);
    for (name, rate) in [("slow", "1e-5"), ("fast", "1e-3")] {
        let (name, rate) = (format!("name={name}"), format!("train.learning_rate={rate}"));
        place.run(&["run", "tiny.yaml", "--set", &name, "--set", &rate, "--set", "train.max_steps=2"]).expect_code(0);
    }
    place
}

#[test]
fn runs_are_compared_listed_and_removed() {
    let place = two_runs();
    let text = place.run(&["compare", "runs/slow", "runs/fast", "--measure", "ndcg_cut_10"]).expect_code(0).stdout;
    assert!(text.contains("slow") && text.contains("fast") && text.contains("p (Holm)"), "{text}");

    let arguments = ["compare", "runs/slow", "runs/fast", "--baseline", "slow/first/single_token", "--json"];
    let table = place.run(&[&arguments[..], &["--out", "both"]].concat()).expect_code(0).json();
    let columns = table["table"]["columns"].as_array().unwrap();
    let difference = columns.iter().position(|column| column["key"] == "difference").unwrap();
    let rows = table["table"]["rows"].as_array().unwrap();
    let differing = rows.iter().filter(|row| row[difference].to_string().contains("interval")).count();
    assert!(differing > 0 && differing < rows.len(), "{table}");
    let page = fs::read_to_string(place.path("both/report.html")).unwrap().replace("<wbr>", "");
    assert!(page.contains("slow and fast") && page.contains("Settings that differ"));
    assert!(page.contains("Query by query") && page.contains("against slow · first · single_token"), "no queries");
    assert!(page.contains("<div class=\"tops\">"), "no passages of the greatest wins and losses");
    assert!(page.contains("train.stages.first.learning_rate") && !page.contains("max_steps"), "only what differs");
    let page = fs::read_to_string(place.path("runs/slow/report.html")).unwrap();
    assert!(page.contains("Changes to tiny.yaml") && page.contains("to run it all again"));
    assert!(page.contains("GiB at the fullest moment"), "what training took");
    assert!(place.path("both/runs.tex").exists());

    let text = place.run(&["compare", "runs/slow", "--baseline", "slow/none"]).expect_code(2).stderr;
    assert!(text.contains("RUN/MODEL/DECODER"), "{text}");
    let text = place.run(&["compare", "runs/slow", "--baseline", "slow/gone/single_token"]).expect_code(2).stderr;
    assert!(text.contains("no run has the row `slow/gone/single_token`"), "{text}");
    let text =
        place.run(&["compare", "runs/slow", "--baseline", "slow/models/gone/single_token"]).expect_code(2).stderr;
    assert!(text.contains("no run has the row `slow/models/gone/single_token`"), "{text}");
    let text = place.run(&["compare", "runs/slow", "model"]).expect_code(3).stderr;
    assert!(text.contains("`model` has no evaluation"), "{text}");
    let text = place.run(&["compare", "runs/slow", "runs/fast", "model"]).expect_code(0).stderr;
    assert!(text.contains("left out, without an evaluation: `model`"), "{text}");

    let listed = place.run(&["runs", "ls"]).expect_code(0).stdout;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains("runs/fast: complete") && listed.contains("prepare 2, train 2, evaluate"), "{listed}");
    let shown = place.run(&["runs", "show", "runs/fast"]).expect_code(0).stdout;
    assert!(
        shown.contains("report.html") && shown.contains("train/first") && shown.contains("single_token"),
        "{shown}"
    );
    place.run(&["runs", "show", "model"]).expect_code(3);

    let checkpoints = place.path("runs/fast/train/first/checkpoints");
    let said = place.run(&["runs", "rm", "runs/fast", "--checkpoints"]).expect_code(0).stdout;
    assert!(said.contains("would remove") && checkpoints.exists(), "{said}");
    // A model that is gone is made again from its last checkpoint.
    fs::rename(place.path("runs/fast/model/first"), place.path("aside")).unwrap();
    let said = place.run(&["runs", "rm", "runs/fast", "--checkpoints", "--yes"]).expect_code(0).stdout;
    assert!(checkpoints.exists() && !said.contains("train/first"), "{said}");
    fs::rename(place.path("aside"), place.path("runs/fast/model/first")).unwrap();
    place.run(&["runs", "rm", "runs/fast", "runs/fast", "--checkpoints", "--yes"]).expect_code(0);
    assert!(!checkpoints.exists() && place.path("runs/fast/model/first").exists());
    let again = place.run(&[
        "run",
        "tiny.yaml",
        "--set",
        "name=fast",
        "--set",
        "train.learning_rate=1e-3",
        "--set",
        "train.max_steps=2",
    ]);
    assert!(again.expect_code(0).stderr.contains("train/first: unchanged, skipped"));
    place.run(&["runs", "rm", "model"]).expect_code(3);
    place.run(&["runs", "rm", "runs/slow", "--yes"]).expect_code(0);
    assert!(!place.path("runs/slow").exists() && place.path("runs/fast").exists());
}

#[test]
fn a_kept_table_stands_in_for_runs_that_are_gone() {
    let place = two_runs();
    place.write(
        "table.yaml",
        "\
name: rates
title: Two learning rates
experiments:
  slow: {file: tiny.yaml, set: [name=slow]}
  fast: {file: tiny.yaml, set: [name=fast]}
columns:
  - {key: ndcg, label: nDCG@10, from: ndcg_cut_10}
  - {key: seconds, label: Seconds, from: latency_median, table: cost}
rows:
  - {label: slow, experiment: slow, where: {model: first, decoder: single_token}, paper: {ndcg: 0.5}}
  - {label: fast, experiment: fast, where: {model: first, decoder: single_token}}
",
    );
    place.run(&["table", "table.yaml", "--no-run", "--out", "kept"]).expect_code(0);
    let page = place.read("kept/rates.md");
    assert!(page.contains("Run `slow`: 20") && page.contains("monopass 0."), "where the figures come from: {page}");
    let arguments = ["table", "table.yaml", "--no-run", "--kept", "kept/rates.json"];
    let told = place.run(&arguments).expect_code(0).stderr;
    assert!(told.contains("2 of 2 figures run here are within the kept intervals"), "{told}");

    fs::remove_dir_all(place.path("runs/fast")).unwrap();
    let bare = place.run(&["table", "table.yaml", "--no-run", "--json"]).expect_code(0).json();
    assert!(bare["table"]["rows"][1].to_string().contains("no run in runs/fast"), "{bare}");
    let again = place.run(&[&arguments[..], &["--out", "again"]].concat()).expect_code(0).stderr;
    assert!(again.contains("having no run here: 1"), "{again}");
    let table = |name: &str| -> serde_json::Value { serde_json::from_str(&place.read(name)).unwrap() };
    let (kept, again) = (table("kept/rates.json"), table("again/rates.json"));
    assert_eq!(kept["rows"], again["rows"], "the row and its figures are the kept table's");
    let notes = |table: &serde_json::Value| {
        let mut notes: Vec<String> = serde_json::from_value(table["notes"].clone()).unwrap();
        notes.sort();
        notes
    };
    assert_eq!(notes(&kept), notes(&again), "so is where they come from");
    let gone = place.run(&["table", "table.yaml", "--no-run", "--kept", "gone.json"]).expect_code(3).stderr;
    assert!(gone.contains("cannot read `gone.json`") && gone.contains("`--kept` wants"), "{gone}");
}

/// A table of the untrained model in two runs; `change` is made in the file.
fn write_table(place: &Workplace, change: impl Fn(&str) -> String) {
    let experiment = |name: &str| {
        let set = format!("name={name}, train=null, 'evaluate.models=[base]', 'evaluate.decoders=[single_token]'");
        format!("  {name}: {{file: tiny.yaml, set: [{set}]}}\n")
    };
    let row = |name: &str| format!("  - {{label: {name}, experiment: {name}, where: {{decoder: single_token}}}}\n");
    let columns = "columns: [{key: ndcg, label: N, from: ndcg_cut_10}]";
    let (experiments, rows) = (experiment("one") + &experiment("two"), row("one") + &row("two"));
    let text = format!("name: t\ntitle: T\nexperiments:\n{experiments}{columns}\nrows:\n{rows}");
    place.write("t.yaml", &change(&text));
}

/// What fails is told, whatever else there is to show.
#[test]
fn a_table_whose_experiment_fails_ends_with_an_error() {
    let place = Workplace::new(4096);
    place.write("tiny.yaml", EXPERIMENT);
    write_table(&place, str::to_owned);
    place.run(&["table", "t.yaml", "--out", "kept", "--quiet"]).expect_code(0);
    write_table(&place, |text| text.replacen("[base]", "[missing/model]", 1));
    let ended = place.run(&["table", "t.yaml", "--kept", "kept/t.json", "--json"]).expect_code(4);
    assert!(ended.stderr.contains("1 of 2 experiments failed: one"), "{}", ended.stderr);
    let rows = &ended.json()["table"]["rows"];
    assert!(rows[0].to_string().contains("the run failed") && !rows[1].to_string().contains("failed"), "{rows}");
    let before = place.read("kept/t.json");
    let ended = place.run(&["table", "t.yaml", "--kept", "kept/t.json", "--out", "kept"]).expect_code(4);
    assert!(ended.stderr.contains("not written over") && ended.stderr.contains("none now: one"), "{}", ended.stderr);
    assert_eq!(place.read("kept/t.json"), before, "the figures of before are the only copy");
}

#[test]
fn a_table_runs_the_experiments_asked_for_alone() {
    let place = Workplace::new(4096);
    place.write("tiny.yaml", EXPERIMENT);
    write_table(&place, str::to_owned);
    let refused = place.run(&["table", "t.yaml", "--only", "twoo"]).expect_code(3).stderr;
    assert!(refused.contains("`--only twoo`: the table has no experiment of this name"), "{refused}");
    assert!(refused.contains("did you mean `two`?"), "{refused}");
    let figures = |only: &str| {
        let ended = place.run(&["table", "t.yaml", "--only", only, "--json"]).expect_code(0);
        let rows = ended.json()["table"]["rows"].as_array().unwrap().clone();
        rows.iter().map(|row| !row.to_string().contains("no run in")).collect::<Vec<_>>()
    };
    assert_eq!(figures("two"), [false, true]);
    assert_eq!(figures("two,one"), [true, true]);
}

#[test]
fn results_of_other_settings_are_not_shown_unmarked() {
    let place = Workplace::new(4096);
    place.write("tiny.yaml", EXPERIMENT);
    write_table(&place, str::to_owned);
    place.run(&["table", "t.yaml", "--quiet"]).expect_code(0);
    let told = place.run(&["table", "t.yaml", "--no-run"]).expect_code(0);
    assert!(!format!("{told:?}").contains("other settings"), "{told:?}");
    write_table(&place, |text| text.replacen("train=null", "train=null, seed=8", 1));
    let told = place.run(&["table", "t.yaml", "--no-run"]).expect_code(0);
    let note = "Run `one`: made with other settings: seed 7, here 8";
    assert!(told.stderr.contains(note) && told.stdout.contains(note), "{told:?}");
    assert!(!told.stdout.contains("Run `two`: made with"), "{}", told.stdout);
    // Two experiments in one folder would take each other's results for their own.
    write_table(&place, |text| text.replace("name=two, train=null", "name=one, seed=8, train=null"));
    let refused = place.run(&["table", "t.yaml"]).expect_code(2).stderr;
    assert!(
        refused.contains("t.yaml:5: `experiments.two`: `one` has other settings and the same folder `runs/one`"),
        "{refused}"
    );
}

/// The layout that MLflow's FileStore reads; docs/formats.md says how it was read back.
#[test]
fn models_of_runs_are_written_for_mlflow() {
    let place = Workplace::new(4096);
    place.write("tiny.yaml", fixture::EXPERIMENT);
    place.run(&["run", "tiny.yaml", "--set", "evaluate.models=[untrained, first]"]).expect_code(0);
    for _again in 0..2 {
        let said = place.run(&["runs", "export", "runs/tiny", "--mlflow", "mlruns"]).expect_code(0).stdout;
        assert!(said.contains("3 models of experiment `tiny`"), "{said}");
    }
    let folders = |path: &std::path::Path| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(path).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let experiments = folders(&place.path("mlruns"));
    assert_eq!(experiments.len(), 1);
    let runs = folders(&experiments[0]);
    assert_eq!(runs.len(), 3, "written twice, there once");
    let read = |run: &std::path::Path, file: &str| std::fs::read_to_string(run.join(file)).unwrap();
    let first = runs.iter().find(|run| read(run, "tags/mlflow.runName") == "first").unwrap();
    assert_eq!(read(first, "params/objective.first.lm_weight"), "1.0");
    let losses = read(first, "metrics/train/loss");
    assert_eq!(losses.lines().count(), 6);
    let fields: Vec<f64> = losses.lines().next().unwrap().split(' ').map(|field| field.parse().unwrap()).collect();
    assert!(fields.len() == 3 && fields[0] > 1.7e12 && fields[1] > 0.0 && fields[2] == 1.0, "{fields:?}");
    assert_eq!(read(first, "metrics/held_out/single_token/ndcg_cut_10").lines().count(), 1);
    assert!(read(first, "meta.yaml").contains("run_name: first") && first.join("artifacts/report.html").is_file());
    place.run(&["runs", "export", "nowhere", "--mlflow", "mlruns"]).expect_code(3);
}
