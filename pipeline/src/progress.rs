//! How far a stage is: a bar on a terminal, a line now and then in a log, nothing where quiet is wanted.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use trainer::BARS;

use crate::logging::draws_bars;

/// Lines a log gets for each set.
const LOG_LINES: usize = 5;

/// Progress over the queries or texts of a set.
#[derive(Debug)]
pub struct SetProgress {
    name: String,
    unit: &'static str,
    bar: Option<ProgressBar>,
    /// When the first report came, and what was done then: by an earlier process, or before a clock ran.
    began: Option<(Instant, usize)>,
    said: usize,
    metric: Option<String>,
}

impl SetProgress {
    /// Nothing is shown before the first one is done. `unit` is what is counted: `queries`.
    pub fn new(name: &str, unit: &'static str) -> Self {
        let bar =
            draws_bars().then(|| {
                let bar = ProgressBar::no_length().with_message(name.to_owned());
                let template = format!("{{msg}} {{bar:30}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left");
                BARS.add(bar.with_style(
                    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()),
                ))
            });
        Self { name: name.to_owned(), unit, bar, began: None, said: 0, metric: None }
    }

    /// `done` of `total` are done.
    pub fn show(&mut self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            if self.began.replace((Instant::now(), done)).is_none() {
                // What an earlier process did took no time of this one.
                bar.reset_eta();
            }
            return;
        }
        let (began, before) = *self.began.get_or_insert_with(|| (Instant::now(), done));
        let part = done * LOG_LINES / total.max(1);
        if part > self.said {
            self.said = part;
            let pace = pace(done - before.min(done), total - done.min(total), began.elapsed());
            let metric = self.metric.as_ref().map(|metric| format!("; {metric}")).unwrap_or_default();
            tracing::info!("{}: {done} of {total} {}{pace}{metric}", self.name, self.unit);
        }
    }

    /// What stands beside the next ones: `pairs kept 0.7712`.
    pub fn measured(&mut self, metric: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}, {metric}", self.name));
        }
        self.metric = Some(metric);
    }
}

/// `, 1.3 s each, 4 min left`; empty before there is anything to go by.
fn pace(done: usize, left: usize, time: Duration) -> String {
    if done == 0 {
        return String::new();
    }
    let each = time.as_secs_f64() / done as f64;
    let rest = each * left as f64;
    let rest = match rest {
        _ if left == 0 => String::new(),
        rest if rest < 100.0 => format!(", {rest:.0} s left"),
        rest => format!(", {:.0} min left", rest / 60.0),
    };
    format!(", {each:.2} s each{rest}")
}

impl Drop for SetProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            BARS.remove(bar);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_told_once_there_is_one() {
        assert_eq!(pace(0, 300, Duration::from_secs(5)), "");
        assert_eq!(pace(10, 20, Duration::from_secs(5)), ", 0.50 s each, 10 s left");
        assert_eq!(pace(10, 300, Duration::from_secs(13)), ", 1.30 s each, 6 min left");
        assert_eq!(pace(10, 0, Duration::from_secs(13)), ", 1.30 s each");
    }
}
