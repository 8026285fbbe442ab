//! What is counted for those who run the server, in memory that outlives each process.
//!
//! - `slot`, `text`: what is known of an interpreter, an application group or a process.
//! - `segment`: the memory of a process group; `process`: who still lives.
//! - `tally`: what a request leaves for whoever counts it.
//! - `snapshot`: all of it at one moment, for people and programs; `exposition`: the same for Prometheus.
//!
//! To count takes no lock, no system call and no memory. The processes of one process group share a
//! segment and no others write to it, so a program that writes what it likes spoils the figures of its
//! own process group only; whoever reads takes what is there for numbers and texts, and no more.

mod exposition;
mod process;
mod segment;
mod slot;
mod snapshot;
pub(crate) mod tally;
mod text;

pub use segment::Segment;
pub(crate) use slot::{Counter, Gauge, Kind, Mode, Slot, State};
pub use snapshot::{Snapshot, Totals};

use crate::GroupName;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where this process counts, and what it sees of others.
struct Board {
    /// That of its own process group.
    own: Arc<Segment>,
    /// By process group; httpd's own processes are those of the empty name.
    all: Vec<(GroupName, Arc<Segment>)>,
}

/// Set once, at the start of a process. One that is not told counts for itself.
static BOARD: OnceLock<Board> = OnceLock::new();

/// What is known of this process.
static PROCESS: OnceLock<Counters> = OnceLock::new();

/// Has this process, which belongs to that process group, count in the group's segment, which is one of
/// those that it sees. To be called once and after the last fork.
pub fn take_part(group: &GroupName, segments: Vec<(GroupName, Arc<Segment>)>) {
    let own = segments.iter().find(|(name, _)| name == group).map(|(_, segment)| segment);
    let Some(own) = own.cloned() else { return };
    if BOARD.set(Board { own, all: segments }).is_ok() {
        process().add(Counter::Starts, 1);
    }
}

/// Says that this process serves from now on, unless it cannot.
pub fn process_serves() {
    if process().gauge(Gauge::State) == State::Starting as u64 {
        process().enter(State::Serving);
    }
}

/// Says that this process takes no more requests.
pub(crate) fn process_drains() {
    process().enter(State::Draining);
}

/// Says that a process of a group has died and should not have.
pub fn count_death(segment: &Segment) {
    segment.others().add(Counter::Deaths, 1);
}

/// This process.
pub(crate) fn process() -> &'static Counters {
    PROCESS.get_or_init(|| claim(Kind::Process, b""))
}

/// A place to count for something of this process.
pub(crate) fn claim(kind: Kind, name: &[u8]) -> Counters {
    let segment = Arc::clone(&board().own);
    let index = segment.claim(kind, name);
    Counters { segment, index }
}

/// Where all processes count together what concerns a process group, if this process may.
pub(crate) fn of_process_group(name: &GroupName) -> Option<Counters> {
    let segments = &board().all;
    let (_, segment) = segments.iter().find(|(other, _)| other == name)?;
    Some(Counters { segment: Arc::clone(segment), index: 0 })
}

fn board() -> &'static Board {
    BOARD.get_or_init(|| {
        let own = Arc::new(Segment::alone());
        Board { all: vec![(GroupName::default(), Arc::clone(&own))], own }
    })
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A slot that was taken, until this is dropped.
#[derive(Debug)]
pub(crate) struct Counters {
    segment: Arc<Segment>,
    index: usize,
}

impl Deref for Counters {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        self.segment.slot(self.index)
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        self.segment.release(self.index);
    }
}
