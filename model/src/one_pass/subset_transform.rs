//! Möbius inversion over the subsets of a set, and its inverse, in n 2^n steps.

use tch::Tensor;

/// Möbius coefficients `m(S) = Σ_{T⊆S} (-1)^{|S|-|T|} f(T)` (Rota 1964) of `f` `[.., 2^n, columns]`, where row `S` is the subset
/// whose members are the bits of `S`. Any leading dimensions, any device; differentiable.
///
/// # Panics
/// When the number of rows is no power of two.
pub fn mobius(f: &Tensor) -> Tensor {
    transform(f, |without, with| with - without)
}

/// Sums over subsets `f(S) = Σ_{T⊆S} m(T)`: the inverse of [`mobius`].
///
/// # Panics
/// When the number of rows is no power of two.
pub fn subset_sums(m: &Tensor) -> Tensor {
    transform(m, |without, with| with + without)
}

/// For each bit, puts `combine(row without it, row with it)` in the place of the row with it.
fn transform(values: &Tensor, combine: impl Fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
    let size = values.size();
    let (rows, columns) = (size[size.len() - 2], size[size.len() - 1]);
    assert!(rows > 0 && rows & (rows - 1) == 0, "{rows} rows, wanted a power of two");
    let mut values = values.reshape([-1, rows, columns]);
    let mut step = 1;
    while step < rows {
        let pairs = values.view([-1, 2, step * columns]); // [.. * rows / 2 step, without and with the bit, step rows]
        let (without, with) = (pairs.select(1, 0), pairs.select(1, 1));
        values = Tensor::stack(&[&without, &combine(&without, &with)], 1).view([-1, rows, columns]);
        step *= 2;
    }
    values.view(size.as_slice())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;

    fn random(sets: i64, n: u32, seed: i64) -> Tensor {
        tch::manual_seed(seed);
        Tensor::randn([sets, 1 << n, 3], (Kind::Double, Device::Cpu))
    }

    /// The definition, subset by subset.
    fn naive(f: &Tensor, set: i64, subset: i64, column: i64) -> f64 {
        let sign = |t: i64| if (subset & !t).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
        (0..=subset).filter(|t| t & !subset == 0).map(|t| sign(t) * f.double_value(&[set, t, column])).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn inversion_is_the_definition_and_undone_gives_back_the_input(sets in 1i64..4, n in 0u32..7, seed in 0i64..1000) {
            let f = random(sets, n, seed);
            let m = mobius(&f);
            prop_assert!((subset_sums(&m) - &f).abs().max().double_value(&[]) < 1e-9);
            prop_assert!((mobius(&subset_sums(&f)) - &f).abs().max().double_value(&[]) < 1e-9);
            for subset in 0..1 << n {
                prop_assert!((m.double_value(&[0, subset, 1]) - naive(&f, 0, subset, 1)).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn gradients_are_those_of_the_transposed_sums() {
        let f = random(2, 3, 1).set_requires_grad(true);
        (mobius(&f) * random(2, 3, 2)).sum(Kind::Double).backward();
        // d/df(T) of Σ_S w(S) m(S) = Σ_{S⊇T} (-1)^{|S|-|T|} w(S)
        let w = random(2, 3, 2);
        for t in 0..8i64 {
            let sign = |s: i64| if (s & !t).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            let wanted: f64 = (0..8i64).filter(|s| t & !s == 0).map(|s| sign(s) * w.double_value(&[1, s, 0])).sum();
            assert!((f.grad().double_value(&[1, t, 0]) - wanted).abs() < 1e-12);
        }
    }
}
