//! The experiment file, its stages and the command.

pub mod cli;
pub mod commands;
pub mod config;
pub mod failure;
pub mod head_parts;
pub mod hub;
pub mod interrupt;
pub mod logging;
pub mod mlflow;
pub mod model_card;
pub mod model_source;
pub mod origin;
pub mod paper_table;
pub mod progress;
pub mod run_folder;
pub mod stages;
pub mod stamp;
pub mod sweep;
pub mod write_whole;
