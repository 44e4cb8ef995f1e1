//! A published table with our values beside the paper's: which experiments fill it, and which of their cells go where.

pub mod config;
pub mod fill;
pub mod kept;
pub mod plots;
pub mod reach;
pub mod which;
