//! One stage from its settings: prepare the model, restore, fit.

use std::panic::{AssertUnwindSafe, catch_unwind};

use model::CausalLm;
use model::causal_lm::NamedParameter;
use tch::Tensor;

use crate::TrainError;
use crate::adamw::AdamW;
use crate::config::TrainConfig;
use crate::fit::{Fit, OpenLoader, Run, TrainReport};
use crate::gradients::{GradientOptions, Gradients};
use crate::objectives::Objective;
use crate::resume;
use crate::saving::Saver;
use crate::train_step::Learner;

/// Trains `model` for one stage; see the crate's documentation.
///
/// # Errors
/// Any [`TrainError`]. Whatever went wrong, the checkpoints written so far are whole, and the other ranks are told.
pub fn train(
    model: &mut CausalLm,
    open_loader: &mut OpenLoader<'_>,
    config: &TrainConfig,
    run: Run<'_>,
) -> Result<TrainReport, TrainError> {
    let ranks = run.ranks;
    // Plain tensor operations panic where libtorch throws; the other ranks must hear of it all the same.
    let result = catch_unwind(AssertUnwindSafe(|| train_stage(model, open_loader, config, run)));
    let result = result.unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "no message".to_owned());
        Err(TrainError::Panicked { rank: ranks.rank(), message })
    });
    if let Err(error) = &result {
        ranks.report_failure(error);
    }
    result
}

fn train_stage(
    model: &mut CausalLm,
    open_loader: &mut OpenLoader<'_>,
    config: &TrainConfig,
    run: Run<'_>,
) -> Result<TrainReport, TrainError> {
    let problems = config.validate();
    if !problems.is_empty() {
        return Err(TrainError::Config { problems });
    }
    let objective = config.objective.build();
    let parameters = prepare(model, config, objective.as_ref(), run.seed)?;
    let tensors: Vec<Tensor> = parameters.iter().map(|parameter| parameter.tensor.shallow_clone()).collect();
    let mut optimizer = AdamW::new(parameters, config, run.ranks);
    let mut state = resume::fresh_state(config, &run);
    let resumed = resume::restore(&mut optimizer, &mut state, config, &run)?;
    // After restoring: the reducer's hooks see the tensors as they will be trained.
    let gradients = Gradients::new(tensors, GradientOptions::of(config), run.ranks)?;
    let learner = Learner { model, gradients, optimizer };
    let saver = Saver::new(resume::checkpoints_folder(run.folder), config.checkpoint.keep);
    Fit { learner, objective, config, run, state, resumed, saver, empty_steps: 0 }.fit(open_loader)
}

/// Makes the model what the stage trains, and names what it trains.
pub(crate) fn prepare(
    model: &mut CausalLm,
    config: &TrainConfig,
    objective: &dyn Objective,
    seed: u64,
) -> Result<Vec<NamedParameter>, TrainError> {
    prepare_model(model, config, seed)?;
    objective.prepare(model).map_err(|problem| TrainError::Config { problems: vec![problem] })?;
    Ok(model.trainable_parameters().into_iter().chain(objective.parameters()).collect())
}

/// Makes weights trainable, or adapters: fresh ones, or those the model was read with. A stage that trains all weights merges them.
fn prepare_model(model: &mut CausalLm, config: &TrainConfig, seed: u64) -> Result<(), TrainError> {
    let wanted = config.precision.weights();
    if model.kind() != wanted {
        let problem = format!(
            "the model was loaded as {:?}, `precision: {}` wants {wanted:?}",
            model.kind(),
            serde_json::to_value(config.precision).expect("a plain enum").as_str().unwrap_or_default()
        );
        return Err(TrainError::Config { problems: vec![problem] });
    }
    match (&config.lora, model.lora_config()) {
        (None, None) => model.train_all(),
        (None, Some(_)) => {
            model.merge_lora();
            model.train_all();
        }
        (Some(lora), None) => model.add_lora(lora, seed)?,
        (Some(lora), Some(present)) if lora.is_that_of(present) => model.train_lora(),
        (Some(wanted), Some(present)) => {
            let problem = format!(
                "the model has adapters {present:?}, this stage wants {wanted:?}; keep `lora` the same to train them on, or merge them \
                 first (`monopass export`)"
            );
            return Err(TrainError::Config { problems: vec![problem] });
        }
    }
    model.set_gradient_checkpointing(config.gradient_checkpointing);
    Ok(())
}
