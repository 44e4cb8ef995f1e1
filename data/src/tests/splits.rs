//! `split` and `exact_candidates`, among the other options of a set.

use proptest::prelude::*;

use crate::sources::{
    JsonlConfig, RankingSetConfig, Selection, ShuffleConfig, SourceConfig, SplitConfig, SplitPart, load, write_jsonl,
};
use crate::{DataError, RankingSample, SetReport};

const PARTS: [SplitPart; 3] = [SplitPart::Train, SplitPart::Validation, SplitPart::Test];

/// Lists of the given lengths, with a target when they have more than one candidate.
fn with_lengths(lengths: &[usize], check: impl FnOnce(RankingSetConfig)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.jsonl");
    let lists: Vec<RankingSample> = lengths
        .iter()
        .enumerate()
        .map(|(number, &length)| {
            let target = (length > 1).then(|| (0..length as u16).rev().collect());
            super::sample(&number.to_string(), "q", &vec!["text"; length], target)
        })
        .collect();
    write_jsonl(&path, &lists).unwrap();
    check(RankingSetConfig::new(SourceConfig::Jsonl(JsonlConfig { path })));
}

fn part(
    config: &RankingSetConfig,
    part: SplitPart,
    validation: usize,
    test: usize,
) -> Result<(Vec<String>, SetReport), DataError> {
    let config = RankingSetConfig {
        split: Some(SplitConfig { part, validation, test, disjoint_queries: false }),
        ..config.clone()
    };
    let (samples, report) = load(&config)?;
    Ok((samples.into_iter().map(|sample| sample.query_id).collect(), report))
}

#[test]
fn parts_are_cut_after_the_filters_and_before_the_limit() {
    with_lengths(&[3, 1, 3, 3, 2, 3, 3, 1, 3], |mut config| {
        config.require_target = true;
        config.exact_candidates = Some(3);
        let (train, report) = part(&config, SplitPart::Train, 2, 1).unwrap();
        assert_eq!(train, ["0", "2", "3"]);
        assert_eq!((report.read, report.dropped["in another part of the split"]), (9, 3), "{report}");
        assert_eq!(report.dropped["fewer candidates than exact_candidates"], 3);
        assert_eq!(part(&config, SplitPart::Validation, 2, 1).unwrap().0, ["5", "6"]);
        assert_eq!(part(&config, SplitPart::Test, 2, 1).unwrap().0, ["8"]);
        config.max_queries = Some(1);
        assert_eq!(part(&config, SplitPart::Validation, 2, 1).unwrap().0, ["5"]);
        assert_eq!(part(&config, SplitPart::Train, 2, 1).unwrap().0, ["0"]);
        config.select = Selection::Random(ShuffleConfig { seed: 1 });
        let (chosen, report) = part(&config, SplitPart::Train, 2, 1).unwrap();
        assert!(["0", "2", "3"].contains(&chosen[0].as_str()) && chosen.len() == 1);
        assert_eq!(report.read, report.kept + report.dropped.values().sum::<u64>(), "{report}");
    });
}

#[test]
fn disjoint_parts_leave_out_queries_that_a_later_part_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.jsonl");
    let queries = ["only here", "What is A?", "b", "c", "what is a", "B", "d", "e", "c"];
    let list = |(number, query): (usize, &&str)| super::sample(&number.to_string(), query, &["text", "other"], None);
    let lists: Vec<RankingSample> = queries.iter().enumerate().map(list).collect();
    write_jsonl(&path, &lists).unwrap();
    let kept = |part: SplitPart, max_queries: Option<usize>| {
        let split = Some(SplitConfig { part, validation: 3, test: 2, disjoint_queries: true });
        let source = SourceConfig::Jsonl(JsonlConfig { path: path.clone() });
        let config = RankingSetConfig { split, max_queries, ..RankingSetConfig::new(source) };
        let (samples, report) = load(&config).unwrap();
        assert_eq!(report.read, report.kept + report.dropped.values().sum::<u64>(), "{report}");
        assert_eq!(report.dropped["its query is in a later part of the split as well"], 3, "{report}");
        samples.into_iter().map(|sample| sample.query_id).collect::<Vec<_>>()
    };
    assert!(
        load(&RankingSetConfig::new(SourceConfig::Jsonl(JsonlConfig { path: path.clone() }))).unwrap().0.len() == 9
    );
    assert_eq!(kept(SplitPart::Test, None), ["7", "8"]);
    assert_eq!(kept(SplitPart::Validation, None), ["4", "5", "6"]);
    assert_eq!(kept(SplitPart::Validation, Some(1)), ["4"]);
    assert_eq!(kept(SplitPart::Train, None), ["0"]);
}

#[test]
fn exact_candidates_cuts_longer_lists() {
    with_lengths(&[5, 2, 3], |mut config| {
        config.exact_candidates = Some(3);
        let (samples, report) = load(&config).unwrap();
        assert_eq!(samples.iter().map(|sample| sample.passages.len()).collect::<Vec<_>>(), [3, 3]);
        assert_eq!(samples[0].target, Some(vec![2, 1, 0]), "the target's order of those that are left");
        assert_eq!(report.notes["candidates beyond exact_candidates"], 2);
        config.top_k = Some(2);
        config.min_candidates = 4;
        config.split = Some(SplitConfig { part: SplitPart::Test, validation: 1, test: 0, disjoint_queries: false });
        let problems = config.validate();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems.iter().any(|problem| problem.contains("`exact_candidates` 3 is more than `top_k` 2 leaves")));
        assert!(problems.iter().any(|problem| problem.contains("`split.test` is 0")));
    });
}

#[test]
fn a_set_smaller_than_its_parts_says_the_numbers() {
    with_lengths(&[2; 7], |config| {
        let error = part(&config, SplitPart::Train, 5, 4).unwrap_err();
        assert!(matches!(error, DataError::SplitTooSmall { rows: 7, validation: 5, test: 4, .. }), "{error}");
        assert!(error.to_string().contains("has 7 rows after the filters but its `split` takes 5"), "{error}");
        let error = part(&config, SplitPart::Train, 4, 3).unwrap_err();
        assert!(error.to_string().contains("no samples left") && error.to_string().contains("split"), "{error}");
    });
}

#[test]
fn settings_without_a_split_are_written_as_before() {
    let text = r#"{"source": {"generated": {"num_queries": 9}}, "split": {"part": "test", "test": 3}}"#;
    let config: RankingSetConfig = serde_json::from_str(text).unwrap();
    assert_eq!(
        config.split,
        Some(SplitConfig { part: SplitPart::Test, validation: 500, test: 3, disjoint_queries: false })
    );
    let written = serde_json::to_string(&RankingSetConfig { split: None, ..config }).unwrap();
    assert!(!written.contains("split") && !written.contains("exact_candidates"), "{written}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn parts_partition_the_rows(rows in 1usize..30, validation in 1usize..6, test in 1usize..6) {
        with_lengths(&vec![2; rows], |config| {
            let found: Vec<_> = PARTS.iter().map(|&wanted| part(&config, wanted, validation, test)).collect();
            if rows <= validation + test {
                assert!(found[0].is_err());
                return;
            }
            let found: Vec<Vec<String>> = found.into_iter().map(|part| part.unwrap().0).collect();
            assert_eq!((found[1].len(), found[2].len()), (validation, test));
            assert_eq!(found.concat(), (0..rows).map(|row| row.to_string()).collect::<Vec<_>>());
        });
    }
}
