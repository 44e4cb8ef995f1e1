//! Columns against the same layout read anew for every token; baselines against each other.

use model::config::Architecture;
use model::{
    AttentionPattern, BranchAlignment, BranchLength, CausalLm, ColumnLayout, ColumnarPositions, ColumnarRope,
    LoadOptions, ModelConfig,
};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

use super::*;

const VOCAB: i64 = 40;

fn tiny(rope: Option<ColumnarRope>) -> CausalLm {
    let config = ModelConfig { columnar_rope: rope, ..ModelConfig::tiny(Architecture::Llama, VOCAB) };
    let mut model = CausalLm::random(config, 3, &LoadOptions { device: Device::Cpu, kind: Kind::Float });
    // Weights of such a size that every token seen changes what comes out: with the usual 0.02 hardly any does.
    model.train_all();
    for parameter in model.trainable_parameters().iter().filter(|parameter| parameter.tensor.dim() == 2) {
        let _ = no_grad(|| parameter.tensor.shallow_clone().g_mul_scalar_(12.0));
    }
    model.freeze();
    model
}

fn rope() -> ColumnarRope {
    ColumnarRope { pairs: vec![1, 3], branch_stride: 5.0, positions: ColumnarPositions::Linear }
}

fn prompt(background: usize, questions: &[usize], salt: i64) -> AnswerPrompt {
    let ids = |len: usize, salt: i64| (0..len as i64).map(|i| (i * 11 + salt * 7 + i * i * salt) % VOCAB).collect();
    AnswerPrompt {
        id: "test".into(),
        background: ids(background, salt),
        questions: questions.iter().enumerate().map(|(number, len)| ids(*len, salt + number as i64 + 1)).collect(),
    }
}

fn options(max_new_tokens: usize, end_tokens: Vec<i64>) -> AnswerOptions {
    AnswerOptions { max_new_tokens, end_tokens, sampling: Sampling::default() }
}

fn nothing(_: usize, _: usize, _: i64) {}

/// The whole layout read anew for each column.
fn columns_slowly(model: &CausalLm, prompt: &AnswerPrompt, options: &AnswerOptions) -> Vec<Vec<i64>> {
    let mut answers: Vec<Vec<i64>> = vec![Vec::new(); prompt.questions.len()];
    let mut open: Vec<usize> = (0..answers.len()).collect();
    for _ in 0..options.max_new_tokens {
        let branch =
            |(question, answer): (&Vec<i64>, &Vec<i64>)| BranchLength { prompt: question.len(), answer: answer.len() };
        let branches: Vec<BranchLength> = prompt.questions.iter().zip(&answers).map(branch).collect();
        let layout = ColumnLayout::new(prompt.background.len(), &branches, BranchAlignment::Prompts);
        let text = |branch: usize| match branch {
            0 => prompt.background.clone(),
            _ => [prompt.questions[branch - 1].as_slice(), &answers[branch - 1]].concat(),
        };
        let ids: Vec<i64> = layout.places().iter().map(|p| text(p.branch as usize)[p.index as usize]).collect();
        let pattern = AttentionPattern::Columnar { layouts: vec![layout.tokens(0..layout.len())] };
        let logits = no_grad(|| {
            let hidden = model.forward(&Tensor::from_slice(&ids).unsqueeze(0), &pattern, None);
            model.logits(&hidden.squeeze_dim(0), None)
        });
        let lengths: Vec<u32> = (0..answers.len()).map(|question| text(question + 1).len() as u32).collect();
        for question in std::mem::take(&mut open) {
            let length = lengths[question];
            let last = layout
                .places()
                .iter()
                .position(|p| p.branch as usize == question + 1 && p.index == length - 1)
                .unwrap();
            let token = logits.select(0, last as i64).argmax(0, false).int64_value(&[]);
            answers[question].push(token);
            if !options.end_tokens.contains(&token) {
                open.push(question);
            }
        }
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn columns_are_what_the_whole_layout_gives(background in 0usize..9, questions in prop::collection::vec(1usize..6, 1..5), salt in 0i64..30, end in 0..VOCAB) {
        let model = tiny(Some(rope()));
        let prompt = prompt(background, &questions, salt);
        let options = options(6, vec![end]);
        let mut told = vec![Vec::new(); questions.len()];
        let answered = answer_columns(&model, std::slice::from_ref(&prompt), &options, &mut |text, question, token| {
            assert_eq!(text, 0);
            told[question].push(token);
        }).unwrap().remove(0);
        prop_assert_eq!(&answered.answers, &columns_slowly(&model, &prompt, &options));
        prop_assert_eq!(&told, &answered.answers);
        let longest = answered.answers.iter().map(Vec::len).max().unwrap();
        prop_assert_eq!(answered.forward_passes as usize, longest, "one pass a column, the last tokens are not read");
        if background > 0 {
            let mut session = ColumnarSession::new(&model, prompt.background.clone()).unwrap();
            for _ in 0..2 {
                let again = session.ask(prompt.questions.clone(), &options, &mut |_, _| ()).unwrap();
                prop_assert_eq!(&again.answers, &answered.answers, "a background read once serves again");
            }
        }
    }

    #[test]
    fn texts_side_by_side_answer_as_alone(shapes in prop::collection::vec((0usize..8, prop::collection::vec(1usize..5, 1..4)), 2..4), end in 0..VOCAB) {
        let model = tiny(Some(rope()));
        let prompts: Vec<AnswerPrompt> =
            shapes.iter().enumerate().map(|(i, (background, questions))| prompt(*background, questions, i as i64)).collect();
        let options = options(5, vec![end]);
        let together = answer_columns(&model, &prompts, &options, &mut nothing).unwrap();
        for (prompt, answered) in prompts.iter().zip(&together) {
            let alone = answer_columns(&model, std::slice::from_ref(prompt), &options, &mut nothing).unwrap().remove(0);
            prop_assert_eq!(&alone.answers, &answered.answers);
        }
    }

    #[test]
    fn baselines_agree(background in 0usize..9, questions in prop::collection::vec(1usize..6, 1..5), salt in 0i64..30, end in 0..VOCAB) {
        let model = tiny(None);
        let prompt = prompt(background, &questions, salt);
        let options = options(5, vec![end]);
        let plain = answer_one_by_one(&model, &prompt, &options, false, &mut nothing).unwrap();
        let cached = answer_one_by_one(&model, &prompt, &options, true, &mut nothing).unwrap();
        let batched = answer_shared_prefix(&model, &prompt, &options, &mut nothing).unwrap();
        prop_assert_eq!(&plain.answers, &cached.answers);
        prop_assert_eq!(&plain.answers, &batched.answers);
        prop_assert!(batched.forward_passes <= cached.forward_passes);
        if questions.len() == 1 {
            let columns = answer_columns(&model, std::slice::from_ref(&prompt), &options, &mut nothing).unwrap().remove(0);
            prop_assert_eq!(&columns.answers, &plain.answers, "one branch is an ordinary text");
        }
    }
}

#[test]
fn what_cannot_be_answered_is_named() {
    let model = tiny(None);
    let message = |prompt: &AnswerPrompt, options: &AnswerOptions| {
        answer_columns(&model, std::slice::from_ref(prompt), options, &mut nothing).unwrap_err().to_string()
    };
    assert!(message(&prompt(3, &[], 1), &options(4, vec![])).contains("no questions"));
    assert!(message(&prompt(3, &[0], 1), &options(4, vec![])).contains("a question without tokens"));
    assert!(message(&prompt(500, &[10, 10], 1), &options(4, vec![])).contains("context is 512"));
    let bad = AnswerOptions { sampling: Sampling { top_p: 0.0, ..Sampling::default() }, ..options(4, vec![]) };
    assert!(message(&prompt(3, &[2], 1), &bad).contains("`top_p`"));
}
