//! What forks needs a process without interpreters beside the main one: CPython 3.13 to 3.15 end a
//! process that is forked where there are others, by SIGABRT or SIGSEGV.

use super::{Script, ask, serve};
use crate::harness::{Conf, Server, test_venv, write};
use std::path::Path;

const FORK: &str = "import os\nchild = os.fork()\nif child == 0:\n    os._exit(7)\n\
                    answer = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])";
const PREEXEC: &str = "import subprocess\n\
                       answer = subprocess.run(['/bin/true'], preexec_fn=int).returncode";
const PROCESS: &str = "import multiprocessing\n\
                       process = multiprocessing.get_context('fork').Process(target=int)\n\
                       process.start()\nprocess.join()\nanswer = process.exitcode";

fn site(more: &str, serve_text: &str) -> Server {
    let script = Script { name: "forks", imports: "", serve: serve_text };
    serve(Path::new(&test_venv()), more, &[script])
}

#[test]
fn whoever_forks_is_told_where_that_works() {
    for more in ["", "WSGIPerInterpreterGIL On"] {
        for text in [FORK, PREEXEC, PROCESS] {
            let server = site(more, text);
            assert_eq!(server.get("/forks").status, 500, "{text}");
            server.log().wait_for(&["MNF0007", "RuntimeError"]);
            let line = server.log().wait_for(&["MNF0037", ":error]", "os.fork"]);
            for cure in ["%{GLOBAL}", "process group", "spawn"] {
                assert!(line.contains(cure), "{cure}: {line}");
            }
        }
    }
}

#[test]
fn a_script_that_forks_while_it_is_loaded_is_told_too() {
    let script = Script { name: "forks", imports: FORK, serve: "answer = 'served'" };
    let server = serve(Path::new(&test_venv()), "", &[script]);
    for _ in 0..2 {
        assert_eq!(server.get("/forks").status, 500);
    }
    let lines = server.log().wait_for_count(&["MNF0037", ":error]", "os.fork"], 2);
    assert!(lines[1].contains("%{GLOBAL}"), "{lines:?}");
    server.log().wait_for(&["MNF0005", "RuntimeError"]);
}

#[test]
fn a_process_whose_only_interpreter_is_the_main_one_forks() {
    for (text, answer) in [(FORK, "7"), (PREEXEC, "0"), (PROCESS, "0")] {
        let script = Script { name: "forks", imports: "", serve: text };
        let conf =
            Conf::new("WSGIScriptAlias /forks ${APPS}/forks.wsgi application-group=%{GLOBAL}");
        let server = Server::start_with(conf, |root| {
            write(root, "apps/forks.wsgi", &script.text());
        });
        assert_eq!(ask(&server, "forks"), ("main".to_owned(), answer.to_owned()), "{text}");
    }
}

#[test]
fn a_program_is_run_from_an_interpreter_with_its_own_gil() {
    let server = site("", "import subprocess\nanswer = subprocess.run(['/bin/true']).returncode");
    assert_eq!(ask(&server, "forks"), ("own".to_owned(), "0".to_owned()));
}

#[test]
fn a_program_can_be_told_to_end() {
    let text = "import subprocess\nprogram = subprocess.Popen(['sleep', '600'])\nprogram.terminate()\n\
                answer = program.wait(20)";
    assert_eq!(ask(&site("", text), "forks"), ("own".to_owned(), "-15".to_owned()));
}
