//! Every command that a page names is one that the program takes, and every piece of a file one that it reads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use fixture::Workplace;
use monopass::cli::Cli;
use serde_yaml::{Mapping, Value};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Name and text of README.md, CONTRIBUTING.md and the pages of docs/.
fn pages() -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.extend(["README.md", "CONTRIBUTING.md"].map(|name| repository().join(name)));
    files.sort();
    let page = |file: PathBuf| (file.display().to_string(), std::fs::read_to_string(&file).unwrap());
    files.into_iter().map(page).collect()
}

/// The commands of a page: a line of a block each, or between backticks, where they may go on in the next line.
fn commands(page: &str) -> Vec<String> {
    let ours = |text: &str| {
        let text = text.trim_start().trim_start_matches("target/debug/");
        text.starts_with("monopass ").then(|| text.to_owned())
    };
    let (blocks, prose): (Vec<&str>, Vec<&str>) = page.lines().partition(|line| ours(line).is_some());
    let prose = prose.join("\n");
    let paragraphs = prose.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2));
    let quoted = paragraphs.filter_map(|text| ours(&text.replace('\n', " ")));
    blocks.into_iter().filter_map(ours).chain(quoted).collect()
}

/// The words of a command as it is typed: no comment, no redirection, nothing that may be left out.
fn words(command: &str) -> Vec<String> {
    let typed = command.split(" > ").flat_map(|command| command.split(" & ")).next().unwrap().replace("...", "");
    let words = shlex::split(&typed).unwrap_or_else(|| panic!("not a command of a shell: {command}"));
    words.into_iter().filter(|word| !word.starts_with('[') || !word.ends_with(']')).collect()
}

/// Whether the program takes the words, whatever else it wants: `monopass rank --decoder` only names a flag.
fn fault(words: &[String]) -> Option<String> {
    let mut command = Cli::command();
    command.build();
    let mut named = &command;
    for word in words[1..].iter().take_while(|word| !word.starts_with('-')) {
        match named.find_subcommand(word) {
            Some(subcommand) => named = subcommand,
            None if named.has_subcommands() => return Some(format!("there is no command `{word}`")),
            None => break,
        }
    }
    let error = Cli::try_parse_from(words).err()?;
    let cut_short = match error.kind() {
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => true,
        ErrorKind::InvalidValue => words.last().is_some_and(|last| last.starts_with("--")),
        _ => false,
    };
    (!cut_short).then(|| error.to_string())
}

#[test]
fn commands_of_the_pages_are_commands_of_the_program() {
    let (mut faults, mut seen) = (Vec::new(), 0);
    for (page, text) in pages() {
        for command in commands(&text) {
            let words = words(&command);
            // `monopass COMMAND` and `monopass prepare|train` stand for several.
            let Some(first) = words.get(1).filter(|word| word.as_str() != "COMMAND") else { continue };
            for one in first.split('|') {
                let words: Vec<String> = [&words[..1], &[one.to_owned()], &words[2..]].concat();
                seen += 1;
                faults.extend(fault(&words).map(|fault| format!("{page}: {command}\n{fault}")));
                let files = words.iter().filter(|word| word.starts_with("configs/") && word.ends_with(".yaml"));
                faults.extend(
                    files
                        .filter(|file| !repository().join(file).is_file())
                        .map(|file| format!("{page}: {command}\nthere is no {file}")),
                );
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    assert!(seen > 100, "only {seen} commands were found: are they written in another way?");
}

#[test]
fn a_misspelt_command_or_flag_of_a_page_is_found() {
    let fault_of = |command: &str| fault(&words(command));
    assert!(fault_of("monopass runn configs/quickstart.yaml").is_some());
    assert!(fault_of("monopass run FILE --dryrun").is_some());
    assert!(fault_of("monopass runs list").is_some());
    assert!(fault_of("monopass launch --max-restarts many -- run FILE").is_some());
    assert!(fault_of("monopass rank --decoder").is_none());
    assert!(fault_of("monopass runs rm RUN... --checkpoints").is_none());
}

/// The blocks of a page in YAML that have no name of their own.
fn yaml_blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if line == "```yaml" {
                blocks.push(body.join("\n") + "\n");
            }
        }
    }
    blocks
}

/// The block's keys in place of those of a whole file: the keys of `levels` of mappings within each other, sections and sets, say.
fn lay_over(whole: &mut Mapping, block: Mapping, levels: u32) {
    for (key, value) in block {
        match (whole.get_mut(&key), value) {
            (Some(Value::Mapping(section)), Value::Mapping(value)) if levels > 1 => {
                lay_over(section, value, levels - 1)
            }
            (_, value) => drop(whole.insert(key, value)),
        }
    }
}

/// What a page's blocks are pieces of: a file that a block repeats, or one in which it could stand.
const BLOCKS: [(&str, &[&str]); 5] = [
    ("README.md", &["configs/quickstart.yaml"]),
    ("docs/columnar.md", &["configs/columnar/smollm2-squad.yaml"]),
    ("docs/one-pass.md", &["configs/one_pass/smollm2-squad.yaml"]),
    ("docs/runs.md", &["configs/sweeps/quickstart.yaml"]),
    ("docs/tables.md", &["configs/tables/first-cpu.yaml"]),
];

#[test]
fn pieces_of_files_on_the_pages_are_read() {
    let place = Workplace::empty();
    let root = repository();
    for (page, text) in pages() {
        let page = Path::new(&page).strip_prefix(&root).unwrap().display().to_string();
        let blocks = yaml_blocks(&text);
        let files = BLOCKS.iter().find(|(name, _)| *name == page).map_or(&[][..], |(_, files)| files);
        assert_eq!(blocks.len(), files.len(), "{page}: say in BLOCKS which files its blocks are pieces of");
        for (block, file) in blocks.iter().zip(files) {
            let mut whole: Mapping = serde_yaml::from_str(&std::fs::read_to_string(root.join(file)).unwrap()).unwrap();
            let piece: Mapping = serde_yaml::from_str(block).unwrap();
            if block.starts_with(&format!("# {file}")) {
                for (section, value) in &piece {
                    assert_eq!(Some(value), whole.get(section), "{page} shows another {file} than there is");
                }
                continue;
            }
            lay_over(&mut whole, piece, 3);
            let piece = place.write("piece.yaml", &serde_yaml::to_string(&whole).unwrap());
            // Tables name their experiment files from the repository's root.
            let mut check = place.monopass(&["config", "check", piece.to_str().unwrap()]);
            let ended = fixture::Ended::new(&check.current_dir(&root).output().unwrap(), &root);
            assert_eq!(ended.code, Some(0), "{page}, laid over {file}:\n{block}\n{}{}", ended.stdout, ended.stderr);
        }
    }
}
