//! What `start_response` accepts, what it refuses and with which exception.

use crate::harness::{Server, by_daemon};

#[track_caller]
fn refused(server: &Server, cases: &[&str], class: &str) {
    for case in cases {
        let answer = server.get(case);
        let text = answer.text();
        let refused = text.starts_with("refused: ") && text.split(' ').any(|word| word == class);
        assert!(refused && answer.status == 200, "{case}: {} {text}, not {class}", answer.status);
    }
}

#[test]
fn what_is_right_is_accepted() {
    let server = Server::serving("start_response.wsgi");
    for case in ["/ok", "/list-subclass", "/no-headers", "/exc-info-none", "/empty-value"] {
        server.get(case).expect(200, "accepted");
    }
    assert_eq!(server.get("/ok").header("Content-Type").as_deref(), Some("text/plain"));
}

#[test]
fn the_status_is_passed_on_with_its_reason() {
    let server = Server::serving("start_response.wsgi");
    server.get("/no-reason").expect(200, "accepted");
    for (case, status, reason) in [
        ("/ok", 200, "OK"),
        ("/other-reason", 299, "Quite Fine"),
        ("/teapot", 418, "I'm a teapot"),
        ("/not-found", 404, "Not Found"),
    ] {
        let answer = server.get(case);
        assert_eq!((answer.status, answer.reason.as_str()), (status, reason), "{case}");
        assert_eq!(answer.text(), "accepted", "{case}: the application's own body");
    }
}

#[test]
fn headers_are_passed_on_as_they_are() {
    let server = Server::serving("start_response.wsgi");
    let repeated = server.get("/repeated");
    assert_eq!(repeated.all("Set-Cookie"), ["a=1", "b=2"]);
    assert_eq!(repeated.all("X-D"), ["1", "2"]);
    assert_eq!(repeated.all("WWW-Authenticate"), ["Basic", "Digest"]);
    assert_eq!(server.get("/latin-1-value").all("X-Name"), ["caf\u{e9}"]);
    assert_eq!(server.get("/empty-value").all("X-Empty"), [""]);
    let location = server.get("/location");
    // From a process group it stands for what is there.
    let as_it_is = if by_daemon() { vec![] } else { vec!["/x.txt".to_owned()] };
    assert_eq!((location.status, location.all("Location")), (200, as_it_is));
}

#[test]
fn values_of_a_wrong_type_are_refused() {
    let server = Server::serving("start_response.wsgi");
    refused(
        &server,
        &["/status-int", "/status-bytes", "/status-none", "/no-arguments"],
        "TypeError",
    );
    refused(
        &server,
        &["/headers-tuple", "/headers-none", "/headers-dict", "/pair-list"],
        "TypeError",
    );
    refused(
        &server,
        &["/name-int", "/name-bytes", "/value-int", "/value-none", "/value-bytes"],
        "TypeError",
    );
}

#[test]
fn values_that_cannot_be_sent_are_refused() {
    let server = Server::serving("start_response.wsgi");
    refused(
        &server,
        &["/status-two-digits", "/status-four-digits", "/status-no-digits"],
        "ValueError",
    );
    refused(
        &server,
        &["/status-empty", "/status-newline", "/pair-of-three", "/pair-of-one"],
        "ValueError",
    );
    refused(&server, &["/name-empty", "/name-space", "/name-newline"], "ValueError");
    refused(&server, &["/value-newline", "/value-return", "/value-injection"], "ValueError");
    let unencodable = ["/status-not-latin-1", "/name-not-latin-1", "/value-not-latin-1"];
    refused(&server, &unencodable, "UnicodeEncodeError");
}

#[test]
fn exc_info_is_a_tuple_or_none() {
    let server = Server::serving("start_response.wsgi");
    refused(&server, &["/exc-info-not-a-tuple"], "RuntimeError");
}

#[test]
fn a_start_response_that_was_kept_is_refused_after_its_request() {
    let server = Server::serving("start_response.wsgi");
    server.get("/keep").expect(200, "kept");
    refused(&server, &["/use-kept"], "RuntimeError");
}
