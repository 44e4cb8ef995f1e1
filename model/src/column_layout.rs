//! Branches side by side behind one background: where each token stands (columnar parallel decoding).
//!
//! The background is branch 0 in columns 0 to L-1. Every other branch has a prompt (a question) and an answer. A token sees all tokens
//! of earlier columns, whatever their branch, and itself; so branches read each other's past, and all tokens of a column can be
//! computed at once. Tokens are kept in *linear order*: by column, then by branch.

use std::ops::Range;

/// Where branches of different lengths are put.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BranchAlignment {
    /// Prompts end in the same column, so that all answers start in the same column: what decoding does.
    #[default]
    Prompts,
    /// Prompts with their answers end in the same column, as the published training has it; decoding cannot.
    Ends,
}

/// Tokens of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BranchLength {
    /// Of the prompt, at least 1.
    pub prompt: usize,
    /// Of the answer.
    pub answer: usize,
}

impl BranchLength {
    /// Prompt and answer.
    #[must_use]
    pub fn total(self) -> usize {
        self.prompt + self.answer
    }
}

/// Where a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnarPlace {
    /// 0 is the background.
    pub branch: u32,
    /// Column.
    pub column: u32,
    /// Number of the token in its branch.
    pub index: u32,
}

/// What a token learns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetAlignment {
    /// The next token of its own branch, which is what decoding asks it for.
    #[default]
    Branch,
    /// The next token in linear order, as published: with several branches mostly another branch's token of the same column.
    Linear,
}

/// A background and its branches, tokens in linear order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnLayout {
    background: usize,
    branches: Vec<BranchLength>,
    places: Vec<ColumnarPlace>,
    answer_column: usize,
}

impl ColumnLayout {
    /// Lays out `background` tokens and branches behind them.
    ///
    /// # Panics
    /// When a branch has no prompt: nothing would say what it is to answer.
    #[must_use]
    pub fn new(background: usize, branches: &[BranchLength], alignment: BranchAlignment) -> Self {
        assert!(branches.iter().all(|branch| branch.prompt > 0), "a branch without a prompt");
        let longest = |length: fn(&BranchLength) -> usize| branches.iter().map(length).max().unwrap_or(0);
        let (prompt, total) = (longest(|b| b.prompt), longest(|b| b.total()));
        let first_column = |branch: &BranchLength| match alignment {
            BranchAlignment::Prompts => background + prompt - branch.prompt,
            BranchAlignment::Ends => background + total - branch.total(),
        };
        let place = |branch: usize, column: usize, index: usize| ColumnarPlace {
            branch: branch as u32,
            column: column as u32,
            index: index as u32,
        };
        let mut places: Vec<ColumnarPlace> = (0..background).map(|index| place(0, index, index)).collect();
        for (number, branch) in branches.iter().enumerate() {
            let first = first_column(branch);
            places.extend((0..branch.total()).map(|index| place(number + 1, first + index, index)));
        }
        places.sort_by_key(|place| (place.column, place.branch));
        Self { background, branches: branches.to_vec(), places, answer_column: background + prompt }
    }

    /// Where the tokens stand, in linear order.
    #[must_use]
    pub fn places(&self) -> &[ColumnarPlace] {
        &self.places
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True without tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Tokens of the background.
    #[must_use]
    pub fn background(&self) -> usize {
        self.background
    }

    /// The branches, background not among them.
    #[must_use]
    pub fn branches(&self) -> &[BranchLength] {
        &self.branches
    }

    /// First column of the answers, where prompts are aligned.
    #[must_use]
    pub fn answer_column(&self) -> usize {
        self.answer_column
    }

    /// The layout's tokens for the model.
    #[must_use]
    pub fn tokens(&self, range: Range<usize>) -> ColumnTokens {
        let places = &self.places[range];
        ColumnTokens {
            branches: places.iter().map(|place| place.branch).collect(),
            columns: places.iter().map(|place| place.column).collect(),
        }
    }

    /// Pairs (token, token it learns), both by their place in linear order, where `learn(branch, index)` says which tokens are learned.
    /// With [`TargetAlignment::Branch`] a branch's first token is learned by nobody: the background's last state would have to foretell
    /// the first tokens of all branches at once.
    #[must_use]
    pub fn targets(&self, alignment: TargetAlignment, learn: impl Fn(u32, u32) -> bool) -> Vec<(usize, usize)> {
        let learned = |place: &ColumnarPlace| learn(place.branch, place.index);
        match alignment {
            TargetAlignment::Linear => {
                let next = self.places.iter().enumerate().skip(1);
                next.filter(|(_, place)| learned(place)).map(|(at, _)| (at - 1, at)).collect()
            }
            TargetAlignment::Branch => {
                let mut last: Vec<Option<usize>> = vec![None; self.branches.len() + 1];
                let mut pairs = Vec::new();
                for (at, place) in self.places.iter().enumerate() {
                    let before = last[place.branch as usize].replace(at);
                    if let Some(before) = before.filter(|_| learned(place)) {
                        pairs.push((before, at));
                    }
                }
                pairs
            }
        }
    }
}

/// Branch and column of each token of a row, in linear order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnTokens {
    /// 0 is the background.
    pub branches: Vec<u32>,
    /// Never falling.
    pub columns: Vec<u32>,
}

impl ColumnTokens {
    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// True without tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(alignment: BranchAlignment) -> ColumnLayout {
        let branch = |prompt, answer| BranchLength { prompt, answer };
        ColumnLayout::new(3, &[branch(2, 1), branch(1, 1)], alignment)
    }

    fn grid(layout: &ColumnLayout) -> Vec<(u32, u32)> {
        layout.places().iter().map(|place| (place.column, place.branch)).collect()
    }

    #[test]
    fn prompts_end_together_and_answers_start_together() {
        let layout = layout(BranchAlignment::Prompts);
        assert_eq!(grid(&layout), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (4, 2), (5, 1), (5, 2)]);
        assert_eq!(layout.answer_column(), 5);
        let branch = |prompt, answer| BranchLength { prompt, answer };
        let uneven = ColumnLayout::new(0, &[branch(1, 3), branch(2, 1)], BranchAlignment::Ends);
        assert_eq!(grid(&uneven), [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]);
    }

    /// The published example: B0 B1 B2 P0 {P1 Q0} {P2 Q1}.
    #[test]
    fn tokens_learn_their_own_branch_or_the_linear_neighbour() {
        let layout = layout(BranchAlignment::Prompts);
        let all = |_: u32, _: u32| true;
        assert_eq!(layout.targets(TargetAlignment::Branch, all), [(0, 1), (1, 2), (3, 4), (4, 6), (5, 7)]);
        let linear = layout.targets(TargetAlignment::Linear, all);
        assert_eq!(linear, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7)]);
        let answers = |branch: u32, index: u32| branch > 0 && index >= [0, 2, 1][branch as usize];
        assert_eq!(layout.targets(TargetAlignment::Branch, answers), [(4, 6), (5, 7)]);
    }
}
