//! Made-up lists: a small model learns in minutes what ranking is.
//!
//! A query asks for a thing with a colour, a material and a use. The candidates share between all four and none of these
//! attributes with it; the label is the number shared, the first stage a noisy count of them. Texts come from several
//! sentence patterns, so that position alone gives nothing away. A model that has learnt these lists learns real
//! passages several times faster (docs: learning).

use std::collections::HashSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Sink;
use crate::random::Stream;
use crate::{DataError, Passage, RankingSample};

const COLOURS: [&str; 16] = [
    "red",
    "blue",
    "green",
    "yellow",
    "black",
    "white",
    "brown",
    "grey",
    "purple",
    "orange",
    "pink",
    "golden",
    "silver",
    "turquoise",
    "beige",
    "violet",
];
const MATERIALS: [&str; 14] = [
    "wood", "steel", "glass", "leather", "cotton", "plastic", "stone", "paper", "copper", "wool", "rubber", "bamboo",
    "clay", "silk",
];
const THINGS: [&str; 20] = [
    "chair", "table", "lamp", "bag", "box", "cup", "plate", "knife", "basket", "shelf", "clock", "mirror", "blanket",
    "bottle", "bench", "frame", "tray", "stool", "vase", "curtain",
];
const USES: [&str; 14] = [
    "camping",
    "cooking",
    "travel",
    "reading",
    "fishing",
    "gardening",
    "painting",
    "sailing",
    "hiking",
    "teaching",
    "dancing",
    "cleaning",
    "writing",
    "hunting",
];
/// Words of the four attributes: colour, material, thing, use.
const WORDS: [&[&str]; 4] = [&COLOURS, &MATERIALS, &THINGS, &USES];
/// One query in this many is kept for held-out sets, whatever the seed.
const HELD_OUT_SHARE: u64 = 5;

/// Which queries a set may use. The two parts share none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GeneratedPart {
    /// Four in five of all queries.
    #[default]
    Train,
    /// The fifth.
    HeldOut,
}

/// How many lists, how long, how good the first stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratedConfig {
    /// Lists to make, each with a query of its own (at most 50,000 for `train`, 10,000 for `held_out`).
    pub num_queries: usize,
    /// Candidates per list, 2 to 100. 5 gives grades 4, 3, 2, 1, 0; 8 gives 4, 3, 3, 2, 2, 1, 1, 0. Default: 8.
    #[serde(default = "eight")]
    pub num_candidates: usize,
    /// Any integer; decides everything else. Default: 0.
    #[serde(default)]
    pub seed: u64,
    /// Queries of which part. Default: `train`.
    #[serde(default)]
    pub part: GeneratedPart,
    /// Standard deviation of the noise added to the first stage's count of shared attributes: 0 ranks perfectly, 1.5
    /// is beatable and better than chance, 100 is chance. Default: 1.5.
    #[serde(default = "noise")]
    pub first_stage_noise: f64,
}

fn eight() -> usize {
    8
}

fn noise() -> f64 {
    1.5
}

/// Index into each of [`WORDS`].
type Attributes = [usize; 4];

impl GeneratedConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let limit = match self.part {
            GeneratedPart::Train => 50_000,
            GeneratedPart::HeldOut => 10_000,
        };
        if self.num_queries == 0 || self.num_queries > limit {
            problems.push(format!("`generated.num_queries` is {}; it must be 1 to {limit}", self.num_queries));
        }
        if !(2..=100).contains(&self.num_candidates) {
            problems.push(format!("`generated.num_candidates` is {}; it must be 2 to 100", self.num_candidates));
        }
        if !(self.first_stage_noise.is_finite() && self.first_stage_noise >= 0.0) {
            problems.push(format!("`generated.first_stage_noise` is {}; it must be 0 or more", self.first_stage_noise));
        }
        problems
    }

    pub(super) fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let mut stream = Stream::new("generated queries", &[self.seed, self.part as u64]);
        let mut used = HashSet::new();
        while used.len() < self.num_queries {
            let wanted = attributes(&mut stream);
            if part_of(wanted) != self.part || !used.insert(wanted) {
                continue;
            }
            let number = used.len() as u64;
            let sample = self.sample(number, wanted);
            if sink.offer(sample, Path::new("generated"), number)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn sample(&self, number: u64, wanted: Attributes) -> RankingSample {
        let mut stream = Stream::new("generated list", &[self.seed, self.part as u64, number]);
        let mut candidates: Vec<(f64, u32, Attributes)> = grades(self.num_candidates)
            .map(|grade| {
                let score = f64::from(grade) + self.first_stage_noise * stream.normal();
                (score, grade, candidate(&mut stream, wanted, grade))
            })
            .collect();
        // Equal noise cannot happen twice in practice; if it does, the order made is kept.
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        let query_id = format!("generated-{}-{number}", self.seed);
        let passages = candidates
            .iter()
            .enumerate()
            .map(|(place, (score, grade, attributes))| Passage {
                doc_id: format!("{query_id}-{place}"),
                title: String::new(),
                text: sentence(&mut stream, *attributes),
                first_stage_score: Some(*score as f32),
                label: Some(*grade as i32),
            })
            .collect();
        let [colour, material, thing, purpose] = words(wanted);
        RankingSample {
            query: format!("{colour} {thing} made of {material} for {purpose}"),
            query_id,
            passages,
            target: None,
            origin: "generated".to_owned(),
        }
    }
}

/// Attributes shared by the candidates, evenly from four down to none.
fn grades(n: usize) -> impl Iterator<Item = u32> {
    // 4 (1 - i / (n - 1)), rounded half up in integers.
    (0..n).map(move |i| ((8 * (n - 1 - i) + (n - 1)) / (2 * (n - 1))) as u32)
}

fn attributes(stream: &mut Stream) -> Attributes {
    WORDS.map(|words| stream.below(words.len() as u64) as usize)
}

fn words(attributes: Attributes) -> [&'static str; 4] {
    std::array::from_fn(|kind| WORDS[kind][attributes[kind]])
}

/// Parts are cut by a hash of the attributes, so that no seed mixes them.
fn part_of(attributes: Attributes) -> GeneratedPart {
    let parts = attributes.map(|index| index as u64);
    match Stream::new("part of a generated query", &parts).below(HELD_OUT_SHARE) {
        0 => GeneratedPart::HeldOut,
        _ => GeneratedPart::Train,
    }
}

/// Attributes that share exactly `grade` of the four with `wanted`.
fn candidate(stream: &mut Stream, wanted: Attributes, grade: u32) -> Attributes {
    let mut kinds = [0, 1, 2, 3];
    stream.shuffle(&mut kinds);
    let mut made = wanted;
    for &kind in &kinds[grade as usize..] {
        // Any other word: skip over the wanted one.
        let other = stream.below(WORDS[kind].len() as u64 - 1) as usize;
        made[kind] = if other >= wanted[kind] { other + 1 } else { other };
    }
    made
}

fn sentence(stream: &mut Stream, attributes: Attributes) -> String {
    let [colour, material, thing, purpose] = words(attributes);
    match stream.below(8) {
        0 => format!("A {colour} {thing} made of {material}, meant for {purpose}."),
        1 => format!("This {thing} is {colour}, built from {material} and good for {purpose}."),
        2 => format!("For {purpose}: a {material} {thing} in {colour}."),
        3 => format!("The {thing} for {purpose} comes in {colour} and is made of {material}."),
        4 => format!("We sell a {thing} of {material}. Its colour is {colour}. Use it for {purpose}."),
        5 => format!("People who like {purpose} buy this {colour} {material} {thing}."),
        6 => format!("Made of {material}, this {colour} {thing} is used for {purpose}."),
        _ => format!("{purpose} is what the {colour} {thing} was made for; it consists of {material}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::{RankingSetConfig, SourceConfig, load};

    fn set(part: GeneratedPart, num_queries: usize, n: usize, seed: u64) -> Vec<RankingSample> {
        let config = GeneratedConfig { num_queries, num_candidates: n, seed, part, first_stage_noise: noise() };
        load(&RankingSetConfig::new(SourceConfig::Generated(config))).unwrap().0
    }

    #[test]
    fn grades_are_those_of_the_notes() {
        assert_eq!(grades(5).collect::<Vec<_>>(), [4, 3, 2, 1, 0]);
        assert_eq!(grades(8).collect::<Vec<_>>(), [4, 3, 3, 2, 2, 1, 1, 0]);
        assert_eq!(grades(2).collect::<Vec<_>>(), [4, 0]);
    }

    #[test]
    fn labels_count_the_shared_words_and_targets_follow_them() {
        for sample in set(GeneratedPart::Train, 200, 8, 1) {
            let query: HashSet<&str> = sample.query.split(' ').collect();
            for passage in &sample.passages {
                let said: HashSet<&str> = passage.text.split(|c: char| !c.is_alphabetic()).collect();
                let shared = WORDS.iter().filter(|w| w.iter().any(|w| query.contains(w) && said.contains(w))).count();
                assert_eq!(passage.label, Some(shared as i32), "{} / {}", sample.query, passage.text);
            }
            let target = sample.target.as_ref().unwrap();
            let labels: Vec<_> = target.iter().map(|&i| sample.passages[usize::from(i)].label).collect();
            assert!(labels.is_sorted_by(|a, b| a >= b), "{labels:?}");
        }
    }

    #[test]
    fn parts_share_no_query_and_a_seed_repeats() {
        let train = set(GeneratedPart::Train, 2_000, 5, 1);
        let held_out = set(GeneratedPart::HeldOut, 500, 5, 2);
        let texts: HashSet<&str> = train.iter().map(|sample| sample.query.as_str()).collect();
        assert_eq!(texts.len(), 2_000, "no query twice");
        assert!(held_out.iter().all(|sample| !texts.contains(sample.query.as_str())));
        assert_eq!(train[..50], set(GeneratedPart::Train, 50, 5, 1)[..]);
        assert_ne!(train[..50], set(GeneratedPart::Train, 50, 5, 3)[..]);
    }

    #[test]
    fn the_first_stage_is_better_than_chance_and_beatable() {
        let samples = set(GeneratedPart::HeldOut, 1_000, 8, 7);
        let dcg = |labels: Vec<i32>| -> f64 {
            labels.iter().enumerate().map(|(i, l)| f64::from(*l) / (i as f64 + 2.0).log2()).sum()
        };
        let ndcg = samples.iter().map(|sample| {
            let given: Vec<i32> = sample.passages.iter().map(|p| p.label.unwrap()).collect();
            let mut best = given.clone();
            best.sort_by_key(|label| std::cmp::Reverse(*label));
            dcg(given) / dcg(best)
        });
        let mean = ndcg.sum::<f64>() / samples.len() as f64;
        assert!((0.86..0.94).contains(&mean), "nDCG of the first stage {mean} (chance 0.81)");
    }
}
