//! How a thread waits for what another one is about to say.
//!
//! It offers the processor first, a few times: who is to speak has mostly none, and then that takes less
//! than to sleep and to be woken. It does not spin: what a processor that spins would wait for has to be
//! made by a thread that needs one.
#![forbid(unsafe_code)]

use crate::sync::{Receiver, receive_asleep};
use std::time::Duration;

/// How often the processor is offered to others before a thread sleeps.
const OFFERS: usize = 4;

/// Offers the processor to others until something is there, a few times. Whether it is there.
pub(crate) fn offer_processor(mut is_there: impl FnMut() -> bool) -> bool {
    (0..OFFERS).any(|_| {
        let found = is_there();
        if !found {
            std::thread::yield_now();
        }
        found
    })
}

/// Waits for a message, no longer than `limit` where one is given. `None` where none has come, or nobody
/// is left who could send one.
pub(crate) fn receive<T>(receiver: &Receiver<T>, limit: Option<Duration>) -> Option<T> {
    let mut message = None;
    offer_processor(|| {
        message = receiver.try_recv().ok();
        message.is_some()
    });
    message.or_else(|| receive_asleep(receiver, limit))
}
