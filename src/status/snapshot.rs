//! All counters at one moment, added up: by process group and application group, and for each
//! interpreter.
#![forbid(unsafe_code)]

use super::segment::Segment;
use super::slot::{BUCKETS, Counter, Gauge, Kind, Mode, Slot, State, bound};
use super::{board, exposition, process};
use crate::GroupName;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the counters say.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// When it was, in seconds since 1970.
    pub time: f64,
    /// Of this module.
    pub version: &'static str,
    /// Of CPython in httpd's own processes.
    pub python: &'static str,
    /// Whether requests can be served.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// httpd's own processes are that of the empty name.
    pub process_groups: Vec<ProcessGroup>,
}

/// A process group.
#[derive(Debug, Serialize)]
pub struct ProcessGroup {
    /// Its name.
    pub name: String,
    /// How many processes have started.
    pub starts: u64,
    /// How many have died and should not have.
    pub deaths: u64,
    /// How often httpd has connected to one.
    pub connects: u64,
    /// How many requests were sent to a second one, since the first had gone before it began.
    pub resent: u64,
    /// What runs.
    pub processes: Vec<Process>,
    /// Its application groups.
    pub application_groups: Vec<ApplicationGroup>,
    /// What there was no place for by itself, if anything.
    pub others: Option<Totals>,
}

/// A process that runs.
#[derive(Debug, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// How far it is in its life.
    pub state: &'static str,
    /// When it started, in seconds since 1970.
    pub since: u64,
    /// What it has in memory, where the kernel says so.
    pub resident_bytes: Option<u64>,
}

/// An application group in all processes of a process group.
#[derive(Debug, Serialize)]
pub struct ApplicationGroup {
    /// Its name.
    pub name: String,
    /// Whose GIL its interpreters have: `own`, `shared` or `main`.
    pub gil: &'static str,
    /// Why.
    pub why: String,
    /// Requests that wait, and how many may.
    pub queue: Queue,
    /// The threads of its interpreters.
    pub threads: Threads,
    /// In how many processes it takes no more requests.
    pub stuck: usize,
    /// In all processes that there are, and that there were.
    pub totals: Totals,
    /// The last one of any process.
    pub last_error: Option<LastError>,
    /// The interpreters that there are.
    pub replicas: Vec<Replica>,
}

/// Requests that no thread has taken.
#[derive(Debug, Default, Serialize)]
pub struct Queue {
    /// How many wait.
    pub waiting: u64,
    /// How many may.
    pub limit: u64,
}

/// Threads of interpreters.
#[derive(Debug, Default, Serialize)]
pub struct Threads {
    /// Those that serve a request.
    pub serving: u64,
    /// Those of them that use a processor, or would if one were free.
    pub running: u64,
    /// Those of them that wait: for a database, a lock, a client, or the GIL.
    pub blocked: u64,
    /// Those that wait for a request.
    pub idle: u64,
    /// Those that were given up and have not come back.
    pub quarantined: u64,
    /// How many there may be.
    pub limit: u64,
}

/// An interpreter.
#[derive(Debug, Serialize)]
pub struct Replica {
    /// Its process.
    pub pid: u32,
    /// How far it is in its life.
    pub state: &'static str,
    /// Whose GIL it has.
    pub gil: &'static str,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Its threads.
    pub threads: u64,
    /// Those that serve a request.
    pub serving: u64,
    /// Those of them that use a processor, or would if one were free.
    pub running: u64,
    /// What it and those before it in its place have counted.
    pub totals: Totals,
}

/// The last error.
#[derive(Debug, Serialize)]
pub struct LastError {
    /// The line in the log.
    pub text: String,
    /// When it was, in seconds since 1970.
    pub time: u64,
}

/// What only goes up.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "docs/status.md says what each is")]
pub struct Totals {
    pub requests: u64,
    pub status: Statuses,
    pub latency: Latency,
    pub queue_seconds: f64,
    pub application_seconds: f64,
    pub gil_wait_seconds: f64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub refused: u64,
    pub timeouts: u64,
    pub errors: u64,
    pub reloads: u64,
    pub replacements: u64,
    pub demotions: u64,
    pub quarantined: u64,
}

/// Requests by the class of their status.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Statuses {
    #[serde(rename = "1xx")]
    pub informational: u64,
    #[serde(rename = "2xx")]
    pub success: u64,
    #[serde(rename = "3xx")]
    pub redirection: u64,
    #[serde(rename = "4xx")]
    pub client_error: u64,
    #[serde(rename = "5xx")]
    pub server_error: u64,
}

/// How long requests took, from the queue to the end.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// All of them together.
    pub seconds: f64,
    /// That many of a hundred took no longer, as far as the buckets tell.
    pub p50: Option<f64>,
    /// See `p50`.
    pub p90: Option<f64>,
    /// See `p50`.
    pub p99: Option<f64>,
    /// How many took longer than the bucket before and no longer than this one.
    pub buckets: Vec<Bucket>,
}

/// A bucket of times.
#[derive(Debug, Serialize)]
pub struct Bucket {
    /// Its upper bound in seconds; the last has none.
    pub le: Option<f64>,
    /// How many.
    pub count: u64,
}

impl Snapshot {
    /// What the counters say now.
    pub fn take() -> Self {
        let process_groups: Vec<_> =
            board().all.iter().map(|(name, segment)| ProcessGroup::of(name, segment)).collect();
        let reasons: Vec<_> =
            process_groups.iter().flat_map(|group| group.reasons(std::process::id())).collect();
        Self {
            time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            version: env!("CARGO_PKG_VERSION"),
            python: cpython_sys::VERSION_TEXT,
            ready: reasons.is_empty(),
            reasons,
            process_groups,
        }
    }

    /// As JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("every part of it can be serialised")
    }

    /// As Prometheus reads it.
    pub fn exposition(&self) -> String {
        exposition::text(self)
    }
}

impl ProcessGroup {
    fn of(name: &GroupName, segment: &Segment) -> Self {
        let mut processes = Vec::new();
        let mut groups: BTreeMap<Vec<u8>, Gathered> = BTreeMap::new();
        let mut starts = 0;
        for slot in segment.slots() {
            let kind = slot.kind.load(Ordering::Acquire);
            let owner = owner(slot);
            if kind == Kind::Process as u32 {
                starts += slot.counted(Counter::Starts);
                processes.extend(owner.map(|pid| Process::of(pid, slot)));
            } else if kind == Kind::Group as u32 {
                groups.entry(slot.name.get()).or_default().add_group(slot, owner.is_some());
            } else if kind == Kind::Replica as u32 {
                groups.entry(slot.name.get()).or_default().add_replica(slot, owner);
            }
        }
        let mut others = Sum::default();
        others.add(segment.others());
        Self {
            // The empty one is that of httpd's own processes.
            name: String::from_utf8_lossy(name.as_bytes()).into_owned(),
            starts,
            deaths: others.of(Counter::Deaths),
            connects: others.of(Counter::Connects),
            resent: others.of(Counter::Resent),
            processes,
            application_groups: groups.into_iter().map(|(name, it)| it.into_group(&name)).collect(),
            others: (others.of(Counter::Requests) > 0).then(|| others.totals()),
        }
    }

    /// Why it cannot serve requests, as a process with that number sees it.
    fn reasons(&self, me: u32) -> Vec<String> {
        let mut reasons = Vec::new();
        let serves = |process: &Process| process.state == State::name(State::Serving as u64);
        if self.name.is_empty() {
            let own = self.processes.iter().find(|process| process.pid == me);
            if let Some(own) = own.filter(|own| !serves(own)) {
                reasons.push(format!("Python in this process of httpd is {}", own.state));
            }
        } else if self.processes.is_empty() {
            reasons.push(format!("no process of process group '{}' runs", self.name));
        } else if !self.processes.iter().any(serves) {
            reasons
                .push(format!("no process of process group '{}' serves requests yet", self.name));
        }
        let stuck = self
            .application_groups
            .iter()
            .filter(|group| group.stuck > 0 && group.stuck >= group.processes().max(1));
        reasons.extend(stuck.map(|group| {
            format!(
                "requests that do not end keep application group '{}' from serving others",
                group.name
            )
        }));
        reasons
    }
}

impl ApplicationGroup {
    /// In how many processes it has an interpreter.
    fn processes(&self) -> usize {
        let mut pids: Vec<_> = self.replicas.iter().map(|replica| replica.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids.len()
    }
}

impl Process {
    fn of(pid: u32, slot: &Slot) -> Self {
        Self {
            pid,
            state: State::name(slot.gauge(Gauge::State)),
            since: slot.gauge(Gauge::Since),
            resident_bytes: process::resident(pid),
        }
    }
}

/// The process that writes to a slot, if it lives.
fn owner(slot: &Slot) -> Option<u32> {
    let owner = slot.owner.load(Ordering::Acquire);
    (owner != 0 && process::is_alive(owner, slot.born.load(Ordering::Relaxed))).then_some(owner)
}

/// What is found of an application group.
#[derive(Default)]
struct Gathered {
    sum: Sum,
    mode: Option<(u64, String)>,
    queue: Queue,
    threads: Threads,
    stuck: usize,
    error: Option<LastError>,
    replicas: Vec<Replica>,
}

impl Gathered {
    fn add_group(&mut self, slot: &Slot, lives: bool) {
        self.sum.add(slot);
        let time = slot.error_time.load(Ordering::Relaxed);
        if time > self.error.as_ref().map_or(0, |error| error.time) {
            self.error = Some(LastError { text: slot.error.shown(), time });
        }
        if !lives {
            return;
        }
        // Where it has moved somewhere, it goes on there.
        let mode = (slot.gauge(Gauge::Mode), slot.why.shown());
        if self.mode.as_ref().is_none_or(|(other, _)| *other < mode.0) {
            self.mode = Some(mode);
        }
        self.queue.waiting += slot.gauge(Gauge::Waiting).min(MOST);
        self.queue.limit += slot.gauge(Gauge::WaitingLimit).min(MOST);
        self.threads.quarantined += slot.gauge(Gauge::Lost).min(MOST);
        self.stuck += usize::from(slot.gauge(Gauge::Stuck) != 0);
    }

    fn add_replica(&mut self, slot: &Slot, owner: Option<u32>) {
        self.sum.add(slot);
        let Some(pid) = owner else { return };
        let mut sum = Sum::default();
        sum.add(slot);
        let threads = slot.gauge(Gauge::Threads).min(MOST);
        let serving = slot.gauge(Gauge::Serving).min(threads);
        let runs = |thread: &u32| serving > 0 && process::runs(pid, *thread) == Some(true);
        let running = (slot.threads().filter(runs).count() as u64).min(serving);
        self.threads.serving += serving;
        self.threads.running += running;
        self.threads.blocked += serving - running;
        self.threads.idle += threads - serving;
        self.threads.limit += slot.gauge(Gauge::ThreadLimit).min(MOST);
        self.replicas.push(Replica {
            pid,
            state: State::name(slot.gauge(Gauge::State)),
            gil: Mode::name(slot.gauge(Gauge::Mode)),
            since: slot.gauge(Gauge::Since),
            threads,
            serving,
            running,
            totals: sum.totals(),
        });
    }

    fn into_group(self, name: &[u8]) -> ApplicationGroup {
        // The main interpreter is there before anybody asks for it.
        let made = self.replicas.first().map(|replica| replica.gil);
        let (gil, why) = match self.mode {
            Some((mode, why)) => (Mode::name(mode), why),
            None => (made.unwrap_or("none"), String::new()),
        };
        ApplicationGroup {
            name: GroupName::new(name).to_string(),
            gil,
            why,
            queue: self.queue,
            threads: self.threads,
            stuck: self.stuck,
            totals: self.sum.totals(),
            last_error: self.error,
            replicas: self.replicas,
        }
    }
}

/// More of anything than there can be: what is beyond was written by a program that writes what it likes.
const MOST: u64 = 1 << 32;

/// The counters of several slots.
#[derive(Default)]
struct Sum {
    counters: [u64; Counter::COUNT],
    times: [u64; BUCKETS],
}

impl Sum {
    fn add(&mut self, slot: &Slot) {
        for (index, sum) in self.counters.iter_mut().enumerate() {
            *sum = sum.wrapping_add(slot.counted_at(index));
        }
        for (sum, more) in self.times.iter_mut().zip(slot.times()) {
            *sum = sum.wrapping_add(more);
        }
    }

    fn of(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    fn totals(&self) -> Totals {
        #[expect(
            clippy::cast_precision_loss,
            reason = "nanoseconds of a century are exact to 1 µs"
        )]
        let seconds = |counter| self.of(counter) as f64 / 1e9;
        let percentile = |part| percentile(&self.times, part);
        Totals {
            requests: self.of(Counter::Requests),
            status: Statuses {
                informational: self.of(Counter::Status1),
                success: self.of(Counter::Status2),
                redirection: self.of(Counter::Status3),
                client_error: self.of(Counter::Status4),
                server_error: self.of(Counter::Status5),
            },
            latency: Latency {
                seconds: seconds(Counter::Latency),
                p50: percentile(0.5),
                p90: percentile(0.9),
                p99: percentile(0.99),
                buckets: (0..BUCKETS)
                    .map(|index| Bucket { le: bound(index), count: self.times[index] })
                    .collect(),
            },
            queue_seconds: seconds(Counter::Queued),
            application_seconds: seconds(Counter::Application),
            gil_wait_seconds: seconds(Counter::GilWait),
            bytes_in: self.of(Counter::BytesIn),
            bytes_out: self.of(Counter::BytesOut),
            refused: self.of(Counter::Refused),
            timeouts: self.of(Counter::Timeouts),
            errors: self.of(Counter::Errors),
            reloads: self.of(Counter::Reloads),
            replacements: self.of(Counter::Replacements),
            demotions: self.of(Counter::Demotions),
            quarantined: self.of(Counter::Quarantined),
        }
    }
}

/// The time that so large a part of the requests did not exceed: between the bounds of its bucket, as if
/// they were spread evenly there.
fn percentile(times: &[u64; BUCKETS], part: f64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
    let count = |count: u64| count as f64;
    let all = times.iter().fold(0_u64, |sum, more| sum.wrapping_add(*more));
    let wanted = count(all) * part;
    let mut before = 0.0;
    for (index, number) in times.iter().enumerate() {
        let within = count(*number);
        if *number > 0 && before + within >= wanted {
            let lower = index.checked_sub(1).and_then(bound).unwrap_or(0.0);
            let upper = bound(index).unwrap_or(lower);
            return Some(lower + (upper - lower) * ((wanted - before) / within));
        }
        before += within;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn shop() -> GroupName {
        GroupName::new(b"shop")
    }

    #[test]
    fn what_is_counted_is_added_up_and_what_is_now_is_that_of_the_living() {
        let segment = Segment::new().unwrap();
        let [dead, alive] = [(); 2].map(|()| segment.slot(segment.claim(Kind::Replica, b"shop")));
        for slot in [dead, alive] {
            slot.add(Counter::Requests, 2);
            slot.add(Counter::of_status(404), 2);
            slot.add_latency(Duration::from_millis(3));
            slot.set(Gauge::Threads, 3);
            slot.set(Gauge::Serving, 1);
        }
        dead.owner.store(0, Ordering::SeqCst);
        let found = ProcessGroup::of(&shop(), &segment);
        let [group] = &found.application_groups[..] else { panic!("there is one") };
        assert_eq!((group.totals.requests, group.totals.status.client_error), (4, 4));
        assert_eq!((group.threads.serving, group.threads.idle), (1, 2));
        assert_eq!(group.replicas.len(), 1);
        assert_eq!(group.replicas[0].totals.requests, 2);
        let p50 = group.totals.latency.p50.unwrap();
        assert!((0.002..=0.004).contains(&p50), "{p50}");
    }

    #[test]
    fn whatever_is_in_the_memory_becomes_a_snapshot() {
        let segment = Segment::new().unwrap();
        let index = segment.claim(Kind::Group, &[0xff, b'"', b'\n', b'<']);
        let slot = segment.slot(index);
        slot.fill(u64::MAX);
        slot.set(Gauge::Mode, 77);
        slot.set(Gauge::State, u64::MAX);
        slot.set(Gauge::Waiting, u64::MAX);
        let other = segment.slot(segment.claim(Kind::Group, &[0xff, b'"', b'\n', b'<']));
        other.set(Gauge::Waiting, u64::MAX);
        let found = ProcessGroup::of(&shop(), &segment);
        assert_eq!(found.application_groups[0].gil, "unknown");
        serde_json::to_string(&found).unwrap();
    }

    #[test]
    fn a_percentile_lies_in_the_bucket_that_it_falls_into() {
        let mut times = [0; BUCKETS];
        assert_eq!(percentile(&times, 0.5), None);
        times[2] = 90;
        times[BUCKETS - 1] = 10;
        let p50 = percentile(&times, 0.5).unwrap();
        assert!((0.0005..=0.001).contains(&p50), "{p50}");
        assert_eq!(percentile(&times, 0.99), bound(BUCKETS - 2));
    }

    #[test]
    fn a_process_group_is_ready_once_one_of_its_processes_serves() {
        let segment = Segment::new().unwrap();
        let reasons = || ProcessGroup::of(&shop(), &segment).reasons(1);
        assert_eq!(reasons(), ["no process of process group 'shop' runs"]);
        let process = segment.slot(segment.claim(Kind::Process, b""));
        assert_eq!(reasons(), ["no process of process group 'shop' serves requests yet"]);
        process.enter(State::Serving);
        assert_eq!(reasons(), [""; 0]);
        let group = segment.slot(segment.claim(Kind::Group, b"app"));
        group.set(Gauge::Stuck, 1);
        assert!(reasons()[0].contains("'app'"));
    }
}
