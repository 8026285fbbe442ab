//! A thread of a replica as one of those that take jobs: how it waits for an order, and what it may
//! take by itself.
#![forbid(unsafe_code)]

use super::{GIVE_WAY, INTERRUPTS, Order, Queue, ReplicaId, State, Waiting, Watch, Watched};
use crate::sync::{Receiver, Sender, bounded};
use crate::wait::{For, receive};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A thread of a replica. Dropped, it has left.
#[derive(Debug)]
pub(crate) struct Member<J> {
    queue: Arc<Queue<J>>,
    replica: ReplicaId,
    number: usize,
    pub(super) orders: Receiver<Order<J>>,
    sender: Sender<Order<J>>,
    /// It stands in line, so nobody else does.
    pub(super) in_line: bool,
}

impl<J> Member<J> {
    pub(super) fn new(queue: Arc<Queue<J>>, replica: ReplicaId, number: usize) -> Self {
        let (sender, orders) = bounded(1);
        Self { queue, replica, number, orders, sender, in_line: false }
    }

    /// The same, with the order to stand in line as its first one.
    pub(super) fn sent_to_line(mut self) -> Self {
        self.in_line = true;
        // Its mailbox is empty.
        let _ = self.sender.try_send(Order::Line);
        self
    }

    /// The replica that it is a thread of.
    pub(crate) fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Its number among the threads of its replica; the first is 0.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// By this the queue sees whether it has the GIL, from now on.
    pub(crate) fn watch_by(&self, thread: Arc<dyn Watch>) {
        if let Some(roster) = self.queue.lock().replicas.get_mut(&self.replica) {
            roster.watched.push(Watched { number: self.number, thread, seen: None });
        }
    }

    /// The replica serves from now on.
    pub(crate) fn admit(&self) {
        if let Some(roster) = self.queue.lock().replicas.get_mut(&self.replica) {
            roster.admitted = true;
        }
    }

    /// Waits for an order, `limit` at most, then leaves. For a thread that is not attached and has
    /// nothing to do.
    pub(crate) fn order(&mut self, limit: Option<Duration>) -> Order<J> {
        let order = match self.first_order() {
            Some(order) => order,
            None => self.stand_by(Instant::now()).unwrap_or_else(|| self.wait(limit)),
        };
        self.in_line = !matches!(order, Order::Leave);
        order
    }

    /// What a new thread was started for.
    pub(super) fn first_order(&self) -> Option<Order<J>> {
        if self.in_line { self.orders.try_recv().ok() } else { None }
    }

    /// An order that can be given at once; otherwise it will come by the mailbox.
    pub(super) fn stand_by(&self, now: Instant) -> Option<Order<J>> {
        let mut state = self.queue.lock();
        state.come_back(self.replica, self.number, self.queue.threads);
        if state.is_over_for(self.replica) {
            return Some(Order::Leave);
        }
        let roster = state.replicas.get(&self.replica)?;
        if roster.in_line.is_none()
            && let Some(job) = state.pop(self.replica, now)
        {
            state.replicas.get_mut(&self.replica)?.in_line = Some(now);
            return Some(Order::Serve(job));
        }
        let no_job = state.jobs.is_empty();
        let roster = state.replicas.get_mut(&self.replica)?;
        if roster.in_line.is_none() && mem::take(&mut roster.calls) {
            roster.in_line = Some(now);
            return Some(Order::Line);
        }
        let waiting = Waiting { number: self.number, orders: self.sender.clone() };
        if roster.leader.is_none() && no_job && roster.in_line.is_none() {
            roster.leader = Some(waiting);
        } else {
            roster.idle.push(waiting);
        }
        None
    }

    fn wait(&self, limit: Option<Duration>) -> Order<J> {
        if let Some(order) = receive(For::Work, &self.orders, limit) {
            return order;
        }
        if self.withdraw() {
            return Order::Leave;
        }
        receive(For::Work, &self.orders, None).expect("it keeps a sender itself")
    }

    /// Waits no more, unless an order has been given.
    pub(super) fn withdraw(&self) -> bool {
        let mut state = self.queue.lock();
        let Some(roster) = state.replicas.get_mut(&self.replica) else { return true };
        if roster.leader.take_if(|leader| leader.number == self.number).is_some() {
            return true;
        }
        let before = roster.idle.len();
        roster.idle.retain(|idle| idle.number != self.number);
        roster.idle.len() < before
    }

    /// It has the GIL, and stands in line no more.
    pub(crate) fn attached(&mut self) {
        self.step_out(&mut self.queue.lock());
        self.in_line = false;
    }

    fn step_out(&self, state: &mut State<J>) {
        if let Some(roster) = state.replicas.get_mut(&self.replica).filter(|_| self.in_line) {
            roster.in_line = None;
        }
    }

    /// It has the GIL: a job, if there is one, and a thread that has to be started, if more jobs
    /// wait: nobody else was free for them, so somebody should be there when this one blocks. Not
    /// where the one before may still compute: that takes turns with this one by the switch interval.
    pub(crate) fn take_in_line(&mut self, now: Instant) -> (Option<J>, Option<Member<J>>) {
        let mut state = self.queue.lock();
        self.step_out(&mut state);
        self.in_line = false;
        if state.is_over_for(self.replica) {
            return (None, None);
        }
        let roster = state.replicas.get(&self.replica);
        let blocks =
            roster.is_some_and(|roster| now.saturating_duration_since(roster.taken) < INTERRUPTS);
        let job = state.pop(self.replica, now);
        let more = blocks && job.is_some() && !state.jobs.is_empty();
        let next = state.replicas.get_mut(&self.replica).filter(|_| more);
        (job, next.and_then(|roster| roster.line_up(&self.queue, self.replica, now)))
    }

    /// The next job, for a thread that has the GIL and has just served one. None where it has to give
    /// way to one that stands in line.
    pub(crate) fn take(&self, now: Instant) -> Option<J> {
        let mut state = self.queue.lock();
        state.come_back(self.replica, self.number, self.queue.threads);
        let since = state.replicas.get(&self.replica).and_then(|roster| roster.in_line);
        let gives_way = since.is_some_and(|since| now.saturating_duration_since(since) >= GIVE_WAY);
        if gives_way || state.is_over_for(self.replica) {
            return None;
        }
        state.pop(self.replica, now)
    }
}

impl<J> Drop for Member<J> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        self.step_out(&mut state);
        state.come_back(self.replica, self.number, self.queue.threads);
        let over = state.closed;
        let Some(roster) = state.replicas.get_mut(&self.replica) else { return };
        roster.members -= 1;
        roster.watched.retain(|watched| watched.number != self.number);
        if roster.retired || over {
            state.forget_if_empty(self.replica);
        }
    }
}
