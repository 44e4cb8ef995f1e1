//! Names of trec_eval's measures.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EvaluatorError;

/// A measure of one ranked list, written as trec_eval prints it (`ndcg_cut_10`); `ndcg_cut.10`, as it is asked for on
/// trec_eval's command line, is understood too. A document is relevant when its grade is at least the
/// level asked for, by default 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum RankingMeasure {
    /// `ndcg`: gain = grade, discount log2(rank + 1), over the whole list.
    Ndcg,
    /// `ndcg_cut_k`: the same over the first k; the ideal list is made of all judged documents.
    NdcgCut(u32),
    /// `map`: average precision over the relevant documents.
    Map,
    /// `map_cut_k`: average precision that sees the first k only.
    MapCut(u32),
    /// `recip_rank`: one over the rank of the first relevant document.
    RecipRank,
    /// `recall_k`: share of the relevant documents among the first k.
    Recall(u32),
    /// `recall_cap_k`: relevant documents among the first k, as a share of as many as fit in k places (BEIR's capped recall, for
    /// queries with more relevant documents than that; Thakur et al. 2021). Not one of trec_eval's.
    RecallCap(u32),
    /// `P_k`: share of relevant documents in k places.
    Precision(u32),
    /// `success_k`: 1 when a relevant document is among the first k.
    Success(u32),
    /// `Rprec`: precision after as many documents as are relevant.
    RPrec,
    /// `bpref`: preference of judged relevant over judged non-relevant documents.
    Bpref,
}

/// Names for messages and documentation.
pub const KNOWN: &str =
    "ndcg, ndcg_cut_<k>, map, map_cut_<k>, recip_rank, recall_<k>, recall_cap_<k>, P_<k>, success_<k>, Rprec, bpref";

impl RankingMeasure {
    /// What `monopass metrics ranking` prints when nothing else is asked for.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        vec![
            Self::NdcgCut(5),
            Self::NdcgCut(10),
            Self::NdcgCut(20),
            Self::Ndcg,
            Self::Map,
            Self::RecipRank,
            Self::Recall(10),
            Self::Recall(100),
            Self::Precision(5),
            Self::Precision(10),
            Self::Success(1),
            Self::RPrec,
        ]
    }

    /// A heading for readers: `nDCG@10`.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Ndcg => "nDCG".into(),
            Self::NdcgCut(k) => format!("nDCG@{k}"),
            Self::Map => "MAP".into(),
            Self::MapCut(k) => format!("MAP@{k}"),
            Self::RecipRank => "MRR".into(),
            Self::Recall(k) => format!("R@{k}"),
            Self::RecallCap(k) => format!("capped R@{k}"),
            Self::Precision(k) => format!("P@{k}"),
            Self::Success(k) => format!("success@{k}"),
            Self::RPrec => "R-precision".into(),
            Self::Bpref => "bpref".into(),
        }
    }
}

impl fmt::Display for RankingMeasure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ndcg => f.write_str("ndcg"),
            Self::NdcgCut(k) => write!(f, "ndcg_cut_{k}"),
            Self::Map => f.write_str("map"),
            Self::MapCut(k) => write!(f, "map_cut_{k}"),
            Self::RecipRank => f.write_str("recip_rank"),
            Self::Recall(k) => write!(f, "recall_{k}"),
            Self::RecallCap(k) => write!(f, "recall_cap_{k}"),
            Self::Precision(k) => write!(f, "P_{k}"),
            Self::Success(k) => write!(f, "success_{k}"),
            Self::RPrec => f.write_str("Rprec"),
            Self::Bpref => f.write_str("bpref"),
        }
    }
}

impl FromStr for RankingMeasure {
    type Err = EvaluatorError;

    fn from_str(name: &str) -> Result<Self, EvaluatorError> {
        let unknown = || EvaluatorError::UnknownMeasure { name: name.to_owned() };
        match name {
            "ndcg" => return Ok(Self::Ndcg),
            "map" => return Ok(Self::Map),
            "recip_rank" => return Ok(Self::RecipRank),
            "Rprec" => return Ok(Self::RPrec),
            "bpref" => return Ok(Self::Bpref),
            _ => {}
        }
        let (base, cut) = name.rsplit_once(['_', '.']).ok_or_else(unknown)?;
        let cut: u32 = cut.parse().ok().filter(|cut| *cut > 0).ok_or_else(unknown)?;
        match base {
            "ndcg_cut" => Ok(Self::NdcgCut(cut)),
            "map_cut" => Ok(Self::MapCut(cut)),
            "recall" => Ok(Self::Recall(cut)),
            "recall_cap" => Ok(Self::RecallCap(cut)),
            "P" => Ok(Self::Precision(cut)),
            "success" => Ok(Self::Success(cut)),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for RankingMeasure {
    type Error = EvaluatorError;

    fn try_from(name: String) -> Result<Self, EvaluatorError> {
        name.parse()
    }
}

impl From<RankingMeasure> for String {
    fn from(measure: RankingMeasure) -> Self {
        measure.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let mut all = RankingMeasure::defaults();
        all.extend([RankingMeasure::Bpref, RankingMeasure::MapCut(7), RankingMeasure::RecallCap(100)]);
        for measure in all {
            assert_eq!(measure.to_string().parse::<RankingMeasure>().unwrap(), measure);
        }
        assert_eq!("ndcg_cut.10".parse::<RankingMeasure>().unwrap(), RankingMeasure::NdcgCut(10));
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        for name in ["ndgc_cut_10", "ndcg_cut", "P_0", "recall_x", ""] {
            let message = name.parse::<RankingMeasure>().unwrap_err().to_string();
            assert!(message.contains(&format!("`{name}`")) && message.contains("recip_rank"), "{message}");
        }
    }
}
