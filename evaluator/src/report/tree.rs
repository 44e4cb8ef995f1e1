//! Who sees whom in ONE-PASS's tree, as a picture.

use std::fmt::Write as _;

use model::one_pass::CandidateTree;

use super::Layout;

/// Side of the tree's square in the picture's own units.
const SIDE: f64 = 600.0;
/// Width of the prompt, which all see; it is not to scale.
const PROMPT: f64 = 54.0;

/// Subsets of candidates, each begun by the one it hangs on, row sees column. Colours follow the page; a picture by itself has colours of its own.
#[must_use]
pub fn tree_picture(tree: &CandidateTree, title: &str) -> Layout {
    // Sorted, a subset stands behind those it begins with.
    let mut nodes: Vec<&[u16]> = tree.nodes().iter().filter(|node| !node.is_empty()).map(Vec::as_slice).collect();
    nodes.sort_unstable();
    let place = |slots: &[u16]| nodes.binary_search(&slots).ok();
    let cell = SIDE / nodes.len().max(1) as f64;
    let left = PROMPT + 4.0;
    let (mut ancestors, mut own) = (String::new(), String::new());
    for (row, node) in nodes.iter().enumerate() {
        let y = row as f64 * cell;
        let square = |path: &mut String, column: usize| {
            let x = left + column as f64 * cell;
            let _ = write!(path, "M{x:.1} {y:.1}h{cell:.2}v{cell:.2}h-{cell:.2}z");
        };
        (1..node.len()).filter_map(|length| place(&node[..length])).for_each(|column| square(&mut ancestors, column));
        square(&mut own, row);
    }
    let (width, count) = (SIDE + left, nodes.len());
    let depth = nodes.iter().map(|node| node.len()).max().unwrap_or(0);
    let escaped = title.replace('&', "&amp;").replace('<', "&lt;");
    let svg = format!(
        r#"<svg class="mask" viewBox="0 0 {width} {SIDE}" role="img" xmlns="http://www.w3.org/2000/svg"><title>{escaped}</title><desc>Attention of {count} subsets of at most {depth} candidates: each sees the prompt, the subsets it begins with and itself.</desc><style>{STYLE}</style><rect class="seen-prompt" x="0" y="0" width="{PROMPT}" height="{SIDE}"/><path class="seen-ancestors" d="{ancestors}"/><path class="seen-self" d="{own}"/></svg>"#
    );
    let caption = format!(
        "row: one of {count} subsets of candidates, read together; column: a subset it begins with, which it sees; left: the prompt, which all see (not to scale)"
    );
    Layout { title: title.to_owned(), caption, svg }
}

const STYLE: &str = ".mask .seen-prompt{fill:var(--grid,#ccd)}.mask .seen-ancestors{fill:var(--series-1,#47a)}.mask .seen-self{fill:var(--ink,#111)}";

#[cfg(test)]
mod tests {
    use super::*;
    use model::one_pass::Groups;

    #[test]
    fn a_subset_sees_what_it_begins_with_and_itself() {
        // Two groups of two, and two dual groups: {0,1} {2,3} {3,0} {1,2}, so 4 single candidates and 4 pairs.
        let tree = CandidateTree::subsets(&Groups::new(4, 2).unwrap());
        let layout = tree_picture(&tree, "a < b");
        let squares = |class: &str| {
            let path = layout.svg.split(&format!("class=\"{class}\" d=\"")).nth(1).unwrap();
            path.split('"').next().unwrap().matches('z').count()
        };
        assert_eq!((squares("seen-self"), squares("seen-ancestors")), (8, 4));
        assert!(layout.svg.contains("8 subsets of at most 2 candidates") && layout.svg.contains("a &lt; b"));
    }
}
