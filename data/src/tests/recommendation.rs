//! MovieLens and next-item lists from small files written here.

use std::collections::HashSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::tokenizer;
use crate::prompt::{PromptBuilder, PromptConfig, PromptStyle, PromptTemplate};
use crate::sources::{RankingSetConfig, load};
use crate::{DataError, RankingSample, SetReport};

fn set(source: serde_json::Value) -> Result<(Vec<RankingSample>, SetReport), DataError> {
    load(&serde_json::from_value::<RankingSetConfig>(json!({ "source": source })).unwrap())
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn target(sample: &RankingSample) -> &str {
    let relevant: Vec<_> = sample.passages.iter().filter(|passage| passage.label == Some(1)).collect();
    assert_eq!(relevant.len(), 1, "{}", sample.query_id);
    assert_eq!(
        sample.target.as_ref().unwrap()[0],
        sample.passages.iter().position(|p| p.label == Some(1)).unwrap() as u16
    );
    &relevant[0].text
}

/// MovieLens-1M's own files: `::`, Latin-1, the year in the title.
fn movielens_1m(folder: &Path) -> (String, String) {
    let mut films = b"1::Caf\xe9 (1990)::Drama\r\n2::Bar (1991)::Comedy|Drama\n3::Zoo (1992)::Drama\n".to_vec();
    films.extend_from_slice(b"4::Zoo (1992)::Drama\n5::Sea (1993)::Drama\n6::Sun (1994)::Drama\nbroken\n");
    let ratings = "7::2::5::30\n7::10::5::35\n7::1::3::20\n7::3::4::30\n12::5::1::1\n7::6::x::late\n";
    (write(folder, "movies.dat", films), write(folder, "ratings.dat", ratings))
}

#[test]
fn movielens_1m_files_are_read_and_times_ordered() {
    let folder = tempfile::tempdir().unwrap();
    let (items, interactions) = movielens_1m(folder.path());
    let source = json!({"movielens": {"interactions": interactions, "items": items, "num_candidates": 3,
        "lists_per_user": 2, "seed": 5}});
    let (samples, report) = set(source).unwrap();
    // User 12 has one film: nothing comes before it. Films 2 and 3 have one time: the smaller id is first.
    let ids: Vec<&str> = samples.iter().map(|sample| sample.query_id.as_str()).collect();
    assert_eq!(ids, ["7-1", "7-2"]);
    assert_eq!(samples[0].query, "1. Café (1990); 2. Bar (1991)");
    assert_eq!((target(&samples[0]), target(&samples[1])), ("Zoo (1992)", "Bar (1991)"));
    for sample in &samples {
        let names: HashSet<&str> = sample.passages.iter().map(|passage| passage.text.as_str()).collect();
        assert!(names.contains("Sea (1993)") && names.contains("Sun (1994)") && names.len() == 3, "{names:?}");
    }
    assert_eq!(report.dropped["no film before the one asked for"], 2, "{report}");
    assert_eq!(report.notes["ratings of films that the items do not hold"], 1);
    let shown = report.to_string();
    assert!(shown.contains("movies.dat:7: 1 fields between `::`, wanted 3"), "{shown}");
    assert!(shown.contains("ratings.dat:6: timestamp `late` is no number"), "{shown}");
}

#[test]
fn popularity_is_the_number_of_other_users_and_orders_what_is_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let films: String = (0..6).map(|film| format!("{film}::Film {film} (2000)::Drama\n")).collect();
    // Film 2 has three ratings, film 3 two, films 1 and 4 one, film 5 none. User a is asked for film 1, which no one else has.
    let ratings = "a::0::5::1\na::1::5::2\nb::2::5::1\nc::2::5::1\nd::2::5::1\nb::3::5::2\nc::3::5::2\nb::4::5::3\n";
    let (items, interactions) =
        (write(folder.path(), "movies.dat", films), write(folder.path(), "ratings.dat", ratings));
    let source = json!({"movielens": {"interactions": interactions, "items": items, "num_candidates": 5,
        "first_stage": "popularity"}});
    let (samples, _) = set(source.clone()).unwrap();
    let names = |sample: &RankingSample| sample.passages.iter().map(|p| p.doc_id.clone()).collect::<Vec<_>>();
    let scores = |sample: &RankingSample| sample.passages.iter().map(|p| p.first_stage_score).collect::<Vec<_>>();
    assert_eq!(samples[0].query_id, "a");
    assert_eq!(names(&samples[0])[..3], ["2", "3", "4"]);
    assert_eq!(scores(&samples[0]), [3.0, 2.0, 1.0, 0.0, 0.0].map(Some));
    let ranked = |sample: &RankingSample| {
        let target = sample.target.clone().unwrap();
        target.iter().map(|place| names(sample)[usize::from(*place)].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ranked(&samples[0]), ["1", "2", "3", "4", "5"]);
    let shuffled = json!({"source": source, "shuffle_candidates": {"seed": 3}});
    let (shuffled, _) = load(&serde_json::from_value::<RankingSetConfig>(shuffled).unwrap()).unwrap();
    assert_ne!(names(&shuffled[0]), names(&samples[0]));
    assert_eq!(ranked(&shuffled[0]), ranked(&samples[0]), "the order to learn is not the one shown");
}

#[test]
fn a_list_longer_than_the_films_is_counted_and_settings_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (items, interactions) = movielens_1m(folder.path());
    let error =
        set(json!({"movielens": {"interactions": interactions, "items": items, "num_candidates": 4}})).unwrap_err();
    assert!(error.to_string().contains("too few films the user never rated"), "{error}");
    let error =
        set(json!({"movielens": {"interactions": "x", "items": "y", "history_length": 0, "num_candidates": 1}}));
    let message = error.unwrap_err().to_string();
    assert!(message.contains("`movielens.history_length` is 0") && message.contains("at least 2"), "{message}");
}

fn games(folder: &Path) -> (String, String) {
    let items = "item_id:token\ttitle:token_seq\na\tAlpha\nb\tBeta\nc\tGamma\nd\tDelta\ne\tBeta\nf\tPhi\n";
    let inter = "user_id:token\titem_id_list:token_seq\titem_id:token\n1\ta b\tc\n2\tb\ta\n3\ta\tzz\n4\ta c\te\n";
    (write(folder, "g.item", items), write(folder, "g.inter", inter))
}

#[test]
fn next_item_lists_hold_the_target_once_and_nothing_the_user_has() {
    let folder = tempfile::tempdir().unwrap();
    let (items, interactions) = games(folder.path());
    // The file's order of users. User 1 has b, and c is asked for; user 4 is asked for the other `Beta`.
    let lists = "2\tc d a f a\n1\tb d f zz a\nno tab\n3\ta b\n4\tb d f\n";
    let candidates = write(folder.path(), "c", lists);
    let source = |insert: bool, n: usize| {
        json!({"next_item": {"interactions": interactions, "items": items, "candidates": candidates,
            "num_candidates": n, "history_length": 1, "insert_target": insert}})
    };
    let (samples, report) = set(source(true, 3)).unwrap();
    let lists: Vec<_> =
        samples.iter().map(|s| (s.query_id.as_str(), s.query.as_str(), target(s), s.passages.len())).collect();
    let wanted = [("2", "1. Beta", "Alpha", 3), ("1", "1. Beta", "Gamma", 3), ("4", "1. Gamma", "Beta", 3)];
    assert_eq!(lists, wanted);
    assert_eq!(samples[0].passages.iter().map(|p| p.doc_id.as_str()).collect::<Vec<_>>(), ["c", "d", "a"]);
    assert_eq!(report.notes["next items put in at a random place"], 2, "{report}");
    assert_eq!(report.notes["candidates the user already has"], 2);
    assert_eq!(report.notes["candidates with the name of another"], 2);
    assert_eq!(report.notes["candidates that the items do not hold"], 1);
    assert_eq!(report.dropped["a user without a history and a next item"], 1);
    let shown = report.to_string();
    assert!(shown.contains("g.inter:4: next item `zz` is not among the items"), "{shown}");
    assert!(shown.contains("c:3: no tab after the user's id"), "{shown}");
    let (samples, report) = set(source(false, 3)).unwrap();
    assert_eq!((samples.len(), report.dropped["the next item is not among the candidates"]), (1, 2));
}

#[test]
fn texts_of_the_tasks_are_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let (items, interactions) = movielens_1m(folder.path());
    let source = json!({"movielens": {"interactions": interactions, "items": items, "num_candidates": 3}});
    let (samples, _) = set(source).unwrap();
    for style in [PromptStyle::Recommendation, PromptStyle::DuplicateQuestions] {
        let config = PromptConfig { template: PromptTemplate::Vicuna, ..PromptConfig::of(style) };
        let builder = PromptBuilder::new(tokenizer("bytes"), config).unwrap();
        let sample = if style == PromptStyle::Recommendation { samples[0].clone() } else { super::golden_sample() };
        insta::assert_snapshot!(format!("{style:?}"), builder.text(&sample).unwrap());
    }
    let cut = PromptConfig { max_query_tokens: Some(9), ..PromptConfig::of(PromptStyle::Recommendation) };
    assert!(cut.validate()[0].contains("use the source's `history_length`"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_movielens_list_holds_its_film_once_and_no_film_of_the_user(
        ratings in prop::collection::btree_map((0usize..4, 0usize..14), 0u32..6, 1..40),
        n in 2usize..8, lists in 1usize..4, history in 1usize..4, seed: u64,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let films: String = (0..20).map(|film| format!("{film}\tfilm {film}\t2000\n")).collect();
        let items = write(folder.path(), "x.item", format!("item_id:token\tmovie_title:token_seq\trelease_year:token\n{films}"));
        let rows: String = ratings.iter().map(|((user, film), time)| format!("{user}\t{film}\t{time}.0\n")).collect();
        let inter = write(folder.path(), "x.inter", format!("user_id:token\titem_id:token\ttimestamp:float\n{rows}"));
        let source = json!({"movielens": {"interactions": inter, "items": items, "num_candidates": n,
            "lists_per_user": lists, "history_length": history, "seed": seed}});
        let Ok((samples, report)) = set(source.clone()) else { return Ok(()) };
        prop_assert_eq!(report.read, report.kept + report.dropped.values().sum::<u64>());
        for sample in &samples {
            let user: usize = sample.query_id.split('-').next().unwrap().parse().unwrap();
            let name = target(sample).to_owned();
            prop_assert_eq!(sample.passages.len(), n);
            prop_assert!(sample.query.matches("film").count() <= history && !sample.query.contains(&name));
            for passage in sample.passages.iter().filter(|passage| passage.label == Some(0)) {
                prop_assert!(!ratings.contains_key(&(user, passage.doc_id.parse().unwrap())));
            }
        }
        prop_assert_eq!(set(source).unwrap().0, samples, "a seed repeats");
    }
}
