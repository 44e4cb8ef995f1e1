//! Compiles every C++ file of `cpp/` against libtorch, whatever the building machine has: files named `*_vectors.cpp` once for AVX2 and once
//! for AVX-512, `*_amx.cpp` for AMX.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// What the kernels may use; `cpu.cpp` asks the processor for the same before they are called.
const AVX2: [&str; 2] = ["-mavx2", "-mfma"];
const AVX512: [&str; 7] =
    ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16", "-mfma", "-mprefer-vector-width=512"];

/// What those of `*_amx.cpp` may use besides AVX-512; compilers of before 2021 do not know them.
const AMX: [&str; 2] = ["-mamx-tile", "-mamx-bf16"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");

    let (tiles, others) = apart(cpp_files(), "_amx");
    let (vectors, sources) = apart(others, "_vectors");
    if sources.is_empty() {
        return;
    }
    let x86 = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");

    let mut build = base();
    let amx = x86 && AMX.iter().all(|flag| build.is_flag_supported(flag).unwrap_or(false));
    if x86 {
        build.define("MONOPASS_X86", None);
    }
    if amx {
        build.define("MONOPASS_AMX", None);
    }
    if let Some(folders) = nccl_headers() {
        build.define("MONOPASS_NCCL", None).includes(folders);
        println!("cargo:rustc-link-lib=torch_cuda");
        println!("cargo:rustc-link-lib=c10_cuda");
    }
    build.flag("-fopenmp").files(&sources).compile("monopass_native");
    if x86 {
        kernels_for("avx2", &AVX2, &vectors);
        kernels_for("avx512", &AVX512, &vectors);
    }
    if amx {
        kernels_for("amx", &[&AVX512[..], &AMX].concat(), &tiles);
    }
    link_openmp();
}

/// Those whose names end so, and the others.
fn apart(files: Vec<PathBuf>, end: &str) -> (Vec<PathBuf>, Vec<PathBuf>) {
    files.into_iter().partition(|path| path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with(end)))
}

/// Compiles kernels for one set of instructions, into a folder of their own.
fn kernels_for(set: &str, flags: &[&str], files: &[PathBuf]) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(set);
    let mut build = base();
    for flag in flags {
        build.flag(flag);
    }
    build.out_dir(out).files(files).compile(&format!("monopass_{set}"));
}

/// Every `.cpp` file, sorted; all files of the folder are watched.
fn cpp_files() -> Vec<PathBuf> {
    let mut sources = Vec::new();
    for entry in fs::read_dir("cpp").expect("`native/cpp` is part of the crate") {
        let path = entry.expect("`native/cpp` is readable").path();
        println!("cargo:rerun-if-changed={}", path.display());
        if path.extension().is_some_and(|extension| extension == "cpp") {
            sources.push(path);
        }
    }
    sources.sort();
    sources
}

fn base() -> cc::Build {
    let include = include_dir();
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .debug(false)
        .pic(true)
        // libtorch's headers are not free of warnings.
        .warnings(false)
        .includes([include.clone(), include.join("torch/csrc/api/include"), PathBuf::from("cpp")])
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .define("USE_DISTRIBUTED", None)
        .define("USE_C10D_GLOO", None)
        .flag_if_supported("-fno-math-errno");
    build
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

/// Folders with the headers of CUDA and NCCL (`.libtorch/cuda/*/include`, see docs/gpu.md), when libtorch has its CUDA part and
/// both are there: then data-parallel training can use NCCL.
fn nccl_headers() -> Option<Vec<PathBuf>> {
    let root = include_dir().parent()?.to_path_buf();
    println!("cargo:rerun-if-changed={}", root.join("lib").display());
    if !root.join("lib/libtorch_cuda.so").exists() {
        return None;
    }
    let mut folders: Vec<PathBuf> = fs::read_dir(root.join("cuda"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("include")))
        .filter(|folder| folder.is_dir())
        .collect();
    folders.sort();
    let has = |header: &str| folders.iter().any(|folder| folder.join(header).exists());
    ["nccl.h", "cuda_runtime_api.h", "crt/host_config.h", "nv/target"].into_iter().all(has).then_some(folders)
}

/// Links the OpenMP runtime that libtorch brings (its name may carry a hash), so that both share one pool of threads.
fn link_openmp() {
    let lib = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from);
    let bundled = lib.as_ref().and_then(|lib| {
        let mut names: Vec<_> = fs::read_dir(lib)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("libgomp"))
            .collect();
        names.sort();
        names.into_iter().next()
    });
    if let Some(lib) = lib {
        println!("cargo:rustc-link-search=native={}", lib.display());
    }
    match bundled {
        Some(name) => println!("cargo:rustc-link-lib=dylib:+verbatim={name}"),
        None => println!("cargo:rustc-link-lib=dylib=gomp"),
    }
}
