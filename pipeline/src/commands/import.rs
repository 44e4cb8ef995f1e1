//! `monopass import` and `monopass export`: model folders from elsewhere and for elsewhere.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use model::{CausalLm, LoadOptions, SaveOptions, Tokenizer};

use crate::cli::{ExportArgs, ImportArgs};
use crate::config::device::DeviceChoice;
use crate::failure::{InputError, UsageError};
use crate::hub;
use crate::model_card::CARD_FILE;
use crate::model_source::{ModelNote, NOTE_FILE};

/// Makes a folder from a hub id, a GGUF file or a folder.
///
/// # Errors
/// When the source cannot be used or the folder cannot be written.
pub fn import(args: &ImportArgs) -> anyhow::Result<()> {
    prepare_out(&args.out, args.force)?;
    let source = Path::new(&args.source);
    if source.is_file() {
        model::gguf::import(source, &args.out)?;
    } else if args.source.ends_with(".gguf") {
        return Err(InputError::new(format!("there is no file `{}`", args.source), "check the path").into());
    } else {
        let folder = hub::model_folder(&args.source)?;
        copy_model(&folder, &args.out)?;
    }
    let tokenizer = Tokenizer::load(&args.out)?;
    println!("{} ({} tokens in the vocabulary)", args.out.display(), tokenizer.vocab_size());
    Ok(())
}

/// Writes a model anew, adapters merged.
///
/// # Errors
/// When the model cannot be loaded or the folder cannot be written.
pub fn export(args: &ExportArgs) -> anyhow::Result<()> {
    prepare_out(&args.out, args.force)?;
    let device: DeviceChoice = args.device.parse()?;
    let folder = hub::model_folder(&args.model)?;
    let options = LoadOptions { device: device.resolve()?, kind: args.precision.kind() };
    let model = CausalLm::load(&folder, &options)?;
    let merged = model.lora_config().is_some();
    model.save(&args.out, &SaveOptions { kind: Some(args.precision.kind()), merge_lora: true, adapter_only: None })?;
    tokenizer_of(&folder)?.save(&args.out)?;
    if let Some(mut note) = ModelNote::read(&folder)? {
        note.weights = ModelNote::hash_weights(&args.out)?;
        note.write(&args.out)?;
        let card = folder.join(CARD_FILE);
        if card.is_file() {
            fs::copy(&card, args.out.join(CARD_FILE)).with_context(|| format!("cannot copy `{}`", card.display()))?;
        }
    }
    let how = if merged { ", adapters merged" } else { "" };
    println!("{} ({} weights{how})", args.out.display(), model.num_parameters());
    Ok(())
}

/// The tokenizer of a folder, or of the base an adapter folder names.
fn tokenizer_of(folder: &Path) -> anyhow::Result<Tokenizer> {
    if folder.join("tokenizer.json").is_file() {
        return Ok(Tokenizer::load(folder)?);
    }
    let text = fs::read_to_string(folder.join("adapter_config.json"))
        .with_context(|| format!("`{}` has neither a tokenizer nor an adapter", folder.display()))?;
    let adapter: serde_json::Value = serde_json::from_str(&text)
        .with_context(|| format!("`{}` is damaged", folder.join("adapter_config.json").display()))?;
    let base = adapter["base_model_name_or_path"].as_str().unwrap_or_default();
    Ok(Tokenizer::load(&hub::model_folder(base)?)?)
}

fn prepare_out(out: &Path, force: bool) -> anyhow::Result<()> {
    if out.join("config.json").exists() && !force {
        return Err(
            UsageError::new(format!("`{}` already holds a model", out.display()), "`--force` replaces it").into()
        );
    }
    fs::create_dir_all(out).with_context(|| format!("cannot make `{}`", out.display()))
}

/// Copies a model folder's files, links followed; config.json last, so that a torn copy is no model.
fn copy_model(folder: &Path, out: &Path) -> anyhow::Result<()> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("cannot list `{}`", folder.display()))?;
    files.retain(|file| {
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        file.is_file()
            && (["safetensors", "json", "jinja"].contains(&extension))
            && file.file_name() != Some(NOTE_FILE.as_ref())
    });
    files.sort_by_key(|file| (file.file_name() == Some("config.json".as_ref()), file.clone()));
    if !files.iter().any(|file| file.file_name() == Some("config.json".as_ref())) {
        return Err(InputError::new(
            format!("`{}` has no config.json", folder.display()),
            "give a Hugging Face model folder, a hub id or a GGUF file",
        )
        .into());
    }
    for file in files {
        let Some(name) = file.file_name() else { continue };
        let temporary = out.join(format!(".{}.partial", name.to_string_lossy()));
        fs::copy(&file, &temporary)
            .and_then(|_| fs::rename(&temporary, out.join(name)))
            .with_context(|| format!("cannot copy `{}` to `{}`", file.display(), out.display()))?;
    }
    Ok(())
}
