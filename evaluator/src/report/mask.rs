//! Who sees whom in columns, as a picture.

use std::fmt::Write as _;

use model::ColumnLayout;

/// Side of the picture in its own units.
const SIDE: f64 = 640.0;
/// Width of the strip that shows the branches.
const STRIP: f64 = 14.0;

/// Rows are tokens that see, columns tokens that are seen, both in linear order; the strip on the left shows the row's branch.
/// Colours follow the page; a picture by itself has colours of its own.
#[must_use]
pub fn mask_picture(layout: &ColumnLayout, title: &str) -> String {
    let places = layout.places();
    let cell = SIDE / places.len().max(1) as f64;
    let mut rows = String::new();
    let mut earlier = 0;
    for (row, place) in places.iter().enumerate() {
        if row > 0 && places[row - 1].column < place.column {
            earlier = row;
        }
        let y = row as f64 * cell;
        let mut rect = |class: &str, from: f64, to: f64| {
            if to > from {
                let (x, width) = (STRIP + 4.0 + from * cell, (to - from) * cell);
                let _ = write!(
                    rows,
                    r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{cell:.1}"/>"#
                );
            }
        };
        let background = layout.background().min(earlier) as f64;
        rect("seen-background", 0.0, background);
        rect("seen-branches", background, earlier as f64);
        rect("seen-self", row as f64, row as f64 + 1.0);
        let series = place.branch % 6 + 1;
        let _ = write!(rows, r#"<rect class="branch-{series}" x="0" y="{y:.1}" width="{STRIP}" height="{cell:.1}"/>"#);
    }
    let (branches, tokens) = (layout.branches().len(), places.len());
    let width = SIDE + STRIP + 4.0;
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        r#"<svg class="mask" viewBox="0 0 {width} {SIDE}" role="img" xmlns="http://www.w3.org/2000/svg"><title>{title}</title><desc>Attention of {tokens} tokens: a background of {background} and {branches} branches. A token sees all tokens of earlier columns and itself.</desc><style>{STYLE}</style>{rows}</svg>"#,
        background = layout.background(),
    )
}

const STYLE: &str = ".mask .seen-background{fill:var(--grid,#ccd)}.mask .seen-branches{fill:var(--series-1,#47a)}.mask .seen-self{fill:var(--ink,#111)}\
.mask .branch-1{fill:var(--muted,#999)}.mask .branch-2{fill:var(--series-1,#47a)}.mask .branch-3{fill:var(--series-2,#e67)}\
.mask .branch-4{fill:var(--series-3,#283)}.mask .branch-5{fill:var(--series-4,#cb4)}.mask .branch-6{fill:var(--series-5,#6ce)}";

#[cfg(test)]
mod tests {
    use super::*;
    use model::{BranchAlignment, BranchLength};

    #[test]
    fn every_token_sees_itself_and_rows_end_where_columns_do() {
        let branch = |prompt, answer| BranchLength { prompt, answer };
        let layout = ColumnLayout::new(3, &[branch(2, 1), branch(1, 1)], BranchAlignment::Prompts);
        let svg = mask_picture(&layout, "a < b");
        assert_eq!(svg.matches("seen-self\"").count(), 8);
        // first token of the background sees nothing earlier
        assert_eq!(svg.matches("seen-background\"").count(), 7);
        // two tokens of the second column of branches and two of the third see branches
        assert_eq!(svg.matches("seen-branches\"").count(), 4);
        assert!(svg.contains("a &lt; b") && svg.contains("8 tokens: a background of 3 and 2 branches"));
    }
}
