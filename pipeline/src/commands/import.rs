//! `monopass import` and `monopass export`: model folders from elsewhere and for elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use model::{CausalLm, LoadOptions, SaveOptions, Tokenizer};

use crate::cli::{ExportArgs, ImportArgs};
use crate::config::device::DeviceChoice;
use crate::failure::{InputError, UsageError};
use crate::hub;
use crate::model_card::{self, CARD_FILE};
use crate::model_source::{ModelNote, NOTE_FILE};
use crate::stages::remove_folder;
use crate::write_whole::write_whole;

const CONFIG: &str = "config.json";

/// Makes a folder from a hub id, a GGUF file or a folder.
///
/// # Errors
/// When the source cannot be used or the folder cannot be written.
pub fn import(args: &ImportArgs) -> anyhow::Result<()> {
    write_model(&args.out, args.force, |out| {
        let source = Path::new(&args.source);
        if source.is_file() {
            model::gguf::import(source, out)?;
        } else if args.source.ends_with(".gguf") {
            return Err(InputError::new(format!("there is no file `{}`", args.source), "check the path").into());
        } else {
            copy_model(&hub::model_folder(&args.source)?, out)?;
        }
        Ok(())
    })?;
    let tokenizer = Tokenizer::load(&args.out)?;
    println!("{} ({} tokens in the vocabulary)", args.out.display(), tokenizer.vocab_size());
    Ok(())
}

/// Writes a model anew, adapters merged.
///
/// # Errors
/// When the model cannot be loaded or the folder cannot be written.
pub fn export(args: &ExportArgs) -> anyhow::Result<()> {
    refuse_to_replace(&args.out, args.force)?;
    let device: DeviceChoice = args.device.parse()?;
    let folder = hub::model_folder(&args.model)?;
    let options = LoadOptions { device: device.resolve()?, kind: args.precision.kind() };
    let model = CausalLm::load(&folder, &options)?;
    let merged = model.lora_config().is_some();
    write_model(&args.out, args.force, |out| {
        model.save(out, &SaveOptions { kind: Some(args.precision.kind()), merge_lora: true, adapter_only: None })?;
        Tokenizer::load(&folder)?.save(out)?;
        if let Some(mut note) = ModelNote::read(&folder)? {
            note.weights = ModelNote::hash_weights(out)?;
            note.write(out)?;
        }
        let card = folder.join(CARD_FILE);
        // An adapter's card, of another program, is not that of the merged model.
        if card.is_file() && (!merged || folder.join(NOTE_FILE).is_file()) {
            fs::copy(&card, out.join(CARD_FILE)).with_context(|| format!("cannot copy `{}`", card.display()))?;
            return Ok(());
        }
        write_whole(&out.join(CARD_FILE), model_card::of_export(&args.model, merged)?.as_bytes())
    })?;
    let how = if merged { ", adapters merged" } else { "" };
    println!("{} ({} weights{how})", args.out.display(), model.num_parameters());
    Ok(())
}

fn refuse_to_replace(out: &Path, force: bool) -> anyhow::Result<()> {
    if model::folder::is_model_folder(out) && !force {
        return Err(
            UsageError::new(format!("`{}` already holds a model", out.display()), "`--force` replaces it").into()
        );
    }
    Ok(())
}

/// Fills a hidden folder inside `out` and moves its files into place. What the model there before was made of goes first: a shard or a
/// chat template left over would be read as the new model's. Other files stay.
fn write_model(out: &Path, force: bool, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    refuse_to_replace(out, force)?;
    let partial = out.join(".model.partial");
    remove_folder(&partial)?;
    fs::create_dir_all(&partial).with_context(|| format!("cannot make `{}`", partial.display()))?;
    let moved = fill(&partial).and_then(|()| move_model(&partial, out));
    remove_folder(&partial)?;
    moved
}

/// config.json goes first and comes last, so that a torn folder is no model.
fn move_model(partial: &Path, out: &Path) -> anyhow::Result<()> {
    let is_config = |file: &PathBuf| file.file_name() == Some(CONFIG.as_ref());
    let mut old = files(out)?;
    old.retain(|file| file.file_name().is_some_and(|name| is_of_a_model(&name.to_string_lossy())));
    old.sort_by_key(|file| !is_config(file));
    for file in old {
        fs::remove_file(&file).with_context(|| format!("cannot remove `{}`", file.display()))?;
    }
    let mut new = files(partial)?;
    new.sort_by_key(is_config);
    for file in new {
        let Some(name) = file.file_name() else { continue };
        fs::rename(&file, out.join(name))
            .with_context(|| format!("cannot move `{}` to `{}`", file.display(), out.display()))?;
    }
    Ok(())
}

/// Files that model and tokenizer are read from, and what is said of them.
fn is_of_a_model(name: &str) -> bool {
    const NAMES: [&str; 6] =
        [CONFIG, "generation_config.json", "model.safetensors.index.json", "adapter_config.json", NOTE_FILE, CARD_FILE];
    NAMES.contains(&name) || model::tokenizer::FILES.contains(&name) || name.ends_with(".safetensors")
}

/// Files of a folder, not those of its folders.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut files = listed().with_context(|| format!("cannot list `{}`", folder.display()))?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

/// Copies a model folder's files, links followed.
fn copy_model(folder: &Path, out: &Path) -> anyhow::Result<()> {
    let mut files = files(folder)?;
    files.retain(|file| {
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        ["safetensors", "json", "jinja"].contains(&extension)
    });
    if !files.iter().any(|file| file.file_name() == Some(CONFIG.as_ref())) {
        return Err(InputError::new(
            format!("`{}` has no config.json", folder.display()),
            "give a Hugging Face model folder, a hub id or a GGUF file",
        )
        .into());
    }
    for file in files {
        let Some(name) = file.file_name() else { continue };
        fs::copy(&file, out.join(name))
            .with_context(|| format!("cannot copy `{}` to `{}`", file.display(), out.display()))?;
    }
    Ok(())
}
