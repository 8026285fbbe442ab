//! Clients that go away in the middle of something.

use crate::harness::{Client, Request, Response, Server, eventually};

fn report(server: &Server) -> Response {
    server.get("/report")
}

/// Waits until all of `count` opened responses have been closed, and checks that each was once.
fn closed_once(server: &Server, count: &str) -> Response {
    let answer = eventually("close() is called", || {
        let answer = report(server);
        (answer.fact("closed") == count).then_some(answer)
    });
    assert_eq!(answer.fact("opened"), count);
    answer
}

fn leaving_after_the_first_bytes(mut client: Client, request: &Request, body: &[u8]) {
    client.send_head(request);
    client.write(body);
    assert_eq!(client.read_head().status, 200);
    client.read_bytes(20);
}

#[test]
fn a_client_that_leaves_a_download_ends_it_with_one_close() {
    let server = Server::serving("leaving.wsgi");
    leaving_after_the_first_bytes(server.client(), &Request::get("/download"), b"");
    let counts = closed_once(&server, "1");
    assert_eq!(counts.fact("ended"), "0", "the iteration stopped before its end");
    assert_eq!(report(&server).fact("closed"), "1");
}

#[test]
fn many_clients_that_leave_are_closed_once_each() {
    let server = Server::serving("leaving.wsgi");
    crate::harness::at_once(6, |_| {
        for _ in 0..5 {
            leaving_after_the_first_bytes(server.client(), &Request::get("/download"), b"");
        }
    });
    closed_once(&server, "30");
    assert_eq!(report(&server).fact("closed"), "30");
}

#[test]
fn a_client_that_leaves_makes_write_fail() {
    let server = Server::serving("leaving.wsgi");
    leaving_after_the_first_bytes(server.client(), &Request::get("/write"), b"");
    let counts = eventually("write() fails", || {
        Some(report(&server)).filter(|counts| counts.fact("write_errors") == "1")
    });
    assert_eq!(counts.fact("other_errors"), "0");
}

#[test]
fn a_client_that_leaves_an_upload_makes_reading_fail_and_is_closed_once() {
    let server = Server::serving("leaving.wsgi");
    let request = Request::new("POST", "/upload").header("Content-Length", "5000000");
    leaving_after_the_first_bytes(server.client(), &request, &[b'x'; 100_000]);
    let counts = closed_once(&server, "1");
    assert_eq!(counts.fact("read_errors"), "1");
    assert_eq!(counts.fact("other_errors"), "0");
    assert_eq!(counts.fact("ended"), "0");
}

#[test]
fn an_upload_that_ends_early_makes_reading_fail() {
    let server = Server::serving("leaving.wsgi");
    let mut client = server.client();
    client.send_head(&Request::new("POST", "/upload").header("Content-Length", "100000"));
    client.write(&[b'x'; 50_000]);
    client.half_close();
    assert_eq!(client.read_head().status, 200);
    let counts = closed_once(&server, "1");
    assert_eq!([counts.fact("read_errors"), counts.fact("other_errors")], ["1", "0"]);
}

#[test]
fn a_client_that_leaves_before_its_answer_does_not_disturb_the_next() {
    let server = Server::serving("waiting.wsgi");
    let gate = server.gate("gate");
    let mut client = server.client();
    client.send_head(&Request::get("/gate"));
    gate.held();
    drop(client);
    server.get("/").expect(200, "at once");
    gate.open();
    server.get("/").expect(200, "at once");
}
