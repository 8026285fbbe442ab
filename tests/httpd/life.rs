//! The life and the end of a child: graceful restarts, stops with and without requests in flight.

use std::sync::{Mutex, PoisonError};

use crate::applications::put_django_site;
use crate::harness::{Conf, Load, Mode, Request, Server, Tally, eventually, test_venv, write};

/// One load at a time: two of them on a small machine would measure each other.
static LOAD: Mutex<()> = Mutex::new(());

/// `/app` is served by `hello.wsgi`, `/static.txt` by httpd; both send the same bytes.
fn static_beside_the_application() -> Server {
    let conf = Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/hello.wsgi\n\
         <Location /app>\nSetHandler app\n</Location>",
    );
    Server::start_with(conf.threads(16), |root| write(root, "docs/static.txt", "Hello, world!\n"))
}

/// Ten graceful restarts under the same load on the application and on a static file.
fn ten_restarts_under_load(server: &Server, clients: usize, mode: Mode) -> (Tally, Tally) {
    let application = Load::start(server.address(), "/app", clients, mode);
    let file = Load::start(server.address(), "/static.txt", clients, mode);
    for _ in 0..10 {
        application.goes_on(100);
        file.goes_on(100);
        let before = server.children();
        server.graceful();
        eventually("a child of the next generation", || {
            server.children().iter().any(|child| !before.contains(child)).then_some(())
        });
    }
    application.goes_on(100);
    file.goes_on(100);
    server.only_child(); // those of the older generations have all ended
    let (application, file) = (application.finish(), file.finish());
    println!("the application's: {application:?}; the file's: {file:?}");
    (application, file)
}

#[test]
fn ten_graceful_restarts_lose_no_request_with_connections_closed() {
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    let server = static_beside_the_application();
    let (application, file) = ten_restarts_under_load(&server, 3, Mode::Close);
    assert!(file.resets == 0 && file.failures.is_empty(), "httpd's own: {file:?}");
    assert!(application.resets == 0 && application.failures.is_empty(), "{application:?}");
    server.stop();
}

#[test]
fn ten_graceful_restarts_reset_no_more_kept_connections_than_httpd_does() {
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    let server = static_beside_the_application();
    let (application, file) = ten_restarts_under_load(&server, 6, Mode::KeepAlive);
    assert!(application.failures.is_empty(), "{application:?}");
    // Whether a child's end meets a connection between two requests is chance, for either target.
    let (ours, theirs) = (application.resets as f64, file.resets as f64);
    let chance = 3.0 * (ours + theirs).sqrt();
    assert!(ours <= theirs + chance, "{ours} resets, and {theirs} of httpd's own");
    server.stop();
}

/// Twenty servers, each stopped while Flask and Django answer, in groups of one replica and of two;
/// how many children crashed. Nothing else may be wrong with the end of any.
fn crashes_in_twenty_stops_under_load(conf: fn(&str) -> Conf) -> usize {
    let groups = [("flask", "site", 1), ("flasks", "site", 2), ("djangos", "django", 2)];
    let text = groups.map(|(group, script, replicas)| {
        format!(
            "WSGIScriptAlias /{group} ${{APPS}}/{script}.wsgi application-group={group}\n\
             <WSGIInterpreterOptions application-group={group}>\nWSGIReplicas {replicas}\n\
             </WSGIInterpreterOptions>\n"
        )
    });
    let text =
        format!("WSGIPythonPath ${{APPS}}\nWSGICallableObject handle_request\n{}", text.concat());
    let home = test_venv();
    let mut crashes = 0;
    for _ in 0..20 {
        let conf = conf(&text).python_home(&home);
        let server = Server::start_with(conf, put_django_site);
        let targets = ["/flask/", "/flasks/", "/flasks/items", "/djangos/facts/"];
        let load = |target| Load::start(server.address(), target, 1, Mode::KeepAlive);
        let loads = targets.map(load);
        for load in &loads {
            load.goes_on(20);
        }
        server.begin_stop();
        crashes += server.ended_or_crashed();
        for load in loads {
            load.finish();
        }
    }
    crashes
}

#[test]
fn twenty_stops_under_load_with_flask_and_django_in_replicas_end_well() {
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    let crashes = crashes_in_twenty_stops_under_load(|text| Conf::new(text).on_worker());
    assert_eq!(crashes, 0);
}

#[test]
fn twenty_stops_under_load_end_on_event_as_well_as_httpd_lets_them() {
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    let crashes = crashes_in_twenty_stops_under_load(Conf::new);
    // Of 20 such stops without any module one crashes on average (see Server::settle); the
    // chance of more than four is below one in two hundred.
    assert!(crashes <= 4, "{crashes} of 20 children crashed");
}

#[test]
fn flask_answers_in_a_group_of_its_own() {
    let server = Server::start(Conf::serving("site.wsgi").python_home(&test_venv()));
    assert!(server.get("/site/?name=you").text().starts_with("<h1>Hello, you!</h1><p>0</p>"));
    let posted =
        Request::post("/site/items", br#"{"a": 1}"#).header("Content-Type", "application/json");
    assert!(server.send(&posted).text().contains(r#""posted":{"a":1}"#));
    assert_eq!(server.get("/site/nothing").status, 404);
}

#[test]
fn a_graceful_restart_finishes_the_requests_in_flight() {
    let server = Server::serving("waiting.wsgi");
    let gate = server.gate("gate");
    let old = server.only_child();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| server.get("/gate"));
        gate.held();
        server.graceful();
        server.get("/").expect(200, "at once");
        assert!(server.children().contains(&old), "the old child still has a request");
        gate.open();
        client.join().expect("the client").expect(200, "past the gate");
    });
    eventually("the old child ends", || (!server.children().contains(&old)).then_some(()));
    server.stop();
}

#[test]
fn a_graceful_stop_finishes_the_requests_in_flight() {
    let server = Server::serving("waiting.wsgi");
    let gate = server.gate("gate");
    let [mut waiting, mut half] = [server.client(), server.client()];
    waiting.send_head(&Request::get("/gate"));
    half.send_head(&Request::get("/half"));
    // Both are in the application: one stands at the gate, the other has sent its first block.
    assert_eq!(half.read_head().status, 200);
    gate.held();
    server.begin_graceful_stop();
    server.log().wait_for(&["SIGWINCH"]);
    gate.open();
    waiting.read("GET").expect(200, "past the gate");
    server.ended();
}

#[test]
fn a_stop_does_not_wait_for_an_application_that_waits() {
    for group in ["app", "%{GLOBAL}"] {
        let conf = Conf::serving("waiting.wsgi").and(&format!("WSGIApplicationGroup {group}"));
        let server = Server::start(conf);
        server.get("/").expect(200, "at once");
        let gate = server.gate("gate");
        let [mut at_the_gate, mut for_ever] = [server.client(), server.client()];
        at_the_gate.send_head(&Request::get("/gate"));
        for_ever.send_head(&Request::get("/for-ever"));
        gate.held();
        server.begin_stop();
        server.ended();
        drop(gate);
    }
}

#[test]
fn a_stop_does_not_wait_for_an_application_that_keeps_its_gil() {
    let server = Server::serving("busy.wsgi");
    let flags = server.flags();
    let mut client = server.client();
    client.send_head(&Request::get("/"));
    flags.begun();
    server.begin_stop();
    server.ended();
    drop((flags, client));
}

#[test]
fn a_stop_does_not_wait_for_a_script_that_is_still_loading() {
    let server = Server::serving("held.wsgi");
    let gate = server.gate("import");
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = server.client();
            client.send_head(&Request::get("/"));
            client
        })
        .collect();
    gate.held();
    server.begin_stop();
    server.ended();
    drop((gate, clients));
}

#[test]
fn exit_functions_run_in_every_interpreter_at_a_stop() {
    let conf = Conf::new(
        "WSGIHandlerScript sub ${APPS}/farewell.wsgi application-group=sub\n\
         WSGIHandlerScript main ${APPS}/farewell.wsgi application-group=%{GLOBAL}\n\
         <Location /sub>\nSetHandler sub\n</Location>\n\
         <Location /main>\nSetHandler main\n</Location>",
    );
    let server = Server::start(conf);
    server.get("/sub").expect(200, "hello");
    server.get("/main").expect(200, "hello");
    let notes = ["sub", "main"].map(|group| server.path(&format!("state/farewell-{group}")));
    server.begin_stop_at_rest();
    for note in notes {
        eventually("a note of farewell", || {
            (std::fs::read_to_string(&note).ok()? == "goodbye\n").then_some(())
        });
    }
    server.ended();
}

/// Its exit function waits at a gate, and leaves a note behind it.
const LEAVING: &str = r#"
import atexit, pathlib

state = pathlib.Path(__file__).parent.parent / "state"

@atexit.register
def leave():
    (state / "gate").open("rb").read(1)
    (state / "done").touch()

def handle_request(environ, start_response):
    start_response("200 OK", [])
    return [b"here"]
"#;

#[test]
fn a_reminder_does_not_cut_exit_functions_short() {
    let conf = Conf::serving("own.wsgi");
    let server = Server::start_with(conf, |root| write(root, "apps/own.wsgi", LEAVING));
    server.get("/").expect(200, "here");
    let (child, gate) = (server.only_child(), server.gate("gate"));
    server.begin_stop_at_rest();
    gate.held();
    for _ in 0..3 {
        server.remind(child);
    }
    gate.open();
    let done = server.path("state/done");
    eventually("the exit function has come to its end", || done.exists().then_some(()));
    server.ended();
}

/// It registers with the C library what a library does that is loaded by an application: here it is a
/// crash, so whether it has run is seen.
const REGISTERING: &str = r#"
import ctypes

libc = ctypes.CDLL(None)
libc.__cxa_atexit(ctypes.cast(libc.abort, ctypes.c_void_p), None, None)

def handle_request(environ, start_response):
    start_response("200 OK", [])
    return [b"registered"]
"#;

#[test]
fn no_librarys_destructor_runs_beside_threads_that_end() {
    let conf = Conf::serving("own.wsgi");
    let server = Server::start_with(conf, |root| write(root, "apps/own.wsgi", REGISTERING));
    server.get("/").expect(200, "registered");
    server.stop();
}

#[test]
fn a_stop_before_the_first_request_ends_well() {
    for _ in 0..5 {
        Server::serving("hello.wsgi").stop();
    }
}

/// What the one child does with each signal, as its kernel has it.
fn signals(server: &Server) -> Vec<String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.only_child()));
    let status = status.expect("the child's status");
    let masks =
        status.lines().filter(|line| line.starts_with("SigIgn") || line.starts_with("SigCgt"));
    masks.map(str::to_owned).collect()
}

#[test]
fn signals_are_as_httpd_has_them() {
    let with_python = Server::serving("hello.wsgi");
    with_python.get("/").expect(200, "Hello, world!\n");
    let without = Server::start(Conf::serving("hello.wsgi").python_home("/no/such/python"));
    assert_eq!(without.get("/").status, 500);
    assert_eq!(signals(&with_python), signals(&without));
}
