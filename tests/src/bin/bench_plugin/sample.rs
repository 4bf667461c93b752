//! The model and the windows that are scored.

use std::fs;
use std::path::Path;

use anyhow::Result;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use stethos_plugin_sdk::Window;
use stethos_plugin_sdk::sample::SampleSize;

const LENGTH: usize = 32;
/// Windows in one call.
const BATCH: usize = 64;
const BATCHES: usize = 100;

pub(crate) struct Sample {
    size: SampleSize,
    /// Safetensors.
    pub(crate) model: Vec<u8>,
    pub(crate) batches: Vec<Vec<Window>>,
}

impl Sample {
    pub(crate) fn new() -> Result<Self> {
        let size = SampleSize::default();
        let batches = (0..BATCHES as u64).map(|seed| size.windows(BATCH, LENGTH, seed));
        Ok(Sample {
            model: size.model(1)?,
            batches: batches.collect(),
            size,
        })
    }

    pub(crate) fn windows(&self) -> impl Iterator<Item = &Window> {
        self.batches.iter().flatten()
    }

    /// `model.safetensors`, and `windows.safetensors` with `tokens` `[batches, windows, length]` and
    /// `state` `[batches, windows]`, the row of `gru.h0` that a window starts from; both are I64.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::write(folder.join("model.safetensors"), &self.model)?;
        let bytes = |number: i64| number.to_le_bytes();
        let tokens = self.windows().flat_map(|window| &window.tokens);
        let tokens: Vec<u8> = tokens.flat_map(|token| bytes((*token).into())).collect();
        let none = self.size.patterns as i64;
        let states = self
            .windows()
            .map(|window| window.pattern.map_or(none, i64::from));
        let states: Vec<u8> = states.flat_map(bytes).collect();
        let shape = [BATCHES, BATCH, LENGTH];
        let views = [
            (
                "tokens",
                TensorView::new(Dtype::I64, shape.to_vec(), &tokens)?,
            ),
            (
                "state",
                TensorView::new(Dtype::I64, shape[..2].to_vec(), &states)?,
            ),
        ];
        let file = folder.join("windows.safetensors");
        Ok(fs::write(file, safetensors::serialize(views, None)?)?)
    }
}
