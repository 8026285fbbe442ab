//! An application group: its queue, its interpreter, and the threads that serve both.

use crate::exchange::ApplicationEnd;
use crate::interp::ending::{self, End};
use crate::interp::exception::Exception;
use crate::interp::{Attached, Interpreter, ThreadState, startup};
use crate::options::{Resolved, SwitchInterval};
use crate::slow::{Question, Seat, Watchdog};
use crate::spawn::spawn;
use crate::wsgi::{self, Residents};
use crate::{Code, Gil, Outcome, Refusal, Settings};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long a thread beyond the first may have nothing to do before it goes.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// The name of an application group. The empty name, written `%{GLOBAL}`, is the main interpreter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(Arc<[u8]>);

impl GroupName {
    /// The group of this name.
    pub fn new(name: &[u8]) -> Self {
        Self(name.into())
    }

    /// Whether this is `%{GLOBAL}`, the main interpreter.
    pub fn is_main(&self) -> bool {
        self.0.is_empty()
    }

    /// The name as it was configured.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_main() {
            return f.write_str("%{GLOBAL}");
        }
        write!(f, "{}", String::from_utf8_lossy(&self.0))
    }
}

/// What all groups of a process share. Nothing in it is locked while anybody waits.
#[derive(Debug)]
pub(crate) struct Shared {
    settings: Settings,
    /// Looks for slow requests, where that is wanted.
    watchdog: Option<Arc<Watchdog>>,
    /// Whether every sub-interpreter is gone, once that is known.
    others_gone: Mutex<Option<bool>>,
    others_known: Condvar,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        let watchdog = settings.slow_requests.map(Watchdog::start);
        Self { settings, watchdog, others_gone: Mutex::default(), others_known: Condvar::new() }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn watchdog(&self) -> Option<&Arc<Watchdog>> {
        self.watchdog.as_ref()
    }

    /// Tells the main interpreter's owner, who can finalise CPython only when all others are gone.
    pub(crate) fn tell_others_gone(&self, gone: bool) {
        *self.others_gone.lock().unwrap_or_else(PoisonError::into_inner) = Some(gone);
        self.others_known.notify_all();
    }

    /// Waits for that, until `limit`.
    fn others_gone(&self, limit: Instant) -> bool {
        let gone = self.others_gone.lock().unwrap_or_else(PoisonError::into_inner);
        let left = limit.saturating_duration_since(Instant::now());
        let waited = self.others_known.wait_timeout_while(gone, left, |gone| gone.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.unwrap_or(false)
    }
}

/// An application group of this process.
pub(crate) struct Group {
    name: GroupName,
    shared: Arc<Shared>,
    /// Where jobs go; `None` once the group is closed. Threads serve what is left, then end.
    queue: RwLock<Option<Sender<ApplicationEnd>>>,
    jobs: Receiver<ApplicationEnd>,
    /// The interpreter is there or under way; spares the lock below.
    warm: AtomicBool,
    crew: Mutex<Crew>,
    crew_changed: Condvar,
}

/// The group's interpreter and how many threads serve it.
#[derive(Default)]
struct Crew {
    phase: Phase,
    replica: Option<Arc<Replica>>,
    threads: usize,
    /// Whether a thread looks, or waits to look, where others are.
    looked_at: bool,
    /// How long the interpreter has, once the group is closed.
    limits: Option<Limits>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// There is no interpreter; the first job makes one.
    #[default]
    Cold,
    /// The owner thread makes it.
    Starting,
    /// Jobs are served.
    Serving,
    /// The group is closed and no request is under way: `atexit` callbacks and the like.
    Ending,
    /// CPython could not be started, and nothing will be served.
    Refusing(Refusal),
    /// The owner thread has ended.
    Ended(End),
}

/// How long what runs in a process may take to come to its end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that are under way end by then, or are left behind.
    pub requests: Instant,
    /// Threads of applications, and what they registered with `atexit`, end by then.
    pub everything: Instant,
}

/// An interpreter that serves a group.
struct Replica {
    interpreter: Arc<Interpreter>,
    residents: Residents,
}

impl Limits {
    /// No time at all.
    fn over() -> Self {
        let now = Instant::now();
        Self { requests: now, everything: now }
    }
}

impl Group {
    /// A group whose interpreter is made when its first job comes.
    pub(crate) fn new(name: GroupName, shared: &Arc<Shared>) -> Arc<Self> {
        let (sender, jobs) = bounded(shared.settings.queue_limit);
        Arc::new(Self {
            name,
            shared: Arc::clone(shared),
            queue: RwLock::new(Some(sender)),
            jobs,
            warm: AtomicBool::new(false),
            crew: Mutex::default(),
            crew_changed: Condvar::new(),
        })
    }

    /// The group of the main interpreter. Its owner thread starts CPython; this waits for it.
    pub(crate) fn start_main(shared: &Arc<Shared>) -> Arc<Self> {
        let group = Self::new(GroupName::default(), shared);
        group.start();
        let mut crew = group.crew();
        while crew.phase == Phase::Starting {
            crew = group.wait(crew);
        }
        drop(crew);
        group
    }

    pub(crate) fn name(&self) -> &GroupName {
        &self.name
    }

    /// Queues a job.
    ///
    /// # Errors
    ///
    /// The group is closed, or its queue is full.
    pub(crate) fn submit(self: &Arc<Self>, job: ApplicationEnd) -> Result<(), Refusal> {
        let refused = |code, detail: String| Err(Refusal::new(code, detail));
        {
            let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
            let Some(sender) = &*queue else {
                return refused(
                    Code::Stopping,
                    "the process stops and takes no more requests".into(),
                );
            };
            match sender.try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    return refused(
                        Code::QueueFull,
                        format!(
                            "{} requests wait for application group '{}' already",
                            self.shared.settings.queue_limit, self.name
                        ),
                    );
                }
                Err(TrySendError::Disconnected(_)) => unreachable!("the group keeps a receiver"),
            }
        }
        if !self.warm.load(Ordering::Acquire) {
            self.start();
        }
        Ok(())
    }

    /// Adds a thread, for jobs that wait while every thread is busy or blocked.
    pub(crate) fn grow(self: &Arc<Self>) {
        if self.jobs.is_empty() {
            return;
        }
        let mut crew = self.crew();
        let Some(replica) = crew.replica.clone() else {
            return;
        };
        if crew.phase != Phase::Serving || crew.threads >= self.shared.settings.interpreter_threads
        {
            return;
        }
        let group = Arc::clone(self);
        let number = crew.threads;
        match spawn(format!("mnf-{number}-{}", self.name), move || group.help(replica, number)) {
            Ok(_) => crew.threads += 1,
            Err(error) => {
                tracing::warn!(group = %self.name, "no thread more than {number}: {error}")
            }
        }
    }

    /// Has a thread of its own look where the group's threads are, as soon as it gets the GIL. One
    /// that still waits for it is told nothing: a second would wait as well.
    pub(crate) fn look(self: &Arc<Self>, question: Question) {
        let mut crew = self.crew();
        let Some(replica) = crew.replica.clone() else {
            return;
        };
        if crew.looked_at {
            return;
        }
        let group = Arc::clone(self);
        let looker = move || {
            // A panic is printed where it happens; the group has to learn that this is over.
            let looked = catch_unwind(AssertUnwindSafe(|| {
                if let Some(mut state) = replica.interpreter.thread_state() {
                    state.attach(|py| {
                        question.answer(|seat, turn| see(py, &replica.residents, seat, turn));
                    });
                }
            }));
            drop((replica, looked));
            group.crew().looked_at = false;
            group.crew_changed.notify_all();
        };
        match spawn(format!("mnf-look-{}", self.name), looker) {
            Ok(_) => crew.looked_at = true,
            Err(error) => tracing::warn!(group = %self.name, "no thread to look at it: {error}"),
        }
    }

    /// Takes no more jobs; those queued are still served. The interpreter is then brought to its
    /// end. The limits given first hold.
    pub(crate) fn close(&self, limits: Limits) {
        // The owner thread reads the limits once the queue is gone.
        self.crew().limits.get_or_insert(limits);
        self.queue.write().unwrap_or_else(PoisonError::into_inner).take();
        let mut crew = self.crew();
        // Whoever has just queued the first job is about to start the owner thread.
        if crew.phase == Phase::Cold && self.jobs.is_empty() {
            crew.phase = Phase::Ended(End::Gone);
        }
        drop(crew);
        self.crew_changed.notify_all();
    }

    /// Throws away the jobs that no thread has taken.
    pub(crate) fn discard(&self) {
        while self.jobs.try_recv().is_ok() {}
    }

    /// Waits for the owner thread of a closed group to end, and says what is left.
    pub(crate) fn wait_for_end(&self) -> End {
        let mut crew = self.crew();
        loop {
            let limits = crew.limits.unwrap_or_else(Limits::over);
            let limit = match crew.phase {
                Phase::Ended(end) => return end,
                Phase::Refusing(_) => return End::Gone,
                Phase::Cold | Phase::Starting | Phase::Serving => limits.requests,
                Phase::Ending => limits.everything,
            };
            match self.wait_until(crew, limit) {
                Some(waited) => crew = waited,
                None => return End::Late,
            }
        }
    }

    /// Why CPython could not be started; for the main group, once it is made.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match &self.crew().phase {
            Phase::Refusing(refusal) => Some(refusal.clone()),
            _ => None,
        }
    }

    /// Starts the owner thread, unless there is one.
    fn start(self: &Arc<Self>) {
        let mut crew = self.crew();
        if crew.phase != Phase::Cold {
            return;
        }
        crew.phase = Phase::Starting;
        self.warm.store(true, Ordering::Release);
        drop(crew);
        let group = Arc::clone(self);
        if let Err(error) = spawn(format!("mnf-0-{}", self.name), move || group.own()) {
            self.not_made(format!("no thread could be started for it: {error}"));
        }
    }

    /// The owner thread: makes the interpreter, serves jobs, and ends what it made.
    fn own(self: Arc<Self>) {
        let made = catch_unwind(AssertUnwindSafe(|| self.make()))
            .unwrap_or_else(|_| Err("a panic".into()));
        let (replica, mut state) = match made {
            Ok(made) => made,
            Err(reason) => return self.not_made(reason),
        };
        {
            let mut crew = self.crew();
            crew.phase = Phase::Serving;
            crew.replica = Some(Arc::clone(&replica));
            crew.threads = 1;
        }
        self.crew_changed.notify_all();
        self.serve(&replica, &mut state, 0, None);
        let end = self.retire(replica, state);
        self.crew().phase = Phase::Ended(end);
        self.crew_changed.notify_all();
    }

    /// A further thread: serves jobs until it has had none for a while.
    fn help(self: &Arc<Self>, replica: Arc<Replica>, number: usize) {
        match replica.interpreter.thread_state() {
            Some(mut state) => self.serve(&replica, &mut state, number, Some(IDLE_LIMIT)),
            None => tracing::warn!(group = %self.name, "no memory for one more thread state"),
        }
        // Before this thread is counted out: the owner then expects to be the only one.
        drop(replica);
        self.crew().threads -= 1;
        self.crew_changed.notify_all();
    }

    fn make(&self) -> Result<(Arc<Replica>, ThreadState), String> {
        let settings = &self.shared.settings;
        let options = self.options();
        let (mut state, gil) = if self.name.is_main() {
            (startup::start_python(settings)?, Gil::Own)
        } else {
            (startup::make_subinterpreter(options.gil)?, options.gil)
        };
        let interpreter = Arc::new(Interpreter::of(&state, gil));
        let made = state.attach(|py| Residents::new(py, &self.name, settings, &options));
        let residents = match made {
            Ok(residents) => residents,
            Err(reason) => {
                // Not ended: a half-made interpreter is no place to run anything.
                state.abandon();
                return Err(reason);
            }
        };
        tracing::info!(
            "application group '{}': {} {}, {}",
            self.name,
            if self.name.is_main() { "main interpreter" } else { "sub-interpreter" },
            interpreter.id(),
            match interpreter.gil() {
                Gil::Own => "own GIL",
                Gil::Shared => "shared GIL",
            }
        );
        Ok((Arc::new(Replica { interpreter, residents }), state))
    }

    /// What holds for the group's interpreter.
    fn options(&self) -> Resolved {
        let (table, httpd) = (&self.shared.settings.options, GroupName::default());
        let mut options = table.resolve(&httpd, &self.name);
        let shares =
            if self.name.is_main() { table.any_shares(&httpd) } else { options.gil == Gil::Shared };
        // CPython keeps the interval with the GIL.
        if shares && let Some(SwitchInterval { seconds, for_group: true }) = options.switch_interval
        {
            tracing::warn!(
                "{}: WSGISwitchInterval {seconds} of a block for application group '{}' is ignored: \
                 its interpreter shares its GIL with others, and the interval is the GIL's; say it \
                 for all, or WSGIPerInterpreterGIL On",
                Code::OptionIgnored,
                self.name
            );
            options.switch_interval = None;
        }
        options
    }

    /// The interpreter could not be made: those who wait are told, and the next job tries again.
    /// Without a main interpreter there is nothing to try again.
    fn not_made(&self, reason: String) {
        let refusal = if self.name.is_main() {
            let home = match &self.shared.settings.python_home {
                Some(home) => format!("WSGIPythonHome '{}'", home.display()),
                None => "no WSGIPythonHome".to_owned(),
            };
            Refusal::new(
                Code::PythonNotStarted,
                format!(
                    "Python {} could not be started with {home}: {reason}; WSGIPythonHome must \
                     name the prefix of a Python {0}, or a virtual environment made by one, that \
                     the User of httpd's children may read",
                    cpython_sys::VERSION_TEXT
                ),
            )
        } else {
            Refusal::new(
                Code::InterpreterNotMade,
                format!(
                    "the interpreter of application group '{}' could not be made: {reason}",
                    self.name
                ),
            )
        };
        tracing::error!(critical = self.name.is_main(), "{refusal}");
        let mut crew = self.crew();
        crew.phase = match (self.name.is_main(), crew.limits) {
            (true, _) => Phase::Refusing(refusal.clone()),
            (false, Some(_)) => Phase::Ended(End::Gone),
            (false, None) => Phase::Cold,
        };
        self.warm.store(false, Ordering::Release);
        drop(crew);
        self.crew_changed.notify_all();
        while let Ok(job) = self.jobs.try_recv() {
            job.link().end(Outcome::Failed(refusal.code));
        }
    }

    /// Serves jobs until the group is closed and none are left, or until `idle_limit` has passed
    /// without one. `number` is the thread's among those of the group.
    fn serve(
        self: &Arc<Self>,
        replica: &Replica,
        state: &mut ThreadState,
        number: usize,
        idle_limit: Option<Duration>,
    ) {
        let watchdog = self.shared.watchdog();
        let seat = watchdog.map(|dog| dog.seat(Arc::downgrade(self), number, state.handle()));
        loop {
            let job = match idle_limit {
                None => self.jobs.recv().map_err(RecvTimeoutError::from),
                Some(limit) => self.jobs.recv_timeout(limit),
            };
            let Ok(job) = job else { break };
            if job.link().request_gone() {
                continue;
            }
            job.link().start();
            if let Some(seat) = &seat {
                seat.begin(&job);
            }
            let served = catch_unwind(AssertUnwindSafe(|| {
                state.attach(|py| wsgi::serve(py, &replica.residents, &job))
            }));
            if let Some(seat) = &seat {
                seat.end();
            }
            match served {
                // Detached: whoever needs the GIL has it while this wakes the request thread. A
                // request end that has let go does not want to know.
                Ok(last) => {
                    if let Some(last) = last {
                        let _ = job.link().conclude(last);
                    }
                    if replica.residents.is_untidy() {
                        state.attach(|py| replica.residents.tidy(py));
                    }
                }
                Err(_) => tracing::error!(
                    "{}: a panic while a request was served in application group '{}'; the panic's \
                     own line says where. Please report it.",
                    Code::Panic,
                    self.name
                ),
            }
        }
        if let (Some(watchdog), Some(seat)) = (watchdog, &seat) {
            watchdog.leave(seat);
        }
    }

    /// Ends the interpreter on its owner thread, in the time there is.
    fn retire(&self, replica: Arc<Replica>, mut state: ThreadState) -> End {
        let limits = self.wait_for_helpers();
        let interpreter = Arc::clone(&replica.interpreter);
        // A request that keeps the GIL stops this here: then the limit of requests holds.
        let functions = state.attach(|py| replica.residents.exit_functions(py));
        self.crew().phase = Phase::Ending;
        self.crew_changed.notify_all();
        state.attach(|py| replica.residents.tell_stopping(py));
        if !self.shared.settings.destroy_interpreters {
            let threads = state.attach(|py| interpreter.thread_states(py));
            state.abandon();
            return if threads == 1 { End::Parked } else { End::Daemons };
        }
        let name = self.name.to_string();
        let left = ending::wind_up(&name, &interpreter, &mut state, functions, limits.everything);
        let Ok(replica) = Arc::try_unwrap(replica) else {
            tracing::debug!(group = %self.name, "its threads did not end in time");
            state.abandon();
            return End::Late;
        };
        state.attach(|py| replica.residents.release(py));
        if left != End::Gone {
            state.abandon();
            return left;
        }
        let gone = if !self.name.is_main() {
            ending::end(state)
        } else if self.shared.others_gone(limits.everything) {
            // SAFETY: this thread started CPython, no sub-interpreter is left, and no other thread
            // has a state in the main one.
            unsafe { state.finalize() }
        } else {
            state.abandon();
            false
        };
        if gone { End::Gone } else { End::Parked }
    }

    /// Waits for the other threads of the interpreter, while requests may be under way; not for all
    /// of that time, so that `atexit` callbacks are called even if one never comes back.
    fn wait_for_helpers(&self) -> Limits {
        let mut crew = self.crew();
        crew.replica = None;
        let limits = crew.limits.unwrap_or_else(Limits::over);
        let left = limits.requests.saturating_duration_since(Instant::now());
        let enough = limits.requests - left / 4;
        while crew.threads > 1 || crew.looked_at {
            match self.wait_until(crew, enough) {
                Some(waited) => crew = waited,
                None => break,
            }
        }
        limits
    }

    /// Waits for a change, or returns `None` when the time is over.
    fn wait_until<'a>(
        &self,
        crew: MutexGuard<'a, Crew>,
        limit: Instant,
    ) -> Option<MutexGuard<'a, Crew>> {
        let left = limit.checked_duration_since(Instant::now())?;
        let waited = self.crew_changed.wait_timeout(crew, left);
        Some(waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    fn crew(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, crew: MutexGuard<'a, Crew>) -> MutexGuard<'a, Crew> {
        self.crew_changed.wait(crew).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a thread is, seen from a thread that is attached to the same interpreter.
fn see(
    py: Attached<'_>,
    residents: &Residents,
    seat: &Seat,
    turn: u64,
) -> Result<String, &'static str> {
    if !seat.still(turn) {
        return Err("it has just ended");
    }
    // SAFETY: we hold the GIL and the request is still served, so the thread keeps its state until
    // we let go of the GIL, which nothing between that look and this does.
    let frame = unsafe { seat.state().frame(py) };
    let frame = frame.ok_or(
        "none of its Python code runs: it waits for its client, or for the GIL, or has just begun",
    )?;
    residents.format_stack(&frame).map_err(|raised| {
        drop(Exception::take(py, raised));
        "its stack could not be formatted"
    })
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}
