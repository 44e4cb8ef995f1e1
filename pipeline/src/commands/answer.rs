//! `monopass answer`: questions about a text, answered side by side.

use std::io::Read as _;

use anyhow::Context as _;
use data::branched::{BranchPromptConfig, BranchPrompts};
use evaluator::answer::{
    AnswerOptions, AnswerPrompt, Answers, answer_columns, answer_one_by_one, answer_shared_prefix,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use trainer::BARS;

use super::print_json;
use crate::cli::answer::{AnswerArgs, DecoderArg};
use crate::config::decode::decode;
use crate::failure::UsageError;
use crate::logging::draws_bars;
use crate::model_source::{self, LoadedModel, ModelNote};

/// Runs the command.
///
/// # Errors
/// When the model cannot be loaded, an option is wrong, or text and answers do not fit the model's context.
pub fn run(args: &AnswerArgs) -> anyhow::Result<()> {
    let mut loaded = model_source::load(&args.model)?;
    if let Some(text) = &args.rope {
        let rope = serde_yaml::from_str(text).map_err(|error| {
            let hint = "write `--rope '{positions: branch_offset, branch_stride: 96}'`";
            UsageError::new(format!("`--rope` cannot be read: {error}"), hint)
        })?;
        model_source::give_columns(&mut loaded, &rope)?;
    }
    let prompts = BranchPrompts::new(loaded.tokenizer.clone(), prompt_config(args, &loaded)?)?;
    // As in training: a file's last line break is no part of the text.
    let background = background(&args.background)?.trim().to_owned();
    let questions = args.questions.iter().enumerate().map(|(number, text)| prompts.question(number + 1, text.trim()));
    let prompt = AnswerPrompt {
        id: "the text".into(),
        background: prompts.background(&background)?,
        questions: questions.collect::<Result<_, _>>()?,
    };
    let options = AnswerOptions {
        max_new_tokens: args.max_new_tokens,
        end_tokens: prompts.end_tokens(),
        sampling: (&args.sampling).into(),
    };
    let screen = Screen::new(&args.questions, !args.json && draws_bars());
    let mut texts = vec![Vec::new(); args.questions.len()];
    let mut failed = None;
    let mut on_token = |_: usize, question: usize, token: i64| {
        texts[question].push(token);
        match prompts.text(&texts[question]) {
            Ok(text) => screen.show(question, &text),
            Err(error) => failed = Some(error),
        }
    };
    let answers = match args.decoder {
        DecoderArg::Columnar => answer_columns(&loaded.model, &[prompt], &options, &mut on_token)?.remove(0),
        DecoderArg::SharedPrefix => answer_shared_prefix(&loaded.model, &prompt, &options, &mut on_token)?,
        DecoderArg::OneByOneCached => answer_one_by_one(&loaded.model, &prompt, &options, true, &mut on_token)?,
        DecoderArg::OneByOne => answer_one_by_one(&loaded.model, &prompt, &options, false, &mut on_token)?,
    };
    failed.map_or(Ok(()), Err)?;
    drop(screen);
    print(args, &prompts, &answers)
}

fn print(args: &AnswerArgs, prompts: &BranchPrompts, answers: &Answers) -> anyhow::Result<()> {
    let texts = answers.answers.iter().map(|ids| prompts.text(ids)).collect::<Result<Vec<_>, _>>()?;
    if args.json {
        let pairs =
            args.questions.iter().zip(&texts).map(|(question, answer)| json!({"question": question, "answer": answer}));
        return print_json(&json!({
            "answers": pairs.collect::<Vec<_>>(),
            "forward_passes": answers.forward_passes,
            "tokens_computed": answers.tokens_computed,
            "seconds": answers.seconds,
        }));
    }
    for (question, answer) in args.questions.iter().zip(&texts) {
        println!("{question}\n  {answer}");
    }
    let new_tokens: usize = answers.answers.iter().map(Vec::len).sum();
    println!("{new_tokens} tokens in {} passes, {:.2} s", answers.forward_passes, answers.seconds);
    Ok(())
}

/// The wording asked for, else the one the model was trained with, else the default.
fn prompt_config(args: &AnswerArgs, loaded: &LoadedModel) -> anyhow::Result<BranchPromptConfig> {
    let note = ModelNote::read(&loaded.folder)?;
    if loaded.model.config.columnar_rope.is_none() && args.decoder == DecoderArg::Columnar {
        tracing::warn!(
            "the model's positions are those of ordinary texts: unless it was trained in columns with these, expect little of its answers in \
             columns; `--decoder shared_prefix` reads questions one by one, side by side"
        );
    }
    let Some(text) = &args.prompt else {
        let trained = note.and_then(|note| serde_json::from_value(note.prompt).ok());
        return Ok(trained.unwrap_or_default());
    };
    let hint =
        "write `--prompt '{background: \"{background}\\n\", question: \"Q: {question}\\nA:\", answer: \" {answer}\"}'`";
    let value = serde_yaml::from_str(text)
        .map_err(|error| UsageError::new(format!("`--prompt` cannot be read: {error}"), hint))?;
    decode(value).map_err(|problems| {
        let words: Vec<String> =
            problems.iter().map(|problem| format!("`{}`: {}", problem.path, problem.message)).collect();
        UsageError::new(format!("`--prompt`: {}", words.join("; ")), hint).into()
    })
}

fn background(text: &str) -> anyhow::Result<String> {
    if text == "-" {
        let mut read = String::new();
        std::io::stdin().read_to_string(&mut read).context("cannot read the text from stdin")?;
        return Ok(read);
    }
    match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read `{path}`")),
        None => Ok(text.to_owned()),
    }
}

/// Answers that grow side by side, a line each; nothing when nobody watches.
struct Screen {
    lines: Vec<ProgressBar>,
}

impl Screen {
    fn new(questions: &[String], shown: bool) -> Self {
        if !shown {
            return Self { lines: Vec::new() };
        }
        let style =
            ProgressStyle::with_template("{prefix:.dim} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let line = |question: &String| {
            let short: String = question.chars().take(40).collect();
            BARS.add(ProgressBar::no_length().with_style(style.clone()).with_prefix(format!("{short:<40}")))
        };
        Self { lines: questions.iter().map(line).collect() }
    }

    fn show(&self, question: usize, text: &str) {
        if let Some(line) = self.lines.get(question) {
            line.set_message(text.replace('\n', " "));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        for line in &self.lines {
            line.finish_and_clear();
            BARS.remove(line);
        }
    }
}
