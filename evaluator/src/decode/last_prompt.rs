//! Decoders that begin with the same pass over the prompt share it in an evaluation.

use std::cell::RefCell;

use model::{CausalLm, KvCache};
use tch::Tensor;

use super::Continuation;

/// The last prompt's pass. Every decoder that begins with it is charged its seconds, passes and tokens; what is saved is the time of
/// the evaluation, not of a decoder.
#[derive(Debug)]
pub struct LastPrompt {
    last: RefCell<Option<PromptRead>>,
    /// Whether a pass is kept for the decoders after.
    keeps: bool,
}

#[derive(Debug)]
struct PromptRead {
    ids: Vec<i64>,
    cache: KvCache,
    /// Of the last token, `[1, hidden]`.
    state: Tensor,
    seconds: f64,
}

impl Default for LastPrompt {
    fn default() -> Self {
        Self { last: RefCell::default(), keeps: true }
    }
}

impl LastPrompt {
    /// For one decoder alone: keeping its pass for others would double the cache.
    pub(crate) fn unshared() -> Self {
        Self { last: RefCell::default(), keeps: false }
    }

    /// The next decoder reads its prompt itself.
    pub fn forget(&self) {
        *self.last.borrow_mut() = None;
    }

    /// A text that was read up to the end of `ids`, with room for `capacity` tokens, and its last state `[1, hidden]`.
    pub(crate) fn read<'m>(&self, model: &'m CausalLm, ids: &[i64], capacity: usize) -> (Continuation<'m>, Tensor) {
        if let Some(read) = self.last.borrow().as_ref().filter(|read| read.ids == ids) {
            let mut cache = read.cache.repeat_first_row(1);
            // Room that this decoder would have made before its clock started.
            cache.make_room(capacity as i64);
            // Reading a value waits for the device, which still copies.
            let _ = read.state.double_value(&[0, 0]);
            let text = Continuation::behind(model, cache, &read.state, ids.len(), read.seconds);
            return (text, read.state.shallow_clone());
        }
        let mut text = Continuation::new(model, capacity);
        let state = text.feed(ids);
        // reading a value waits for the device
        let _ = state.double_value(&[0, 0]);
        let seconds = text.seconds();
        if self.keeps {
            let (ids, cache) = (ids.to_vec(), text.cache.repeat_first_row(1));
            *self.last.borrow_mut() = Some(PromptRead { ids, cache, state: state.shallow_clone(), seconds });
        }
        text.charge(seconds);
        (text, state)
    }
}

#[cfg(test)]
mod tests {
    use data::prompt::Identifiers;

    use super::*;
    use crate::decode::tests::{FakePrompts, sample, tiny};
    use crate::decode::{AutoregressiveForced, Decoder, Drafter, Jacobi, SingleToken, Speculative};
    use crate::sliding::PromptSource as _;

    #[test]
    fn a_decoder_alone_keeps_no_second_cache() {
        let (model, prompt) = (tiny(3), FakePrompts(Identifiers::Alphabetic).prompt(&sample("q", 7)).unwrap());
        let (alone, shared) = (LastPrompt::unshared(), LastPrompt::default());
        for last in [&alone, &shared] {
            drop(last.read(&model, &prompt.input_ids, 64));
        }
        assert!(alone.last.borrow().is_none() && shared.last.borrow().is_some());
    }

    #[test]
    fn a_shared_prompt_changes_neither_order_nor_cost() {
        let model = tiny(3);
        let last = LastPrompt::default();
        let decoders: [Box<dyn Decoder>; 5] = [
            Box::new(SingleToken),
            Box::new(AutoregressiveForced),
            Box::new(Jacobi::new(None)),
            Box::new(Jacobi::new(Some(2))),
            Box::new(Speculative::new(Drafter::SelfDraft, 3, None)),
        ];
        for more in [0, 3, 9] {
            let mut prompt = FakePrompts(Identifiers::Alphabetic).prompt(&sample("q", 7)).unwrap();
            prompt.input_ids.extend((0..more).map(|k| 41 + k % 7));
            for decoder in &decoders {
                let alone = decoder.decode(&model, &prompt).unwrap();
                for shared in [
                    decoder.decode_behind(&model, &prompt, &last).unwrap(),
                    decoder.decode_behind(&model, &prompt, &last).unwrap(),
                ] {
                    assert_eq!(shared.order, alone.order);
                    let cost = |d: &crate::decode::Decoded| (d.forward_passes, d.tokens_computed, d.new_tokens);
                    assert_eq!(cost(&shared), cost(&alone));
                    assert!(shared.seconds >= last.last.borrow().as_ref().unwrap().seconds);
                }
            }
        }
    }
}
