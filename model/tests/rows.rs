//! A pass for some tokens gives what the whole pass gives there.

use model::{Architecture, AttentionPattern, CausalLm, LoadOptions, ModelConfig, TokenTree};
use monopass_model as model;
use tch::{Device, Kind, Tensor, no_grad};

#[test]
fn states_of_some_rows_are_those_of_the_whole_pass() {
    for architecture in Architecture::ALL {
        let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
        let model = CausalLm::random(ModelConfig::tiny(architecture, 40), 2, &options);
        let ids = Tensor::from_slice(&(0..18).map(|i| i * 5 % 40).collect::<Vec<i64>>()).view([2, 9]);
        let one = ids.narrow(0, 0, 1);
        let mut tree = TokenTree::default();
        let first = tree.push_chain(&[1, 2], None);
        tree.push(3, first);
        let trees = AttentionPattern::Trees { cu_seqlens: vec![0, 6], trees: vec![tree] };
        let padded = AttentionPattern::Padded { lengths: vec![9, 4] };
        let cases = [(&ids, AttentionPattern::Causal), (&ids, padded), (&one, trees)];
        for (input, pattern) in cases {
            no_grad(|| {
                let wanted = model.forward(input, &pattern, None).index_select(1, &Tensor::from_slice(&[0i64, 3, 3]));
                let got = model.forward_rows(input, &pattern, None, &[0, 3, 3]);
                assert!((got - &wanted).abs().max().double_value(&[]) < 1e-6);
                let mut cache = model.new_cache(input.size()[0], 4);
                let cached = model.forward_rows(input, &pattern, Some(&mut cache), &[0, 3, 3]);
                assert!((cached - &wanted).abs().max().double_value(&[]) < 1e-6, "keys and values of all are kept");
            });
        }
    }
}
