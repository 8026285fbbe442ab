//! What forks needs the main interpreter: a process that was forked from another one dies.

use super::{Script, ask, moves, serve};
use crate::harness::{Server, test_venv};
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
fn whoever_forks_fails_once_and_is_served_by_the_main_interpreter_from_then_on() {
    for (text, answer) in [(FORK, "7"), (PREEXEC, "0"), (PROCESS, "0")] {
        let server = site("", text);
        assert_eq!(server.get("/forks").status, 500, "{text}");
        server.log().wait_for(&["MNF0007", "RuntimeError"]);
        assert_eq!(ask(&server, "forks"), ("main".to_owned(), answer.to_owned()), "{text}");
        let moves = moves(&server, "forks");
        assert!(moves.len() == 1 && moves[0].contains("os.fork"), "{moves:?}");
    }
}

#[test]
fn a_script_that_forks_while_it_is_loaded_is_loaded_in_the_main_interpreter_at_once() {
    let script = Script { name: "forks", imports: FORK, serve: "answer = 'served'" };
    let server = serve(Path::new(&test_venv()), "", &[script]);
    assert_eq!(ask(&server, "forks"), ("main".to_owned(), "'served'".to_owned()));
    assert_eq!(moves(&server, "forks").len(), 1);
}

#[test]
fn a_program_is_run_from_an_interpreter_with_its_own_gil() {
    let server =
        site("", "import subprocess\nanswer = subprocess.run(['/bin/true']).returncode");
    assert_eq!(ask(&server, "forks"), ("own".to_owned(), "0".to_owned()));
}

#[test]
fn where_the_gil_is_pinned_a_fork_fails_with_the_cure() {
    let server = site("WSGIPerInterpreterGIL On", FORK);
    for _ in 0..2 {
        assert_eq!(server.get("/forks").status, 500);
    }
    let line = server.log().wait_for(&["MNF0035", ":error]", "os.fork"]);
    assert!(line.contains("%{GLOBAL}"), "{line}");
}
