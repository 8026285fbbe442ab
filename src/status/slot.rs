//! What is known of one interpreter, one application group in a process, or one process: numbers that
//! only go up, a few that say what is now, and short texts.
//!
//! All of it lies in memory that other processes write as well, so every bit pattern is a valid value,
//! and nothing in here is more than a number or a text to those who read it.
#![forbid(unsafe_code)]

use super::text::Text;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How many buckets of times there are; the last has no upper bound.
pub(super) const BUCKETS: usize = 20;

/// The upper bound of the first bucket in microseconds; that of each other is twice the one before.
const FIRST_BUCKET: u64 = 250;

/// How many threads of an interpreter can be told apart; of more it is not known what they do.
const THREADS: usize = 128;

/// What is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    /// Requests that an application has answered, or failed to.
    Requests,
    /// The same by the class of their status.
    Status1,
    Status2,
    Status3,
    Status4,
    Status5,
    /// From the queue to the end, in nanoseconds.
    Latency,
    /// What of that was spent in the queue.
    Queued,
    /// What of that was spent in the application.
    Application,
    /// What of that, or between requests, was spent waiting for the GIL.
    GilWait,
    BytesIn,
    BytesOut,
    /// Requests that were refused: the queue was full, or they waited too long.
    Refused,
    /// Requests that took longer than they may.
    Timeouts,
    /// Exceptions that applications have raised, and scripts that were not loaded.
    Errors,
    /// Scripts that were loaded again since they had changed.
    Reloads,
    /// Interpreters that took another's place.
    Replacements,
    /// How often a group has moved to another kind of interpreter.
    Demotions,
    /// Threads that were given up.
    Quarantined,
    /// Processes that have started.
    Starts,
    /// Processes that have died and should not.
    Deaths,
    /// Connections to worker processes.
    Connects,
    /// Requests that were sent to another worker process, since theirs had gone before it began.
    Resent,
}

impl Counter {
    pub(super) const COUNT: usize = Self::Resent as usize + 1;

    /// That of a status.
    pub(crate) fn of_status(status: u16) -> Self {
        match status / 100 {
            1 => Self::Status1,
            2 => Self::Status2,
            3 => Self::Status3,
            4 => Self::Status4,
            _ => Self::Status5,
        }
    }
}

/// What is now, as long as the owner lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gauge {
    /// A [`State`].
    State,
    /// A [`Mode`].
    Mode,
    /// Threads that there are.
    Threads,
    /// Those that serve a request.
    Serving,
    /// Threads that were given up, and have not come back.
    Lost,
    /// As many are lost that no more requests are taken.
    Stuck,
    /// Requests that wait.
    Waiting,
    /// How many may.
    WaitingLimit,
    /// How many threads an interpreter may have.
    ThreadLimit,
    /// Seconds since 1970 when the owner came here.
    Since,
}

impl Gauge {
    pub(super) const COUNT: usize = Self::Since as usize + 1;
}

/// What a slot is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A process of the process group.
    Process = 1,
    /// An application group in a process.
    Group = 2,
    /// An interpreter.
    Replica = 3,
}

/// How far an interpreter, or a process, is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting = 0,
    Serving = 1,
    Draining = 2,
    Ending = 3,
    Lost = 4,
    Failed = 5,
}

impl State {
    pub(super) fn name(number: u64) -> &'static str {
        match number {
            0 => "starting",
            1 => "serving",
            2 => "draining",
            3 => "ending",
            4 => "lost",
            5 => "failed",
            _ => "unknown",
        }
    }
}

/// Whose GIL an interpreter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Own = 0,
    Shared = 1,
    Main = 2,
}

impl Mode {
    pub(super) fn name(number: u64) -> &'static str {
        match number {
            0 => "own",
            1 => "shared",
            2 => "main",
            _ => "unknown",
        }
    }
}

/// A slot. Those of different replicas share no cache line: their threads write at the same time.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Slot {
    /// The process that writes; 0 where none does.
    pub(super) owner: AtomicU32,
    /// A [`Kind`]; 0 until the name is there.
    pub(super) kind: AtomicU32,
    /// When the owner was born, in ticks since the machine was; 0 where that is not known.
    pub(super) born: AtomicU64,
    pub(super) name: Text<16>,
    gauges: [AtomicU64; Gauge::COUNT],
    counters: [AtomicU64; Counter::COUNT],
    times: [AtomicU64; BUCKETS],
    /// The threads of the interpreter, by the kernel's numbers; 0 where there is none.
    threads: [AtomicU32; THREADS],
    /// Why the interpreter is of its kind.
    pub(super) why: Text<16>,
    pub(super) error: Text<31>,
    /// Seconds since 1970.
    pub(super) error_time: AtomicU64,
}

impl Slot {
    /// How long the name of a group may be to have a slot of its own.
    pub(super) const NAME: usize = Text::<16>::LENGTH;

    pub(crate) fn add(&self, counter: Counter, more: u64) {
        self.counters[counter as usize].fetch_add(more, Ordering::Relaxed);
    }

    /// Durations are counted in nanoseconds.
    pub(crate) fn add_time(&self, counter: Counter, more: Duration) {
        self.add(counter, u64::try_from(more.as_nanos()).unwrap_or(0));
    }

    /// Counts how long a request has taken.
    pub(crate) fn add_latency(&self, took: Duration) {
        self.add_time(Counter::Latency, took);
        self.times[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, gauge: Gauge, value: u64) {
        self.gauges[gauge as usize].store(value, Ordering::Relaxed);
    }

    pub(crate) fn enter(&self, state: State) {
        self.set(Gauge::State, state as u64);
    }

    /// One more, until `less`.
    pub(crate) fn more(&self, gauge: Gauge) {
        self.gauges[gauge as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn less(&self, gauge: Gauge) {
        self.gauges[gauge as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// Enters a thread, by the kernel's number for it, and returns its place; `None` where there is none.
    pub(crate) fn enter_thread(&self, number: u32) -> Option<usize> {
        let (taken, seen) = (Ordering::Relaxed, Ordering::Relaxed);
        let free = |thread: &AtomicU32| thread.compare_exchange(0, number, taken, seen).is_ok();
        self.threads.iter().position(free)
    }

    pub(crate) fn leave_thread(&self, place: usize) {
        self.threads[place].store(0, Ordering::Relaxed);
    }

    /// The threads that were entered.
    pub(super) fn threads(&self) -> impl Iterator<Item = u32> {
        let threads = self.threads.iter().map(|thread| thread.load(Ordering::Relaxed));
        threads.filter(|number| *number != 0)
    }

    /// Whose GIL it has, and why.
    pub(crate) fn explain(&self, mode: Mode, why: &str) {
        self.set(Gauge::Mode, mode as u64);
        self.why.set(why.as_bytes());
    }

    /// Notes an error; the text is for operators and holds nothing that a client or an application has
    /// said.
    pub(crate) fn fail(&self, text: &str) {
        self.add(Counter::Errors, 1);
        self.error.set(text.as_bytes());
        self.error_time.store(super::seconds_now(), Ordering::Relaxed);
    }

    pub(super) fn counted(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// That of a counter's number.
    pub(super) fn counted_at(&self, counter: usize) -> u64 {
        self.counters[counter].load(Ordering::Relaxed)
    }

    /// Fills all counters.
    #[cfg(test)]
    pub(super) fn fill(&self, value: u64) {
        self.counters.iter().chain(&self.times).for_each(|one| one.store(value, Ordering::Relaxed));
    }

    pub(super) fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize].load(Ordering::Relaxed)
    }

    /// How many requests are in each bucket.
    pub(super) fn times(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|index| self.times[index].load(Ordering::Relaxed))
    }

    /// What was about the owner before; what was counted stays.
    pub(super) fn begin(&self) {
        self.gauges.iter().for_each(|gauge| gauge.store(0, Ordering::Relaxed));
        self.threads.iter().for_each(|thread| thread.store(0, Ordering::Relaxed));
        self.why.free();
        self.why.set(b"");
        self.error.free();
        self.set(Gauge::Since, super::seconds_now());
    }
}

/// The bucket of a time.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let index = u64::BITS - (micros.saturating_sub(1) / FIRST_BUCKET).leading_zeros();
    (index as usize).min(BUCKETS - 1)
}

/// The upper bound of a bucket in seconds; of the last there is none.
pub(super) fn bound(bucket: usize) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "exact up to the last bound")]
    let seconds = |micros: u64| micros as f64 / 1e6;
    (bucket + 1 < BUCKETS).then(|| seconds(FIRST_BUCKET << bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_whose_bounds_it_is_between() {
        for (micros, expected) in
            [(0, 0), (1, 0), (250, 0), (251, 1), (500, 1), (501, 2), (1000, 2), (1001, 3)]
        {
            assert_eq!(bucket(Duration::from_micros(micros)), expected, "{micros}");
        }
        for index in 0..BUCKETS - 1 {
            let bound = bound(index).unwrap();
            assert_eq!(bucket(Duration::from_secs_f64(bound)), index, "{bound}");
        }
        assert_eq!(bucket(Duration::from_secs(3600)), BUCKETS - 1);
        assert_eq!(bound(BUCKETS - 1), None);
    }

    #[test]
    fn interpreters_that_run_at_the_same_time_write_to_cache_lines_of_their_own() {
        assert_eq!(align_of::<Slot>(), 128);
        assert_eq!(size_of::<Slot>() % 128, 0);
    }
}
