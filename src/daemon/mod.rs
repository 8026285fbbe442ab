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
