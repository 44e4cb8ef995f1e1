//! NEFTune (Jain et al. 2023, algorithm 1): noise on the embeddings, in training only.

use tch::Tensor;

use crate::seeds::uniform;

/// Uniform noise in +-alpha / sqrt(L * d) for a sequence of L tokens and d features; packed sequences each count their own
/// L. A pure function of `seed` on every device, drawn in
/// float32 so that it is uniform in bf16 as well. `embeddings` `[1, tokens, hidden]`.
pub(crate) fn noise(embeddings: &Tensor, cu_seqlens: &[i64], alpha: f64, seed: u64) -> Tensor {
    let (_, tokens, hidden) = embeddings.size3().expect("embeddings are [1, tokens, hidden]");
    let magnitudes: Vec<f32> = cu_seqlens
        .windows(2)
        .flat_map(|ends| {
            let length = ends[1] - ends[0];
            let magnitude = alpha / ((length * hidden) as f64).sqrt();
            std::iter::repeat_n(magnitude as f32, length as usize)
        })
        .collect();
    let magnitudes = Tensor::from_slice(&magnitudes).view([1, tokens, 1]);
    let uniform = Tensor::from_slice(&uniform(seed, (tokens * hidden) as usize)).view([1, tokens, hidden]);
    (uniform * magnitudes).to_device(embeddings.device()).to_kind(embeddings.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn noise_is_bounded_by_the_length_of_its_own_sequence() {
        let embeddings = Tensor::zeros([1, 20, 8], (Kind::Float, Device::Cpu));
        let noise = noise(&embeddings, &[0, 4, 20], 5.0, 3);
        for (start, length) in [(0, 4), (4, 16)] {
            let bound = 5.0 / (length as f64 * 8.0).sqrt();
            let largest = noise.narrow(1, start, length).abs().max().double_value(&[]);
            assert!(largest <= bound && largest > 0.5 * bound, "{largest} {bound}");
        }
    }
}
