//! Listwise prompts: what the model reads, and where its ranking is read off.

mod answer_form;
mod config;
mod layout;
mod own_wording;
mod ranking;
mod wording;

use std::sync::Arc;

use model::Tokenizer;
use model::tokenizer::ChatMessage;

pub use answer_form::{AnswerForm, AnswerFormat, answer_text};
pub use config::{IdentifierPosition, Identifiers, PromptConfig, PromptStyle, PromptTemplate, TitleFormat};
pub use ranking::{RepairCounts, index_of, parse_ranking};

use crate::schema::check_permutation;
use crate::{DataError, Passage, RankingSample};
use layout::AnswerLayout;

/// A prompt ready for a decoder.
#[derive(Debug, Clone)]
pub struct RankingPrompt {
    /// Sample's id.
    pub query_id: String,
    /// Text of `input_ids`.
    pub text: String,
    /// Prompt up to and including the generation header; the answer starts right after.
    pub input_ids: Vec<i64>,
    /// `[`: what stands before the first identifier in the answer; empty when it is compact.
    pub opening: Vec<i64>,
    /// Token ids of each candidate's identifier, without brackets (one id each when alphabetic); with the blank before
    /// it when compact.
    pub identifiers: Vec<Vec<i64>>,
    /// `]`, ` >`, ` [`: between two identifiers; empty when compact.
    pub separator: Vec<i64>,
    /// `]` and the end of turn; the end of turn alone when compact.
    pub closing: Vec<i64>,
}

impl RankingPrompt {
    /// Number of candidates.
    #[must_use]
    pub fn num_candidates(&self) -> usize {
        self.identifiers.len()
    }

    /// One token per candidate when every identifier is a single token (what single-token reading needs), else None.
    #[must_use]
    pub fn single_token_identifiers(&self) -> Option<Vec<i64>> {
        self.identifiers.iter().map(|ids| if let [id] = ids[..] { Some(id) } else { None }).collect()
    }

    /// Tokens of a full answer, end of turn included.
    #[must_use]
    pub fn answer_tokens(&self) -> usize {
        let names: usize = self.identifiers.iter().map(Vec::len).sum();
        self.opening.len()
            + names
            + self.separator.len() * self.identifiers.len().saturating_sub(1)
            + self.closing.len()
    }
}

/// Renders samples.
#[derive(Debug, Clone)]
pub struct PromptBuilder {
    /// Settings.
    pub config: PromptConfig,
    /// Of the model.
    pub tokenizer: Arc<Tokenizer>,
    /// Tokens that prompt and answer may have together, if limited.
    pub context_limit: Option<usize>,
    layout: Arc<AnswerLayout>,
    /// The tokenizer's BOS, where the chat template has none: texts that a template wrote are tokenised as any other text by the published
    /// training and decoding (Zephyr's template has no BOS, its models have never read a text without).
    lead: Arc<[i64]>,
    hash: Arc<str>,
}

impl PromptBuilder {
    /// Checks the settings, and the tokenizer against the identifiers.
    ///
    /// # Errors
    /// Settings that leave nothing; `template: chat` without a chat template; a tokenizer that does not keep identifiers
    /// apart from their brackets (or letters as one token each; in compact answers, with the blank before them).
    pub fn new(tokenizer: Arc<Tokenizer>, config: PromptConfig) -> Result<Self, DataError> {
        let mut problems = config.validate();
        if config.template == PromptTemplate::Chat && !tokenizer.has_chat_template() {
            problems.push("`template: chat` but the tokenizer has no chat template; use `auto` or `vicuna`".to_owned());
        }
        if !problems.is_empty() {
            return Err(DataError::Config { problems });
        }
        let text = render(&tokenizer, &config, "probe", &["first".to_owned(), "second".to_owned()])?;
        let plain = !uses_chat(&tokenizer, &config);
        let ids = prompt_ids(&tokenizer, &text, plain)?;
        let end = end_of_turn(&tokenizer, &config)?;
        let layout = AnswerLayout::find(&tokenizer, &text, &ids, plain, config.answer_form(), end)?;
        let lead = lead_of(&tokenizer, &config, &ids)?;
        let hash = hash_of(&tokenizer, &config, &text, &layout, &lead);
        Ok(Self {
            config,
            tokenizer,
            context_limit: None,
            layout: Arc::new(layout),
            lead: lead.into(),
            hash: hash.into(),
        })
    }

    /// With the model's context as a limit where the settings ask for prompts that fit it.
    #[must_use]
    pub fn fitting(self, context: usize) -> Self {
        if self.config.fit_context { self.with_context_limit(context) } else { self }
    }

    /// With a limit on the tokens of prompt and answer together (the model's context).
    #[must_use]
    pub fn with_context_limit(mut self, tokens: usize) -> Self {
        self.context_limit = Some(tokens);
        self
    }

    /// Prompt of a sample; with `fit_context` in as many words a passage as the context has room for.
    ///
    /// # Errors
    /// No candidates, more than the identifiers can name, or a prompt and answer longer than the context.
    pub fn prompt(&self, sample: &RankingSample) -> Result<RankingPrompt, DataError> {
        let n = sample.passages.len();
        if n == 0 {
            return Err(DataError::NoCandidates { query_id: sample.query_id.clone() });
        }
        if n > self.config.identifiers.limit() {
            return Err(DataError::TooManyCandidates {
                query_id: sample.query_id.clone(),
                got: n,
                limit: self.config.identifiers.limit(),
                kind: self.config.identifiers.name(),
            });
        }
        let mut max_words = self.config.max_passage_words;
        loop {
            let prompt = self.prompt_within(sample, max_words)?;
            let tokens = prompt.input_ids.len() + prompt.answer_tokens();
            let Some(limit) = self.context_limit.filter(|limit| tokens > *limit) else { return Ok(prompt) };
            // What no passage has cannot be taken from it.
            let words = self.longest_passage(sample).min(max_words.unwrap_or(usize::MAX));
            if !self.config.fit_context || words <= 1 {
                return Err(DataError::PromptTooLong { query_id: sample.query_id.clone(), tokens, limit });
            }
            // RankLLM's step: four tokens a word and passage, so that it does not cut too much.
            max_words = Some(words - ((tokens - limit) / (4 * n)).clamp(1, words - 1));
        }
    }

    /// Words of the longest passage, its title included as it is shown.
    fn longest_passage(&self, sample: &RankingSample) -> usize {
        let words = |passage: &Passage| {
            let text = wording::passage_text(&passage.title, &passage.text, &self.config, None);
            text.split_whitespace().count()
        };
        sample.passages.iter().map(words).max().unwrap_or(0)
    }

    /// The prompt with passages of at most so many words.
    fn prompt_within(&self, sample: &RankingSample, max_words: Option<usize>) -> Result<RankingPrompt, DataError> {
        let text = self.text_within(sample, max_words)?;
        Ok(RankingPrompt {
            query_id: sample.query_id.clone(),
            input_ids: [&self.lead, prompt_ids(&self.tokenizer, &text, self.is_plain())?.as_slice()].concat(),
            text,
            opening: self.layout.opening.clone(),
            identifiers: self.layout.identifiers[..sample.passages.len()].to_vec(),
            separator: self.layout.separator.clone(),
            closing: [self.layout.closing.as_slice(), self.layout.end.as_slice()].concat(),
        })
    }

    /// Text of a sample's prompt, generation header included. Looks neither at the number of candidates nor at the context.
    pub fn text(&self, sample: &RankingSample) -> Result<String, DataError> {
        self.text_within(sample, self.config.max_passage_words)
    }

    fn text_within(&self, sample: &RankingSample, max_words: Option<usize>) -> Result<String, DataError> {
        let query = sample.query.split_whitespace().collect::<Vec<_>>().join(" ");
        let query = self.cut(&query, self.config.max_query_tokens)?;
        let query = wording::replace_identifiers(&query, self.config.identifiers);
        let passages: Result<Vec<String>, DataError> =
            sample.passages.iter().map(|passage| self.passage_within(passage, max_words)).collect();
        render(&self.tokenizer, &self.config, &query, &passages?)
    }

    /// A passage as the prompt shows it: words and tokens cut, bracketed identifiers rounded.
    pub fn passage(&self, passage: &Passage) -> Result<String, DataError> {
        self.passage_within(passage, self.config.max_passage_words)
    }

    fn passage_within(&self, passage: &Passage, max_words: Option<usize>) -> Result<String, DataError> {
        let text = wording::passage_text(&passage.title, &passage.text, &self.config, max_words);
        // Rounded before the cut: the tokens counted are the tokens shown.
        let text = wording::replace_identifiers(&text, self.config.identifiers);
        self.cut(&text, self.config.max_passage_tokens)
    }

    /// The longest start of `text` of at most `limit` tokens that is valid text.
    fn cut(&self, text: &str, limit: Option<usize>) -> Result<String, DataError> {
        let Some(limit) = limit else { return Ok(text.to_owned()) };
        let ids = self.tokenizer.encode(text, false)?;
        if ids.len() <= limit {
            return Ok(text.to_owned());
        }
        let mut ends = None;
        for kept in (1..=limit).rev() {
            let decoded = self.tokenizer.decode(&ids[..kept], false)?;
            let mut shown = decoded.trim();
            // The shown text must be a start of the text itself. What is decoded is none where a normaliser has changed a character, a
            // decoder tidies up, or a character of several tokens is cut in two.
            if !text.starts_with(shown) {
                let ends = match &ends {
                    Some(ends) => ends,
                    None => ends.insert(self.tokenizer.token_ends(text)?),
                };
                shown = ends.get(kept - 1).and_then(|end| text.get(..*end)).unwrap_or_default().trim();
            }
            if !shown.is_empty() && self.tokenizer.encode(shown, false)?.len() <= limit {
                return Ok(shown.to_owned());
            }
        }
        Ok(String::new())
    }

    /// Tokens of the first candidates' identifiers, as far as each is one token.
    #[must_use]
    pub fn single_identifier_tokens(&self) -> Vec<i64> {
        let single = |identifier: &Vec<i64>| if let [token] = identifier[..] { Some(token) } else { None };
        self.layout.identifiers.iter().map_while(single).collect()
    }

    /// Token ids of the answer `[B] > [A]<end of turn>` (compact ` B A<end of turn>`) for an order (0-based candidate indices, best first).
    ///
    /// # Panics
    /// When an index is not below the number of candidates.
    #[must_use]
    pub fn response(&self, prompt: &RankingPrompt, order: &[u16]) -> Vec<i64> {
        let mut ids = prompt.opening.clone();
        for (place, &index) in order.iter().enumerate() {
            if place > 0 {
                ids.extend_from_slice(&prompt.separator);
            }
            ids.extend_from_slice(&prompt.identifiers[usize::from(index)]);
        }
        ids.extend_from_slice(&prompt.closing);
        ids
    }

    /// Checks that prompt and answer together have the tokens of the prompt followed by [`Self::response`]'s.
    ///
    /// # Errors
    /// `PrefixMismatch` with the first position that differs.
    pub fn verify(&self, prompt: &RankingPrompt, order: &[u16]) -> Result<(), DataError> {
        check_permutation(&prompt.query_id, "order", order, prompt.num_candidates())?;
        let form = self.config.answer_form();
        let text = format!("{}{}{}", prompt.text, form.lead(&prompt.text), answer_text(form, order));
        let full = self.tokenizer.encode(&text, self.is_plain())?;
        let response = self.response(prompt, order);
        let own_ids = prompt.input_ids.strip_prefix(&*self.lead).unwrap_or(&prompt.input_ids);
        let wanted: Vec<i64> = [own_ids, &response[..response.len() - self.layout.end.len()]].concat();
        if full.starts_with(&wanted) { Ok(()) } else { Err(layout::prefix_mismatch(&prompt.query_id, &wanted, &full)) }
    }

    /// Order and repairs of an answer given as token ids.
    pub fn parse_response(&self, ids: &[i64], n: usize) -> Result<(Vec<u16>, RepairCounts), DataError> {
        let text = self.tokenizer.decode(ids, true)?;
        Ok(parse_ranking(&text, self.config.answer_form(), n))
    }

    /// Hash (hex) of wording, options, template and tokenizer: stored in the model folder, compared at evaluation.
    #[must_use]
    pub fn hash(&self) -> String {
        self.hash.to_string()
    }

    /// True when no chat template is applied, so that the tokenizer's own special tokens (BOS) are wanted.
    fn is_plain(&self) -> bool {
        !uses_chat(&self.tokenizer, &self.config)
    }
}

/// What stands before every prompt that the tokenizer's chat template writes: its BOS, where the template has none. Decides what is read, and is part of
/// no setting.
///
/// # Errors
/// A template that cannot be rendered, or texts that cannot be tokenised.
pub fn leading_tokens(tokenizer: &Tokenizer, config: &PromptConfig) -> Result<Vec<i64>, DataError> {
    // Without a template there is none to have left it out; `PromptBuilder` says what is wrong where one is asked for.
    if !tokenizer.has_chat_template() {
        return Ok(Vec::new());
    }
    let text = render(tokenizer, config, "probe", &["first".to_owned(), "second".to_owned()])?;
    let ids = prompt_ids(tokenizer, &text, !uses_chat(tokenizer, config))?;
    lead_of(tokenizer, config, &ids)
}

fn lead_of(tokenizer: &Tokenizer, config: &PromptConfig, ids: &[i64]) -> Result<Vec<i64>, DataError> {
    if !uses_chat(tokenizer, config) {
        return Ok(Vec::new());
    }
    let lead = tokenizer.leading_tokens()?;
    Ok(if ids.starts_with(&lead) { Vec::new() } else { lead })
}

fn uses_chat(tokenizer: &Tokenizer, config: &PromptConfig) -> bool {
    match config.template {
        PromptTemplate::Auto => tokenizer.has_chat_template(),
        PromptTemplate::Chat => true,
        PromptTemplate::Vicuna => false,
    }
}

fn system_text(config: &PromptConfig) -> &str {
    config.system_message.as_deref().unwrap_or_else(|| wording::system_message(config.style))
}

/// Prompt text of cleaned, cut texts.
fn render(tokenizer: &Tokenizer, config: &PromptConfig, query: &str, passages: &[String]) -> Result<String, DataError> {
    let user = wording::user_message(config, query, passages);
    let system = system_text(config);
    if !uses_chat(tokenizer, config) {
        let lead = if system.is_empty() { String::new() } else { format!("{system} ") };
        return Ok(format!("{lead}USER: {user} ASSISTANT:"));
    }
    let turn = |role: &str, content: &str| ChatMessage { role: role.to_owned(), content: content.to_owned() };
    if system.is_empty() {
        return Ok(tokenizer.apply_chat_template(&[turn("user", &user)], true)?);
    }
    match tokenizer.apply_chat_template(&[turn("system", system), turn("user", &user)], true) {
        Ok(text) if text.contains(system) => Ok(text),
        // Templates without a system turn drop or refuse it: it then opens the user's turn, as in FIRST's code.
        _ => Ok(tokenizer.apply_chat_template(&[turn("user", &format!("{system}\n {user}"))], true)?),
    }
}

/// Tokens of a prompt; an end token some tokenizers append is taken off.
fn prompt_ids(tokenizer: &Tokenizer, text: &str, add_special_tokens: bool) -> Result<Vec<i64>, DataError> {
    let mut ids = tokenizer.encode(text, add_special_tokens)?;
    if add_special_tokens && ids.len() > 1 && ids.last().is_some_and(|id| tokenizer.eos_token_ids().contains(id)) {
        ids.pop();
    }
    Ok(ids)
}

/// What the chat template puts behind an answer: its first end token. Without a template, the first end token.
fn end_of_turn(tokenizer: &Tokenizer, config: &PromptConfig) -> Result<Vec<i64>, DataError> {
    let ends = tokenizer.eos_token_ids();
    let first = ends.first().copied().into_iter().collect();
    if !uses_chat(tokenizer, config) {
        return Ok(first);
    }
    let answer = "monopass-answer";
    let turns = [("user", "question"), ("assistant", answer)]
        .map(|(role, content)| ChatMessage { role: role.to_owned(), content: content.to_owned() });
    // A template may refuse such a conversation; its end is then the tokenizer's first.
    let Ok(text) = tokenizer.apply_chat_template(&turns, false) else { return Ok(first) };
    let Some((_, after)) = text.rsplit_once(answer) else { return Ok(first) };
    let ids = tokenizer.encode(after, false)?;
    Ok(ids.into_iter().find(|id| ends.contains(id)).map_or(first, |id| vec![id]))
}

fn hash_of(tokenizer: &Tokenizer, config: &PromptConfig, probe: &str, layout: &AnswerLayout, lead: &[i64]) -> String {
    let mut hasher = blake3::Hasher::new();
    let config = serde_json::to_string(config).unwrap_or_default();
    let version = wording::WORDING_VERSION.to_string();
    let layout = format!("{layout:?}");
    // Nothing where there is none, so that hashes of models trained before hold.
    let lead = (!lead.is_empty()).then(|| format!("{lead:?}"));
    let parts = [version.as_str(), &config, tokenizer.fingerprint(), probe, &layout];
    for part in parts.into_iter().chain(lead.as_deref()) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
