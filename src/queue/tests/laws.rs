//! The life of a pool, played by one thread: replicas come and are retired, their threads get jobs,
//! want the GIL, block, come back, are given up, in any order. Whatever happens, no job is lost or
//! taken twice, and of the threads that have not begun a job one at most stands in line for a GIL.

use crate::queue::{
    GIVE_WAY, LONG, LOOKS, LOST_LIMIT, Member, Order, PATIENCE, Queue, Rejected, ReplicaId, Watch,
};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LIMIT: usize = 4;
const THREADS: usize = 3;

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request comes.
    Submit,
    /// A job that a replica has to do itself.
    SubmitTo(usize),
    /// A request has waited.
    Nudge,
    /// Time passes.
    Wait,
    /// A thread does what it does next.
    Go(usize),
    /// A thread that runs blocks.
    Block(usize),
    /// A thread that waits has waited for long enough.
    GiveUpWaiting(usize),
    /// A thread that blocks is not expected to come back.
    Lose(usize),
    /// There is something for an interpreter's threads to see to.
    Call(usize),
    /// One more replica.
    Enroll,
    Retire(usize),
    Close,
    Discard,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0_usize..8;
    let step = prop_oneof![
        20 => Just(Step::Submit),
        2 => which.clone().prop_map(Step::SubmitTo),
        8 => Just(Step::Nudge),
        8 => Just(Step::Wait),
        40 => which.clone().prop_map(Step::Go),
        12 => which.clone().prop_map(Step::Block),
        3 => which.clone().prop_map(Step::GiveUpWaiting),
        2 => which.clone().prop_map(Step::Lose),
        4 => which.clone().prop_map(Step::Call),
        2 => Just(Step::Enroll),
        2 => which.prop_map(Step::Retire),
    ];
    proptest::collection::vec(step, 1..120).prop_flat_map(|steps| {
        let end = prop_oneof![
            Just(vec![]),
            Just(vec![Step::Close]),
            Just(vec![Step::Close, Step::Discard]),
        ];
        end.prop_map(move |end| steps.iter().copied().chain(end).collect())
    })
}

/// Where a thread is.
#[derive(Debug)]
enum Place {
    /// It is about to ask for an order.
    Free,
    /// It waits for one.
    Waiting,
    /// It wants the GIL, for this job or for what there is then.
    InLine(Option<u32>),
    /// It has the GIL and serves this job.
    Running(u32),
    /// It serves this job and has let the GIL go.
    Blocked(u32),
}

struct Thread {
    member: Member<u32>,
    place: Place,
    lost: bool,
}

struct Play {
    queue: Arc<Queue<u32>>,
    now: Instant,
    threads: Vec<Thread>,
    replicas: Vec<ReplicaId>,
    submitted: u32,
    /// Jobs that were begun.
    begun: Vec<u32>,
    /// Jobs that came back.
    returned: Vec<u32>,
    /// How often a thread was lost.
    losses: usize,
}

impl Play {
    fn new() -> Self {
        Self::of(Queue::new(LIMIT, THREADS))
    }

    fn of(queue: Arc<Queue<u32>>) -> Self {
        let (threads, replicas) = (Vec::new(), Vec::new());
        let now = Instant::now();
        let mut play = Self {
            queue,
            now,
            threads,
            replicas,
            submitted: 0,
            begun: vec![],
            returned: vec![],
            losses: 0,
        };
        play.enroll();
        play
    }

    /// One replica, whose first thread has blocked in the first of three jobs.
    fn with_a_blocked_runner() -> Self {
        let mut play = Self::new();
        settle(&mut play);
        for _ in 0..3 {
            play.submit();
        }
        assert!(play.go(0) && play.go(0));
        play.take(Step::Block(0));
        play
    }

    fn enroll(&mut self) {
        let member = self.queue.enroll(self.now);
        member.admit();
        self.replicas.push(member.replica());
        self.threads.push(Thread { member, place: Place::Free, lost: false });
    }

    fn start(&mut self, members: impl IntoIterator<Item = Member<u32>>) {
        for member in members {
            self.threads.push(Thread { member, place: Place::Free, lost: false });
        }
    }

    fn submit(&mut self) {
        let job = self.submitted;
        self.submitted += 1;
        match self.queue.submit(job, self.now) {
            Ok(accepted) => self.start(accepted.members),
            Err(Rejected::Full(job)) => {
                assert_eq!(self.queue.waiting(), LIMIT);
                self.returned.push(job);
            }
            Err(Rejected::Closed(job)) => self.returned.push(job),
            Err(Rejected::Stuck(job)) => {
                let lost = self.threads.iter().filter(|thread| thread.lost).count();
                assert!(lost >= LOST_LIMIT, "only {lost} threads are lost");
                self.returned.push(job);
            }
        }
    }

    /// Whether a thread of this replica has the GIL.
    fn gil_is_held(&self, replica: ReplicaId) -> bool {
        let holds = |thread: &Thread| matches!(thread.place, Place::Running(_));
        self.threads.iter().any(|thread| thread.member.replica() == replica && holds(thread))
    }

    /// A thread does what it does next, if it can; returns whether it did something.
    fn go(&mut self, which: usize) -> bool {
        let Some(replica) = self.threads.get(which).map(|thread| thread.member.replica()) else {
            return false;
        };
        let gil_is_held = self.gil_is_held(replica);
        let (now, thread) = (self.now, &mut self.threads[which]);
        let order = match &thread.place {
            // What it was lost for is over.
            Place::Free => match thread.member.first_order() {
                Some(order) => Some(order),
                None => thread.member.stand_by(now),
            },
            Place::Waiting => match thread.member.orders.try_recv() {
                Ok(order) => Some(order),
                Err(_) => return false,
            },
            Place::InLine(_) | Place::Blocked(_) if gil_is_held => return false,
            Place::InLine(Some(job)) => {
                let job = *job;
                thread.member.attached();
                thread.place = Place::Running(job);
                self.begun.push(job);
                return true;
            }
            Place::InLine(None) => {
                let (job, next) = thread.member.take_in_line(now);
                thread.place = job.map_or(Place::Free, Place::Running);
                self.begun.extend(job);
                self.start(next);
                return true;
            }
            Place::Running(_) => {
                let job = thread.member.take(now);
                thread.lost = false;
                thread.place = job.map_or(Place::Free, Place::Running);
                self.begun.extend(job);
                return true;
            }
            Place::Blocked(job) => {
                thread.place = Place::Running(*job);
                return true;
            }
        };
        thread.member.in_line = !matches!(order, None | Some(Order::Leave));
        match order {
            None => thread.place = Place::Waiting,
            Some(Order::Serve(job)) => thread.place = Place::InLine(Some(job)),
            Some(Order::Line) => thread.place = Place::InLine(None),
            Some(Order::Leave) => drop(self.threads.remove(which)),
        }
        true
    }

    fn take(&mut self, step: Step) {
        let count = self.threads.len().max(1);
        match step {
            Step::Submit => self.submit(),
            Step::SubmitTo(which) => {
                let id = self.replicas[which % self.replicas.len()];
                let job = self.submitted;
                self.submitted += 1;
                self.returned.extend(self.queue.submit_to(id, job, self.now).err());
            }
            Step::Nudge => {
                let members = self.queue.nudge(self.now).members;
                self.start(members);
            }
            Step::Wait => self.now += PATIENCE,
            Step::Go(which) => drop(self.go(which % count)),
            Step::Block(which) => {
                if let Some(thread) = self.threads.get_mut(which % count)
                    && let Place::Running(job) = thread.place
                {
                    thread.place = Place::Blocked(job);
                }
            }
            Step::GiveUpWaiting(which) => {
                let which = which % count;
                let waits = |thread: &&Thread| matches!(thread.place, Place::Waiting);
                let given_up =
                    self.threads.get(which).filter(waits).is_some_and(|it| it.member.withdraw());
                if given_up {
                    self.threads.remove(which);
                }
            }
            Step::Lose(which) => {
                if let Some(thread) = self.threads.get_mut(which % count)
                    && matches!(thread.place, Place::Blocked(_))
                {
                    self.queue.lose(thread.member.replica(), thread.member.number());
                    self.losses += usize::from(!thread.lost);
                    thread.lost = true;
                }
            }
            Step::Call(which) => {
                self.queue.call(self.replicas[which % self.replicas.len()], self.now);
            }
            Step::Enroll => self.enroll(),
            Step::Retire(which) => {
                let id = self.replicas[which % self.replicas.len()];
                self.returned.extend(self.queue.retire(id));
            }
            Step::Close => self.queue.close(),
            Step::Discard => self.returned.extend(self.queue.discard()),
        }
    }

    fn check(&self) {
        let state = self.queue.lock();
        for id in &self.replicas {
            let threads = || self.threads.iter().filter(|thread| thread.member.replica() == *id);
            let ordered = |thread: &Thread| {
                matches!(thread.place, Place::InLine(_))
                    || matches!(thread.place, Place::Waiting | Place::Free)
                        && !thread.member.orders.is_empty()
            };
            let leaving = state.replicas.get(id).is_none_or(|roster| roster.retired)
                || state.closed && state.jobs.is_empty();
            let in_line = threads().filter(|thread| ordered(thread)).count();
            assert!(in_line <= 1 || leaving, "{in_line} threads stand in line");
            let members = threads().filter(|thread| !thread.lost).count();
            let counted = state.replicas.get(id).map_or(0, |roster| roster.members);
            assert_eq!(counted, members);
            // Those that come back are there besides those that were made meanwhile.
            assert!(members <= THREADS + self.losses, "{members} threads");
            let leader = state.replicas.get(id).is_some_and(|roster| roster.leader.is_some());
            assert!(!leader || state.jobs.is_empty(), "jobs wait, and so does a leader");
            let calls = state.replicas.get(id).is_some_and(|roster| roster.calls);
            assert!(!leader || !calls, "an interpreter waits to be seen to, and so does a leader");
        }
    }

    /// Lets everything come to its end: whatever blocks comes back, except for what is lost.
    fn finish(mut self) {
        let stuck = |thread: &Thread| thread.lost && matches!(thread.place, Place::Blocked(_));
        for _ in 0..1000 {
            let mut moved = false;
            for which in (0..self.threads.len()).rev() {
                if self.threads.get(which).is_some_and(|thread| !stuck(thread)) {
                    moved |= self.go(which);
                }
            }
            self.check();
            self.now += PATIENCE;
            let members = self.queue.nudge(self.now).members;
            moved |= !members.is_empty();
            self.start(members);
            if !moved && self.threads.iter().all(|thread| thread.member.orders.is_empty()) {
                break;
            }
        }
        self.account();
    }

    /// Every job was begun once, or came back, or waits because no replica is left for it.
    fn account(&self) {
        let state = self.queue.lock();
        let serving =
            state.replicas.values().any(|it| it.admitted && !it.retired && it.members > 0);
        assert!(state.jobs.is_empty() || !serving, "jobs wait for a thread that nobody sends");
        let own = state.replicas.values().flat_map(|roster| &roster.own).copied();
        let stays: Vec<_> = state.jobs.iter().copied().chain(own).collect();
        let mut jobs = [&self.begun[..], &self.returned, &stays].concat();
        jobs.sort_unstable();
        let all: Vec<_> = (0..self.submitted).collect();
        assert_eq!(jobs, all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_job_is_lost_or_taken_twice_and_one_thread_at_most_stands_in_line(steps in steps()) {
        let mut play = Play::new();
        for step in steps {
            play.take(step);
            play.check();
        }
        play.finish();
    }
}

/// Lets the threads do what they can, but for blocking.
fn settle(play: &mut Play) {
    while (0..play.threads.len()).any(|which| play.go(which)) {}
}

#[test]
fn a_runner_that_does_not_block_takes_all_jobs_and_nobody_else_is_asked() {
    let mut play = Play::new();
    settle(&mut play);
    play.submit();
    assert!(play.go(0) && play.go(0), "the leader has a job and the GIL");
    for _ in 0..LIMIT {
        play.submit();
    }
    for _ in 0..LIMIT {
        assert!(play.go(0));
    }
    assert_eq!((play.begun.len(), play.threads.len()), (LIMIT + 1, 1));
}

#[test]
fn a_thread_sees_to_its_interpreter_once_as_soon_as_it_has_nothing_else_to_do() {
    let mut play = Play::new();
    let id = play.replicas[0];
    settle(&mut play);
    play.queue.call(id, play.now);
    assert!(play.go(0));
    assert!(matches!(play.threads[0].place, Place::InLine(None)), "it is sent at once");
    settle(&mut play);
    assert!(matches!(play.threads[0].place, Place::Waiting), "and waits again");

    play.submit();
    assert!(play.go(0) && play.go(0));
    play.queue.call(id, play.now);
    play.queue.call(id, play.now);
    assert!(play.go(0));
    assert!(matches!(play.threads[0].place, Place::Free), "it has served the job");
    assert!(play.go(0));
    assert!(matches!(play.threads[0].place, Place::InLine(None)), "then it goes");
    assert!(play.go(0) && play.go(0));
    assert!(matches!(play.threads[0].place, Place::Waiting), "once");
}

#[test]
fn a_runner_that_blocks_is_followed_by_another_thread_and_that_by_the_next() {
    let mut play = Play::with_a_blocked_runner();
    play.take(Step::Nudge);
    assert_eq!(play.threads.len(), 1, "it is too early");
    play.take(Step::Wait);
    play.take(Step::Nudge);
    assert_eq!(play.threads.len(), 2);
    assert!(play.go(1) && play.go(1));
    assert!(matches!(play.threads[1].place, Place::Running(1)));
    assert_eq!(play.threads.len(), 3, "a job waits, so the next stands in line already");
    play.take(Step::Block(1));
    assert!(play.go(2) && play.go(2));
    assert!(matches!(play.threads[2].place, Place::Running(2)));
}

#[test]
fn jobs_go_to_the_replica_that_is_free() {
    let mut play = Play::new();
    play.enroll();
    settle(&mut play);
    play.submit();
    play.submit();
    assert!((0..2).all(|which| play.go(which) && play.go(which)));
    let running = play.threads.iter().filter(|it| matches!(it.place, Place::Running(_)));
    assert_eq!(running.count(), 2);
}

/// A thread that has the GIL, or does not.
#[derive(Debug)]
struct Played(Arc<AtomicBool>);

impl Played {
    /// One that has it, until that is said otherwise.
    fn watches(member: &Member<u32>) -> Arc<AtomicBool> {
        let has_gil = Arc::new(AtomicBool::new(true));
        member.watch_by(Arc::new(Self(Arc::clone(&has_gil))));
        has_gil
    }
}

impl Watch for Played {
    fn has_gil(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn a_runner_that_computes_is_left_alone_until_its_request_takes_long() {
    for has_gil in [true, false] {
        let mut play = Play::new();
        Played::watches(&play.threads[0].member).store(has_gil, Ordering::Relaxed);
        settle(&mut play);
        play.submit();
        play.submit();
        assert!(play.go(0) && play.go(0));
        play.take(Step::Wait);
        play.take(Step::Nudge);
        assert_eq!(play.threads.len(), if has_gil { 1 } else { 2 });
        play.now += LONG;
        play.take(Step::Nudge);
        assert_eq!(play.threads.len(), 2);
    }
}

/// One replica, of at most `threads` threads, whose first computes; as many jobs as `waiting` wait.
fn computing(threads: usize, waiting: usize) -> (Play, Arc<AtomicBool>) {
    let mut play = Play::of(Queue::new(LIMIT, threads));
    let has_gil = Played::watches(&play.threads[0].member);
    settle(&mut play);
    (0..=waiting).for_each(|_| play.submit());
    assert!(play.go(0) && play.go(0));
    (play, has_gil)
}

#[test]
fn the_more_take_turns_the_later_comes_one_more() {
    let (mut play, first) = computing(THREADS, 2);
    play.now += LONG;
    play.take(Step::Nudge);
    assert_eq!(play.threads.len(), 2);
    // The switch interval gives it the GIL, and back.
    let second = Played::watches(&play.threads[1].member);
    play.take(Step::Block(0));
    assert!(play.go(1) && play.go(1));
    for has_gil in [&first, &second] {
        for one in [&first, &second] {
            one.store(Arc::ptr_eq(one, has_gil), Ordering::Relaxed);
        }
        play.now += LONG / 2;
        play.take(Step::Nudge);
    }
    play.now += 3 * LONG - PATIENCE;
    play.take(Step::Nudge);
    assert_eq!(play.threads.len(), 2);
    play.take(Step::Wait);
    play.take(Step::Nudge);
    assert_eq!(play.threads.len(), 3);
}

#[test]
fn one_that_waits_for_something_else_takes_no_turns() {
    let (mut play, _) = computing(THREADS, 2);
    play.now += LONG;
    play.take(Step::Nudge);
    let second = Played::watches(&play.threads[1].member);
    play.take(Step::Block(0));
    assert!(play.go(1) && play.go(1));
    second.store(false, Ordering::Relaxed);
    play.take(Step::Wait);
    play.take(Step::Nudge);
    play.now += LONG;
    play.take(Step::Nudge);
    assert_eq!(play.threads.len(), 3);
}

#[test]
fn the_longer_a_thread_computes_the_less_often_it_is_looked_at() {
    let looks = |threads, since| {
        let (play, _) = computing(threads, 3);
        play.queue.nudge(play.now + since).again
    };
    assert_eq!(looks(THREADS, PATIENCE), Some(3 * PATIENCE));
    assert_eq!(looks(THREADS, LONG / 2), Some(3 * LONG / 2 / LOOKS));
    assert_eq!(looks(THREADS, LONG), None, "another thread was sent");
    assert_eq!(looks(1, PATIENCE), None, "there is no other thread, and may be none");
}

#[test]
fn a_runner_gives_way_between_requests_to_one_that_has_stood_in_line_for_long() {
    for (waited, gives_way) in [(Duration::ZERO, false), (GIVE_WAY, true)] {
        let mut play = Play::with_a_blocked_runner();
        play.take(Step::Wait);
        play.take(Step::Nudge);
        assert!(play.go(1) && play.go(1));
        assert_eq!(play.threads.len(), 3, "the third stands in line");
        assert!(play.go(2) && !play.go(2), "and has no GIL");
        play.now += waited;
        assert!(play.go(1));
        let goes_on = matches!(play.threads[1].place, Place::Running(2));
        assert_eq!(goes_on, !gives_way);
        assert_eq!(play.go(2), gives_way);
    }
}
