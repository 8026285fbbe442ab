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

/// Waits for a message, asleep from the beginning: `recv` of a channel spins before.
#[cfg(not(all(test, loom)))]
pub(crate) fn receive_asleep<T>(
    receiver: &Receiver<T>,
    limit: Option<std::time::Duration>,
) -> Option<T> {
    match limit {
        None => crossbeam_channel::select! { recv(receiver) -> message => message.ok() },
        Some(limit) => crossbeam_channel::select! {
            recv(receiver) -> message => message.ok(),
            default(limit) => None,
        },
    }
}
