//! The jobs of an application group, and which thread of which replica takes the next one.
//!
//! All replicas of a group take from one queue, so whichever is free takes the next job. Among the
//! threads of a replica, which share a GIL, the rule is **one runner, one waiter**:
//!
//! - The **runner** has the GIL. When it has served a job it takes the next one without letting the
//!   GIL go, so an application that never blocks is served by one thread. But it gives way to the
//!   waiter when that has stood in line for [`GIVE_WAY`]: otherwise the switch interval would take
//!   the GIL from it in the middle of a request, and threads that stop in the middle, with a lock
//!   of the application held, stop others.
//! - The **leader** waits for a job while the replica has nothing else to do, as far as is known. A
//!   job goes to it directly.
//! - The **waiter** stands in line for the GIL, without a job. It is sent there when jobs wait, none
//!   was taken for [`PATIENCE`], and nobody has the GIL: it has it at once, takes a job, and sends
//!   another one to stand in line. Where a thread computes with the GIL, others could only take turns
//!   with it, which costs what its processor's caches hold; that is done from [`LONG`] on, by the
//!   switch interval, and the later, the more do so. A job is taken only with the GIL, so none is
//!   bound to a busy replica.
//! - All others are **idle**. When there is no idle one to send, the replica grows.
//!
//! So of the threads that have no job, one at most stands in line for a GIL.
//!
//! `member` is a thread's side of it. Nothing here blocks but [`Member::order`]; the lock is held for a
//! few instructions.
#![forbid(unsafe_code)]

mod member;
#[cfg(test)]
mod tests;

pub(crate) use member::Member;

use crate::status::{Counters, Gauge};
use crate::sync::{Mutex, MutexGuard, Sender};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How long jobs may wait without any being taken before a thread is sent to stand in line. A runner
/// that serves short requests takes several jobs in that time; one that is blocked takes none.
pub(crate) const PATIENCE: Duration = Duration::from_micros(200);

/// How often it is looked whether a thread that computes has let the GIL go: after this part of the time
/// for which none has taken a job. Each look takes the processor from somebody, maybe from that thread.
const LOOKS: u32 = 4;

/// From when on a request that computes takes turns with a further one. Where several do already, each has
/// only its part of the time, so this counts as often as the square of their number.
const LONG: Duration = Duration::from_millis(10);

/// How many count for that at most, so that nobody waits for ever.
const MANY: u32 = 3;

/// How long a runner goes on while a thread stands in line. Less than CPython's switch interval, 5 ms, by
/// as much as a request may take that is not to be interrupted.
const GIVE_WAY: Duration = Duration::from_millis(1);

/// Whoever comes to the GIL so long after a job was taken may have it by the switch interval, from one that
/// still computes.
const INTERRUPTS: Duration = Duration::from_millis(5);

/// How many threads of a group may be lost at least before it takes no more jobs: as many as a
/// replica may have, if that is more.
const LOST_LIMIT: usize = 4;

/// A replica's number within its group; none is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReplicaId(u64);

impl std::fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a thread that waits is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order<J> {
    /// Attach, call [`Member::attached`], and serve this job.
    Serve(J),
    /// Attach, and serve what [`Member::take_in_line`] returns; where that is nothing, see to the interpreter.
    Line,
    /// There is nothing more to do.
    Leave,
}

/// Why a job was not taken; it comes back, to be dropped when the lock is not held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejected<J> {
    /// As many wait already as may.
    Full(J),
    /// The queue is closed.
    Closed(J),
    /// So many threads do not come back from what they do that no more are made.
    Stuck(J),
}

/// A thread that others watch.
pub(crate) trait Watch: std::fmt::Debug + Send + Sync {
    /// Whether it has the GIL.
    fn has_gil(&self) -> bool;
}

/// What comes of a job that was queued.
#[derive(Debug)]
pub(crate) struct Accepted<J> {
    /// They have to be started; their first order waits for them.
    pub(crate) members: Vec<Member<J>>,
    /// How many jobs wait now, with this one; 0 where a thread has it.
    pub(crate) waiting: usize,
}

/// The jobs of a group and the threads that wait for them.
#[derive(Debug)]
pub(crate) struct Queue<J> {
    state: Mutex<State<J>>,
    /// How many jobs may wait.
    limit: usize,
    /// How many threads a replica may have.
    threads: usize,
}

#[derive(Debug)]
struct State<J> {
    jobs: VecDeque<J>,
    /// No more jobs are taken; those that wait are served, then everybody leaves.
    closed: bool,
    /// Nobody can serve before a thread that is lost comes back.
    refusing: bool,
    /// How many threads are lost.
    lost: usize,
    replicas: BTreeMap<ReplicaId, Roster<J>>,
    next: u64,
    /// Where it is noted how many wait, and how many threads are lost.
    counters: Option<Arc<Counters>>,
}

/// The threads of one replica.
#[derive(Debug)]
struct Roster<J> {
    /// It serves. Before that it waits for its own jobs only, by its first thread.
    admitted: bool,
    /// It takes no more jobs, and its threads leave.
    retired: bool,
    /// Its next thread with nothing to do is to see to the interpreter.
    calls: bool,
    /// Jobs that this replica has to do itself. They come first.
    own: VecDeque<J>,
    leader: Option<Waiting<J>>,
    idle: Vec<Waiting<J>>,
    /// Since when a thread that has no job, or has one but not yet begun, stands in line for the GIL.
    in_line: Option<Instant>,
    /// When a job was taken last.
    taken: Instant,
    /// Those of its threads that can be watched.
    watched: Vec<Watched>,
    /// How many threads it has, without those that are lost.
    members: usize,
    /// Numbers of threads that are not expected to come back from what they do.
    lost: Vec<usize>,
    next: usize,
}

#[derive(Debug)]
struct Watched {
    number: usize,
    thread: Arc<dyn Watch>,
    /// When it was seen with the GIL last.
    seen: Option<Instant>,
}

#[derive(Debug)]
struct Waiting<J> {
    number: usize,
    orders: Sender<Order<J>>,
}

/// What a look at jobs that wait has brought.
#[derive(Debug)]
pub(crate) struct Nudged<J> {
    /// They have to be started; their first order waits for them.
    pub(crate) members: Vec<Member<J>>,
    /// When to look again, where nobody was sent since a thread computes.
    pub(crate) again: Option<Duration>,
}

/// After which time each of those that wait looks, so that one of them does after `time`.
pub(crate) fn in_turn(time: Duration, waiting: usize) -> Duration {
    time.saturating_mul(u32::try_from(waiting.max(1)).unwrap_or(u32::MAX))
}

impl<J> Queue<J> {
    /// A queue in which `limit` jobs may wait, for replicas of at most `threads` threads.
    pub(crate) fn new(limit: usize, threads: usize) -> Arc<Self> {
        let state = Mutex::new(State {
            jobs: VecDeque::new(),
            closed: false,
            refusing: false,
            lost: 0,
            replicas: BTreeMap::new(),
            next: 0,
            counters: None,
        });
        Arc::new(Self { state, limit, threads: threads.max(1) })
    }

    /// From now on it is noted there how many wait, and how many threads are lost.
    pub(crate) fn count_in(&self, counters: Arc<Counters>) {
        counters.set(Gauge::WaitingLimit, self.limit as u64);
        self.lock().counters = Some(counters);
    }

    /// Adds a replica, and returns its first thread. It gets only jobs of its own until
    /// [`Member::admit`].
    pub(crate) fn enroll(self: &Arc<Self>, now: Instant) -> Member<J> {
        let mut state = self.lock();
        let id = ReplicaId(state.next);
        state.next += 1;
        let mut roster = Roster {
            admitted: false,
            retired: false,
            calls: false,
            own: VecDeque::new(),
            leader: None,
            idle: Vec::new(),
            in_line: None,
            taken: now,
            watched: Vec::new(),
            members: 0,
            lost: Vec::new(),
            next: 0,
        };
        let member = roster.member(self, id);
        state.replicas.insert(id, roster);
        member
    }

    /// Queues a job for whichever replica is free first.
    ///
    /// # Errors
    ///
    /// The queue is closed or full, or nobody is left who could serve.
    pub(crate) fn submit(
        self: &Arc<Self>,
        job: J,
        now: Instant,
    ) -> Result<Accepted<J>, Rejected<J>> {
        self.accept(job, now, self.limit)
    }

    /// Queues a job that was accepted elsewhere before, however many wait.
    ///
    /// # Errors
    ///
    /// The queue is closed, or nobody is left who could serve: the job comes back.
    pub(crate) fn adopt(self: &Arc<Self>, job: J, now: Instant) -> Result<Accepted<J>, J> {
        self.accept(job, now, usize::MAX).map_err(|rejected| match rejected {
            Rejected::Full(job) | Rejected::Closed(job) | Rejected::Stuck(job) => job,
        })
    }

    fn accept(
        self: &Arc<Self>,
        job: J,
        now: Instant,
        limit: usize,
    ) -> Result<Accepted<J>, Rejected<J>> {
        let mut state = self.lock();
        if state.closed {
            return Err(Rejected::Closed(job));
        }
        if state.is_stuck(self.threads) {
            return Err(Rejected::Stuck(job));
        }
        let free = state.replicas.values_mut().filter(|roster| roster.leader.is_some());
        if let Some(roster) = free.min_by_key(|roster| roster.busy()) {
            roster.hand_to_leader(job, now);
            return Ok(Accepted { members: Vec::new(), waiting: 0 });
        }
        if state.jobs.len() >= limit {
            return Err(Rejected::Full(job));
        }
        state.jobs.push_back(job);
        state.note_waiting();
        let waiting = state.jobs.len();
        Ok(Accepted { members: self.line_up(&mut state, now).members, waiting })
    }

    /// Queues a job for one replica.
    ///
    /// # Errors
    ///
    /// The replica is retired, or gone.
    pub(crate) fn submit_to(&self, id: ReplicaId, job: J, now: Instant) -> Result<(), J> {
        let mut state = self.lock();
        let closed = state.closed;
        match state.replicas.get_mut(&id) {
            Some(roster) if !roster.retired && !closed => {
                match roster.leader {
                    Some(_) => roster.hand_to_leader(job, now),
                    None => roster.own.push_back(job),
                }
                Ok(())
            }
            _ => Err(job),
        }
    }

    /// Has a thread of a replica see to the interpreter, as soon as one has nothing else to do.
    pub(crate) fn call(&self, id: ReplicaId, now: Instant) {
        let mut state = self.lock();
        let Some(roster) = state.replicas.get_mut(&id) else { return };
        match roster.leader.take() {
            Some(leader) => {
                roster.in_line = Some(now);
                leader.tell(Order::Line);
            }
            None => roster.calls = true,
        }
    }

    /// Sends threads to stand in line where jobs have waited for too long. For whoever waits for a
    /// job to be taken.
    pub(crate) fn nudge(self: &Arc<Self>, now: Instant) -> Nudged<J> {
        self.line_up(&mut self.lock(), now)
    }

    fn line_up(self: &Arc<Self>, state: &mut State<J>, now: Instant) -> Nudged<J> {
        let waiting = state.jobs.len();
        let mut nudged = Nudged { members: Vec::new(), again: None };
        for (id, roster) in &mut state.replicas {
            let since = now.saturating_duration_since(roster.taken);
            let is_needed = waiting > 0 || !roster.own.is_empty();
            if !is_needed || since < PATIENCE || !roster.may_line_up(self.threads) {
                continue;
            }
            if roster.computes(now) && since < roster.long() {
                let again = in_turn(PATIENCE.max(since / LOOKS), waiting);
                nudged.again = Some(nudged.again.map_or(again, |sooner| sooner.min(again)));
            } else {
                nudged.members.extend(roster.line_up(self, *id, now));
            }
        }
        nudged
    }

    /// Has a replica take no more jobs; its threads leave when they have done theirs. The jobs that
    /// only it could do come back.
    pub(crate) fn retire(&self, id: ReplicaId) -> VecDeque<J> {
        let mut state = self.lock();
        let Some(roster) = state.replicas.get_mut(&id) else { return VecDeque::new() };
        roster.retired = true;
        roster.dismiss();
        let own = std::mem::take(&mut roster.own);
        state.forget_if_empty(id);
        own
    }

    /// Counts a thread out that is not expected to come back. When it does, it is counted again.
    pub(crate) fn lose(&self, id: ReplicaId, number: usize) {
        let mut state = self.lock();
        let Some(roster) = state.replicas.get_mut(&id) else { return };
        if !roster.lost.contains(&number) {
            roster.lost.push(number);
            roster.members -= 1;
            state.lost += 1;
            state.note_lost(self.threads);
        }
    }

    /// Takes no jobs until a thread that is lost has come back.
    pub(crate) fn refuse(&self) {
        let mut state = self.lock();
        state.refusing = true;
        state.note_lost(self.threads);
    }

    /// How many threads of a replica have not left, and how many of them are lost.
    pub(crate) fn members(&self, id: ReplicaId) -> (usize, usize) {
        let state = self.lock();
        let roster = state.replicas.get(&id);
        roster.map_or((0, 0), |roster| (roster.members + roster.lost.len(), roster.lost.len()))
    }

    /// Takes no more jobs; those that wait are served.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.dismiss_if_over();
    }

    /// The jobs that nobody has taken, taken out.
    pub(crate) fn discard(&self) -> Vec<J> {
        let mut state = self.lock();
        let mut jobs: Vec<_> = state.jobs.drain(..).collect();
        state.note_waiting();
        for roster in state.replicas.values_mut() {
            jobs.extend(roster.own.drain(..));
        }
        state.dismiss_if_over();
        jobs
    }

    /// How many jobs wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.lock().jobs.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // The state is right at every step, so a panic elsewhere does not poison it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> State<J> {
    /// Whether so many threads of replicas with `threads` at most are lost that nobody can serve.
    fn is_stuck(&self, threads: usize) -> bool {
        self.refusing || self.lost >= threads.max(LOST_LIMIT)
    }

    fn note_waiting(&self) {
        if let Some(counters) = &self.counters {
            counters.set(Gauge::Waiting, self.jobs.len() as u64);
        }
    }

    fn note_lost(&self, threads: usize) {
        if let Some(counters) = &self.counters {
            counters.set(Gauge::Lost, self.lost as u64);
            counters.set(Gauge::Stuck, u64::from(self.is_stuck(threads)));
        }
    }

    /// Once nothing is left of a closed queue, tells all that wait.
    fn dismiss_if_over(&mut self) {
        if !self.closed || !self.jobs.is_empty() {
            return;
        }
        self.replicas.values_mut().filter(|roster| roster.own.is_empty()).for_each(Roster::dismiss);
    }

    /// A job for a thread of this replica.
    fn pop(&mut self, id: ReplicaId, now: Instant) -> Option<J> {
        let roster = self.replicas.get_mut(&id)?;
        let own = roster.own.pop_front();
        let is_own = own.is_some();
        let job = own.or_else(|| if roster.admitted { self.jobs.pop_front() } else { None })?;
        roster.taken = now;
        if !is_own {
            self.note_waiting();
        }
        self.dismiss_if_over();
        Some(job)
    }

    /// Whether the threads of this replica have to leave.
    fn is_over_for(&self, id: ReplicaId) -> bool {
        self.replicas.get(&id).is_none_or(|roster| {
            roster.retired || self.closed && self.jobs.is_empty() && roster.own.is_empty()
        })
    }

    /// A thread has done what it did; if it was lost, it is so no more.
    fn come_back(&mut self, id: ReplicaId, number: usize, threads: usize) {
        if self.lost == 0 {
            return;
        }
        let Some(roster) = self.replicas.get_mut(&id) else { return };
        if let Some(place) = roster.lost.iter().position(|lost| *lost == number) {
            roster.lost.swap_remove(place);
            roster.members += 1;
            self.lost -= 1;
            self.refusing = false;
            self.note_lost(threads);
        }
    }

    fn forget_if_empty(&mut self, id: ReplicaId) {
        let is_empty = |roster: &Roster<J>| roster.members == 0 && roster.lost.is_empty();
        if self.replicas.get(&id).is_some_and(is_empty) {
            self.replicas.remove(&id);
        }
    }
}

impl<J> Roster<J> {
    fn member(&mut self, queue: &Arc<Queue<J>>, replica: ReplicaId) -> Member<J> {
        let number = self.next;
        self.next += 1;
        self.members += 1;
        Member::new(Arc::clone(queue), replica, number)
    }

    /// Whether one of its threads has the GIL, which is noted.
    fn computes(&mut self, now: Instant) -> bool {
        let computing = self.watched.iter_mut().find(|watched| watched.thread.has_gil());
        let is_there = computing.is_some();
        computing.into_iter().for_each(|watched| watched.seen = Some(now));
        is_there
    }

    /// For how long those that compute are left alone, from when a job was taken last.
    fn long(&self) -> Duration {
        let seen = self.watched.iter().filter(|watched| watched.seen > Some(self.taken));
        LONG * seen.map(|_| 1).sum::<u32>().clamp(1, MANY).pow(2)
    }

    /// Whether a thread may be sent to stand in line, and there is one or may be one more.
    fn may_line_up(&self, threads: usize) -> bool {
        let may = self.admitted && !self.retired && self.in_line.is_none();
        may && (!self.idle.is_empty() || self.members < threads)
    }

    /// How many of its threads do something.
    fn busy(&self) -> usize {
        self.members.saturating_sub(self.idle.len() + usize::from(self.leader.is_some()))
    }

    fn hand_to_leader(&mut self, job: J, now: Instant) {
        let leader = self.leader.take().expect("the caller has seen it");
        self.in_line = Some(now);
        self.taken = now;
        leader.tell(Order::Serve(job));
    }

    /// Sends a thread to stand in line, unless one does. A new one comes back, to be started.
    fn line_up(&mut self, queue: &Arc<Queue<J>>, id: ReplicaId, now: Instant) -> Option<Member<J>> {
        if !self.may_line_up(queue.threads) {
            return None;
        }
        self.in_line = Some(now);
        if let Some(idle) = self.idle.pop() {
            idle.tell(Order::Line);
            return None;
        }
        Some(self.member(queue, id).sent_to_line())
    }

    /// Tells all that wait to leave.
    fn dismiss(&mut self) {
        self.leader.take().into_iter().chain(self.idle.drain(..)).for_each(|waiting| {
            waiting.tell(Order::Leave);
        });
    }
}

impl<J> Waiting<J> {
    /// Whoever waits gets one order, so there is room for it.
    fn tell(self, order: Order<J>) {
        let told = self.orders.try_send(order);
        debug_assert!(told.is_ok(), "a thread that waits has an order already");
    }
}
