//! A replica: one interpreter that serves an application group, from its making to its end, and what
//! its threads do with the jobs of the group's queue.

use crate::exchange::ApplicationEnd;
use crate::gate::Gate;
use crate::group::Group;
use crate::interp::attached::GilWaits;
use crate::interp::ending::{self, End};
use crate::interp::startup::{self, Site};
use crate::interp::{Attached, Attachment, Interpreter, ThreadState};
use crate::isolation::Place;
use crate::options::Resolved;
use crate::queue::{Member, Order, ReplicaId, Watch};
use crate::status::tally::{self, Tally};
use crate::status::{self, Counter, Counters, Gauge, Kind};
use crate::succession::Reason;
use crate::watchdog::Seat;
use crate::wsgi::{self, Residents, Served};
use crate::{Code, Gil, GroupName, Settings, Task};
use std::cell::Cell;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// An interpreter that serves a group.
pub(crate) struct Replica {
    pub(crate) id: ReplicaId,
    pub(crate) interpreter: Arc<Interpreter>,
    pub(crate) residents: Residents,
    /// What is counted about it.
    pub(crate) counters: Counters,
    /// How many requests it has served.
    served: AtomicU64,
    /// After how many it is to be replaced, where it can be.
    maximum_requests: Option<NonZeroU64>,
}

/// A thread of a replica, while it serves.
pub(crate) struct Server<'a> {
    pub(crate) group: &'a Arc<Group>,
    pub(crate) replica: &'a Replica,
    /// Where it says what it serves, if somebody wants to know.
    pub(crate) seat: Option<Arc<Seat>>,
    /// Where it is entered among the threads of the replica.
    entered: Option<usize>,
    /// How long this thread had waited for the GIL when it was counted last.
    waited: Cell<GilWaits>,
}

impl Replica {
    /// Makes an interpreter on this thread, which becomes its owner: the only one that may end it.
    ///
    /// # Errors
    ///
    /// What CPython, or our own preparation in it, says it could not do.
    pub(crate) fn make(
        id: ReplicaId,
        name: &GroupName,
        settings: &Settings,
        options: &Resolved,
        gate: Option<&Arc<Gate>>,
    ) -> Result<(Self, ThreadState), String> {
        let (mut state, gil) = if name.is_main() {
            let home = settings.python_home.as_deref();
            (startup::start_python(home, &settings.python, Site::Import)?, Gil::Own)
        } else {
            (startup::make_subinterpreter(options.gil)?, options.gil)
        };
        let interpreter = Arc::new(Interpreter::of(&state, gil));
        // Everything loads in the main interpreter.
        let gate = gate.filter(|_| !name.is_main());
        let made = state.attach(|py| Residents::new(py, name, settings, options, gate));
        let residents = match made {
            Ok(residents) => residents,
            Err(reason) => {
                // Not ended: a half-made interpreter is no place to run anything.
                state.abandon();
                return Err(reason);
            }
        };
        let which = match options.replicas {
            1 => String::new(),
            count => format!(", replica {id} (of {count})"),
        };
        tracing::info!(
            "application group '{name}': {} {}, {}{which}",
            if name.is_main() { "main interpreter" } else { "sub-interpreter" },
            interpreter.id(),
            match interpreter.gil() {
                Gil::Own => "own GIL",
                Gil::Shared => "shared GIL",
            }
        );
        let maximum_requests = options.maximum_requests;
        let counters = status::claim(Kind::Replica, name.as_bytes());
        let place = if name.is_main() { Place::Main } else { gil.into() };
        counters.explain(place.into(), "");
        counters.set(Gauge::ThreadLimit, settings.interpreter_threads.max(1) as u64);
        let served = AtomicU64::new(0);
        Ok((Self { id, interpreter, residents, counters, served, maximum_requests }, state))
    }

    /// Brings the interpreter to its end on its owner thread, whose state this is. `others_gone` is
    /// called for the main interpreter: it waits for all others to come to their end, and says whether
    /// they are gone, so that CPython itself can be ended as well.
    pub(crate) fn end(
        self: Arc<Self>,
        mut state: ThreadState,
        name: &GroupName,
        destroy: bool,
        deadline: Instant,
        others_gone: impl FnOnce() -> bool,
    ) -> End {
        let interpreter = Arc::clone(&self.interpreter);
        // A thread of a sub-interpreter that imports an extension module has a state in the main one
        // meanwhile (switch_to_main_interpreter in Python/import.c, from 3.13 on). So those of the main
        // one say nothing before the others have come to their end.
        let has_others = |state: &mut ThreadState| {
            let threads = state.attach(|py| interpreter.thread_states(py));
            threads > 1
        };
        if !destroy {
            let _ = name.is_main() && others_gone();
            let end = if has_others(&mut state) { End::Daemons } else { End::Parked };
            state.abandon();
            return end;
        }
        let functions = state.attach(|py| self.residents.exit_functions(py));
        let name_text = name.to_string();
        let joined = ending::wind_up(&name_text, &interpreter, &mut state, functions, deadline);
        let Ok(replica) = Arc::try_unwrap(self) else {
            tracing::debug!(group = %name, "its threads did not end in time");
            state.abandon();
            return End::Late;
        };
        state.attach(|py| replica.residents.release(py));
        if !joined {
            state.abandon();
            return End::Late;
        }
        let can_finalize = name.is_main() && others_gone();
        if has_others(&mut state) {
            state.abandon();
            return End::Daemons;
        }
        let gone = if !name.is_main() {
            ending::end(state)
        } else if can_finalize {
            // SAFETY: this thread started CPython, no sub-interpreter is left, and no other thread
            // has a state in the main one.
            unsafe { state.finalize() }
        } else {
            state.abandon();
            false
        };
        if gone { End::Gone } else { End::Parked }
    }
}

impl Watch for Attachment {
    fn has_gil(&self) -> bool {
        self.is_attached()
    }
}

impl<'a> Server<'a> {
    /// This thread, from now on one of a replica.
    pub(crate) fn new(
        group: &'a Arc<Group>,
        replica: &'a Replica,
        seat: Option<Arc<Seat>>,
    ) -> Self {
        replica.counters.more(Gauge::Threads);
        let number = rustix::thread::gettid().as_raw_pid().unsigned_abs();
        let entered = replica.counters.enter_thread(number);
        Self { group, replica, seat, entered, waited: Cell::new(GilWaits::all()) }
    }

    /// Serves jobs until there will be none, or until `idle_limit` has passed without one.
    pub(crate) fn serve(
        &self,
        state: &mut ThreadState,
        member: &mut Member<ApplicationEnd>,
        idle_limit: Option<Duration>,
    ) {
        member.watch_by(state.attachment());
        loop {
            match member.order(idle_limit) {
                Order::Leave => return,
                Order::Serve(job) => state.attach(|py| {
                    member.attached();
                    self.run(py, job);
                    self.go_on(py, member);
                }),
                Order::Line => state.attach(|py| {
                    let (job, next) = member.take_in_line(Instant::now());
                    if let Some(next) = next {
                        self.group.grow(next);
                    }
                    let Some(job) = job else { return self.replica.residents.release_returned(py) };
                    self.run(py, job);
                    self.go_on(py, member);
                }),
            }
        }
    }

    /// Serves what else there is, without letting the GIL go in between: whoever wants it for
    /// longer than the switch interval gets it while an application runs.
    fn go_on(&self, py: Attached<'_>, member: &Member<ApplicationEnd>) {
        while let Some(job) = member.take(Instant::now()) {
            self.run(py, job);
        }
    }

    fn run(&self, py: Attached<'_>, job: ApplicationEnd) {
        if job.link().request_gone() {
            return;
        }
        job.start();
        let began = Instant::now();
        self.replica.counters.more(Gauge::Serving);
        if let Some(seat) = &self.seat {
            seat.begin(&job);
        }
        let residents = &self.replica.residents;
        let served = catch_unwind(AssertUnwindSafe(|| wsgi::serve(py, residents, &job)));
        if let Some(seat) = &self.seat {
            seat.end(py);
        }
        // Before the client is told, who may look at once.
        self.count(&job, began, &served);
        let conclude = |job: &ApplicationEnd, last| {
            // A request end that has let go does not want to know.
            let link = job.link();
            if let Some(last) = link.conclude_at_once(last) {
                let _ = py.detached(|| link.conclude(last));
            }
        };
        let (group, id) = (self.group, self.replica.id);
        match served {
            Ok(Served::Done { last, refused }) => {
                // Before the client is told: its next request is for where the group is then.
                if let Some(refused) = refused
                    && let Err((_, why)) = py.detached(|| group.demote(id, &refused, None))
                {
                    group.stays(&refused, &why);
                }
                if let Some(last) = last {
                    conclude(&job, last);
                }
            }
            Ok(Served::NotLoaded(refused, failure)) => {
                if let Err((job, why)) = py.detached(|| group.demote(id, &refused, Some(job))) {
                    if let Some(job) = job {
                        let last = wsgi::fail(py, &job, &failure);
                        self.count_answer(&job, began);
                        conclude(&job, last);
                    }
                    group.stays(&refused, &why);
                }
            }
            Err(_) => tracing::error!(
                "{}: a panic while a request was served in application group '{}'; the panic's own \
                 line says where. Please report it.",
                Code::Panic,
                self.group.name()
            ),
        }
        self.tidy(py);
    }

    /// Counts what a job has cost, and how it was answered unless somebody else goes on with it.
    fn count(&self, job: &ApplicationEnd, began: Instant, served: &std::thread::Result<Served>) {
        let counters = &self.replica.counters;
        counters.less(Gauge::Serving);
        counters.add_time(Counter::Application, began.elapsed());
        let waited = GilWaits::all();
        counters.add_time(Counter::GilWait, waited.since(self.waited.replace(waited)).time);
        match served {
            Ok(Served::NotLoaded(..)) => {}
            Ok(Served::Done { .. }) => self.count_answer(job, began),
            Err(_) => {
                let status = Code::Panic.status();
                tally::answered(Tally { status, ..Tally::default() });
                self.count_answer(job, began);
            }
        }
    }

    /// Counts how a job was answered, if it was a request.
    fn count_answer(&self, job: &ApplicationEnd, began: Instant) {
        let (tally, error) = tally::take();
        if let Some(error) = error {
            self.group.counters().fail(&error);
        }
        let (Some(tally), Task::Serve) = (tally, &job.job().task) else { return };
        let counters = &self.replica.counters;
        counters.add(Counter::Requests, 1);
        counters.add(Counter::of_status(tally.status), 1);
        counters.add(Counter::BytesIn, tally.bytes_in);
        counters.add(Counter::BytesOut, tally.bytes_out);
        if let Some(queued) = job.job().queued {
            counters.add_time(Counter::Queued, began - queued);
            counters.add_latency(queued.elapsed());
        }
    }

    /// What is due when nobody waits for it.
    fn tidy(&self, py: Attached<'_>) {
        let residents = &self.replica.residents;
        if residents.is_untidy() {
            self.group.counters().add(Counter::Reloads, 1);
            residents.tidy(py);
        }
        if residents.take_outdated() {
            self.group.replace(self.replica.id, Reason::ScriptChanged);
        }
        if let Some(maximum) = self.replica.maximum_requests
            && self.replica.served.fetch_add(1, Ordering::Relaxed) + 1 == maximum.get()
        {
            self.group.replace(self.replica.id, Reason::MaximumRequests(maximum));
        }
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let counters = &self.replica.counters;
        counters.less(Gauge::Threads);
        if let Some(place) = self.entered {
            counters.leave_thread(place);
        }
    }
}
