//! The experiment file, its stages and the command.
