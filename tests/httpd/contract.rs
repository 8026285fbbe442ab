//! The WSGI contract, beyond what `environ`, `input`, `output` and `start_response` show: ends of
//! requests, exceptions, `close()`, `wsgi.file_wrapper`, `wsgi.errors`, the module `mod_wsgi`.

use crate::harness::{Conf, Request, Server, by_daemon, eventually, process_group};

fn serve() -> Server {
    Server::serving("contract.wsgi")
}

/// What the application has noted since it was last asked.
fn notes(server: &Server) -> String {
    let answer = server.get("/notes");
    assert_eq!(answer.status, 200);
    answer.text()
}

#[test]
fn what_belongs_to_a_request_cannot_be_used_after_it() {
    let server = serve();
    server.get("/keep").expect(200, "kept");
    let answer = server.get("/use");
    for call in [
        "read",
        "read(0)",
        "readline",
        "readlines",
        "iter",
        "start_response",
        "start_response(exc_info)",
        "write",
        "write(empty)",
        "errors.write",
        "errors.writelines",
        "errors.flush",
        "errors.buffer.write",
    ] {
        assert_eq!(answer.fact(call), "'RuntimeError'", "{call}");
    }
    assert!(server.log().lines_with(&["late"]).is_empty());
}

#[test]
fn exc_info_after_the_headers_raises_the_original_with_its_traceback() {
    let server = serve();
    server.get("/raising-again").expect(200, "written,True True");
    assert_eq!(notes(&server), "closed");
}

#[test]
fn exc_info_before_the_headers_replaces_status_and_headers() {
    let server = serve();
    let answer = server.get("/replacing");
    answer.expect(503, "an error page");
    assert_eq!((answer.reason.as_str(), answer.header("X-First")), ("Later", None));
}

#[test]
fn exc_info_may_be_given_by_name() {
    serve().get("/keyword").expect(200, "keyword");
}

#[test]
fn what_is_written_and_what_is_returned_come_in_order() {
    let server = serve();
    server.get("/writing-then-iterating").expect(200, "written,again,returned");
    assert_eq!(notes(&server), "closed");
}

#[test]
fn an_empty_write_sends_status_and_headers() {
    let server = serve();
    let answer = server.get("/writing-nothing");
    answer.expect(201, "");
    assert_eq!(answer.header("X-Sent").as_deref(), Some("1"));
    assert_eq!(notes(&server), "RuntimeError closed");
}

#[test]
fn an_exception_after_write_breaks_the_response_off() {
    let server = serve();
    let answer = server.get("/writing-then-raising");
    assert_eq!((answer.status, answer.whole, answer.text().as_str()), (200, false, "written,"));
    server.log().wait_for(&[":error]", "MNF0007", "LookupError"]);
}

#[test]
fn exceptions_that_are_no_errors_are_treated_as_errors() {
    let server = serve();
    let child = server.only_child();
    for (url, class) in [
        ("/interrupt", "KeyboardInterrupt"),
        ("/generator-exit", "GeneratorExit"),
        ("/base", "BaseException"),
        ("/stop-iteration", "StopIteration"),
    ] {
        assert_eq!(server.get(url).status, 500, "{url}");
        server.log().wait_for(&[":error]", "MNF0007", class, "contract.wsgi"]);
        server.log().wait_for(&[":error]", &format!("{class}: from the application")]);
    }
    let answer = server.get("/interrupt-later");
    assert_eq!((answer.status, answer.whole, answer.text().as_str()), (200, false, "first,"));
    assert_eq!(notes(&server), "closed");
    assert_eq!(server.only_child(), child);
}

#[test]
fn close_is_called_after_an_exception() {
    let server = serve();
    assert_eq!(server.get("/raises-first").status, 500);
    assert_eq!(notes(&server), "closed");
    assert!(!server.get("/raises-later").whole);
    assert_eq!(notes(&server), "closed");
}

#[test]
fn a_close_that_cannot_be_looked_up_is_logged_and_changes_nothing() {
    let server = serve();
    server.get("/close-lookup").expect(200, "fine");
    server.log().wait_for(&[":error]", "MNF0007", "LookupError", "close"]);
    server.log().wait_for(&[":error]", "LookupError: no close here"]);
    assert_eq!(server.get("/close-lookup-after-error").status, 500);
    server.log().wait_for(&[":error]", "LookupError: the first error"]);
    server.log().wait_for_count(&[":error]", "LookupError: no close here"], 2);
    server.get("/close-is-none").expect(200, "fine");
    server.log().wait_for(&[":error]", "'NoneType' object is not callable"]);
}

#[test]
fn a_response_without_close_is_fine() {
    let server = serve();
    server.get("/without-close").expect(200, "fine");
    server.get("/plain").expect(200, "a body");
    assert!(server.log().lines_with(&["as far as anybody can tell"]).is_empty());
}

#[test]
fn a_file_wrapper_is_read_in_blocks_and_closes_its_file() {
    let server = serve();
    server.get("/wrapped").expect(200, "0123456789");
    assert_eq!(notes(&server), "read 8192 read 8192 closed");
    server.get("/wrapped-in-fours").expect(200, "0123456789");
    assert_eq!(notes(&server), "read 4 read 4 read 4 read 4 closed");
}

#[test]
fn a_file_wrapper_begins_where_the_file_stands_and_keeps_to_the_length() {
    let server = serve();
    let answer = server.get("/wrapped-with-length");
    answer.expect(200, "2345");
    assert_eq!(answer.header("Content-Length").as_deref(), Some("4"));
    // The client has all of it by its length, and does not wait for that.
    eventually("it is closed", || notes(&server).ends_with("closed").then_some(()));
    let script = std::fs::read(server.path("apps/contract.wsgi")).expect("the application");
    server.get("/wrapped-descriptor").carries(&script[3..]);
}

#[test]
fn a_file_wrapper_may_be_subclassed() {
    let server = serve();
    server.get("/wrapped-by-subclass").expect(200, "ABC");
    assert!(notes(&server).ends_with("closed"));
}

#[test]
fn a_file_that_cannot_be_closed_changes_nothing() {
    let server = serve();
    server.get("/wrapped-badly-closed").expect(200, "0123456789");
    assert!(notes(&server).ends_with("closed"));
}

#[test]
fn a_file_that_reads_text_fails() {
    let server = serve();
    assert_eq!(server.get("/wrapped-str").status, 500);
    server.log().wait_for(&[":error]", "MNF0007", "TypeError"]);
}

#[test]
fn wsgi_errors_is_a_text_stream() {
    let server = serve();
    let answer = server.get("/errors");
    for (key, value) in [
        ("encoding", "'utf-8'"),
        ("errors", "'replace'"),
        ("isatty", "False"),
        ("fileno", "'OSError'"),
        ("writable", "True"),
        ("readable", "False"),
        ("closed", "False"),
        ("write", "18"),
        ("buffer.write", "18"),
        ("buffer.write(str)", "'TypeError'"),
        ("writelines", "None"),
        ("flush", "None"),
    ] {
        assert_eq!(answer.fact(key), value, "{key}");
    }
    for line in ["written", "bytes ", "line 0", "line 1", "printed", "after close"] {
        let line = format!("contract: {line}");
        server.log().wait_for(&[":error]", &line]);
    }
}

#[test]
fn every_line_of_wsgi_errors_names_its_client_and_comes_in_its_order() {
    let server = serve();
    server.get("/many-errors").expect(200, "said");
    let lines = server.log().wait_for_count(&[":error]", "contract: number "], 200);
    for (i, line) in lines.iter().enumerate() {
        assert!(line.ends_with(&format!("contract: number {i}.")), "line {i}: {line}");
        assert!(line.contains("[client 127.0.0.1:"), "line {i}: {line}");
    }
}

#[test]
fn the_module_mod_wsgi_says_what_applications_ask() {
    let server = Server::start(Conf::serving("contract.wsgi").threads(5));
    let answer = server.get("/module");
    for (key, value) in [
        ("version", "True"),
        ("version type", "('tuple', 3)"),
        ("application_group", "'app'"),
        ("maximum_processes", "1"),
        ("threads_per_process", "5"),
        ("FileWrapper", "True"),
        ("FileWrapper type", "True"),
        ("blksize", "(8192, 'ValueError')"),
        ("filelike", "'BytesIO'"),
        ("RequestTimeout", "(True, False)"),
        ("argv", "['mod_wsgi']"),
    ] {
        assert_eq!(answer.fact(key), value, "{key}");
    }
    assert_eq!(answer.fact("process_group"), format!("'{}'", process_group()));
}

#[test]
fn a_read_of_nothing_asks_the_client_for_its_body() {
    let server = serve();
    let request = Request::new("POST", "/read-nothing").header("Content-Length", "3");
    let mut client = server.client();
    client.send_head(&request.header("Expect", "100-continue"));
    assert_eq!(client.read_head().status, 100);
    client.write(b"abc");
    client.read("POST").expect(200, "b''");
}

#[test]
fn head_is_answered_as_get_is_without_the_body() {
    let server = serve();
    let mut client = server.client();
    for (url, length) in [("/length", Some("6")), ("/plain", None)] {
        let answer = client.send(&Request::new("HEAD", url));
        assert_eq!(answer.status, 200, "{url}");
        assert_eq!(answer.header("Content-Type").as_deref(), Some("text/plain"));
        if length.is_some() {
            assert_eq!(answer.header("Content-Length").as_deref(), length, "{url}");
        }
        // A byte of a body would be taken for the beginning of this answer.
        client.send(&Request::get("/plain")).expect(200, "a body");
    }
    assert_eq!(notes(&server), "closed closed closed closed");
}

#[test]
fn a_head_whose_body_is_short_is_no_error() {
    let server = serve();
    let answer = server.send(&Request::new("HEAD", "/wrong-length"));
    assert_eq!((answer.status, answer.header("Content-Length").as_deref()), (200, Some("7")));
    assert!(server.log().lines_with(&["MNF"]).is_empty());
}

#[test]
fn statuses_without_a_body_are_answered_without_one_and_the_response_closed() {
    let server = serve();
    let mut client = server.client();
    for (url, status) in
        [("/no-content", 204), ("/not-modified", 304), ("/not-modified-length", 304)]
    {
        let answer = client.send(&Request::get(url));
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{url}");
        assert!(answer.header("Transfer-Encoding").is_none(), "{url}");
        if status == 304 {
            assert_eq!(answer.header("ETag").as_deref(), Some("\"x\""));
        }
        // A byte of a body would be taken for the beginning of this answer.
        client.send(&Request::get("/plain")).expect(200, "a body");
        assert_eq!(notes(&server), "closed closed");
    }
    assert_eq!(client.send(&Request::get("/reset-content")).status, 205);
    assert!(server.log().lines_with(&["MNF"]).is_empty());
}

#[test]
fn headers_that_come_twice_are_sent_twice() {
    let server = serve();
    let answer = server.get("/duplicates");
    assert_eq!(answer.all("Set-Cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.all("WWW-Authenticate"), ["Basic", "Digest"]);
    assert_eq!(answer.all("X-D"), ["1", "1"]);
    assert_eq!(answer.all("Link"), ["</a>", "</b>"]);
}

#[test]
fn www_authenticate_reaches_the_client_with_the_applications_own_page() {
    let answer = serve().get("/unauthorized");
    answer.expect(401, "a body");
    assert_eq!(answer.all("WWW-Authenticate"), ["Basic", "Digest"]);
}

#[test]
fn location_is_passed_on_as_it_is() {
    let server = serve();
    let answer = server.get("/location");
    answer.expect(200, "a body");
    // From a process group it stands for what is there, which is another body of the same text.
    let location: &[&str] = if by_daemon() { &[] } else { &["/plain"] };
    assert_eq!(answer.all("Location"), location);
    let answer = server.get("/redirect");
    answer.expect(302, "a body");
    assert_eq!(answer.all("Location"), ["/plain?a=1#b"]);
}

#[test]
fn pages_of_the_applications_own_are_sent_for_errors() {
    let server = Server::start(
        Conf::serving("contract.wsgi")
            .and("ErrorDocument 404 \"httpd's page\"\nErrorDocument 500 \"httpd's page\""),
    );
    for (url, status, reason) in
        [("/not-found", 404, "Not Here"), ("/server-error", 500, "Our Own")]
    {
        let answer = server.get(url);
        answer.expect(status, "a body");
        assert_eq!(answer.reason, reason, "{url}");
    }
    server.get("/raises-first").expect(500, "httpd's page");
}

#[test]
fn other_headers_are_passed_on_as_they_are() {
    let server = serve();
    let answer = server.get("/date");
    assert_eq!(answer.all("Last-Modified"), ["Thu, 01 Jan 1970 00:00:00 GMT"]);
    assert_eq!(answer.all("X-Tab"), ["a\tb"]);
    assert_eq!(server.get("/untyped").header("Content-Type"), None);
}
