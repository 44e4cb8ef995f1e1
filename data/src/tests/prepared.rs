use std::collections::HashMap;

use crate::DataError;
use crate::RankingSample;
use crate::prepared::{CARD_FILE, CARD_MARKDOWN, Counts, PreparedSet, SAMPLES_FILE, content_hash, prepare, write_set};
use crate::sources::{GeneratedConfig, GeneratedPart, RankingSetConfig, SourceConfig, load};

fn config(num_queries: usize) -> RankingSetConfig {
    RankingSetConfig::new(SourceConfig::Generated(GeneratedConfig {
        num_queries,
        num_candidates: 5,
        seed: 1,
        part: GeneratedPart::Train,
        first_stage_noise: 1.5,
    }))
}

#[test]
fn a_prepared_set_reads_back_equal_in_order_and_by_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set");
    let config = config(300);
    let card = prepare("train", &config, &path).unwrap();
    let (samples, _) = load(&config).unwrap();
    let set = PreparedSet::<RankingSample>::open(&path).unwrap();
    assert_eq!((set.len(), set.card()), (300, &card));
    assert_eq!(set.samples().unwrap(), samples);
    for index in [299, 0, 128, 127, 5] {
        assert_eq!(set.get(index).unwrap(), samples[index]);
    }
    let Counts::Lists(counts) = card.counts else { panic!("lists") };
    assert_eq!((counts.candidates.min, counts.candidates.max, counts.with_target, counts.labelled), (5, 5, 300, 1500));
    assert_eq!(card.content_hash, content_hash(&config).unwrap());
    assert_ne!(card.content_hash, content_hash(&self::config(301)).unwrap());
    let markdown = std::fs::read_to_string(path.join(CARD_MARKDOWN)).unwrap();
    assert!(markdown.contains("300 kept of 300 read"), "{markdown}");
    let entries = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(entries, 1, "nothing temporary is left");
}

#[test]
fn preparing_again_replaces_and_a_failure_leaves_the_old_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set");
    prepare("train", &config(3), &path).unwrap();
    prepare("train", &config(4), &path).unwrap();
    assert_eq!(PreparedSet::<RankingSample>::open(&path).unwrap().len(), 4);
    let mut empty = config(5);
    empty.min_candidates = 50;
    assert!(matches!(prepare("train", &empty, &path), Err(DataError::Empty { .. })));
    assert_eq!(PreparedSet::<RankingSample>::open(&path).unwrap().len(), 4);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn missing_fields_stay_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut sample = super::golden_sample();
    sample.target = None;
    sample.passages[0].first_stage_score = None;
    sample.passages[1].label = Some(-1);
    sample.passages[2].title = "A title".into();
    let mut other = super::golden_sample();
    other.query_id = "other".into();
    let samples = vec![sample, other];
    write_set("small", &samples, &folder.path().join("set")).unwrap();
    assert_eq!(PreparedSet::<RankingSample>::open(&folder.path().join("set")).unwrap().samples().unwrap(), samples);
}

#[test]
fn damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set");
    prepare("train", &config(3), &path).unwrap();
    let samples = path.join(SAMPLES_FILE);
    let whole = std::fs::read(&samples).unwrap();
    let mut damage: HashMap<&str, Vec<u8>> = HashMap::new();
    damage.insert("cut", whole[..whole.len() - 10].to_vec());
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    damage.insert("flipped", flipped);
    for (kind, bytes) in damage {
        std::fs::write(&samples, bytes).unwrap();
        let message = PreparedSet::<RankingSample>::open(&path).unwrap_err().to_string();
        assert!(
            message.contains("is not what its card describes") && message.contains("prepare it again"),
            "{kind}: {message}"
        );
    }
    std::fs::write(path.join(CARD_FILE), "{}").unwrap();
    assert!(PreparedSet::<RankingSample>::open(&path).unwrap_err().to_string().contains("`card.json` is malformed"));
    assert!(PreparedSet::<RankingSample>::open(folder.path()).unwrap_err().to_string().contains("cannot read"));
}
