//! Compiles every C++ file of `cpp/` against libtorch.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");

    let mut sources = Vec::new();
    for entry in fs::read_dir("cpp").expect("`native/cpp` is part of the crate") {
        let path = entry.expect("`native/cpp` is readable").path();
        println!("cargo:rerun-if-changed={}", path.display());
        if path.extension().is_some_and(|extension| extension == "cpp") {
            sources.push(path);
        }
    }
    sources.sort();
    if sources.is_empty() {
        return;
    }

    let include = include_dir();
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .debug(false)
        .pic(true)
        // libtorch's headers are not free of warnings; ours are checked with `-Wall` on our own files only.
        .warnings(false)
        .includes([
            include.clone(),
            include.join("torch/csrc/api/include"),
            PathBuf::from("cpp"),
        ])
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .define("USE_DISTRIBUTED", None)
        .define("USE_C10D_GLOO", None)
        .flag_if_supported("-fno-math-errno")
        .files(&sources)
        .compile("monopass_native");
}

/// libtorch's headers: `LIBTORCH_INCLUDE` or `LIBTORCH` as torch-sys reads them, else beside the libraries it links.
fn include_dir() -> PathBuf {
    let root = env::var_os("LIBTORCH_INCLUDE")
        .or_else(|| env::var_os("LIBTORCH"))
        .map(PathBuf::from)
        .or_else(|| {
            let lib = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB")?);
            lib.parent().map(Path::to_path_buf)
        })
        .expect("`LIBTORCH` is not set: run `cargo xtask setup`");
    let include = root.join("include");
    assert!(
        include.join("ATen/ATen.h").exists(),
        "no libtorch headers in `{}`: run `cargo xtask setup`",
        include.display()
    );
    include
}
