//! A child stops within a bound whatever its applications leave behind: each test has a script that
//! misbehaves in one way, in the main interpreter and in replicas of another group, and a group that
//! behaves well beside them. httpd is told to stop, at once and gracefully; it may have to remind its
//! child after three seconds, but never to kill it, and nothing crashes.

use crate::harness::{Client, Conf, Request, Server, at_once, eventually, write};

/// What every script has; what it does when it is loaded comes below it. `/native` calls a C function
/// that does not return, without the GIL, and `/native-gil` with it.
const APPLICATION: &str = r#"
import atexit, ctypes, json, os, threading, time

STATE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "state")

def leave_a_note(name):
    with open(os.path.join(STATE, f"{name}-{threading.get_native_id()}"), "w"):
        pass

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/native"):
        library = (ctypes.PyDLL if path == "/native-gil" else ctypes.CDLL)(None)
        stuck = library.pause
        leave_a_note(path[1:])
        stuck()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]

def for_ever():
    while True:
        json.loads(json.dumps({"a": [time.time()] * 10}))
        time.sleep(0.0005)
"#;

/// Threads that are no daemons and never end: one that waits and one that works.
const THREADS: &str = "
for target in (threading.Event().wait, for_ever):
    threading.Thread(target=target, daemon=False).start()
";

/// Daemon threads: one that waits, some that work, one in a C call, and one whose work is in C.
const DAEMONS: &str = "
import hashlib
def digest():
    while True:
        hashlib.sha256(bytes(1 << 20)).digest()
targets = [threading.Event().wait, for_ever, for_ever, ctypes.CDLL(None).pause, digest]
for target in targets:
    threading.Thread(target=target, daemon=True).start()
";

/// Exit functions that sleep for longer than any stop may take.
const EXITS: &str = "
atexit.register(time.sleep, 3600)
atexit.register(time.sleep, 1)
";

/// Which requests are in a C call when httpd is told to stop.
#[derive(Clone, Copy)]
enum Stuck {
    None,
    WithoutTheGil,
    WithTheGil,
    Both,
}

#[derive(Clone, Copy, Debug)]
enum Stop {
    AtOnce,
    Gracefully,
}

/// Stops servers of such a script in both ways, with one replica and with two, at the same time.
fn every_stop_ends(script: &str, stuck: Stuck) {
    let stops = [Stop::AtOnce, Stop::Gracefully];
    let kinds = stops.map(|stop| [1, 2].map(|replicas| (stop, replicas))).concat();
    at_once(kinds.len(), |i| {
        let (stop, replicas) = kinds[i];
        println!("with {replicas} replicas, stopped {stop:?}");
        a_stop_ends(script, stuck, stop, replicas);
    });
}

fn a_stop_ends(script: &str, stuck: Stuck, stop: Stop, replicas: usize) {
    let server = start(script, replicas);
    server.get("/app").expect(200, "hello");
    server.get("/main").expect(200, "hello");
    server.get("/good").expect(200, "hello");
    let clients = requests_in_c(&server, stuck, replicas);
    let farewell = server.path("state/farewell-good");
    match stop {
        Stop::AtOnce => server.begin_stop(),
        Stop::Gracefully => server.begin_graceful_stop(),
    }
    // What the applications of others leave behind keeps nobody from saying goodbye.
    eventually("a note of farewell", || {
        (std::fs::read_to_string(&farewell).ok()? == "goodbye\n").then_some(())
    });
    server.ended_after_a_reminder();
    drop(clients);
}

/// A child in which every replica and the main interpreter have loaded the script before it accepts.
fn start(script: &str, replicas: usize) -> Server {
    let groups = ["app", "%{GLOBAL}"];
    let imports = groups.map(|group| {
        format!(
            "WSGIImportScript ${{APPS}}/own.wsgi process-group=${{GROUP}} \
             application-group={group}\n"
        )
    });
    // A graceful stop waits for requests for as long as they take: those in C get a 504.
    let conf = Conf::new(&format!(
        "WSGIReplicas {replicas}\n{}\
         <LocationMatch \"/native\">\nWSGIRequestTimeout 1\n</LocationMatch>\n\
         WSGIScriptAlias /app ${{APPS}}/own.wsgi application-group=app\n\
         WSGIScriptAlias /main ${{APPS}}/own.wsgi application-group=%{{GLOBAL}}\n\
         WSGIHandlerScript good ${{APPS}}/farewell.wsgi application-group=good\n\
         <Location /good>\nSetHandler good\n</Location>\n\
         <WSGIInterpreterOptions application-group=good>\nWSGIReplicas 1\n\
         </WSGIInterpreterOptions>",
        imports.concat()
    ));
    let text = format!("{APPLICATION}{script}");
    Server::start_with(conf, |root| write(root, "apps/own.wsgi", &text))
}

/// Clients whose requests are all in C: first those without the GIL, two in each group, then one that
/// keeps it for each interpreter.
fn requests_in_c(server: &Server, stuck: Stuck, replicas: usize) -> Vec<Client> {
    let (without, with) = match stuck {
        Stuck::None => (false, false),
        Stuck::WithoutTheGil => (true, false),
        Stuck::WithTheGil => (false, true),
        Stuck::Both => (true, true),
    };
    let mut clients = Vec::new();
    let mut send = |path: &str, name: &str, targets: Vec<&str>| {
        for target in &targets {
            let mut client = server.client();
            client.send_head(&Request::get(&format!("{target}{path}")));
            clients.push(client);
        }
        let begun = || {
            let notes = std::fs::read_dir(server.path("state")).expect("the folder of notes");
            notes
                .flatten()
                .filter(|note| {
                    let note = note.file_name().to_string_lossy().into_owned();
                    note.rsplit_once('-').is_some_and(|(kind, _)| kind == name)
                })
                .count()
        };
        eventually("all are in C", || (begun() == targets.len()).then_some(()));
    };
    if without {
        send("/native", "native", vec!["/app", "/app", "/main", "/main"]);
    }
    if with {
        let targets = [vec!["/app"; replicas], vec!["/main"]].concat();
        send("/native-gil", "native-gil", targets);
    }
    clients
}

#[test]
fn threads_that_never_end_do_not_keep_a_child_from_stopping() {
    every_stop_ends(THREADS, Stuck::None);
}

#[test]
fn daemon_threads_do_not_keep_a_child_from_stopping() {
    every_stop_ends(DAEMONS, Stuck::None);
}

#[test]
fn exit_functions_that_sleep_do_not_keep_a_child_from_stopping() {
    every_stop_ends(EXITS, Stuck::None);
}

#[test]
fn calls_of_c_that_do_not_return_do_not_keep_a_child_from_stopping() {
    every_stop_ends("", Stuck::WithoutTheGil);
}

#[test]
fn calls_of_c_that_keep_the_gil_do_not_keep_a_child_from_stopping() {
    every_stop_ends("", Stuck::WithTheGil);
}

#[test]
fn all_of_it_together_does_not_keep_a_child_from_stopping() {
    every_stop_ends(&[THREADS, DAEMONS, EXITS].concat(), Stuck::Both);
}
