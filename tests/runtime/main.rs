//! The runtime by itself: real CPython, no web server, and nothing but the public API. A test's
//! name is the promise it keeps.
//!
//! CPython starts once in a process. The tests of `calls`, `events`, `requests` and `threads` share one runtime;
//! those of `life` each have a process of their own, those of `peers` start `manifold-worker`. With `MANIFOLD_PYTHON_HOME` set, that is the
//! Python they run; otherwise CPython finds one itself.

mod harness;
#[path = "../peer.rs"]
mod peer;
mod worker;

mod calls;
mod events;
mod life;
mod peers;
mod process_group;
mod requests;
mod threads;
