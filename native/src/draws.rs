//! Random tensors of the tests: a test draws the same values whatever runs beside it (libtorch's generator is one for all threads).

use std::cell::Cell;
use tch::Tensor;

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// Starts this thread's draws anew.
pub(crate) fn seed(seed: i64) {
    STATE.set(seed.cast_unsigned());
}

/// 0 to 1, without 1 (splitmix64).
fn draw() -> f64 {
    let state = STATE.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn filled<T: tch::kind::Element>(size: &[i64], value: impl Fn() -> T) -> Tensor {
    let values: Vec<T> = (0..size.iter().product()).map(|_| value()).collect();
    Tensor::from_slice(&values).reshape(size)
}

/// Standard normal, float32 (Box and Muller).
pub(crate) fn normal(size: impl AsRef<[i64]>) -> Tensor {
    filled(size.as_ref(), || ((-2.0 * (1.0 - draw()).ln()).sqrt() * (std::f64::consts::TAU * draw()).cos()) as f32)
}

/// True with the chance given.
pub(crate) fn chance(size: impl AsRef<[i64]>, chance: f64) -> Tensor {
    filled(size.as_ref(), || draw() < chance)
}

/// `low` to `high`, without `high`, int32.
pub(crate) fn integers(low: i64, high: i64, size: impl AsRef<[i64]>) -> Tensor {
    filled(size.as_ref(), || (low as f64 + draw() * (high - low) as f64).floor() as i32)
}

#[test]
fn draws_are_the_same_each_time_and_look_like_what_they_should() {
    seed(7);
    let first = normal([4, 5000]);
    seed(7);
    assert!(first == normal([4, 5000]));
    let (mean, spread) = (first.mean(tch::Kind::Double), first.std(true));
    assert!(mean.double_value(&[]).abs() < 0.02 && (spread.double_value(&[]) - 1.0).abs() < 0.02);
    let whole = integers(-5, 3, [1000]);
    assert_eq!((whole.min().int64_value(&[]), whole.max().int64_value(&[])), (-5, 2));
    let share = chance([10_000], 0.3).to_kind(tch::Kind::Double).mean(tch::Kind::Double).double_value(&[]);
    assert!((share - 0.3).abs() < 0.02, "{share}");
}
