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

/// Waits for a message, asleep from the beginning: `recv` and `recv_timeout` of a channel spin before, and
/// so does `select!` of one channel, which is these.
#[cfg(not(all(test, loom)))]
pub(crate) fn receive_asleep<T>(
    receiver: &Receiver<T>,
    limit: Option<std::time::Duration>,
) -> Option<T> {
    use crossbeam_channel::{never, select_biased};
    match limit {
        None => select_biased! {
            recv(receiver) -> message => message.ok(),
            recv(never::<()>()) -> _ => None,
        },
        Some(limit) => select_biased! {
            recv(receiver) -> message => message.ok(),
            recv(never::<()>()) -> _ => None,
            default(limit) => None,
        },
    }
}
