//! How far an evaluation is: a bar on a terminal, a line now and then in a log.

use std::io::{IsTerminal as _, stderr};

use indicatif::{ProgressBar, ProgressStyle};

/// Lines a log gets per evaluation.
const LOG_LINES: usize = 5;

/// Progress over the queries of a set.
#[derive(Debug)]
pub struct QueryProgress {
    name: String,
    bar: Option<ProgressBar>,
    said: usize,
}

impl QueryProgress {
    /// Nothing is shown before the first query is done.
    pub fn new(name: &str) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::no_length().with_message(name.to_owned());
            let template = "{msg} {bar:30} {pos}/{len} {elapsed} ({eta} left)";
            bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { name: name.to_owned(), bar, said: 0 }
    }

    /// `done` of `total` queries are done.
    pub fn show(&mut self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            return;
        }
        let part = done * LOG_LINES / total.max(1);
        if part > self.said {
            self.said = part;
            tracing::info!("{}: {done} of {total} queries", self.name);
        }
    }
}

impl Drop for QueryProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
