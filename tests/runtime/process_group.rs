//! The interpreters of a worker process: its settings, made from the server's and from what is said
//! about its process group. Each test has a process of its own.

use crate::harness::{Folder, in_its_own_process, request, settings};
use manifold::daemon::{self, ProcessGroup};
use manifold::{GroupName, InterpreterOptions, OptionsBlock, Patience, Runtime, Script, Settings};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;

fn name(name: &str) -> GroupName {
    GroupName::new(name.as_bytes())
}

/// A process group that is called "workers".
fn group() -> ProcessGroup {
    ProcessGroup::new(name("workers"))
}

fn start(server: &Settings, group: &ProcessGroup) -> Runtime {
    Runtime::start(daemon::settings(server, group))
}

/// What a script answers in an application group: its `text`, evaluated.
fn ask(runtime: &Runtime, application_group: &str, script: &Arc<Script>) -> String {
    let asked = request(runtime, &name(application_group), script, "/", Patience::Endless);
    asked.expect("it is taken").finish(b"").text()
}

/// An application that answers with the value of an expression.
fn showing(folder: &Folder, expression: &str) -> Arc<Script> {
    let text = format!(
        "
import mod_wsgi, signal, sys

def application(environ, start_response):
    start_response('200 OK', [])
    return [repr(({expression})).encode()]
"
    );
    folder.script("show.wsgi", &text)
}

#[test]
fn an_application_finds_the_name_and_the_kind_of_its_process_group() {
    in_its_own_process(|| {
        let folder = Folder::new();
        let processes = NonZeroUsize::new(3).expect("not 0");
        let group = ProcessGroup { processes, multiprocess: true, threads: 1, ..group() };
        let runtime = start(&settings(), &group);
        let attributes = "process_group, maximum_processes, threads_per_process";
        let keys =
            "'mod_wsgi.process_group', 'wsgi.multithread', 'wsgi.multiprocess', 'wsgi.run_once'";
        let script = showing(
            &folder,
            &format!(
                "[getattr(mod_wsgi, name) for name in '{attributes}'.split(', ')], \
                 [environ[key] for key in [{keys}]]"
            ),
        );
        for application_group in ["", "a"] {
            let kind = ask(&runtime, application_group, &script);
            assert_eq!(kind, "(['workers', 3, 1], ['workers', False, True, False])");
        }
    });
}

#[test]
fn a_process_for_one_request_says_that_it_runs_once() {
    in_its_own_process(|| {
        let folder = Folder::new();
        let mut group = ProcessGroup { threads: 1, ..group() };
        group.renewal.maximum_requests = Some(NonZeroU64::MIN);
        let runtime = start(&settings(), &group);
        assert_eq!(ask(&runtime, "", &showing(&folder, "environ['wsgi.run_once']")), "True");
    });
}

/// A folder in another, and a `.pth` file in it that names one more.
fn with_pth(folder: &Folder, name: &str) -> PathBuf {
    let [path, more] = [name.to_owned(), format!("{name}-more")].map(|it| folder.path().join(it));
    for path in [&path, &more] {
        std::fs::create_dir(path).expect("a folder");
    }
    std::fs::write(path.join("more.pth"), more.to_str().expect("text")).expect("a file");
    path
}

#[test]
fn home_comes_first_on_sys_path_and_then_what_is_said_for_the_group() {
    in_its_own_process(|| {
        let folder = Folder::new();
        let [home, group_path, block_path, server_path, others_path] =
            ["home", "group", "block", "server", "others"].map(|name| with_pth(&folder, name));
        let mut server = settings();
        server.options.base.python_path = vec![server_path];
        let block = |process_group: &str, path: PathBuf| OptionsBlock {
            process_group: Some(name(process_group)),
            application_group: None,
            options: InterpreterOptions { python_path: vec![path], ..Default::default() },
        };
        server.options.blocks = vec![block("workers", block_path), block("", others_path)];
        let mut group = group();
        group.identity.home = Some(home);
        group.python.path = vec![group_path];
        let runtime = start(&server, &group);
        let inside = format!("path.removeprefix({:?})", format!("{}/", folder.path().display()));
        let within = format!("path.startswith({:?})", folder.path().display().to_string());
        let script = showing(
            &folder,
            &format!("sys.path[0].endswith('/home'), [{inside} for path in sys.path if {within}]"),
        );
        let expected = "(True, ['home', 'block', 'block-more', 'group', 'group-more'])";
        for application_group in ["", "a"] {
            assert_eq!(ask(&runtime, application_group, &script), expected);
        }
    });
}

#[test]
fn the_threads_of_interpreters_have_the_stack_that_is_configured() {
    in_its_own_process(|| {
        let folder = Folder::new();
        let mut group = group();
        group.python.stack_size = NonZeroUsize::new(3 << 20);
        let runtime = start(&settings(), &group);
        let script = folder.script(
            "stack.wsgi",
            "
import ctypes

def application(environ, start_response):
    c = ctypes.CDLL(None)
    attributes, size = ctypes.create_string_buffer(128), ctypes.c_size_t()
    c.pthread_self.restype = ctypes.c_void_p
    assert c.pthread_getattr_np(ctypes.c_void_p(c.pthread_self()), attributes) == 0
    assert c.pthread_attr_getstacksize(attributes, ctypes.byref(size)) == 0
    start_response('200 OK', [])
    return [str(size.value).encode()]
",
        );
        for application_group in ["", "a"] {
            assert_eq!(ask(&runtime, application_group, &script), (3 << 20).to_string());
        }
    });
}

#[test]
fn the_switch_interval_is_the_groups_and_not_the_servers() {
    in_its_own_process(|| {
        let folder = Folder::new();
        let mut server = settings();
        server.options.base.switch_interval = Some(0.5);
        let mut group = group();
        group.python.switch_interval = Some(0.25);
        let runtime = start(&server, &group);
        assert_eq!(ask(&runtime, "", &showing(&folder, "sys.getswitchinterval()")), "0.25");
    });
}

/// Whether signal handlers are registered in a process with so many request threads.
fn registers_signals(threads: usize) -> String {
    let folder = Folder::new();
    let runtime = start(&settings(), &ProcessGroup { threads, ..group() });
    let registered = "signal.signal(signal.SIGTERM, signal.SIG_IGN) != signal.SIG_IGN";
    ask(&runtime, "", &showing(&folder, registered))
}

#[test]
fn a_process_with_request_threads_keeps_its_signals() {
    in_its_own_process(|| assert_eq!(registers_signals(1), "False"));
}

#[test]
fn a_process_without_request_threads_leaves_its_signals_to_its_script() {
    in_its_own_process(|| assert_eq!(registers_signals(0), "True"));
}
