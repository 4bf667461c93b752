//! Weights: drawn at the start, written at the end, read back where they are compared.

use std::collections::HashMap;

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

/// Tensors of a model by name.
pub(crate) struct Named(HashMap<String, Tensor>);

impl Named {
    /// What [`serialise`] has written.
    pub(crate) fn read(model: &[u8]) -> Result<Self, TrainError> {
        Ok(Named(candle_core::safetensors::load_buffer(
            model,
            &Device::Cpu,
        )?))
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Rows and columns of a matrix.
    pub(crate) fn matrix(&self, name: &'static str) -> Result<(usize, usize), TrainError> {
        let tensor = self.0.get(name).ok_or(TrainError::Tensor(name))?;
        tensor.dims2().map_err(|_| TrainError::Tensor(name))
    }

    pub(crate) fn get(&self, name: &'static str, shape: &[usize]) -> Result<Tensor, TrainError> {
        let fitting = self.0.get(name).filter(|tensor| tensor.dims() == shape);
        fitting.cloned().ok_or(TrainError::Tensor(name))
    }

    pub(crate) fn variable(&self, name: &'static str, shape: &[usize]) -> Result<Var, TrainError> {
        Ok(Var::from_tensor(&self.get(name, shape)?)?)
    }
}
