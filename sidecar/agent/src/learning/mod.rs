//! Learning what is normal, with nobody tuning: when a container has been seen enough, the child
//! process that trains its models, and the bundles that it leaves.
//!
//! | module | holds |
//! | --- | --- |
//! | [`progress`] | when learning ends (pure) |
//! | [`training_set`] | recordings into what the trainer takes |
//! | [`child`] | the training process: idle priority, bounded, killable |
//! | [`store`] | bundles on disk |

pub mod child;
pub mod progress;
pub mod store;
pub mod training_set;
