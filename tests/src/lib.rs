//! What the tests share: skipping that is counted, cgroups that go away, programs in them.

pub mod cgroup;
pub mod collector;
pub mod live;
pub mod programs;
pub mod skip;
