//! Every order in which a few threads can take the steps of an exchange, by loom. `model` says
//! what is real in them.

use super::{block, last, number, open};
use crate::exchange::{ApplicationEnd, Exchanges, Gone, Listener, Next, RequestEnd};
use crate::sync::Mutex;
use crate::{Answer, Level, LogEntry, Reply};
use loom::thread;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Opens an exchange at a limit of one, and checks that it is like new.
fn open_the_only_one(exchanges: &Arc<Exchanges>, wanted: u64) -> (RequestEnd, ApplicationEnd) {
    let (request, application) = open(exchanges, wanted).expect("the last one is over");
    check_it_is_new(&request, &application, wanted);
    (request, application)
}

fn check_it_is_new(request: &RequestEnd, application: &ApplicationEnd, wanted: u64) {
    assert_eq!(number(application), wanted);
    assert_eq!(request.hold.generation, wanted, "each has its own");
    assert!(!request.started());
    assert!(!application.link().request_gone());
    let slot = &request.hold.slot;
    assert!(slot.replies.receiver.is_empty() && slot.answers.receiver.is_empty());
}

/// After everything has been let go of: the slot is spare, empty and in order.
fn check_nothing_is_left(exchanges: &Arc<Exchanges>, opened: u64) {
    assert_eq!(exchanges.live(), 0);
    assert_eq!(exchanges.lock().spare.len(), 1);
    drop(open_the_only_one(exchanges, opened + 1));
}

#[test]
fn a_slot_is_used_again_only_after_both_ends_have_let_go() {
    loom::model(|| {
        let exchanges = Exchanges::new(1);
        let (request, application) = open_the_only_one(&exchanges, 1);
        let answering = thread::spawn(move || {
            application.link().start();
            // The request end may be gone: then nobody is told.
            let _ = application.link().respond(last());
        });
        drop(request);
        let mut opened = 1;
        if let Some((request, application)) = open(&exchanges, 2) {
            check_it_is_new(&request, &application, 2);
            opened = 2;
        }
        answering.join().unwrap();
        check_nothing_is_left(&exchanges, opened);
    });
}

#[test]
fn two_ends_that_let_go_at_once_give_the_slot_back_once() {
    loom::model(|| {
        let exchanges = Exchanges::new(2);
        let (request, application) = open_the_only_one(&exchanges, 1);
        let leaving = thread::spawn(move || drop(application));
        let opening = {
            let exchanges = Arc::clone(&exchanges);
            thread::spawn(move || {
                let (request, application) = open(&exchanges, 2).expect("room for two");
                check_it_is_new(&request, &application, 2);
                drop(application);
                // What the exchange before it has sent or left behind would show here.
                assert!(matches!(request.next(None), Next::Lost));
            })
        };
        drop(request);
        leaving.join().unwrap();
        opening.join().unwrap();
        assert_eq!(exchanges.live(), 0);
        assert!((1..=2).contains(&exchanges.lock().spare.len()));
        drop(open_the_only_one(&exchanges, 3));
    });
}

#[test]
fn a_request_end_that_leaves_frees_an_application_that_waits_for_room() {
    loom::model(|| {
        let exchanges = Exchanges::new(1);
        let (request, application) = open_the_only_one(&exchanges, 1);
        let answering = thread::spawn(move || {
            let link = application.link();
            let sent = [0, 1].map(|byte| link.respond(block(vec![byte])));
            assert!(sent != [Err(Gone), Ok(())], "it went and came back");
        });
        drop(request);
        answering.join().unwrap();
        check_nothing_is_left(&exchanges, 1);
    });
}

#[test]
fn a_request_end_that_leaves_frees_an_application_that_waits_for_an_answer() {
    loom::model(|| {
        let exchanges = Exchanges::new(1);
        let (request, application) = open_the_only_one(&exchanges, 1);
        let asking = thread::spawn(move || assert_eq!(application.link().ask(1, 1), Err(Gone)));
        drop(request);
        asking.join().unwrap();
        check_nothing_is_left(&exchanges, 1);
    });
}

#[test]
fn a_request_end_that_leaves_frees_an_application_whose_other_thread_logs() {
    loom::model(|| {
        let exchanges = Exchanges::new(1);
        let (request, application) = open_the_only_one(&exchanges, 1);
        let link = Arc::clone(application.link());
        let logging = thread::spawn(move || {
            let entry = LogEntry::new(Level::Info, "a line".to_owned());
            drop(link.log(entry));
        });
        let answering = {
            let link = Arc::clone(application.link());
            thread::spawn(move || {
                let _ = link.respond(block(Vec::new()));
            })
        };
        drop(request);
        logging.join().unwrap();
        answering.join().unwrap();
        drop(application);
        check_nothing_is_left(&exchanges, 1);
    });
}

#[test]
fn a_request_end_that_leaves_frees_an_application_while_the_process_is_interrupted() {
    loom::model(|| {
        let exchanges = Exchanges::new(1);
        let (request, application) = open_the_only_one(&exchanges, 1);
        let answering = thread::spawn(move || {
            let _ = application.link().respond(last());
        });
        let interrupting = {
            let exchanges = Arc::clone(&exchanges);
            thread::spawn(move || exchanges.interrupt())
        };
        drop(request);
        interrupting.join().unwrap();
        answering.join().unwrap();
        check_nothing_is_left(&exchanges, 1);
    });
}

#[test]
fn a_question_gets_its_answer_and_an_end_is_the_last_thing_heard() {
    loom::model(|| {
        let exchanges = Exchanges::new(1);
        let (request, application) = open_the_only_one(&exchanges, 1);
        let answering = thread::spawn(move || {
            application.link().start();
            let answer = application.link().ask(2, 3).expect("it is there");
            let Answer::Body { bytes, last: true } = answer else {
                panic!("{answer:?}");
            };
            application.link().respond(block(bytes)).expect("so it is");
            // It may have read the end and be gone when this returns.
            let _ = application.link().respond(last());
        });
        let Next::Reply(Reply::Ask { at_least: 2, at_most: 3 }) = request.next(None) else {
            panic!("not the question");
        };
        assert!(request.started());
        request.answer(Answer::Body { bytes: vec![7], last: true });
        let Next::Reply(Reply::Response(part)) = request.next(None) else {
            panic!("not the block");
        };
        assert_eq!((part.body, part.end), (vec![7], None));
        let Next::Reply(Reply::Response(part)) = request.next(None) else {
            panic!("not the end");
        };
        assert!(part.end.is_some());
        drop(request);
        answering.join().unwrap();
        check_nothing_is_left(&exchanges, 1);
    });
}

#[test]
fn an_application_end_that_goes_without_an_end_is_missed_after_all_it_said() {
    loom::model(|| {
        let exchanges = Exchanges::new(1);
        let (request, application) = open_the_only_one(&exchanges, 1);
        let leaving = thread::spawn(move || {
            application.link().respond(block(vec![1])).expect("there");
            drop(application);
        });
        let Next::Reply(Reply::Response(part)) = request.next(None) else {
            panic!("not the block");
        };
        assert_eq!((part.body, part.end), (vec![1], None));
        assert!(matches!(request.next(None), Next::Lost));
        drop(request);
        leaving.join().unwrap();
        check_nothing_is_left(&exchanges, 1);
    });
}

#[test]
fn an_interrupt_wakes_a_request_end_that_waits_or_is_about_to() {
    loom::model(|| {
        let exchanges = Exchanges::new(1);
        let (request, application) = open_the_only_one(&exchanges, 1);
        let answering = thread::spawn(move || {
            // Fills the channel before, after, or instead of the interrupt.
            let _ = application.link().respond(block(Vec::new()));
            application
        });
        let interrupting = {
            let exchanges = Arc::clone(&exchanges);
            thread::spawn(move || exchanges.interrupt())
        };
        while !matches!(request.next(None), Next::Interrupted) {}
        drop(request);
        interrupting.join().unwrap();
        drop(answering.join().unwrap());
        check_nothing_is_left(&exchanges, 1);
    });
}

#[test]
fn an_interrupt_leaves_nothing_in_a_slot_that_is_given_back() {
    loom::model(|| {
        let exchanges = Exchanges::new(1);
        let (request, application) = open_the_only_one(&exchanges, 1);
        let interrupting = {
            let exchanges = Arc::clone(&exchanges);
            thread::spawn(move || exchanges.interrupt())
        };
        let leaving = thread::spawn(move || drop(application));
        drop(request);
        if let Some((request, application)) = open(&exchanges, 2) {
            let next = request.next(Some(Duration::ZERO));
            assert!(matches!(next, Next::Timeout | Next::Interrupted));
            // In this order: one thread that holds both must not wait for itself.
            drop(request);
            drop(application);
        }
        interrupting.join().unwrap();
        leaving.join().unwrap();
        assert_eq!(exchanges.live(), 0);
        for slot in &exchanges.lock().spare {
            assert!(slot.replies.receiver.is_empty() && slot.answers.receiver.is_empty());
        }
    });
}

#[test]
fn a_part_that_finds_no_room_comes_back_and_one_that_does_arrives_once() {
    loom::model(|| {
        let exchanges = Exchanges::new(1);
        let (request, application) = open_the_only_one(&exchanges, 1);
        let answering = thread::spawn(move || {
            let link = application.link();
            let sent = [1, 2].map(|byte| link.respond_within(block(vec![byte]), Duration::ZERO));
            link.end(crate::Outcome::Complete);
            sent.map(|sent| sent.expect("the request end stays").is_none())
        });
        let mut heard = Vec::new();
        let end = loop {
            match request.next(None) {
                Next::Reply(Reply::Response(part)) if part.end.is_some() => break part.end,
                Next::Reply(Reply::Response(part)) => heard.extend(part.body),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(end, last().end);
        let sent = answering.join().unwrap();
        let wanted: Vec<u8> =
            [1, 2].into_iter().zip(sent).filter(|it| it.1).map(|it| it.0).collect();
        assert_eq!(heard, wanted);
        drop(request);
        check_nothing_is_left(&exchanges, 1);
    });
}

/// A request end that nobody waits at, as a worker process has it: it is there only after the job was
/// queued, and whoever has sent something looks.
#[derive(Debug, Default)]
struct Desk {
    end: Mutex<Option<RequestEnd>>,
    heard: Mutex<Vec<u8>>,
}

impl Listener for Desk {
    fn heard(&self) {
        let end = self.end.lock().unwrap();
        let Some(request) = &*end else { return };
        while let Next::Reply(Reply::Response(part)) = request.try_next() {
            self.heard.lock().unwrap().push(part.body.first().copied().unwrap_or(0));
        }
    }
}

#[test]
fn who_listens_hears_all_that_is_said_in_its_order() {
    loom::model(|| {
        let exchanges = Exchanges::new(1);
        let desk = Arc::new(Desk::default());
        let listener = Arc::downgrade(&desk) as Weak<dyn Listener>;
        let opened = exchanges.open_with(Some(listener), |_| ());
        let (request, application) = opened.expect("there is room");
        let answering = thread::spawn(move || {
            application.link().respond(block(vec![1])).expect("somebody listens");
            application.link().respond(last()).expect("somebody listens");
        });
        *desk.end.lock().unwrap() = Some(request);
        desk.heard();
        answering.join().unwrap();
        assert_eq!(*desk.heard.lock().unwrap(), [1, 0]);
        drop(desk);
        check_nothing_is_left(&exchanges, 1);
    });
}
