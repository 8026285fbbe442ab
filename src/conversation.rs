//! The request thread's side of a request that was handed to an application group.
#![forbid(unsafe_code)]

use crate::exchange::{Next, RequestEnd};
use crate::group::Group;
use crate::queue::PATIENCE;
use crate::{Answer, Code, LogEntry, Refusal, Reply, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a request looks at least whether its job still lies in the queue: after [`PATIENCE`], then
/// after twice the time, and so on, up to this.
const LONGEST_PATIENCE: Duration = Duration::from_millis(250);

/// A request that an application group has taken. Dropping it tells the application that nobody
/// listens any more.
#[derive(Debug)]
pub struct Conversation {
    end: RequestEnd,
    group: Arc<Group>,
    /// When a job that no thread has taken fails; for requests nested in another one.
    give_up: Option<Instant>,
    /// When the request has taken too long, and how long it may take.
    deadline: Option<(Instant, Duration)>,
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
        patience: Option<Duration>,
        deadline: Option<(Instant, Duration)>,
    ) -> Self {
        let give_up = patience.map(|patience| Instant::now() + patience);
        Self { end, group, give_up, deadline }
    }

    /// Waits for what comes next.
    pub fn next(&self) -> Event {
        self.wait(None).expect("it waits for ever")
    }

    /// Waits for what comes next, for a while; `None` where nothing has come.
    pub fn next_within(&self, limit: Duration) -> Option<Event> {
        self.wait(Some(Instant::now() + limit))
    }

    fn wait(&self, limit: Option<Instant>) -> Option<Event> {
        let mut patience = PATIENCE;
        let event = loop {
            let until = |limit: Instant| limit.saturating_duration_since(Instant::now());
            let left = limit.map(until);
            let in_time = self.deadline.map(|(deadline, _)| until(deadline));
            let patience_now = (!self.end.started()).then_some(patience);
            match self.end.next(left.into_iter().chain(in_time).chain(patience_now).min()) {
                Next::Reply(reply) => break Event::Reply(reply),
                Next::Timeout if in_time.is_some_and(|left| left.is_zero()) => {
                    break Event::Failed(self.too_long());
                }
                Next::Timeout if left.is_some_and(|left| left.is_zero()) => return None,
                Next::Timeout if self.end.started() => {}
                Next::Timeout => {
                    if self.give_up.is_some_and(|deadline| Instant::now() >= deadline) {
                        break Event::Failed(self.nested_too_long());
                    }
                    self.group.nudge();
                    patience = LONGEST_PATIENCE.min(patience * 2);
                }
                Next::Lost => {
                    break Event::Failed(Refusal::new(
                        Code::Panic,
                        format!(
                            "the request was lost in application group '{}'",
                            self.group.name()
                        ),
                    ));
                }
                Next::Interrupted => {
                    break Event::Failed(Refusal::new(
                        Code::Stopping,
                        "the process stops before the application has answered",
                    ));
                }
            }
        };
        Some(event)
    }

    /// What the application has logged by now and was not yet heard. Anything else that it has said is
    /// dropped, so this is for the end.
    pub fn logged(&self) -> impl Iterator<Item = LogEntry> {
        self.end.logged()
    }

    /// What responses of this process keep for slow clients.
    pub fn store(&self) -> &Arc<Store> {
        self.end.store()
    }

    /// Answers [`Reply::Ask`] or [`Reply::AskVariable`].
    pub fn answer(&self, answer: Answer) {
        self.end.answer(answer);
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
                "the request in application group '{}' took longer than WSGIRequestTimeout allows \
                 ({seconds} s): {what}",
                self.group.name()
            ),
        )
    }

    fn nested_too_long(&self) -> Refusal {
        Refusal::new(
            Code::NestedTooLong,
            format!(
                "no thread of application group '{}' became free for this request, which the \
                 output of another one waits for; raise WSGIInterpreterThreads, or give the inner \
                 request an application group of its own",
                self.group.name()
            ),
        )
    }
}
