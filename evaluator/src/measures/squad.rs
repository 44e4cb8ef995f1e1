//! SQuAD's exact match and F1, as its official script (version 1.1) defines them.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

/// Means in percent, per question in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SquadEvaluation {
    /// Percent of questions answered exactly.
    pub exact_match: f64,
    /// Mean word overlap in percent.
    pub f1: f64,
    /// Questions the means are taken over.
    pub num_questions: usize,
    /// Questions without a prediction; each counts 0.
    pub missing: usize,
    /// (exact match, F1) by question id.
    pub per_question: BTreeMap<String, (f64, f64)>,
}

/// Scores predictions by question id against the accepted answers; the best answer counts.
#[must_use]
pub fn evaluate_squad<'a>(
    questions: impl IntoIterator<Item = (&'a str, &'a [String])>,
    predictions: &HashMap<String, String>,
) -> SquadEvaluation {
    let mut per_question = BTreeMap::new();
    let mut missing = 0;
    for (id, answers) in questions {
        let scores = predictions.get(id).map(|prediction| {
            let best = |score: fn(&str, &str) -> f64| {
                answers.iter().map(|answer| score(prediction, answer)).fold(0.0, f64::max)
            };
            (best(exact_match), best(f1))
        });
        missing += usize::from(scores.is_none());
        per_question.insert(id.to_owned(), scores.unwrap_or((0.0, 0.0)));
    }
    let n = per_question.len();
    let percent = |sum: f64| if n == 0 { 0.0 } else { 100.0 * sum / n as f64 };
    SquadEvaluation {
        exact_match: percent(per_question.values().map(|scores| scores.0).sum()),
        f1: percent(per_question.values().map(|scores| scores.1).sum()),
        num_questions: n,
        missing,
        per_question,
    }
}

/// 1 when both texts are the same after [`normalise`].
#[must_use]
pub fn exact_match(prediction: &str, answer: &str) -> f64 {
    f64::from(normalise(prediction) == normalise(answer))
}

/// Harmonic mean of precision and recall over words, repeated words counted as often as both have them.
#[must_use]
pub fn f1(prediction: &str, answer: &str) -> f64 {
    let (prediction, answer) = (normalise(prediction), normalise(answer));
    let (got, wanted) = (words(&prediction), words(&answer));
    let num = |counts: &HashMap<&str, usize>| counts.values().sum::<usize>() as f64;
    let common: usize = got.iter().map(|(word, count)| (*count).min(wanted.get(word).copied().unwrap_or(0))).sum();
    if common == 0 {
        return 0.0;
    }
    let (precision, recall) = (common as f64 / num(&got), common as f64 / num(&wanted));
    2.0 * precision * recall / (precision + recall)
}

fn words(text: &str) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    text.split_whitespace().for_each(|word| *counts.entry(word).or_default() += 1);
    counts
}

/// Lower case, without ASCII punctuation, without the words a, an, the, single blanks.
#[must_use]
pub fn normalise(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    without_articles(&plain).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Articles between word boundaries become a blank. A boundary is where a letter, digit or `_` meets anything else,
/// so that in `the–end` the article goes although no blank follows.
fn without_articles(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut String| {
        out.push_str(if matches!(word.as_str(), "a" | "an" | "the") { " " } else { word });
        word.clear();
    };
    for c in text.chars() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            flush(&mut word, &mut out);
            out.push(c);
        }
    }
    flush(&mut word, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        questions: BTreeMap<String, Vec<String>>,
        predictions: HashMap<String, String>,
        exact_match: f64,
        f1: f64,
        per_question: BTreeMap<String, (f64, f64)>,
    }

    #[test]
    fn equal_to_the_official_rules() {
        let golden: Golden = serde_json::from_str(include_str!("../../../tests/golden/evaluator/squad.json")).unwrap();
        let questions = golden.questions.iter().map(|(id, answers)| (id.as_str(), answers.as_slice()));
        let ours = evaluate_squad(questions, &golden.predictions);
        assert_eq!(ours.missing, golden.questions.len() - golden.predictions.len());
        for (id, (exact, f1)) in &golden.per_question {
            let got = ours.per_question[id];
            assert!((got.0 - exact).abs() < 1e-9 && (got.1 - f1).abs() < 1e-9, "{id}: {got:?}, wanted {exact} {f1}");
        }
        assert!((ours.exact_match - golden.exact_match).abs() < 1e-9 && (ours.f1 - golden.f1).abs() < 1e-9);
    }

    #[test]
    fn articles_and_punctuation_do_not_count() {
        assert_eq!(normalise("The  Cat, a U.S. \"hat\"—an end"), "cat us hat— end");
        assert_eq!(exact_match("Theory", "the ory"), 0.0);
        assert_eq!(f1("cat cat dog", "the cat"), 0.5);
    }
}
