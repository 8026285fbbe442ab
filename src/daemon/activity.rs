//! What a worker process has been doing: counts of its requests, for those who decide when it ends.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Activity {
    since: Instant,
    active: AtomicUsize,
    served: AtomicU64,
    /// Milliseconds from `since` to when a request last began or ended.
    last: AtomicU64,
    /// A request has taken too long.
    late: AtomicBool,
    /// A script has changed that was loaded.
    outdated: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            active: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            last: AtomicU64::new(0),
            late: AtomicBool::new(false),
            outdated: AtomicBool::new(false),
        }
    }

    pub(super) fn begin(&self, is_idle_talk: bool) {
        self.active.fetch_add(1, Ordering::SeqCst);
        self.note(is_idle_talk);
    }

    /// Returns how many have ended.
    pub(super) fn end(&self, is_idle_talk: bool) -> u64 {
        let served = self.served.fetch_add(1, Ordering::SeqCst) + 1;
        self.active.fetch_sub(1, Ordering::SeqCst);
        self.note(is_idle_talk);
        served
    }

    fn note(&self, is_idle_talk: bool) {
        if is_idle_talk {
            return;
        }
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    pub(super) fn set_late(&self) {
        self.late.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_outdated(&self) {
        self.outdated.store(true, Ordering::SeqCst);
    }

    /// How many requests are under way.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// How many requests have ended.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    /// Whether a request has taken longer than request-timeout.
    pub(crate) fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Whether a script has changed that was loaded.
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::SeqCst)
    }

    /// For how long no request has begun or ended that counts.
    pub(crate) fn quiet_for(&self) -> Duration {
        self.since
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}
