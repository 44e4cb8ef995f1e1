//! The decoders an experiment file can name.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use data::prompt::AnswerForm;
use model::one_pass::OnePassSettings;
use model::{CausalLm, Tokenizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::{DecoderParts, NeededHead};
use super::settings::{BlockwiseSettings, JacobiSettings, MedusaSettings, SpeculativeSettings, label};
use super::{
    Autoregressive, AutoregressiveForced, Blockwise, Decoder, Drafter, Jacobi, LastPrompt, LastRead, Medusa, OnePass,
    SingleToken, Speculative,
};
use crate::EvaluatorError;

/// A way to turn a prompt into a ranking.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DecoderKind {
    /// Greedy text, one token a pass, as `generate` does; the answer is parsed and repaired.
    Autoregressive,
    /// One identifier a pass among those not used yet; separators are appended without a pass of their own.
    AutoregressiveForced,
    /// One pass: candidates by the logits of their identifiers as the answer's first (Reddy et al. 2024).
    SingleToken,
    /// One pass over the prompt and a tree of subsets (Du et al. 2026).
    OnePass(OnePassSettings),
    /// All places updated together until they no longer change (Santilli et al. 2023).
    Jacobi(JacobiSettings),
    /// Drafts of a cheaper ranking, verified in one pass (Leviathan et al. 2023).
    Speculative(SpeculativeSettings),
    /// Drafts of heads for the places ahead (Stern et al. 2018).
    Blockwise(BlockwiseSettings),
    /// A tree of drafts of several heads (Cai et al. 2024).
    Medusa(MedusaSettings),
}

/// What is the same for all decoders of an evaluation.
pub struct BuildDecoder<'a> {
    /// The model's.
    pub tokenizer: &'a Tokenizer,
    /// The prompt's.
    pub answer: AnswerForm,
    /// Bounds free text only; absent, a full answer and a little more.
    pub max_new_tokens: Option<usize>,
    /// Heads and draft models.
    pub parts: &'a dyn DecoderParts,
    /// Shared by the variants of ONE-PASS.
    pub last_read: Rc<LastRead>,
    /// Shared by the decoders that begin with a pass over the prompt; absent, each makes its own.
    pub last_prompt: Option<Rc<LastPrompt>>,
}

impl DecoderKind {
    /// Those that need nothing beside the model, slowest first.
    pub const PLAIN: [Self; 3] = [Self::Autoregressive, Self::AutoregressiveForced, Self::SingleToken];

    /// All methods with their default settings, slowest first.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![
            Self::Autoregressive,
            Self::AutoregressiveForced,
            Self::Jacobi(JacobiSettings::default()),
            Self::Speculative(SpeculativeSettings::default()),
            Self::Blockwise(BlockwiseSettings::default()),
            Self::Medusa(MedusaSettings::default()),
            Self::OnePass(OnePassSettings::default()),
            Self::SingleToken,
        ]
    }

    /// Name of the method, as in an experiment file.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Autoregressive => "autoregressive",
            Self::AutoregressiveForced => "autoregressive_forced",
            Self::SingleToken => "single_token",
            Self::OnePass(_) => "one_pass",
            Self::Jacobi(_) => "jacobi",
            Self::Speculative(_) => "speculative",
            Self::Blockwise(_) => "blockwise",
            Self::Medusa(_) => "medusa",
        }
    }

    /// Folder of the smaller model that drafts, if one does.
    #[must_use]
    pub fn draft_model(&self) -> Option<&Path> {
        match self {
            Self::Speculative(settings) => settings.draft_model.as_deref(),
            _ => None,
        }
    }

    /// Name in files and tables: the method, and what differs from its defaults.
    #[must_use]
    pub fn name(&self) -> String {
        let method = self.method();
        let unless = |value: usize, default: usize| (value != default).then(|| value.to_string());
        match self {
            Self::Autoregressive | Self::AutoregressiveForced | Self::SingleToken => method.to_owned(),
            Self::OnePass(settings) => settings.label(),
            Self::Jacobi(settings) => label(method, settings.n_step, &[]),
            Self::Speculative(settings) => {
                let file = settings.draft_model.as_ref().and_then(|path| path.file_name());
                let draft = file.map(|name| name.to_string_lossy().into_owned());
                let num_draft = unless(settings.num_draft, Speculative::NUM_DRAFT);
                label(method, settings.n_step, &[("num_draft", num_draft), ("draft", draft)])
            }
            Self::Blockwise(settings) => {
                label(method, settings.n_step, &[("accept_top_k", unless(settings.accept_top_k, 1))])
            }
            Self::Medusa(settings) => {
                let levels = unless(settings.levels, Medusa::LEVELS);
                let branching = unless(settings.branching, Medusa::BRANCHING);
                label(method, settings.n_step, &[("levels", levels), ("branching", branching)])
            }
        }
    }

    /// The method named `name` with its default settings.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|kind| kind.method() == name)
    }

    /// Whether each candidate must be one token.
    #[must_use]
    pub fn reads_one_token(&self) -> bool {
        !matches!(self, Self::Autoregressive | Self::AutoregressiveForced)
    }

    /// Everything wrong with the settings, one line each, without the name.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let (n_step, counts) = match self {
            Self::OnePass(settings) => return settings.validate(),
            Self::Jacobi(settings) => (settings.n_step, vec![]),
            Self::Speculative(settings) => (settings.n_step, vec![("num_draft", settings.num_draft, 1)]),
            Self::Blockwise(settings) => (settings.n_step, vec![("accept_top_k", settings.accept_top_k, 1)]),
            Self::Medusa(settings) => {
                (settings.n_step, vec![("levels", settings.levels, 2), ("branching", settings.branching, 1)])
            }
            _ => return Vec::new(),
        };
        let steps = (n_step == Some(0)).then(|| "`n_step` is 0, wanted at least 1 (the prompt's pass)".to_owned());
        let low = counts.into_iter().filter(|(_, value, least)| value < least);
        let low = low.map(|(key, value, least)| format!("`{key}` is {value}, wanted at least {least}"));
        let tree = match self {
            Self::Medusa(settings) => Medusa::too_large(settings.levels, settings.branching),
            _ => None,
        };
        steps.into_iter().chain(low).chain(tree).collect()
    }

    /// The head it needs, if any.
    #[must_use]
    pub fn head(&self) -> Option<NeededHead> {
        match self {
            Self::OnePass(settings) if settings.variant.has_head() => Some(NeededHead::OnePass(*settings)),
            Self::Blockwise(_) => Some(NeededHead::Blockwise),
            Self::Medusa(settings) => Some(NeededHead::Medusa { num_heads: settings.levels.saturating_sub(1) }),
            _ => None,
        }
    }

    /// Makes the decoder.
    ///
    /// # Errors
    /// A head or draft model that cannot be had.
    pub fn build(&self, with: &BuildDecoder) -> Result<Box<dyn Decoder>, EvaluatorError> {
        if *self == Self::Autoregressive {
            return Ok(Box::new(Autoregressive::new(with.tokenizer.clone(), with.answer, with.max_new_tokens)));
        }
        self.build_headed(with.parts, Rc::clone(&with.last_read), with.last_prompt.clone())
    }

    /// As [`Self::build`], for every kind but free text.
    ///
    /// # Errors
    /// As [`Self::build`].
    ///
    /// # Panics
    /// For [`Self::Autoregressive`], which needs a tokenizer.
    pub(crate) fn build_headed(
        &self,
        parts: &dyn DecoderParts,
        last_read: Rc<LastRead>,
        last_prompt: Option<Rc<LastPrompt>>,
    ) -> Result<Box<dyn Decoder>, EvaluatorError> {
        let decoder: Box<dyn Decoder> = match self {
            Self::Autoregressive => panic!("free text is built with a tokenizer"),
            Self::AutoregressiveForced => Box::new(AutoregressiveForced),
            Self::SingleToken => Box::new(SingleToken),
            Self::OnePass(settings) => {
                let head = settings.variant.has_head().then(|| parts.one_pass(settings)).transpose()?;
                Box::new(OnePass::new(*settings, head, last_read)?)
            }
            Self::Jacobi(settings) => Box::new(Jacobi::new(settings.n_step)),
            Self::Speculative(settings) => {
                let drafter = match &settings.draft_model {
                    Some(folder) => Drafter::Model(parts.draft_model(folder)?),
                    None => Drafter::SelfDraft,
                };
                Box::new(Speculative::new(drafter, settings.num_draft, settings.n_step))
            }
            Self::Blockwise(settings) => {
                Box::new(Blockwise::new(Rc::new(parts.blockwise()?), settings.accept_top_k, settings.n_step))
            }
            Self::Medusa(settings) => {
                let heads = Rc::new(parts.medusa(settings.levels.saturating_sub(1))?);
                Box::new(Medusa::new(heads, settings.levels, settings.branching, settings.n_step))
            }
        };
        Ok(Box::new(Named { name: self.name(), decoder, last_prompt }))
    }
}

/// A decoder under its name in the table.
struct Named {
    name: String,
    decoder: Box<dyn Decoder>,
    last_prompt: Option<Rc<LastPrompt>>,
}

impl Decoder for Named {
    fn name(&self) -> &str {
        &self.name
    }

    fn decode(&self, model: &CausalLm, prompt: &data::prompt::RankingPrompt) -> Result<super::Decoded, EvaluatorError> {
        match &self.last_prompt {
            Some(last) => self.decoder.decode_behind(model, prompt, last),
            None => self.decoder.decode(model, prompt),
        }
    }

    fn decode_batch(
        &self,
        model: &CausalLm,
        prompts: &[&data::prompt::RankingPrompt],
    ) -> Result<Vec<super::Decoded>, EvaluatorError> {
        match &self.last_prompt {
            // A pass that is shared is one of each prompt alone.
            Some(_) => prompts.iter().map(|prompt| self.decode(model, prompt)).collect(),
            None => self.decoder.decode_batch(model, prompts),
        }
    }
}

impl fmt::Display for DecoderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use data::prompt::{Identifiers, RankingPrompt};

    use super::super::tests::{FakePrompts, sample, tiny};
    use super::super::{Decoded, NoParts};
    use super::*;
    use crate::sliding::PromptSource as _;

    /// `single_token` that notes how many prompts it is given at a time.
    struct Noting(Rc<RefCell<Vec<usize>>>);

    impl Decoder for Noting {
        fn name(&self) -> &'static str {
            "noting"
        }

        fn decode(&self, model: &CausalLm, prompt: &RankingPrompt) -> Result<Decoded, EvaluatorError> {
            self.0.borrow_mut().push(1);
            SingleToken.decode(model, prompt)
        }

        fn decode_batch(&self, model: &CausalLm, prompts: &[&RankingPrompt]) -> Result<Vec<Decoded>, EvaluatorError> {
            self.0.borrow_mut().push(prompts.len());
            SingleToken.decode_batch(model, prompts)
        }
    }

    #[test]
    fn prompts_come_to_a_named_decoder_together_unless_their_passes_are_shared() {
        let model = tiny(2);
        let prompts: Vec<_> =
            (5..8).map(|n| FakePrompts(Identifiers::Alphabetic).prompt(&sample("q", n)).unwrap()).collect();
        let all: Vec<&RankingPrompt> = prompts.iter().collect();
        let orders = |decoder: &dyn Decoder| -> Vec<Vec<u16>> {
            decoder.decode_batch(&model, &all).unwrap().into_iter().map(|decoded| decoded.order).collect()
        };
        let kind = DecoderKind::SingleToken.build_headed(&NoParts, Rc::default(), None).unwrap();
        for (last_prompt, wanted) in [(None, vec![3]), (Some(Rc::default()), vec![1; 3])] {
            let given = Rc::new(RefCell::new(Vec::new()));
            let named = Named { name: "named".into(), decoder: Box::new(Noting(Rc::clone(&given))), last_prompt };
            assert_eq!(orders(&named), orders(kind.as_ref()));
            assert_eq!(*given.borrow(), wanted);
        }
    }

    #[test]
    fn names_are_what_files_say() {
        for kind in DecoderKind::PLAIN {
            assert_eq!(serde_json::to_value(&kind).unwrap(), kind.name());
        }
        for kind in DecoderKind::all() {
            assert_eq!(DecoderKind::from_name(kind.method()), Some(kind.clone()));
            assert_eq!(kind.name(), kind.method(), "defaults need no note");
            assert!(kind.validate().is_empty());
        }
        assert_eq!(DecoderKind::from_name("one_token"), None);
    }

    #[test]
    fn settings_that_differ_are_noted() {
        let read = |text: &str| serde_json::from_str::<DecoderKind>(text).unwrap();
        assert_eq!(read(r#"{"jacobi": {"n_step": 2}}"#).name(), "jacobi(n_step=2)");
        assert_eq!(
            read(r#"{"blockwise": {"n_step": 2, "accept_top_k": 5}}"#).name(),
            "blockwise(n_step=2,accept_top_k=5)"
        );
        assert_eq!(read(r#"{"speculative": {"draft_model": "models/small"}}"#).name(), "speculative(draft=small)");
        assert_eq!(read(r#"{"one_pass": {"variant": "naive_add", "n_group": 4}}"#).name(), "naive_add(n_group=4)");
        assert_eq!(read(r#"{"medusa": {"n_step": 0, "levels": 1}}"#).validate().len(), 2);
        for levels in [14, 60, 1_000_000] {
            let problems = read(&format!(r#"{{"medusa": {{"levels": {levels}}}}}"#)).validate();
            assert!(problems.len() == 1 && problems[0].contains("at most 4096"), "{problems:?}");
        }
    }
}
