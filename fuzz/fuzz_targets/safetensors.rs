//! A weights file of a model folder, and a file of a checkpoint.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::safetensors_file::SafetensorsFile;
use tch::{Device, Kind, Tensor};

fuzz_target!(|bytes: &[u8]| {
    let path = monopass_fuzz::file("model.safetensors", bytes);
    if let Ok(file) = SafetensorsFile::open(&path) {
        for name in file.tensors().keys() {
            let _ = file.tensor(name);
        }
    }
    let wanted = [("model.norm.weight".to_owned(), Tensor::zeros([32], (Kind::Float, Device::Cpu)))];
    let _ = trainer::checkpoint::read_into(&path, &wanted);
    let flat = [("exp_avg.model.norm.weight@0".to_owned(), Tensor::zeros([16], (Kind::Float, Device::Cpu)))];
    let _ = trainer::checkpoint::read_overlaps(&[path], &flat);
});
