//! What applications, scripts and clients should not do: what the client gets, what the error log
//! says, and that the same child serves the next request.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::harness::{
    Conf, PATIENCE, Request, Response, Server, by_daemon, eventually, pattern, write,
};

/// `unruly.wsgi` for every URL.
fn serve() -> Server {
    Server::serving("unruly.wsgi")
}

/// The same child as before serves the next request.
#[track_caller]
fn goes_on(server: &Server, child: u32) {
    let next = server.get("/fine");
    assert_eq!((next.status, next.whole), (200, true), "{}", next.text());
    assert_eq!(server.children(), [child], "the child stays");
}

/// A request for `url` gets 500, with a log line that has `words`, and nothing of `Evil` comes.
#[track_caller]
fn fails(server: &Server, url: &str, words: &[&str]) {
    let child = server.only_child();
    let before = server.log().lines_with(words).len();
    let answer = server.get(url);
    assert_eq!((answer.status, answer.whole), (500, true), "{url}: {}", answer.text());
    assert!(answer.all("X-Evil").is_empty() && !answer.text().contains("Traceback"), "{url}");
    let lines = server.log().wait_for_count(words, before + 1);
    assert!(lines.iter().all(|line| line.contains(":error]")), "{url}: {lines:?}");
    goes_on(server, child);
}

/// The code's line names script, group and client; another line has `words`.
#[track_caller]
fn application_fails(server: &Server, url: &str, class: &str, words: &[&str]) {
    let place = ["MNF0007", class, "unruly.wsgi", "'app'", "[client 127.0.0.1:"];
    fails(server, url, &place);
    server.log().wait_for(words);
}

/// Everything that comes until httpd closes, after `bytes` and the end of our side.
fn everything(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).expect("httpd accepts a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    // httpd may answer and close before it has taken all.
    if stream.write_all(bytes).is_ok() {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of all the answers in what came.
fn statuses(text: &str) -> Vec<&str> {
    let lines = text.split("HTTP/1.1 ").skip(1);
    lines.map(|answer| answer.get(..3).unwrap_or_default()).collect()
}

/// A server whose script is `text`.
fn scripted(text: &str) -> Server {
    let conf = "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/own.wsgi\nSetHandler app\n\
         WSGIHandlerScript fine ${APPS}/unruly.wsgi\n<Location /fine>\nSetHandler fine\n</Location>";
    Server::start_with(Conf::new(conf), |root| write(root, "apps/own.wsgi", text))
}

#[test]
fn a_relative_script_path_is_a_500_that_says_so() {
    let server = Server::start(Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript bad apps/hello.wsgi\nSetHandler bad\n\
         WSGIHandlerScript fine ${APPS}/unruly.wsgi\n<Location /fine>\nSetHandler fine\n</Location>",
    ));
    fails(&server, "/", &["MNF0004", "'apps/hello.wsgi'", "'app'", "relative", "[client "]);
}

#[test]
fn a_missing_script_is_a_500_that_names_it() {
    let server = scripted("");
    std::fs::remove_file(server.path("apps/own.wsgi")).expect("the script goes");
    fails(&server, "/", &["MNF0004", "own.wsgi", "'app'", "No such file", "[client "]);
}

#[test]
fn a_script_that_is_no_python_is_a_500_that_says_why() {
    for (text, word) in [
        ("def handle_request(:\n", "SyntaxError"),
        ("if True:\nx = 1\n", "IndentationError"),
        ("# coding: no-such-coding\n", "SyntaxError"),
        ("x = '\0'\n", "null byte"),
        (&"(".repeat(10_000), "SyntaxError"),
    ] {
        fails(&scripted(text), "/", &["MNF0004", "own.wsgi", "'app'", word, "[client "]);
    }
}

#[test]
fn a_script_that_raises_is_a_500_that_says_what() {
    for (text, word) in [
        ("raise LookupError('on load')\n", "LookupError"),
        ("import sys\nsys.exit(3)\n", "SystemExit"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("def f():\n    f()\nf()\n", "RecursionError"),
        ("import no_such_module\n", "ModuleNotFoundError"),
    ] {
        fails(&scripted(text), "/", &["MNF0005", "own.wsgi", "'app'", word, "[client "]);
    }
}

#[test]
fn sys_exit_in_a_request_ends_that_request_only() {
    let server = serve();
    for url in ["/exit", "/exit?0", "/exit?a%20message"] {
        fails(&server, url, &["MNF0007", "SystemExit", "unruly.wsgi", "'app'", "[client "]);
    }
}

/// Has the child end itself in the middle of a request; returns its id.
fn end_the_child(server: &Server) -> u32 {
    let child = server.only_child();
    let answer = everything(server, b"GET /end-process HTTP/1.1\r\nHost: x\r\n\r\n");
    if by_daemon() {
        assert_eq!(statuses(&answer), ["502"], "{answer}");
        server.log().wait_for(&[":error]", "MNF0040", "'tested'", "'app'", "[client "]);
        server.log().wait_for(&[":error]", "MNF0048", &format!("worker process {child}")]);
    } else {
        assert_eq!(answer, "", "nothing comes from a process that has gone");
    }
    eventually("the child has gone", || (!server.children().contains(&child)).then_some(()));
    child
}

#[test]
fn a_child_that_an_application_ends_is_replaced() {
    let server = serve();
    for _ in 0..2 {
        let child = end_the_child(&server);
        assert_eq!(server.get("/fine").status, 200);
        assert_ne!(server.only_child(), child);
    }
    server.stop();
}

#[test]
fn a_child_that_an_application_ends_leaves_a_line() {
    let server = serve();
    let child = end_the_child(&server);
    assert_eq!(server.get("/fine").status, 200);
    let process =
        if by_daemon() { "worker process of process group 'tested'" } else { "httpd child" };
    server.log().wait_for(&[":crit]", &format!("pid {child}"), "MNF0023", "'app'", process]);
}

#[test]
fn headers_that_would_begin_another_are_refused() {
    let server = serve();
    for url in ["/value-crlf", "/value-lf", "/value-nul", "/cookie-crlf"] {
        application_fails(&server, url, "ValueError", &["header value must not contain control"]);
    }
    for url in ["/name-crlf", "/name-colon", "/name-latin-1"] {
        application_fails(&server, url, "ValueError", &["header name must be letters"]);
    }
    application_fails(&server, "/status-crlf", "ValueError", &["status must not contain control"]);
}

#[test]
fn what_is_not_latin_1_is_refused() {
    let server = serve();
    for url in ["/value-not-latin-1", "/name-not-latin-1", "/status-not-latin-1"] {
        application_fails(&server, url, "UnicodeEncodeError", &["latin-1", r"\u20ac"]);
    }
}

#[test]
fn transfer_encoding_from_an_application_is_refused() {
    let server = serve();
    for url in ["/transfer-encoding", "/transfer-encoding-lower"] {
        application_fails(&server, url, "ValueError", &["Transfer-Encoding is the server's"]);
    }
}

#[test]
fn an_interim_status_is_refused_as_the_final_one() {
    let server = serve();
    for url in ["/status-100", "/status-101", "/status-103", "/status-199", "/status-000"] {
        application_fails(&server, url, "ValueError", &["status must be 200 or above", &url[8..]]);
    }
}

#[test]
fn bodies_of_wrong_types_are_refused() {
    let server = serve();
    for (url, class) in [
        ("/body-str", "str"),
        ("/body-bytes", "int"),
        ("/body-of-ints", "int"),
        ("/body-of-str", "str"),
        ("/body-of-none", "NoneType"),
        ("/body-of-bytearray", "bytearray"),
        ("/body-of-memoryview", "memoryview"),
        ("/body-of-lists", "list"),
        ("/body-dict", "str"),
    ] {
        application_fails(&server, url, "TypeError", &["must yield bytes", class]);
    }
    for (url, class) in
        [("/body-none", "NoneType"), ("/body-int", "int"), ("/body-object", "object")]
    {
        application_fails(
            &server,
            url,
            "TypeError",
            &[&format!("'{class}' object is not iterable")],
        );
    }
}

#[test]
fn a_content_length_that_is_no_number_is_refused() {
    let server = serve();
    for case in ["none", "word", "negative", "signed", "hex", "space", "huge"] {
        let url = format!("/length-{case}");
        application_fails(&server, &url, "ValueError", &["Content-Length must be a number"]);
    }
}

#[test]
fn a_response_shorter_than_its_content_length_breaks_off_with_a_line() {
    let server = serve();
    let child = server.only_child();
    let answer = server.get("/length-more");
    assert_eq!((answer.status, answer.text().as_str(), answer.whole), (200, "0123456789", false));
    server.log().wait_for(&[":error]", "MNF0019", "90 bytes", "[client "]);
    goes_on(&server, child);
}

#[test]
fn a_response_longer_than_its_content_length_ends_there() {
    let server = serve();
    let child = server.only_child();
    let mut client = server.client();
    client.send(&Request::get("/length-less")).expect(200, "012");
    // A byte more would be taken for the beginning of this answer.
    assert_eq!(client.send(&Request::get("/fine")).status, 200);
    goes_on(&server, child);
}

#[test]
fn bytes_beyond_the_content_length_are_not_dropped_without_a_line() {
    let server = serve();
    server.get("/length-less").expect(200, "012");
    server.log().wait_for(&["MNF", "Content-Length", "[client "]);
}

#[test]
fn long_headers_of_an_application_arrive_whole() {
    let server = serve();
    let child = server.only_child();
    let sizes: &[_] = if by_daemon() { &[8190, 32_000] } else { &[8190, 65_536, 1_000_000] };
    for &size in sizes {
        let answer = server.get(&format!("/header?size={size}"));
        let seen = answer.header("X-Long").map(|value| value.len());
        assert_eq!((answer.status, answer.whole, seen), (200, true, Some(size)));
    }
    goes_on(&server, child);
}

#[test]
fn twenty_thousand_headers_of_an_application_arrive_whole() {
    let server = serve();
    let child = server.only_child();
    let answer = server.get("/headers?count=20000");
    assert_eq!((answer.status, answer.whole, answer.body.as_slice()), (200, true, &b"many"[..]));
    for i in [0, 1, 9_999, 19_999] {
        assert_eq!(answer.header(&format!("X-Number-{i}")), Some(i.to_string()));
    }
    goes_on(&server, child);
}

/// The names of the headers that the application saw.
fn seen_headers(answer: &Response) -> Vec<String> {
    let text = answer.text();
    let names = text.strip_prefix("fine [").and_then(|rest| rest.strip_suffix(']'));
    let names = names.unwrap_or_else(|| panic!("{}: {text}", answer.status));
    names.split(", ").map(|name| name.trim_matches('\'').to_owned()).collect()
}

#[test]
fn header_lines_up_to_httpds_limit_arrive_and_longer_ones_are_refused() {
    let server = serve();
    let child = server.only_child();
    let named = "X-Long: ".len();
    let ask =
        |size| server.send(&Request::get("/fine").header("X-Long", &"v".repeat(size - named)));
    assert!(seen_headers(&ask(8190)).contains(&"HTTP_X_LONG".to_owned()));
    assert_eq!(ask(9000).status, 400);
    goes_on(&server, child);
}

#[test]
fn header_names_that_could_be_taken_for_others_are_dropped() {
    let server = serve();
    let child = server.only_child();
    let answer = server.send(
        &Request::get("/fine")
            .header("X_Forwarded_For", "1")
            .header("X-Forwarded_Host", "1")
            .header("Content_Length", "5")
            .header("X.Dot", "1")
            .header("X-Plain", "1")
            .header("Proxy", "http://evil.test"),
    );
    let seen = seen_headers(&answer);
    assert_eq!(seen, ["HTTP_CONNECTION", "HTTP_HOST", "HTTP_X_PLAIN"]);
    goes_on(&server, child);
}

/// What a client sends in place of a body with Content-Length gets `status`, and what follows is
/// not taken for another request.
#[track_caller]
fn body_refused(server: &Server, headers: &str, body: &str, status: &str, words: &[&str]) {
    let child = server.only_child();
    let head = format!("POST /fine HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n");
    let text = everything(server, format!("{head}{body}").as_bytes());
    assert_eq!(statuses(&text), [status], "{headers}: {text}");
    if !words.is_empty() {
        server.log().wait_for(&[words, &["[client 127.0.0.1:", ":error]"]].concat());
    }
    goes_on(server, child);
}

#[test]
fn a_chunked_body_is_refused_whatever_is_in_it() {
    let server = serve();
    let smuggled = "GET /fine HTTP/1.1\r\nHost: x\r\n\r\n";
    for body in [
        "3\r\nabc\r\n0\r\n\r\n".to_owned(),
        format!("zz\r\n{smuggled}"),
        format!("-5\r\n{smuggled}"),
        format!("ffffffffffffffffff\r\n{smuggled}"),
        format!("3 3\r\n{smuggled}"),
        format!("3\r\nabcdef\r\n0\r\n\r\n{smuggled}"),
        format!(";\r\n{smuggled}"),
        String::new(),
    ] {
        body_refused(&server, "Transfer-Encoding: chunked", &body, "411", &["MNF0013", "chunked"]);
    }
}

#[test]
fn other_transfer_codings_are_refused() {
    let server = serve();
    let body = "3\r\nabc\r\n0\r\n\r\n";
    body_refused(&server, "Transfer-Encoding: gzip, chunked", body, "501", &["MNF0013", "coding"]);
    // httpd itself refuses what does not end in chunked.
    for coding in ["gzip", "chunked, gzip", "xchunked"] {
        body_refused(&server, &format!("Transfer-Encoding: {coding}"), body, "400", &[]);
    }
}

#[test]
fn a_length_besides_chunks_is_not_believed() {
    let server = serve();
    let child = server.only_child();
    for headers in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
    ] {
        let text = everything(
            &server,
            format!("POST /fine HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
                .as_bytes(),
        );
        assert!(["400", "411"].contains(&statuses(&text)[0]), "{text}");
        assert_eq!(statuses(&text).len(), 1, "{text}");
        goes_on(&server, child);
    }
}

#[test]
fn a_content_length_that_is_no_number_is_a_400() {
    let server = serve();
    for length in ["ten", "-1", "+3", "0x3", "3 3", "3.0", "99999999999999999999999", ""] {
        body_refused(&server, &format!("Content-Length: {length}"), "abc", "400", &[]);
    }
}

#[test]
fn two_lengths_that_differ_are_a_400() {
    let server = serve();
    body_refused(&server, "Content-Length: 3\r\nContent-Length: 4", "abcd", "400", &[]);
    body_refused(&server, "Content-Length: 3, 4", "abcd", "400", &[]);
}

#[test]
fn a_body_over_the_limit_is_a_413_that_the_application_does_not_see() {
    let server = Server::start(Conf::serving("unruly.wsgi").and("LimitRequestBody 1000"));
    let child = server.only_child();
    for size in [1001, 200_000] {
        // The path would end the process, if the application were called.
        let answer = server.send(&Request::post("/end-process", &pattern(size)));
        assert_eq!(answer.status, 413, "{size}");
    }
    server.log().wait_for_count(&[":error]", "MNF0013", "LimitRequestBody", "[client "], 2);
    assert_eq!(server.send(&Request::post("/fine", &pattern(1000))).status, 200);
    goes_on(&server, child);
}

#[test]
fn what_httpd_refuses_does_not_reach_the_application() {
    let server = serve();
    let child = server.only_child();
    for (request, status) in [
        ("GET /end-process HTTP/1.1\r\n\r\n", "400"), // no Host
        ("GET /end-process HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", "400"),
        ("GET /end-process HTTP/1.1\r\nHost: x\r\nX Y: 1\r\n\r\n", "400"),
        ("GET /end-process HTTP/1.1\r\nHost: x\r\nX-Nul: a\0b\r\n\r\n", "400"),
        ("GET /end-process%00 HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("GET /end-process HTTP/1.1 more\r\nHost: x\r\n\r\n", "400"),
        ("G(T /end-process HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
    ] {
        let text = everything(&server, request.as_bytes());
        assert_eq!(statuses(&text), [status], "{request:?}: {text}");
        goes_on(&server, child);
    }
}

#[test]
fn a_client_that_breaks_off_in_any_place_does_no_harm() {
    let server = serve();
    let child = server.only_child();
    let request = b"POST /fine HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde";
    for length in 0..request.len() {
        let mut stream = TcpStream::connect(server.address()).expect("httpd accepts a connection");
        stream.write_all(&request[..length]).expect("httpd takes what we send");
    }
    goes_on(&server, child);
}
