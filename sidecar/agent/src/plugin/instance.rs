//! One running guest.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use wasmtime::{Store, Trap};

use super::contract::{
    Assessment, Description, ModelShape, PatternPlugin, PatternPluginPre, TokenWindow, Usage,
};
use super::limits::{MemoryLimit, Ticker};
use super::metrics::PluginMetrics;
use crate::diagnosis::verdict::Verdict;

/// Bytes that one answer of a guest may make the host allocate.
const ANSWER_BYTES: usize = 32 << 20;
/// Characters of a guest's own words that are kept.
const REASON_CHARS: usize = 300;
/// Characters of an application type.
const TYPE_CHARS: usize = 40;

pub(super) struct Instance {
    store: Store<MemoryLimit>,
    guest: PatternPlugin,
    deadline: Duration,
}

/// How a call into a guest went wrong.
#[derive(Debug)]
pub(super) enum Failure {
    Trap(String),
    Timeout,
    Memory,
    Invalid(String),
    /// Its functions or types are not the contract's.
    Contract(String),
    /// The guest's own error; the guest is sound.
    Refused(String),
}

impl Instance {
    pub(super) fn start(
        component: &PatternPluginPre<MemoryLimit>,
        ticker: &Ticker,
        memory: usize,
        deadline: Duration,
    ) -> Result<Self, Failure> {
        let mut store = Store::new(component.engine(), MemoryLimit::new(memory));
        store.limiter(|limit| limit);
        store.epoch_deadline_trap();
        store.set_epoch_deadline(Ticker::ticks(deadline));
        store.set_hostcall_fuel(ANSWER_BYTES);
        let _running = ticker.run();
        let instance = component
            .instance_pre()
            .instantiate(&mut store)
            .map_err(|error| failure(&error, store.data()))?;
        // Looks the functions up and checks their types; nothing of the guest runs.
        let guest = PatternPlugin::new(&mut store, &instance)
            .map_err(|error| Failure::Contract(format!("{error:#}")))?;
        Ok(Instance {
            store,
            guest,
            deadline,
        })
    }

    fn call<R>(
        &mut self,
        ticker: &Ticker,
        metrics: &PluginMetrics,
        act: impl FnOnce(&mut Store<MemoryLimit>, &PatternPlugin) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        self.store.data_mut().refused = false;
        self.store.set_epoch_deadline(Ticker::ticks(self.deadline));
        let begin = Instant::now();
        let running = ticker.run();
        let result = act(&mut self.store, &self.guest);
        drop(running);
        metrics
            .guest_nanos
            .fetch_add(begin.elapsed().as_nanos() as u64, Relaxed);
        metrics
            .memory_bytes
            .store(self.store.data().used as u64, Relaxed);
        result.map_err(|error| failure(&error, self.store.data()))
    }

    pub(super) fn describe(
        &mut self,
        ticker: &Ticker,
        metrics: &PluginMetrics,
    ) -> Result<Description, Failure> {
        let description = self.call(ticker, metrics, |store, guest| {
            guest.stethos_plugin_plugin().call_describe(store)
        })?;
        let kind = &description.application_type;
        let sound = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if !(1..=TYPE_CHARS).contains(&kind.len()) || !kind.bytes().all(sound) {
            let kind: String = kind.chars().take(TYPE_CHARS).collect();
            return Err(Failure::Invalid(format!("application type {kind:?}")));
        }
        Ok(description)
    }

    /// How well the guest's application type fits, 0…1.
    pub(super) fn fit(
        &mut self,
        ticker: &Ticker,
        metrics: &PluginMetrics,
        usage: &Usage,
    ) -> Result<f32, Failure> {
        let fit = self.call(ticker, metrics, |store, guest| {
            guest.stethos_plugin_plugin().call_fit(store, usage)
        })?;
        if (0.0..=1.0).contains(&fit) {
            return Ok(fit);
        }
        Err(Failure::Invalid(format!("fit {fit}, expected 0 to 1")))
    }

    /// The guest's number for the model, and its shape.
    pub(super) fn load(
        &mut self,
        ticker: &Ticker,
        metrics: &PluginMetrics,
        model: &[u8],
    ) -> Result<(u32, ModelShape), Failure> {
        self.call(ticker, metrics, |store, guest| {
            guest.stethos_plugin_plugin().call_load(store, model)
        })?
        .map_err(refused)
    }

    pub(super) fn unload(
        &mut self,
        ticker: &Ticker,
        metrics: &PluginMetrics,
        model: u32,
    ) -> Result<(), Failure> {
        self.call(ticker, metrics, |store, guest| {
            guest.stethos_plugin_plugin().call_unload(store, model)
        })
    }

    pub(super) fn score(
        &mut self,
        ticker: &Ticker,
        metrics: &PluginMetrics,
        model: u32,
        vocabulary: u32,
        windows: &[TokenWindow],
    ) -> Result<Vec<Verdict>, Failure> {
        let verdicts = self
            .call(ticker, metrics, |store, guest| {
                guest
                    .stethos_plugin_plugin()
                    .call_score(store, model, windows)
            })?
            .map_err(refused)?;
        same_length("verdicts for windows", verdicts.len(), windows.len())?;
        verdicts
            .into_iter()
            .zip(windows)
            .map(|(verdict, window)| {
                same_length(
                    "surprises for tokens",
                    verdict.surprise.len(),
                    window.tokens.len(),
                )?;
                same_length(
                    "expected ids for tokens",
                    verdict.expected.len(),
                    window.tokens.len(),
                )?;
                finite("surprise", &verdict.surprise)?;
                match verdict
                    .expected
                    .iter()
                    .find(|&&id| u32::from(id) >= vocabulary)
                {
                    Some(id) => Err(Failure::Invalid(format!(
                        "expected id {id} in a vocabulary of {vocabulary}"
                    ))),
                    None => Ok(Verdict {
                        surprise: verdict.surprise,
                        expected: verdict.expected,
                    }),
                }
            })
            .collect()
    }

    pub(super) fn assess(
        &mut self,
        ticker: &Ticker,
        metrics: &PluginMetrics,
        model: u32,
        latent: u32,
        profiles: &[Vec<f32>],
    ) -> Result<Vec<Assessment>, Failure> {
        let assessments = self
            .call(ticker, metrics, |store, guest| {
                guest
                    .stethos_plugin_plugin()
                    .call_assess(store, model, profiles)
            })?
            .map_err(refused)?;
        same_length(
            "assessments for profiles",
            assessments.len(),
            profiles.len(),
        )?;
        for assessment in &assessments {
            same_length("latent values", assessment.latent.len(), latent as usize)?;
            finite("latent value", &assessment.latent)?;
            finite("reconstruction error", &[assessment.reconstruction_error])?;
        }
        Ok(assessments)
    }
}

fn same_length(what: &str, found: usize, expected: usize) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(Failure::Invalid(format!(
        "{found} {what}, expected {expected}"
    )))
}

fn finite(what: &str, values: &[f32]) -> Result<(), Failure> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(Failure::Invalid(format!("{what} {value}"))),
        None => Ok(()),
    }
}

fn refused(reason: String) -> Failure {
    Failure::Refused(reason.chars().take(REASON_CHARS).collect())
}

fn failure(error: &wasmtime::Error, limit: &MemoryLimit) -> Failure {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Failure::Timeout,
        _ if limit.refused => Failure::Memory,
        Some(trap) => Failure::Trap(trap.to_string()),
        None => Failure::Trap(format!("{error:#}").chars().take(REASON_CHARS).collect()),
    }
}
