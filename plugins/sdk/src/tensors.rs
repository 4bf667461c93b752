//! Named f32 tensors of a bundle's `model` section.

use safetensors::{Dtype, SafeTensors};
use tract_core::internal::Tensor;

use crate::ModelError;

/// View of a safetensors file; every read checks type, shape and values.
pub(crate) struct Tensors<'a> {
    file: SafeTensors<'a>,
}

/// One checked tensor, row-major.
pub(crate) struct Values {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Values {
    pub(crate) fn into_tensor(self) -> Result<Tensor, ModelError> {
        Ok(Tensor::from_shape(&self.shape, &self.values)?)
    }
}

impl<'a> Tensors<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, ModelError> {
        Ok(Tensors {
            file: SafeTensors::deserialize(bytes).map_err(ModelError::File)?,
        })
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.file.tensor(name).is_ok()
    }

    /// Shape of `name`, which must have two dimensions, both at least one.
    pub(crate) fn matrix_shape(&self, name: &'static str) -> Result<(usize, usize), ModelError> {
        let view = self
            .file
            .tensor(name)
            .map_err(|_| ModelError::Missing(name))?;
        match *view.shape() {
            [rows, columns] if rows > 0 && columns > 0 => Ok((rows, columns)),
            ref other => Err(ModelError::Shape {
                tensor: name,
                expected: "two dimensions, neither empty".into(),
                found: format!("{other:?}"),
            }),
        }
    }

    /// The tensor `name`, refused unless it is f32 of exactly `shape` and all finite.
    pub(crate) fn get(&self, name: &'static str, shape: &[usize]) -> Result<Values, ModelError> {
        let view = self
            .file
            .tensor(name)
            .map_err(|_| ModelError::Missing(name))?;
        if view.dtype() != Dtype::F32 {
            return Err(ModelError::Type {
                tensor: name,
                found: format!("{:?}", view.dtype()),
            });
        }
        if view.shape() != shape {
            return Err(ModelError::Shape {
                tensor: name,
                expected: format!("{shape:?}"),
                found: format!("{:?}", view.shape()),
            });
        }
        let (chunks, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = chunks
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(ModelError::NotFinite {
                tensor: name,
                index,
            });
        }
        Ok(Values {
            shape: shape.to_vec(),
            values,
        })
    }
}
