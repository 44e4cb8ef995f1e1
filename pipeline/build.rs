//! Gives the program a run path to libtorch that does not depend on where cargo's target folder lies, so that
//! `monopass` can be copied or built elsewhere. `.cargo/config.toml` sets LIBTORCH, and adds a relative path beside.

use std::{env, path::Path};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    if let (true, Some(libtorch)) = (linux, env::var_os("LIBTORCH")) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", Path::new(&libtorch).join("lib").display());
    }
}
