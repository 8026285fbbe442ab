//! `mod_wsgi.LogHandler`, and the streams that Python programs write to.

use crate::harness::{Conf, Server, by_daemon};

const LEVELS: [(&str, &str); 6] = [
    ("critical", ":crit]"),
    ("error", ":error]"),
    ("warning", ":warn]"),
    ("info", ":info]"),
    ("debug", ":debug]"),
    ("trace", ":debug]"),
];

fn at(level: &str) -> Server {
    Server::start(Conf::serving("logging.wsgi").and(&format!("LogLevel {level}")))
}

#[test]
fn a_record_keeps_its_level_and_its_request() {
    let server = at("notice wsgi:debug");
    server.get("/levels").expect(200, "6");
    for (name, level) in LEVELS {
        let text = format!("formatted: request {name}");
        let line = server.log().wait_for(&[level, "[client 127.0.0.1:", &text]);
        assert!(line.ends_with(&text), "{line}");
    }
}

#[test]
fn a_record_of_a_thread_of_its_own_keeps_its_level() {
    let server = at("notice wsgi:debug");
    server.get("/thread-levels").expect(200, "6");
    for (name, level) in LEVELS {
        let line = server.log().wait_for(&[level, &format!("formatted: thread {name}")]);
        assert!(!line.contains("[client"), "{line}");
    }
}

#[test]
fn records_that_the_log_leaves_out_are_not_formatted() {
    let server = at("notice wsgi:warn");
    for path in ["/levels", "/thread-levels"] {
        server.get(path).expect(200, "3");
    }
    server.log().wait_for(&["formatted: request warning"]);
    server.log().wait_for(&["formatted: thread warning"]);
    assert_eq!(server.log().lines_with(&["info", "formatted"]), Vec::<String>::new());
    let server = at("crit");
    server.get("/levels").expect(200, "1");
    server.get("/thread-levels").expect(200, "1");
    server.log().wait_for(&[":crit]", "formatted: request critical"]);
    server.log().wait_for(&[":crit]", "formatted: thread critical"]);
}

#[test]
fn a_request_has_the_log_level_of_its_section() {
    let conf = Conf::serving("logging.wsgi").and(
        "LogLevel notice wsgi:warn\n<Location /levels/deep>\nLogLevel wsgi:debug\n</Location>",
    );
    let server = Server::start(conf);
    server.get("/levels").expect(200, "3");
    server.get("/levels/deep").expect(200, "6");
    server.log().wait_for(&[":debug]", "formatted: request/deep debug"]);
}

#[test]
fn a_record_says_where_it_comes_from() {
    let conf = Conf::serving("logging.wsgi").and("ErrorLogFormat \"(%F) [%l] %M\"");
    let server = Server::start(conf);
    let of_a_request = ("/levels", "formatted: request error");
    let of_none = ("/thread-levels", "thread error");
    // What is about no request has httpd's usual form, which names no file, in a worker process.
    let places = if by_daemon() { vec![of_a_request] } else { vec![of_a_request, of_none] };
    for (path, words) in places {
        server.get(path);
        let line = server.log().wait_for(&["[error]", words]);
        let place = line.strip_prefix("(logging.wsgi(").expect(&line);
        assert!(place.split(')').next().is_some_and(|n| n.parse::<u32>().is_ok()), "{line}");
    }
}

#[test]
fn a_record_that_cannot_be_formatted_says_so_and_harms_nobody() {
    let server = at("notice");
    server.get("/unformattable").expect(200, "fine");
    server.log().wait_for(&["--- Logging error ---"]);
    server.log().wait_for(&["TypeError: "]);
}

#[test]
fn the_streams_are_text_streams_that_can_be_written_to() {
    let server = at("notice");
    let answer = server.get("/streams");
    for stream in ["stdout", "stderr", "errors"] {
        for (key, value) in [
            ("encoding", "'utf-8'"),
            ("errors", "'replace'"),
            ("newlines", "None"),
            ("line_buffering", "True"),
            ("mode", "'w'"),
            ("closed", "False"),
            ("TextIOBase", "True"),
            ("can", "(False, False, True, False)"),
            ("reconfigure", "None"),
            ("with", "True"),
            ("written", "13"),
            ("buffer", "14"),
            ("str to buffer", "TypeError"),
            ("fileno", "UnsupportedOperation"),
            ("read", "UnsupportedOperation"),
            ("tell", "UnsupportedOperation"),
            ("detach", "UnsupportedOperation"),
        ] {
            assert_eq!(answer.fact(&format!("{stream}.{key}")), value, "{stream}.{key}");
        }
    }
    assert_eq!(answer.fact("errors.name"), "'<wsgi.errors>'");
    server.log().wait_for_count(&[":error]", "[client", "stream: caf"], 3);
    server.log().wait_for_count(&[":error]", "[client", "buffer: caf"], 3);
}

#[test]
fn faulthandler_says_that_there_is_no_descriptor() {
    // Into other interpreters CPython does not load it.
    let conf = Conf::serving("logging.wsgi").and("WSGIApplicationGroup %{GLOBAL}");
    Server::start(conf).get("/faulthandler").expect(200, "UnsupportedOperation");
}

#[test]
fn what_pythons_own_tools_write_arrives() {
    let server = at("notice");
    server.get("/python").expect(200, "redirected\n");
    for text in ["print: a-b", "StreamHandler: a record", "Traceback (most", "KeyError: 'printed'"]
    {
        server.log().wait_for(&[":error]", "[client 127.0.0.1:", text]);
    }
    assert_eq!(server.log().lines_with(&["redirected"]), Vec::<String>::new());
}

#[test]
fn what_a_thread_of_an_application_writes_arrives_even_without_a_line_end() {
    let server = at("notice");
    server.get("/thread-writes").expect(200, "fine");
    for text in ["thread: a whole line", "thread: without an end"] {
        let line = server.log().wait_for(&[":error]", text]);
        assert!(line.ends_with(text) && !line.contains("[client"), "{line}");
    }
}

#[test]
fn stdout_is_left_alone_where_httpd_runs_as_one_process() {
    // What `httpd -X` does.
    let conf = Conf::serving("logging.wsgi").and("Define DEBUG").inside_httpd(
        "its sockets go only after it, and who looks at the end of a test finds them",
    );
    let server = Server::start_with(conf, |root| {
        let text = "import sys\nprint('said to the terminal', flush=True)\n\
                    print('said to the log', file=sys.stderr)\n\
                    def handle_request(environ, start_response):\n    \
                    start_response('200 OK', [])\n    return [b'fine']\n";
        crate::harness::write(root, "apps/logging.wsgi", text);
    });
    server.get("/").expect(200, "fine");
    server.log().wait_for(&[":error]", "said to the log"]);
    let said = std::fs::read_to_string(server.path("logs/said")).expect("httpd's output");
    assert!(said.contains("said to the terminal\n"), "{said}");
    assert_eq!(server.log().lines_with(&["said to the terminal"]), Vec::<String>::new());
}
