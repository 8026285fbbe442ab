//! Applications that fail or complain: what the client gets and what the error log says.

use crate::harness::{Conf, Request, Server, write};

fn serve() -> Server {
    Server::serving("failing.wsgi")
}

/// A server whose script is `text`.
fn scripted(text: &str) -> Server {
    let conf = Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/own.wsgi\nSetHandler app",
    );
    Server::start_with(conf, |root| crate::harness::write(root, "apps/own.wsgi", text))
}

const WORKING: &str = "def handle_request(environ, start_response):\n    \
                       start_response('200 OK', [])\n    return [b'mended']\n";

/// 500 while the script is as it is, one log line with `words`; 200 once it is mended.
fn fails_until_mended(server: &Server, words: &[&str]) {
    let child = server.only_child();
    for _ in 0..2 {
        assert_eq!(server.get("/").status, 500);
    }
    let words = [words, &[":error]"]].concat();
    server.log().wait_for_count(&words, 2);
    server.log().wait_for(&[":error]", "own.wsgi"]);
    server.write("apps/own.wsgi", WORKING);
    server.get("/").expect(200, "mended");
    assert_eq!(server.only_child(), child, "the process stays");
}

#[test]
fn an_exception_before_the_headers_is_a_500_with_its_traceback_in_the_log() {
    let server = serve();
    let answer = server.get("/before");
    assert_eq!((answer.status, answer.whole), (500, true));
    assert!(!answer.text().contains("Mishap"), "the client sees no internals");
    let log = server.log();
    log.wait_for(&[":error]", "[client 127.0.0.1:", "failing.wsgi", "Mishap"]);
    log.wait_for(&[":error]", "[client 127.0.0.1:", "Traceback (most recent call last)"]);
    log.wait_for(&[":error]", "[client 127.0.0.1:", "failing.wsgi\", line ", "in handle_request"]);
    log.wait_for(&[":error]", "[client 127.0.0.1:", "fail(\"before the headers\")"]);
    log.wait_for(&[":error]", "[client 127.0.0.1:", "Mishap: before the headers"]);
    assert_eq!(server.get("/fine").status, 200);
}

#[test]
fn an_exception_after_start_response_alone_is_still_a_500() {
    let server = serve();
    assert_eq!(server.get("/started").status, 500);
    server.log().wait_for(&[":error]", "Mishap: after start_response"]);
}

#[test]
fn an_exception_after_the_headers_truncates_the_response() {
    let server = serve();
    let answer = server.get("/after");
    assert_eq!((answer.status, answer.whole), (200, false));
    assert_eq!(answer.text(), "the beginning,");
    server.log().wait_for(&[":error]", "Mishap: after the headers"]);
    assert_eq!(server.get("/fine").status, 200);
}

#[test]
fn the_cause_of_an_exception_is_logged_with_it() {
    let server = serve();
    assert_eq!(server.get("/chained").status, 500);
    server.log().wait_for(&[":error]", "Mishap: the cause"]);
    server.log().wait_for(&[":error]", "direct cause of the following"]);
    server.log().wait_for(&[":error]", "LookupError: the effect"]);
}

#[test]
fn an_application_that_exits_gets_a_500_and_the_process_stays() {
    let server = serve();
    let child = server.only_child();
    assert_eq!(server.get("/exit").status, 500);
    assert_eq!(server.get("/interrupt").status, 500);
    assert_eq!(server.get("/fine").status, 200);
    assert_eq!(server.only_child(), child);
    server.log().wait_for(&[":error]", "SystemExit"]);
    server.log().wait_for(&[":error]", "KeyboardInterrupt"]);
}

#[test]
fn an_error_document_replaces_the_page_of_a_500() {
    let server =
        Server::start(Conf::serving("failing.wsgi").and("ErrorDocument 500 \"our own page\""));
    server.get("/before").expect(500, "our own page");
}

#[test]
fn wsgi_errors_goes_to_the_log_line_by_line() {
    let server = serve();
    server.get("/errors").expect(200, "fine");
    for line in [
        "errors: the first line",
        "errors: the second line",
        "errors: the third line",
        "errors: without an end",
    ] {
        let found = server.log().wait_for(&[":error]", "[client 127.0.0.1:", line]);
        assert!(found.ends_with(line), "one line each: {found}");
    }
    server.get("/errors-flushed").expect(200, "fine");
    assert!(server.log().wait_for(&["errors: half a line"]).ends_with("errors: half a line"));
    server.log().wait_for(&["errors: the other half"]);
}

#[test]
fn wsgi_errors_is_a_text_stream_that_takes_every_text() {
    let server = serve();
    server.get("/errors-stream").expect(200, "[False, 'OSError', 'TypeError', 'TypeError']");
    server.log().wait_for(&[":error]", "errors: caf", "%s%n"]);
}

#[test]
fn sys_stderr_and_print_go_to_the_log_line_by_line() {
    let server = serve();
    for (case, name) in [("/stderr", "stderr"), ("/print", "print")] {
        server.get(case).expect(200, "fine");
        for line in [format!("{name}: the first line"), format!("{name}: the second line")] {
            let found = server.log().wait_for(&[":error]", "[client 127.0.0.1:", &line]);
            assert!(found.ends_with(&line), "one line each: {found}");
        }
    }
}

#[test]
fn a_very_long_line_is_no_trouble() {
    let server = serve();
    server.get("/long").expect(200, "fine");
    server.log().wait_for(&[":error]", "long: xxxxxxxxxx"]);
}

#[test]
fn a_missing_script_is_a_500_until_it_is_there() {
    let server = scripted("");
    std::fs::remove_file(server.path("apps/own.wsgi")).expect("the script goes");
    fails_until_mended(&server, &["own.wsgi", "No such file"]);
}

#[test]
fn an_unreadable_script_is_a_500_until_it_is_readable() {
    use std::os::unix::fs::PermissionsExt;
    let server = scripted(WORKING);
    let closed = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(server.path("apps/own.wsgi"), closed).expect("the script is closed");
    fails_until_mended(&server, &["own.wsgi", "Permission denied"]);
}

#[test]
fn a_script_with_a_syntax_error_is_a_500_until_it_is_mended() {
    fails_until_mended(&scripted("def handle_request(:\n"), &["SyntaxError"]);
}

#[test]
fn a_script_that_cannot_import_is_a_500_until_it_is_mended() {
    let server = scripted("import no_such_module_anywhere\n");
    fails_until_mended(&server, &["ModuleNotFoundError", "no_such_module_anywhere"]);
    server.log().wait_for(&[":error]", "Traceback (most recent call last)"]);
}

#[test]
fn a_script_that_exits_is_a_500_until_it_is_mended() {
    fails_until_mended(&scripted("import sys\nsys.exit(3)\n"), &["SystemExit"]);
}

#[test]
fn a_script_without_the_callable_is_a_500_that_names_it() {
    fails_until_mended(
        &scripted("def application(environ, start_response): pass\n"),
        &["own.wsgi", "handle_request"],
    );
}

#[test]
fn a_callable_that_cannot_be_called_is_a_500() {
    fails_until_mended(
        &scripted("handle_request = 'not callable'\n"),
        &["own.wsgi", "handle_request"],
    );
}

#[test]
fn a_relative_path_is_not_taken_from_the_server_root() {
    let server = Server::start(Conf::new("WSGIHandlerScript app apps/hello.wsgi\nSetHandler app"));
    assert_eq!(server.get("/").status, 500);
    server.log().wait_for(&[":error]", "apps/hello.wsgi"]);
}

#[test]
fn a_script_is_one_module_named_after_its_path() {
    let server = scripted(
        "import sys\ndef handle_request(environ, start_response):\n    \
         start_response('200 OK', [])\n    \
         ours = sys.modules[__name__].handle_request is handle_request\n    \
         yield f'{__name__[:10]} {len(__name__)} {ours} {__file__}'.encode()\n",
    );
    let path = server.path("apps/own.wsgi").display().to_string();
    server.get("/").expect(200, &format!("_mod_wsgi_ 42 True {path}"));
}

/// Does what the query says, each time in another way wrong.
const WRONG: &str = r#"
import mod_wsgi

def handle_request(environ, start_response):
    query = environ["QUERY_STRING"]
    if query == "timeout":
        raise mod_wsgi.RequestTimeout
    start_response("200 OK", [("Content-Length", "3")] if query != "raise" else [])
    if query == "raise":
        raise KeyError(query)
    return [b"12345" if query == "long" else b"1"]
"#;

#[test]
fn each_line_about_a_request_names_its_client_its_script_and_its_group() {
    let conf = Conf::serving("wrong.wsgi").and(
        "WSGIInterpreterLimit 2\n\
         WSGIHandlerScript missing ${APPS}/missing.wsgi\nWSGIHandlerScript broken ${APPS}/broken.wsgi\n\
         WSGIHandlerScript empty ${APPS}/empty.wsgi\n\
         <Location /missing>\nSetHandler missing\n</Location>\n\
         <Location /broken>\nSetHandler broken\n</Location>\n\
         <Location /empty>\nSetHandler empty\n</Location>\n\
         <Location /nowhere>\nWSGIProcessGroup nowhere\n</Location>\n\
         <Location /fence>\nWSGIProcessGroup nowhere\nWSGIRestrictProcess other\n</Location>\n\
         <Location /more>\nWSGIApplicationGroup more\n</Location>\n\
         <Location /exact>\nAcceptPathInfo Off\n</Location>",
    );
    let server = Server::start_with(conf, |root| {
        write(root, "apps/wrong.wsgi", WRONG);
        write(root, "apps/broken.wsgi", "raise LookupError");
        write(root, "apps/empty.wsgi", "");
        write(root, "docs/exact", "a file");
    });
    for (target, status, code, script, group) in [
        ("/missing", 500, "MNF0004", "missing.wsgi", "app"),
        ("/broken", 500, "MNF0005", "broken.wsgi", "app"),
        ("/empty", 500, "MNF0006", "empty.wsgi", "app"),
        ("/?raise", 500, "MNF0007", "wrong.wsgi", "app"),
        ("/?short", 200, "MNF0019", "wrong.wsgi", "app"),
        ("/?long", 200, "MNF0022", "wrong.wsgi", "app"),
        ("/?timeout", 504, "MNF0030", "wrong.wsgi", "app"),
        ("/nowhere", 500, "MNF0003", "wrong.wsgi", "app"),
        ("/fence", 500, "MNF0025", "wrong.wsgi", "app"),
        ("/more", 503, "MNF0010", "wrong.wsgi", "more"),
    ] {
        assert_eq!(server.get(target).status, status, "{target}");
        let group = format!("application group '{group}'");
        server.log().wait_for(&["[client 127.0.0.1:", code, &format!("apps/{script}'"), &group]);
    }
    // These come before there is a group.
    let chunked = Request::new("POST", "/").header("Transfer-Encoding", "chunked");
    let mut client = server.client();
    client.send_head(&chunked);
    assert_eq!(client.read("POST").status, 411);
    assert_eq!(server.get("/exact/more").status, 404);
    for code in ["MNF0013", "MNF0021"] {
        server.log().wait_for(&["[client 127.0.0.1:", code, "apps/wrong.wsgi'"]);
    }
}

#[test]
fn where_embedded_applications_may_not_run_the_line_names_script_and_group() {
    let conf = Conf::serving("hello.wsgi").and("WSGIRestrictEmbedded On");
    let server = Server::start(conf.inside_httpd("what may run there is the question"));
    assert_eq!(server.get("/").status, 500);
    let group = "application group 'app'";
    server.log().wait_for(&["[client 127.0.0.1:", "MNF0020", "apps/hello.wsgi'", group]);
}
