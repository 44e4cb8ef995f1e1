//! `tokenizer.json`, a zero byte, and `tokenizer_config.json` with its chat template; then a text and a chat through them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::{ChatMessage, Tokenizer};

fuzz_target!(init: monopass_fuzz::let_caught_panics_pass(), |bytes: &[u8]| {
    let cut = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    monopass_fuzz::file("tokenizer.json", &bytes[..cut]);
    monopass_fuzz::file("tokenizer_config.json", bytes.get(cut + 1..).unwrap_or_default());
    let Ok(tokenizer) = Tokenizer::load(monopass_fuzz::folder()) else { return };
    if let Ok(ids) = tokenizer.encode("Passage [1] of 20, größer ist\tbesser \u{1f600}", true) {
        let _ = tokenizer.decode(&ids, true);
    }
    let message = |role: &str, content: &str| ChatMessage { role: role.to_owned(), content: content.to_owned() };
    let chat = [message("system", "Rank."), message("user", "[1] box")];
    let _ = tokenizer.apply_chat_template(&chat, true);
});
