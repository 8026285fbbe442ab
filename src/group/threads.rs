//! The threads of a replica: its owner, which makes the interpreter and ends it, and those that help.

use super::Group;
use crate::exchange::ApplicationEnd;
use crate::interp::ThreadState;
use crate::interp::ending::{self, End};
use crate::lending::Release;
use crate::pool::{Life, Phase};
use crate::queue::{Member, Queue, ReplicaId};
use crate::replica::{Replica, Server};
use crate::status::State;
use crate::succession::Heritage;
use crate::{Code, Outcome, Refusal};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long a thread beyond the first may have nothing to do before it goes.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// How long threads and `atexit` callbacks of a replica have that is ended while the process goes on.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Has a thread of a replica release what came back.
#[derive(Debug)]
struct Caller {
    queue: Weak<Queue<ApplicationEnd>>,
    id: ReplicaId,
}

impl Release for Caller {
    fn release_soon(&self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.call(self.id, Instant::now());
        }
    }
}

impl Group {
    /// The owner thread of a replica: makes the interpreter, serves jobs, and ends what it made.
    pub(super) fn own(
        self: Arc<Self>,
        mut member: Member<ApplicationEnd>,
        heritage: Option<Heritage>,
    ) {
        let id = member.replica();
        let options = self.options_of(id);
        let gate = self.shared.has_gate(&options).then_some(&self.shared.gate);
        let make = || Replica::make(id, &self.name, &self.shared.settings, &options, gate);
        let made = catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|_| Err("a panic".into()));
        let (replica, mut state) = match made {
            Ok((replica, state)) => (Arc::new(replica), state),
            Err(reason) => return self.not_made(id, reason),
        };
        replica.residents.may_be_replaced(self.replaces_interpreters());
        replica.residents.release_by(Caller { queue: Arc::downgrade(&self.queue), id });
        let inherited = heritage.as_ref().is_none_or(|it| self.inherit(&replica, &mut state, it));
        if let Some(slot) = self.pool().slot(id).filter(|_| inherited) {
            slot.replica = Some(Arc::clone(&replica));
            if slot.life == Life::Starting {
                slot.enter(Life::Serving);
            }
        }
        self.tell_pool_changed();
        if inherited {
            member.admit();
            if let Some(heritage) = &heritage {
                self.take_over(id, heritage);
            }
            self.serve(&replica, &mut state, &mut member, None);
        }
        drop(member);
        let end = self.end(replica, state);
        let mut pool = self.pool();
        let place = pool.place;
        let was_replaced =
            pool.limits.is_none() && pool.slot(id).is_none_or(|slot| slot.place == place);
        pool.replicas.retain(|slot| slot.id != id);
        pool.worst = pool.worst.max(Some(end));
        drop(pool);
        self.pool_changed.notify_all();
        if was_replaced {
            match end {
                End::Gone => ending::give_memory_back(),
                _ => self.left_over(),
            }
        }
        self.refill();
        if !inherited {
            self.succession_failed(id);
        }
    }

    /// A further thread: serves jobs until it has had none for a while.
    pub(super) fn help(
        self: &Arc<Self>,
        replica: Arc<Replica>,
        mut member: Member<ApplicationEnd>,
    ) {
        match replica.interpreter.thread_state() {
            Some(mut state) => self.serve(&replica, &mut state, &mut member, Some(IDLE_LIMIT)),
            None => tracing::warn!(group = %self.name, "no memory for one more thread state"),
        }
        // The owner expects to be the only one once there is no member: its thread state is gone, for
        // which Python code may have run, and the replica is let go of.
        drop(replica);
        drop(member);
        self.tell_pool_changed();
    }

    fn serve(
        self: &Arc<Self>,
        replica: &Replica,
        state: &mut ThreadState,
        member: &mut Member<ApplicationEnd>,
        idle_limit: Option<Duration>,
    ) {
        let watchdog = self.shared.watchdog();
        let seat =
            watchdog.map(|dog| dog.seat(Arc::downgrade(self), replica.id, member.number(), state));
        let server = Server::new(self, replica, seat.clone());
        server.serve(state, member, idle_limit);
        drop(server);
        if let (Some(watchdog), Some(seat)) = (watchdog, &seat) {
            watchdog.leave(seat);
        }
    }

    /// Ends a replica on its owner thread, in the time there is.
    fn end(&self, replica: Arc<Replica>, mut state: ThreadState) -> End {
        let id = replica.id;
        let deadline = self.wait_for_helpers(id);
        // A request that keeps the GIL stops this here: then the limit of requests holds.
        state.attach(|_| ());
        if let Some(slot) = self.pool().slot(id) {
            slot.life = Life::Ending;
        }
        replica.counters.enter(State::Ending);
        self.tell_pool_changed();
        let reason = self.shared.shutdown_reason();
        state.attach(|py| replica.residents.tell_stopping(py, reason));
        let destroy = self.shared.settings.destroy_interpreters;
        replica.end(state, &self.name, destroy, deadline, || self.shared.others_gone(deadline))
    }

    /// Waits for the other threads of a replica, while requests may be under way; once the group is
    /// closed not for all of that time, so that `atexit` callbacks are called even if one never
    /// comes back. Returns when everything has to have ended.
    fn wait_for_helpers(&self, id: ReplicaId) -> Instant {
        let mut pool = self.pool();
        let mut enough = None;
        let deadline = loop {
            let looked_at =
                pool.slot(id).is_some_and(|slot| slot.looked_at.is_some() || slot.guests > 0);
            let limits = pool.limits;
            let (members, lost) = self.queue.members(id);
            // Those that are lost may come back, but not for a process that goes.
            let expected = if limits.is_some() { members - lost } else { members };
            if expected == 0 && !looked_at {
                break limits.map_or_else(|| Instant::now() + END_LIMIT, |it| it.everything);
            }
            pool = match limits {
                None => self.wait(pool),
                Some(limits) => {
                    let left = limits.requests.saturating_duration_since(Instant::now());
                    let enough = *enough.get_or_insert(limits.requests - left / 4);
                    match self.wait_until(pool, enough) {
                        Some(waited) => waited,
                        None => {
                            pool = self.pool();
                            break limits.everything;
                        }
                    }
                }
            };
        };
        // From now on nobody looks at its threads.
        if let Some(slot) = pool.slot(id) {
            slot.replica = None;
        }
        deadline
    }

    /// The interpreter could not be made: those who wait are told, and the next job tries again.
    /// Without a main interpreter there is nothing to try again.
    pub(super) fn not_made(&self, id: ReplicaId, reason: String) {
        let refusal = self.not_made_refusal(reason);
        tracing::error!(critical = self.name.is_main(), "{refusal}");
        self.succession_failed(id);
        let mut orphans = Vec::from(self.queue.retire(id));
        let mut pool = self.pool();
        pool.replicas.retain(|slot| slot.id != id);
        if pool.staying().next().is_none() {
            pool.phase = match self.name.is_main() {
                true => Phase::Refusing(refusal.clone()),
                false => Phase::Cold,
            };
            self.warm.store(false, Ordering::Release);
            orphans.extend(self.queue.discard());
        }
        drop(pool);
        self.pool_changed.notify_all();
        for job in orphans {
            job.link().end(Outcome::Failed(refusal.code));
        }
    }

    fn not_made_refusal(&self, reason: String) -> Refusal {
        if !self.name.is_main() {
            return Refusal::new(
                Code::InterpreterNotMade,
                format!(
                    "the interpreter of application group '{}' could not be made: {reason}",
                    self.name
                ),
            );
        }
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
    }
}
