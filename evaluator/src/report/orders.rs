//! Where a decoder puts what the reference put at each rank, over all queries.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::evaluate::{FIRST_STAGE, PredictionLine};

/// Ranks shown at most.
const MAX_RANKS: usize = 25;
/// Shades of a cell.
const SHADES: u32 = 10;

/// Shares of queries by the rank an item has in the reference's order and in the decoder's.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderMap {
    /// What the order is of.
    pub decoder: String,
    /// Items of a list; maps show the first 25 ranks of longer ones.
    pub num_candidates: usize,
    /// Lists of that length, the most common one.
    pub num_queries: usize,
    /// Ranks shown.
    pub num_ranks: usize,
    /// `[num_ranks, num_ranks]`: rank in the reference, then rank in the decoder's order.
    pub shares: Vec<f64>,
}

/// Maps of one model on one set.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderMaps {
    /// Set and model.
    pub title: String,
    /// The decoder whose ranks the rows are.
    pub reference: String,
    /// One per other decoder, the candidates as they come first.
    pub maps: Vec<OrderMap>,
}

impl OrderMaps {
    /// Of one model's predictions on one set; none without lists of two or more that `reference` has ranked.
    #[must_use]
    pub fn of(title: String, reference: &str, lines: &[PredictionLine]) -> Option<Self> {
        let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
        for line in lines.iter().filter(|line| line.candidates.len() > 1 && order(line, reference).is_some()) {
            *lengths.entry(line.candidates.len()).or_default() += 1;
        }
        let (&length, _) = lengths.iter().max_by_key(|(length, count)| (**count, **length))?;
        let of_length: Vec<&PredictionLine> = lines.iter().filter(|line| line.candidates.len() == length).collect();
        let mut decoders = vec![FIRST_STAGE];
        for decoder in of_length.iter().flat_map(|line| &line.decoders) {
            if !decoders.contains(&decoder.decoder.as_str()) && decoder.decoder != reference {
                decoders.push(&decoder.decoder);
            }
        }
        let maps = decoders.into_iter().filter_map(|decoder| OrderMap::of(decoder, reference, length, &of_length));
        Some(Self { title, reference: reference.to_owned(), maps: maps.collect() })
    }
}

/// Candidate indices, best first; those of the list itself for the first stage.
fn order(line: &PredictionLine, decoder: &str) -> Option<Vec<u16>> {
    if decoder == FIRST_STAGE {
        return Some((0..line.candidates.len() as u16).collect());
    }
    let found = line.decoders.iter().find(|own| own.decoder == decoder)?;
    (found.ranking.order.len() == line.candidates.len()).then(|| found.ranking.order.clone())
}

impl OrderMap {
    fn of(decoder: &str, reference: &str, num_candidates: usize, lines: &[&PredictionLine]) -> Option<Self> {
        let num_ranks = num_candidates.min(MAX_RANKS);
        let mut counts = vec![0usize; num_ranks * num_ranks];
        let mut num_queries: u32 = 0;
        for line in lines {
            let (Some(wanted), Some(own)) = (order(line, reference), order(line, decoder)) else { continue };
            let mut rank_of = vec![usize::MAX; num_candidates];
            for (rank, item) in own.iter().enumerate() {
                *rank_of.get_mut(usize::from(*item))? = rank;
            }
            for (rank, item) in wanted.iter().take(num_ranks).enumerate() {
                if let Some(own) = rank_of.get(usize::from(*item)).filter(|own| **own < num_ranks) {
                    counts[rank * num_ranks + own] += 1;
                }
            }
            num_queries += 1;
        }
        let shares = counts.into_iter().map(|count| count as f64 / f64::from(num_queries.max(1))).collect();
        let num_queries = num_queries as usize;
        let decoder = if decoder == FIRST_STAGE { "candidates as they come" } else { decoder };
        (num_queries > 0).then(|| Self { decoder: decoder.to_owned(), num_candidates, num_queries, num_ranks, shares })
    }

    /// Share of the first ranks' items that stay where the reference has them.
    #[must_use]
    pub fn kept(&self) -> f64 {
        let diagonal = (0..self.num_ranks).map(|rank| self.shares[rank * self.num_ranks + rank]);
        diagonal.sum::<f64>() / self.num_ranks as f64
    }

    /// The map as SVG: rows are the reference's ranks, columns the decoder's; one path a shade, neighbours together, keeps it small.
    #[must_use]
    pub fn picture(&self) -> String {
        let side = self.num_ranks;
        let mut shades: BTreeMap<u32, String> = BTreeMap::new();
        // A square root shows small shares too.
        let shade_of = |share: &f64| (share.sqrt() * f64::from(SHADES)).round() as u32;
        for (y, row) in self.shares.chunks(side).enumerate() {
            let mut x = 0;
            for run in row.chunk_by(|a, b| shade_of(a) == shade_of(b)) {
                let (shade, width) = (shade_of(&run[0]), run.len());
                if shade > 0 {
                    let _ = write!(shades.entry(shade).or_default(), "M{x} {y}h{width}v1h-{width}z");
                }
                x += width;
            }
        }
        let mut paths = String::new();
        for (shade, path) in shades {
            let opacity = f64::from(shade) / f64::from(SHADES);
            let _ = write!(paths, r#"<path d="{path}" fill-opacity="{opacity:.1}"/>"#);
        }
        let title = self.decoder.replace('&', "&amp;").replace('<', "&lt;");
        let kept = 100.0 * self.kept();
        format!(
            r#"<svg class="orders" viewBox="-0.5 -0.5 {box_side} {box_side}" role="img" shape-rendering="crispEdges" xmlns="http://www.w3.org/2000/svg"><title>{title}</title><desc>{kept:.0} % of the items stand at the reference's rank.</desc><rect width="{side}" height="{side}" fill="none" stroke="var(--line,#ccc)" stroke-width="0.1"/><g fill="var(--series-1,#2563c9)">{paths}</g></svg>"#,
            box_side = side + 1,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::decoder_line;

    fn line(id: usize, orders: &[(&str, &[u16])]) -> PredictionLine {
        PredictionLine {
            content_key: String::new(),
            query_id: format!("q{id}"),
            candidates: (0..orders[0].1.len()).map(|d| format!("d{d}")).collect(),
            decoders: orders.iter().map(|(name, order)| decoder_line(name, order.to_vec())).collect(),
        }
    }

    #[test]
    fn an_item_is_counted_at_both_ranks() {
        let lines = [
            line(0, &[("full", &[2, 0, 1]), ("fast", &[2, 1, 0])]),
            line(1, &[("full", &[0, 1, 2]), ("fast", &[0, 1, 2])]),
            line(2, &[("full", &[1, 0]), ("fast", &[0, 1])]),
        ];
        let maps = OrderMaps::of("set".into(), "full", &lines).unwrap();
        let names: Vec<&str> = maps.maps.iter().map(|map| map.decoder.as_str()).collect();
        assert_eq!(names, ["candidates as they come", "fast"]);
        let fast = &maps.maps[1];
        assert_eq!((fast.num_candidates, fast.num_queries), (3, 2));
        assert_eq!(fast.shares, [1.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.5, 0.5]);
        assert!((fast.kept() - 2.0 / 3.0).abs() < 1e-12);
        let svg = fast.picture();
        assert!(svg.contains("67 % of the items") && svg.contains("M0 0h1v1h-1z"), "{svg}");
        // Rows of shares add up to 1: every item has a place.
        let first_stage = &maps.maps[0].shares;
        assert!(first_stage.chunks(3).all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-12), "{first_stage:?}");
    }

    #[test]
    fn without_a_reference_there_is_no_map() {
        assert!(OrderMaps::of("set".into(), "full", &[line(0, &[("fast", &[1, 0])])]).is_none());
        assert!(OrderMaps::of("set".into(), "full", &[]).is_none());
    }
}
