//! What profiles are standardised by.

use safetensors::SafeTensors;

use crate::Bundle;

/// Mean and scale of each value of a profile, as the autoencoder reads them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StandardProfile {
    pub mean: Vec<f32>,
    pub scale: Vec<f32>,
}

impl StandardProfile {
    /// How far a profile's values are from their means, in scales; the furthest first, with their
    /// places. A value of another number than there are means is none.
    pub fn furthest(&self, values: &[f32]) -> Vec<(usize, f32)> {
        let standard = self.mean.iter().zip(&self.scale);
        let distances = values.iter().zip(standard);
        let mut all: Vec<(usize, f32)> = distances
            .map(|(value, (mean, scale))| (value - mean) / scale)
            .enumerate()
            .filter(|(_, distance)| distance.is_finite())
            .collect();
        all.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        all
    }
}

impl Bundle {
    /// By the model's tensors `vae.mean` and `vae.scale`; none of a model without them.
    pub fn standard_profile(&self) -> Option<StandardProfile> {
        let tensors = SafeTensors::deserialize(&self.model).ok()?;
        let values = |name: &str| {
            let tensor = tensors.tensor(name).ok()?;
            let (chunks, _) = tensor.data().as_chunks::<4>();
            let values = chunks.iter().map(|bytes| f32::from_le_bytes(*bytes));
            Some(values.collect::<Vec<f32>>())
        };
        Some(StandardProfile {
            mean: values("vae.mean")?,
            scale: values("vae.scale")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_furthest_value_comes_first_with_its_sign() {
        let standard = StandardProfile {
            mean: vec![1.0, 2.0, 3.0],
            scale: vec![0.5, 0.1, 0.0],
        };
        let all = standard.furthest(&[2.0, 1.5, 3.0, 9.0]);
        let places: Vec<usize> = all.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [1, 0]);
        assert!((all[0].1 + 5.0).abs() < 1e-5 && (all[1].1 - 2.0).abs() < 1e-5);
    }
}
