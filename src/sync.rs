//! What exchanges and queues are built on. `scripts/loom` puts a model in its place that tries every
//! order of steps.

#[cfg(all(test, loom))]
mod model;

#[cfg(all(test, loom))]
pub(crate) use model::*;

#[cfg(not(all(test, loom)))]
pub(crate) use crossbeam_channel::{Receiver, Sender, bounded};
#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::{Mutex, MutexGuard};
