//! The experiment file: text, overrides, typed value, checks.

pub mod decode;
pub mod environment;
pub mod key_path;
pub mod load;
pub mod locate;
pub mod problem;
pub mod set_override;
pub mod stage_settings;
