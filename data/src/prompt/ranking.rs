//! Reading a ranking out of a model's answer, and the one rule for broken ones.
//!
//! 1. If the answer holds bracketed identifiers (`[3]`, `[C]`), those are read, in order, whatever stands around them.
//! 2. Otherwise, if the whole answer is a list of bare identifiers (`3 > 1 > 2`, `B, A`, compact ` B A`), it is read.
//! 3. Otherwise nothing is read: digits and letters of prose are not identifiers.
//!
//! Of what was read, identifiers out of range are dropped, then every second occurrence; candidates that were not named
//! follow in the order they were given in. The result is always a permutation. Every broken answer is counted.

use serde::{Deserialize, Serialize};

use super::{AnswerForm, AnswerFormat, Identifiers};

/// Answers by what was wrong with them. One answer can count under several of the last four, never under `ok` too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairCounts {
    /// Exactly the form asked for (`[x] > [y] > ...`, compact ` X Y ...`), every candidate once.
    pub ok: u64,
    /// Anything else around, between or instead of the identifiers.
    pub wrong_format: u64,
    /// An identifier twice.
    pub repetition: u64,
    /// An identifier no candidate has.
    pub out_of_range: u64,
    /// A candidate not named.
    pub missing: u64,
}

impl RepairCounts {
    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.wrong_format += other.wrong_format;
        self.repetition += other.repetition;
        self.out_of_range += other.out_of_range;
        self.missing += other.missing;
    }

    /// True when the answers counted were all right.
    #[must_use]
    pub fn all_ok(&self) -> bool {
        self.wrong_format + self.repetition + self.out_of_range + self.missing == 0
    }
}

/// The order of `n` candidates (0-based, best first) an answer gives, and what had to be repaired. The form is
/// [`super::PromptConfig::answer_form`], or [`Identifiers`] alone for bracketed answers.
#[must_use]
pub fn parse_ranking(text: &str, form: impl Into<AnswerForm>, n: usize) -> (Vec<u16>, RepairCounts) {
    let (named, clean) = read_identifiers(text.trim(), form.into());
    let mut counts = RepairCounts { wrong_format: u64::from(!clean), ..RepairCounts::default() };
    let mut seen = vec![false; n];
    let mut order = Vec::with_capacity(n);
    for index in named {
        match index.and_then(|index| seen.get_mut(index).map(|slot| (index, slot))) {
            None => counts.out_of_range = 1,
            Some((_, true)) => counts.repetition = 1,
            Some((index, slot)) => {
                *slot = true;
                order.push(index as u16);
            }
        }
    }
    counts.missing = u64::from(order.len() < n);
    order.extend((0..n).filter(|&index| !seen[index]).map(|index| index as u16));
    counts.ok = u64::from(counts.all_ok());
    (order, counts)
}

/// 0-based indices as named (None: a number or letter that cannot be an index), and whether the form is exactly the
/// asked one.
fn read_identifiers(text: &str, form: AnswerForm) -> (Vec<Option<usize>>, bool) {
    let mut names = bracketed(text, form.identifiers);
    let mut wanted = AnswerFormat::Bracketed;
    if names.is_empty() {
        let words = text.split(|c: char| c.is_whitespace() || c == '>' || c == ',').filter(|word| !word.is_empty());
        let bare: Option<Vec<&str>> = words.map(|word| is_name(word, form.identifiers).then_some(word)).collect();
        names = bare.unwrap_or_default();
        wanted = AnswerFormat::Compact;
    }
    let clean = form.format == wanted && !names.is_empty() && text == form.join(&names);
    (names.into_iter().map(|name| index_of(name, form.identifiers)).collect(), clean)
}

/// Texts of `[..]` that are identifiers of this kind (of any size).
fn bracketed(text: &str, identifiers: Identifiers) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        rest = &rest[open + 1..];
        let Some(close) = rest.find([']', '[']) else { break };
        if rest[close..].starts_with(']') && is_name(&rest[..close], identifiers) {
            names.push(&rest[..close]);
        }
        rest = &rest[close..];
    }
    names
}

fn is_name(word: &str, identifiers: Identifiers) -> bool {
    match identifiers {
        Identifiers::Numeric => !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()),
        Identifiers::Alphabetic => word.len() == 1 && word.bytes().all(|byte| byte.is_ascii_uppercase()),
    }
}

/// 0-based index of an identifier's text; None for 0 and for numbers beyond any list.
#[must_use]
pub fn index_of(name: &str, identifiers: Identifiers) -> Option<usize> {
    if !is_name(name, identifiers) {
        return None;
    }
    match identifiers {
        Identifiers::Numeric => name.parse::<usize>().ok()?.checked_sub(1),
        Identifiers::Alphabetic => name.bytes().next().map(|byte| usize::from(byte - b'A')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Identifiers::{Alphabetic, Numeric};
    use proptest::prelude::*;

    fn counts(ok: u64, wrong_format: u64, repetition: u64, out_of_range: u64, missing: u64) -> RepairCounts {
        RepairCounts { ok, wrong_format, repetition, out_of_range, missing }
    }

    #[test]
    fn every_kind_of_damage_has_its_count() {
        for (text, kind, order, expected) in [
            ("[2] > [1] > [3]", Numeric, [1, 0, 2], counts(1, 0, 0, 0, 0)),
            (" [B] > [A] > [C]\n", Alphabetic, [1, 0, 2], counts(1, 0, 0, 0, 0)),
            ("[3] > [3] > [1]", Numeric, [2, 0, 1], counts(0, 0, 1, 0, 1)),
            ("[9] > [2]", Numeric, [1, 0, 2], counts(0, 0, 0, 1, 1)),
            ("[0] > [2] > [1] > [3]", Numeric, [1, 0, 2], counts(0, 0, 0, 1, 0)),
            ("1. [3] > [2] > [1]", Numeric, [2, 1, 0], counts(0, 1, 0, 0, 0)),
            ("[3], [2], [1]", Numeric, [2, 1, 0], counts(0, 1, 0, 0, 0)),
            ("3 > 1 > 2", Numeric, [2, 0, 1], counts(0, 1, 0, 0, 0)),
            ("C\nA\nB", Alphabetic, [2, 0, 1], counts(0, 1, 0, 0, 0)),
            ("20 passages have been provided.", Numeric, [0, 1, 2], counts(0, 1, 0, 0, 1)),
            ("A great passage", Alphabetic, [0, 1, 2], counts(0, 1, 0, 0, 1)),
            ("[see] > [2] > [[3]] > [1", Numeric, [1, 2, 0], counts(0, 1, 0, 0, 1)),
            ("", Numeric, [0, 1, 2], counts(0, 1, 0, 0, 1)),
            ("[99999999999999999999999] > [1] > [2] > [3]", Numeric, [0, 1, 2], counts(0, 0, 0, 1, 0)),
        ] {
            assert_eq!(parse_ranking(text, kind, 3), (order.to_vec(), expected), "{text:?}");
        }
    }

    const COMPACT: AnswerForm = AnswerForm { identifiers: Alphabetic, format: AnswerFormat::Compact };

    #[test]
    fn compact_answers_are_clean_only_as_they_are_asked_for() {
        for (text, order, expected) in [
            (" B A C", [1, 0, 2], counts(1, 0, 0, 0, 0)),
            ("C A B\n", [2, 0, 1], counts(1, 0, 0, 0, 0)),
            ("B  A C", [1, 0, 2], counts(0, 1, 0, 0, 0)),
            ("B, A, C", [1, 0, 2], counts(0, 1, 0, 0, 0)),
            ("[B] > [A] > [C]", [1, 0, 2], counts(0, 1, 0, 0, 0)),
            ("B B C", [1, 2, 0], counts(0, 0, 1, 0, 1)),
            ("B Z A C", [1, 0, 2], counts(0, 0, 0, 1, 0)),
            ("C", [2, 0, 1], counts(0, 0, 0, 0, 1)),
            ("A great passage", [0, 1, 2], counts(0, 1, 0, 0, 1)),
            ("", [0, 1, 2], counts(0, 1, 0, 0, 1)),
        ] {
            assert_eq!(parse_ranking(text, COMPACT, 3), (order.to_vec(), expected), "{text:?}");
        }
    }

    fn form() -> impl Strategy<Value = AnswerForm> {
        prop_oneof![Just(AnswerForm::from(Alphabetic)), Just(AnswerForm::from(Numeric)), Just(COMPACT)]
    }

    proptest! {
        #[test]
        fn the_result_is_always_a_permutation(text in "[\\[\\]> ,A-Z0-9a-c\n]{0,80}|.{0,40}", n in 0usize..30, form in form()) {
            let (order, counts) = parse_ranking(&text, form, n);
            crate::schema::check_permutation("q", "order", &order, n).unwrap();
            prop_assert_eq!(counts.ok == 1, counts.all_ok());
        }

        #[test]
        fn a_written_order_is_read_back(order in Just((0u16..26).collect::<Vec<_>>()).prop_shuffle(), form in form()) {
            let text = super::super::answer_text(form, &order);
            let (read, counts) = parse_ranking(&text, form, 26);
            prop_assert_eq!(read, order);
            prop_assert_eq!(counts.ok, 1);
        }
    }
}
