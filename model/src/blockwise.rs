//! Heads of blockwise parallel decoding (Stern, Shazeer & Uszkoreit 2018).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Device, Kind, Tensor};

use crate::draft_heads::DraftHeads;
use crate::random_weights::uniform_matrix;

/// Head `i` reads the state `h` as `W_i (W h) + h` and ends in the model's own rows of the identifiers, which stay as they are:
/// `logits_i = R (W_i (W h) + h)`. `W` is one bottleneck for all heads.
#[derive(Debug)]
pub struct BlockwiseHeads {
    /// `W`, `[bottleneck, hidden]`.
    down: Tensor,
    /// `W_i`, `[heads, hidden, bottleneck]`.
    up: Tensor,
    /// `R`, `[N, hidden]`.
    identifiers: Tensor,
}

impl BlockwiseHeads {
    /// Width of the bottleneck where nothing else is said.
    pub const BOTTLENECK: usize = 256;

    /// Heads that together with the model's own row name every place that has to be decided: `N - 2`. The last of N places
    /// is left over when the others are filled.
    #[must_use]
    pub fn default_num_heads(num_candidates: usize) -> usize {
        num_candidates.saturating_sub(2).max(1)
    }

    /// Float32 heads beside `identifier_rows` `[N, hidden]` (see [`crate::draft_heads::identifier_rows`]). `W` is uniform in
    /// ±1/√hidden by `seed`, every `W_i` zero: untrained heads repeat the model's own row.
    #[must_use]
    pub fn new(identifier_rows: &Tensor, num_heads: usize, bottleneck: usize, seed: u64) -> Self {
        let identifiers = identifier_rows.detach().to_kind(Kind::Float);
        let (hidden, bottleneck, device) = (identifiers.size()[1], bottleneck as i64, identifiers.device());
        let bound = 1.0 / (hidden as f32).sqrt();
        let down = uniform_matrix(&mut ChaCha8Rng::seed_from_u64(seed), bottleneck, hidden, bound).to_device(device);
        let up = Tensor::zeros([num_heads as i64, hidden, bottleneck], (Kind::Float, device));
        Self { down, up, identifiers }
    }
}

impl DraftHeads for BlockwiseHeads {
    fn num_heads(&self) -> usize {
        self.up.size()[0] as usize
    }

    fn num_candidates(&self) -> usize {
        self.identifiers.size()[0] as usize
    }

    fn hidden_size(&self) -> i64 {
        self.identifiers.size()[1]
    }

    fn device(&self) -> Device {
        self.identifiers.device()
    }

    fn logits(&self, states: &Tensor) -> Tensor {
        let states = states.to_kind(Kind::Float);
        let [heads, _, bottleneck] = self.up.size()[..] else { unreachable!("made with three dimensions") };
        // R W_i first: [heads, N, bottleneck] is small, a vector of `hidden` for every row and head is not
        let folded = self.identifiers.matmul(&self.up).view([-1, bottleneck]);
        let ahead = states.linear::<&Tensor>(&self.down, None).linear::<&Tensor>(&folded, None); // [rows, heads * N]
        let own = states.linear::<&Tensor>(&self.identifiers, None); // [rows, N]
        ahead.view([states.size()[0], heads, self.identifiers.size()[0]]) + own.unsqueeze(1)
    }

    fn named_tensors(&self) -> Vec<(String, Tensor)> {
        let named = [("down.weight", &self.down), ("up.weight", &self.up)];
        named.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelError;
    use crate::head_folder::{self, HeadCard};
    use tch::no_grad;

    fn heads(n: usize, seed: u64) -> BlockwiseHeads {
        let rows = uniform_matrix(&mut ChaCha8Rng::seed_from_u64(9), n as i64, 12, 1.0);
        let heads = BlockwiseHeads::new(&rows, 3, 4, seed);
        let _ = no_grad(|| heads.up.shallow_clone().uniform_(-1.0, 1.0));
        heads
    }

    fn card(n: usize) -> HeadCard {
        HeadCard {
            method: "blockwise".into(),
            num_candidates: n,
            model: "m".into(),
            prompt: "p".into(),
            settings: serde_json::json!({"num_heads": 3}),
        }
    }

    fn worst(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn logits_follow_the_formula() {
        let heads = heads(5, 1);
        let states = Tensor::randn([7, 12], (Kind::Float, Device::Cpu));
        let logits = heads.logits(&states);
        assert_eq!(logits.size(), [7, 3, 5]);
        for head in 0..3 {
            let z = states.matmul(&heads.down.tr()).matmul(&heads.up.get(head).tr()) + &states;
            // two orders of multiplication in float32, values of about 10
            assert!(worst(&z.matmul(&heads.identifiers.tr()), &logits.select(1, head)) < 1e-4);
        }
    }

    #[test]
    fn untrained_heads_repeat_the_models_row() {
        let rows = Tensor::randn([4, 8], (Kind::Float, Device::Cpu));
        let heads = BlockwiseHeads::new(&rows, 2, 3, 0);
        let states = Tensor::randn([2, 8], (Kind::BFloat16, Device::Cpu));
        let own = states.to_kind(Kind::Float).matmul(&rows.tr());
        assert!(worst(&heads.logits(&states).select(1, 1), &own) < 1e-6);
    }

    #[test]
    fn a_folder_gives_the_same_heads_back() {
        let folder = tempfile::tempdir().unwrap();
        let trained = heads(5, 1);
        head_folder::save(folder.path(), &card(5), &trained.named_tensors()).unwrap();
        let fresh = heads(5, 2);
        head_folder::load_into(folder.path(), &card(5), &fresh.named_tensors()).unwrap();
        let states = Tensor::randn([3, 12], (Kind::Float, Device::Cpu));
        assert_eq!(trained.logits(&states), fresh.logits(&states));
        let error = head_folder::load_into(folder.path(), &card(6), &heads(6, 2).named_tensors()).unwrap_err();
        assert!(matches!(error, ModelError::OtherHead { .. }), "{error}");
        assert!(error.to_string().contains("number of candidates is 5, wanted 6"), "{error}");
    }
}
