//! Training files as published for RankZephyr, RankVicuna and FIRST: a listwise prompt and the permutation that answers
//! it, as a conversation or as a prompt/response pair.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Sink;
use crate::prompt::{Identifiers, parse_ranking};
use crate::rows::text_of;
use crate::{DataError, Passage, RankingSample};

/// Conversations in JSONL, a JSON array, parquet or Arrow (file or stream).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConversationsConfig {
    /// The file (`.gz` works for JSON). Rows have `conversations` (or `messages`: a list of `{from|role, value|content}`) or
    /// `prompt` and `response` (or `completion`).
    pub path: PathBuf,
    /// What happens to an answer that is no exact permutation: `drop` (counted), `repair` by the rule of rankings (drop
    /// what is out of range or repeated, append what is missing; counted), or `error`. Default: `drop`.
    #[serde(default)]
    pub broken: BrokenResponse,
}

/// What happens to an answer that is no exact permutation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BrokenResponse {
    /// Leave the sample out.
    #[default]
    Drop,
    /// Repair it by the one rule for broken rankings.
    Repair,
    /// Stop.
    Error,
}

impl ConversationsConfig {
    pub(super) fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let stem = file_stem(&self.path);
        sink.for_each_row(&self.path, |sink, line, row| {
            let parsed = turns_of(&row).and_then(|(prompt, response)| Ok((parse_prompt(&prompt)?, response)));
            let (prompt, response) = match parsed {
                Ok(parsed) => parsed,
                Err(message) => return sink.malformed(&self.path, line, message),
            };
            let (target, counts) = parse_ranking(&response, prompt.identifiers, prompt.passages.len());
            let broken = counts.repetition + counts.out_of_range + counts.missing > 0;
            sink.report.note("answers around whose ranking other text stands", counts.wrong_format);
            if broken {
                match self.broken {
                    BrokenResponse::Drop => {
                        sink.report.drop_sample("answer is no permutation");
                        return Ok(ControlFlow::Continue(()));
                    }
                    BrokenResponse::Repair => sink.report.note("answers repaired", 1),
                    BrokenResponse::Error => {
                        let message = format!("answer `{}` is no permutation", shortened(&response));
                        return Err(DataError::malformed(&self.path, line, message));
                    }
                }
            }
            let query_id = text_of(&row, &["query_id", "qid", "id", "_id"]).unwrap_or_else(|| format!("{stem}:{line}"));
            let sample = RankingSample {
                query_id,
                query: prompt.query,
                passages: passages(prompt.passages),
                target: Some(target),
                origin: text_of(&row, &["retriever", "origin"]).unwrap_or_else(|| "conversations".to_owned()),
            };
            sink.offer(sample, &self.path, line)
        })
    }
}

fn file_stem(path: &std::path::Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}

fn shortened(text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    if start.len() < text.len() { format!("{start}...") } else { start }
}

/// Passages named by their content: the same text has the same id in every window.
fn passages(texts: Vec<String>) -> Vec<Passage> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let named = texts.into_iter().map(|text| {
        let hash = blake3::hash(text.as_bytes()).to_hex()[..16].to_owned();
        let times = seen.entry(hash.clone()).or_default();
        *times += 1;
        let doc_id = if *times == 1 { hash } else { format!("{hash}-{times}") };
        Passage { doc_id, title: String::new(), text, first_stage_score: None, label: None }
    });
    named.collect()
}

/// Prompt (system and user turns joined) and the last answer of a row.
fn turns_of(row: &Value) -> Result<(String, String), String> {
    if let Some(turns) = row.get("conversations").or_else(|| row.get("messages")).and_then(Value::as_array) {
        return conversation(turns);
    }
    let prompt = text_of(row, &["prompt", "instruction"]);
    let response = text_of(row, &["response", "completion", "output"]);
    match (prompt, response) {
        (Some(prompt), Some(response)) => Ok((prompt, response)),
        _ => Err("neither `conversations` (or `messages`) nor `prompt` and `response`".to_owned()),
    }
}

fn conversation(turns: &[Value]) -> Result<(String, String), String> {
    let mut asked: Vec<String> = Vec::new();
    let mut answer = None;
    for (number, turn) in turns.iter().enumerate() {
        let role = text_of(turn, &["from", "role"]).ok_or_else(|| format!("turn {} has no `from`", number + 1))?;
        let text = text_of(turn, &["value", "content"]).ok_or_else(|| format!("turn {} has no `value`", number + 1))?;
        match role.as_str() {
            "gpt" | "assistant" => answer = Some(text),
            "system" => {}
            "human" | "user" | "system_message" => asked.push(text),
            other => return Err(format!("turn {} is from `{other}`, wanted system, human or gpt", number + 1)),
        }
    }
    let answer = answer.ok_or("no turn from `gpt` or `assistant`")?;
    if asked.is_empty() {
        return Err("no turn from `human` or `user`".to_owned());
    }
    Ok((asked.join("\n"), answer))
}

/// What a listwise prompt asks.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedPrompt {
    /// The query.
    pub query: String,
    /// Passages in their order.
    pub passages: Vec<String>,
    /// What they are called.
    pub identifiers: Identifiers,
}

/// Takes a listwise prompt apart (RankZephyr, RankVicuna, FIRST, and RankGPT's several turns in one text).
///
/// # Errors
/// No query, no passages, or another number of passages than the prompt announces.
pub fn parse_prompt(prompt: &str) -> Result<ParsedPrompt, String> {
    let prompt = without_roles(prompt);
    let (body, query) = split_query(&prompt)?;
    let announced = announced_passages(&prompt);
    let identifiers = match (marker(body, "1"), marker(body, "A")) {
        (Some(number), Some(letter)) if letter < number => Identifiers::Alphabetic,
        (None, Some(_)) => Identifiers::Alphabetic,
        (Some(_), _) => Identifiers::Numeric,
        (None, None) => return Err("no line starts with `[1]` or `[A]`".to_owned()),
    };
    let passages = split_passages(body, identifiers, announced);
    match announced {
        Some(wanted) if wanted != passages.len() => {
            Err(format!("the prompt announces {wanted} passages but {} were found", passages.len()))
        }
        _ => Ok(ParsedPrompt { query, passages, identifiers }),
    }
}

/// The user's text alone: Vicuna's `USER:`/`ASSISTANT:` marks and the answers between them taken out.
fn without_roles(prompt: &str) -> String {
    let Some((_, asked)) = prompt.split_once("USER: ") else { return prompt.to_owned() };
    let asked = asked.trim_end();
    let asked = asked.strip_suffix("ASSISTANT:").unwrap_or(asked);
    if !asked.contains("ASSISTANT: Received passage [") {
        return asked.to_owned();
    }
    let turns = asked.split("USER: ").map(|turn| turn.split(" ASSISTANT: ").next().unwrap_or(turn).trim_end());
    turns.collect::<Vec<_>>().join("\n")
}

/// What stands before the last `Search Query:`, and the query.
fn split_query(prompt: &str) -> Result<(&str, String), String> {
    let mark = "Search Query: ";
    let place = prompt.rfind(mark).ok_or("no `Search Query: `")?;
    let rest = &prompt[place + mark.len()..];
    let line = rest.split('\n').next().unwrap_or(rest).trim_end();
    let query = line.strip_suffix('.').unwrap_or(line).trim();
    if query.is_empty() {
        return Err("the query after `Search Query: ` is empty".to_owned());
    }
    Ok((&prompt[..place], query.to_owned()))
}

fn announced_passages(prompt: &str) -> Option<usize> {
    let (_, rest) = prompt.split_once("provide you with ")?;
    rest.split(' ').next()?.parse().ok()
}

/// Where a line starts with `[name] `.
fn marker(body: &str, name: &str) -> Option<usize> {
    let mark = format!("[{name}] ");
    if body.starts_with(&mark) {
        return Some(0);
    }
    body.find(&format!("\n{mark}")).map(|place| place + 1)
}

/// Texts between the markers, in turn. A passage can hold line breaks, and `[2]` inside a line is not a marker.
fn split_passages(body: &str, identifiers: Identifiers, announced: Option<usize>) -> Vec<String> {
    let limit = announced.unwrap_or(usize::MAX).min(identifiers.limit());
    let mut passages = Vec::new();
    let mut rest = match marker(body, &identifiers.text(0)) {
        Some(place) => &body[place..],
        None => return passages,
    };
    while passages.len() < limit {
        let name = identifiers.text(passages.len());
        rest = rest.strip_prefix(&format!("[{name}] ")).unwrap_or(rest);
        let next = (passages.len() + 1 < limit).then(|| marker(rest, &identifiers.text(passages.len() + 1))).flatten();
        passages.push(rest[..next.unwrap_or(rest.len())].trim().to_owned());
        match next {
            Some(place) => rest = &rest[place..],
            None => break,
        }
    }
    passages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_shapes_are_taken_apart() {
        let numeric = "I will provide you with 2 passages, each indicated by a numerical identifier []. Rank the passages \
                       based on their relevance to the search query: what is x?.\n\n[1] One [2] here\nand more\n[2] Two\n\
                       Search Query: what is x?.\nRank the 2 passages above";
        let parsed = parse_prompt(numeric).unwrap();
        assert_eq!(parsed.query, "what is x?");
        assert_eq!(parsed.passages, ["One [2] here\nand more", "Two"]);
        let vicuna = format!("You are RankVicuna. USER: {numeric} ASSISTANT:");
        assert_eq!(parse_prompt(&vicuna).unwrap(), parsed);
        let letters = numeric.replace("\n[1]", "\n[A]").replace("\n[2]", "\n[B]");
        let parsed = parse_prompt(&letters).unwrap();
        assert_eq!(parsed.identifiers, Identifiers::Alphabetic);
        assert_eq!(parsed.passages.len(), 2);
        let turns = "You are Vicuna. USER: I will provide you with 2 passages. ASSISTANT: Okay.</s>USER: [1] One \
                     ASSISTANT: Received passage [1].</s>USER: [2] Two ASSISTANT: Received passage [2].</s>USER: Search \
                     Query: q. \nRank the 2 passages above";
        let parsed = parse_prompt(turns).unwrap();
        assert_eq!((parsed.query.as_str(), parsed.passages), ("q", vec!["One".to_owned(), "Two".to_owned()]));
    }

    #[test]
    fn wrong_numbers_and_missing_parts_are_named() {
        let three = "I will provide you with 3 passages\n[1] a\n[2] b\nSearch Query: q.\n";
        assert!(parse_prompt(three).unwrap_err().contains("announces 3 passages but 2 were found"));
        assert!(parse_prompt("hello").unwrap_err().contains("Search Query"));
        assert!(parse_prompt("Search Query: q.\n").unwrap_err().contains("[1]"));
    }

    #[test]
    fn conversations_with_either_naming() {
        let row = serde_json::json!({"conversations": [
            {"from": "system", "value": "You are RankLLM"},
            {"from": "human", "value": "p"}, {"from": "gpt", "value": "[1]"}]});
        assert_eq!(turns_of(&row), Ok(("p".to_owned(), "[1]".to_owned())));
        let row = serde_json::json!({"messages": [{"role": "user", "content": "p"}]});
        assert_eq!(turns_of(&row), Err("no turn from `gpt` or `assistant`".to_owned()));
    }
}
