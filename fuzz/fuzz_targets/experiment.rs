//! An experiment file: YAML, variables, keys, types, and what `config check` asks.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pipeline::config::check::check;
use pipeline::config::experiment::ExperimentConfig;
use pipeline::config::load::ConfigSource;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(source) = ConfigSource::from_text(Path::new("fuzz.yaml"), text.to_owned(), &[]) else { return };
    match source.decode::<ExperimentConfig>() {
        Err(error) => drop(error.to_string()),
        Ok(mut config) => {
            config.fill_in();
            let problems = check(&config);
            if !problems.is_empty() {
                drop(source.error(problems).to_string());
            }
        }
    }
});
