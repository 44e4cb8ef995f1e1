//! Rankings of an evaluation as TREC runs, which every other tool of the field reads.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data::{RankingRecord, RankingSample, TrecRun, trec_run};

use super::remove_folder;

/// Writes `SET.MODEL.runs/DECODER.run` for each decoder beside `SET.MODEL.jsonl` or `.parquet`, in place of the runs that were there; the files
/// that were written. Ids that a run cannot hold are told of, and nothing is written.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    beside: &Path,
    decoders: &[String],
    samples: &[RankingSample],
    records: &[RankingRecord],
) -> anyhow::Result<Vec<PathBuf>> {
    let folder = beside.with_extension("runs");
    // Runs of decoders that the settings no longer name would be another model's.
    remove_folder(&folder)?;
    let documents = samples.iter().flat_map(|sample| &sample.passages).map(|passage| &passage.doc_id);
    let ids = samples.iter().map(|sample| &sample.query_id).chain(documents);
    if let Some(id) = ids.into_iter().find(|id| !trec_run::fits(id)) {
        tracing::warn!(
            "no TREC runs are written: `{id}` is an id that a run cannot hold, its columns are parted by blanks"
        );
        return Ok(Vec::new());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let mut written = Vec::new();
    for decoder in decoders {
        let mut run = TrecRun::new(format!("monopass-{}", plain(decoder)));
        let orders = records.iter().filter(|record| record.decoder == *decoder);
        let by_query: HashMap<&str, &[u16]> =
            orders.map(|record| (record.query_id.as_str(), record.order.as_slice())).collect();
        for sample in samples {
            let Some(order) = by_query.get(sample.query_id.as_str()) else { continue };
            let ids = order.iter().map(|index| sample.passages[usize::from(*index)].doc_id.as_str());
            run.push_ranking(&sample.query_id, ids);
        }
        let path = folder.join(format!("{}.run", plain(decoder)));
        run.write(&path)?;
        written.push(path);
    }
    Ok(written)
}

/// A decoder's name without what a shell or a column would stumble over: `one_pass(n_group=4)` is `one_pass_n_group=4`.
fn plain(decoder: &str) -> String {
    let words = decoder.split(|c: char| !(c.is_ascii_alphanumeric() || "_.=-".contains(c)));
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_decoders_stand_in_file_names() {
        assert_eq!(plain("one_pass(n_group=4, grouping=by_first_token)"), "one_pass_n_group=4_grouping=by_first_token");
        assert_eq!(plain("single_token"), "single_token");
    }
}
