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

/// The last part of a response.
fn last() -> Part {
    Part { end: Some(Outcome::Complete), ..Part::default() }
}
