//! One thread does to exchanges whatever can be done without waiting, in any order, and an oracle
//! says what must come of it.

use super::watchdog::Watchdog;
use super::{block, last, number, open};
use crate::exchange::{
    ApplicationEnd, Exchanges, Gone, IN_FLIGHT, Link, Message, Next, RequestEnd, Tagged,
};
use crate::{Answer, Level, LogEntry, Outcome, Reply, Value};
use proptest::prelude::*;
use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// How many exchanges there may be at once.
const LIMIT: usize = 4;

/// What can be done to an exchange, or to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Open,
    Start,
    Respond,
    End,
    Log,
    Ask,
    Answer,
    Next,
    CloneLink,
    LetGoOfClone,
    LetGoOfApplicationEnd,
    LetGoOfRequestEnd,
    Interrupt,
}

/// An act, and which of the exchanges (and of its links) it is done to.
#[derive(Clone, Copy, Debug)]
struct Step {
    act: Act,
    exchange: usize,
    link: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Act::*;
    let act = prop_oneof![
        8 => Just(Open),
        4 => Just(Start),
        12 => Just(Respond),
        2 => Just(End),
        8 => Just(Log),
        8 => Just(Ask),
        8 => Just(Answer),
        20 => Just(Next),
        4 => Just(CloneLink),
        4 => Just(LetGoOfClone),
        4 => Just(LetGoOfApplicationEnd),
        4 => Just(LetGoOfRequestEnd),
    ];
    // Nothing is the same after an interrupt, so there is at most one, and not often.
    let all = prop::collection::vec((act, 0..LIMIT, 0..4_usize), 0..200);
    let interrupt = prop_oneof![3 => Just(None), 1 => (0..200_usize).prop_map(Some)];
    (all, interrupt).prop_map(|(all, interrupt)| {
        let mut steps: Vec<_> =
            all.into_iter().map(|(act, exchange, link)| Step { act, exchange, link }).collect();
        if let Some(at) = interrupt {
            let interrupt = Step { act: Interrupt, exchange: 0, link: 0 };
            steps.insert(at.min(steps.len()), interrupt);
        }
        steps
    })
}

/// What the request end has yet to hear.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Block(u64),
    Last(u64),
    Ask(u64),
    Log(u64),
    Lost,
    Interrupt,
}

/// An exchange and what the oracle knows of it.
struct Known {
    number: u64,
    request: Option<RequestEnd>,
    application: Option<ApplicationEnd>,
    clones: Vec<Arc<Link>>,
    /// What is in the channel of replies while the request end is there.
    said: VecDeque<Said>,
    /// The answer that nobody has taken yet.
    answered: Option<u64>,
    started: bool,
    ended: bool,
}

/// All exchanges, and what was seen of those that are over.
struct Oracle {
    exchanges: Arc<Exchanges>,
    known: Vec<Known>,
    /// Counts everything that is said, so that no two things are equal.
    count: u64,
    newest_generation: u64,
    /// Every slot that was ever seen, by its address.
    slots: HashSet<usize>,
    most_at_once: usize,
    interrupted: bool,
}

impl Known {
    /// Some link that has not been let go of.
    fn link(&self, choice: usize) -> Option<&Arc<Link>> {
        let own = self.application.as_ref().map(ApplicationEnd::link);
        let mut links = own.into_iter().chain(&self.clones);
        let length = links.clone().count();
        links.nth(choice.checked_rem(length)?)
    }

    fn has_room(&self) -> bool {
        self.said.len() < IN_FLIGHT
    }

    fn slot(&self) -> usize {
        let hold = match (&self.request, self.link(0)) {
            (Some(request), _) => &request.hold,
            (None, Some(link)) => &link.hold,
            (None, None) => unreachable!("an exchange that nobody holds is forgotten"),
        };
        Arc::as_ptr(&hold.slot).addr()
    }

    /// Whether letting go of this many links makes the request end hear that the exchange is lost.
    fn loses(&self) -> bool {
        let links = usize::from(self.application.is_some()) + self.clones.len();
        links == 1 && !self.ended && self.request.is_some()
    }
}

impl Oracle {
    fn new() -> Self {
        Self {
            exchanges: Exchanges::new(LIMIT),
            known: Vec::new(),
            count: 0,
            newest_generation: 0,
            slots: HashSet::new(),
            most_at_once: 0,
            interrupted: false,
        }
    }

    /// Does one step, unless it cannot be done or would wait, and checks what came of it.
    fn step(&mut self, step: Step) {
        self.count += 1;
        match step.act {
            Act::Open => self.open(),
            Act::Interrupt => self.interrupt(),
            _ if self.known.is_empty() => {}
            _ => {
                let index = step.exchange % self.known.len();
                let known = &mut self.known[index];
                known.act(step.act, step.link, self.count, self.interrupted);
                if known.request.is_none() && known.link(0).is_none() {
                    self.known.remove(index);
                }
            }
        }
        self.check();
    }

    fn open(&mut self) {
        let in_use: Vec<_> = self.known.iter().map(Known::slot).collect();
        let Some((request, application)) = open(&self.exchanges, self.count) else {
            assert_eq!(self.known.len(), LIMIT, "refused below the limit");
            return;
        };
        assert!(self.known.len() < LIMIT, "opened beyond the limit");
        assert!(request.hold.generation > self.newest_generation, "a generation came again");
        self.newest_generation = request.hold.generation;
        let known = Known {
            number: number(&application),
            request: Some(request),
            application: Some(application),
            clones: Vec::new(),
            said: VecDeque::new(),
            answered: None,
            started: false,
            ended: false,
        };
        assert_eq!(known.number, self.count, "the job of another exchange");
        assert!(!in_use.contains(&known.slot()), "a slot that has a holder was used again");
        self.slots.insert(known.slot());
        self.known.push(known);
        self.most_at_once = self.most_at_once.max(self.known.len());
    }

    fn interrupt(&mut self) {
        self.exchanges.interrupt();
        self.interrupted = true;
        for known in &mut self.known {
            if known.request.is_some() && known.has_room() {
                known.said.push_back(Said::Interrupt);
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.exchanges.live(), self.known.len());
        assert_eq!(self.exchanges.interrupted(), self.interrupted);
        assert_eq!(self.slots.len(), self.most_at_once, "a slot was made while one was spare");
        for known in &self.known {
            if let Some(request) = &known.request {
                assert_eq!(request.started(), known.started);
            }
            if let Some(link) = known.link(0) {
                assert_eq!(link.request_gone(), known.request.is_none());
            }
        }
    }
}

impl Known {
    fn act(&mut self, act: Act, choice: usize, count: u64, interrupted: bool) {
        match act {
            Act::Next => return self.next(interrupted),
            Act::Answer => return self.answer(count),
            Act::LetGoOfRequestEnd => {
                self.request = None;
                self.said.clear();
                return;
            }
            Act::LetGoOfApplicationEnd => return self.let_go_of_application_end(),
            Act::LetGoOfClone => return self.let_go_of_clone(choice),
            _ => {}
        }
        let Some(link) = self.link(choice).cloned() else {
            return;
        };
        // A thread of the application with nobody to talk to is told so, and never waits.
        let gone = self.request.is_none();
        match act {
            Act::Start => {
                link.start();
                self.started = true;
            }
            Act::Respond if gone => {
                assert_eq!(link.respond(block(bytes(self.number, count))), Err(Gone));
            }
            Act::Respond if self.has_room() => {
                assert_eq!(link.respond(block(bytes(self.number, count))), Ok(()));
                self.said.push_back(Said::Block(count));
            }
            Act::End if gone || self.has_room() => {
                let mut part = last();
                part.body = bytes(self.number, count);
                assert_eq!(link.respond(part).is_err(), gone);
                self.ended = true;
                self.said.extend((!gone).then_some(Said::Last(count)));
            }
            Act::Log => {
                let entry = LogEntry::new(Level::Info, text(self.number, count));
                match link.log(entry) {
                    Ok(()) => {
                        assert!(!gone && self.has_room(), "a log entry went nowhere");
                        self.said.push_back(Said::Log(count));
                    }
                    Err(entry) => {
                        assert!(gone || !self.has_room(), "a log entry was refused");
                        assert_eq!(entry.text, text(self.number, count));
                    }
                }
            }
            Act::Ask if gone => {
                assert_eq!(link.ask(self.number as usize, count as usize), Err(Gone));
            }
            // Only with an answer that is there already is there no waiting.
            Act::Ask if self.has_room() && self.answered.is_some() => {
                let asked = link.ask(self.number as usize, count as usize);
                let answer = self.answered.take().expect("an answer");
                let bytes = bytes(self.number, answer);
                assert_eq!(asked, Ok(Answer::Body { bytes, last: true }));
                self.said.push_back(Said::Ask(count));
            }
            Act::CloneLink => self.clones.push(link),
            _ => {}
        }
    }

    fn next(&mut self, interrupted: bool) {
        let Some(request) = &self.request else { return };
        let next = request.next(Some(Duration::ZERO));
        if interrupted {
            assert!(matches!(next, Next::Interrupted), "{next:?}");
            return;
        }
        let heard = match next {
            Next::Timeout => None,
            Next::Lost => Some(Said::Lost),
            Next::Interrupted => panic!("nobody has interrupted it"),
            Next::Reply(other @ (Reply::AskVariable(_) | Reply::Returned(_))) => {
                panic!("no act says {other:?}")
            }
            Next::Reply(Reply::Ask { at_least, at_most }) => {
                assert_eq!(at_least as u64, self.number, "of another exchange");
                Some(Said::Ask(at_most as u64))
            }
            Next::Reply(Reply::Log(entry)) => {
                let (number, count) = entry.text.split_once(' ').expect("two numbers");
                assert_eq!(number, self.number.to_string(), "a line of another exchange");
                Some(Said::Log(count.parse().expect("a number")))
            }
            Next::Reply(Reply::Response(part)) => {
                let (number, count) = part.body.split_at(8);
                assert_eq!(number, self.number.to_le_bytes(), "of another exchange");
                let count = u64::from_le_bytes(count.try_into().expect("eight bytes"));
                Some(match part.end {
                    None => Said::Block(count),
                    Some(_) => Said::Last(count),
                })
            }
        };
        assert_eq!(heard, self.said.pop_front());
    }

    fn answer(&mut self, count: u64) {
        // The contract: one answer for each question, and a question is asked after the answer to
        // the one before it was taken.
        let (Some(request), None) = (&self.request, self.answered) else {
            return;
        };
        request.answer(Answer::Body { bytes: bytes(self.number, count), last: true });
        self.answered = Some(count);
    }

    fn let_go_of_application_end(&mut self) {
        // Saying that the exchange is lost waits for room.
        if self.application.is_some() && (!self.loses() || self.has_room()) {
            self.said.extend(self.loses().then_some(Said::Lost));
            self.application = None;
        }
    }

    fn let_go_of_clone(&mut self, choice: usize) {
        if !self.clones.is_empty() && (!self.loses() || self.has_room()) {
            self.said.extend(self.loses().then_some(Said::Lost));
            self.clones.swap_remove(choice % self.clones.len());
        }
    }
}

fn bytes(number: u64, count: u64) -> Vec<u8> {
    [number.to_le_bytes(), count.to_le_bytes()].concat()
}

fn text(number: u64, count: u64) -> String {
    format!("{number} {count}")
}

proptest! {
    #[test]
    fn an_exchange_hears_what_was_said_in_it_in_order_and_nothing_else(steps in steps()) {
        let _watchdog = Watchdog::start("exchanges, step by step");
        let mut oracle = Oracle::new();
        for step in steps {
            oracle.step(step);
        }
        // However many there were, letting go of all ends leaves nothing behind.
        oracle.known.clear();
        oracle.check();
        for slot in &oracle.exchanges.lock().spare {
            prop_assert!(slot.replies.receiver.is_empty() && slot.answers.receiver.is_empty());
        }
    }
}

/// A slot that was used by one exchange and is now used by another, with a message that the first
/// has left behind in each channel.
fn used_again() -> (Arc<Exchanges>, RequestEnd, ApplicationEnd) {
    let exchanges = Exchanges::new(1);
    let (request, application) = open(&exchanges, 1).expect("room for one");
    let slot = Arc::as_ptr(&request.hold.slot);
    let late = request.hold.generation;
    drop((application, request));
    let (request, application) = open(&exchanges, 2).expect("room for one again");
    assert_eq!(Arc::as_ptr(&request.hold.slot), slot);
    let reply = Tagged { generation: late, message: Message::Reply(Reply::Response(last())) };
    let answer = Tagged { generation: late, message: Some(Answer::Failed) };
    let sent = request.hold.slot.replies.sender.try_send(reply);
    sent.expect("room for a reply");
    let sent = request.hold.slot.answers.sender.try_send(answer);
    sent.expect("room for an answer");
    (exchanges, request, application)
}

#[test]
fn a_late_reply_of_an_older_generation_is_not_heard() {
    let (_exchanges, request, _application) = used_again();
    assert!(matches!(request.next(Some(Duration::ZERO)), Next::Timeout));
}

#[test]
fn a_late_answer_of_an_older_generation_is_not_taken() {
    let (_exchanges, request, application) = used_again();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| application.link().ask(1, 1));
        assert!(matches!(request.next(None), Next::Reply(Reply::Ask { .. })));
        while !request.hold.slot.answers.receiver.is_empty() {
            std::thread::yield_now();
        }
        drop(request);
        assert_eq!(asking.join().expect("no panic"), Err(Gone));
    });
}

#[test]
fn an_exchange_without_an_end_is_lost_and_one_with_an_end_is_not() {
    let exchanges = Exchanges::new(2);
    let (request, application) = open(&exchanges, 1).expect("room");
    drop(application);
    assert!(matches!(request.next(None), Next::Lost));
    let (request, application) = open(&exchanges, 2).expect("room");
    application.link().end(Outcome::Truncated);
    drop(application);
    let Next::Reply(Reply::Response(part)) = request.next(None) else {
        panic!("no end");
    };
    assert_eq!(part.end, Some(Outcome::Truncated));
    assert!(matches!(request.next(Some(Duration::ZERO)), Next::Timeout));
}

#[test]
fn a_question_about_a_variable_is_answered_and_what_was_returned_is_an_end() {
    let exchanges = Exchanges::new(1);
    let (request, application) = open(&exchanges, 1).expect("room");
    std::thread::scope(|scope| {
        let link = application.link();
        let asking = scope.spawn(|| link.ask_variable(b"name".to_vec()));
        let Next::Reply(Reply::AskVariable(name)) = request.next(None) else {
            panic!("no question");
        };
        assert_eq!(name, b"name");
        request.answer(Answer::Variable(Some(b"value".to_vec())));
        assert_eq!(asking.join().expect("no panic"), Ok(Some(b"value".to_vec())));
    });
    assert_eq!(application.link().conclude(Reply::Returned(vec![Value::None])), Ok(()));
    drop(application);
    let Next::Reply(Reply::Returned(values)) = request.next(None) else { panic!("no end") };
    assert_eq!(values, [Value::None]);
    assert!(matches!(request.next(Some(Duration::ZERO)), Next::Timeout));
}

#[test]
fn who_asks_about_a_variable_learns_that_the_request_end_has_gone() {
    let exchanges = Exchanges::new(1);
    let (request, application) = open(&exchanges, 1).expect("room");
    std::thread::scope(|scope| {
        let link = application.link();
        let asking = scope.spawn(|| link.ask_variable(b"name".to_vec()));
        assert!(matches!(request.next(None), Next::Reply(Reply::AskVariable(_))));
        drop(request);
        assert_eq!(asking.join().expect("no panic"), Err(Gone));
    });
    assert_eq!(application.link().conclude(Reply::Returned(Vec::new())), Err(Gone));
}

#[test]
fn a_request_end_learns_of_an_interrupt_before_and_after_it_was_opened() {
    let exchanges = Exchanges::new(2);
    let (request, _application) = open(&exchanges, 1).expect("room");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| request.next(None));
        exchanges.interrupt();
        assert!(matches!(waiting.join().expect("no panic"), Next::Interrupted));
    });
    let (request, _application) = open(&exchanges, 2).expect("room");
    assert!(matches!(request.next(None), Next::Interrupted));
}

#[test]
fn a_job_that_could_not_be_written_leaves_no_exchange_behind() {
    let exchanges = Exchanges::new(1);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        exchanges.open(|_| panic!("a test's panic, while a job is written"))
    }));
    assert!(panicked.is_err());
    assert_eq!(exchanges.live(), 0);
    assert!(open(&exchanges, 1).is_some());
}
