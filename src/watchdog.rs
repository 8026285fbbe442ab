//! Requests that take long: a watchdog that looks at the threads of all interpreters from time to
//! time. Of a request that runs for too long it says once where it is. One that has passed its
//! deadline it interrupts, and if that does not help, it gives the thread up.
//!
//! A thread that serves keeps a [`Seat`], into which it writes what it begins and that it has
//! ended; the time is taken by the watchdog, when it first sees a request. So a request that is
//! not slow costs a lock nobody else wants, and no look at the clock.
//!
//! To see a Python stack, or to raise an exception in a thread, takes the GIL of its interpreter,
//! which may never be let go: it is taken by a **looker**, a thread of its own, one for an
//! interpreter at a time. The watchdog waits for all lookers of a round together, and not for long.
//!
//! `sys._current_frames()` would be no help: it walks the threads of all interpreters, those of
//! other GILs as well, which run meanwhile.

use crate::exchange::{ApplicationEnd, Link};
use crate::group::Group;
use crate::interp::exception::Exception;
use crate::interp::{Attached, Object, ThreadHandle, ThreadState};
use crate::queue::ReplicaId;
use crate::replica::Replica;
use crate::spawn::spawn;
use crate::{Code, Job, Level, LogEntry, Script, Settings, Timeout};
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

/// How many other threads of an interpreter are shown with one that is interrupted.
const OTHERS: usize = 8;

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
    /// By what CPython knows the thread.
    ident: libc::c_long,
    /// Odd while a request is served, and another number for each.
    turn: AtomicU64,
    /// An exception was set in this thread, which it may not have met yet.
    interrupted: AtomicBool,
    served: Mutex<Option<Served>>,
}

/// The request that a thread serves.
#[derive(Debug)]
struct Served {
    link: Arc<Link>,
    script: Option<Arc<Script>>,
    path: Vec<u8>,
    /// When it has to have ended.
    deadline: Option<(Instant, Timeout)>,
    /// When the watchdog saw it first.
    seen: Option<Instant>,
    /// It was reported as slow.
    slow: bool,
    stage: Stage,
}

/// How far the watchdog has gone with a request that has passed its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    InTime,
    Interrupted(Instant),
    GivenUp,
}

/// A request that the watchdog has something to do about.
struct Found {
    seat: Arc<Seat>,
    turn: u64,
    link: Arc<Link>,
    what: String,
    age: Duration,
    why: Why,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Slow,
    Late,
    Stuck,
}

/// The threads of a replica that a looker is to look at, what each served when it was found, and of
/// one that is to be interrupted what to say before that.
type Seats = Vec<(Arc<Seat>, u64, Option<Report>)>;

/// A line about a request that is late, but for where it is.
struct Report {
    link: Arc<Link>,
    text: String,
}

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

/// The same; or `None`, where no looker got the GIL in time.
type Stack = Option<Result<String, &'static str>>;

impl Watchdog {
    /// Starts the watchdog's thread, if there is anything to watch.
    pub(crate) fn start(settings: &Settings) -> Option<Arc<Self>> {
        let (slow, timeout) = (settings.slow_requests, settings.request_timeout);
        let round = slow.into_iter().chain(timeout).min()? / 10;
        let round = round.clamp(ROUNDS.0, ROUNDS.1);
        let watchdog = Arc::new(Self { seats: Mutex::default(), running: Mutex::default() });
        let (stop, stopped) = bounded(0);
        let watching = Arc::clone(&watchdog);
        match spawn("mnf-watchdog".to_owned(), move || watching.watch(slow, round, &stopped)) {
            Ok(thread) => *lock(&watchdog.running) = Some((stop, thread)),
            Err(error) => tracing::warn!("nobody watches for slow requests, no thread: {error}"),
        }
        Some(watchdog)
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

    /// A seat for the current thread, which is one of a group's.
    pub(crate) fn seat(
        &self,
        group: Weak<Group>,
        replica: ReplicaId,
        thread: usize,
        state: &ThreadState,
    ) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            group,
            replica,
            thread,
            state: state.handle(),
            ident: state.ident(),
            turn: AtomicU64::new(0),
            interrupted: AtomicBool::new(false),
            served: Mutex::default(),
        });
        lock(&self.seats).push(Arc::clone(&seat));
        seat
    }

    /// The thread of this seat ends.
    pub(crate) fn leave(&self, seat: &Arc<Seat>) {
        lock(&self.seats).retain(|other| !Arc::ptr_eq(other, seat));
    }

    fn watch(&self, slow: Option<Duration>, round: Duration, stopped: &Receiver<()>) {
        while stopped.recv_timeout(round) == Err(RecvTimeoutError::Timeout) {
            let seats = lock(&self.seats).clone();
            let now = Instant::now();
            let found: Vec<_> = seats.iter().filter_map(|seat| seat.find(now, slow)).collect();
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
            deadline: job.deadline.zip(job.timeout),
            seen: None,
            slow: false,
            stage: Stage::InTime,
        });
        self.turn.fetch_add(1, Ordering::SeqCst);
    }

    /// The application has answered; its last part is still to be sent. Where the request was
    /// reported, its log gets a line, for which it may have to wait.
    pub(crate) fn end(&self, py: Attached<'_>) {
        self.turn.fetch_add(1, Ordering::SeqCst);
        if self.interrupted.load(Ordering::Relaxed) {
            // What is interrupted is this request, and not the next.
            self.interrupted.store(false, Ordering::Relaxed);
            py.interrupt(self.ident, None);
        }
        let served = lock(&self.served).take();
        let Some(Served { link, script, path, seen: Some(seen), slow, stage, .. }) = served else {
            return;
        };
        let code = match stage {
            Stage::GivenUp => Code::ThreadStuck,
            Stage::Interrupted(_) => Code::RequestTimeout,
            Stage::InTime if slow => Code::SlowRequest,
            Stage::InTime => return,
        };
        let what = describe(&path, script.as_deref());
        let seconds = seen.elapsed().as_secs_f64();
        let text = format!("{code}: the slow {what} has ended, after {seconds:.1} s");
        py.detached(|| link.log_waiting(LogEntry::new(Level::Warning, text)));
    }

    /// Whether that request is still served. Asked by a thread that holds the GIL, yes means that
    /// the serving thread keeps its thread state until the GIL is let go: to give it up takes the
    /// GIL, and comes after [`Seat::end`].
    fn still(&self, turn: u64) -> bool {
        self.turn.load(Ordering::SeqCst) == turn
    }

    /// The request, when something is to be done about it.
    fn find(self: &Arc<Self>, now: Instant, slow: Option<Duration>) -> Option<Found> {
        let mut served = lock(&self.served);
        let turn = self.turn.load(Ordering::SeqCst);
        let served = served.as_mut()?;
        let seen = *served.seen.get_or_insert(now);
        let age = now - seen;
        if turn.is_multiple_of(2) {
            return None;
        }
        let why = match (served.stage, served.deadline) {
            (Stage::InTime, Some((deadline, _))) if now >= deadline => {
                served.stage = Stage::Interrupted(now);
                Why::Late
            }
            (Stage::Interrupted(at), Some((_, timeout))) if now >= at + timeout.grace => {
                served.stage = Stage::GivenUp;
                Why::Stuck
            }
            _ if !served.slow && slow.is_some_and(|limit| age >= limit) => {
                served.slow = true;
                Why::Slow
            }
            _ => return None,
        };
        let what = describe(&served.path, served.script.as_deref());
        let link = Arc::clone(&served.link);
        // A deadline counts from the moment the request was handed over.
        let age = match served.deadline.filter(|_| why != Why::Slow) {
            Some((deadline, timeout)) => now + timeout.limit - deadline,
            None => age,
        };
        Some(Found { seat: Arc::clone(self), turn, link, what, age, why })
    }
}

impl Question {
    /// Answers, and interrupts whom it was asked to. Run by the looker, once it has the GIL.
    pub(crate) fn answer(self, py: Attached<'_>, replica: &Replica) {
        for (seat, turn, late) in self.seats {
            let given_up = self.given_up.load(Ordering::Relaxed);
            if given_up && late.is_none() {
                continue;
            }
            let interrupt = late.is_some();
            let stack = see(py, replica, &seat, turn, interrupt);
            // Said before the application can say what it makes of the interruption.
            if let Some(Report { link, text }) = late.filter(|_| !given_up) {
                log(&link, Level::Warning, text, Some(&stack));
            }
            // Nobody may be waiting any more.
            let _ = self.answers.send(Answer { seat: Arc::clone(&seat), stack });
            // Formatting may have let the GIL go meanwhile.
            if interrupt && seat.still(turn) {
                py.interrupt(seat.ident, Some(&replica.residents.request_timeout.get(py)));
                seat.interrupted.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Where a thread is, seen from a thread that is attached to the same interpreter; and where the
/// others are, if `all`.
fn see(
    py: Attached<'_>,
    replica: &Replica,
    seat: &Seat,
    turn: u64,
    all: bool,
) -> Result<String, &'static str> {
    if !seat.still(turn) {
        return Err("it has just ended");
    }
    // SAFETY: we hold the GIL and the request is still served, so the thread keeps its state until
    // we let go of the GIL, which nothing between that look and this does.
    let frame = unsafe { seat.state.frame(py) };
    let others = match all {
        true => replica.interpreter.other_frames(py, seat.state, OTHERS),
        false => Vec::new(),
    };
    let format = |frame: &Object<'_>| {
        replica.residents.format_stack(frame).map_err(|raised| {
            drop(Exception::take(py, raised));
            "its stack could not be formatted"
        })
    };
    let frame = frame.ok_or(
        "none of its Python code runs: it waits for its client, or for the GIL, or has just begun",
    )?;
    let mut text = format(&frame)?;
    for other in &others {
        text.push_str("meanwhile another thread of its interpreter is in\n");
        text.push_str(&format(other)?);
    }
    Ok(text)
}

/// Looks where requests are that take long, writes a line about each, interrupts those that are late,
/// and gives up the threads of those that did not end by that.
fn report(found: Vec<Found>, stopped: &Receiver<()>) {
    let (answers, answered) = bounded(found.len());
    let given_up = Arc::new(AtomicBool::new(false));
    let mut replicas: HashMap<(usize, ReplicaId), (Arc<Group>, Seats)> = HashMap::new();
    for found in &found {
        let seat = &found.seat;
        if let Some(group) = seat.group.upgrade() {
            let key = (Arc::as_ptr(&group).addr(), seat.replica);
            let (_, seats) = replicas.entry(key).or_insert((group, Vec::new()));
            let late = (found.why == Why::Late)
                .then(|| Report { link: Arc::clone(&found.link), text: found.text() });
            seats.push((Arc::clone(seat), found.turn, late));
        }
    }
    for ((_, replica), (group, seats)) in replicas {
        let given_up = Arc::clone(&given_up);
        let question = Question { seats, answers: answers.clone(), given_up };
        group.look(replica, move |py, replica| question.answer(py, replica));
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
    for found in found {
        let stack = stacks.remove(&Arc::as_ptr(&found.seat).addr());
        match found.why {
            // The looker has written it.
            Why::Late if stack.is_some() => {}
            Why::Slow | Why::Late => {
                log(&found.link, Level::Warning, found.text(), stack.as_ref());
            }
            Why::Stuck => found.give_up(stack),
        }
    }
}

impl Found {
    /// The line about it, but for where it is.
    fn text(&self) -> String {
        let what = self.describe();
        match self.why {
            Why::Slow => format!("{}: the slow {what}", Code::SlowRequest),
            Why::Late | Why::Stuck => format!(
                "{}: the {what}, which is longer than WSGIRequestTimeout or request-timeout allows; mod_wsgi.RequestTimeout is \
                 raised in it",
                Code::RequestTimeout
            ),
        }
    }

    /// It did not end although it was interrupted.
    fn give_up(self, stack: Stack) {
        let Some(group) = self.seat.group.upgrade() else { return };
        if !self.seat.still(self.turn) {
            return;
        }
        let then = group.give_up(self.seat.replica, self.seat.thread, stack.is_none());
        let what = self.describe();
        let text = format!(
            "{}: the {what}, and did not end when it was interrupted; {then}",
            Code::ThreadStuck
        );
        log(&self.link, Level::Error, text, stack.as_ref());
    }

    fn describe(&self) -> String {
        let group = self.seat.group.upgrade();
        let group = group.map(|group| group.name().to_string()).unwrap_or_default();
        format!(
            "{} in application group '{group}' runs for {:.1} s, on thread {} of replica {}",
            self.what,
            self.age.as_secs_f64(),
            self.seat.thread,
            self.seat.replica
        )
    }
}

/// Writes a line about a request, and where it is; `None` where no looker got the GIL in time.
fn log(link: &Link, level: Level, mut text: String, stack: Option<&Result<String, &'static str>>) {
    match stack {
        Some(Ok(stack)) => {
            text.push('\n');
            text.push_str(stack.trim_end());
        }
        Some(Err(reason)) => {
            text.push_str("; ");
            text.push_str(reason);
        }
        None => text.push_str(
            "; its stack cannot be seen: the GIL was not let go for a second, so native code runs in \
             this interpreter and keeps it",
        ),
    }
    // Not waited for: a request thread that is busy with its client would hold this one.
    if let Err(entry) = link.log(LogEntry::new(level, text)) {
        entry.write_alone();
    }
}

fn describe(path: &[u8], script: Option<&Script>) -> String {
    let script = script.map(|script| script.path().display().to_string()).unwrap_or_default();
    format!("request '{}' of script '{script}'", String::from_utf8_lossy(path))
}

/// The path that was asked for, without its query, which may hold what no log should.
fn path(job: &Job) -> &[u8] {
    let uri = job.variables.get(b"REQUEST_URI").unwrap_or_default();
    uri.split(|byte| *byte == b'?').next().unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
