//! Blocks of 256 values with two levels of scales. Formulas are ggml's.

use super::dequantize::half_at;

/// Two bits: 16 bytes of scale (low half) and minimum (high half), 64 of values, d, dmin.
pub(super) fn q2_k(block: &[u8], values: &mut Vec<f32>) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    for (group, scale) in scales.iter().enumerate() {
        let (scale, minimum) = (d * f32::from(scale & 15), dmin * f32::from(scale >> 4));
        let (bytes, shift) = two_bit_group(quants, group);
        values.extend(bytes.iter().map(|q| scale * f32::from((q >> shift) & 3) - minimum));
    }
}

/// Three bits: 32 bytes of high bits, 64 of low bits, 12 of six-bit scales, d.
pub(super) fn q3_k(block: &[u8], values: &mut Vec<f32>) {
    let (high, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    for group in 0..16 {
        let low_bits = if group < 8 { scales[group] & 15 } else { scales[group - 8] >> 4 };
        let high_bits = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
        let scale = d * f32::from(i16::from(low_bits | high_bits << 4) - 32);
        let (bytes, shift) = two_bit_group(quants, group);
        let high = &high[16 * (group % 2)..][..16];
        for (q, high) in bytes.iter().zip(high) {
            let bit = (high >> (group / 2)) & 1;
            values.push(scale * f32::from(i16::from((q >> shift) & 3) - if bit == 1 { 0 } else { 4 }));
        }
    }
}

/// Sixteen values of two bits: groups run over the halves of 32 bytes, then over the four bit pairs, then over the
/// two halves of the block.
fn two_bit_group(quants: &[u8], group: usize) -> (&[u8], usize) {
    let (half, pair, part) = (group / 8, group % 8 / 2, group % 2);
    (&quants[32 * half + 16 * part..][..16], 2 * pair)
}

/// Four bits: d, dmin, 12 bytes of six-bit scales and minima, 128 of values.
pub(super) fn q4_k(block: &[u8], values: &mut Vec<f32>) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for (group, low) in four_bit_groups(&block[16..144]).enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], group);
        let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
        values.extend(low.map(|q| scale * f32::from(q) - minimum));
    }
}

/// Five bits: as four, with 32 bytes of fifth bits before the values.
pub(super) fn q5_k(block: &[u8], values: &mut Vec<f32>) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let high = &block[16..48];
    for (group, low) in four_bit_groups(&block[48..176]).enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], group);
        let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
        let full = low.zip(high).map(|(q, high)| q | ((high >> group) & 1) << 4);
        values.extend(full.map(|q| scale * f32::from(q) - minimum));
    }
}

/// Eight groups of 32: low halves of 32 bytes, then their high halves.
fn four_bit_groups(quants: &[u8]) -> impl Iterator<Item = impl Iterator<Item = u8>> {
    (0..8).map(|group| quants[32 * (group / 2)..][..32].iter().map(move |q| (q >> (4 * (group % 2))) & 15))
}

/// Six-bit scale and minimum of a group of 32, packed in 12 bytes.
fn scale_and_minimum(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        return (packed[group] & 63, packed[group + 4] & 63);
    }
    let low = packed[group + 4];
    ((low & 15) | (packed[group - 4] >> 6) << 4, (low >> 4) | (packed[group] >> 6) << 4)
}

/// Six bits: 128 bytes of low halves, 64 of high pairs, 16 signed scales, d.
pub(super) fn q6_k(block: &[u8], values: &mut Vec<f32>) {
    let d = half_at(block, 208);
    for half in 0..2 {
        let (low, high) = (&block[64 * half..][..64], &block[128 + 32 * half..][..32]);
        let scales = &block[192 + 8 * half..][..8];
        for quarter in 0..4 {
            let low = &low[32 * (quarter % 2)..][..32];
            for i in 0..32 {
                let q = ((low[i] >> (4 * (quarter / 2))) & 15) | ((high[i] >> (2 * quarter)) & 3) << 4;
                let scale = d * f32::from(scales[2 * quarter + i / 16] as i8);
                values.push(scale * f32::from(i16::from(q) - 32));
            }
        }
    }
}
