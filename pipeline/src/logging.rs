//! What the user sees on stderr, and the same with times in `run.log`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, filter};

/// The log file of the run folder, once there is one.
static RUN_LOG: OnceLock<Mutex<File>> = OnceLock::new();

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Loudness {
    /// What is wrong.
    Quiet,
    /// What is done, and how far it is.
    #[default]
    Usual,
    /// More.
    Verbose,
}

impl Loudness {
    /// The flag that makes another process as loud.
    pub fn flag(self) -> Option<&'static str> {
        match self {
            Self::Quiet => Some("--quiet"),
            Self::Usual => None,
            Self::Verbose => Some("--verbose"),
        }
    }
}

static LOUDNESS: OnceLock<Loudness> = OnceLock::new();

/// How much this process was asked to say.
pub fn loudness() -> Loudness {
    LOUDNESS.get().copied().unwrap_or_default()
}

/// Whether a bar would be seen, and is wanted: on a terminal, of the main process, not when it is to be quiet.
pub fn draws_bars() -> bool {
    io::stderr().is_terminal() && rank_is_main() && loudness() != Loudness::Quiet
}

fn rank_is_main() -> bool {
    std::env::var("RANK").map_or(true, |rank| rank.trim() == "0")
}

/// Starts logging. `MONOPASS_LOG` overrides what goes to stderr (`debug`, `trainer=trace`, ..); processes other than rank 0
/// say nothing but warnings.
pub fn init(loudness: Loudness) {
    let _ = LOUDNESS.set(loudness);
    let default = match (rank_is_main(), loudness) {
        (false, _) | (true, Loudness::Quiet) => "warn",
        (true, Loudness::Verbose) => "debug,tantivy=warn",
        (true, Loudness::Usual) => "info,tantivy=warn",
    };
    let filter = EnvFilter::try_from_env("MONOPASS_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // Plain on a terminal too: what would be coloured are the names of fields.
    let to_stderr = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(PlainLine)
        .with_writer(|| BesideBars)
        .with_filter(filter);
    let file_filter = filter::filter_fn(|metadata| {
        *metadata.level() <= Level::DEBUG
            && !(metadata.target().starts_with("tantivy") && *metadata.level() > Level::WARN)
    });
    let to_file = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(false)
        .with_writer(RunLog)
        .with_filter(file_filter);
    // A second call (tests) keeps the first subscriber.
    let _ = Registry::default().with(to_stderr).with(to_file).try_init();
}

/// From now on everything is written to `path` as well.
///
/// # Errors
/// When the file cannot be opened.
pub fn write_to(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let _ = RUN_LOG.set(Mutex::new(file));
    Ok(())
}

/// `message`, or `warning: message`.
struct PlainLine;

impl<S, N> FormatEvent<S, N> for PlainLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        match *event.metadata().level() {
            Level::ERROR => out.write_str("error: ")?,
            Level::WARN => out.write_str("warning: ")?,
            Level::INFO => {}
            Level::DEBUG | Level::TRACE => write!(out, "debug: {}: ", event.metadata().target())?,
        }
        context.field_format().format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// Stderr, whose lines do not run into a progress bar.
struct BesideBars;

impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Not `suspend`, which panics where the terminal is gone; bars are drawn again at their next step.
        let _ = trainer::BARS.clear();
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

struct RunLog;

struct RunLogWriter;

impl<'a> MakeWriter<'a> for RunLog {
    type Writer = RunLogWriter;

    fn make_writer(&'a self) -> RunLogWriter {
        RunLogWriter
    }
}

impl Write for RunLogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A log that cannot be written must not stop the run.
        if let Some(Ok(mut file)) = RUN_LOG.get().map(Mutex::lock) {
            let _ = file.write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
