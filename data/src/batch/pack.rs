//! Samples end to end in one row.

use tch::Tensor;

use super::{MicroBatch, RankTarget, TokenizedSample};

/// Packs samples, in their order, into rows of at most `max_samples` samples and `max_tokens` tokens. A sample longer
/// than `max_tokens` gets a row of its own (the loader keeps such samples out).
#[must_use]
pub fn pack(samples: &[TokenizedSample], max_samples: usize, max_tokens: usize) -> Vec<MicroBatch> {
    let mut rows = Vec::new();
    let mut start = 0;
    let mut tokens = 0;
    for (place, sample) in samples.iter().enumerate() {
        let length = sample.input_ids.len();
        let full = place - start >= max_samples.max(1) || tokens + length > max_tokens;
        if full && place > start {
            rows.push(row(&samples[start..place]));
            start = place;
            tokens = 0;
        }
        tokens += length;
    }
    if start < samples.len() {
        rows.push(row(&samples[start..]));
    }
    rows
}

fn row(samples: &[TokenizedSample]) -> MicroBatch {
    let mut input_ids = Vec::new();
    let mut cu_seqlens = vec![0];
    let mut label_rows = Vec::new();
    let mut labels = Vec::new();
    let mut rankings = Vec::new();
    for sample in samples {
        let offset = input_ids.len();
        for (row, learned) in &sample.targets {
            label_rows.push((offset + row) as i64);
            labels.push(sample.input_ids[*learned]);
        }
        rankings.extend(sample.rank.as_ref().map(|rank| RankTarget { row: rank.row + offset as i64, ..rank.clone() }));
        input_ids.extend_from_slice(&sample.input_ids);
        cu_seqlens.push(input_ids.len() as i64);
    }
    MicroBatch {
        input_ids: Tensor::from_slice(&input_ids).unsqueeze(0),
        cu_seqlens,
        label_rows: Tensor::from_slice(&label_rows),
        labels: Tensor::from_slice(&labels),
        rankings,
        query_ids: samples.iter().map(|sample| sample.query_id.clone()).collect(),
        layouts: samples.iter().filter_map(|sample| sample.columns.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(id: &str, tokens: std::ops::Range<i64>, label_start: usize) -> TokenizedSample {
        let rank = Some(RankTarget { row: label_start as i64, identifier_ids: vec![1, 2], ranks: vec![2, 1] });
        let input_ids: Vec<i64> = tokens.collect();
        let targets = TokenizedSample::from_place(label_start, input_ids.len());
        TokenizedSample { query_id: id.into(), input_ids, targets, rank, columns: None }
    }

    #[test]
    fn rows_labels_and_ranking_targets_line_up() {
        let rows = pack(&[sample("a", 0..5, 3), sample("b", 10..14, 2), sample("c", 20..30, 9)], 2, 100);
        assert_eq!(rows.len(), 2);
        let first = &rows[0];
        assert_eq!(first.input_ids.size(), [1, 9]);
        assert_eq!(first.cu_seqlens, [0, 5, 9]);
        assert_eq!(Vec::<i64>::try_from(&first.label_rows).unwrap(), [2, 3, 6, 7]);
        assert_eq!(Vec::<i64>::try_from(&first.labels).unwrap(), [3, 4, 12, 13]);
        assert_eq!(first.rankings.iter().map(|rank| rank.row).collect::<Vec<_>>(), [3, 7]);
        assert_eq!(first.query_ids, ["a", "b"]);
        assert_eq!(rows[1].num_labels(), 1);
    }

    #[test]
    fn tokens_bound_a_row() {
        let samples = [sample("a", 0..6, 3), sample("b", 0..6, 3), sample("c", 0..2, 1)];
        let rows = pack(&samples, 10, 8);
        assert_eq!(rows.iter().map(MicroBatch::num_tokens).collect::<Vec<_>>(), [6, 8]);
        assert!(pack(&[], 1, 1).is_empty());
    }
}
