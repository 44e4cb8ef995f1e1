//! Heads of Medusa (Cai et al. 2024, arXiv:2401.10774).

use tch::{Device, Kind, Tensor};

use crate::draft_heads::DraftHeads;

/// Head `i` reads the state `h` as `h + SiLU(W_i h)` and ends in its own copy of the identifiers' rows:
/// `logits_i = R_i (h + SiLU(W_i h))` (section 2.1.1 there). All of it is trained.
#[derive(Debug)]
pub struct MedusaHeads {
    /// `W_i`, `[heads, hidden, hidden]`.
    residual: Tensor,
    /// `R_i`, `[heads, N, hidden]`.
    identifiers: Tensor,
}

impl MedusaHeads {
    /// Float32 heads from `identifier_rows` `[N, hidden]` (see [`crate::draft_heads::identifier_rows`]), copied for each.
    /// Every `W_i` is zero: untrained heads repeat the model's own row, and nothing is random.
    #[must_use]
    pub fn new(identifier_rows: &Tensor, num_heads: usize) -> Self {
        let rows = identifier_rows.detach().to_kind(Kind::Float);
        let (heads, hidden) = (num_heads as i64, rows.size()[1]);
        Self {
            residual: Tensor::zeros([heads, hidden, hidden], (Kind::Float, rows.device())),
            identifiers: rows.unsqueeze(0).repeat([heads, 1, 1]),
        }
    }
}

impl DraftHeads for MedusaHeads {
    fn num_heads(&self) -> usize {
        self.identifiers.size()[0] as usize
    }

    fn num_candidates(&self) -> usize {
        self.identifiers.size()[1] as usize
    }

    fn hidden_size(&self) -> i64 {
        self.identifiers.size()[2]
    }

    fn device(&self) -> Device {
        self.identifiers.device()
    }

    fn logits(&self, states: &Tensor) -> Tensor {
        let states = states.to_kind(Kind::Float);
        let [heads, _, hidden] = self.identifiers.size()[..] else { unreachable!("made with three dimensions") };
        let ahead = states.linear::<&Tensor>(&self.residual.view([-1, hidden]), None).silu(); // [rows, heads * hidden]
        let z = ahead.view([-1, heads, hidden]) + states.unsqueeze(1); // [rows, heads, hidden]
        z.transpose(0, 1).bmm(&self.identifiers.transpose(1, 2)).transpose(0, 1) // [rows, heads, N]
    }

    fn named_tensors(&self) -> Vec<(String, Tensor)> {
        let named = [("residual.weight", &self.residual), ("identifiers.weight", &self.identifiers)];
        named.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelError;
    use crate::head_folder::{self, HeadCard};
    use tch::no_grad;

    fn randn(size: &[i64]) -> Tensor {
        Tensor::randn(size, (Kind::Float, Device::Cpu))
    }

    fn card(n: usize) -> HeadCard {
        HeadCard {
            method: "medusa".into(),
            num_candidates: n,
            model: "m".into(),
            prompt: "p".into(),
            settings: serde_json::json!({"num_heads": 3}),
        }
    }

    #[test]
    fn logits_follow_the_formula() {
        let rows = randn(&[5, 12]);
        let heads = MedusaHeads::new(&rows, 3);
        let states = randn(&[7, 12]);
        let own = states.matmul(&rows.tr());
        let worst = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        assert!(worst(&heads.logits(&states).select(1, 2), &own) < 1e-5, "untrained heads repeat the model's row");
        let _ = no_grad(|| heads.residual.shallow_clone().uniform_(-1.0, 1.0));
        let logits = heads.logits(&states);
        assert_eq!(logits.size(), [7, 3, 5]);
        for head in 0..3 {
            let z = states.matmul(&heads.residual.get(head).tr()).silu() + &states;
            // float32 sums in another order, values of about 10
            assert!(worst(&z.matmul(&rows.tr()), &logits.select(1, head)) < 1e-4);
        }
    }

    #[test]
    fn a_folder_gives_the_same_heads_back() {
        let folder = tempfile::tempdir().unwrap();
        let trained = MedusaHeads::new(&randn(&[5, 12]), 3);
        let _ = no_grad(|| trained.residual.shallow_clone().uniform_(-1.0, 1.0));
        head_folder::save(folder.path(), &card(5), &trained.named_tensors()).unwrap();
        let fresh = MedusaHeads::new(&randn(&[5, 12]), 3);
        head_folder::load_into(folder.path(), &card(5), &fresh.named_tensors()).unwrap();
        let states = randn(&[3, 12]);
        assert_eq!(trained.logits(&states), fresh.logits(&states));
        let other = MedusaHeads::new(&randn(&[6, 12]), 3);
        let error = head_folder::load_into(folder.path(), &card(6), &other.named_tensors()).unwrap_err();
        assert!(matches!(error, ModelError::OtherHead { .. }), "{error}");
        // a card that lies about N is caught by the shapes
        let error = head_folder::load_into(folder.path(), &card(5), &other.named_tensors()).unwrap_err();
        assert!(matches!(error, ModelError::ShapeMismatch { .. }), "{error}");
    }
}
