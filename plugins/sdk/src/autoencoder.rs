//! The autoencoder over profiles, encoder mean straight into the decoder (no sampling).

use tract_core::internal::*;
use tract_core::ops::einsum::EinSum;

use crate::ModelError;
use crate::tensors::{Tensors, Values};

/// The autoencoder's view of one profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// Mean squared error of the standardised profile's reconstruction.
    pub reconstruction_error: f32,
    /// Mean of the latent distribution.
    pub latent: Vec<f32>,
}

pub(crate) struct Autoencoder {
    pub(crate) profile: usize,
    pub(crate) latent: usize,
    mean: Vec<f32>,
    scale: Vec<f32>,
    state: TypedSimpleState,
}

impl Autoencoder {
    /// None when the file holds no `vae.*` tensors.
    pub(crate) fn read(tensors: &Tensors) -> Result<Option<Self>, ModelError> {
        if !tensors.contains("vae.enc.w") {
            return Ok(None);
        }
        let (width, profile) = tensors.matrix_shape("vae.enc.w")?;
        let (latent, _) = tensors.matrix_shape("vae.mu.w")?;
        // Sampling is for training; the shapes are checked so that a mixed-up file is refused.
        tensors.get("vae.logvar.w", &[latent, width])?;
        tensors.get("vae.logvar.b", &[latent])?;
        let scale = tensors.get("vae.scale", &[profile])?.values;
        if let Some(index) = scale.iter().position(|scale| *scale <= 0.0) {
            return Err(ModelError::NotPositive {
                tensor: "vae.scale",
                index,
            });
        }
        let mut model = TypedModel::default();
        let source = model.add_source("profile", f32::fact([1, profile]))?;
        let mut layer = |name: &'static str, input, outputs, from, rectify| {
            let (w, b) = layer_names(name);
            let w = tensors.get(w, &[outputs, input])?;
            let b = tensors.get(b, &[outputs])?;
            dense(&mut model, name, from, w, b, rectify)
        };
        let encoded = layer("enc", profile, width, source, true)?;
        let code = layer("mu", width, latent, encoded, false)?;
        let decoded = layer("dec", latent, width, code, true)?;
        let reconstruction = layer("out", width, profile, decoded, false)?;
        model.select_output_outlets(&[code, reconstruction])?;
        Ok(Some(Autoencoder {
            profile,
            latent,
            mean: tensors.get("vae.mean", &[profile])?.values,
            scale,
            state: model.into_optimized()?.into_runnable()?.spawn()?,
        }))
    }

    pub(crate) fn assess(
        &mut self,
        index: usize,
        profile: &[f32],
    ) -> Result<Assessment, ModelError> {
        if profile.len() != self.profile {
            return Err(ModelError::ProfileLength {
                index,
                length: profile.len(),
                expected: self.profile,
            });
        }
        let standardised: Vec<f32> = profile
            .iter()
            .zip(&self.mean)
            .zip(&self.scale)
            .map(|((x, mean), scale)| (x - mean) / scale)
            .collect();
        let input = Tensor::from_shape(&[1, self.profile], &standardised)?;
        let output = self.state.run(tvec!(input.into_tvalue()))?;
        let reconstruction = output[1].try_as_plain_ram()?;
        let squares = reconstruction
            .as_slice::<f32>()?
            .iter()
            .zip(&standardised)
            .map(|(reconstructed, x)| (reconstructed - x).powi(2));
        Ok(Assessment {
            reconstruction_error: squares.sum::<f32>() / self.profile as f32,
            latent: output[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec(),
        })
    }
}

fn layer_names(layer: &str) -> (&'static str, &'static str) {
    match layer {
        "enc" => ("vae.enc.w", "vae.enc.b"),
        "mu" => ("vae.mu.w", "vae.mu.b"),
        "dec" => ("vae.dec.w", "vae.dec.b"),
        _ => ("vae.out.w", "vae.out.b"),
    }
}

/// `w · x + b`, then `max(0, ·)` when `rectify`.
fn dense(
    model: &mut TypedModel,
    name: &str,
    x: OutletId,
    w: Values,
    b: Values,
    rectify: bool,
) -> Result<OutletId, ModelError> {
    let bias = Values {
        shape: vec![1, b.values.len()],
        values: b.values,
    };
    let w = model.add_const(format!("{name}.w"), w.into_tensor()?)?;
    let b = model.add_const(format!("{name}.b"), bias.into_tensor()?)?;
    let product = EinSum::new("bi,oi->bo".parse()?, f32::datum_type());
    let y = model.wire_node(format!("{name}.product"), product, &[x, w])?[0];
    let y = model.wire_node(
        format!("{name}.biased"),
        tract_core::ops::math::add(),
        &[y, b],
    )?[0];
    if !rectify {
        return Ok(y);
    }
    let zero = model.add_const(format!("{name}.zero"), tensor2(&[[0f32]]))?;
    Ok(model.wire_node(
        format!("{name}.relu"),
        tract_core::ops::math::max(),
        &[y, zero],
    )?[0])
}
