//! The templates for clusters, as far as they can be checked without one: shells parse them, and the command lines in them are ours.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::Workplace;
use serde_yaml::Value;

fn template(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("launch/templates").join(name)
}

/// Runs a template of SLURM's with stand-ins for its commands: `srun` runs one task, `monopass` tells its arguments and variables.
fn run_slurm(name: &str) -> String {
    let place = Workplace::empty();
    let tool = |tool: &str, script: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = place.write(&format!("bin/{tool}"), &format!("#!/bin/bash\n{script}\n"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    tool("scontrol", "printf 'node7\\nnode8\\n'");
    tool("srun", "while [ \"${1#--}\" != \"$1\" ]; do echo \"srun $1\"; shift; done; exec \"$@\"");
    tool(
        "monopass",
        "echo \"$@\" RANK=${RANK-} LOCAL_RANK=${LOCAL_RANK-} WORLD_SIZE=${WORLD_SIZE-} OMP=${OMP_NUM_THREADS-} ${MASTER_ADDR-}:${MASTER_PORT-}",
    );
    let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.arg(template(name)).arg("my file.yaml").current_dir(place.path("")).env("PATH", path);
    command.env_remove("OMP_NUM_THREADS");
    for (variable, value) in [
        ("SLURM_JOB_NODELIST", "node[7-8]"),
        ("SLURM_NNODES", "2"),
        ("SLURM_NODEID", "1"),
        ("SLURM_JOB_ID", "99"),
        ("SLURM_NTASKS", "16"),
        ("SLURM_CPUS_PER_TASK", "8"),
        ("SLURM_PROCID", "9"),
        ("SLURM_LOCALID", "1"),
    ] {
        command.env(variable, value);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn slurm_starts_a_launcher_a_node() {
    let said = run_slurm("slurm.sbatch");
    let said = said.strip_prefix("srun --kill-on-bad-exit=1\nsrun --cpus-per-task=8\n").expect(&said);
    assert!(
        said.starts_with("launch --nnodes 2 --rdzv-endpoint node7:29400 --rdzv-id 99 --nproc-per-node gpu"),
        "{said}"
    );
    assert!(said.contains("-- train my file.yaml"), "{said}");
    refused_for_the_file_alone(&[
        "launch",
        "--nnodes",
        "1",
        "--rdzv-endpoint",
        "127.0.0.1:29437",
        "--rdzv-id",
        "99",
        "--nproc-per-node",
        "1",
        "--max-restarts",
        "3",
        "--log-dir",
        "logs",
        "--",
        "train",
        "none.yaml",
    ]);
}

#[test]
fn slurm_starts_a_task_a_rank() {
    let said = run_slurm("slurm-tasks.sbatch");
    let rank = "train my file.yaml RANK=9 LOCAL_RANK=1 WORLD_SIZE=16 OMP=8 node7:29500";
    assert_eq!(said.trim(), format!("srun --kill-on-bad-exit=1\nsrun --cpus-per-task=8\n{rank}"));
}

#[test]
fn kubernetes_gives_every_pod_its_number() {
    let text = std::fs::read_to_string(template("kubernetes-job.yaml")).unwrap();
    let documents: Vec<Value> = text.split("\n---\n").map(|part| serde_yaml::from_str(part).unwrap()).collect();
    let (service, job) = (&documents[0], &documents[1]);
    assert_eq!(service["metadata"]["name"], job["spec"]["template"]["spec"]["subdomain"]);
    assert_eq!(job["spec"]["completions"], job["spec"]["parallelism"]);
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let line = container["args"][0].as_str().unwrap();
    assert!(line.contains("--rdzv-endpoint \"$ENDPOINT\"") && line.contains("--nnodes 2"), "{line}");
    assert_eq!(container["env"][0]["value"].as_str().unwrap(), "monopass-0.monopass:29400");
}

/// The command line is understood; what is wrong is that there is no such file.
fn refused_for_the_file_alone(arguments: &[&str]) {
    let place = Workplace::empty();
    let ended = place.run(arguments).expect_code(2);
    assert!(ended.stderr.contains("none.yaml"), "{}", ended.stderr);
}
