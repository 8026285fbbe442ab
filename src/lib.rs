//! WSGI applications on CPython interpreters that each have their own GIL.
//!
//! This crate knows nothing of Apache httpd: the module in `apache/` translates a request into a
//! [`Job`], hands it to the [`Runtime`], and writes out what comes back. So everything here can be
//! tested, benchmarked and embedded without a web server.
//!
//! # The invariant
//!
//! ```text
//! request thread (httpd's)              interpreter thread (ours)
//! never calls Python                    never calls httpd
//!      │   Job ───── queue ──────────────► │
//!      │ ◄── Ask / Log / Response ──────── │   one conversation per request
//!      │   body bytes ───────────────────► │
//! ```
//!
//! Between the two travel owned messages only, but for `bytes` objects that an interpreter has lent
//! ([`Blocks`]). An interpreter belongs to the threads that were made for it, and no lock that requests
//! of different application groups share is ever held while a thread waits for a GIL, imports, makes
//! an interpreter, or does I/O.
//!
//! # One request's life
//!
//! [`Runtime::dispatch`] takes a slot from [`exchange`]'s table, and puts the application's end of
//! it into the queue of the application [`group`]. The request's end comes back as a
//! [`Conversation`], which the request thread serves until it has ended. A thread of the group's
//! interpreter ([`interp`]) takes the job, loads the script, calls the application and sends what
//! it produces ([`wsgi`]). [`status`] counts what that has cost.

#![warn(missing_docs)]

mod answer;
mod conversation;
pub mod daemon;
mod demotion;
mod descriptors;
mod error;
mod events;
pub mod exchange;
mod fields;
mod gate;
mod group;
pub mod header;
mod interp;
mod isolation;
mod job;
mod lending;
mod options;
mod paths;
mod pool;
mod probe;
mod queue;
mod replica;
mod reply;
mod runtime;
pub mod scheduling;
mod settings;
mod spawn;
pub mod spool;
pub mod status;
mod store;
mod succession;
mod sync;
mod wait;
mod watchdog;
mod wsgi;

pub use answer::Answer;
pub use conversation::{Conversation, Event, Patience, Peer};
pub use cpython_sys::{
    CAN_END_INTERPRETERS as REPLACES_INTERPRETERS, VERSION_TEXT as PYTHON_VERSION,
};
pub use descriptors::allow_descriptors;
pub use error::{Code, Refusal};
pub use events::{Events, Sink};
pub use fields::Fields;
pub use group::GroupName;
pub use job::{Ahead, Call, Job, Reload, Script, Task, Timeout};
pub use options::{Gil, InterpreterOptions, OptionsBlock, OptionsTable, OwnGil};
pub use pool::Limits;
pub use probe::worker::answer_probe;
pub use reply::{
    FilePart, Head, Level, LogEntry, Outcome, PIECE, Part, Reply, Source, Value, Verbosity,
};
pub use runtime::{Left, Runtime};
pub use settings::{HashSeed, PythonSettings, ServerNames, Settings};
pub use spawn::spawn;
pub use spool::{Blocks, Slice, Spool, Tail, Unsent};
pub use store::{Store, Stored};
pub use wsgi::COMPATIBLE_VERSION;
