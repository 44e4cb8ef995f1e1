//! Evaluation between training steps (`eval_every_steps`): the sets of `evaluate`, by the quickest decoder, a few queries each.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use data::RankingSample;
use data::prompt::{AnswerForm, Identifiers, PromptBuilder};
use evaluator::decode::{BuildDecoder, Decoder, DecoderKind, LastRead, NoParts};
use evaluator::evaluate::{EvaluateConfig, EvaluationJob, LatencyConfig, SignificanceBaseline, evaluate};
use evaluator::measures::Judgements;
use model::{CausalLm, Tokenizer};
use trainer::Evaluation;

use super::evaluate::judgements_of;
use super::train::context_length;
use super::{Experiment, prepare};
use crate::config::experiment::StageSection;
use crate::model_source::LoadedModel;

/// Queries of each set, where `evaluate.max_queries` does not say fewer.
const MAX_QUERIES: usize = 100;

/// The sets, and how they are ranked.
pub struct HeldOut {
    config: EvaluateConfig,
    sets: Vec<(String, Vec<RankingSample>, Judgements)>,
    prompts: PromptBuilder,
    answer: AnswerForm,
    tokenizer: Arc<Tokenizer>,
    is_main: bool,
}

impl HeldOut {
    /// What a stage is evaluated on between steps; nothing where it is not asked for.
    ///
    /// # Errors
    /// When a set is not prepared or its judgements cannot be read.
    pub fn of(experiment: &Experiment<'_>, stage: &StageSection, loaded: &LoadedModel) -> anyhow::Result<Option<Self>> {
        let (Some(_), Some(asked)) = (stage.settings.eval_every_steps, &experiment.config.evaluate) else {
            return Ok(None);
        };
        let data = &experiment.config.data;
        // One pass a query where each candidate is one token.
        let decoder = match data.prompt.identifiers {
            Identifiers::Alphabetic => DecoderKind::SingleToken,
            Identifiers::Numeric => DecoderKind::AutoregressiveForced,
        };
        let config = EvaluateConfig {
            decoders: vec![decoder],
            baseline_decoder: None,
            reference_decoder: None,
            significance_baseline: SignificanceBaseline::FirstStage,
            models: vec![stage.name.clone()],
            max_queries: Some(asked.max_queries.unwrap_or(MAX_QUERIES).min(MAX_QUERIES)),
            latency: LatencyConfig { warmup: 0, repeats: 1 },
            ..asked.clone()
        };
        let read = |set: &String| {
            let samples = prepare::samples(experiment, set)?;
            let judgements = judgements_of(&data.sets[set], &samples)?;
            Ok((set.clone(), samples, judgements))
        };
        let sets = config.sets.iter().map(read).collect::<anyhow::Result<_>>()?;
        let prompts = PromptBuilder::new(Arc::clone(&loaded.tokenizer), data.prompt.clone())?
            .fitting(context_length(experiment, loaded));
        let (tokenizer, is_main) = (Arc::clone(&loaded.tokenizer), experiment.ranks.is_main());
        Ok(Some(Self { config, sets, prompts, answer: data.prompt.answer_form(), tokenizer, is_main }))
    }

    /// Means of every measure on every set, as `SET/MEASURE`; on rank 0, for whom the others wait.
    ///
    /// # Errors
    /// What the evaluation says.
    pub fn evaluate(&self, model: &CausalLm) -> Evaluation {
        let mut numbers = Vec::new();
        for (set, samples, judgements) in self.sets.iter().filter(|_| self.is_main) {
            let last_read = Rc::<LastRead>::default();
            let with = BuildDecoder {
                tokenizer: &self.tokenizer,
                answer: self.answer,
                max_new_tokens: None,
                parts: &NoParts,
                last_read: Rc::clone(&last_read),
                last_prompt: None,
            };
            let decoders: Vec<Box<dyn Decoder>> =
                self.config.decoders.iter().map(|kind| kind.build(&with)).collect::<Result<_, _>>()?;
            let job = EvaluationJob {
                set,
                model_name: &self.config.models[0],
                model,
                prompts: &self.prompts,
                samples,
                judgements,
                decoders: &decoders,
                forget_passes: &|| last_read.forget(),
                config: &self.config,
                content_key: "between steps",
                predictions: None,
            };
            let evaluation = evaluate(&job, &mut |_| ControlFlow::Continue(()))?;
            for (measure, value) in &evaluation.rows[0].values {
                numbers.push((format!("{set}/{measure}"), value.mean));
            }
        }
        Ok(numbers)
    }
}
