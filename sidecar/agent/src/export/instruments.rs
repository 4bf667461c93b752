//! Every metric that Stethos sends: name, kind, unit and attributes.

use opentelemetry::metrics::{Counter, Gauge, Meter};

/// What the values of a metric are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// A sum that may fall.
    UpDownCounter,
    Gauge,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    pub name: &'static str,
    pub kind: Kind,
    /// In UCUM; what is counted stands in braces.
    pub unit: &'static str,
    /// Of its points; those of the resource come on top.
    pub attributes: &'static [&'static str],
    pub description: &'static str,
}

impl Instrument {
    pub(crate) fn u64_counter(&self, meter: &Meter) -> Counter<u64> {
        let builder = meter.u64_counter(self.name).with_unit(self.unit);
        builder.with_description(self.description).build()
    }

    pub(crate) fn f64_counter(&self, meter: &Meter) -> Counter<f64> {
        let builder = meter.f64_counter(self.name).with_unit(self.unit);
        builder.with_description(self.description).build()
    }

    pub(crate) fn u64_gauge(&self, meter: &Meter) -> Gauge<u64> {
        let builder = meter.u64_gauge(self.name).with_unit(self.unit);
        builder.with_description(self.description).build()
    }

    pub(crate) fn f64_gauge(&self, meter: &Meter) -> Gauge<f64> {
        let builder = meter.f64_gauge(self.name).with_unit(self.unit);
        builder.with_description(self.description).build()
    }
}

/// Constants of the instruments, and `ALL` of them.
macro_rules! instruments {
    ($($constant:ident: $kind:ident $name:literal, $unit:literal, $attributes:expr, $description:literal;)*) => {
        $(pub const $constant: Instrument = Instrument {
            name: $name,
            kind: Kind::$kind,
            unit: $unit,
            attributes: &$attributes,
            description: $description,
        };)*

        pub const ALL: &[Instrument] = &[$($constant),*];
    };
}

instruments! {
    // Of one container, under its application's resource.
    CALLS: Counter "stethos.calls", "{call}", [], "System calls seen";
    ERRORS: Counter "stethos.errors", "{call}", ["error.type"], "System calls that failed";
    STABILITY: Gauge "stethos.stability", "1", [], "1 = as learned";
    SURPRISE: Gauge "stethos.surprise", "{nat}", [], "Mean surprise of the judged windows";
    DEPTH: Gauge "stethos.depth", "{level}", [], "Publishing depth, 0 to 3";
    CAPTURE_LOSS: Counter "stethos.capture.loss", "{call}", ["stethos.loss.cause"],
        "System calls seen and not delivered, by cause";

    // Of Stethos itself, under its own resource.
    CPU_TIME: Counter "process.cpu.time", "s", ["cpu.mode"], "CPU time of the sidecar";
    MEMORY_USAGE: UpDownCounter "process.memory.usage", "By", [], "Resident memory of the sidecar";
    EXPORT_WAITING: Gauge "stethos.export.waiting", "{record}", ["stethos.export.signal"],
        "Records on disk that the collector has not taken yet, by signal";
    EXPORT_RECORDS: Counter "stethos.export.records", "{record}",
        ["stethos.export.signal", "stethos.export.outcome"],
        "Records by signal and what became of them";

    // Of its plugins.
    PLUGIN_FAILURES: Counter "stethos.plugin.failures", "{failure}",
        ["stethos.plugin.source", "error.type"],
        "Calls into the plugin that failed, by reason";
    PLUGIN_RESTARTS: Counter "stethos.plugin.restarts", "{restart}", ["stethos.plugin.source"],
        "Times that the plugin's guest was started again";
    PLUGIN_QUARANTINED: Gauge "stethos.plugin.quarantined", "{plugin}", ["stethos.plugin.source"],
        "1 = the plugin failed too often and is not asked any more";
    PLUGIN_WINDOWS: Counter "stethos.plugin.windows", "{window}", ["stethos.plugin.source"],
        "Windows that the plugin was given";
    PLUGIN_UNJUDGED: Counter "stethos.plugin.windows.unjudged", "{window}",
        ["stethos.plugin.source"],
        "Windows among them that stayed without a verdict";
    PLUGIN_CACHE_HITS: Counter "stethos.plugin.cache.hits", "{window}", ["stethos.plugin.source"],
        "Windows among them whose verdict was known";
    PLUGIN_TIME: Counter "stethos.plugin.time", "s", ["stethos.plugin.source"],
        "Time inside the plugin's guest";
    PLUGIN_MEMORY: Gauge "stethos.plugin.memory.usage", "By", ["stethos.plugin.source"],
        "Memory of the plugin's guest";

    // Of the store of shared models.
    STORE_BUNDLES: Counter "stethos.store.bundles", "{bundle}", ["stethos.store.outcome"],
        "Bundles that were looked for or stored, by outcome";
    STORE_REFUSALS: Counter "stethos.store.refusals", "{bundle}", ["error.type"],
        "Stored bundles that were not used, by reason";
    STORE_FAILURES: Counter "stethos.store.failures", "{attempt}",
        ["stethos.store.task", "error.type"],
        "Attempts to find or save a bundle that failed, by reason";
}
