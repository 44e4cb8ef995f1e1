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

/// Two-dimensional positions for some frequency pairs: of the pairs named, the first turns with the branch, the second with the column,
/// the third with the branch again, and so on; all others keep the linear position. Part of a model's weights as much as they are: what
/// was trained with it must be read with it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnarRope {
    /// Pairs, counted from 0, below `head_dim / 2`.
    pub pairs: Vec<i64>,
    /// Positions from one branch to the next. Default 32.
    #[serde(default = "default_branch_stride")]
    pub branch_stride: f64,
}

fn default_branch_stride() -> f64 {
    32.0
}

impl ColumnarRope {
    /// The last `ratio` of all pairs, rounded down: the lowest frequencies.
    #[must_use]
    pub fn last_pairs(head_dim: i64, ratio: f64) -> Self {
        let pairs = head_dim / 2;
        let count = (pairs as f64 * ratio.clamp(0.0, 1.0)).floor() as i64;
        Self { pairs: (pairs - count..pairs).collect(), branch_stride: default_branch_stride() }
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
            let mut masks = [vec![1.0f32; pairs], vec![0.0; pairs], vec![0.0; pairs]];
            for (turn, pair) in columnar.pairs.iter().enumerate() {
                masks[0][*pair as usize] = 0.0;
                let (mask, value) = if turn % 2 == 0 { (1, columnar.branch_stride as f32) } else { (2, 1.0) };
                masks[mask][*pair as usize] = value;
            }
            let [linear, branch, column] =
                masks.map(|mask| Tensor::from_slice(&mask).to_device(self.inv_freq.device()));
            PairMasks { linear, branch, column }
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
