//! What the user sees while training: a bar on a terminal, plain lines in a log, nothing on ranks other than 0.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows where a stage stands.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    num_steps: u64,
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
    /// For a stage of `num_steps` steps of which `done` are behind. `quiet` shows nothing.
    pub fn new(num_steps: u64, done: u64, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}")
                .expect("the template is a constant that indicatif accepts");
            ProgressBar::new(num_steps).with_position(done).with_style(style)
        });
        Self { bar, quiet, num_steps }
    }

    /// Advances the bar after every step.
    pub fn step_done(&self, step: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        }
    }

    /// Shows the numbers of a step.
    pub fn line(&self, line: &Line<'_>) {
        if self.quiet {
            return;
        }
        let mut text: Vec<String> =
            line.numbers.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
        text.push(format!("{} left", clock(line.left)));
        let text = text.join("  ");
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => tracing::info!("step {}/{}  {text}", line.step, self.num_steps),
        }
    }

    /// A remark between two steps that stays on the screen.
    pub fn remark(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tracing::info!("{text}")),
            None if !self.quiet => tracing::info!("{text}"),
            None => {}
        }
    }
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
}
