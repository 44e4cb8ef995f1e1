//! The command line of `cargo xtask`, parsed by hand: six words do not need a crate.

use crate::libtorch::Flavour;

/// What `cargo xtask help` prints.
pub const USAGE: &str = "\
usage: cargo xtask COMMAND

  setup [--cpu|--cuda]     bring libtorch 2.11.0 and link it as `.libtorch`
                           (an existing LIBTORCH is used as it is; a GPU selects the CUDA set)
  quickstart               set up, build, fetch a small model, run configs/quickstart.yaml
  test [--nextest] [-- ARGS]
                           set up and run every test of the workspace (ARGS go to `cargo test`)
  check [--no-tests]       format, house rules, documents, clippy, API docs, tests
  docs-check               links, files and commands named in the documents exist
  help                     this text

  The cache is $XDG_CACHE_HOME/monopass, else ~/.cache/monopass.";

/// One parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Print [`USAGE`].
    Help,
    /// Bring libtorch; `None` chooses by what the machine has.
    Setup {
        /// The libtorch asked for by name.
        flavour: Option<Flavour>,
    },
    /// From nothing to a table.
    Quickstart,
    /// All tests.
    Test {
        /// Which program runs the tests.
        runner: TestRunner,
        /// Handed to it unchanged.
        rest: Vec<String>,
    },
    /// Everything CI checks.
    Check {
        /// Whether the tests are part of it.
        tests: bool,
    },
    /// The documents alone.
    DocsCheck,
}

/// Which program runs the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestRunner {
    /// `cargo test`
    Cargo,
    /// `cargo nextest run`, then the doc tests
    Nextest,
}

/// Parses the words after `cargo xtask`.
///
/// # Errors
/// A sentence for the user when a word is not known or two contradict each other.
pub fn parse(words: &[String]) -> Result<Command, String> {
    let Some((command, rest)) = words.split_first() else {
        return Ok(Command::Help);
    };
    if rest.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h") {
        return Ok(Command::Help);
    }
    match command.as_str() {
        "help" | "--help" | "-h" => Ok(Command::Help),
        "setup" => parse_setup(rest),
        "quickstart" => no_more(command, rest).map(|()| Command::Quickstart),
        "docs-check" => no_more(command, rest).map(|()| Command::DocsCheck),
        "test" => parse_test(rest),
        "check" => match rest {
            [] => Ok(Command::Check { tests: true }),
            [flag] if flag == "--no-tests" => Ok(Command::Check { tests: false }),
            _ => Err(format!("`check` takes `--no-tests` or nothing, got `{}`", rest.join(" "))),
        },
        other => Err(format!("unknown command `{other}`")),
    }
}

fn parse_setup(flags: &[String]) -> Result<Command, String> {
    let mut flavour = None;
    for flag in flags {
        let asked = match flag.as_str() {
            "--cpu" => Flavour::Cpu,
            "--cuda" => Flavour::Cuda,
            other => return Err(format!("`setup` does not know `{other}`")),
        };
        if flavour.is_some_and(|earlier| earlier != asked) {
            return Err("`--cpu` and `--cuda` exclude each other".to_owned());
        }
        flavour = Some(asked);
    }
    Ok(Command::Setup { flavour })
}

fn parse_test(words: &[String]) -> Result<Command, String> {
    let (flags, rest) = match words.iter().position(|word| word == "--") {
        Some(at) => (&words[..at], words[at + 1..].to_vec()),
        None => (words, Vec::new()),
    };
    let runner = match flags {
        [] => TestRunner::Cargo,
        [flag] if flag == "--nextest" => TestRunner::Nextest,
        _ => {
            return Err(format!("`test` takes `--nextest`, then arguments after `--`, got `{}`", flags.join(" ")));
        }
    };
    Ok(Command::Test { runner, rest })
}

fn no_more(command: &str, rest: &[String]) -> Result<(), String> {
    if rest.is_empty() { Ok(()) } else { Err(format!("`{command}` takes no arguments, got `{}`", rest.join(" "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn commands_and_their_flags_are_read() {
        assert_eq!(parsed(""), Ok(Command::Help));
        assert_eq!(parsed("setup -h"), Ok(Command::Help));
        assert_eq!(parsed("setup"), Ok(Command::Setup { flavour: None }));
        assert_eq!(parsed("setup --cuda"), Ok(Command::Setup { flavour: Some(Flavour::Cuda) }));
        assert_eq!(parsed("quickstart"), Ok(Command::Quickstart));
        assert_eq!(parsed("check --no-tests"), Ok(Command::Check { tests: false }));
        assert_eq!(
            parsed("test --nextest -- -p monopass-data --help"),
            Ok(Command::Test {
                runner: TestRunner::Nextest,
                rest: vec!["-p".into(), "monopass-data".into(), "--help".into()],
            })
        );
    }

    #[test]
    fn wrong_words_are_named() {
        for (line, named) in [
            ("instal", "`instal`"),
            ("setup --gpu", "`--gpu`"),
            ("setup --cpu --cuda", "exclude"),
            ("quickstart now", "`now`"),
            ("test native", "`native`"),
            ("check --fast", "`--fast`"),
        ] {
            let message = parsed(line).unwrap_err();
            assert!(message.contains(named), "{line}: {message}");
        }
    }
}
