//! The experiment file, its stages and the command.

pub mod config;
