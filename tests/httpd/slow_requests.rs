//! WSGISlowRequests: a request that takes long is reported while it runs, once, and when it ends.

use crate::harness::{Conf, Request, Server};

fn conf(seconds: &str) -> Conf {
    Conf::new(&format!(
        "WSGISlowRequests {seconds}\nWSGIHandlerScript slow ${{APPS}}/slow.wsgi application-group=slow\n\
         WSGIHandlerScript busy ${{APPS}}/busy.wsgi application-group=busy\n\
         <Location /slow>\nSetHandler slow\n</Location>\n\
         <Location /busy>\nSetHandler busy\n</Location>"
    ))
}

const REPORT: [&str; 3] = [":warn]", "the slow request", " runs for "];

#[test]
fn a_slow_request_is_reported_once_with_its_stack_and_when_it_ends() {
    let server = Server::start(conf("0.1"));
    let gate = server.gate("gate");
    let mut client = server.client();
    client.send_head(&Request::get("/slow/report?token=secret"));
    gate.held();
    let line = server.log().wait_for(&REPORT);
    assert!(line.contains("'/slow/report'"), "the path, without its query: {line}");
    assert!(line.contains("slow.wsgi'") && line.contains("'slow'"), "{line}");
    assert!(line.contains("[client 127.0.0.1"), "it is about a request: {line}");
    let stack = server.log().wait_for(&[":warn]", "in wait_at_the_gate"]);
    assert!(stack.contains("slow.wsgi"), "{stack}");
    server.log().wait_for(&[":warn]", "os.read(gate, 1)"]);
    // Another request becomes slow meanwhile and is reported; the first is not, once more.
    let mut second = server.client();
    second.send_head(&Request::get("/slow/second"));
    server.log().wait_for_count(&REPORT, 2);
    gate.open();
    client.read("GET").expect(200, "done");
    second.read("GET").expect(200, "done");
    let ends = server.log().wait_for_count(&[":warn]", "the slow request", "has ended, after"], 2);
    assert!(ends.iter().any(|line| line.contains("'/slow/report'")), "{ends:?}");
    assert_eq!(server.log().lines_with(&REPORT).len(), 2);
    assert!(server.log().lines_with(&["secret"]).is_empty());
    server.stop();
}

#[test]
fn requests_that_are_not_slow_leave_no_line() {
    let server = Server::start(conf("1000"));
    let gate = server.gate("gate");
    for _ in 0..200 {
        server.get("/slow/fast").expect(200, "done");
    }
    drop(gate);
    assert!(server.log().lines_with(&["slow request"]).is_empty());
}

#[test]
fn a_gil_that_is_not_let_go_is_named_and_other_interpreters_are_still_seen() {
    let server = Server::start(conf("0.1"));
    let (flags, gate) = (server.flags(), server.gate("gate"));
    let mut busy = server.client();
    busy.send_head(&Request::get("/busy"));
    flags.begun();
    let line = server.log().wait_for(&[":warn]", "'/busy'", " runs for "]);
    assert!(line.contains("native code"), "{line}");
    // The looker still waits for that GIL; that holds up nobody else.
    let mut slow = server.client();
    slow.send_head(&Request::get("/slow/x"));
    server.log().wait_for(&[":warn]", "in wait_at_the_gate"]);
    flags.finish();
    gate.open();
    busy.read("GET").expect(200, "done computing");
    slow.read("GET").expect(200, "done");
    server.log().wait_for_count(&["has ended, after"], 2);
    server.stop();
}

#[test]
fn a_stop_with_a_slow_request_and_a_held_gil_goes_as_without() {
    let server = Server::start(conf("0.1"));
    let flags = server.flags();
    let mut busy = server.client();
    busy.send_head(&Request::get("/busy"));
    flags.begun();
    server.log().wait_for(&[":warn]", "'/busy'", "native code"]);
    server.begin_stop();
    server.ended();
}

#[test]
fn zero_seconds_report_what_runs_when_it_is_looked() {
    let server = Server::start(conf("0"));
    let gate = server.gate("gate");
    let mut client = server.client();
    client.send_head(&Request::get("/slow/x"));
    gate.held();
    server.log().wait_for(&REPORT);
    gate.open();
    client.read("GET").expect(200, "done");
}
