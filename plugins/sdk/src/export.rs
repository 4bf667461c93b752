//! From the contract's generated bindings to [`Plugin`].

#[cfg(feature = "models")]
use std::cell::RefCell;
#[cfg(feature = "models")]
use std::collections::BTreeMap;
use std::marker::PhantomData;

#[cfg(feature = "models")]
use crate::autoencoder::Assessment;
#[cfg(feature = "models")]
use crate::model::{Model, ModelError, Verdict, Window};
use crate::usage::Usage;
use bindings::exports::stethos::plugin::plugin as contract;

/// Generated from the WIT contract.
#[allow(missing_docs, unsafe_op_in_unsafe_fn, unreachable_pub)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/stethos-plugin-0.1",
        world: "pattern-plugin",
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "stethos_plugin_sdk::bindings",
    });
}

/// A pattern plugin. Only the three names are required.
pub trait Plugin: 'static {
    const NAME: &'static str;
    const VERSION: &'static str;
    /// `http-server`, `key-value-cache`, …, or `generic`.
    const APPLICATION_TYPE: &'static str;

    /// How well the application type fits what a container does, 0…1; from 0.5 on the plugin claims
    /// it. Must be a pure function. A plugin that says nothing serves what the configuration gives it.
    fn fit(_usage: &Usage) -> f32 {
        0.0
    }

    /// Reads the `model` tensors of a bundle (safetensors).
    #[cfg(feature = "models")]
    fn load(model: &[u8]) -> Result<Model, ModelError> {
        Model::read(model)
    }

    /// One verdict per window, in order; must be a pure function of model and window.
    #[cfg(feature = "models")]
    fn score(model: &mut Model, windows: &[Window]) -> Result<Vec<Verdict>, ModelError> {
        model.score(windows)
    }

    /// One assessment per profile, in order; must be a pure function of model and profile.
    #[cfg(feature = "models")]
    fn assess(model: &mut Model, profiles: &[Vec<f32>]) -> Result<Vec<Assessment>, ModelError> {
        model.assess(profiles)
    }
}

/// Makes the component's exports from a [`Plugin`]; used once per component.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        const _: () = {
            type Exported = $crate::Guest<$plugin>;
    $crate::bindings::export_component!(Exported with_types_in $crate::bindings);
        };
    };
}

/// The contract's functions over a [`Plugin`] and the models loaded into this instance.
pub struct Guest<P>(PhantomData<P>);

#[cfg(feature = "models")]
#[derive(Default)]
struct Models {
    loaded: BTreeMap<u32, Model>,
    next: u32,
}

#[cfg(feature = "models")]
thread_local! {
    static MODELS: RefCell<Models> = RefCell::default();
}

#[cfg(feature = "models")]
fn with_model<R>(
    number: u32,
    act: impl FnOnce(&mut Model) -> Result<R, ModelError>,
) -> Result<R, String> {
    MODELS.with_borrow_mut(|models| match models.loaded.get_mut(&number) {
        Some(model) => act(model).map_err(|error| error.to_string()),
        None => Err(format!("no model {number} is loaded")),
    })
}

impl<P: Plugin> contract::Guest for Guest<P> {
    fn describe() -> contract::Description {
        contract::Description {
            name: P::NAME.into(),
            version: P::VERSION.into(),
            application_type: P::APPLICATION_TYPE.into(),
            models: cfg!(feature = "models"),
        }
    }

    fn fit(usage: contract::Usage) -> f32 {
        P::fit(&usage)
    }

    #[cfg(feature = "models")]
    fn load(model: Vec<u8>) -> Result<(u32, contract::ModelShape), String> {
        let model = P::load(&model).map_err(|error| error.to_string())?;
        let shape = model.shape();
        let number = MODELS.with_borrow_mut(|models| {
            let number = models.next;
            models.next += 1;
            models.loaded.insert(number, model);
            number
        });
        let shape = contract::ModelShape {
            vocabulary: shape.vocabulary,
            patterns: shape.patterns,
            profile: shape.profile,
            latent: shape.latent,
        };
        Ok((number, shape))
    }

    #[cfg(feature = "models")]
    fn unload(model: u32) {
        MODELS.with_borrow_mut(|models| models.loaded.remove(&model));
    }

    #[cfg(feature = "models")]
    fn score(model: u32, windows: Vec<contract::Window>) -> Result<Vec<contract::Verdict>, String> {
        let windows: Vec<Window> = windows
            .into_iter()
            .map(|window| Window {
                pattern: window.pattern,
                tokens: window.tokens,
            })
            .collect();
        let verdicts = with_model(model, |model| P::score(model, &windows))?;
        Ok(verdicts
            .into_iter()
            .map(|verdict| contract::Verdict {
                surprise: verdict.surprise,
                expected: verdict.expected,
            })
            .collect())
    }

    #[cfg(feature = "models")]
    fn assess(model: u32, profiles: Vec<Vec<f32>>) -> Result<Vec<contract::Assessment>, String> {
        let assessments = with_model(model, |model| P::assess(model, &profiles))?;
        Ok(assessments
            .into_iter()
            .map(|assessment| contract::Assessment {
                reconstruction_error: assessment.reconstruction_error,
                latent: assessment.latent,
            })
            .collect())
    }

    #[cfg(not(feature = "models"))]
    fn load(_: Vec<u8>) -> Result<(u32, contract::ModelShape), String> {
        Err(NO_MODELS.into())
    }

    #[cfg(not(feature = "models"))]
    fn unload(_: u32) {}

    #[cfg(not(feature = "models"))]
    fn score(_: u32, _: Vec<contract::Window>) -> Result<Vec<contract::Verdict>, String> {
        Err(NO_MODELS.into())
    }

    #[cfg(not(feature = "models"))]
    fn assess(_: u32, _: Vec<Vec<f32>>) -> Result<Vec<contract::Assessment>, String> {
        Err(NO_MODELS.into())
    }
}

#[cfg(not(feature = "models"))]
const NO_MODELS: &str = "this plugin has no models of its own";
