//! For tests that can get stuck.

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::time::Duration;

/// How long a test may take before it counts as stuck. A deadline, never a measurement.
const STUCK: Duration = Duration::from_secs(120);

/// Ends the process, and says why, when it is not dropped in time: a deadlock cannot fail a test
/// in any other way.
pub(super) struct Watchdog {
    _awake: Sender<()>,
}

impl Watchdog {
    pub(super) fn start(name: &'static str) -> Self {
        let (awake, asleep) = bounded(0);
        std::thread::spawn(move || {
            if asleep.recv_timeout(STUCK) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name}: threads wait for each other, after {STUCK:?}");
                std::process::abort();
            }
        });
        Self { _awake: awake }
    }
}
