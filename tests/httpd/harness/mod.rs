//! What every test here stands on: a real httpd with a whole configuration of its own, a client
//! that shows the wire, and the error log.
//!
//! Environment, each with a default that fits an ordinary installation:
//!
//! | variable | meaning |
//! |---|---|
//! | `MANIFOLD_MODULE` | the module to load; else `target/release/libmod_manifold.so` |
//! | `MANIFOLD_WORKER` | `manifold-worker`, where httpd's children cannot run that beside the module |
//! | `MANIFOLD_HTTPD` | the server; else `apache2` or `httpd` on `PATH` or in `/usr/sbin` |
//! | `MANIFOLD_APXS` | asked for the modules' folder; else `apxs` or `apxs2` |
//! | `MANIFOLD_PYTHON_HOME` | becomes `WSGIPythonHome` of every configuration when it is set |
//! | `MANIFOLD_WORKER_OTHER` | `manifold-worker` for another Python, whose home is `MANIFOLD_PYTHON_HOME_OTHER` |
//! | `MANIFOLD_TEST_MODE` | `daemon`: applications run in a process group, unless a test says why not |
//! | `MANIFOLD_TEST_VENV` | a virtual environment with Flask, for the tests that need one |
//! | `MANIFOLD_EXTENSIONS_VENV` | one with the packages of `tests/apps/extensions.txt` |
//!
//! What is missing fails the test that needs it and says what to set. Nothing is skipped but
//! what is about another Python: `scripts/two-pythons` runs that.

mod client;
mod conf;
mod gate;
mod log;
mod process;
mod server;

use std::time::{Duration, Instant};

pub(crate) use client::{Client, Load, Mode, Request, Response, Tally};
pub(crate) use conf::{
    Conf, by_daemon, config_test, extensions_venv, process_group, test_python, test_venv,
};
pub(crate) use log::ErrorLog;
pub(crate) use process::resident;
pub(crate) use server::{Server, fails_to_start, write};

/// How long anything here waits for something that should happen. A deadline, never a measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `look` again and again until it finds something; panics with `what` at the deadline.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `one` on `count` threads at once and returns what each found, in order.
pub(crate) fn at_once<T: Send>(count: usize, one: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..count).map(|i| scope.spawn(move || one(i))).collect();
        threads.into_iter().map(|t| t.join().expect("a client's thread panicked")).collect()
    })
}

/// Bytes that tell their place, so that a lost, doubled or misplaced block shows.
pub(crate) fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i % 251) as u8).collect()
}
