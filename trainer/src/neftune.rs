//! NEFTune (Jain et al. 2023, algorithm 1): noise on the embeddings, in training only.

use tch::{Kind, Tensor};

/// Uniform noise in +-alpha / sqrt(L * d) for a sequence of L tokens and d features; packed sequences each count their own
/// L. `embeddings` `[1, tokens, hidden]`; drawn from libtorch's generator, which the caller seeds.
pub(crate) fn noise(embeddings: &Tensor, cu_seqlens: &[i64], alpha: f64) -> Tensor {
    let (_, tokens, hidden) = embeddings.size3().expect("embeddings are [1, tokens, hidden]");
    let magnitudes: Vec<f32> = cu_seqlens
        .windows(2)
        .flat_map(|ends| {
            let length = ends[1] - ends[0];
            let magnitude = alpha / ((length * hidden) as f64).sqrt();
            std::iter::repeat_n(magnitude as f32, length as usize)
        })
        .collect();
    let magnitudes = Tensor::from_slice(&magnitudes).to_device(embeddings.device()).view([1, tokens, 1]);
    // Drawn in float32 whatever the model's kind, so that the noise is uniform in bf16 as well.
    let uniform = Tensor::rand([1, tokens, hidden], (Kind::Float, embeddings.device())) * 2.0 - 1.0;
    (uniform * magnitudes).to_kind(embeddings.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn noise_is_bounded_by_the_length_of_its_own_sequence() {
        tch::manual_seed(3);
        let embeddings = Tensor::zeros([1, 20, 8], (Kind::Float, Device::Cpu));
        let noise = noise(&embeddings, &[0, 4, 20], 5.0);
        for (start, length) in [(0, 4), (4, 16)] {
            let bound = 5.0 / (length as f64 * 8.0).sqrt();
            let largest = noise.narrow(1, start, length).abs().max().double_value(&[]);
            assert!(largest <= bound && largest > 0.5 * bound, "{largest} {bound}");
        }
    }
}
