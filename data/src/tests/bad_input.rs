use std::ops::ControlFlow;
use std::path::PathBuf;

use super::golden;
use crate::rows::for_each_row;
use crate::sources::{
    BrokenResponse, ConversationsConfig, GeneratedConfig, GeneratedPart, JsonlConfig, RankingSetConfig, SourceConfig,
    TargetConfig, load,
};
use crate::{DataError, SetReport};

fn jsonl(path: PathBuf) -> RankingSetConfig {
    RankingSetConfig::new(SourceConfig::Jsonl(JsonlConfig { path }))
}

fn with_lines(lines: &[&str], check: impl FnOnce(RankingSetConfig)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    check(jsonl(path));
}

const GOOD: &str =
    r#"{"query_id": "a", "query": "q", "passages": [{"doc_id": "1", "text": "t"}, {"doc_id": "2", "text": "u"}]}"#;

#[test]
fn a_malformed_line_is_counted_shown_and_fatal_when_strict() {
    let lines = [
        GOOD,
        "{oops",
        r#"{"query_id": "b", "query": "q"}"#,
        r#"{"query_id": "c", "query": "q", "passages": [{"doc_id": "1", "text": "t"}], "target": [1]}"#,
        r#"{"query_id": "d", "query": "q", "passages": [{"doc_id": "1", "text": "t"}, {"doc_id": "1", "text": "u"}]}"#,
        r#"{"query_id": "e", "query": " ", "passages": [{"doc_id": "1", "text": "t"}]}"#,
        r#"{"query_id": "f", "query": "q", "passages": []}"#,
    ];
    with_lines(&lines, |mut config| {
        let (samples, report) = load(&config).unwrap();
        assert_eq!((samples.len(), report.read, report.kept), (1, 7, 1));
        let shown = report.to_string();
        for wanted in [
            "set.jsonl:2: not JSON",
            ":3: missing field `passages`",
            ":4: query `c`: target",
            ":5: query `d`: candidate `1` occurs a second time",
            ":6: query `e` has no text",
        ] {
            assert!(shown.contains(wanted), "{wanted} in {shown}");
        }
        config.strict = true;
        let error = load(&config).unwrap_err();
        assert!(matches!(error, DataError::Malformed { line: 2, .. }), "{error}");
    });
}

#[test]
fn empty_missing_and_duplicate() {
    with_lines(&[""], |config| {
        assert!(load(&config).unwrap_err().to_string().contains("no samples left from `jsonl"));
    });
    with_lines(&[GOOD, GOOD], |config| {
        let message = load(&config).unwrap_err().to_string();
        assert!(message.contains(":2: query `a` occurs a second time"), "{message}");
    });
    with_lines(&[GOOD], |mut config| {
        config.require_target = true;
        assert!(load(&config).unwrap_err().to_string().contains("dropped 1 (no target)"));
    });
    let message = load(&jsonl("nowhere.jsonl".into())).unwrap_err().to_string();
    assert!(message.contains("cannot read `nowhere.jsonl`"), "{message}");
}

#[test]
fn settings_that_leave_nothing_are_refused_all_at_once() {
    let generated = GeneratedConfig {
        num_queries: 0,
        num_candidates: 1,
        seed: 0,
        part: GeneratedPart::Train,
        first_stage_noise: f64::NAN,
    };
    let mut config = RankingSetConfig::new(SourceConfig::Generated(generated));
    config.top_k = Some(0);
    config.require_target = true;
    config.target = TargetConfig::None;
    assert_eq!(config.validate().len(), 6, "{:?}", config.validate());
    assert!(matches!(load(&config), Err(DataError::Config { .. })));
}

#[test]
fn truncated_and_damaged_tables_are_errors_that_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["conversations.parquet", "conversations.arrow", "conversations.arrows"] {
        let whole = std::fs::read(golden(name)).unwrap();
        for (kind, bytes) in [("cut", whole[..whole.len() / 2].to_vec()), ("flipped", flipped(&whole))] {
            let path = folder.path().join(format!("{kind}-{name}"));
            std::fs::write(&path, bytes).unwrap();
            let source = ConversationsConfig { path, broken: BrokenResponse::Repair };
            let result = load(&RankingSetConfig::new(SourceConfig::Conversations(source)));
            if kind == "cut" {
                let message = result.unwrap_err().to_string();
                assert!(message.contains(name), "{message}");
            }
            // A flipped byte inside a text cannot be seen; it must only not bring the program down.
        }
    }
}

/// Lengths that a file only claims must not be allocated: the program would end for want of memory.
#[test]
fn no_byte_of_a_table_can_end_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    for (name, step) in [("conversations.arrows", 1), ("conversations.arrow", 1), ("conversations.parquet", 5)] {
        let whole = std::fs::read(golden(name)).unwrap();
        let mut refused = 0;
        for place in (0..whole.len()).step_by(step) {
            let mut bytes = whole.clone();
            bytes[place] = if bytes[place] == 0xff { 0x7f } else { 0xff };
            std::fs::write(&path, bytes).unwrap();
            let go_on = |_, _, _: &mut SetReport| Ok(ControlFlow::Continue(()));
            refused += usize::from(for_each_row(&path, &mut SetReport::default(), go_on).is_err());
        }
        assert!(refused > 50, "{name}: {refused} of {}", whole.len());
    }
}

#[test]
fn a_page_that_claims_more_values_than_memory_holds_is_an_error() {
    let go_on = |_, _, _: &mut SetReport| Ok(ControlFlow::Continue(()));
    let error =
        for_each_row(&golden("damaged-page.parquet"), &mut SetReport::default(), go_on).unwrap_err().to_string();
    assert!(error.contains("damaged-page.parquet") && error.contains("claims") && error.contains("values"), "{error}");
    // a message that is shorter than it says, of millions of rows without a column
    let error =
        for_each_row(&golden("damaged-batch.arrows"), &mut SetReport::default(), go_on).unwrap_err().to_string();
    assert!(error.contains("damaged-batch.arrows"), "{error}");
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for place in (64..bytes.len()).step_by(251) {
        bytes[place] ^= 0x10;
    }
    bytes
}

#[test]
fn configs_read_as_one_key_maps_and_refuse_unknown_keys() {
    let text = r#"{"source": {"generated": {"num_queries": 4, "part": "held_out"}}, "select": {"random": {"seed": 2}},
        "target": {"teacher_run": {"path": "x"}}}"#;
    let config: RankingSetConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.source.kind(), "generated");
    let written = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<RankingSetConfig>(&written).unwrap(), config);
    let wrong = r#"{"source": {"generated": {"num_querys": 4}}}"#;
    let message = serde_json::from_str::<RankingSetConfig>(wrong).unwrap_err().to_string();
    assert!(message.contains("unknown field `num_querys`, expected one of `num_queries`"), "{message}");
}
