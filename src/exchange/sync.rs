//! What exchanges are built on. `scripts/loom` puts a model in its place that tries every order of
//! steps; see `tests/model.rs`.

#[cfg(all(test, loom))]
pub(super) use super::tests::model::*;

#[cfg(not(all(test, loom)))]
pub(super) use crossbeam_channel::{Receiver, Sender, bounded};
#[cfg(not(all(test, loom)))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
#[cfg(not(all(test, loom)))]
pub(super) use std::sync::{Mutex, MutexGuard};
