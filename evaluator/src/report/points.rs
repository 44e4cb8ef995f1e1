//! Quality against latency: a labelled point per system, the Pareto front through those that no other beats on both.

use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Serialize;

use super::TradeOff;
use super::plot::{Axis, GRID, INK, MUTED, SERIES, failed, finish, text};
use crate::EvaluatorError;
use crate::evaluate::{RowEvaluation, SetEvaluation};
use crate::measures::RankingMeasure;
use crate::stats::Interval;

const WIDTH: u32 = 860;
/// Of a plot whose labels have room; [`height`] gives more of them more.
const HEIGHT: u32 = 400;
/// Half the height of a label and the width of a letter in it, in pixels.
const LABEL: (i32, i32) = (8, 7);
/// A label further above or below its point than this many pixels is tied to it by a line.
const NEAR: i32 = 20;

/// A system.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelledPoint {
    /// Model and decoder.
    pub label: String,
    /// Points of one group share a colour.
    pub group: String,
    /// Median seconds a query or text.
    pub seconds: f64,
    /// Mean of the measure.
    pub value: f64,
    /// Its bootstrap interval.
    pub interval: Option<Interval>,
}

/// More points than this in one plot leave no room for their names.
const MOST_POINTS: usize = 16;

/// Points of all models and decoders on one set: one plot, or one for each model where they are too many to be named in one; none
/// where the set has no judgements.
#[must_use]
pub fn points_of(evaluations: &[SetEvaluation], set: &str, measure: RankingMeasure) -> Vec<TradeOff> {
    let of_set: Vec<&SetEvaluation> = evaluations.iter().filter(|evaluation| evaluation.set == set).collect();
    let all = trade_off(&of_set, set, measure);
    if all.points.is_empty() {
        return Vec::new();
    }
    if of_set.len() < 2 || all.points.len() <= MOST_POINTS {
        return vec![all];
    }
    let of_model = |one: &&SetEvaluation| trade_off(&[*one], &format!("{set}, {}", one.model), measure);
    of_set.iter().map(of_model).collect()
}

fn trade_off(evaluations: &[&SetEvaluation], name: &str, measure: RankingMeasure) -> TradeOff {
    let several = evaluations.len() > 1;
    let mut points = Vec::new();
    for evaluation in evaluations {
        for row in &evaluation.rows {
            let (Some(cost), Some(value)) = (&row.cost, row.values.get(&measure)) else { continue };
            points.push(LabelledPoint {
                label: if several { format!("{} · {}", evaluation.model, row.decoder) } else { row.decoder.clone() },
                group: evaluation.model.clone(),
                seconds: cost.latency.median,
                value: value.mean,
                interval: Some(value.interval),
            });
        }
    }
    let first_stage = evaluations.first().and_then(|one| one.first_stage.values.get(&measure)).map(|v| v.mean);
    TradeOff { set: name.to_owned(), measure: measure.label(), points, first_stage }
}

/// Points of a model's decoders on a set by the share of candidate pairs they keep in the reference decoder's order; one plot per model and
/// set with a reference.
#[must_use]
pub fn fidelity_points_of(evaluation: &SetEvaluation) -> Option<TradeOff> {
    let reference = evaluation.reference_decoder.as_ref()?;
    let point = |row: &RowEvaluation| {
        let (cost, kept) = (row.cost.as_ref()?, row.fidelity.get("ranking")?);
        Some(LabelledPoint {
            label: row.decoder.clone(),
            group: evaluation.model.clone(),
            seconds: cost.latency.median,
            value: kept.mean,
            interval: Some(kept.interval),
        })
    };
    let points: Vec<LabelledPoint> = evaluation.rows.iter().filter_map(point).collect();
    let set = format!("{}, {}", evaluation.set, evaluation.model);
    let measure = format!("Pairs in the order of {reference}");
    (!points.is_empty()).then_some(TradeOff { set, measure, points, first_stage: None })
}

/// Points that no other is both faster and better than, fastest first.
fn pareto_front(points: &[LabelledPoint]) -> Vec<&LabelledPoint> {
    let mut sorted: Vec<&LabelledPoint> = points.iter().collect();
    sorted.sort_by(|a, b| a.seconds.total_cmp(&b.seconds).then(b.value.total_cmp(&a.value)));
    let mut front: Vec<&LabelledPoint> = Vec::new();
    for point in sorted {
        if front.last().is_none_or(|best| point.value > best.value) {
            front.push(point);
        }
    }
    front
}

/// Pixels: more than [`MOST_POINTS`] want room for their names.
fn height(points: usize) -> u32 {
    HEIGHT + 30 * points.saturating_sub(MOST_POINTS - 4) as u32
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// Draws the plot.
pub(super) fn plot(trade_off: &TradeOff) -> Result<String, EvaluatorError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height(trade_off.points.len()))).into_drawing_area();
        let points = &trade_off.points;
        let first_stage = trade_off.first_stage.map(|value| FirstStage::beside(points, value));
        let y = Axis::linear(ends_of(points).chain(first_stage.iter().filter_map(FirstStage::on_axis)), 6);
        let x = Axis::log(points.iter().map(|point| point.seconds));
        let (x_words, y_words) = (x.clone(), y.clone());
        let mut chart = ChartBuilder::on(&area)
            .margin_right(20)
            .margin_top(10)
            .x_label_area_size(42)
            .y_label_area_size(58)
            .build_cartesian_2d(x, y)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(text(13, &MUTED))
            .axis_desc_style(text(13, &MUTED))
            .x_desc("median seconds (logarithmic)")
            .y_desc(&trade_off.measure)
            .x_label_formatter(&|value| x_words.label(*value))
            .y_label_formatter(&|value| y_words.label(*value))
            .draw()
            .map_err(failed)?;
        if let Some(first_stage) = first_stage {
            draw_first_stage(&mut chart, first_stage, &x_words, &y_words)?;
        }
        draw_front(&mut chart, points, x_words.high)?;
        draw_points(&mut chart, points)?;
        area.present().map_err(failed)?;
    }
    Ok(finish(&svg, &format!("{} against latency on {}", trade_off.measure, trade_off.set)))
}

/// Where the order that all systems start from stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum FirstStage {
    /// On the axis.
    Near(f64),
    /// Further from the points than they are from each other: an axis that holds it would lay them all on one line.
    Above(f64),
    /// Likewise.
    Below(f64),
}

impl FirstStage {
    fn beside(points: &[LabelledPoint], value: f64) -> Self {
        let (low, high) = ends_of(points).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let spread = high - low;
        if spread > 0.0 && value > high + spread {
            Self::Above(value)
        } else if spread > 0.0 && value < low - spread {
            Self::Below(value)
        } else {
            Self::Near(value)
        }
    }

    fn on_axis(&self) -> Option<f64> {
        if let Self::Near(value) = self { Some(*value) } else { None }
    }
}

/// Values of points and ends of their intervals.
fn ends_of(points: &[LabelledPoint]) -> impl Iterator<Item = f64> {
    points.iter().flat_map(|p| p.interval.map_or([p.value; 2], |i| [i.low, i.high]))
}

/// A line at its value, or words at the edge that it lies beyond.
fn draw_first_stage(chart: &mut Chart, first_stage: FirstStage, x: &Axis, y: &Axis) -> Result<(), EvaluatorError> {
    let (at, words, rise, side) = match first_stage {
        FirstStage::Near(value) => (value, "first stage".to_owned(), -4, VPos::Bottom),
        FirstStage::Above(value) => (y.high, format!("first stage, above: {value:.3}"), 6, VPos::Top),
        FirstStage::Below(value) => (y.low, format!("first stage, below: {value:.3}"), -6, VPos::Bottom),
    };
    if first_stage.on_axis().is_some() {
        let line = DashedPathElement::new([(x.low, at), (x.high, at)], 6, 5, MUTED.stroke_width(1));
        chart.draw_series([line]).map_err(failed)?;
    }
    let style = text(12, &MUTED).pos(Pos::new(HPos::Left, side));
    let label = EmptyElement::at((x.low, at)) + Text::new(words, (6, rise), style);
    chart.draw_series([label]).map_err(failed)?;
    Ok(())
}

/// The Pareto front, as steps.
fn draw_front(chart: &mut Chart, points: &[LabelledPoint], right: f64) -> Result<(), EvaluatorError> {
    let front = pareto_front(points);
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for point in &front {
        if let Some(last) = steps.last().copied() {
            steps.push((point.seconds, last.1));
        }
        steps.push((point.seconds, point.value));
    }
    if let Some(last) = steps.last().copied() {
        steps.push((right, last.1));
    }
    chart.draw_series(LineSeries::new(steps, INK.mix(0.35).stroke_width(2))).map_err(failed)?;
    Ok(())
}

fn draw_points(chart: &mut Chart, points: &[LabelledPoint]) -> Result<(), EvaluatorError> {
    let mut groups: Vec<&str> = Vec::new();
    let mut taken: Vec<(i32, i32, i32, i32)> =
        points.iter().map(|p| around(chart.backend_coord(&(p.seconds, p.value)))).collect();
    for point in points {
        let group = groups.iter().position(|group| *group == point.group).unwrap_or_else(|| {
            groups.push(&point.group);
            groups.len() - 1
        });
        let colour = SERIES[group % SERIES.len()];
        if let Some(interval) = point.interval {
            let ends = [(point.seconds, interval.low), (point.seconds, interval.high)];
            chart.draw_series([PathElement::new(ends, colour.mix(0.55).stroke_width(2))]).map_err(failed)?;
        }
        chart.draw_series([Circle::new((point.seconds, point.value), 6, colour.filled())]).map_err(failed)?;
        let at = chart.backend_coord(&(point.seconds, point.value));
        let (offset, side) = free_place(at, &point.label, &taken, height(points.len()));
        taken.push(label_box(at, offset, side, &point.label));
        if offset.1.abs() > NEAR {
            let leader = PathElement::new(vec![(0, 0), offset], MUTED.stroke_width(1));
            chart.draw_series([EmptyElement::at((point.seconds, point.value)) + leader]).map_err(failed)?;
        }
        let style = text(13, &INK).pos(Pos::new(side, VPos::Center));
        let label = EmptyElement::at((point.seconds, point.value)) + Text::new(point.label.clone(), offset, style);
        chart.draw_series([label]).map_err(failed)?;
    }
    Ok(())
}

fn around(at: (i32, i32)) -> (i32, i32, i32, i32) {
    (at.0 - 7, at.1 - 7, at.0 + 7, at.1 + 7)
}

/// (left, top, right, bottom) of a label.
fn label_box(at: (i32, i32), offset: (i32, i32), side: HPos, label: &str) -> (i32, i32, i32, i32) {
    let width = LABEL.1 * label.chars().count() as i32;
    let left = at.0 + offset.0 - if matches!(side, HPos::Right) { width } else { 0 };
    (left, at.1 + offset.1 - LABEL.0, left + width, at.1 + offset.1 + LABEL.0)
}

/// First place around a point where its label covers nothing and stays in the picture.
fn free_place(at: (i32, i32), label: &str, taken: &[(i32, i32, i32, i32)], height: u32) -> ((i32, i32), HPos) {
    // above or below first: the front runs level through its points
    let rises = [-14, 14, -28, 28, 0, -44, 44, -60, 60, -76, 76, -92, 92];
    let places = rises.iter().flat_map(|rise| [((12, *rise), HPos::Left), ((-12, *rise), HPos::Right)]);
    let free = |(offset, side): &((i32, i32), HPos)| {
        let own = label_box(at, *offset, *side, label);
        let inside = own.0 > 60 && own.2 < WIDTH as i32 - 6 && own.1 > 4 && own.3 < height as i32 - 46;
        let clear =
            |other: &(i32, i32, i32, i32)| own.2 < other.0 || other.2 < own.0 || own.3 < other.1 || other.3 < own.1;
        inside && taken.iter().all(clear)
    };
    let beside = if at.0 > WIDTH as i32 / 2 { ((-12, 0), HPos::Right) } else { ((12, 0), HPos::Left) };
    places.into_iter().find(free).unwrap_or(beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(label: &str, seconds: f64, value: f64) -> LabelledPoint {
        LabelledPoint { label: label.into(), group: "m".into(), seconds, value, interval: None }
    }

    #[test]
    fn the_front_holds_what_nothing_beats() {
        let points = [
            point("slow best", 5.0, 0.7),
            point("beaten", 2.0, 0.4),
            point("fast", 0.5, 0.5),
            point("middle", 1.0, 0.6),
        ];
        let front: Vec<_> = pareto_front(&points).iter().map(|p| p.label.as_str()).collect();
        assert_eq!(front, ["fast", "middle", "slow best"]);
    }

    #[test]
    fn a_first_stage_far_away_does_not_flatten_the_points() {
        let points = vec![point("a", 0.1, 0.21), point("b", 2.0, 0.24)];
        assert_eq!(FirstStage::beside(&points, 0.25), FirstStage::Near(0.25));
        assert_eq!(FirstStage::beside(&points, 0.78), FirstStage::Above(0.78));
        assert_eq!(FirstStage::beside(&points, 0.1), FirstStage::Below(0.1));
        assert_eq!(FirstStage::beside(&points[..1], 0.78), FirstStage::Near(0.78), "one point has no spread");
        let trade_off = TradeOff { set: "s".into(), measure: "nDCG@10".into(), points, first_stage: Some(0.78) };
        let svg = plot(&trade_off).unwrap();
        assert!(svg.contains("first stage, above: 0.780") && !svg.contains("0.80"), "{svg}");
    }

    #[test]
    fn labels_of_close_points_do_not_meet() {
        let mut taken = vec![around((300, 200)), around((306, 203))];
        let first = free_place((300, 200), "autoregressive", &taken, HEIGHT);
        taken.push(label_box((300, 200), first.0, first.1, "autoregressive"));
        let second = free_place((306, 203), "single_token", &taken, HEIGHT);
        let second = label_box((306, 203), second.0, second.1, "single_token");
        let first = taken[2];
        assert!(first.2 < second.0 || second.2 < first.0 || first.3 < second.1 || second.3 < first.1);
    }

    #[test]
    fn labels_far_from_their_point_are_tied_to_it_by_a_line() {
        let leaders = |points: Vec<LabelledPoint>| {
            let trade_off = TradeOff { set: "s".into(), measure: "nDCG@10".into(), points, first_stage: None };
            let svg = plot(&trade_off).unwrap();
            svg.split('<').filter(|tag| tag.starts_with("polyline") && tag.contains("stroke=\"var(--muted)\"")).count()
        };
        assert_eq!(leaders(vec![point("a", 0.1, 0.5), point("b", 2.0, 0.6)]), 0);
        let crowd = (0..6).map(|n| point(&format!("decoder {n}"), 1.0 + 0.001 * f64::from(n), 0.5)).collect();
        assert!(leaders(crowd) >= 2, "two labels a side find room near the points");
    }

    #[test]
    fn a_plot_names_every_point_and_is_self_contained() {
        let points = vec![point("a <b>", 0.1, 0.5), point("c", 2.0, 0.6)];
        let trade_off = TradeOff { set: "dl21".into(), measure: "nDCG@10".into(), points, first_stage: Some(0.4458) };
        let svg = plot(&trade_off).unwrap();
        assert!(svg.contains("a &lt;b&gt;") && svg.contains("first stage") && svg.contains("var(--series-1)"), "{svg}");
        assert!(!svg.contains("http://") || svg.matches("http://").count() == svg.matches("http://www.w3.org").count());
    }
}
