//! Exchanges under three kinds of test: against an oracle, step by step (`laws`); under real
//! threads (`stress`); and in every order of steps that a few threads can take (`orders`, run by
//! `scripts/loom`).

#[cfg(not(loom))]
mod laws;
#[cfg(loom)]
mod orders;
#[cfg(not(loom))]
mod stress;
#[cfg(not(loom))]
mod watchdog;

use super::{ApplicationEnd, Exchanges, RequestEnd};
use crate::{Outcome, Part};
use std::sync::Arc;

/// Opens an exchange whose job carries a number, by which both ends can be told from others.
fn open(exchanges: &Arc<Exchanges>, number: u64) -> Option<(RequestEnd, ApplicationEnd)> {
    exchanges.open(|job| {
        assert_eq!(job.variables.iter().len(), 0, "a job of an earlier exchange");
        job.variables.push(b"NUMBER", &number.to_le_bytes());
    })
}

/// The number that [`open`] gave to this exchange.
fn number(application: &ApplicationEnd) -> u64 {
    let number = application.job().variables.get(b"NUMBER");
    u64::from_le_bytes(number.and_then(|n| n.try_into().ok()).expect("a number"))
}

/// A block of a response.
fn block(body: Vec<u8>) -> Part {
    Part { body, ..Part::default() }
}

#[cfg(not(loom))]
#[test]
fn who_waits_for_a_job_that_waits_again_learns_of_it() {
    let exchanges = Exchanges::new(1);
    let (request, application) = open(&exchanges, 1).expect("there is room");
    application.start();
    assert!(request.started());
    application.wait_again();
    assert!(!request.started());
    assert!(matches!(request.next(None), super::Next::Timeout));
}

/// Counts what it was told, and takes what there is, as a server of many exchanges does.
#[cfg(not(loom))]
#[derive(Debug, Default)]
struct Ear(std::sync::atomic::AtomicUsize);

#[cfg(not(loom))]
impl super::Listener for Ear {
    fn heard(&self) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(not(loom))]
#[test]
fn who_listens_is_told_whatever_is_said() {
    use crate::{Level, LogEntry, Reply};
    use std::time::Duration;
    let exchanges = Exchanges::new(1);
    let ear = Arc::new(Ear::default());
    type Say = fn(&Arc<super::Link>);
    let says: [Say; 7] = [
        |link| link.respond(block(vec![1])).expect("somebody hears it"),
        |link| assert!(matches!(link.respond_within(block(vec![2]), Duration::ZERO), Ok(None))),
        |link| link.log(LogEntry::new(Level::Error, "now")).expect("there is room"),
        |link| link.log_waiting(LogEntry::new(Level::Error, "later")),
        |link| link.end(Outcome::Complete),
        |link| link.conclude(Reply::Response(last())).expect("somebody hears it"),
        |link| assert!(link.conclude_at_once(Reply::Response(last())).is_none()),
    ];
    for say in says {
        let told = ear.0.load(std::sync::atomic::Ordering::SeqCst);
        let weak = Arc::downgrade(&ear) as std::sync::Weak<dyn super::Listener>;
        let opened = exchanges.open_with(Some(weak), |_| ());
        let (request, application) = opened.expect("there is room");
        say(application.link());
        assert_eq!(ear.0.load(std::sync::atomic::Ordering::SeqCst), told + 1);
        assert!(matches!(request.try_next(), super::Next::Reply(_)));
        // What has not said how it ended is lost, and that is said as well.
        drop(application);
    }
    // Of the four that had not ended: the loss.
    assert_eq!(ear.0.load(std::sync::atomic::Ordering::SeqCst), 7 + 4);
}

/// The last part of a response.
fn last() -> Part {
    Part { end: Some(Outcome::Complete), ..Part::default() }
}
