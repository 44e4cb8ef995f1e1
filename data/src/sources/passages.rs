//! Long texts cut into passages at the ends of sentences.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// Byte ranges of the passages of `text`: whole sentences (by Unicode's rules, UAX #29) as long as `max_words` words hold
/// them; a sentence with more words is a passage of its own. The ranges follow one another and cover all of `text`; a
/// text without words is one passage.
pub(super) fn split_passages(text: &str, max_words: usize) -> Vec<Range<usize>> {
    let mut passages: Vec<Range<usize>> = Vec::new();
    let mut words_so_far = 0;
    for (start, sentence) in text.split_sentence_bound_indices() {
        let words = sentence.split_whitespace().count();
        match passages.last_mut() {
            Some(last) if words_so_far + words <= max_words => {
                last.end = start + sentence.len();
                words_so_far += words;
            }
            _ => {
                passages.push(start..start + sentence.len());
                words_so_far = words;
            }
        }
    }
    if passages.is_empty() {
        passages.push(0..text.len());
    }
    passages
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str, max_words: usize) -> Vec<&str> {
        split_passages(text, max_words).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn sentences_are_joined_while_they_fit() {
        let text = "One two three. Four five. Six seven eight nine! Ten.";
        assert_eq!(cut(text, 5), ["One two three. Four five. ", "Six seven eight nine! Ten."]);
        assert_eq!(cut(text, 3), ["One two three. ", "Four five. ", "Six seven eight nine! ", "Ten."]);
        assert_eq!(cut(text, 100), [text]);
        assert_eq!(cut("", 3), [""]);
    }

    proptest! {
        #[test]
        fn passages_cover_the_text_in_order(text in "\\PC{0,200}", max_words in 1usize..12) {
            prop_assert_eq!(cut(&text, max_words).concat(), text);
        }
    }
}
