//! An application group: its queue, the replicas that serve it, and their threads. How one replica
//! takes another's place is in [`crate::succession`].

mod name;
mod signals;
mod threads;

use crate::exchange::ApplicationEnd;
use crate::gate::Gate;
use crate::interp::Attached;
use crate::interp::ending::End;
use crate::isolation::Place;
use crate::options::{self, Resolved};
use crate::pool::{Life, Limits, Phase, Pool, Slot};
use crate::queue::{Accepted, Member, Queue, Rejected, ReplicaId};
use crate::replica::Replica;
use crate::spawn::spawn_for_interpreter;
use crate::status::{self, Counter, Counters, Kind, Mode};
use crate::succession::Heritage;
use crate::watchdog::Watchdog;
use crate::{Code, Gil, Refusal, Settings};
use cpython_sys::OWN_GIL_IS_SAFE;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

pub use name::GroupName;

/// What all groups of a process share. Nothing in it is locked while anybody waits.
#[derive(Debug)]
pub(crate) struct Shared {
    settings: Settings,
    /// Looks for requests that take long, where that is wanted.
    watchdog: Option<Arc<Watchdog>>,
    /// Whether every sub-interpreter is gone, once that is known.
    others_gone: Mutex<Option<bool>>,
    others_known: Condvar,
    /// Which extension modules load in interpreters beside the main one.
    gate: Arc<Gate>,
    /// Why the process stops, once that is known.
    shutdown_reason: OnceLock<&'static str>,
    main: OnceLock<Weak<Group>>,
    /// The first group that has used the main interpreter. Others may share it by saying so, none
    /// is moved into it.
    main_holder: OnceLock<GroupName>,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            watchdog: Watchdog::start(&settings),
            gate: Gate::new(&settings),
            settings,
            others_gone: Mutex::default(),
            others_known: Condvar::new(),
            shutdown_reason: OnceLock::new(),
            main: OnceLock::new(),
            main_holder: OnceLock::new(),
        }
    }

    /// Why the process stops, as applications are told.
    fn shutdown_reason(&self) -> &'static str {
        self.shutdown_reason.get().copied().unwrap_or_default()
    }

    pub(crate) fn set_shutdown_reason(&self, reason: &'static str) {
        self.shutdown_reason.get_or_init(|| reason);
    }

    /// The group of the main interpreter.
    pub(crate) fn main(&self) -> Option<Arc<Group>> {
        self.main.get()?.upgrade()
    }

    pub(crate) fn main_holder(&self) -> &OnceLock<GroupName> {
        &self.main_holder
    }

    /// Whether extension modules are judged before they are loaded: not where the configuration
    /// asks for a shared GIL, nor where this Python has no other.
    fn has_gate(&self, options: &Resolved) -> bool {
        OWN_GIL_IS_SAFE && (options.gil == Gil::Own || !options.gil_is_pinned)
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
    pub(crate) name: GroupName,
    pub(crate) shared: Arc<Shared>,
    /// What holds for its interpreters.
    pub(crate) options: Resolved,
    /// What of the configuration cannot be, said when the group is used first.
    notes: Vec<String>,
    noted: Once,
    /// How many jobs may wait.
    queue_limit: usize,
    pub(crate) queue: Arc<Queue<ApplicationEnd>>,
    /// What is counted about it in this process; taken with its first job.
    counters: OnceLock<Arc<Counters>>,
    /// There are replicas, or they are under way; spares the lock below.
    warm: AtomicBool,
    /// The group has moved into the main interpreter; its queue is closed then.
    pub(crate) moved: AtomicBool,
    pool: Mutex<Pool>,
    pool_changed: Condvar,
}

impl Group {
    /// A group whose replicas are made when its first job comes.
    pub(crate) fn new(name: GroupName, shared: &Arc<Shared>) -> Arc<Self> {
        let settings = &shared.settings;
        let (options, notes) = options::of_group(&name, settings);
        let queue_limit = options.queue_limit.unwrap_or(settings.queue_limit);
        let place = if name.is_main() { Place::Main } else { options.gil.into() };
        let pool = Pool { place, ..Pool::default() };
        Arc::new(Self {
            name,
            options,
            notes,
            noted: Once::new(),
            shared: Arc::clone(shared),
            queue_limit,
            queue: Queue::new(queue_limit, settings.interpreter_threads),
            counters: OnceLock::new(),
            warm: AtomicBool::new(false),
            moved: AtomicBool::new(false),
            pool: Mutex::new(pool),
            pool_changed: Condvar::new(),
        })
    }

    /// The group of the main interpreter. Its owner thread starts CPython; this waits for it.
    pub(crate) fn start_main(shared: &Arc<Shared>) -> Arc<Self> {
        let group = Self::new(GroupName::default(), shared);
        // There is one main group for each Shared.
        let _ = shared.main.set(Arc::downgrade(&group));
        group.start();
        let mut pool = group.pool();
        while pool.replicas.iter().any(|slot| slot.life == Life::Starting) {
            pool = group.wait(pool);
        }
        drop(pool);
        group
    }

    pub(crate) fn name(&self) -> &GroupName {
        &self.name
    }

    /// What is counted about it in this process.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        self.counters.get_or_init(|| {
            let counters = Arc::new(status::claim(Kind::Group, self.name.as_bytes()));
            let why = match (self.name.is_main(), self.options.gil_is_pinned) {
                (true, _) => "application-group=%{GLOBAL}",
                (_, true) => "WSGIPerInterpreterGIL",
                _ if OWN_GIL_IS_SAFE => "WSGIPerInterpreterGIL Auto",
                _ => "this Python has no interpreters with a GIL of their own",
            };
            let mode =
                if self.name.is_main() { Mode::Main } else { Place::from(self.options.gil).into() };
            counters.explain(mode, why);
            self.queue.count_in(Arc::clone(&counters));
            counters
        })
    }

    /// How many replicas it should have: several that share a GIL would run one at a time.
    pub(crate) fn wanted(&self, pool: &Pool) -> usize {
        if pool.place == Place::Shared { 1 } else { self.options.replicas }
    }

    /// How many interpreters it has, once it is warm.
    pub(crate) fn replicas(&self) -> usize {
        self.options.replicas
    }

    /// Queues a job for whichever replica is free first; says how many wait then, with it.
    ///
    /// # Errors
    ///
    /// The group is closed or stuck, or its queue is full.
    pub(crate) fn submit(self: &Arc<Self>, job: ApplicationEnd) -> Result<usize, Refusal> {
        self.note();
        self.counters();
        let waiting = match self.queue.submit(job, Instant::now()) {
            Ok(Accepted { members, waiting }) => {
                members.into_iter().for_each(|member| self.grow(member));
                waiting
            }
            Err(Rejected::Closed(job)) => {
                return self.moved_to().ok_or_else(stopping)?.submit(job);
            }
            Err(Rejected::Stuck(_)) => {
                self.counters().add(Counter::Refused, 1);
                let detail = format!(
                    "requests that do not end keep application group '{}' from serving others; the \
                     lines with {} before this one say where they are",
                    self.name,
                    Code::ThreadStuck
                );
                return Err(Refusal::new(Code::GroupStuck, detail));
            }
            Err(Rejected::Full(_)) => {
                self.counters().add(Counter::Refused, 1);
                let detail = format!(
                    "{} requests wait for application group '{}' already",
                    self.queue_limit, self.name
                );
                return Err(Refusal::new(Code::QueueFull, detail));
            }
        };
        if !self.warm.load(Ordering::Acquire) {
            self.start();
        }
        Ok(waiting)
    }

    /// Starts the replicas, if there are none, and gives each a job of its own, which `make` makes.
    ///
    /// # Errors
    ///
    /// Of `make`, or the group is closed.
    pub(crate) fn submit_to_each<T>(
        self: &Arc<Self>,
        mut make: impl FnMut() -> Result<(T, ApplicationEnd), Refusal>,
    ) -> Result<Vec<T>, Refusal> {
        self.note();
        if let Some(main) = self.moved_to() {
            return main.submit_to_each(make);
        }
        self.start();
        let ids: Vec<_> = self.pool().staying().map(|slot| slot.id).collect();
        let mut others = Vec::new();
        for id in ids {
            let (other, job) = make()?;
            // One that could not be made has said so itself, and drops the job.
            let _ = self.queue.submit_to(id, job, Instant::now());
            others.push(other);
        }
        if others.is_empty() { Err(stopping()) } else { Ok(others) }
    }

    fn note(&self) {
        self.noted.call_once(|| {
            self.notes.iter().for_each(|note| tracing::warn!("{}: {note}", Code::OptionIgnored));
        });
    }

    /// Has jobs that have waited for long taken by more threads, where that can be; when to look again, where
    /// it cannot since an application computes.
    pub(crate) fn nudge(self: &Arc<Self>) -> Option<Duration> {
        if let Some(main) = self.moved_to() {
            return main.nudge();
        }
        let nudged = self.queue.nudge(Instant::now());
        nudged.members.into_iter().for_each(|member| self.grow(member));
        nudged.again
    }

    /// Starts a further thread of a replica.
    pub(crate) fn grow(self: &Arc<Self>, member: Member<ApplicationEnd>) {
        let (id, number) = (member.replica(), member.number());
        let replica = self.pool().slot(id).and_then(|slot| slot.replica.clone());
        // One that has just been retired needs no more.
        let Some(replica) = replica else { return };
        let group = Arc::clone(self);
        let help = move || group.help(replica, member);
        if let Err(error) = spawn_for_interpreter(
            self.shared.settings(),
            format!("mnf-{number}-{}", self.name),
            help,
        ) {
            tracing::warn!(group = %self.name, "no thread more than {number}: {error}");
        }
    }

    /// Has a thread of its own look where a replica's threads are, as soon as it gets the GIL. One
    /// that still waits for it is told nothing: a second would wait as well.
    pub(crate) fn look(
        self: &Arc<Self>,
        id: ReplicaId,
        look: impl FnOnce(Attached<'_>, &Replica) + Send + 'static,
    ) {
        let mut pool = self.pool();
        let Some(slot) = pool.slot(id).filter(|slot| slot.looked_at.is_none()) else { return };
        let Some(replica) = slot.replica.clone() else { return };
        let group = Arc::clone(self);
        let looker = move || {
            // A panic is printed where it happens; the group has to learn that this is over.
            let looked = catch_unwind(AssertUnwindSafe(|| {
                if let Some(mut state) = replica.interpreter.thread_state() {
                    state.attach(|py| look(py, &replica));
                }
            }));
            drop((replica, looked));
            if let Some(slot) = group.pool().slot(id) {
                slot.looked_at = None;
            }
            group.tell_pool_changed();
        };
        match spawn_for_interpreter(
            self.shared.settings(),
            format!("mnf-look-{}", self.name),
            looker,
        ) {
            Ok(_) => slot.looked_at = Some(Instant::now()),
            Err(error) => tracing::warn!(group = %self.name, "no thread to look at it: {error}"),
        }
    }

    /// Has each replica's GIL taken once, by a thread of its own, and says for how long those have waited
    /// for one that were asked to before.
    pub(crate) fn probe_gils(self: &Arc<Self>) -> Duration {
        let looked_at: Vec<_> =
            self.pool().replicas.iter().map(|slot| (slot.id, slot.looked_at)).collect();
        for (id, _) in looked_at.iter().filter(|(_, since)| since.is_none()) {
            self.look(*id, |_, _| ());
        }
        let waits = looked_at.iter().filter_map(|(_, since)| since.map(|since| since.elapsed()));
        waits.max().unwrap_or_default()
    }

    /// Takes no more jobs; those queued are still served. The interpreters are then brought to
    /// their end. The limits given first hold.
    pub(crate) fn close(&self, limits: Limits) {
        // Owner threads read the limits once the queue is closed.
        let mut pool = self.pool();
        pool.limits.get_or_insert(limits);
        self.queue.close();
        // Whoever has just queued the first job starts no replica any more.
        let orphans = if pool.replicas.is_empty() { self.queue.discard() } else { Vec::new() };
        drop(pool);
        self.pool_changed.notify_all();
        drop(orphans);
    }

    /// Throws away the jobs that no thread has taken.
    pub(crate) fn discard(&self) {
        drop(self.queue.discard());
    }

    /// Waits for the replicas of a closed group to end, and says what is left.
    pub(crate) fn wait_for_end(&self) -> End {
        let mut pool = self.pool();
        loop {
            let Some(limit) = pool.limit() else {
                let lost = (!pool.replicas.is_empty()).then_some(End::Late);
                return pool.worst.max(lost).unwrap_or(End::Gone);
            };
            match self.wait_until(pool, limit) {
                Some(waited) => pool = waited,
                None => return End::Late,
            }
        }
    }

    /// Why CPython could not be started; for the main group, once it is made.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match &self.pool().phase {
            Phase::Refusing(refusal) => Some(refusal.clone()),
            _ => None,
        }
    }

    /// Starts the owner threads, unless there are some.
    fn start(self: &Arc<Self>) {
        let mut pool = self.pool();
        if pool.phase != Phase::Cold || pool.limits.is_some() {
            return;
        }
        pool.phase = Phase::Warm;
        self.warm.store(true, Ordering::Release);
        let (place, count) = (pool.place, self.wanted(&pool));
        let members: Vec<_> = (0..count).map(|_| self.queue.enroll(Instant::now())).collect();
        for member in &members {
            pool.replicas.push(Slot::starting(member.replica(), place));
        }
        drop(pool);
        members.into_iter().for_each(|member| self.start_owner(member, None));
    }

    /// Starts the owner thread of a replica, which may take the place of another.
    pub(crate) fn start_owner(
        self: &Arc<Self>,
        member: Member<ApplicationEnd>,
        heritage: Option<Heritage>,
    ) {
        let (group, id) = (Arc::clone(self), member.replica());
        let own = move || group.own(member, heritage);
        if let Err(error) =
            spawn_for_interpreter(self.shared.settings(), format!("mnf-0-{}", self.name), own)
        {
            self.not_made(id, format!("no thread could be started for it: {error}"));
        }
    }

    /// What holds for a replica: for one that has to share its GIL, other things than for the first.
    fn options_of(&self, id: ReplicaId) -> Resolved {
        let mut options = self.options.clone();
        let place = self.pool().slot(id).map(|slot| slot.place);
        if place == Some(Place::Shared) && options.gil == Gil::Own {
            options.gil = Gil::Shared;
            options.replicas = 1;
            // CPython keeps the interval with the GIL, which is the main interpreter's now.
            options.switch_interval =
                options.switch_interval.filter(|interval| !interval.for_group);
        }
        options
    }

    /// Wakes those who wait for the pool. Under its lock, since what has changed may be the queue.
    pub(crate) fn tell_pool_changed(&self) {
        let _pool = self.pool();
        self.pool_changed.notify_all();
    }

    /// Waits for a change, or returns `None` when the time is over.
    fn wait_until<'a>(
        &self,
        pool: MutexGuard<'a, Pool>,
        limit: Instant,
    ) -> Option<MutexGuard<'a, Pool>> {
        let left = limit.checked_duration_since(Instant::now())?;
        let waited = self.pool_changed.wait_timeout(pool, left);
        Some(waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, pool: MutexGuard<'a, Pool>) -> MutexGuard<'a, Pool> {
        self.pool_changed.wait(pool).unwrap_or_else(PoisonError::into_inner)
    }
}

fn stopping() -> Refusal {
    Refusal::new(Code::Stopping, "the process stops and takes no more requests")
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}
