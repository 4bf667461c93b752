//! What the programs know about where contexts of threads are published.

use std::path::Path;

use aya::maps::{Array, HashMap, MapData};
use stethos_events::{ContextPlace, context_setting};

use super::{
    KernelError,
    error::map_error,
    tables::{Outer, Source},
};

/// Where OpenTelemetry's eBPF instrumentation (OBI) pins the map that it shares.
const SHARED: &str = "/sys/fs/bpf/otel/traces_ctx_v1";

pub(super) struct Contexts {
    places: HashMap<MapData, u32, ContextPlace>,
    settings: Array<MapData, u32>,
    outer: Outer,
    shared: Option<MapData>,
}

impl Contexts {
    pub(super) fn take(source: &mut Source<'_>) -> Result<Self, KernelError> {
        Ok(Self {
            places: source.take("CONTEXT_PLACES")?,
            settings: source.take("CONTEXT_SETTINGS")?,
            outer: Outer::take(source, "SHARED_CONTEXTS")?,
            shared: None,
        })
    }

    /// The threads of a process keep their contexts there.
    pub(super) fn publish(&mut self, pid: u32, place: ContextPlace) -> Result<(), KernelError> {
        if self.places.get(&pid, 0).is_ok_and(|known| known == place) {
            return Ok(());
        }
        self.places
            .insert(pid, place, 0)
            .map_err(|source| map_error("CONTEXT_PLACES", source))?;
        self.look_again()
    }

    /// Has every thread look up again where its context is.
    fn look_again(&mut self) -> Result<(), KernelError> {
        let generation = self.settings.get(&context_setting::GENERATION, 0);
        let next = generation.unwrap_or(0).wrapping_add(1).max(1);
        self.set(context_setting::GENERATION, next)
    }

    fn set(&mut self, index: u32, value: u32) -> Result<(), KernelError> {
        self.settings
            .set(index, value, 0)
            .map_err(|source| map_error("CONTEXT_SETTINGS", source))
    }

    /// Takes up the map that another program on this node shares, if there is one.
    pub(super) fn share(&mut self) -> Result<(), KernelError> {
        if self.shared.is_some() || !Path::new(SHARED).exists() {
            return Ok(());
        }
        let map = MapData::from_pin(SHARED).map_err(|source| map_error("traces_ctx_v1", source))?;
        self.outer.set(0, &map)?;
        self.shared = Some(map);
        self.set(context_setting::SHARED, 1)?;
        self.look_again()
    }
}
