//! Requests that take long: a watchdog that looks at the threads of all interpreters from time to
//! time, and says once of each request that runs for too long where it is.
//!
//! A thread that serves keeps a [`Seat`], into which it writes what it begins and that it has
//! ended; the time is taken by the watchdog, when it first sees a request. So a request that is
//! not slow costs a lock nobody else wants, and no look at the clock.
//!
//! To see a Python stack takes the GIL of its interpreter, which may never be let go: it is taken
//! by a **looker**, a thread of its own, one for an interpreter at a time. The watchdog waits for
//! all lookers of a round together, and not for long.
//!
//! `sys._current_frames()` would be no help: it walks the threads of all interpreters, those of
//! other GILs as well, which run meanwhile.

use crate::exchange::{ApplicationEnd, Link};
use crate::group::Group;
use crate::interp::{Attached, ThreadHandle};
use crate::queue::ReplicaId;
use crate::spawn::spawn;
use crate::{Code, Job, Level, LogEntry, Script};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the watchdog waits for the GILs that it needs in one round.
const GIL_LIMIT: Duration = Duration::from_secs(1);

/// How often the watchdog looks, at least and at most.
const ROUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The watchdog of a process, and the seats that it looks at.
#[derive(Debug)]
pub(crate) struct Watchdog {
    seats: Mutex<Vec<Arc<Seat>>>,
    /// Dropped to end the thread.
    running: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

/// Where a thread says what it serves.
#[derive(Debug)]
pub(crate) struct Seat {
    group: Weak<Group>,
    replica: ReplicaId,
    /// The thread's number in its replica.
    thread: usize,
    state: ThreadHandle,
    /// Odd while a request is served, and another number for each.
    turn: AtomicU64,
    served: Mutex<Option<Served>>,
}

/// The request that a thread serves.
#[derive(Debug)]
struct Served {
    link: Arc<Link>,
    script: Option<Arc<Script>>,
    path: Vec<u8>,
    /// When the watchdog saw it first.
    seen: Option<Instant>,
    /// It was reported.
    slow: bool,
}

/// A slow request, as the watchdog found it.
struct Found {
    seat: Arc<Seat>,
    turn: u64,
    link: Arc<Link>,
    what: String,
    age: Duration,
}

/// The threads of a group that a looker is to look at, and what each served when it was found.
type Seats = Vec<(Arc<Seat>, u64)>;

/// What a looker is asked, and where its answer goes.
pub(crate) struct Question {
    seats: Seats,
    answers: Sender<Answer>,
    /// Nobody waits for the answer any more.
    given_up: Arc<AtomicBool>,
}

/// What a looker has seen.
struct Answer {
    seat: Arc<Seat>,
    /// The Python stack, or why there is none.
    stack: Result<String, &'static str>,
}

impl Watchdog {
    /// Starts the watchdog's thread, which reports requests that run longer than `limit`.
    pub(crate) fn start(limit: Duration) -> Arc<Self> {
        let watchdog = Arc::new(Self { seats: Mutex::default(), running: Mutex::default() });
        let (stop, stopped) = bounded(0);
        let watching = Arc::clone(&watchdog);
        match spawn("mnf-watchdog".to_owned(), move || watching.watch(limit, &stopped)) {
            Ok(thread) => *lock(&watchdog.running) = Some((stop, thread)),
            Err(error) => tracing::warn!("slow requests are not reported, no thread: {error}"),
        }
        watchdog
    }

    /// Ends the watchdog's thread, which never waits for anybody but to be told so.
    pub(crate) fn stop(&self) {
        let running = lock(&self.running).take();
        if let Some((stop, thread)) = running {
            drop(stop);
            // A panic of it was printed when it happened.
            let _ = thread.join();
        }
    }

    /// A seat for a thread of a group.
    pub(crate) fn seat(
        &self,
        group: Weak<Group>,
        replica: ReplicaId,
        thread: usize,
        state: ThreadHandle,
    ) -> Arc<Seat> {
        let (turn, served) = (AtomicU64::new(0), Mutex::default());
        let seat = Arc::new(Seat { group, replica, thread, state, turn, served });
        lock(&self.seats).push(Arc::clone(&seat));
        seat
    }

    /// The thread of this seat ends.
    pub(crate) fn leave(&self, seat: &Arc<Seat>) {
        lock(&self.seats).retain(|other| !Arc::ptr_eq(other, seat));
    }

    fn watch(&self, limit: Duration, stopped: &Receiver<()>) {
        let round = (limit / 10).clamp(ROUNDS.0, ROUNDS.1);
        while stopped.recv_timeout(round) == Err(RecvTimeoutError::Timeout) {
            let seats = lock(&self.seats).clone();
            let now = Instant::now();
            let found: Vec<_> = seats.iter().filter_map(|seat| seat.find(now, limit)).collect();
            if !found.is_empty() {
                report(found, stopped);
            }
        }
    }
}

impl Seat {
    /// The thread serves this request from now on.
    pub(crate) fn begin(&self, end: &ApplicationEnd) {
        let job = end.job();
        let mut served = lock(&self.served);
        *served = Some(Served {
            link: Arc::clone(end.link()),
            script: job.script.clone(),
            path: path(job).to_vec(),
            seen: None,
            slow: false,
        });
        self.turn.fetch_add(1, Ordering::SeqCst);
    }

    /// The application has answered; its last part is still to be sent. Where the request was
    /// reported, its log gets a line, for which it may have to wait.
    pub(crate) fn end(&self, py: Attached<'_>) {
        self.turn.fetch_add(1, Ordering::SeqCst);
        let served = lock(&self.served).take();
        if let Some(Served { link, script, path, seen: Some(seen), slow: true }) = served {
            let what = describe(&path, script.as_deref());
            let seconds = seen.elapsed().as_secs_f64();
            let text = format!("{}: {what} has ended, after {seconds:.1} s", Code::SlowRequest);
            py.detached(|| link.log_waiting(LogEntry::new(Level::Warning, text)));
        }
    }

    /// By what the thread can be looked at.
    pub(crate) fn state(&self) -> ThreadHandle {
        self.state
    }

    /// Whether that request is still served. Asked by a thread that holds the GIL, yes means that
    /// the serving thread keeps its thread state until the GIL is let go: to give it up takes the
    /// GIL, and comes after [`Seat::end`].
    pub(crate) fn still(&self, turn: u64) -> bool {
        self.turn.load(Ordering::SeqCst) == turn
    }

    /// The request, when it is slow and was not reported.
    fn find(self: &Arc<Self>, now: Instant, limit: Duration) -> Option<Found> {
        let mut served = lock(&self.served);
        let turn = self.turn.load(Ordering::SeqCst);
        let served = served.as_mut()?;
        let seen = *served.seen.get_or_insert(now);
        let age = now - seen;
        if turn.is_multiple_of(2) || served.slow || age < limit {
            return None;
        }
        served.slow = true;
        let what = describe(&served.path, served.script.as_deref());
        Some(Found { seat: Arc::clone(self), turn, link: Arc::clone(&served.link), what, age })
    }
}

impl Question {
    /// Answers, with what `look` sees of each thread. Run by the looker, once it has the GIL.
    pub(crate) fn answer(self, mut look: impl FnMut(&Seat, u64) -> Result<String, &'static str>) {
        for (seat, turn) in self.seats {
            if self.given_up.load(Ordering::Relaxed) {
                return;
            }
            let stack = look(&seat, turn);
            // Nobody may be waiting any more.
            let _ = self.answers.send(Answer { seat, stack });
        }
    }
}

/// Looks where slow requests are, and writes a line about each.
fn report(found: Vec<Found>, stopped: &Receiver<()>) {
    let (answers, answered) = bounded(found.len());
    let given_up = Arc::new(AtomicBool::new(false));
    let mut replicas: HashMap<(usize, ReplicaId), (Arc<Group>, Seats)> = HashMap::new();
    for Found { seat, turn, .. } in &found {
        if let Some(group) = seat.group.upgrade() {
            let key = (Arc::as_ptr(&group).addr(), seat.replica);
            let (_, seats) = replicas.entry(key).or_insert((group, Vec::new()));
            seats.push((Arc::clone(seat), *turn));
        }
    }
    for ((_, replica), (group, seats)) in replicas {
        let given_up = Arc::clone(&given_up);
        group.look(replica, Question { seats, answers: answers.clone(), given_up });
    }
    drop(answers);
    let deadline = Instant::now() + GIL_LIMIT;
    let mut stacks = HashMap::new();
    while stacks.len() < found.len() {
        crossbeam_channel::select! {
            recv(answered) -> answer => match answer {
                Ok(Answer { seat, stack }) => { stacks.insert(Arc::as_ptr(&seat).addr(), stack); }
                // Every looker has gone: there is no more to come.
                Err(_) => break,
            },
            recv(stopped) -> _ => break,
            recv(crossbeam_channel::at(deadline)) -> _ => break,
        }
    }
    given_up.store(true, Ordering::Relaxed);
    for Found { seat, link, what, age, .. } in found {
        let group = seat.group.upgrade().map(|group| group.name().to_string()).unwrap_or_default();
        let age = age.as_secs_f64();
        let mut text = format!(
            "{}: {what} in application group '{group}' runs for {age:.1} s, on thread {}",
            Code::SlowRequest,
            seat.thread
        );
        match stacks.remove(&Arc::as_ptr(&seat).addr()) {
            Some(Ok(stack)) => {
                text.push('\n');
                text.push_str(stack.trim_end());
            }
            Some(Err(why)) => {
                text.push_str("; ");
                text.push_str(why);
            }
            None => text.push_str(
                "; its stack cannot be seen: the GIL was not let go for a second, so native code \
                 runs in this interpreter and keeps it",
            ),
        }
        // Not waited for: a request thread that is busy with its client would hold this one.
        if let Err(entry) = link.log(LogEntry::new(Level::Warning, text)) {
            entry.write_alone();
        }
    }
}

fn describe(path: &[u8], script: Option<&Script>) -> String {
    let script = script.map(|script| script.path().display().to_string()).unwrap_or_default();
    format!("the slow request '{}' of script '{script}'", String::from_utf8_lossy(path))
}

/// The path that was asked for, without its query, which may hold what no log should.
fn path(job: &Job) -> &[u8] {
    let uri = job.variables.get(b"REQUEST_URI").unwrap_or_default();
    uri.split(|byte| *byte == b'?').next().unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
