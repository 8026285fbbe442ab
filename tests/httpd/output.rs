//! How a response comes from what an application returns, yields and writes, and `close()`.

use crate::harness::{Request, Response, Server};

fn serve() -> Server {
    Server::serving("output.wsgi")
}

/// How often close() has been called since the last look.
fn closings(server: &Server) -> String {
    server.get("/closed").text()
}

#[track_caller]
fn fails(server: &Server, case: &str, class: &str) {
    let before = server.log().lines_with(&[":error]", class]).len();
    let answer = server.get(case);
    assert_eq!((answer.status, answer.whole), (500, true), "{case}: {}", answer.text());
    server.log().wait_for_count(&[":error]", class], before + 1);
}

#[track_caller]
fn breaks_off(answer: &Response, body: &str) {
    assert_eq!((answer.status, answer.text()), (200, body.to_owned()));
    assert!(!answer.whole, "the client must notice that something is missing");
}

#[test]
fn every_iterable_is_sent_in_order() {
    let server = serve();
    for case in ["/list", "/tuple", "/generator", "/empty-blocks", "/response"] {
        server.get(case).expect(200, "one,two");
    }
    server.get("/one").expect(200, "hello");
    server.get("/subclass").expect(200, "one");
    server.get("/nothing").expect(200, "");
}

#[test]
fn what_is_not_an_iterable_of_bytes_fails() {
    let server = serve();
    for case in ["/none", "/int", "/bytes", "/str", "/str-block", "/none-block", "/bytearray-block"]
    {
        fails(&server, case, "TypeError");
    }
    breaks_off(&server.get("/second-block-str"), "one,");
}

#[test]
fn start_response_must_be_called_before_the_first_block() {
    let server = serve();
    fails(&server, "/never-starts", "RuntimeError");
    fails(&server, "/never-starts-and-is-empty", "RuntimeError");
    server.get("/starts-late").expect(201, "late");
    server.get("/starts-late-after-an-empty-block").expect(201, "late");
}

#[test]
fn a_second_start_response_counts_until_something_is_sent() {
    let server = serve();
    let answer = server.get("/starts-twice");
    answer.expect(202, "second");
    assert_eq!(answer.header("Content-Type").as_deref(), Some("text/plain"));
    assert_eq!(answer.header("X-First"), None);
    server.get("/starts-twice-after-a-block").expect(200, "first,RuntimeError");
}

#[test]
fn exc_info_replaces_what_was_not_sent_and_is_raised_again_otherwise() {
    let server = serve();
    let answer = server.get("/replaces-by-exc-info");
    answer.expect(500, "an error page");
    assert_eq!((answer.reason.as_str(), answer.header("X-First")), ("Oops", None));
    server.get("/exc-info-after-a-block").expect(200, "first,raised again: too late");
}

#[test]
fn a_content_length_is_kept_to() {
    let server = serve();
    let mut client = server.client();
    client.send(&Request::get("/length-fits")).expect(200, "hello");
    // What is too much is left out, with a line, and the connection stays in step.
    client.send(&Request::get("/length-too-short")).expect(200, "hel");
    server.log().wait_for(&["MNF0022", "2 bytes beyond"]);
    client.send(&Request::get("/length-zero")).expect(200, "");
    client.send(&Request::get("/length-fits")).expect(200, "hello");
    breaks_off(&client.send(&Request::get("/length-too-long")), "hello");
    server.log().wait_for(&["MNF0019", "5 bytes short"]);
}

#[test]
fn a_content_length_that_is_no_number_fails() {
    let server = serve();
    fails(&server, "/length-no-number", "ValueError");
    fails(&server, "/length-negative", "ValueError");
}

#[test]
fn statuses_without_a_body_have_none() {
    let server = serve();
    let mut client = server.client();
    for (case, status) in [("/no-content", 204), ("/not-modified", 304)] {
        assert_eq!(client.send(&Request::get(case)).status, status);
        // A byte of a body would be taken for the beginning of this answer.
        client.send(&Request::get("/one")).expect(200, "hello");
    }
    assert_eq!(closings(&server), "2");
}

/// The length is that of what has not been modified.
#[test]
fn a_304_may_announce_a_length_and_is_whole() {
    let server = serve();
    let mut client = server.client();
    assert_eq!(client.send(&Request::get("/not-modified-with-length")).status, 304);
    client.send(&Request::get("/one")).expect(200, "hello");
    assert!(server.log().lines_with(&["MNF0019"]).is_empty());
}

#[test]
fn what_would_break_the_exchange_is_refused() {
    let server = serve();
    for case in ["/informational", "/transfer-encoding"] {
        assert_eq!(server.get(case).status, 500, "{case}");
    }
    server.log().wait_for(&[":error]", "103"]);
    server.log().wait_for(&[":error]", "Transfer-Encoding"]);
}

#[test]
fn what_is_written_comes_before_what_is_returned() {
    let server = serve();
    server.get("/writes").expect(200, "one,two,three");
    server.get("/writes-only").expect(200, "one");
}

#[test]
fn write_takes_bytes_only() {
    let server = serve();
    fails(&server, "/writes-str", "TypeError");
    breaks_off(&server.get("/writes-then-str"), "one,");
}

#[test]
fn an_empty_write_sends_the_headers() {
    serve().get("/writes-nothing-then-starts-again").expect(201, "RuntimeError");
}

#[test]
fn a_write_that_was_kept_is_refused_after_its_request() {
    let server = serve();
    server.get("/keeps-write").expect(200, "kept");
    server.get("/uses-kept-write").expect(200, "RuntimeError");
}

#[test]
fn close_is_called_once_however_the_response_ends() {
    let server = serve();
    for case in
        ["/response", "/length-too-short", "/length-too-long", "/str-block", "/second-block-str"]
    {
        server.get(case);
        assert_eq!(closings(&server), "1", "{case}");
    }
    for case in ["/raises-first", "/raises-later", "/close-raises", "/writes"] {
        server.get(case);
        assert_eq!(closings(&server), "1", "{case}");
    }
    server.send(&Request::new("HEAD", "/response"));
    assert_eq!(closings(&server), "1", "HEAD");
    for case in ["/raises-before-returning", "/list"] {
        server.get(case);
        assert_eq!(closings(&server), "0", "{case}: nothing to close");
    }
}

#[test]
fn an_exception_in_close_is_logged_and_changes_nothing() {
    let server = serve();
    server.get("/close-raises").expect(200, "one");
    server.log().wait_for(&[":error]", "ValueError", "in close"]);
}
