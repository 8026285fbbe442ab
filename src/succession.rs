//! How an interpreter takes another's place while the group goes on serving: the successor is made
//! and loads what its predecessor had loaded, then it takes jobs and the predecessor takes no more,
//! serves what it has begun, and is ended. One replica of a group at a time.
//!
//! Where an interpreter cannot be ended (CPython before 3.14, the main interpreter) none is replaced.

use crate::group::Group;
use crate::interp::ThreadState;
use crate::pool::{Life, Phase, Pool, Slot};
use crate::queue::ReplicaId;
use crate::replica::Replica;
use crate::status::Counter;
use crate::{Code, Script};
use cpython_sys::CAN_END_INTERPRETERS;
use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

/// How long nothing is tried again after a successor could not take over.
const PAUSE: Duration = Duration::from_secs(1);

/// How many predecessors may be left that could not be ended: each keeps its memory.
const LEFT_OVER_LIMIT: usize = 4;

/// How many replicas of a group may be in requests that do not end: each keeps its memory.
const LOST_LIMIT: usize = 4;

/// Why an interpreter is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A script was changed, so all replicas are out of date.
    ScriptChanged,
    /// It has served so many requests.
    MaximumRequests(NonZeroU64),
    /// A thread of it is in a request that does not end.
    Stuck,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ScriptChanged => f.write_str("a script has changed"),
            Self::MaximumRequests(number) => write!(f, "it has served {number} requests"),
            Self::Stuck => f.write_str("a request in it does not end"),
        }
    }
}

/// The replacements of a group that are under way or to come.
#[derive(Default)]
pub(crate) struct Succession {
    /// The successor that is being made.
    underway: Option<ReplicaId>,
    /// Those whose turn comes after it.
    waiting: VecDeque<(ReplicaId, Reason)>,
    /// Before this nothing is tried again.
    not_before: Option<Instant>,
    /// How many predecessors could not be ended.
    left_over: usize,
}

/// What a successor takes over.
#[derive(Clone)]
pub(crate) struct Heritage {
    predecessor: ReplicaId,
    reason: Reason,
    scripts: Vec<Arc<Script>>,
}

impl Group {
    /// Whether interpreters of this group can be replaced.
    pub(crate) fn replaces_interpreters(&self) -> bool {
        CAN_END_INTERPRETERS && !self.name.is_main()
    }

    /// Has a replica replaced, when its turn comes.
    pub(crate) fn replace(self: &Arc<Self>, id: ReplicaId, reason: Reason) {
        if !self.replaces_interpreters() {
            return;
        }
        let mut pool = self.pool();
        let outdated: Vec<_> = match reason {
            Reason::ScriptChanged => serving(&pool).collect(),
            Reason::MaximumRequests(_) | Reason::Stuck => vec![id],
        };
        for id in outdated {
            let succession = &mut pool.succession;
            if !succession.waiting.iter().any(|(waiting, _)| *waiting == id) {
                succession.waiting.push_back((id, reason));
            }
        }
        self.begin_next(pool);
    }

    /// Starts the next successor, unless one is under way.
    fn begin_next(self: &Arc<Self>, mut pool: MutexGuard<'_, Pool>) {
        let now = Instant::now();
        let paused = pool.succession.not_before.is_some_and(|until| now < until);
        if paused || pool.limits.is_some() || pool.succession.left_over >= LEFT_OVER_LIMIT {
            pool.succession.waiting.clear();
            return;
        }
        while pool.succession.underway.is_none()
            && let Some((predecessor, reason)) = pool.succession.waiting.pop_front()
        {
            let Some(slot) = pool.slot(predecessor).filter(|slot| slot.life == Life::Serving)
            else {
                continue;
            };
            // No reference is kept: its owner has to have the last one when it comes to its end.
            let Some(replica) = &slot.replica else { continue };
            let scripts = replica.residents.loaded_scripts();
            let member = self.queue.enroll(now);
            pool.succession.underway = Some(member.replica());
            let place = pool.place;
            pool.replicas.push(Slot::starting(member.replica(), place));
            drop(pool);
            return self.start_owner(member, Some(Heritage { predecessor, reason, scripts }));
        }
    }

    /// Loads into a successor what its predecessor had loaded; says whether it can take over.
    pub(crate) fn inherit(
        self: &Arc<Self>,
        replica: &Replica,
        state: &mut ThreadState,
        heritage: &Heritage,
    ) -> bool {
        let loaded = state.attach(|py| replica.residents.load(py, &heritage.scripts));
        let Err(mut failure) = loaded else { return true };
        if let Some(refused) = failure.refused.take() {
            match self.demote(replica.id, &refused, None) {
                Ok(()) => return false,
                Err((_, why)) => self.stays(&refused, &why),
            }
        }
        tracing::error!(
            "{}: application group '{}' goes on with the interpreter it has: {}, but a fresh one \
             could not take its place: {}",
            Code::NotReplaced,
            self.name,
            heritage.reason,
            failure.refusal
        );
        failure.traceback.lines().for_each(|line| tracing::error!("{line}"));
        false
    }

    /// The successor serves: its predecessor takes no more jobs.
    pub(crate) fn take_over(self: &Arc<Self>, successor: ReplicaId, heritage: &Heritage) {
        let mut pool = self.pool();
        if let Some(slot) = pool.slot(heritage.predecessor) {
            slot.enter(Life::Draining);
        }
        pool.succession.underway = None;
        self.counters().add(Counter::Replacements, 1);
        // Jobs that only it could do: whoever waits for them is told that they are lost.
        let own = self.queue.retire(heritage.predecessor);
        tracing::info!(
            "application group '{}': replica {successor} has taken the place of replica {}: {}",
            self.name,
            heritage.predecessor,
            heritage.reason
        );
        self.begin_next(pool);
        drop(own);
    }

    /// A replica could not be made or not take over; if it was a successor, that is over.
    pub(crate) fn succession_failed(&self, id: ReplicaId) {
        let succession = &mut self.pool().succession;
        if succession.underway.take_if(|successor| *successor == id).is_some() {
            succession.waiting.clear();
            succession.not_before = Some(Instant::now() + PAUSE);
        }
    }

    /// Gives a thread up that serves a request which does not end, and says what comes in its place.
    pub(crate) fn give_up(
        self: &Arc<Self>,
        id: ReplicaId,
        thread: usize,
        keeps_gil: bool,
    ) -> &'static str {
        let mut pool = self.pool();
        if pool.limits.is_some() {
            return "the process stops anyway";
        }
        self.queue.lose(id, thread);
        self.counters().add(Counter::Quarantined, 1);
        if !keeps_gil {
            let lost =
                pool.replicas.iter().filter(|slot| self.queue.members(slot.id).1 > 0).count();
            drop(pool);
            if !self.replaces_interpreters() || lost > LOST_LIMIT {
                return "its thread is given up, and another may take its place";
            }
            self.replace(id, Reason::Stuck);
            return "its thread is given up, and the interpreter is replaced";
        }
        if self.name.is_main() {
            self.queue.refuse();
            return "it keeps the GIL of the main interpreter, so application group '%{GLOBAL}' serves no \
                    request until it ends";
        }
        if let Some(slot) = pool.slot(id) {
            slot.enter(Life::Lost);
        }
        drop(pool);
        let own = self.queue.retire(id);
        drop(own);
        if self.refill() {
            "it keeps the GIL of its interpreter, which is given up; another takes its place"
        } else {
            "it keeps the GIL of its interpreter, which is given up"
        }
    }

    /// Makes replicas anew in the place of those that are lost, as long as not too many are; says
    /// whether it did.
    pub(crate) fn refill(self: &Arc<Self>) -> bool {
        let mut pool = self.pool();
        let there = pool.count(Life::Serving) + pool.count(Life::Starting);
        let missing = self.wanted(&pool).saturating_sub(there);
        let moved = self.moved.load(Ordering::Acquire);
        if pool.limits.is_some() || missing == 0 || pool.phase != Phase::Warm || moved {
            return false;
        }
        if pool.count(Life::Lost) > LOST_LIMIT {
            if there == 0 {
                self.queue.refuse();
            }
            return false;
        }
        let members: Vec<_> = (0..missing).map(|_| self.queue.enroll(Instant::now())).collect();
        let place = pool.place;
        pool.replicas.extend(members.iter().map(|member| Slot::starting(member.replica(), place)));
        drop(pool);
        members.into_iter().for_each(|member| self.start_owner(member, None));
        true
    }

    /// A predecessor could not be ended.
    pub(crate) fn left_over(&self) {
        let mut pool = self.pool();
        pool.succession.left_over += 1;
        if pool.succession.left_over == LEFT_OVER_LIMIT {
            for replica in pool.replicas.iter().filter_map(|slot| slot.replica.as_ref()) {
                replica.residents.may_be_replaced(false);
            }
            drop(pool);
            tracing::warn!(
                "{}: {LEFT_OVER_LIMIT} interpreters of application group '{}' were replaced and could \
                 not be ended, since threads of the application go on in them; from now on changed \
                 scripts are loaded again in the interpreter there is. Let the application end its \
                 threads when it is told to stop (mod_wsgi.subscribe_shutdown)",
                Code::NotReplaced,
                self.name
            );
        }
    }
}

fn serving(pool: &Pool) -> impl Iterator<Item = ReplicaId> {
    pool.replicas.iter().filter(|slot| slot.life == Life::Serving).map(|slot| slot.id)
}
