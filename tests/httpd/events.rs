//! Events of the module `mod_wsgi`: who is told what about requests, and about the process's end.

use crate::harness::{Conf, Request, Response, Server, by_daemon, eventually, write};

fn serve() -> Server {
    Server::serving("events.wsgi")
}

fn ask(server: &Server, request: &Request, tag: &str) -> Response {
    server.send(&request.clone().header("X-Tag", tag))
}

/// What was told about a request, once the last callback was told that it has finished: the client is not
/// kept waiting for that.
fn told(server: &Server, tag: &str) -> Response {
    eventually("request_finished", || {
        let shown = server.get(&format!("/seen/{tag}"));
        shown.fact("last").contains("request_finished").then_some(shown)
    })
}

fn number(told: &Response, key: &str) -> f64 {
    let fact = told.fact(&format!("request_finished.{key}"));
    fact.split_once(' ').and_then(|(_, value)| value.parse().ok()).expect(key)
}

#[test]
fn a_request_is_told_from_its_start_to_its_end() {
    let server = serve();
    let answer = ask(&server, &Request::post("/place/more", b"the body"), "whole");
    answer.expect(202, "a callback the body");
    let told = told(&server, "whole");
    assert_eq!(told.fact("names"), "request_started response_started request_finished");
    let child = server.only_own_child();
    for (key, value) in [
        ("request_started.server_pid", format!("str '{child}'")),
        ("request_started.daemon_connects", format!("int {}", u8::from(by_daemon()))),
        ("request_started.daemon_restarts", "int 0".to_owned()),
        ("request_started.callable_object", "str 'handle_request'".to_owned()),
        ("response_started.response_status", "str '202 Accepted'".to_owned()),
        ("response_started.response_headers", "list [('X-One', '1')]".to_owned()),
        ("response_started.exception_info", "NoneType None".to_owned()),
        ("request_finished.status", "int 202".to_owned()),
        ("request_finished.input_reads", "int 2".to_owned()),
        ("request_finished.input_length", "int 8".to_owned()),
        ("request_finished.output_writes", "int 1".to_owned()),
        ("request_finished.output_length", "int 19".to_owned()),
        ("request_finished.request_data", "dict {'tag': 'whole'}".to_owned()),
    ] {
        assert_eq!(told.fact(key), value, "{key}");
    }
    let id = told.fact("request_started.request_id");
    assert!(id.len() > "str ''".len(), "{id}");
    for event in ["response_started", "request_finished"] {
        assert_eq!(told.fact(&format!("{event}.request_id")), id);
    }
    for key in ["thread_id", "request_start", "queue_start", "daemon_start", "application_start"] {
        let [start, finish] =
            ["started", "finished"].map(|name| told.fact(&format!("request_{name}.{key}")));
        assert_eq!(start, finish, "{key}");
    }
    assert!(told.fact("request_started.thread_id").starts_with("int "));
    assert!(told.fact("request_started.application_object").starts_with("function "));
    assert!(told.fact("request_started.request_environ").starts_with("dict "));
    assert!(number(&told, "application_finish") >= number(&told, "application_start"));
    for key in ["application_time", "input_time", "output_time", "gil_wait_time", "cpu_time"] {
        assert!(told.fact(&format!("request_finished.{key}")).starts_with("float "), "{key}");
        assert!(number(&told, key) >= 0.0, "{key}");
    }
    let parts = number(&told, "cpu_user_time") + number(&told, "cpu_system_time");
    assert_eq!(number(&told, "cpu_time"), parts);
}

#[test]
fn a_body_that_came_with_its_request_is_read_without_waiting() {
    let server = serve();
    let waited = |tag: &str| {
        let told = told(&server, tag);
        assert_eq!(told.fact("request_finished.input_length"), "int 8");
        number(&told, "input_time")
    };
    ask(&server, &Request::post("/place", b"the body"), "with").expect(202, "a callback the body");
    assert_eq!(waited("with"), 0.0);
    let mut client = server.client();
    let (head, body) = (Request::post("/place", b"the body").header("X-Tag", "after"), b"the body");
    client.send_head(&head);
    eventually("the application waits for it", || {
        let line = server.get("/seen/after").text();
        line.contains("request_started").then_some(())
    });
    client.write(body);
    client.read("POST").expect(202, "a callback the body");
    assert!(waited("after") > 0.0);
    let waits = number(&told(&server, "after"), "gil_wait_count");
    assert!(waits >= 1.0, "waiting for the body let the GIL go");
}

#[test]
fn blocks_and_writes_are_counted() {
    let server = serve();
    ask(&server, &Request::get("/blocks"), "blocks").expect(202, "one,two,three");
    let told = told(&server, "blocks");
    assert_eq!(told.fact("request_finished.output_writes"), "int 3");
    assert_eq!(told.fact("request_finished.output_length"), "int 13");
}

#[test]
fn callbacks_are_called_in_order_and_see_what_those_before_returned() {
    let server = serve();
    ask(&server, &Request::get("/"), "order");
    let told = told(&server, "order");
    assert_eq!(told.fact("second"), ["from the first"; 3].join(" "));
}

#[test]
fn a_callback_can_put_another_application_in_the_place() {
    let server = serve();
    ask(&server, &Request::get("/"), "replace").expect(201, "replaced");
    server.get("/").expect(202, "nobody ");
}

#[test]
fn what_a_callback_raises_is_logged_and_changes_nothing() {
    let server = serve();
    ask(&server, &Request::get("/"), "fail").expect(202, "a callback ");
    assert_eq!(told(&server, "fail").fact("second"), ["from the first"; 3].join(" "));
    for name in ["request_started", "response_started", "request_finished"] {
        server.log().wait_for(&[":error]", &format!("LookupError: in {name}")]);
    }
}

#[test]
fn what_an_application_raises_is_told() {
    let server = serve();
    assert_eq!(ask(&server, &Request::get("/raise"), "raise").status, 500);
    let told_raise = told(&server, "raise");
    assert_eq!(told_raise.fact("names"), "request_started request_exception request_finished");
    let exception = told_raise.fact("request_exception.exception_info");
    assert!(exception.starts_with("tuple (<class 'KeyError'>, KeyError('on purpose'), <traceback"));
    assert_eq!(told_raise.fact("request_finished.status"), "int 500");
    // Before validation: a status that is refused was told as well.
    assert_eq!(ask(&server, &Request::get("/invalid"), "invalid").status, 500);
    let told_invalid = told(&server, "invalid");
    assert_eq!(told_invalid.fact("response_started.response_status"), "str 'no status'");
}

#[test]
fn a_request_timeout_is_a_504_or_a_response_that_breaks_off() {
    let server = serve();
    assert_eq!(ask(&server, &Request::get("/timeout"), "timeout").status, 504);
    assert_eq!(told(&server, "timeout").fact("request_finished.status"), "int 504");
    let late = ask(&server, &Request::get("/late-timeout"), "late");
    assert_eq!((late.status, late.text(), late.whole), (202, "one,".to_owned(), false));
    server.log().wait_for_count(&[":info]", "[client", "RequestTimeout raised by script"], 2);
    assert_eq!(server.log().lines_with(&["Traceback"]), Vec::<String>::new());
}

#[test]
fn a_stop_is_told_before_the_interpreters_end() {
    let server = serve();
    server.get("/").expect(202, "nobody ");
    let warned = !server.log().lines_with(&[":warn]", "subscribe_signals", "no effect"]).is_empty();
    assert_eq!(warned, !by_daemon());
    let reason = if by_daemon() { "shutdown_signal" } else { "" };
    let notes = ["stopping", "shutdown"].map(|name| server.path(&format!("state/{name}")));
    server.begin_stop_at_rest();
    for note in notes {
        eventually("a note", || {
            let text = std::fs::read_to_string(&note).ok()?;
            (text == format!("process_stopping {{'shutdown_reason': '{reason}'}}\n")).then_some(())
        });
    }
    server.ended();
}

/// A thread that is no daemon, which ends only when it is told, and a note at exit.
const WORKER: &str = r#"
import atexit, pathlib, threading, mod_wsgi

note = pathlib.Path(__file__).parent.parent / "state" / "order"
stop = threading.Event()

def work():
    stop.wait()
    with note.open("a") as file:
        file.write("thread ")

# A thread that a request's thread makes is a daemon unless it is told otherwise.
threading.Thread(target=work, daemon=False).start()

@mod_wsgi.subscribe_shutdown
def tell(name, **event):
    with note.open("a") as file:
        file.write("shutdown ")
    stop.set()

@atexit.register
def leave():
    with note.open("a") as file:
        file.write("atexit")

def handle_request(environ, start_response):
    start_response("200 OK", [])
    return [b"working"]
"#;

#[test]
fn a_stop_is_told_first_then_threads_are_joined_then_exit_functions_run() {
    let conf = Conf::new("WSGIHandlerScript app ${APPS}/own.wsgi application-group=app")
        .and("SetHandler app");
    let server = Server::start_with(conf, |root| write(root, "apps/own.wsgi", WORKER));
    server.get("/").expect(200, "working");
    let note = server.path("state/order");
    server.begin_stop_at_rest();
    eventually("all of the note", || {
        let text = std::fs::read_to_string(&note).ok()?;
        text.ends_with("atexit").then(|| assert_eq!(text, "shutdown thread atexit"))
    });
    server.ended();
}
