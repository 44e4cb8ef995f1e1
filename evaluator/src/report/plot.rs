//! What both kinds of plot share: axes with round ticks, colours that follow the page's light or dark scheme.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

use crate::EvaluatorError;

/// Stand-ins that are replaced by the page's own colours once the picture is drawn.
pub(super) const INK: RGBColor = RGBColor(1, 1, 1);
pub(super) const GRID: RGBColor = RGBColor(2, 2, 2);
pub(super) const MUTED: RGBColor = RGBColor(3, 3, 3);
/// Colours of series, in turn.
pub(super) const SERIES: [RGBColor; 6] =
    [RGBColor(4, 4, 4), RGBColor(5, 5, 5), RGBColor(6, 6, 6), RGBColor(7, 7, 7), RGBColor(8, 8, 8), RGBColor(9, 9, 9)];

const PAGE_COLOURS: [(&str, &str); 9] = [
    ("#010101", "var(--ink)"),
    ("#020202", "var(--grid)"),
    ("#030303", "var(--muted)"),
    ("#040404", "var(--series-1)"),
    ("#050505", "var(--series-2)"),
    ("#060606", "var(--series-3)"),
    ("#070707", "var(--series-4)"),
    ("#080808", "var(--series-5)"),
    ("#090909", "var(--series-6)"),
];

/// An axis with ticks at round numbers.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub low: f64,
    pub high: f64,
    ticks: Vec<f64>,
    log: bool,
}

impl Axis {
    /// Even; `low` and `high` are widened to fit all `values` and some air.
    pub fn linear(values: impl Iterator<Item = f64>, ticks: usize) -> Self {
        let (mut low, mut high) = extent(values);
        let air = if high > low { (high - low) * 0.06 } else { high.abs().max(1.0) * 0.05 };
        low = if low >= 0.0 { (low - air).max(0.0) } else { low - air };
        high += air;
        Self { low, high, ticks: round_ticks(low, high, ticks), log: false }
    }

    /// Even, exactly from `low` to `high`.
    pub fn exact(low: f64, high: f64, ticks: usize) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, ticks: round_ticks(low, high, ticks), log: false }
    }

    /// Logarithmic, for values above 0.
    pub fn log(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = extent(values.filter(|value| *value > 0.0));
        let (low, high) = (low.max(1e-9) / 1.6, high.max(1e-9) * 1.6);
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let all: Vec<f64> = decades.flat_map(|d| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(d))).collect();
        let mut ticks: Vec<f64> = all.iter().copied().filter(|tick| (low..=high).contains(tick)).collect();
        if ticks.len() > 9 {
            ticks.retain(|tick| (tick.log10() - tick.log10().round()).abs() < 1e-9);
        } else if ticks.len() < 3 {
            // Values close to each other: 1, 2 and 5 are too far apart to read anything between them.
            ticks = round_ticks(low, high, 4);
        }
        Self { low, high, ticks, log: true }
    }

    /// A tick's words: as many digits as neighbours need to differ; on a logarithmic axis as many as the tick itself has.
    pub fn label(&self, value: f64) -> String {
        if self.log {
            let is_whole = |decimals: &i32| {
                let scaled = value * 10f64.powi(*decimals);
                (scaled - scaled.round()).abs() < 1e-6 * scaled.abs()
            };
            let decimals = (0..8).find(is_whole).unwrap_or(8) as usize;
            return format!("{value:.decimals$}");
        }
        let step = self.ticks.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
        let step = if step.is_finite() && step > 0.0 { step } else { 1.0 };
        let decimals = (-step.log10().floor()).clamp(0.0, 8.0) as usize;
        format!("{value:.decimals$}")
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = if self.log {
            (value.max(1e-12) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        limit.0 + (share.clamp(-1.0, 2.0) * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

/// About `count` multiples of 1, 2 or 5 times a power of ten.
fn round_ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let rough = (high - low) / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= rough * 0.999).unwrap_or(power);
    let first = (low / step).ceil() as i64;
    (first..).map(|index| index as f64 * step).take_while(|tick| *tick <= high + step * 1e-6).take(50).collect()
}

/// Text in the page's font.
pub(super) fn text(size: i32, colour: &RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(colour)
}

/// The picture for the page: it scales with its column and takes the page's colours.
pub(super) fn finish(svg: &str, label: &str) -> String {
    let mut svg = svg.trim().to_owned();
    for (stand_in, colour) in PAGE_COLOURS {
        svg = svg.replace(stand_in, colour);
    }
    let label = label.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let size = |name: &str| {
        let rest = svg.split_once(&format!("{name}=\""))?.1;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let (width, height) = (size("width").unwrap_or_default(), size("height").unwrap_or_default());
    svg.replacen(&format!("width=\"{width}\" height=\"{height}\""), &format!("role=\"img\" aria-label=\"{label}\""), 1)
}

/// Wraps what the drawing library says.
pub(super) fn failed(error: impl std::fmt::Display) -> EvaluatorError {
    EvaluatorError::Report { problem: format!("plot: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(round_ticks(0.0, 100.0, 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(round_ticks(0.43, 0.62, 4), [0.45, 0.5, 0.55, 0.6].map(|x: f64| (x / 0.05).round() * 0.05));
        let axis = Axis::log([0.13, 2.7].into_iter());
        assert_eq!(axis.ticks, [0.1, 0.2, 0.5, 1.0, 2.0]);
        assert_eq!((axis.label(0.1), axis.label(2.0)), ("0.1".into(), "2".into()));
        let close = Axis::log([0.336, 0.365].into_iter());
        let labels: Vec<String> = close.ticks.iter().map(|tick| close.label(*tick)).collect();
        assert_eq!(labels, ["0.3", "0.4", "0.5"]);
    }

    #[test]
    fn nothing_to_draw_is_no_fault() {
        let axis = Axis::linear(std::iter::empty(), 5);
        assert!(axis.low < axis.high);
        let axis = Axis::log([f64::NAN, 0.0, -1.0].into_iter());
        assert!(axis.low < axis.high);
    }
}
