//! How an application group moves to another kind of interpreter, when the one it has refuses what
//! its code needs: to one that shares the main interpreter's GIL, or into the main interpreter
//! itself, as if the configuration said `%{GLOBAL}`. Where it goes is decided in
//! [`crate::isolation`]; it never comes back.
//!
//! A job whose script does not load moves with its group, and so do all that wait.

use crate::exchange::ApplicationEnd;
use crate::group::Group;
use crate::isolation::{Decision, Place, Refused, decide};
use crate::pool::{Life, Slot};
use crate::queue::ReplicaId;
use crate::status::Counter;
use crate::succession::Succession;
use crate::{Code, Outcome};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Group {
    /// A replica has refused something: moves the group where that works, if there is such a place,
    /// and the job with it. Where others have moved the group already, only the job goes there. For
    /// a thread that is detached.
    ///
    /// # Errors
    ///
    /// The group stays: the job, and what the operator can do.
    pub(crate) fn demote(
        self: &Arc<Self>,
        id: ReplicaId,
        refused: &Refused,
        job: Option<ApplicationEnd>,
    ) -> Result<(), (Option<ApplicationEnd>, String)> {
        let (from, place) = {
            let mut pool = self.pool();
            (pool.slot(id).map_or(Place::Own, |slot| slot.place), pool.place)
        };
        if from != place {
            job.into_iter().for_each(|job| self.pass_on(job));
            return Ok(());
        }
        let to = match self.decide(refused, from) {
            Decision::Stay(why) => return Err((job, why)),
            Decision::Move(to) => to,
        };
        if to == Place::Main {
            self.bring_python_path();
        }
        let waiting = self.move_group(refused, from, to);
        job.into_iter().chain(waiting).for_each(|job| self.pass_on(job));
        Ok(())
    }

    /// Moves the group, unless somebody else was faster or the process stops, and returns the jobs
    /// that have to be passed on.
    fn move_group(
        self: &Arc<Self>,
        refused: &Refused,
        from: Place,
        to: Place,
    ) -> Vec<ApplicationEnd> {
        let mut jobs = Vec::new();
        let mut pool = self.pool();
        if pool.place != from || pool.limits.is_some() {
            return jobs;
        }
        self.tell_move(refused, from, to);
        pool.place = to;
        self.counters().add(Counter::Demotions, 1);
        self.counters().explain(to.into(), &refused.to_string());
        pool.succession = Succession::default();
        let staying = |slot: &&mut Slot| matches!(slot.life, Life::Starting | Life::Serving);
        for slot in pool.replicas.iter_mut().filter(staying) {
            slot.enter(Life::Draining);
            jobs.extend(self.queue.retire(slot.id));
        }
        if to == Place::Main {
            self.moved.store(true, Ordering::Release);
            // What comes now is rejected here, and goes to the main interpreter's group.
            self.queue.close();
            jobs.extend(self.queue.discard());
            return jobs;
        }
        let member = self.queue.enroll(Instant::now());
        pool.first = Some(member.replica());
        pool.replicas.push(Slot::starting(member.replica(), to));
        drop(pool);
        self.start_owner(member, None);
        jobs
    }

    /// Says that a group cannot be moved.
    pub(crate) fn stays(&self, refused: &Refused, why: &str) {
        tracing::error!("{}: application group '{}': {refused}; {why}", Code::Demoted, self.name);
    }

    /// The main interpreter's group, once this one has moved there.
    pub(crate) fn moved_to(&self) -> Option<Arc<Group>> {
        self.moved.load(Ordering::Acquire).then(|| self.shared.main())?
    }

    fn decide(&self, refused: &Refused, from: Place) -> Decision {
        let holder = self.shared.main_holder();
        let decided = |holder| decide(refused, from, self.options.gil_is_pinned, holder);
        let decision = decided(holder.get().filter(|holder| **holder != self.name));
        if decision != Decision::Move(Place::Main) {
            return decision;
        }
        // It was free a moment ago.
        let holder = holder.get_or_init(|| self.name.clone());
        if *holder == self.name { decision } else { decided(Some(holder)) }
    }

    fn tell_move(&self, refused: &Refused, from: Place, to: Place) {
        let said = match to {
            Place::Shared => format!(
                "WSGIPerInterpreterGIL Off in <WSGIInterpreterOptions application-group={}>",
                self.name
            ),
            Place::Own | Place::Main => "application-group=%{GLOBAL}".to_owned(),
        };
        let replicas = match self.options.replicas {
            1 => String::new(),
            count => format!(", where it has one replica and not {count}"),
        };
        tracing::warn!(
            "{}: application group '{}' moves from {from} to {to}{replicas}: {refused}; to have it there \
             from the start, say {said}",
            Code::Demoted,
            self.name
        );
    }

    /// Has the main interpreter find what only this group's interpreters were told to.
    fn bring_python_path(&self) {
        let Some(main) = self.shared.main() else { return };
        let mut lists = self.options.python_path.clone();
        lists.retain(|list| !main.options.python_path.contains(list));
        if lists.is_empty() {
            return;
        }
        let (id, replica) = {
            let mut pool = main.pool();
            let Some(slot) = pool.replicas.first_mut() else { return };
            let Some(replica) = slot.replica.clone() else { return };
            slot.guests += 1;
            (slot.id, replica)
        };
        if let Some(mut state) = replica.interpreter.thread_state() {
            state.attach(|py| replica.residents.add_python_path(py, &lists));
        }
        drop(replica);
        main.guest_leaves(id);
    }

    /// Hands a job on to where the group is now.
    fn pass_on(self: &Arc<Self>, job: ApplicationEnd) {
        job.wait_again();
        if let Some(main) = self.moved_to() {
            return main.adopt(job);
        }
        let first = self.pool().first;
        // That one's first thread has to load the script before anything else can be done.
        let left = match first {
            Some(id) => self.queue.submit_to(id, job, Instant::now()),
            None => Err(job),
        };
        if let Err(job) = left {
            self.adopt(job);
        }
    }

    /// Queues a job that waited elsewhere, however many there are.
    fn adopt(self: &Arc<Self>, job: ApplicationEnd) {
        match self.queue.adopt(job, Instant::now()) {
            Ok(accepted) => accepted.members.into_iter().for_each(|member| self.grow(member)),
            Err(job) => job.link().end(Outcome::Failed(Code::Stopping)),
        }
    }
}
