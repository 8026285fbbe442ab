//! The replicas of a group: which there are, how far each is in its life, and until when they are
//! waited for. Nothing here waits or makes anything; the group holds it under a lock.
#![forbid(unsafe_code)]

use crate::Refusal;
use crate::interp::ending::End;
use crate::isolation::Place;
use crate::queue::ReplicaId;
use crate::replica::Replica;
use crate::status::State;
use crate::succession::Succession;
use std::sync::Arc;
use std::time::Instant;

/// The replicas of a group.
#[derive(Default)]
pub(crate) struct Pool {
    pub(crate) phase: Phase,
    /// What kind of interpreters new ones are.
    pub(crate) place: Place,
    /// The replica that was made when the group moved to that kind.
    pub(crate) first: Option<ReplicaId>,
    /// Those that have not ended.
    pub(crate) replicas: Vec<Slot>,
    /// The worst end that one of them has come to.
    pub(crate) worst: Option<End>,
    /// How long they have, once the group is closed.
    pub(crate) limits: Option<Limits>,
    pub(crate) succession: Succession,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// There are no replicas; the first job makes them.
    #[default]
    Cold,
    /// There are, or they are under way.
    Warm,
    /// CPython could not be started, and nothing will be served.
    Refusing(Refusal),
}

/// A place in the pool.
pub(crate) struct Slot {
    pub(crate) id: ReplicaId,
    pub(crate) life: Life,
    /// While its threads may be added to, and looked at.
    pub(crate) replica: Option<Arc<Replica>>,
    /// What kind of interpreter it is.
    pub(crate) place: Place,
    /// Whether a thread looks, or waits to look, where others are.
    pub(crate) looked_at: Option<Instant>,
    /// How many threads that do not serve it are in it for a moment.
    pub(crate) guests: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its owner thread makes it.
    Starting,
    /// It serves.
    Serving,
    /// It takes no more jobs, and serves those it has begun.
    Draining,
    /// No request of it is under way: `atexit` callbacks and the like.
    Ending,
    /// A request keeps its GIL and does not end; nobody waits for it.
    Lost,
}

impl From<Life> for State {
    fn from(life: Life) -> Self {
        match life {
            Life::Starting => Self::Starting,
            Life::Serving => Self::Serving,
            Life::Draining => Self::Draining,
            Life::Ending => Self::Ending,
            Life::Lost => Self::Lost,
        }
    }
}

/// How long what runs in a process may take to come to its end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that are under way end by then, or are left behind.
    pub requests: Instant,
    /// Threads of applications, and what they registered with `atexit`, end by then.
    pub everything: Instant,
}

impl Slot {
    pub(crate) fn starting(id: ReplicaId, place: Place) -> Self {
        Self { id, life: Life::Starting, replica: None, place, looked_at: None, guests: 0 }
    }

    /// It is so far in its life now.
    pub(crate) fn enter(&mut self, life: Life) {
        self.life = life;
        if let Some(replica) = &self.replica {
            replica.counters.enter(life.into());
        }
    }
}

impl Pool {
    /// Those that have not been asked to go.
    pub(crate) fn staying(&self) -> impl Iterator<Item = &Slot> {
        self.replicas.iter().filter(|slot| matches!(slot.life, Life::Starting | Life::Serving))
    }

    pub(crate) fn slot(&mut self, id: ReplicaId) -> Option<&mut Slot> {
        self.replicas.iter_mut().find(|slot| slot.id == id)
    }

    /// Until when those that have not ended are waited for.
    pub(crate) fn limit(&self) -> Option<Instant> {
        let now = Instant::now();
        let limits = self.limits.unwrap_or(Limits { requests: now, everything: now });
        let limit = |slot: &Slot| match slot.life {
            Life::Starting | Life::Serving | Life::Draining => Some(limits.requests),
            Life::Ending => Some(limits.everything),
            Life::Lost => None,
        };
        self.replicas.iter().filter_map(limit).max()
    }

    /// How many replicas are in this phase of their lives.
    pub(crate) fn count(&self, life: Life) -> usize {
        self.replicas.iter().filter(|slot| slot.life == life).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Queue;
    use std::time::Duration;

    /// A pool with one replica in each of these phases of its life.
    fn pool(lives: &[Life]) -> Pool {
        let queue = Queue::<()>::new(1, 1);
        let mut pool = Pool::default();
        for life in lives {
            let id = queue.enroll(Instant::now()).replica();
            let slot = Slot { life: *life, ..Slot::starting(id, Place::Own) };
            pool.replicas.push(slot);
        }
        let requests = Instant::now() + Duration::from_secs(10);
        let everything = requests + Duration::from_secs(10);
        pool.limits = Some(Limits { requests, everything });
        pool
    }

    #[test]
    fn those_that_end_have_longer_than_those_that_serve_and_the_lost_are_not_waited_for() {
        let serving = pool(&[Life::Serving, Life::Lost]);
        assert_eq!(serving.limit(), serving.limits.map(|limits| limits.requests));
        let ending = pool(&[Life::Starting, Life::Draining, Life::Ending]);
        assert_eq!(ending.limit(), ending.limits.map(|limits| limits.everything));
        assert_eq!(pool(&[Life::Lost, Life::Lost]).limit(), None);
        assert_eq!(pool(&[]).limit(), None);
    }

    #[test]
    fn only_those_that_serve_or_will_stay() {
        let pool = pool(&[Life::Starting, Life::Serving, Life::Draining, Life::Ending, Life::Lost]);
        assert_eq!(pool.staying().count(), 2);
        assert_eq!(pool.count(Life::Draining), 1);
    }
}
