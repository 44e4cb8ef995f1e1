//! Many runs of one experiment file with other values: which, side by side, and one table of all.

pub mod config;
pub mod jobs;
pub mod page;
pub mod run;
pub mod table;
