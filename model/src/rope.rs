//! Rotary position embedding (Su et al. 2021, RoFormer): angles from positions.
//!
//! The rotation itself is [`native::ops::rope`], in the half-split convention of Hugging Face.

use tch::{Device, Kind, Tensor};

/// How the rotary frequencies are changed for longer contexts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    Default,
    /// All frequencies divided by `factor` (position interpolation, Chen et al. 2023).
    Linear {
        /// Ratio of new to old context length.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length of the first training.
        original_max_position_embeddings: f64,
    },
}

/// Two-dimensional positions: of the frequency pairs named, the first turns with the branch, the second with the column, the third with
/// the branch again, and so on; all others turn with `positions`. Part of a model's weights as much as they are: what was trained with it
/// must be read with it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnarRope {
    /// Pairs, counted from 0, below `head_dim / 2`. Default none.
    #[serde(default)]
    pub pairs: Vec<i64>,
    /// Positions from one branch to the next. Default 32.
    #[serde(default = "default_branch_stride")]
    pub branch_stride: f64,
    /// What all other pairs turn with. Default `linear`.
    #[serde(default)]
    pub positions: ColumnarPositions,
}

/// What the pairs of a head turn with that [`ColumnarRope::pairs`] does not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnarPositions {
    /// A token's place in linear order, as published: the next token of one's own branch is as many positions away as branches are live.
    #[default]
    Linear,
    /// The column: within a branch what an ordinary text has; of another branch's token of the same column only the named pairs tell.
    Column,
    /// The column, and `branch_stride` more for every branch after the first: each branch, and the background seen from the first one, is
    /// what an ordinary text is; other branches are as far away as if they stood elsewhere in it.
    BranchOffset,
}

fn default_branch_stride() -> f64 {
    32.0
}

impl ColumnarRope {
    /// The last `ratio` of all pairs, rounded down: the lowest frequencies.
    #[must_use]
    pub fn last_pairs(head_dim: i64, ratio: f64) -> Vec<i64> {
        let pairs = head_dim / 2;
        let count = (pairs as f64 * ratio.clamp(0.0, 1.0)).floor() as i64;
        (pairs - count..pairs).collect()
    }

    /// Largest angle in radians, at most pi, by which a pair of frequency in `inv_freq` `[head_dim / 2]` tells neighbouring branches
    /// apart. Far below 1, attention can hardly know its own branch's tokens from another's; below 0.06 bf16 rounds the difference away.
    #[must_use]
    pub fn branch_angle(&self, inv_freq: &[f32]) -> f64 {
        let by_branch = self.pairs.iter().step_by(2).copied();
        let others = (0..inv_freq.len() as i64)
            .filter(|pair| self.positions == ColumnarPositions::BranchOffset && !self.pairs.contains(pair));
        let angle = |pair: i64| {
            let turned = (self.branch_stride * f64::from(inv_freq[pair as usize])).abs() % std::f64::consts::TAU;
            turned.min(std::f64::consts::TAU - turned)
        };
        by_branch.chain(others).map(angle).fold(0.0, f64::max)
    }

    /// What is wrong with it for heads of `head_dim`, one line each.
    #[must_use]
    pub fn problems(&self, head_dim: i64) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(pair) = self.pairs.iter().find(|pair| !(0..head_dim / 2).contains(*pair)) {
            problems.push(format!("`pairs` holds {pair}, wanted 0 to {}", head_dim / 2 - 1));
        }
        if (1..self.pairs.len()).any(|i| self.pairs[..i].contains(&self.pairs[i])) {
            problems.push("`pairs` names a pair twice".to_owned());
        }
        if !self.branch_stride.is_finite() {
            problems.push(format!("`branch_stride` is {}, wanted a number", self.branch_stride));
        }
        problems
    }
}

/// Angles of a model's heads.
#[derive(Debug)]
pub struct Rope {
    /// `[head_dim / 2]` float32.
    inv_freq: Tensor,
    columnar: Option<PairMasks>,
}

/// Which pairs turn with what: float32 `[head_dim / 2]`, 0 or 1.
#[derive(Debug)]
struct PairMasks {
    linear: Tensor,
    /// Times the branch stride.
    branch: Tensor,
    column: Tensor,
    /// Times the branch stride.
    branch_after_first: Tensor,
}

/// `cos` and `sin` of one forward pass, float32 `[batch or 1, seq, head_dim / 2]`; shared by all layers.
#[derive(Debug)]
pub struct RopeAngles {
    /// Cosines.
    pub cos: Tensor,
    /// Sines.
    pub sin: Tensor,
}

impl Rope {
    /// Frequencies for heads of `head_dim`.
    pub fn new(head_dim: i64, theta: f64, scaling: RopeScaling, device: Device) -> Self {
        let inv_freq = inverse_frequencies(head_dim, theta, scaling);
        Self { inv_freq: Tensor::from_slice(&inv_freq).to_device(device), columnar: None }
    }

    /// With two-dimensional positions for columnar patterns.
    #[must_use]
    pub fn with_columns(mut self, columnar: Option<&ColumnarRope>) -> Self {
        let pairs = self.inv_freq.size()[0] as usize;
        self.columnar = columnar.map(|columnar| {
            let stride = columnar.branch_stride as f32;
            let zeros = || vec![0.0f32; pairs];
            let (mut linear, mut branch, mut column, mut branch_after_first) = (zeros(), zeros(), zeros(), zeros());
            for (turn, pair) in columnar.pairs.iter().enumerate() {
                let (mask, value) = if turn % 2 == 0 { (&mut branch, stride) } else { (&mut column, 1.0) };
                mask[*pair as usize] = value;
            }
            for pair in (0..pairs).filter(|pair| !columnar.pairs.contains(&(*pair as i64))) {
                match columnar.positions {
                    ColumnarPositions::Linear => linear[pair] = 1.0,
                    ColumnarPositions::Column => column[pair] = 1.0,
                    ColumnarPositions::BranchOffset => (column[pair], branch_after_first[pair]) = (1.0, stride),
                }
            }
            let [linear, branch, column, branch_after_first] = [linear, branch, column, branch_after_first]
                .map(|mask| Tensor::from_slice(&mask).to_device(self.inv_freq.device()));
            PairMasks { linear, branch, column, branch_after_first }
        });
        self
    }

    /// Angles at `positions` float32 `[batch or 1, seq]`, rounded to `kind` as transformers does before rotating.
    /// `grid` holds branch and column of each token, shaped alike, when the pattern has columns.
    pub fn angles(&self, positions: &Tensor, grid: Option<(Tensor, Tensor)>, kind: Kind) -> RopeAngles {
        let positions = match (&self.columnar, grid) {
            (Some(masks), Some((branch, column))) => {
                positions.unsqueeze(-1) * &masks.linear
                    + branch.unsqueeze(-1) * &masks.branch
                    + column.unsqueeze(-1) * &masks.column
                    + (&branch - 1.0).clamp_min(0.0).unsqueeze(-1) * &masks.branch_after_first
            }
            _ => positions.unsqueeze(-1),
        };
        let angles = positions * &self.inv_freq; // [batch, seq, head_dim / 2]
        let round = |table: Tensor| table.to_kind(kind).to_kind(Kind::Float);
        RopeAngles { cos: round(angles.cos()), sin: round(angles.sin()) }
    }
}

/// Inverse frequencies in float32, computed step by step in float32 as transformers does: at position 30,000 a
/// difference in the last bit of a frequency is an angle of 0.002.
pub fn inverse_frequencies(head_dim: i64, theta: f64, scaling: RopeScaling) -> Vec<f32> {
    let theta = theta as f32;
    let base = (0..head_dim / 2).map(|i| 1.0 / theta.powf((2 * i) as f32 / head_dim as f32));
    match scaling {
        RopeScaling::Default => base.collect(),
        RopeScaling::Linear { factor } => base.map(|f| f / factor as f32).collect(),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let low_wavelength = (original_max_position_embeddings / low_freq_factor) as f32;
            let high_wavelength = (original_max_position_embeddings / high_freq_factor) as f32;
            let stretch = |f: f32| {
                let wavelength = 2.0 * std::f32::consts::PI / f;
                if wavelength > low_wavelength {
                    return f / factor as f32;
                }
                if wavelength < high_wavelength {
                    return f;
                }
                let smooth = (original_max_position_embeddings as f32 / wavelength - low_freq_factor as f32)
                    / (high_freq_factor - low_freq_factor) as f32;
                (1.0 - smooth) * f / factor as f32 + smooth * f
            };
            base.map(stretch).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_high_and_divides_low_frequencies() {
        let plain = inverse_frequencies(64, 500_000.0, RopeScaling::Default);
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192.0,
        };
        let scaled = inverse_frequencies(64, 500_000.0, scaling);
        assert_eq!(plain[0], 1.0);
        assert_eq!(scaled[0], plain[0]);
        assert_eq!(scaled[31], plain[31] / 8.0);
        assert!(plain.iter().zip(&scaled).all(|(p, s)| s <= p && *s >= p / 8.0));
    }

    /// Token of branch 3 in column 10, 6th in linear order; angles undone to positions, pair by pair.
    #[test]
    fn pairs_turn_with_branch_column_or_place() {
        let turned = |positions, pairs: &[i64]| {
            let columnar = ColumnarRope { pairs: pairs.to_vec(), branch_stride: 0.25, positions };
            let rope = Rope::new(8, 1.0, RopeScaling::Default, Device::Cpu).with_columns(Some(&columnar));
            let at = |value: f32| Tensor::from_slice(&[value]).unsqueeze(0);
            let angles = rope.angles(&at(0.6), Some((at(3.0), at(1.0))), Kind::Double);
            let angle = |i| (angles.sin.double_value(&[0, 0, i])).atan2(angles.cos.double_value(&[0, 0, i]));
            (0..4).map(|i| (angle(i) * 1e4).round() / 1e4).collect::<Vec<f64>>()
        };
        assert_eq!(turned(ColumnarPositions::Linear, &[1, 2]), [0.6, 0.75, 1.0, 0.6]);
        assert_eq!(turned(ColumnarPositions::Column, &[1, 2]), [1.0, 0.75, 1.0, 1.0]);
        assert_eq!(turned(ColumnarPositions::BranchOffset, &[1]), [1.5, 0.75, 1.5, 1.5]);
        assert_eq!(turned(ColumnarPositions::BranchOffset, &[]), [1.5; 4]);
    }

    #[test]
    fn low_frequencies_hardly_tell_branches_apart() {
        let inv_freq = inverse_frequencies(64, 100_000.0, RopeScaling::Default);
        let angle =
            |pairs: Vec<i64>, positions| ColumnarRope { pairs, branch_stride: 32.0, positions }.branch_angle(&inv_freq);
        assert!(angle(ColumnarRope::last_pairs(64, 0.25), ColumnarPositions::Linear) < 0.006);
        assert!(angle(vec![3, 7, 11], ColumnarPositions::Linear) > 0.5);
        assert!(angle(vec![], ColumnarPositions::BranchOffset) > 3.0);
        assert_eq!(angle(vec![], ColumnarPositions::Column), 0.0);
    }

    #[test]
    fn positions_may_differ_by_row() {
        let rope = Rope::new(8, 10_000.0, RopeScaling::Default, Device::Cpu);
        let positions = Tensor::from_slice2(&[[0.0f32, 1.0], [5.0, 0.0]]);
        let angles = rope.angles(&positions, None, Kind::Float);
        assert_eq!(angles.cos.size(), [2, 2, 4]);
        assert_eq!(angles.cos.double_value(&[1, 1, 0]), 1.0);
        assert!((angles.sin.double_value(&[1, 0, 0]) - 5f64.sin()).abs() < 1e-6);
    }
}
