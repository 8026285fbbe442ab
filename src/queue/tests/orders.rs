//! Every order in which a few threads can take the steps of a queue, by loom. `crate::sync` says what
//! is real in them.

use crate::queue::{Member, Order, PATIENCE, Queue, Rejected};
use loom::thread;
use std::time::{Duration, Instant};

/// Serves what it is told to until it is told to leave, as an interpreter thread does; returns what
/// it has served.
fn serve(mut member: Member<u32>, now: Instant, limit: Option<Duration>) -> Vec<u32> {
    let mut served = Vec::new();
    loop {
        let job = match member.order(limit) {
            Order::Leave => return served,
            Order::Serve(job) => {
                member.attached();
                Some(job)
            }
            // A replica of one thread has nobody to send.
            Order::Line => member.take_in_line(now).0,
        };
        served.extend(job);
        while let Some(job) = member.take(now) {
            served.push(job);
        }
    }
}

#[test]
fn jobs_that_come_while_a_queue_is_closed_are_served_or_come_back() {
    loom::model(|| {
        let queue = Queue::new(2, 1);
        let now = Instant::now();
        let member = queue.enroll(now);
        member.admit();
        let serving = thread::spawn(move || serve(member, now, None));
        let submitting = {
            let queue = std::sync::Arc::clone(&queue);
            thread::spawn(move || match queue.submit(1, now) {
                Ok(_) => 1,
                Err(Rejected::Closed(_)) => 0,
                Err(other) => panic!("there is room for two, and nobody is lost: {other:?}"),
            })
        };
        queue.close();
        let accepted = submitting.join().unwrap();
        assert_eq!(serving.join().unwrap().len(), accepted);
    });
}

#[test]
fn a_replica_that_is_retired_leaves_its_jobs_to_the_other() {
    loom::model(|| {
        let queue = Queue::new(2, 1);
        let now = Instant::now();
        let (old, new) = (queue.enroll(now), queue.enroll(now));
        let id = old.replica();
        old.admit();
        new.admit();
        let serving = thread::spawn(move || serve(old, now, None));
        queue.submit(1, now).expect("there is room");
        queue.retire(id);
        let by_old = serving.join().unwrap();
        queue.close();
        let by_new = serve(new, now, None);
        assert_eq!([by_old, by_new].concat(), [1]);
    });
}

#[test]
fn a_thread_that_leaves_for_want_of_work_takes_no_job_with_it() {
    loom::model(|| {
        let queue = Queue::new(2, 2);
        let now = Instant::now();
        let first = queue.enroll(now);
        first.admit();
        // No time at all: it leaves as soon as there is nothing to do.
        let leaving = thread::spawn(move || serve(first, now, Some(Duration::ZERO)));
        queue.submit(1, now).expect("there is room");
        let served = leaving.join().unwrap();
        let left = queue.waiting();
        assert_eq!(served.len() + left, 1);
        // What was left is taken by the next thread.
        let late = now + PATIENCE;
        let next = queue.nudge(late).members;
        assert_eq!(next.len(), left);
        queue.close();
        let later: Vec<_> = next.into_iter().flat_map(|it| serve(it, late, None)).collect();
        assert_eq!([served, later].concat(), [1]);
    });
}
