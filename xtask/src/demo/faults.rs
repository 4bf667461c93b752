//! The faults that the demo can inject. All have real causes.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// Redis is stopped; its port refuses connections
    RedisStopped,
    /// The catalog's disk is filled
    DiskFull,
    /// The api's price list is moved away
    PriceListMoved,
    /// Redis is frozen by SIGSTOP; it accepts connections and answers nothing
    RedisFrozen,
    /// The api may open no more descriptors
    DescriptorsExhausted,
    /// The catalog answers, late
    CatalogSlow,
    /// The api is told not to reuse connections
    KeepAliveOff,
    /// A folder takes the place of the api's price list; no class of fault explains that
    PriceListFolder,
}

impl Fault {
    pub(super) const QUICK: [Self; 3] = [Self::RedisStopped, Self::DiskFull, Self::PriceListMoved];
    pub(super) const DEFAULT: [Self; 6] = [
        Self::RedisStopped,
        Self::DiskFull,
        Self::PriceListMoved,
        Self::RedisFrozen,
        Self::DescriptorsExhausted,
        Self::CatalogSlow,
    ];

    pub(super) fn told(self) -> &'static str {
        match self {
            Self::RedisStopped => "redis stopped",
            Self::DiskFull => "catalog's disk filled",
            Self::PriceListMoved => "api's prices.json moved away",
            Self::RedisFrozen => "redis frozen (SIGSTOP)",
            Self::DescriptorsExhausted => "api's descriptor limit lowered to what it has open",
            Self::CatalogSlow => "catalog's answers delayed by 400 ms",
            Self::KeepAliveOff => "api's keep_alive set to false",
            Self::PriceListFolder => "a folder in the place of api's prices.json",
        }
    }

    /// Classes (`error.type`) that are right. A frozen redis is in the watched pod, so both what
    /// happened to it and what the api sees of it are true.
    pub(super) fn expected(self) -> &'static [&'static str] {
        match self {
            Self::RedisStopped => &["dependency.refused"],
            Self::DiskFull => &["disk.full"],
            Self::PriceListMoved => &["file.missing"],
            Self::RedisFrozen => &["process.frozen", "dependency.hung"],
            Self::DescriptorsExhausted => &["fd.exhausted"],
            Self::CatalogSlow => &["dependency.slow"],
            Self::KeepAliveOff => &["config.regression"],
            Self::PriceListFolder => &["unknown"],
        }
    }

    /// How long it lasts: what shows in no error takes longer to be sure of.
    pub(super) fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::RedisStopped | Self::DiskFull | Self::PriceListMoved => 15,
            Self::RedisFrozen | Self::DescriptorsExhausted => 20,
            Self::CatalogSlow | Self::KeepAliveOff | Self::PriceListFolder => 30,
        })
    }
}
