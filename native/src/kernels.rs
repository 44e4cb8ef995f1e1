//! Which kernels this processor runs.

#![allow(unsafe_code, reason = "calls into C++")]

use std::fmt;

use crate::NativeError;
use crate::ffi::{check, monopass_kernels};

/// What runs bf16 here; float32 has at least the same vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernels {
    /// Of the fused operations and attention.
    pub vectors: Vectors,
    /// Of many rows with weights.
    pub products: Products,
    /// AMX's tiles multiply in attention.
    pub tiles: bool,
}

/// Vector instructions, in the order of `VectorSet` (cpp/cpu.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vectors {
    /// libtorch's own operations run.
    None,
    /// With FMA; bf16 is widened to float32.
    Avx2,
    /// With its bf16 part.
    Avx512,
}

/// Who multiplies, in the order of `Products` (cpp/cpu.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// libtorch, in bf16.
    Libtorch,
    /// libtorch, in float32.
    Float32,
    /// Our own kernel.
    Packed,
}

/// What the processor has, or what the environment allows of it: `MONOPASS_VECTORS` (`none`, `avx2`, `avx512f` or `avx512`) is the most that is used,
/// `MONOPASS_NO_AMX` turns the tiles off, `MONOPASS_PRODUCTS` (`libtorch`, `float32` or `packed`) says who multiplies many rows.
///
/// # Errors
/// A variable holds another word.
pub fn kernels() -> Result<Kernels, NativeError> {
    let (mut vectors, mut products, mut tiles) = (0, 0, 0);
    // SAFETY: writes three numbers.
    check("kernels", unsafe { monopass_kernels(&raw mut vectors, &raw mut products, &raw mut tiles) })?;
    let vectors = [Vectors::None, Vectors::Avx2, Vectors::Avx512][vectors as usize];
    let products = [Products::Libtorch, Products::Float32, Products::Packed][products as usize];
    Ok(Kernels { vectors, products, tiles: tiles != 0 })
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.vectors, self.tiles) {
            (Vectors::None, _) => "none (libtorch's operations)",
            (Vectors::Avx2, _) => "AVX2 (bf16 widened)",
            (Vectors::Avx512, false) => "AVX512-BF16",
            (Vectors::Avx512, true) => "AVX512-BF16 and AMX",
        })?;
        f.write_str(match self.products {
            Products::Libtorch => ", libtorch's products",
            Products::Float32 => ", libtorch's products in float32",
            Products::Packed => ", packed products",
        })
    }
}
