//! How a thread waits for what another one is about to say.
//!
//! It offers the processor first, a few times: who is to speak has mostly none, and then that takes less
//! than to sleep and to be woken. It does not spin: what a processor that spins would wait for has to be
//! made by a thread that needs one.
#![forbid(unsafe_code)]

use crate::sync::{Receiver, receive_asleep};
use std::time::Duration;

/// What is waited for.
#[derive(Clone, Copy)]
pub(crate) enum For {
    /// The answer to what was asked: others may be before it.
    Answer,
    /// Something to do: where there is much, there will be more in a moment.
    Work,
    /// What comes from another process.
    Socket,
}

impl For {
    /// How often the processor is offered to others before a thread sleeps. Measured with 16 clients of two
    /// processors: 8 for work and 2 for an answer brought 8 to 13 % more requests than 4 and 4, 16 for work
    /// none, and none for an answer took a fifth.
    fn offers(self) -> usize {
        match self {
            Self::Answer => 2,
            Self::Work => 8,
            Self::Socket => 4,
        }
    }
}

/// Offers the processor to others until something is there, a few times. Whether it is there.
pub(crate) fn offer_processor(what: For, mut is_there: impl FnMut() -> bool) -> bool {
    (0..what.offers()).any(|_| {
        let found = is_there();
        if !found {
            std::thread::yield_now();
        }
        found
    })
}

/// Waits for a message, no longer than `limit` where one is given. `None` where none has come, or nobody
/// is left who could send one.
pub(crate) fn receive<T>(what: For, receiver: &Receiver<T>, limit: Option<Duration>) -> Option<T> {
    let mut message = None;
    offer_processor(what, || {
        message = receiver.try_recv().ok();
        message.is_some()
    });
    message.or_else(|| receive_asleep(receiver, limit))
}
