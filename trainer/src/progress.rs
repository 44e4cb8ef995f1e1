//! What the user sees while training: a bar on a terminal, some lines in a log, nothing on ranks other than 0.

use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// All bars of the process: who writes to the terminal does so within [`MultiProgress::suspend`].
pub static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Lines a log gets for a stage; every step's numbers are in `metrics.jsonl`.
const LOG_LINES: u64 = 10;

/// Numbers that are in `metrics.jsonl` alone.
const ONLY_IN_METRICS: [&str; 7] =
    ["learning_rate", "grad_norm", "data_wait_seconds", "step_seconds", "label_tokens", "epoch", "skipped_steps"];

/// Shows where a stage stands.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    silent: bool,
    num_steps: u64,
    /// Parts of the stage, of [`LOG_LINES`], that a line told of; none before the first line.
    told: Option<u64>,
}

/// What one line says.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Steps done.
    pub step: u64,
    /// Loss parts and the like, ready to print.
    pub numbers: &'a [(String, f64)],
    /// Time left.
    pub left: Duration,
}

impl Progress {
    /// For a stage of `num_steps` steps of which `done` are behind. `quiet` draws no bar, and lines go to the log, whose filter knows
    /// who wants them; `silent`, on ranks other than 0, says nothing at all.
    pub fn new(num_steps: u64, done: u64, quiet: bool, silent: bool) -> Self {
        let bar = (!quiet && !silent && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}")
                .expect("the template is a constant that indicatif accepts");
            BARS.add(ProgressBar::new(num_steps).with_position(done).with_style(style))
        });
        Self { bar, silent, num_steps, told: None }
    }

    /// Advances the bar after every step.
    pub fn step_done(&self, step: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        }
    }

    /// Shows the numbers of a step: all on the bar, a few of a stage in a log.
    pub fn line(&mut self, line: &Line<'_>) {
        let text = words(line);
        if let Some(bar) = &self.bar {
            return bar.set_message(text);
        }
        if self.silent {
            return;
        }
        let part = line.step * LOG_LINES / self.num_steps.max(1);
        if self.told.is_none_or(|told| part > told) {
            self.told = Some(part);
            tracing::info!("step {}/{}  {text}", line.step, self.num_steps);
        }
    }

    /// A remark between two steps that stays on the screen.
    pub fn remark(&self, text: &str) {
        if !self.silent {
            tracing::info!("{text}");
        }
    }
}

/// Time left first, so that a narrow terminal keeps it.
fn words(line: &Line<'_>) -> String {
    let shown = line.numbers.iter().filter(|(name, _)| !ONLY_IN_METRICS.contains(&name.as_str()));
    let numbers = shown.map(|(name, value)| format!("  {name} {}", short(*value)));
    format!("{} left{}", clock(line.left), numbers.collect::<String>())
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// Four digits are enough for a glance.
fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e5).contains(&size) {
        format!("{value:.2e}")
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.4}")
    }
}

/// `1:02:03`, `2:03`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> = [0.0, 5e-6, 0.12345, 12.34567, 1234.5, 1e7].map(short).to_vec();
        assert_eq!(shown, ["0", "5.00e-6", "0.1235", "12.3457", "1234", "1.00e7"]);
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }

    #[test]
    fn a_line_begins_with_the_time_left_and_leaves_out_what_only_metrics_need() {
        let numbers = [("loss", 0.5), ("grad_norm", 7.0), ("tokens_per_second", 250.0)]
            .map(|(name, value)| (name.to_owned(), value));
        let line = Line { step: 3, numbers: &numbers, left: Duration::from_secs(62) };
        assert_eq!(words(&line), "1:02 left  loss 0.5000  tokens_per_second 250");
    }
}
