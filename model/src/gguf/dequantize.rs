//! Stored blocks to float32: plain kinds and blocks of 32. Formulas are ggml's; `d` is a block's scale, `m` its
//! minimum.

use half::{bf16, f16};

use super::k_quants;
use super::tensor_type::TensorType;

/// All values of `bytes`, which is a whole number of blocks.
pub fn dequantize(tensor_type: TensorType, bytes: &[u8]) -> Vec<f32> {
    let mut values = Vec::with_capacity(bytes.len() / tensor_type.block_bytes() * tensor_type.block_values());
    for block in bytes.chunks_exact(tensor_type.block_bytes()) {
        match tensor_type {
            TensorType::F32 => values.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]])),
            TensorType::F16 => values.push(half_at(block, 0)),
            TensorType::BF16 => values.push(bf16::from_le_bytes([block[0], block[1]]).to_f32()),
            TensorType::Q8_0 => {
                let d = half_at(block, 0);
                values.extend(block[2..].iter().map(|q| d * f32::from(*q as i8)));
            }
            TensorType::Q4_0 => {
                let d = half_at(block, 0);
                values.extend(nibbles(&block[2..]).map(|q| d * f32::from(i16::from(q) - 8)));
            }
            TensorType::Q4_1 => {
                let (d, m) = (half_at(block, 0), half_at(block, 2));
                values.extend(nibbles(&block[4..]).map(|q| d * f32::from(q) + m));
            }
            TensorType::Q5_0 => {
                let d = half_at(block, 0);
                values.extend(five_bits(&block[2..6], &block[6..]).map(|q| d * f32::from(i16::from(q) - 16)));
            }
            TensorType::Q5_1 => {
                let (d, m) = (half_at(block, 0), half_at(block, 2));
                values.extend(five_bits(&block[4..8], &block[8..]).map(|q| d * f32::from(q) + m));
            }
            TensorType::Q2K => k_quants::q2_k(block, &mut values),
            TensorType::Q3K => k_quants::q3_k(block, &mut values),
            TensorType::Q4K => k_quants::q4_k(block, &mut values),
            TensorType::Q5K => k_quants::q5_k(block, &mut values),
            TensorType::Q6K => k_quants::q6_k(block, &mut values),
        }
    }
    values
}

/// The float16 at a byte.
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Low halves of all bytes, then high halves.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4))
}

/// [`nibbles`] with a fifth bit each from `high`.
fn five_bits(high: &[u8], low: &[u8]) -> impl Iterator<Item = u8> {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    nibbles(low).enumerate().map(move |(i, nibble)| nibble | (((high >> i) & 1) as u8) << 4)
}
