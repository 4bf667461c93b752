//! Weights: drawn at the start, written at the end.

use candle_core::{Device, Tensor, Var};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::TrainError;

pub(crate) type NamedTensor<'a> = (&'static str, &'a Tensor);

/// Uniform in ±`bound`.
pub(crate) fn uniform(
    shape: &[usize],
    bound: f64,
    random: &mut ChaCha8Rng,
) -> Result<Var, TrainError> {
    let count = shape.iter().product();
    let bound = bound as f32;
    let values: Vec<f32> = (0..count)
        .map(|_| random.random_range(-bound..=bound))
        .collect();
    Ok(Var::from_tensor(&Tensor::from_vec(
        values,
        shape,
        &Device::Cpu,
    )?)?)
}

/// The tensors as safetensors bytes without metadata.
pub(crate) fn serialise(tensors: &[NamedTensor<'_>]) -> Result<Vec<u8>, TrainError> {
    let mut raw = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        raw.push((*name, tensor.dims().to_vec(), bytes));
    }
    let mut views = Vec::with_capacity(raw.len());
    for (name, shape, bytes) in &raw {
        views.push((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?));
    }
    Ok(safetensors::serialize(views, None)?)
}
