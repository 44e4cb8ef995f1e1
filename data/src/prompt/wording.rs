//! The published wordings, word for word, and the cleaning of texts that goes with them, as far as it is done (see [`passage_text`]).
//!
//! - RankZephyr: rank_llm, `rank_listwise_os_llm.py` at the release of the model (variable number of passages, so the
//!   example is `[2] > [1]`), system message of `run_rank_llm.py`. Later versions of rank_llm say "Answer concisely and
//!   directly and only respond"; models trained before did not see that.
//! - FIRST: llm-reranker, `scripts/utils/rank_listwise_os_llm.py` ("a alphabetical" is theirs) and the system message of
//!   `scripts/utils/llm_util.py`, which has no full stop.
//! - RankVicuna: the prompts published with its outputs (fixed example `[4] > [2]`).

use super::own_wording::{COMPACT_INSTRUCTION, OwnTask};
use super::{AnswerFormat, IdentifierPosition, Identifiers, PromptConfig, PromptStyle, TitleFormat};

/// Version of everything in this folder that shapes a prompt; part of the prompt's hash.
pub(super) const WORDING_VERSION: u32 = 1;

/// The style's system message.
pub(super) fn system_message(style: PromptStyle) -> &'static str {
    match style {
        PromptStyle::RankZephyr => {
            "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query."
        }
        PromptStyle::First => {
            "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query"
        }
        PromptStyle::RankVicuna => {
            "You are RankVicuna, an intelligent assistant that can rank passages based on their relevancy to the query."
        }
        PromptStyle::Recommendation => OwnTask::Recommendation.system_message(),
        PromptStyle::DuplicateQuestions => OwnTask::DuplicateQuestions.system_message(),
    }
}

/// The user's turn. `query` and `passages` are already cleaned and cut.
pub(super) fn user_message(config: &PromptConfig, query: &str, passages: &[String]) -> String {
    let (num, listing) = (passages.len(), listing(config, passages));
    match config.style {
        PromptStyle::RankZephyr | PromptStyle::First | PromptStyle::RankVicuna => {
            published(config, query, num, &listing)
        }
        PromptStyle::Recommendation => OwnTask::Recommendation.user_message(config, query, num, &listing),
        PromptStyle::DuplicateQuestions => OwnTask::DuplicateQuestions.user_message(config, query, num, &listing),
    }
}

/// One line a candidate, with its identifier.
fn listing(config: &PromptConfig, passages: &[String]) -> String {
    let mut text = String::new();
    for (index, passage) in passages.iter().enumerate() {
        let identifier = config.identifiers.text(index);
        match config.identifier_position {
            IdentifierPosition::Before => text.push_str(&format!("[{identifier}] {passage}\n")),
            IdentifierPosition::After => text.push_str(&format!("{passage} [{identifier}]\n")),
        }
    }
    text
}

/// The published user's turn; with compact answers, its last sentence is ours.
fn published(config: &PromptConfig, query: &str, num: usize, listing: &str) -> String {
    let identifier_kind = match (config.style, config.identifiers) {
        (_, Identifiers::Numeric) => "a numerical",
        (PromptStyle::First, Identifiers::Alphabetic) => "a alphabetical",
        (_, Identifiers::Alphabetic) => "an alphabetical",
    };
    let example = match (config.style, config.identifiers) {
        (PromptStyle::RankVicuna, Identifiers::Numeric) => "[4] > [2]",
        (PromptStyle::RankVicuna, Identifiers::Alphabetic) => "[D] > [B]",
        (_, Identifiers::Numeric) => "[2] > [1]",
        (_, Identifiers::Alphabetic) => "[B] > [A]",
    };
    // RankVicuna's published prompts end in a blank; models trained on them saw it before `ASSISTANT:`.
    let end = if config.style == PromptStyle::RankVicuna { " " } else { "" };
    let format = match config.answer_format {
        AnswerFormat::Bracketed => format!(
            "The output format should be [] > [], e.g., {example}, Only respond with the ranking results, do not say any \
             word or explain."
        ),
        AnswerFormat::Compact => COMPACT_INSTRUCTION.to_owned(),
    };
    format!(
        "I will provide you with {num} passages, each indicated by {identifier_kind} identifier []. Rank the passages \
         based on their relevance to the search query: {query}.\n\n{listing}\
         Search Query: {query}.\nRank the {num} passages above based on their relevance to the search query. All the \
         passages should be included and listed using identifiers, in descending order of relevance. {format}{end}"
    )
}

/// Bracketed identifiers in a text become round (`[3]` is `(3)`), so that no passage can pose as another; only the kind
/// in use, as FIRST does (rank_llm rounds numbers whatever the identifiers are).
pub(super) fn replace_identifiers(text: &str, identifiers: Identifiers) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let inside = &rest[1..];
        let is_part = |c: char| match identifiers {
            Identifiers::Numeric => c.is_ascii_digit(),
            Identifiers::Alphabetic => c.is_ascii_alphabetic(),
        };
        let length = inside.find(|c| !is_part(c)).unwrap_or(inside.len());
        if length > 0 && inside[length..].starts_with(']') {
            out.push('(');
            out.push_str(&inside[..length]);
            out.push(')');
            rest = &inside[length + 1..];
        } else {
            out.push('[');
            rest = inside;
        }
    }
    out.push_str(rest);
    out
}

/// A passage as RankLLM writes it: title and body, white space made single, cut to `max_words`. RankLLM and FIRST mend broken encodings and straighten
/// quotes before (ftfy); this does not.
pub(super) fn passage_text(title: &str, text: &str, config: &PromptConfig, max_words: Option<usize>) -> String {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut all = Vec::new();
    if config.include_title && !title.trim().is_empty() {
        match config.title_format {
            TitleFormat::Labelled => {
                all.push("Title:".to_owned());
                all.extend(words(title));
                all.push("Content:".to_owned());
            }
            TitleFormat::Sentence => all.extend(words(&format!("{title}."))),
        }
    }
    all.extend(words(text));
    all.truncate(max_words.unwrap_or(usize::MAX));
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_identifiers_of_the_kind_in_use_are_rounded() {
        let text = "see [3], [12] and [B] or [Abc], not [3a], [ ] or [";
        assert_eq!(
            replace_identifiers(text, Identifiers::Numeric),
            "see (3), (12) and [B] or [Abc], not [3a], [ ] or ["
        );
        assert_eq!(
            replace_identifiers(text, Identifiers::Alphabetic),
            "see [3], [12] and (B) or (Abc), not [3a], [ ] or ["
        );
        assert_eq!(replace_identifiers("[[1]]", Identifiers::Numeric), "[(1)]");
    }

    #[test]
    fn passages_are_joined_and_cut_by_words() {
        let config = PromptConfig::default();
        let text = |title, text| passage_text(title, text, &config, Some(5));
        assert_eq!(text("A  title", "one\ntwo three"), "Title: A title Content: one");
        assert_eq!(text("", " one\t two "), "one two");
        let sentence = PromptConfig { title_format: TitleFormat::Sentence, ..PromptConfig::default() };
        assert_eq!(passage_text("Nile", "The  Nile is", &sentence, None), "Nile. The Nile is");
        let config = PromptConfig { include_title: false, ..PromptConfig::default() };
        assert_eq!(passage_text("A title", "one", &config, None), "one");
    }
}
