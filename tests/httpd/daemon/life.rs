//! When a worker process ends, and that another one takes its place.

use super::{conf, groups, process, serve, signal};
use crate::harness::{Request, Server, eventually};
use std::fs;

/// Waits until another process answers.
fn replaced(server: &Server, former: u32) -> u32 {
    eventually("another process", || Some(process(server)).filter(|now| *now != former))
}

/// What the application was told when its processes stopped.
fn told(server: &Server) -> Vec<String> {
    let text = fs::read_to_string(server.path("state/stopped")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn after_its_last_request_a_process_is_replaced_and_no_request_is_lost() {
    let server = serve("maximum-requests=5");
    // Each of these is answered, whichever process it meets.
    replaced(&server, process(&server));
    server.log().wait_for(&["process group 'shop' ends", "maximum-requests=5"]);
    assert!(told(&server).contains(&"process_stopping maximum_requests".to_owned()));
}

#[test]
fn a_process_that_is_old_is_replaced() {
    let server = serve("restart-interval=1");
    replaced(&server, process(&server));
    server.log().wait_for(&["process group 'shop' ends", "restart-interval=1"]);
    assert_eq!(told(&server)[0], "process_stopping restart_interval");
}

#[test]
fn a_process_that_has_nothing_to_do_is_replaced() {
    let server = serve("inactivity-timeout=1");
    let former = process(&server);
    eventually("another process", || Some(()).filter(|()| !server.workers().contains(&former)));
    server.log().wait_for(&["process group 'shop' ends", "inactivity-timeout=1"]);
    assert_eq!(told(&server)[0], "process_stopping inactivity_timeout");
}

#[test]
fn requests_that_do_not_count_keep_no_process() {
    let ignoring = "<Location /alive>\nWSGIIgnoreActivity On\n</Location>";
    let server = Server::start(conf("inactivity-timeout=1").and(ignoring));
    let former = process(&server);
    eventually("another process", || {
        server.get("/alive");
        Some(()).filter(|()| !server.workers().contains(&former))
    });
}

#[test]
fn a_request_that_takes_too_long_is_a_504_and_its_process_is_replaced() {
    let server = serve(
        "threads=1 request-timeout=1 interrupt-timeout=1 graceful-timeout=1 shutdown-timeout=1",
    );
    let former = process(&server);
    assert_eq!(server.get("/silent").status, 504);
    server.log().wait_for(&["MNF0030", "worker.wsgi"]);
    replaced(&server, former);
    server.log().wait_for(&["process group 'shop' ends", "request-timeout"]);
}

#[test]
fn a_gil_that_is_not_let_go_ends_the_process() {
    let conf = groups(
        "WSGIDaemonProcess busy deadlock-timeout=1 shutdown-timeout=1\nWSGIProcessGroup busy\n\
         WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/busy.wsgi\n\
         <Location />\nSetHandler app\n</Location>",
    );
    let server = Server::start(conf);
    let flags = server.flags();
    let former = server.workers();
    assert_eq!(server.get("/").status, 502);
    flags.begun();
    server.log().wait_for(&["process group 'busy' ends", "deadlock-timeout=1"]);
    eventually("another process", || Some(()).filter(|()| server.workers() != former));
}

#[test]
fn a_process_that_cannot_load_its_script_is_given_up() {
    let conf = groups(
        "WSGIDaemonProcess slow startup-timeout=1 shutdown-timeout=1\nWSGIProcessGroup slow\n\
         WSGIScriptAlias / ${APPS}/endless.wsgi application-group=app\n\
         <Location />\nRequire all granted\n</Location>",
    );
    let server = Server::start_with(conf, |root| {
        crate::harness::write(root, "apps/endless.wsgi", "import time\ntime.sleep(3600)\n");
    });
    assert_eq!(server.get("/").status, 502);
    server.log().wait_for(&["process group 'slow' ends", "startup-timeout=1"]);
}

#[test]
fn a_process_that_is_told_to_go_answers_what_it_has_begun() {
    for number in [libc::SIGTERM, libc::SIGINT] {
        let server = serve("threads=2");
        let former = process(&server);
        let (mut client, gate) = server.hold("/held");
        signal(former, number);
        server.log().wait_for(&["process group 'shop' ends", "by a signal"]);
        gate.open();
        client.read("GET").expect(200, &format!("{former} 0"));
        replaced(&server, former);
        assert_eq!(told(&server)[0], "process_stopping shutdown_signal");
    }
}

#[test]
fn a_process_that_is_told_to_go_gracefully_serves_until_it_has_nothing_to_do() {
    for (options, reason) in [("", "graceful_signal"), ("eviction-timeout=30", "eviction_signal")] {
        let server = serve(&format!("threads=2 {options}"));
        let former = process(&server);
        let (mut client, gate) = server.hold("/held");
        signal(former, libc::SIGUSR1);
        server.log().wait_for(&["process group 'shop' ends when its requests have", "SIGUSR1"]);
        assert_eq!(process(&server), former, "it goes on meanwhile");
        gate.open();
        client.read("GET").expect(200, &format!("{former} 0"));
        replaced(&server, former);
        assert_eq!(told(&server)[0], format!("process_stopping {reason}"));
    }
}

#[test]
fn a_request_that_does_not_end_holds_no_stop_up_for_longer_than_its_limits() {
    for (number, options) in [
        (libc::SIGTERM, "shutdown-timeout=1"),
        (libc::SIGUSR1, "graceful-timeout=1 shutdown-timeout=1"),
        (libc::SIGUSR1, "eviction-timeout=1 shutdown-timeout=1"),
    ] {
        let server = serve(&format!("threads=2 {options}"));
        let former = process(&server);
        let (mut client, gate) = server.hold("/held");
        signal(former, number);
        server.log().wait_for(&[":warn]", "MNF0015", "'shop'", "shutdown-timeout (1 s)"]);
        assert_eq!(client.read("GET").status, 502, "{options}");
        replaced(&server, former);
        // The gate was held open by the process that has gone.
        drop(gate);
    }
}

#[test]
fn a_process_that_has_used_up_its_time_on_the_processor_is_replaced() {
    let server = serve("cpu-time-limit=1");
    let former = process(&server);
    server.get("/burn").expect(200, &format!("{former} 0"));
    replaced(&server, former);
    server.log().wait_for(&["process group 'shop' ends", "cpu-time-limit"]);
    assert_eq!(told(&server)[0], "process_stopping cpu_time_limit");
}

#[test]
fn memory_beyond_the_limit_is_an_exception_and_the_process_stays() {
    for option in ["memory-limit", "virtual-memory-limit"] {
        let server = serve(&format!("threads=2 {option}=2147483648"));
        let former = process(&server);
        assert_eq!(server.get("/greedy").status, 500);
        server.log().wait_for(&[":error]", "MemoryError"]);
        assert_eq!(process(&server), former, "{option}");
    }
}

#[test]
fn a_script_that_has_changed_is_served_anew_and_the_request_that_finds_it_is_not_lost() {
    let server = serve("");
    let former = process(&server);
    let text = fs::read_to_string(server.path("apps/worker.wsgi")).expect("the application");
    server.write("apps/worker.wsgi", &text.replace("{len(body)}", "changed {len(body)}"));
    let body = crate::harness::pattern(100_000);
    let changed = eventually("the new code", || {
        let answer = server.send(&Request::post("/", &body));
        assert_eq!(answer.status, 200);
        Some(answer.text()).filter(|text| text.ends_with("changed 100000"))
    });
    // From Python 3.14 on it is the interpreter that is replaced.
    let stays = changed.starts_with(&format!("{former} "));
    assert_eq!(stays, manifold::REPLACES_INTERPRETERS, "{changed}");
}

#[test]
fn a_process_without_threads_is_its_script_and_begins_again_when_that_has_ended() {
    let conf = groups(
        "WSGIDaemonProcess service threads=0\n\
         WSGIImportScript ${APPS}/service.wsgi process-group=service application-group=%{GLOBAL}",
    );
    let server = Server::start_with(conf, |root| {
        let script = "import os\nwith open(os.path.join(os.path.dirname(os.path.dirname(\
                      os.path.abspath(__file__))), 'state', 'runs'), 'a') as file:\n    \
                      file.write('run\\n')\n";
        crate::harness::write(root, "apps/service.wsgi", script);
    });
    eventually("it was run twice", || {
        let runs = fs::read_to_string(server.path("state/runs")).unwrap_or_default();
        Some(()).filter(|()| runs.lines().count() >= 2)
    });
    server.log().wait_for(&["process group 'service' ends", "its script has ended"]);
}

/// Notes the signals it is told of.
const TOLD: &str = r#"
import os, signal, threading, mod_wsgi

STATE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "state")

def note(text):
    with open(os.path.join(STATE, "signals"), "a") as file:
        file.write(f"{mod_wsgi.application_group} {text}\n")

@mod_wsgi.subscribe_signals
def told(name, **event):
    note(f"{name} {sorted(event.items())}")

@mod_wsgi.subscribe_events
def any_event(name, **event):
    if name == "process_signal":
        note(f"event {event['signame']}")

@mod_wsgi.subscribe_shutdown
def stopping(name, **event):
    note(f"{name} {event['shutdown_reason']}")

signal.signal(signal.SIGUSR2, lambda *arguments: note("never called"))

def application(environ, start_response):
    start_response("200 OK", [("X-Process", str(os.getpid()))])
    if environ["PATH_INFO"] == "/held":
        with open(os.path.join(STATE, "held"), "rb") as gate:
            gate.read(1)
    return [b"fine"]
"#;

#[test]
fn signals_that_mean_nothing_to_the_process_are_told_to_applications_in_every_interpreter() {
    let conf = groups(
        "WSGIDaemonProcess shop threads=1\nWSGIProcessGroup shop\n\
         WSGIScriptAlias /a ${APPS}/told.wsgi application-group=a\n\
         WSGIScriptAlias /main ${APPS}/told.wsgi application-group=%{GLOBAL}\n\
         <Location />\nRequire all granted\n</Location>",
    );
    let server =
        Server::start_with(conf, |root| crate::harness::write(root, "apps/told.wsgi", TOLD));
    for url in ["/a", "/main"] {
        server.get(url).expect(200, "fine");
    }
    let [worker] = server.workers()[..] else { panic!("one process") };
    let restricted = ["WSGIRestrictSignal", "worker process of process group 'shop'"];
    server.log().wait_for_count(&restricted, 2);
    // The only thread of one of them is busy with a request.
    let (mut client, gate) = server.hold("/a/held");
    let notes = || {
        let text = fs::read_to_string(server.path("state/signals")).unwrap_or_default();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let mut expected = Vec::new();
    for (number, name) in [(libc::SIGUSR2, "SIGUSR2"), (libc::SIGHUP, "SIGHUP")] {
        signal(worker, number);
        for group in ["", "a"] {
            expected.push(format!("{group} event {name}"));
            expected.push(format!(
                "{group} process_signal [('signame', '{name}'), ('signum', {number})]"
            ));
        }
        expected.sort();
        eventually("all are told", || Some(()).filter(|()| notes() == expected));
    }
    gate.open();
    client.read("GET").expect(200, "fine");
    assert_eq!(server.workers(), [worker]);
    // The others are told as a stop.
    signal(worker, libc::SIGUSR1);
    for group in ["", "a"] {
        expected.push(format!("{group} process_stopping graceful_signal"));
    }
    expected.sort();
    eventually("all are told", || Some(()).filter(|()| notes() == expected));
}
