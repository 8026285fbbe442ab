//! Applications in processes of their own: what goes over between a web server's processes and the
//! worker processes of a process group, and both ends of it.

mod activity;
#[doc(hidden)]
pub mod bench;
mod channel;
mod client;
mod connection;
mod environment;
mod group;
mod identity;
mod life;
mod log;
mod mark;
mod orders;
#[cfg(test)]
mod own_process;
mod ownership;
mod server;
mod settings;
mod strangers;
mod wire;
mod worker;

pub(crate) use mark::{Mark, Started};

pub use client::{Address, Conversation, Workers};
pub use group::{
    Id, Identity, Owner, ProcessGroup, Python, Renewal, Resources, Response, Socket, Timeouts,
};
pub use orders::{Orders, Preload};
pub use settings::settings;
pub use worker::{SERVE, SERVER_STOPS, descriptor, serve};

/// How often the processor is offered to others before a thread sleeps; crossbeam's channels do it that often.
const OFFERS: usize = 4;

/// Offers the processor to others until something is there, a few times. What a thread waits for here is
/// mostly about to come from one that has no processor, and then this takes less than to sleep and to be
/// woken. Whether it is there.
fn offer_processor(mut is_there: impl FnMut() -> bool) -> bool {
    (0..OFFERS).any(|_| {
        let found = is_there();
        if !found {
            std::thread::yield_now();
        }
        found
    })
}
