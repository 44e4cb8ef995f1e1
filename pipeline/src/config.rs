//! The experiment file: text, overrides, typed value, checks.

pub mod check;
mod check_branched;
mod check_evaluate;
mod check_heads;
pub mod decode;
pub mod device;
pub mod difference;
pub mod environment;
pub mod experiment;
pub mod file_kind;
pub mod heads;
pub mod key_path;
pub mod load;
pub mod locate;
pub mod names;
pub mod problem;
pub mod reference;
pub mod resolved;
pub mod schema;
pub mod set_override;
pub mod stage_settings;
