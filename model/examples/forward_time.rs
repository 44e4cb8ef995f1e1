//! Times of one model on one machine: prompt pass, decoding passes of 1 and 4 tokens, training step without optimiser.
//!
//! `cargo run --release -p monopass-model --example forward_time -- FOLDER [bf16|fp32] [PROMPT_TOKENS]`

use std::path::PathBuf;
use std::time::Instant;

use model::{AttentionPattern, CausalLm, LoadOptions, ModelError};
use monopass_model as model;
use tch::{Device, Kind, Tensor, no_grad};

const RUNS: usize = 3;

fn main() -> Result<(), ModelError> {
    native::runtime::init();
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: forward_time FOLDER [bf16|fp32] [PROMPT_TOKENS]");
        std::process::exit(2);
    };
    let kind = if arguments.next().as_deref() == Some("fp32") { Kind::Float } else { Kind::BFloat16 };
    let tokens = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1500);
    let start = Instant::now();
    let mut model = CausalLm::load(&folder, &LoadOptions { device: Device::Cpu, kind })?;
    println!("{} parameters, {kind:?}, loaded in {:.2} s", model.num_parameters(), start.elapsed().as_secs_f64());

    let prompt = random_ids(&model, tokens);
    no_grad(|| {
        report(&format!("prompt pass, {tokens} tokens"), || {
            let _ = model.forward(&prompt, &AttentionPattern::Causal, None);
        });
        let mut cache = model.new_cache(1, tokens + 16);
        let _ = model.forward(&prompt, &AttentionPattern::Causal, Some(&mut cache));
        for new in [1, 4] {
            let ids = random_ids(&model, new);
            report(&format!("decoding pass, {new} tokens, with logits"), || {
                cache.truncate(tokens);
                let hidden = model.forward(&ids, &AttentionPattern::Causal, Some(&mut cache)).squeeze_dim(0);
                let _ = model.logits(&hidden.narrow(0, new - 1, 1), None).argmax(-1, false).int64_value(&[0]);
            });
        }
    });

    model.train_all();
    for checkpointing in [false, true] {
        model.set_gradient_checkpointing(checkpointing);
        report(
            &format!("forward and backward, {} tokens, 80 labels, checkpointing {checkpointing}", tokens + 80),
            || {
                train_step(&model, tokens + 80);
            },
        );
    }
    Ok(())
}

fn train_step(model: &CausalLm, tokens: i64) {
    let ids = random_ids(model, tokens);
    let pass = model.forward_training(&model.embed(&ids), &AttentionPattern::Causal, None);
    let logits = model.logits(&pass.hidden.squeeze_dim(0).narrow(0, tokens - 81, 80), None);
    let loss = native::ops::cross_entropy_sum(&logits, &ids.squeeze_dim(0).narrow(0, tokens - 80, 80));
    pass.backward(&loss);
}

fn random_ids(model: &CausalLm, tokens: i64) -> Tensor {
    Tensor::randint(model.config.vocab_size, [1, tokens], (Kind::Int64, model.device()))
}

/// Median seconds of a few runs after one that warms up.
fn report(what: &str, mut run: impl FnMut()) {
    run();
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    println!("{what}: {:.4} s, peak {:.0} MiB", seconds[RUNS / 2], native::memory::peak_rss_mib());
}
