//! Extension modules that the tests compile: what no package would do.

use super::{Script, ask, moves};
use crate::harness::{Conf, Server, test_python, write};
use crate::status::{HANDLERS, total};
use std::path::Path;
use std::process::Command;

/// A module `name` whose initialisation begins with `statements`.
fn compile(root: &Path, name: &str, statements: &str) {
    let source = format!(
        "#include <Python.h>\n#include <signal.h>\n#include <unistd.h>\n\
         static PyModuleDef_Slot slots[] = {{\n#ifdef OWN_GIL\n{{Py_mod_multiple_interpreters, \
         Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}},\n#endif\n{{0, NULL}}}};\n\
         static struct PyModuleDef def = {{PyModuleDef_HEAD_INIT, \"{name}\", NULL, 0, NULL, slots}};\n\
         PyMODINIT_FUNC PyInit_{name}(void) {{ {statements}; return PyModuleDef_Init(&def); }}\n"
    );
    write(root, &format!("modules/{name}.c"), &source);
    let include = said(
        Command::new(test_python())
            .args(["-c", "import sysconfig; print(sysconfig.get_path('include'))"]),
    );
    let at = |inside: String| root.join("modules").join(inside);
    said(
        Command::new("cc")
            .args(["-shared", "-fPIC", "-DOWN_GIL", "-I", include.trim(), "-o"])
            .arg(at(format!("{name}.so")))
            .arg(at(format!("{name}.c"))),
    );
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What is initialised in one phase only, as modules without a word about interpreters are.
const SINGLE_PHASE: &str = "static struct PyModuleDef single = {PyModuleDef_HEAD_INIT, \"speed\"}; \
                            return PyModule_Create(&single)";

/// The script, with a module `speed` whose initialisation begins with `statements`.
fn start(script: &Script<'_>, conf: Conf, statements: &str) -> Server {
    Server::start_with(conf.and("WSGIPythonPath ${ROOT}/modules"), |root| {
        write(root, &format!("apps/{}.wsgi", script.name), &script.text());
        write(root, "modules/README", "for the tests");
        compile(root, "speed", statements);
    })
}

/// `/app` imports the module `speed`, or says why it cannot.
fn site(more: &str, statements: &str) -> Server {
    let script = Script {
        name: "app",
        imports: "try:\n    import speed\n    said = 'imported'\nexcept ImportError as error:\n    said = str(error)",
        serve: "answer = said",
    };
    start(&script, Conf::new(&script.alias()).and(more), statements)
}

const REFUSED: &str = "'module speed does not support loading in subinterpreters'";

#[test]
fn a_module_that_allows_it_is_loaded_beside_the_main_interpreter() {
    let server = site("", "(void)0");
    assert_eq!(ask(&server, "app"), ("own".to_owned(), "'imported'".to_owned()));
    assert_eq!(server.log().wait_for_count(&["'speed'", "it loads"], 1).len(), 1);
}

#[test]
fn a_module_that_crashes_ends_a_probe_and_no_child() {
    for (statements, how) in
        [("raise(SIGSEGV)", "signal 11"), ("abort()", "signal 6"), ("_exit(3)", "exit status 3")]
    {
        let server = site("", statements);
        let child = server.only_child();
        assert_eq!(ask(&server, "app"), ("own".to_owned(), REFUSED.to_owned()));
        server.log().wait_for(&["'speed'", how]);
        assert_eq!(server.only_child(), child);
    }
}

#[test]
fn a_module_that_never_returns_is_given_up_and_its_probe_is_gone() {
    let server = site("", "for (;;) pause()");
    assert_eq!(ask(&server, "app"), ("own".to_owned(), REFUSED.to_owned()));
    server.log().wait_for(&["'speed'", "had not loaded it after"]);
    let child = server.only_child();
    let tasks = std::fs::read_dir(format!("/proc/{child}/task")).expect("the child lives");
    for task in tasks {
        let task = task.expect("an entry").path();
        let children = std::fs::read_to_string(task.join("children")).unwrap_or_default();
        assert_eq!(children.trim(), "", "a process is left");
    }
}

#[test]
fn a_module_without_a_gil_for_each_interpreter_is_never_mapped_there() {
    // A single-phase module would have run its initialisation by the time CPython refuses it.
    let imports = "try:\n    import speed\nexcept ImportError:\n    pass\n\
                   maps = open('/proc/self/maps').read()";
    let script = Script { name: "app", imports, serve: "answer = 'speed.so' in maps" };
    let server = start(&script, Conf::new(&script.alias()), SINGLE_PHASE);
    assert_eq!(ask(&server, "app"), ("own".to_owned(), "False".to_owned()));
    assert!(moves(&server, "app").is_empty());
}

#[test]
fn without_a_probe_a_group_that_needs_a_module_moves_and_a_warning_says_so() {
    let script = Script { name: "app", imports: "import speed", serve: "answer = speed.__name__" };
    let conf = Conf::new(&script.alias())
        .inside_httpd("without that program there is no worker process")
        .and("WSGIDaemonWorker ${ROOT}/nothing");
    let server = start(&script, conf, "(void)0");
    assert_eq!(ask(&server, "app"), ("main".to_owned(), "'speed'".to_owned()));
    let warning = server.log().wait_for(&["MNF0038", ":warn]", "'speed'", "WSGIDaemonWorker"]);
    assert!(warning.contains("/nothing"), "{warning}");
    server.log().wait_for(&["MNF0037", ":warn]", "'app' moves"]);
    assert_eq!(moves(&server, "app").len(), 1);
}

#[test]
fn a_move_is_counted() {
    let script = Script { name: "app", imports: "import speed", serve: "answer = speed.__name__" };
    let server = start(&script, Conf::new(&script.alias()).and(HANDLERS), SINGLE_PHASE);
    let (place, answer) = ask(&server, "app");
    assert_ne!(place, "own");
    assert_eq!(answer, "'speed'");
    assert_eq!(moves(&server, "app").len(), 1);
    assert_eq!(total(&server, "demotions"), 1);
}

#[test]
fn directories_of_a_groups_own_are_found_in_the_main_interpreter_too() {
    let script =
        Script { name: "app", imports: "import helper, speed", serve: "answer = helper.text" };
    let conf = Conf::new(&script.alias()).and(
        "<WSGIInterpreterOptions application-group=app>\n\
         WSGIPythonPath ${ROOT}/modules\n</WSGIInterpreterOptions>",
    );
    let server = Server::start_with(conf, |root| {
        write(root, "apps/app.wsgi", &script.text());
        write(root, "modules/helper.py", "text = 'found'\n");
        compile(
            root,
            "speed",
            "static struct PyModuleDef single = {PyModuleDef_HEAD_INIT, \"speed\"}; static int times; \
             if (times++) { PyErr_SetString(PyExc_ImportError, \"in one interpreter of a process\"); \
             return NULL; } return PyModule_Create(&single)",
        );
    });
    assert_eq!(ask(&server, "app"), ("main".to_owned(), "'found'".to_owned()));
}
