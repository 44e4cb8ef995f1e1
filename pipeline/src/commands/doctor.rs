//! `monopass doctor`: this machine, and what would not work on it.

use std::path::Path;

use serde_json::json;
use tch::{Cuda, Device, Kind, Tensor};

use super::print_json;
use crate::cli::DoctorArgs;

/// One line of the check-up.
struct Finding {
    name: &'static str,
    found: String,
    /// What does not work because of it, and what to do.
    trouble: Option<String>,
}

/// Prints the findings; fine when nothing is wrong.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let findings = [libtorch(), gpus(), cpu(), memory(), disk(), hub(), distribution()];
    if args.json {
        let lines: serde_json::Map<String, serde_json::Value> = findings
            .iter()
            .map(|finding| (finding.name.to_owned(), json!({"found": finding.found, "trouble": finding.trouble})))
            .collect();
        return print_json(&json!({"version": env!("MONOPASS_VERSION"), "findings": lines}));
    }
    println!("monopass    {}", env!("MONOPASS_VERSION"));
    for finding in &findings {
        println!("{:<11} {}", finding.name, finding.found);
        if let Some(trouble) = &finding.trouble {
            println!("            -> {trouble}");
        }
    }
    Ok(())
}

fn libtorch() -> Finding {
    let bf16 = Tensor::ones([8, 8], (Kind::BFloat16, Device::Cpu));
    let works = bf16.f_matmul(&bf16).is_ok_and(|product| product.double_value(&[0, 0]) == 8.0);
    let from = std::env::var("LIBTORCH").unwrap_or_else(|_| "the run path".to_owned());
    Finding {
        name: "libtorch",
        found: format!("loaded ({from}); bf16 products {}", if works { "work" } else { "fail" }),
        trouble: (!works).then(|| "use `precision: fp32`".to_owned()),
    }
}

/// Why libtorch sees no GPU though there is a driver.
fn cuda_trouble() -> String {
    if let Some(problem) = native::runtime::cuda_problem() {
        return format!("libtorch's CUDA part does not load: {problem}");
    }
    "this libtorch is built for the CPU (`cargo xtask setup --cuda`, then `cargo build`, brings the other one, or set LIBTORCH), or \
     the driver is older than its CUDA"
        .to_owned()
}

fn gpus() -> Finding {
    let count = Cuda::device_count();
    let driver = Path::new("/proc/driver/nvidia/version").exists();
    let (found, trouble) = match (count, driver) {
        (0, false) => ("none".to_owned(), None),
        (0, true) => ("a driver, but libtorch sees no GPU".to_owned(), Some(cuda_trouble())),
        (count, _) => (format!("{count}, cuDNN {}", if Cuda::cudnn_is_available() { "yes" } else { "no" }), None),
    };
    Finding { name: "gpus", found, trouble }
}

fn cpu() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let threads = tch::get_num_threads();
    let kernels = native::kernels::kernels();
    let bare = kernels.as_ref().is_ok_and(|kernels| kernels.vectors == native::kernels::Vectors::None);
    let kernels = kernels.map_or_else(|error| error.to_string(), |kernels| kernels.to_string());
    Finding {
        name: "cpu",
        found: format!("{cores} cores, {threads} threads; kernels: {kernels}"),
        trouble: bare.then(|| "without AVX2 libtorch's own operations run, several times slower".to_owned()),
    }
}

fn memory() -> Finding {
    let available = native::memory::available_mib();
    Finding {
        name: "memory",
        found: format!("{available:.0} MiB to be had"),
        trouble: (available < 4096.0)
            .then(|| "training a 135M model takes about 3000 MiB: lower `max_micro_batch_tokens` or set `gradient_checkpointing`".to_owned()),
    }
}

fn disk() -> Finding {
    let probe = tempfile::NamedTempFile::new_in(".");
    let (found, trouble) = match probe {
        Ok(_) => ("the working folder is writable".to_owned(), None),
        Err(error) => (
            format!("the working folder is not writable ({error})"),
            Some("set `output_dir` to a folder that is".to_owned()),
        ),
    };
    Finding { name: "disk", found, trouble }
}

fn hub() -> Finding {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let cache = model::folder::hub_cache();
    let offline = variable("HF_HUB_OFFLINE").is_some_and(|value| value == "1");
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "the default endpoint".to_owned());
    let token = if variable("HF_TOKEN").is_some() { "HF_TOKEN set" } else { "no HF_TOKEN" };
    let (found, trouble) = if cfg!(not(feature = "hub")) {
        ("left out of this program".to_owned(), Some("models and data must be local paths".to_owned()))
    } else if offline {
        (
            format!("offline by HF_HUB_OFFLINE, cache {}", cache.display()),
            Some("only cached models are found by `org/name`".to_owned()),
        )
    } else {
        (format!("{endpoint}, {token}, cache {}", cache.display()), None)
    };
    Finding { name: "hub", found, trouble }
}

fn distribution() -> Finding {
    let world = std::env::var("WORLD_SIZE").ok();
    let missing: Vec<&str> =
        ["RANK", "MASTER_ADDR", "MASTER_PORT"].into_iter().filter(|name| std::env::var(name).is_err()).collect();
    let (found, trouble) = match world {
        None => ("one process".to_owned(), None),
        Some(world) if missing.is_empty() => (format!("one of {world} processes"), None),
        Some(world) => (
            format!("WORLD_SIZE is {world}, but {} is not set", missing.join(", ")),
            Some("start with `torchrun --no-python`, or set them by hand".to_owned()),
        ),
    };
    Finding { name: "processes", found, trouble }
}
