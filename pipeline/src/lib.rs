//! The experiment file, its stages and the command.

pub mod config;
pub mod failure;
pub mod hub;
pub mod interrupt;
pub mod logging;
pub mod run_folder;
pub mod stamp;
pub mod write_whole;
