//! What containers use of the machine.

use serde::{Deserialize, Serialize};

use super::{ContainerIndex, Nanos};

/// Once a second for each container: what it has used of the machine. None where nothing here says
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerResources {
    pub at_ns: Nanos,
    pub container: ContainerIndex,
    /// What its threads ran since capture began, those together that run at the same time.
    pub ran_ns: u64,
    /// What they were ready to run meanwhile, and did not.
    pub ready_ns: Option<u64>,
    pub throttling: Option<Throttling>,
    pub memory: Option<MemoryUse>,
}

/// What a limit of processor time did since the container began. A period counts when something
/// of the container ran in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Throttling {
    pub periods: u64,
    pub throttled: u64,
    pub throttled_ns: u64,
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// Not backed by files.
    pub anonymous: u64,
    /// Of all memory of the container.
    pub limit: Option<u64>,
}
