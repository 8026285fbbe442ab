//! Which interpreter and which of its threads serve a request, and which requests none serves.

use crate::harness::{App, QUEUE, Request, THREADS, runtime};
use manifold::{Code, GroupName, Patience};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

#[test]
fn two_groups_have_an_interpreter_and_a_state_each() {
    let (a, b, main) = (App::in_group("a"), App::in_group("b"), App::in_group(""));
    let ids = [&a, &b, &main].map(|app| app.get("/interpreter"));
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
    let ids_again = [&a, &b, &main].map(|app| app.get("/interpreter"));
    assert_eq!(ids_again, ids);
    a.get("/hello");
    assert_eq!([&a, &b, &main].map(|app| app.get("/served")), ["3", "2", "2"]);
}

#[test]
fn four_requests_of_a_group_run_at_the_same_time() {
    let app = App::in_group("four");
    app.meet(4);
}

#[test]
fn a_group_gets_as_many_threads_as_it_may_have() {
    App::in_group("eight").meet_every_thread();
}

#[test]
fn a_request_that_was_given_up_before_it_began_is_never_run() {
    let app = App::in_group("given-up");
    let held = app.hold_every_thread();
    drop(app.request("/count"));
    let wanted = app.request("/count");
    for request in held {
        request.release().text();
    }
    wanted.finish(b"").text();
    app.meet_every_thread();
    assert_eq!(app.get("/counted"), "1");
}

#[test]
fn a_client_that_leaves_stops_the_iteration_and_close_is_called_once() {
    let app = App::in_group("left");
    let request = app.request("/endless");
    for _ in 0..3 {
        assert_eq!(request.block().len(), 1000);
    }
    drop(request);
    assert_eq!(app.get("/left"), "(1, 0)");
    app.meet_every_thread();
    assert_eq!(app.get("/left"), "(1, 0)");
}

#[test]
fn a_request_whose_client_leaves_while_it_reads_ends() {
    let app = App::in_group("left-reading");
    // Each of them raises OSError in the application, which ends its request and frees its thread.
    drop(app.hold_every_thread());
    app.meet_every_thread();
}

#[test]
fn a_full_queue_refuses_and_what_is_in_it_is_served() {
    let app = App::in_group("full");
    let held = app.hold_every_thread();
    let waiting: Vec<_> = (0..QUEUE).map(|_| app.request("/count")).collect();
    let refused = app.try_request("/count").err().expect("no room");
    assert_eq!(refused.code, Code::QueueFull);
    assert!(refused.to_string().contains("'full'"), "{refused}");
    // Only this group is full.
    assert_eq!(App::in_group("not-full").get("/hello"), "hello");
    for request in held {
        assert_eq!(request.release().text(), "b'x'");
    }
    for request in waiting {
        request.finish(b"").text();
    }
    assert_eq!(app.get("/counted"), QUEUE.to_string());
}

#[test]
fn a_nested_request_that_no_thread_is_free_for_fails_instead_of_waiting() {
    let app = App::in_group("nested");
    let held = app.hold_every_thread();
    let answered = app.nested_request("/count", Duration::from_millis(20)).finish(b"");
    assert_eq!(answered.code(), Code::NestedTooLong);
    // One thread is enough, and then there is no hurry.
    let mut held = held.into_iter();
    held.next().expect("a request").release().text();
    let patience = Duration::from_secs(60);
    assert_eq!(app.nested_request("/counted", patience).finish(b"").text(), "0");
    for request in held {
        request.release().text();
    }
}

#[test]
fn a_nested_request_that_has_begun_may_take_longer_than_it_may_wait() {
    const PATIENCE: Duration = Duration::from_millis(200);
    let app = App::in_group("nested-begun");
    app.get("/hello");
    // A busy machine may not begin it in time; then it fails, as it should.
    let begun = loop {
        let request = app.nested_request("/hold", PATIENCE);
        if request.asks() {
            break request;
        }
    };
    // The time of this one is over later than that of the first.
    let held: Vec<_> = (1..THREADS).map(|_| app.request("/hold")).collect();
    held.iter().for_each(Request::wait_until_it_asks);
    let answered = app.nested_request("/count", PATIENCE).finish(b"");
    assert_eq!(answered.code(), Code::NestedTooLong);
    assert_eq!(begun.release().text(), "b'x'");
    for request in held {
        request.release().text();
    }
}

#[test]
fn many_groups_serve_many_requests_and_mix_nothing_up() {
    let apps: Vec<_> = (0..3).map(|number| App::in_group(&format!("many-{number}"))).collect();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let app = &apps[number % apps.len()];
            scope.spawn(move || {
                for round in 0..100 {
                    let body = format!("{number} {round} ").repeat(round);
                    let answered = app.request("/echo").finish_in_pieces(body.as_bytes(), 100);
                    assert_eq!(answered.text(), body);
                    assert_eq!(app.get("/environ/mod_wsgi.application_group"), {
                        format!("'many-{}'", number % 3)
                    });
                }
            });
        }
    });
    let served = apps.iter().map(|app| app.get("/served").parse::<usize>().expect("a number"));
    assert_eq!(served.sum::<usize>(), 2 * 6 * 100);
}

#[test]
fn a_job_that_could_not_be_written_takes_no_room() {
    let app = App::in_group("unwritten");
    // More often than there is room for exchanges.
    for _ in 0..THREADS * 16 {
        let write = AssertUnwindSafe(|| {
            let group = GroupName::new(b"unwritten");
            runtime()
                .dispatch(&group, Patience::Endless, |_| resume_unwind(Box::new("a test's panic")))
        });
        assert!(catch_unwind(write).is_err());
    }
    assert_eq!(app.get("/served"), "0");
}
