//! The request thread's side of a request that was handed to an application group.
#![forbid(unsafe_code)]

use crate::exchange::{Next, RequestEnd};
use crate::group::Group;
use crate::queue::{PATIENCE, in_turn};
use crate::status::Counter;
use crate::{Answer, Code, GroupName, LogEntry, Refusal, Reply, Store};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a request looks at least whether its job still lies in the queue: after [`PATIENCE`] for each
/// that waits, so that they look in turn, then after twice the time, and so on, up to this. While an
/// application computes, which may end at any moment, the queue says when.
const LONGEST_PATIENCE: Duration = Duration::from_millis(250);

/// A request that an application group has taken. Dropping it tells the application that nobody
/// listens any more.
#[derive(Debug)]
pub struct Conversation {
    end: RequestEnd,
    group: Arc<Group>,
    /// When a job that no thread has taken fails, and why so soon.
    give_up: Option<(Instant, Patience)>,
    /// When the request has taken too long, and how long it may take.
    deadline: Option<(Instant, Duration)>,
    /// After which time without an answer it is looked whether the job still lies in the queue.
    patience: Cell<Duration>,
}

/// How long a job may wait for a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As long as it takes.
    Endless,
    /// So long, since the output of another request on the same thread waits for this one, which may
    /// hold the only thread there is.
    Nested(Duration),
    /// So long, which is left of the time that a request may wait in all.
    Queue(Duration, Duration),
}

impl Patience {
    fn limit(self) -> Option<Duration> {
        match self {
            Self::Endless => None,
            Self::Nested(limit) | Self::Queue(limit, _) => Some(limit),
        }
    }
}

/// What comes next in a conversation.
#[derive(Debug)]
pub enum Event {
    /// The application says something.
    Reply(Reply),
    /// The request cannot be answered by the application any more.
    Failed(Refusal),
}

impl Conversation {
    pub(crate) fn new(
        end: RequestEnd,
        group: Arc<Group>,
        patience: Patience,
        deadline: Option<(Instant, Duration)>,
        waiting: usize,
    ) -> Self {
        let give_up = patience.limit().map(|limit| (Instant::now() + limit, patience));
        let patience = in_turn(PATIENCE, waiting).min(LONGEST_PATIENCE);
        Self { end, group, give_up, deadline, patience: Cell::new(patience) }
    }

    /// After which time somebody should look after it, where nothing comes.
    pub(crate) fn patience(&self) -> Duration {
        self.patience.get()
    }

    fn wait(&self, limit: Option<Instant>) -> Option<Event> {
        loop {
            let until = |limit: Instant| limit.saturating_duration_since(Instant::now());
            let patience = self.patience.get();
            let left = limit.map(until);
            let in_time = self.deadline.map(|(deadline, _)| until(deadline));
            let patience = (!self.end.started()).then_some(patience);
            let next = self.end.next(left.into_iter().chain(in_time).chain(patience).min());
            if let Some(event) = self.event(next) {
                return Some(event);
            }
            let now = Instant::now();
            if let Err(refusal) = self.look(now) {
                return Some(Event::Failed(refusal));
            }
            if limit.is_some_and(|limit| now >= limit) {
                return None;
            }
        }
    }

    /// What has come already.
    pub(crate) fn try_next(&self) -> Option<Event> {
        self.event(self.end.try_next())
    }

    fn event(&self, next: Next) -> Option<Event> {
        match next {
            Next::Reply(reply) => Some(Event::Reply(reply)),
            Next::Timeout => None,
            Next::Lost => Some(Event::Failed(Refusal::new(
                Code::Panic,
                format!("the request was lost in application group '{}'", self.group.name()),
            ))),
            Next::Interrupted => Some(Event::Failed(Refusal::new(
                Code::Stopping,
                "the process stops before the application has answered",
            ))),
        }
    }

    /// Looks after the job's times, while nothing comes: fails what has taken too long, and has a job
    /// taken that waits. Says when that is to be done again.
    pub(crate) fn look(&self, now: Instant) -> Result<Instant, Refusal> {
        if self.deadline.is_some_and(|(deadline, _)| now >= deadline) {
            self.group.counters().add(Counter::Timeouts, 1);
            return Err(self.too_long());
        }
        let next = |patience: Duration| {
            let deadline = self.deadline.map(|(deadline, _)| deadline);
            deadline.into_iter().fold(now + patience, Instant::min)
        };
        if self.end.started() {
            // It may have to wait again.
            return Ok(next(LONGEST_PATIENCE));
        }
        if let Some((limit, patience)) = self.give_up
            && now >= limit
        {
            self.group.counters().add(Counter::Refused, 1);
            return Err(self.not_started(patience));
        }
        let patience = self.group.nudge().unwrap_or(self.patience.get() * 2).min(LONGEST_PATIENCE);
        self.patience.set(patience);
        Ok(next(patience))
    }

    fn too_long(&self) -> Refusal {
        let seconds = self.deadline.map_or(0.0, |(_, limit)| limit.as_secs_f64());
        let what = match self.end.started() {
            true => "its application has not answered in time",
            false => "no thread became free for it in time",
        };
        Refusal::new(
            Code::RequestTimeout,
            format!(
                "the request in application group '{}' took longer than WSGIRequestTimeout or request-timeout allows \
                 ({seconds} s): {what}",
                self.group.name()
            ),
        )
    }

    fn not_started(&self, patience: Patience) -> Refusal {
        let group = self.group.name();
        if let Patience::Queue(_, limit) = patience {
            return queued_too_long(group, limit);
        }
        Refusal::new(
            Code::NestedTooLong,
            format!(
                "no thread of application group '{group}' became free for this request, which the \
                 output of another one waits for; raise WSGIInterpreterThreads, or give the inner \
                 request an application group of its own"
            ),
        )
    }
}

/// No thread has taken a request within the time that it may wait.
pub(crate) fn queued_too_long(group: &GroupName, limit: Duration) -> Refusal {
    Refusal::new(
        Code::QueueTimeout,
        format!(
            "no thread of application group '{group}' became free for the request within \
             queue-timeout ({} s); raise threads=, processes= or replicas= of its process group",
            limit.as_secs_f64()
        ),
    )
}

/// The application at the other end of a request, wherever it runs.
pub trait Peer {
    /// Waits for what comes next.
    fn next(&self) -> Event;

    /// Waits for what comes next, for a while; `None` where nothing has come.
    fn next_within(&self, limit: Duration) -> Option<Event>;

    /// Answers [`Reply::Ask`] or [`Reply::AskVariable`].
    fn answer(&self, answer: Answer);

    /// What the application has logged by now and was not yet heard. Anything else that it has said
    /// is dropped, so this is for the end.
    fn logged(&self) -> Vec<LogEntry>;

    /// What responses of this process keep for slow clients.
    fn store(&self) -> &Arc<Store>;
}

impl Peer for Conversation {
    fn next(&self) -> Event {
        self.wait(None).expect("it waits for ever")
    }

    fn next_within(&self, limit: Duration) -> Option<Event> {
        self.wait(Some(Instant::now() + limit))
    }

    fn answer(&self, answer: Answer) {
        self.end.answer(answer);
    }

    fn logged(&self) -> Vec<LogEntry> {
        self.end.logged().collect()
    }

    fn store(&self) -> &Arc<Store> {
        self.end.store()
    }
}
