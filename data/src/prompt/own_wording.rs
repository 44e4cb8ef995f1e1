//! Wordings of our own: tasks that have no published prompt we follow, and the instruction for compact answers.

use super::{AnswerFormat, Identifiers, PromptConfig};

/// Tasks with a wording of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnTask {
    /// What a user takes next, after a history.
    Recommendation,
    /// Which questions ask the same.
    DuplicateQuestions,
}

impl OwnTask {
    pub(super) fn system_message(self) -> &'static str {
        match self {
            Self::Recommendation => {
                "You are a recommender: you put items into the order in which a user is most likely to take them next, \
                 judging by what the user took before."
            }
            Self::DuplicateQuestions => {
                "You find questions that ask the same in other words, and put questions into the order of how surely \
                 they do."
            }
        }
    }

    /// The user's turn around the candidates' `listing`. The query stands at the end again only when it is short: a
    /// history is not repeated.
    pub(super) fn user_message(self, config: &PromptConfig, query: &str, num: usize, listing: &str) -> String {
        let kind = match config.identifiers {
            Identifiers::Numeric => "number",
            Identifiers::Alphabetic => "letter",
        };
        let format = match config.answer_format {
            AnswerFormat::Bracketed => bracketed_instruction(config.identifiers),
            AnswerFormat::Compact => COMPACT_INSTRUCTION,
        };
        match self {
            Self::Recommendation => format!(
                "A user took these items, the oldest first: {query}\n\nHere are {num} candidates for what the user \
                 takes next, each marked with a {kind} in brackets.\n\n{listing}\
                 Rank all {num} candidates by how likely the user is to take them next, the likeliest first. Name \
                 every candidate exactly once. {format}"
            ),
            Self::DuplicateQuestions => format!(
                "This is a question: {query}\n\nHere are {num} other questions, each marked with a {kind} in \
                 brackets.\n\n{listing}Question: {query}\nRank all {num} questions above by how surely they ask the \
                 same as this question, the surest first. Name every question exactly once. {format}"
            ),
        }
    }
}

/// How a compact answer is asked for, in every style.
pub(super) const COMPACT_INSTRUCTION: &str = "Write only the letters of the identifiers, one after another with a \
                                              single blank between them and without brackets, e.g., B A C.";

fn bracketed_instruction(identifiers: Identifiers) -> &'static str {
    match identifiers {
        Identifiers::Numeric => "Write only the numbers in brackets with > between them, e.g., [2] > [1] > [3].",
        Identifiers::Alphabetic => "Write only the letters in brackets with > between them, e.g., [B] > [A] > [C].",
    }
}
