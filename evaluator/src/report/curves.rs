//! Loss curves of a training stage, from its `metrics.jsonl`.

use std::path::Path;

use plotters::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};

use super::plot::{Axis, GRID, INK, MUTED, SERIES, failed, finish, text};
use crate::EvaluatorError;
use crate::stats::percentile;

/// Columns of the log that say how the run went, not what it learned.
const NOT_A_LOSS: [&str; 13] = [
    "kind",
    "step",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "data_wait_seconds",
    "step_seconds",
    "label_tokens",
    "epoch",
    "skipped_steps",
    "communication_seconds",
    "peak_memory_mib",
    "seconds",
];

const SIZE: (u32, u32) = (460, 250);
/// A curve is smoothed over about this share of its points.
const SMOOTHED_SHARE: f64 = 0.08;

/// One quantity over steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// `loss`, `lm`, `ranking`, `eval ndcg_cut_10`.
    pub name: String,
    /// (step, value); values that were not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Curves of one stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StageCurves {
    /// Stage.
    pub name: String,
    /// The loss, its parts, then what was evaluated on the way.
    pub curves: Vec<Curve>,
    pub(super) cost: Cost,
}

/// What the steps took, as far as they were logged.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Cost {
    steps: f64,
    step_seconds: Vec<f64>,
    tokens_per_second: Vec<f64>,
    communication_seconds: Vec<f64>,
    /// At the fullest moment; 0 where the log does not say.
    peak_memory_mib: f64,
}

impl Cost {
    fn add(&mut self, values: &Map<String, Value>) {
        let number = |key: &str| values.get(key).and_then(Value::as_f64);
        self.steps = self.steps.max(number("step").unwrap_or(0.0));
        self.peak_memory_mib = self.peak_memory_mib.max(number("peak_memory_mib").unwrap_or(0.0));
        self.step_seconds.extend(number("step_seconds"));
        self.tokens_per_second.extend(number("tokens_per_second"));
        self.communication_seconds.extend(number("communication_seconds"));
    }
}

impl StageCurves {
    /// Reads `metrics.jsonl`; a last line that was cut short is left out, as are columns of speed and schedule.
    ///
    /// # Errors
    /// The file cannot be read, a line in its middle is not a JSON object.
    pub fn read(name: &str, path: &Path) -> Result<Self, EvaluatorError> {
        let text = std::fs::read_to_string(path).map_err(EvaluatorError::io(path))?;
        let mut stage = Self { name: name.to_owned(), ..Self::default() };
        let num_lines = text.lines().count();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match serde_json::from_str::<Map<String, Value>>(line) {
                Ok(values) => stage.add(&values),
                Err(_) if index + 1 == num_lines => {}
                Err(source) => return Err(EvaluatorError::Json { path: path.into(), line: index as u64 + 1, source }),
            }
        }
        Ok(stage)
    }

    fn add(&mut self, values: &Map<String, Value>) {
        let Some(step) = values.get("step").and_then(Value::as_f64) else { return };
        let is_eval = values.get("kind").and_then(Value::as_str) == Some("eval");
        if !is_eval {
            self.cost.add(values);
        }
        for (key, value) in values {
            let Some(value) = value.as_f64().filter(|value| value.is_finite()) else { continue };
            if NOT_A_LOSS.contains(&key.as_str()) {
                continue;
            }
            let name = if is_eval { format!("eval {key}") } else { key.clone() };
            let index = self.curves.iter().position(|curve| curve.name == name).unwrap_or_else(|| {
                self.curves.push(Curve { name, points: Vec::new() });
                self.curves.len() - 1
            });
            self.curves[index].points.push((step, value));
        }
    }

    /// What the stage took: name and figure.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let cost = &self.cost;
        let mut facts = vec![("steps", format!("{}", cost.steps))];
        let median = |values: &[f64]| (!values.is_empty()).then(|| percentile(values, 50.0));
        if let Some(seconds) = median(&cost.step_seconds) {
            facts.push(("s a step (median)", format!("{seconds:.2}")));
        }
        if let Some(rate) = median(&cost.tokens_per_second) {
            facts.push(("tokens/s (median)", format!("{rate:.0}")));
        }
        let (waited, all) = (cost.communication_seconds.iter().sum::<f64>(), cost.step_seconds.iter().sum::<f64>());
        if waited > 0.0 {
            facts.push(("of it communication", format!("{:.1} %", 100.0 * waited / all)));
        }
        if cost.peak_memory_mib > 0.0 {
            facts.push(("GiB at the fullest moment", format!("{:.2}", cost.peak_memory_mib / 1024.0)));
        }
        facts
    }

    /// A picture per curve.
    pub(super) fn plots(&self) -> Result<Vec<String>, EvaluatorError> {
        // a part that is the loss itself would be drawn twice
        let is_copy = |index: usize| index > 0 && self.curves[index].points == self.curves[0].points;
        let shown = self.curves.iter().enumerate().filter(|(index, c)| c.points.len() > 1 && !is_copy(*index));
        shown.enumerate().map(|(colour, (_, curve))| plot(curve, SERIES[colour % SERIES.len()])).collect()
    }
}

/// Exponential mean that starts at the first value.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let window = (points.len() as f64 * SMOOTHED_SHARE).max(1.0);
    let keep = 1.0 - 1.0 / window;
    let mut mean = points.first().map_or(0.0, |point| point.1);
    points
        .iter()
        .map(|(step, value)| {
            mean = keep * mean + (1.0 - keep) * value;
            (*step, mean)
        })
        .collect()
}

fn plot(curve: &Curve, colour: RGBColor) -> Result<String, EvaluatorError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let last = curve.points.last().map_or(1.0, |point| point.0);
        let x = Axis::exact(0.0, last, 5);
        let y = Axis::linear(curve.points.iter().map(|point| point.1), 4);
        let (x_words, y_words) = (x.clone(), y.clone());
        let mut chart = ChartBuilder::on(&area)
            .caption(&curve.name, text(15, &INK))
            .margin_right(16)
            .margin_top(4)
            .x_label_area_size(34)
            .y_label_area_size(50)
            .build_cartesian_2d(x, y)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(text(12, &MUTED))
            .axis_desc_style(text(12, &MUTED))
            .x_desc("step")
            .x_label_formatter(&|value| x_words.label(*value))
            .y_label_formatter(&|value| y_words.label(*value))
            .draw()
            .map_err(failed)?;
        let few = curve.points.len() < 12;
        if few {
            let dots = curve.points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
            chart.draw_series(dots).map_err(failed)?;
        }
        let faint = colour.mix(if few { 0.9 } else { 0.28 });
        chart.draw_series(LineSeries::new(curve.points.iter().copied(), faint)).map_err(failed)?;
        if !few {
            chart.draw_series(LineSeries::new(smoothed(&curve.points), colour.stroke_width(2))).map_err(failed)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(finish(&svg, &format!("{} over training steps", curve.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_leave_out_speed_and_a_cut_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let lines = [
            r#"{"kind":"train","step":1,"loss":2.0,"lm":1.5,"ranking":0.05,"learning_rate":0.1,"grad_norm":3,"step_seconds":2.0,"peak_memory_mib":1536}"#,
            r#"{"kind":"train","step":2,"loss":null,"lm":1.4,"ranking":0.04}"#,
            r#"{"kind":"eval","step":2,"ndcg_cut_10":0.5}"#,
            r#"{"kind":"train","st"#,
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let stage = StageCurves::read("sft", &path).unwrap();
        let names: Vec<_> = stage.curves.iter().map(|c| (c.name.as_str(), c.points.len())).collect();
        assert_eq!(names, [("loss", 1), ("lm", 2), ("ranking", 2), ("eval ndcg_cut_10", 1)]);
        let facts = stage.facts();
        assert_eq!(facts[0], ("steps", "2".to_owned()));
        assert_eq!(facts[1..], [("s a step (median)", "2.00".into()), ("GiB at the fullest moment", "1.50".into())]);
        std::fs::write(&path, "oops\n{}\n").unwrap();
        assert!(StageCurves::read("sft", &path).unwrap_err().to_string().contains("metrics.jsonl:1:"));
    }

    #[test]
    fn smoothing_keeps_a_constant() {
        let flat: Vec<_> = (0..50).map(|step| (f64::from(step), 2.0)).collect();
        assert!(smoothed(&flat).iter().all(|point| (point.1 - 2.0).abs() < 1e-12));
    }
}
