//! What the tests share: skipping that is counted, cgroups that go away, programs in them,
//! other kernels in virtual machines.

pub mod asking;
pub mod broker;
pub mod cgroup;
pub mod collector;
pub mod disk;
pub mod jaeger;
pub mod join;
pub mod live;
pub mod load;
pub mod memory;
pub mod programs;
pub mod published;
pub mod s3;
pub mod said;
pub mod server;
pub mod shop;
pub mod sidecar;
pub mod simulated;
pub mod skip;
pub mod timed;
pub mod vm;
