//! Branched texts as tokenised samples: in columns, or one question at a time.

use std::sync::Arc;

use model::{BranchAlignment, BranchLength, ColumnLayout, TargetAlignment};

use super::{Branch, BranchPrompts, BranchedText};
use crate::DataError;
use crate::batch::{SamplePlace, SampleSource, TokenSource, TokenizedSample};

/// What is learned of a text in columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// Every token: pretraining on documents.
    Everything,
    /// The answers.
    Answers,
}

/// Texts in columns, one a sample.
#[derive(Clone)]
pub struct ColumnarTexts {
    /// The texts.
    pub texts: Arc<dyn SampleSource<BranchedText>>,
    /// Tokenises them.
    pub prompts: BranchPrompts,
    /// What is learned.
    pub learned: Learned,
    /// Where branches of different lengths are put.
    pub alignment: BranchAlignment,
    /// What a token learns.
    pub targets: TargetAlignment,
}

/// Texts with one question each, as an ordinary model reads them: a sample for each question.
#[derive(Clone)]
pub struct SequentialTexts {
    texts: Arc<dyn SampleSource<BranchedText>>,
    prompts: BranchPrompts,
    /// Text and branch of each sample.
    questions: Vec<(u32, u32)>,
}

/// Token ids of a branch.
struct BranchTokens {
    prompt: Vec<i64>,
    answer: Vec<i64>,
}

impl ColumnarTexts {
    /// Where the tokens of a text stand.
    ///
    /// # Errors
    /// A text that cannot be read or tokenised.
    pub fn layout(&self, index: usize) -> Result<ColumnLayout, DataError> {
        let (background, branches) = self.tokenize(&self.texts.get(index)?)?;
        Ok(self.layout_of(background.len(), &branches))
    }

    fn layout_of(&self, background: usize, branches: &[BranchTokens]) -> ColumnLayout {
        let length = |branch: &BranchTokens| BranchLength { prompt: branch.prompt.len(), answer: branch.answer.len() };
        let lengths: Vec<BranchLength> = branches.iter().map(length).collect();
        ColumnLayout::new(background, &lengths, self.alignment)
    }

    /// Token ids of the background and of the branches that have an answer.
    fn tokenize(&self, text: &BranchedText) -> Result<(Vec<i64>, Vec<BranchTokens>), DataError> {
        let is_document = text.branches.iter().all(|branch| branch.prompt.is_empty());
        let background = if is_document {
            self.prompts.document(&text.background)?
        } else {
            self.prompts.background(&text.background)?
        };
        let tokens = |(number, branch): (usize, &Branch)| -> Result<Option<BranchTokens>, DataError> {
            let Some(answer) = branch.answers.first() else { return Ok(None) };
            if branch.prompt.is_empty() {
                let mut prompt = self.prompts.paragraph(answer)?;
                // A paragraph's first token takes the place of a question: nothing foretells it.
                let answer = prompt.split_off(1);
                return Ok(Some(BranchTokens { prompt, answer }));
            }
            let (prompt, answer) = (self.prompts.question(number + 1, &branch.prompt)?, self.prompts.answer(answer)?);
            Ok(Some(BranchTokens { prompt, answer }))
        };
        let branches: Vec<_> = text.branches.iter().enumerate().map(tokens).collect::<Result<_, _>>()?;
        Ok((background, branches.into_iter().flatten().collect()))
    }
}

impl TokenSource for ColumnarTexts {
    fn len(&self) -> usize {
        self.texts.len()
    }

    fn tokens(&self, place: SamplePlace, _seed: u64) -> Result<TokenizedSample, DataError> {
        let text = self.texts.get(place.index)?;
        let (background, branches) = self.tokenize(&text)?;
        let layout = self.layout_of(background.len(), &branches);
        let id = |branch: u32, index: u32| {
            let index = index as usize;
            match branch.checked_sub(1).map(|branch| &branches[branch as usize]) {
                None => background[index],
                Some(branch) if index < branch.prompt.len() => branch.prompt[index],
                Some(branch) => branch.answer[index - branch.prompt.len()],
            }
        };
        let is_learned = |branch: u32, index: u32| match self.learned {
            Learned::Everything => true,
            Learned::Answers => branch > 0 && index as usize >= branches[branch as usize - 1].prompt.len(),
        };
        Ok(TokenizedSample {
            input_ids: layout.places().iter().map(|place| id(place.branch, place.index)).collect(),
            targets: layout.targets(self.targets, is_learned),
            rank: None,
            columns: Some(layout.tokens(0..layout.len())),
            query_id: text.id,
        })
    }

    fn too_long(&self, sample: &TokenizedSample, limit: usize) -> DataError {
        too_long(sample, limit)
    }
}

impl SequentialTexts {
    /// The answered questions of `texts`.
    ///
    /// # Errors
    /// When a text cannot be read.
    pub fn new(texts: Arc<dyn SampleSource<BranchedText>>, prompts: BranchPrompts) -> Result<Self, DataError> {
        let mut questions = Vec::new();
        for index in 0..texts.len() {
            let text = texts.get(index)?;
            let answered = text.branches.iter().enumerate().filter(|(_, branch)| !branch.answers.is_empty());
            questions.extend(answered.map(|(branch, _)| (index as u32, branch as u32)));
        }
        Ok(Self { texts, prompts, questions })
    }
}

impl TokenSource for SequentialTexts {
    fn len(&self) -> usize {
        self.questions.len()
    }

    fn tokens(&self, place: SamplePlace, _seed: u64) -> Result<TokenizedSample, DataError> {
        let (text, branch) = self.questions[place.index];
        let text = self.texts.get(text as usize)?;
        let number = branch as usize + 1;
        let branch = &text.branches[branch as usize];
        let mut input_ids = self.prompts.background(&text.background)?;
        input_ids.extend(self.prompts.question(number, &branch.prompt)?);
        let start = input_ids.len();
        let answer = branch.answers.first().map(String::as_str).unwrap_or_default();
        input_ids.extend(self.prompts.answer(answer)?);
        let targets = TokenizedSample::from_place(start, input_ids.len());
        Ok(TokenizedSample { query_id: branch.id.clone(), input_ids, targets, rank: None, columns: None })
    }

    fn too_long(&self, sample: &TokenizedSample, limit: usize) -> DataError {
        too_long(sample, limit)
    }
}

fn too_long(sample: &TokenizedSample, limit: usize) -> DataError {
    DataError::TextTooLong { id: sample.query_id.clone(), tokens: sample.input_ids.len(), limit }
}
