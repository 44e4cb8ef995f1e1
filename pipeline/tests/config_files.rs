//! The committed experiment files are right, and so is the page that describes their keys.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::path::{Path, PathBuf};

use fixture::Workplace;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All but sweeps and tables, which are files of another kind.
fn experiment_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("configs/sweeps") || path.ends_with("configs/tables") {
            continue;
        }
        if path.is_dir() {
            experiment_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
}

#[test]
fn every_committed_experiment_file_passes_the_check() {
    let mut files = Vec::new();
    experiment_files(&repository().join("configs"), &mut files);
    assert!(files.len() >= 6, "{files:?}");
    let mut arguments = vec!["config", "check"];
    arguments.extend(files.iter().map(|file| file.to_str().unwrap()));
    let ended = Workplace::empty().run(&arguments).expect_code(0);
    assert_eq!(ended.stdout.lines().filter(|line| line.ends_with(": fine")).count(), files.len());
}

#[test]
fn every_committed_sweep_lists_its_runs() {
    let place = Workplace::empty();
    for entry in std::fs::read_dir(repository().join("configs/sweeps")).unwrap() {
        let file = entry.unwrap().path();
        let output = place.monopass(&["sweep", file.to_str().unwrap(), "--dry-run"]).current_dir(repository()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("monopass run configs/"));
    }
}

#[test]
fn every_committed_table_is_filled_as_far_as_there_are_runs() {
    let place = Workplace::empty();
    for entry in std::fs::read_dir(repository().join("configs/tables")).unwrap() {
        let file = entry.unwrap().path();
        // Experiment files are named from the repository's root, where no run may be.
        let mut command = place.monopass(&["table", &file.display().to_string(), "--no-run", "--json"]);
        let output = command.current_dir(repository()).output().unwrap();
        let ended = fixture::Ended::new(&output, &repository()).expect_code(0);
        assert!(!ended.json()["table"]["rows"].as_array().unwrap().is_empty());
    }
}

#[test]
fn every_committed_table_of_figures_fits_its_table_file() {
    let place = Workplace::empty();
    for entry in std::fs::read_dir(repository().join("docs/tables")).unwrap() {
        let kept = entry.unwrap().path();
        if kept.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let file = repository().join("configs/tables").join(kept.with_extension("yaml").file_name().unwrap());
        let [file, kept] = [file, kept].map(|path| path.display().to_string());
        let mut command = place.monopass(&["table", &file, "--no-run", "--kept", &kept, "--json"]);
        let output = command.current_dir(repository()).output().unwrap();
        let table = fixture::Ended::new(&output, &repository()).expect_code(0).json();
        let filled = |table: &serde_json::Value| {
            let filled =
                |row: &&serde_json::Value| row.as_array().unwrap().iter().any(|cell| cell.get("value").is_some());
            table["rows"].as_array().unwrap().iter().filter(filled).count()
        };
        let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&kept).unwrap()).unwrap();
        assert!(filled(&kept) > 0);
        assert_eq!(
            filled(&table["table"]),
            filled(&kept),
            "{file}: a row with figures that the table file does not have"
        );
    }
}

#[test]
fn what_config_show_prints_is_an_experiment_file_with_the_same_meaning() {
    let place = Workplace::empty();
    let file = repository().join("configs/rank/smollm2.yaml");
    let shown = place.run(&["config", "show", file.to_str().unwrap()]).expect_code(0).stdout;
    let again = place.write("shown.yaml", &shown);
    assert_eq!(place.run(&["config", "show", again.to_str().unwrap()]).expect_code(0).stdout, shown);
}

#[test]
fn the_reference_page_is_up_to_date() {
    let page = Workplace::empty().run(&["config", "schema", "--markdown"]).expect_code(0).stdout;
    let committed = std::fs::read_to_string(repository().join("configs/REFERENCE.md")).unwrap_or_default();
    assert!(
        page == committed,
        "configs/REFERENCE.md is out of date: `monopass config schema --markdown > configs/REFERENCE.md`"
    );
}

#[test]
fn the_schema_knows_stage_settings_beside_the_stages_name() {
    let schema = Workplace::empty().run(&["config", "schema"]).expect_code(0).json();
    let stage = &schema["$defs"]["StageSection"]["properties"];
    for key in ["name", "from", "data", "objective", "learning_rate"] {
        assert!(stage[key].is_object(), "{key}");
    }
    assert!(stage["settings"].is_null());
    assert!(schema["$defs"]["TrainSection"]["properties"]["max_steps"].is_object());
}

#[test]
fn config_ls_names_every_file_with_its_kind_and_first_line() {
    let place = Workplace::empty();
    place.write("configs/a.yaml", "# First one\nname: a\n");
    place.write("configs/deep/b.yaml", "name: b\ncolumns: []\n");
    place.write("configs/deep/c.yaml", "name: [\n");
    let ended = place.run(&["config", "ls"]).expect_code(0);
    let wanted = "configs/a.yaml       experiment  First one\n\
                  configs/deep/b.yaml  table       \n\
                  configs/deep/c.yaml  unreadable  \n";
    assert_eq!(ended.stdout, wanted);
}
