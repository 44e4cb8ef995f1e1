//! `monopass show-layout`: where tokens stand in columns, what they learn, and who sees whom.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use data::batch::{SamplePlace, TokenSource as _};
use data::branched::{BranchPrompts, BranchedText, ColumnarTexts, Learned};
use evaluator::report::mask_picture;
use model::{BranchAlignment, BranchLength, ColumnLayout, ColumnarPlace, TargetAlignment, Tokenizer};

use crate::cli::answer::ShowLayoutArgs;
use crate::config::check::load_with_source;
use crate::config::problem::suggestion;
use crate::failure::{InputError, UsageError};
use crate::hub;
use crate::write_whole::write_whole;

/// Width of a token in the grid.
const CELL: usize = 9;
/// Columns of the grid side by side on the terminal.
const COLUMNS_A_LINE: usize = 12;

/// A layout, and the words of its tokens in linear order.
struct Shown {
    layout: ColumnLayout,
    words: Vec<String>,
    title: String,
}

/// Prints the grid.
///
/// # Errors
/// Lengths that cannot be read, or a set or tokenizer that cannot.
pub fn run(args: &ShowLayoutArgs) -> anyhow::Result<()> {
    let shown = match &args.file {
        Some(file) => of_file(args, file)?,
        None => of_lengths(args)?,
    };
    println!("{}", shown.title);
    print_grid(&shown);
    print_targets(&shown, args.targets.into());
    if args.mask {
        print_mask(&shown.layout);
    }
    if let Some(path) = &args.svg {
        write_whole(path, mask_picture(&shown.layout, &shown.title).as_bytes())?;
        println!("\n{}", path.display());
    }
    Ok(())
}

fn of_lengths(args: &ShowLayoutArgs) -> anyhow::Result<Shown> {
    let length = |text: &String| {
        let numbers = text.split_once('+').and_then(|(p, a)| Some((p.trim().parse().ok()?, a.trim().parse().ok()?)));
        match numbers {
            Some((prompt, answer)) if prompt > 0 => Ok(BranchLength { prompt, answer }),
            _ => Err(UsageError::new(
                format!("`--branches`: got `{text}`, wanted tokens of prompt and answer, the prompt at least 1"),
                "write `--branches 3+4,2+2`",
            )),
        }
    };
    let branches = args.branches.iter().map(length).collect::<Result<Vec<_>, _>>()?;
    let layout = ColumnLayout::new(args.background, &branches, args.alignment.into());
    let word = |place: &ColumnarPlace| match place.branch.checked_sub(1) {
        None => format!("b{}", place.index),
        Some(branch) if (place.index as usize) < branches[branch as usize].prompt => {
            format!("q{}.{}", place.branch, place.index)
        }
        Some(branch) => format!("a{}.{}", place.branch, place.index as usize - branches[branch as usize].prompt),
    };
    let words = layout.places().iter().map(word).collect();
    let title = format!("background of {} tokens, {} branches", args.background, branches.len());
    Ok(Shown { layout, words, title })
}

fn of_file(args: &ShowLayoutArgs, file: &Path) -> anyhow::Result<Shown> {
    let (config, source) = load_with_source(file, &args.set)?;
    let sets: Vec<&str> = config.data.branched.keys().map(String::as_str).collect();
    let name = args.branched_set.as_deref().or(sets.first().copied()).unwrap_or_default();
    let Some(set) = config.data.branched.get(name) else {
        let text = format!("`{}` has no set `{name}` in `data.branched`", source.file.display());
        return Err(UsageError::new(text, suggestion(name, &sets)).into());
    };
    let mut set = set.clone();
    for path in set.paths_mut() {
        *path = hub::data_path(path)?;
    }
    set.max_texts = Some(set.max_texts.map_or(args.index + 1, |most| most.min(args.index + 1)));
    let (texts, _) = data::branched::load(&set).with_context(|| format!("{}: set `{name}`", source.file.display()))?;
    let Some(text) = texts.into_iter().nth(args.index) else {
        let text = format!("set `{name}` has no text number {}", args.index);
        return Err(InputError::new(text, "texts are counted from 0").into());
    };
    let folder = hub::model_folder(config.model.tokenizer.as_deref().unwrap_or(&config.model.path))?;
    let tokenizer = Arc::new(Tokenizer::load(&folder)?);
    let prompts = BranchPrompts::new(Arc::clone(&tokenizer), config.data.branch_prompt.clone())?;
    let title = format!("text `{}` of set `{name}`", text.id);
    let alignment: BranchAlignment = args.alignment.into();
    let (layout, input_ids) = tokens_of(text, prompts, alignment)?;
    let word = |id: &i64| tokenizer.decode(&[*id], false).map(|word| word.replace('\n', "\\n").replace(' ', "_"));
    let words = input_ids.iter().map(word).collect::<Result<_, _>>()?;
    Ok(Shown { layout, words, title })
}

/// Layout and token ids of a text, as it is learned from in this alignment.
fn tokens_of(
    text: BranchedText,
    prompts: BranchPrompts,
    alignment: BranchAlignment,
) -> anyhow::Result<(ColumnLayout, Vec<i64>)> {
    let targets = TargetAlignment::Branch;
    let texts = Arc::new(vec![text]);
    let source = ColumnarTexts { texts, prompts, learned: Learned::Answers, alignment, targets };
    let place = SamplePlace { epoch: 0, index: 0 };
    Ok((source.layout(place.index)?, source.tokens(place, 0)?.input_ids))
}

fn print_grid(shown: &Shown) {
    let places = shown.layout.places();
    let columns = places.iter().map(|place| place.column).max().map_or(0, |last| last as usize + 1);
    let branches = shown.layout.branches().len() + 1;
    for first in (0..columns).step_by(COLUMNS_A_LINE) {
        let range = first..(first + COLUMNS_A_LINE).min(columns);
        let heading: String = range.clone().map(|column| format!(" {column:<CELL$}")).collect();
        println!("\n{:>8} {heading}", "column");
        for branch in 0..branches {
            let word = |column: usize| {
                let at = places.iter().position(|p| p.branch as usize == branch && p.column as usize == column);
                at.map_or_else(|| "·".to_owned(), |at| shown.words[at].chars().take(CELL).collect())
            };
            let cells: Vec<String> = range.clone().map(word).collect();
            if cells.iter().any(|cell| cell != "·") {
                let line: String = cells.iter().map(|cell| format!(" {cell:<CELL$}")).collect();
                let name = if branch == 0 { "text".to_owned() } else { format!("branch {branch}") };
                println!("{name:>8} {line}");
            }
        }
    }
}

fn print_targets(shown: &Shown, alignment: TargetAlignment) {
    let branches = shown.layout.branches();
    let is_answer = |branch: u32, index: u32| branch > 0 && index as usize >= branches[branch as usize - 1].prompt;
    let pairs = shown.layout.targets(alignment, is_answer);
    let place = |at: usize| shown.layout.places()[at];
    let crossing = pairs.iter().filter(|(from, to)| place(*from).branch != place(*to).branch).count();
    println!("\nlearned ({} tokens, {crossing} of them from another branch's token):", pairs.len());
    let shown_pairs = pairs.iter().take(24).map(|(from, to)| format!("{} -> {}", shown.words[*from], shown.words[*to]));
    println!("  {}{}", shown_pairs.collect::<Vec<_>>().join(", "), if pairs.len() > 24 { ", .." } else { "" });
}

/// Rows see, columns are seen; `#` earlier columns, `o` itself.
fn print_mask(layout: &ColumnLayout) {
    println!("\nwho sees whom, in linear order:");
    let places = layout.places();
    for (row, place) in places.iter().enumerate() {
        let cell = |(at, other): (usize, &ColumnarPlace)| match (at == row, other.column < place.column) {
            (true, _) => 'o',
            (_, true) => '#',
            _ => '.',
        };
        println!("  {:>2} {}", place.branch, places.iter().enumerate().map(cell).collect::<String>());
    }
}
