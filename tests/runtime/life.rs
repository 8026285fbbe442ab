//! How a runtime starts and ends. Each test has a process of its own, which it leaves as it is.

use crate::harness::{Folder, Request, app_script, in_its_own_process, request, settings};
use manifold::{
    Code, GroupName, InterpreterOptions, Left, Limits, OptionsTable, Outcome, Patience, Refusal,
    Runtime, Script, Settings,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Leaves a note when its interpreter ends, and makes threads of different kinds, as PATH_INFO says.
const LEAVER: &str = "
import atexit, concurrent.futures, threading

def write(name, text):
    with open(f'FOLDER/{name}', 'a') as note:
        note.write(text)

def wait_for_the_gate(group, gate):
    with gate:
        gate.read()
    write(f'{group}-thread', 'through the gate')

def application(environ, start_response):
    group = environ['mod_wsgi.application_group'] or 'main'
    atexit.register(write, group, 'goodbye')
    for_ever = threading.Event().wait
    if environ['PATH_INFO'] == '/thread':
        threading.Thread(target=for_ever, daemon=False).start()
    if environ['PATH_INFO'] == '/daemon':
        threading.Thread(target=for_ever, daemon=True).start()
    if environ['PATH_INFO'] == '/gate':
        # Opened before the test is told, so that the gate has a reader when it is let go.
        gate = open('FOLDER/gate')
        threading.Thread(target=wait_for_the_gate, args=[group, gate], daemon=False).start()
    if environ['PATH_INFO'] == '/pool':
        concurrent.futures.ThreadPoolExecutor(2).submit(write, f'{group}-thread', 'in a pool')
    start_response('200 OK', [])
    return [b'registered']
";

/// A runtime with one thread for each interpreter.
fn start() -> Runtime {
    Runtime::start(Settings { interpreter_threads: 1, ..settings() })
}

/// More time than anything should need.
fn enough() -> Limits {
    limits(Duration::from_secs(60), Duration::from_secs(60))
}

fn limits(requests: Duration, everything: Duration) -> Limits {
    let now = Instant::now();
    Limits { requests: now + requests, everything: now + everything }
}

fn send(
    runtime: &Runtime,
    group: &str,
    script: &Arc<Script>,
    path: &str,
) -> Result<Request, Refusal> {
    request(runtime, &GroupName::new(group.as_bytes()), script, path, Patience::Endless)
}

fn get(runtime: &Runtime, group: &str, script: &Arc<Script>, path: &str) -> String {
    send(runtime, group, script, path).expect("it is taken").finish(b"").text()
}

/// The code that a request is refused with.
fn refused(runtime: &Runtime, group: &str) -> Code {
    send(runtime, group, &app_script(), "/hello").err().expect("it is refused").code
}

#[test]
fn a_runtime_that_has_worked_leaves_nothing_and_takes_nothing_more() {
    in_its_own_process(|| {
        let runtime = start();
        for group in ["", "a", "b"] {
            assert_eq!(get(&runtime, group, &app_script(), "/hello"), "hello");
        }
        assert_eq!(runtime.finish(enough()), Left::Nothing);
        for group in ["", "a", "b"] {
            assert_eq!(refused(&runtime, group), Code::Stopping);
        }
        assert_eq!(runtime.finish(enough()), Left::Nothing);
    });
}

#[test]
fn a_runtime_that_has_ended_makes_no_new_interpreter() {
    in_its_own_process(|| {
        let runtime = start();
        assert_eq!(runtime.finish(enough()), Left::Nothing);
        assert_eq!(refused(&runtime, "a group that was never there"), Code::Stopping);
    });
}

#[test]
fn a_runtime_that_was_interrupted_makes_no_new_interpreter() {
    in_its_own_process(|| {
        let runtime = start();
        runtime.interrupt(enough());
        assert_eq!(refused(&runtime, "a group that was never there"), Code::Stopping);
        assert_eq!(runtime.finish(enough()), Left::Nothing);
    });
}

#[test]
fn a_runtime_that_has_done_nothing_leaves_nothing() {
    in_its_own_process(|| {
        assert_eq!(start().finish(enough()), Left::Nothing);
    });
}

#[test]
fn exit_functions_are_called_in_every_interpreter() {
    in_its_own_process(|| {
        let (runtime, folder) = (start(), Folder::new());
        let script = folder.script("leaver.wsgi", LEAVER);
        for group in ["", "a", "b"] {
            assert_eq!(get(&runtime, group, &script, "/"), "registered");
        }
        assert_eq!(runtime.finish(enough()), Left::Nothing);
        for group in ["main", "a", "b"] {
            assert_eq!(folder.text(group).as_deref(), Some("goodbye"), "{group}");
        }
    });
}

#[test]
fn threads_of_an_application_that_come_to_an_end_are_waited_for() {
    in_its_own_process(|| {
        let (runtime, folder) = (start(), Folder::new());
        let script = folder.script("leaver.wsgi", LEAVER);
        let gate = folder.pipe("gate");
        for group in ["", "a"] {
            assert_eq!(get(&runtime, group, &script, "/gate"), "registered");
        }
        std::thread::scope(|scope| {
            let finishing = scope.spawn(|| runtime.finish(enough()));
            while send(&runtime, "a", &script, "/").is_ok() {
                std::thread::yield_now();
            }
            drop(gate);
            assert_eq!(finishing.join().expect("no panic"), Left::Nothing);
        });
        for group in ["main", "a"] {
            let thread = folder.text(&format!("{group}-thread"));
            assert_eq!(thread.as_deref(), Some("through the gate"), "{group}");
            assert!(folder.text(group).is_some_and(|text| text.starts_with("goodbye")), "{group}");
        }
    });
}

#[test]
fn the_thread_pools_of_applications_are_wound_up() {
    in_its_own_process(|| {
        let (runtime, folder) = (start(), Folder::new());
        let script = folder.script("leaver.wsgi", LEAVER);
        for group in ["", "a"] {
            assert_eq!(get(&runtime, group, &script, "/pool"), "registered");
        }
        assert_eq!(runtime.finish(enough()), Left::Nothing);
        for group in ["main", "a"] {
            let thread = folder.text(&format!("{group}-thread"));
            assert_eq!(thread.as_deref(), Some("in a pool"), "{group}");
        }
    });
}

/// From 3.13 on, CPython runs the first part of an extension module in the main interpreter, by a thread
/// state made for that.
#[test]
fn interpreters_that_import_extensions_while_they_end_leave_nothing() {
    const IMPORTER: &str = "
import atexit, importlib.machinery, importlib.util, time

EXTENSIONS = ('_json', '_heapq', '_bisect', '_csv', '_queue', '_zoneinfo', '_lsprof', '_asyncio')
found = (importlib.util.find_spec(name) for name in EXTENSIONS)
SPEC = next(spec for spec in found
            if isinstance(spec.loader, importlib.machinery.ExtensionFileLoader))

def load_for_a_while():
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        importlib.util.module_from_spec(SPEC)

def application(environ, start_response):
    atexit.register(load_for_a_while)
    start_response('200 OK', [])
    return [b'registered']
";
    in_its_own_process(|| {
        let (runtime, folder) = (start(), Folder::new());
        let script = folder.script("importer.wsgi", IMPORTER);
        for group in ["a", "b", "c", "d"] {
            assert_eq!(get(&runtime, group, &script, "/"), "registered");
        }
        assert_eq!(runtime.finish(enough()), Left::Nothing);
    });
}

#[test]
fn daemon_threads_are_left_and_nothing_waits_for_them() {
    in_its_own_process(|| {
        let (runtime, folder) = (start(), Folder::new());
        let script = folder.script("leaver.wsgi", LEAVER);
        for group in ["", "a"] {
            assert_eq!(get(&runtime, group, &script, "/daemon"), "registered");
        }
        // Much more than the test may take: whoever waited for them would be stuck.
        let for_ever = Duration::from_secs(3600);
        assert_eq!(runtime.finish(limits(for_ever, for_ever)), Left::Daemons);
        for group in ["main", "a"] {
            assert_eq!(folder.text(group).as_deref(), Some("goodbye"), "{group}");
        }
    });
}

#[test]
fn a_thread_that_never_ends_does_not_keep_a_runtime_from_ending() {
    in_its_own_process(|| {
        let (runtime, folder) = (start(), Folder::new());
        let script = folder.script("leaver.wsgi", LEAVER);
        assert_eq!(get(&runtime, "a", &script, "/thread"), "registered");
        assert_eq!(get(&runtime, "", &script, "/"), "registered");
        let limits = limits(Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(runtime.finish(limits), Left::Threads);
    });
}

#[test]
fn a_thread_that_never_ends_keeps_no_exit_function_from_being_called() {
    in_its_own_process(|| {
        let (runtime, folder) = (start(), Folder::new());
        let script = folder.script("leaver.wsgi", LEAVER);
        assert_eq!(get(&runtime, "a", &script, "/thread"), "registered");
        for group in ["", "b"] {
            assert_eq!(get(&runtime, group, &script, "/"), "registered");
        }
        let limits = limits(Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(runtime.finish(limits), Left::Threads);
        // Whoever asked for this leaves the process now.
        for group in ["a", "b", "main"] {
            assert_eq!(folder.text(group).as_deref(), Some("goodbye"), "{group}");
        }
    });
}

/// `/late` gives its thread something that takes a while to be let go of, when the thread ends.
const LATE: &str = "
import threading, time

local = threading.local()

class Late:
    def __del__(self):
        with open('FOLDER/leaving', 'w'):
            pass
        time.sleep(1)

def application(environ, start_response):
    start_response('200 OK', [])
    if environ['PATH_INFO'] == '/late':
        local.late = Late()
        return [b'to be late']
    return [environ['wsgi.input'].read()]
";

#[test]
fn an_owner_waits_for_its_other_threads_to_be_gone_altogether() {
    in_its_own_process(|| {
        let runtime = Runtime::start(Settings { interpreter_threads: 2, ..settings() });
        let folder = Folder::new();
        let script = folder.script("late.wsgi", LATE);
        // The first is on the owner thread, so the second is on another.
        let held = send(&runtime, "a", &script, "/hold").expect("it is taken");
        held.wait_until_it_asks();
        assert_eq!(get(&runtime, "a", &script, "/late"), "to be late");
        std::thread::scope(|scope| {
            let finishing = scope.spawn(|| runtime.finish(enough()));
            // The other thread is on its way out, and the owner comes to its end before it.
            while folder.text("leaving").is_none() {
                std::thread::yield_now();
            }
            assert_eq!(held.release().text(), "x");
            assert_eq!(finishing.join().expect("no panic"), Left::Nothing);
        });
    });
}

#[test]
fn a_request_under_way_is_finished_before_the_runtime_ends() {
    in_its_own_process(|| {
        let runtime = start();
        let held = ["", "a"].map(|group| {
            let held = send(&runtime, group, &app_script(), "/hold").expect("it is taken");
            held.wait_until_it_asks();
            held
        });
        let queued = send(&runtime, "a", &app_script(), "/hello").expect("it is taken");
        std::thread::scope(|scope| {
            let finishing = scope.spawn(|| runtime.finish(enough()));
            // Asked until it is closed; what is taken before that is served as well.
            while send(&runtime, "a", &app_script(), "/hello").is_ok() {
                std::thread::yield_now();
            }
            for held in held {
                assert_eq!(held.release().text(), "b'x'");
            }
            assert_eq!(queued.finish(b"").text(), "hello");
            assert_eq!(finishing.join().expect("no panic"), Left::Nothing);
        });
    });
}

#[test]
fn a_request_that_never_ends_does_not_keep_a_runtime_from_ending() {
    in_its_own_process(|| {
        let runtime = start();
        for group in ["a", ""] {
            let held = send(&runtime, group, &app_script(), "/hold").expect("it is taken");
            held.wait_until_it_asks();
            // Nobody answers it, and nobody leaves.
            std::mem::forget(held);
        }
        let limits = limits(Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(runtime.finish(limits), Left::Threads);
    });
}

#[test]
fn an_interrupt_fails_the_requests_that_wait_and_those_under_way() {
    in_its_own_process(|| {
        let runtime = start();
        let held = send(&runtime, "a", &app_script(), "/hold").expect("it is taken");
        held.wait_until_it_asks();
        let queued = send(&runtime, "a", &app_script(), "/hello").expect("it is taken");
        std::thread::scope(|scope| {
            let waiting = [held, queued].map(|request| scope.spawn(|| request.finish(b"").code()));
            runtime.interrupt(enough());
            runtime.interrupt(enough());
            for waiting in waiting {
                assert_eq!(waiting.join().expect("no panic"), Code::Stopping);
            }
        });
        assert_eq!(refused(&runtime, "a"), Code::Stopping);
        // The application that was reading has nobody to read from any more.
        assert_eq!(runtime.finish(enough()), Left::Nothing);
    });
}

#[test]
fn an_unusable_python_home_refuses_every_request_and_ends_nothing() {
    in_its_own_process(|| {
        let folder = Folder::new();
        let python_home = Some(folder.path().to_owned());
        let runtime = Runtime::start(Settings { python_home, ..settings() });
        for group in ["", "a"] {
            assert_eq!(refused(&runtime, group), Code::PythonNotStarted);
        }
        assert_eq!(runtime.finish(enough()), Left::Nothing);
    });
}

#[test]
fn at_the_limit_of_interpreters_a_new_group_is_refused_and_the_others_serve_on() {
    in_its_own_process(|| {
        // The main interpreter is one of them, whether anybody has asked it for something or not.
        let runtime = Runtime::start(Settings { interpreter_limit: 3, ..settings() });
        for group in ["a", "b"] {
            assert_eq!(get(&runtime, group, &app_script(), "/hello"), "hello");
        }
        assert_eq!(refused(&runtime, "c"), Code::InterpreterLimit);
        for group in ["a", "b", ""] {
            assert_eq!(get(&runtime, group, &app_script(), "/hello"), "hello");
        }
        assert_eq!(refused(&runtime, "d"), Code::InterpreterLimit);
        assert_eq!(runtime.finish(enough()), Left::Nothing);
    });
}

#[test]
fn too_many_requests_of_a_process_are_refused_and_the_others_are_served() {
    in_its_own_process(|| {
        let runtime =
            Runtime::start(Settings { interpreter_threads: 1, queue_limit: 1000, ..settings() });
        let held = send(&runtime, "a", &app_script(), "/hold").expect("it is taken");
        held.wait_until_it_asks();
        let mut waiting = Vec::new();
        let refused = loop {
            match send(&runtime, "a", &app_script(), "/count") {
                Ok(request) => waiting.push(request),
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.code, Code::QueueFull);
        assert_eq!(held.release().text(), "b'x'");
        let count = waiting.len();
        for request in waiting {
            request.finish(b"").text();
        }
        assert_eq!(get(&runtime, "a", &app_script(), "/counted"), count.to_string());
    });
}

#[test]
fn what_is_right_of_a_python_path_is_used_where_a_part_of_it_is_wrong() {
    in_its_own_process(|| {
        let folder = Folder::new();
        folder.script("chosen.py", "text = b'from the path'");
        let app = folder.script(
            "app.wsgi",
            "
import chosen
def application(environ, start_response):
    start_response('200 OK', [])
    return [chosen.text]
",
        );
        let python_path = vec![folder.path().to_owned(), folder.path().join("missing")];
        let runtime = Runtime::start(Settings {
            options: OptionsTable {
                base: InterpreterOptions { python_path, ..Default::default() },
                ..Default::default()
            },
            ..settings()
        });
        for group in ["", "a"] {
            let answered = send(&runtime, group, &app, "/").expect("it is taken").finish(b"");
            assert_eq!(answered.outcome, Some(Outcome::Complete), "{answered:?}");
            assert_eq!(answered.text(), "from the path");
        }
    });
}
