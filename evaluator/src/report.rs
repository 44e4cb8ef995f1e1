//! One self-contained HTML page: no script, no font, no picture from elsewhere. Everything is there without its script, which sorts,
//! filters and keeps figures.

mod curves;
mod differences;
mod html_table;
mod mask;
mod orders;
mod plot;
mod points;
#[cfg(test)]
mod tests;
mod tree;

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, HtmlEscape, context};
use serde::Serialize;

pub use curves::{Curve, StageCurves};
pub use differences::{AnsweredQuestion, QueryDifferences, Side};
pub use mask::mask_picture;
pub use orders::{OrderMap, OrderMaps};
pub use points::{LabelledPoint, fidelity_points_of, points_of};
pub use tree::tree_picture;

use crate::EvaluatorError;
use crate::table::Table;

/// All a report shows. Sections without content are left out.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Name of the experiment.
    pub title: String,
    /// A sentence or two under the title.
    pub summary: String,
    /// Key figures at the top.
    pub headlines: Vec<Headline>,
    /// What a reader must know before trusting the figures: overlap of training and evaluation queries, ...
    pub warnings: Vec<String>,
    /// Loss curves, a plot per stage.
    pub stages: Vec<StageCurves>,
    /// Quality against latency, a plot per set.
    pub trade_offs: Vec<TradeOff>,
    /// Where a system wins and loses, a table per set.
    pub differences: Vec<QueryDifferences>,
    /// Where decoders put the reference's ranks, per model and set.
    pub orders: Vec<OrderMaps>,
    /// Pictures of who sees whom.
    pub layouts: Vec<Layout>,
    /// Tables; the first opens the page.
    pub tables: Vec<Table>,
    /// Data sets.
    pub cards: Vec<DataCard>,
    /// Resolved experiment file.
    pub config: String,
    /// Versions, threads, command line, dates: shown in order.
    pub environment: Vec<(String, String)>,
}

/// A figure at the top.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Headline {
    /// Big: `0.83`.
    pub figure: String,
    /// Under it: `nDCG@10 of FIRST`.
    pub label: String,
    /// Small: `first stage 0.51`.
    pub detail: String,
}

/// One accuracy-latency plot.
#[derive(Debug, Clone, PartialEq)]
pub struct TradeOff {
    /// Set, or what else the systems have in common: the plot's name.
    pub set: String,
    /// Name of the measure on the vertical axis.
    pub measure: String,
    /// Systems.
    pub points: Vec<LabelledPoint>,
    /// Value of the candidates as they come, drawn as a line.
    pub first_stage: Option<f64>,
}

/// A picture of who sees whom.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layout {
    /// Heading.
    pub title: String,
    /// What rows and columns are.
    pub caption: String,
    /// The picture.
    pub svg: String,
}

/// What a set holds and what was dropped.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DataCard {
    /// Set.
    pub name: String,
    /// `train`, `evaluate`, ...
    pub role: String,
    /// Kind and place of the source.
    pub source: String,
    /// Counts and notes, in order.
    pub facts: Vec<(String, String)>,
}

impl Report {
    /// The page.
    ///
    /// # Errors
    /// A plot or the template that cannot be rendered.
    pub fn render(&self) -> Result<String, EvaluatorError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
        environment.set_syntax(syntax);
        environment.add_filter("prose", prose);
        environment.add_filter("breakable", breakable);
        // the name's ending turns on escaping
        environment.add_template("report.html", include_str!("report/template.html")).map_err(failed)?;
        let stages = self.stages.iter().map(|stage| Ok((stage.name.clone(), stage.facts(), stage.plots()?)));
        let stages = stages.collect::<Result<Vec<_>, EvaluatorError>>()?;
        let trade_offs = self.trade_offs.iter().map(|t| Ok((t.set.clone(), t.measure.clone(), points::plot(t)?)));
        let trade_offs = trade_offs.collect::<Result<Vec<_>, EvaluatorError>>()?;
        let tables: Vec<_> = self.tables.iter().filter(|table| !table.rows.is_empty()).map(html_table::view).collect();
        let orders: Vec<OrderMapsView<'_>> = self.orders.iter().map(OrderMapsView::of).collect();
        let template = environment.get_template("report.html").map_err(failed)?;
        let page = template.render(context! {
            title => Serde(&self.title),
            summary => Serde(&self.summary),
            headlines => Serde(&self.headlines),
            warnings => Serde(&self.warnings),
            stages => Serde(&stages),
            trade_offs => Serde(&trade_offs),
            differences => Serde(&self.differences),
            orders => Serde(&orders),
            layouts => Serde(&self.layouts),
            tables => Serde(&tables),
            cards => Serde(&self.cards),
            config => Serde(&self.config),
            environment => Serde(&self.environment),
            style => include_str!("report/style.css"),
            script => include_str!("report/page.js"),
        });
        page.map_err(failed)
    }

    /// Writes the page, whole or not at all.
    ///
    /// # Errors
    /// As [`Self::render`]; the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), EvaluatorError> {
        Ok(data::files::write_whole(path, self.render()?.as_bytes())?)
    }
}

/// A text of tables and notes as HTML: what stands between backticks is code, as in their Markdown.
fn prose(text: &str) -> Value {
    let parts: Vec<String> = text.split('`').map(|part| HtmlEscape(part).to_string()).collect();
    // An even number of backticks leaves an odd number of parts.
    if parts.len().is_multiple_of(2) {
        return Value::from_safe_string(parts.join("`"));
    }
    let spelled = parts.into_iter().enumerate();
    let spelled = spelled.map(|(place, part)| if place % 2 == 0 { part } else { format!("<code>{part}</code>") });
    Value::from_safe_string(spelled.collect())
}

/// A name as HTML that may go on in the next line behind its underscores and commas.
fn breakable(text: &str) -> Value {
    let escaped = HtmlEscape(text).to_string();
    Value::from_safe_string(escaped.replace('_', "_<wbr>").replace(',', ",<wbr>"))
}

/// Maps as the template wants them.
#[derive(Serialize)]
struct OrderMapsView<'a> {
    title: &'a str,
    reference: &'a str,
    maps: Vec<OrderMapView<'a>>,
}

#[derive(Serialize)]
struct OrderMapView<'a> {
    decoder: &'a str,
    svg: String,
    kept: String,
    num_queries: usize,
    num_candidates: usize,
    num_ranks: usize,
}

impl<'a> OrderMapsView<'a> {
    fn of(maps: &'a OrderMaps) -> Self {
        let view = |map: &'a OrderMap| OrderMapView {
            decoder: &map.decoder,
            svg: map.picture(),
            kept: format!("{:.0}", 100.0 * map.kept()),
            num_queries: map.num_queries,
            num_candidates: map.num_candidates,
            num_ranks: map.num_ranks,
        };
        Self { title: &maps.title, reference: &maps.reference, maps: maps.maps.iter().map(view).collect() }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "used as a function of the error in map_err")]
fn failed(error: minijinja::Error) -> EvaluatorError {
    EvaluatorError::Report { problem: format!("{error:#}") }
}
