//! `manifold doctor`: it finds what people ask about most, prints the cure, and says what the server then does.

use crate::harness::{
    Said, Serving, answering, folder, manifold, open_to_all, run, variable, write,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn doctor(arguments: &[&str]) -> Said {
    run(manifold().arg("doctor").args(arguments))
}

/// The finding of one check, from the report for machines.
fn finding(arguments: &[&str], check: &str) -> (i32, Value) {
    let said = doctor(&[arguments, &["--json"]].concat());
    let report: Value = serde_json::from_str(&said.out)
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", said.out, said.err));
    let code = said.code.expect("it ends by itself");
    assert_eq!(report["ok"], Value::Bool(code == 0), "{report:#}");
    let findings = report["findings"].as_array().expect("a list");
    let found = findings.iter().find(|finding| finding["check"] == check);
    (code, found.unwrap_or_else(|| panic!("no finding {check} in {report:#}")).clone())
}

/// That a check finds a problem that has these words in it, and whose cure has those.
fn expect_problem(arguments: &[&str], check: &str, found: &str, cure: &str) {
    let (code, finding) = finding(arguments, check);
    assert_eq!((code, &finding["state"]), (1, &Value::from("problem")), "{finding:#}");
    let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    assert!(text("found").contains(found), "{found:?} in {finding:#}");
    assert!(text("cure").contains(cure), "{cure:?} in {finding:#}");
    // And people are told the same.
    let said = doctor(arguments);
    assert_eq!(said.code, Some(1));
    for line in [text("found"), text("cure")] {
        let first = line.lines().next().expect("a line");
        assert!(said.out.contains(first), "{first:?} in\n{}", said.out);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name")
}

fn script(at: &Path, source: &str) -> PathBuf {
    write(at, "app.wsgi", &format!("{source}\n{}", answering("'hello'")))
}

#[test]
fn where_all_is_well_it_says_so_and_what_auto_chooses() {
    let at = folder();
    let script = script(at.path(), "import flask, markupsafe._speedups");
    let venv = variable("MANIFOLD_TEST_VENV");
    let said = doctor(&[text(&script), "--python-home", text(&venv)]).expect_ok();
    for line in [
        "ok       httpd                Apache/2.4",
        "loads in httpd",
        "ok       python               libpython3.",
        "ok       virtual-environment",
        "markupsafe._speedups                         own GIL",
        "ok       interpreter          one with its own GIL (Auto)",
        "0 problems",
    ] {
        assert!(said.out.contains(line), "{line:?} in\n{}", said.out);
    }
}

#[test]
fn the_wrong_python_linked() {
    let at = folder();
    write(at.path(), "lib/python3.9/os.py", "");
    let home = text(at.path());
    expect_problem(
        &["--python-home", home],
        "python-home",
        "it is an installation of Python 3.9, and the module is built for Python 3.",
        &format!("MANIFOLD_PYTHON={home}/bin/python3.9 scripts/build"),
    );
    // A worker program of another build, as after half an upgrade.
    let worker =
        write(at.path(), "manifold-worker", "#!/bin/sh\necho manifold-worker 0.0.1, Python 3.9\n");
    open_to_all(&worker, 0o755);
    expect_problem(
        &["--worker", text(&worker)],
        "python",
        "and manifold-worker runs Python 3.9",
        "both belong to one build",
    );
}

#[test]
fn a_virtual_environment_of_another_version() {
    let at = folder();
    write(at.path(), "pyvenv.cfg", "home = /usr/bin\nversion = 3.9.2\n");
    expect_problem(
        &["--python-home", text(at.path())],
        "virtual-environment",
        "it is a virtual environment of Python 3.9",
        "-m venv --clear",
    );
    // The one that is active counts as well.
    let said = run(manifold().env("VIRTUAL_ENV", at.path()).arg("doctor"));
    said.expect_failure("it is a virtual environment of Python 3.9");
}

#[test]
fn a_home_or_a_script_that_httpds_user_cannot_read() {
    let at = folder();
    let home = at.path().join("private/venv");
    write(at.path(), "private/app.wsgi", &answering("'hello'"));
    let python = variable("MANIFOLD_PYTHON_HOME").join("bin/python3");
    let made = Command::new(&python)
        .args(["-m", "venv", "--without-pip"])
        .arg(&home)
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    doctor(&["--python-home", text(&home)]).expect_ok();
    let private = at.path().join("private");
    // Its owner may pass it; for an ordinary user nobody else counts.
    let closed = if crate::harness::is_root() { 0o700 } else { 0o600 };
    open_to_all(&private, closed);
    let name = format!("{} (mode {closed:o})", private.display());
    expect_problem(&["--python-home", text(&home)], "virtual-environment", &name, "chmod o+x");
    expect_problem(&[text(&private.join("app.wsgi"))], "application", &name, "chmod o+x");
    open_to_all(&private, 0o755);
}

#[test]
fn a_socket_folder_that_httpds_user_cannot_reach() {
    let at = folder();
    let sockets = at.path().join("sockets");
    std::fs::create_dir(&sockets).expect("a folder");
    open_to_all(&sockets, 0o711);
    let prefix = sockets.join("wsgi");
    let (_, found) = finding(&["--socket-prefix", text(&prefix)], "socket-folder");
    assert_eq!(found["state"], "ok", "{found:#}");
    let closed = if crate::harness::is_root() { 0o700 } else { 0o600 };
    open_to_all(&sockets, closed);
    let name =
        format!("cannot reach sockets in {0} because of {0} (mode {closed:o})", sockets.display());
    expect_problem(&["--socket-prefix", text(&prefix)], "socket-folder", &name, "chmod 711");
    open_to_all(&sockets, 0o755);
    let long = sockets.join("x".repeat(100));
    expect_problem(
        &["--socket-prefix", text(&long)],
        "socket-folder",
        "bytes, and 107 fit",
        "WSGISocketPrefix",
    );
    let none = at.path().join("none/wsgi");
    expect_problem(
        &["--socket-prefix", text(&none)],
        "socket-folder",
        "which is not there",
        "mkdir",
    );
}

#[test]
fn numpy_in_a_sub_interpreter() {
    let Some(venv) = extensions(&["numpy"]) else { return };
    let at = folder();
    let script = script(at.path(), "import numpy");
    let app = [text(&script), "--python-home", text(&venv)];
    let (code, found) = finding(&app, "interpreter");
    assert_eq!((code, &found["state"]), (0, &Value::from("warning")), "{found:#}");
    let said = doctor(&app).expect_ok().out;
    assert!(said.contains("Auto moves it to the main interpreter, because of numpy."), "{said}");
    assert!(said.contains("application-group=%{GLOBAL}"), "{said}");
    // Where the configuration says that it may not move, it is a problem.
    let pinned = [&app[..], &["--per-interpreter-gil", "on"]].concat();
    let found = "does not load in the sub-interpreter that is configured, because of numpy.";
    expect_problem(&pinned, "interpreter", found, "application-group=%{GLOBAL}");
    let global = [&app[..], &["--application-group", "%{GLOBAL}"]].concat();
    let (code, found) = finding(&global, "interpreter");
    assert_eq!((code, &found["state"]), (0, &Value::from("ok")), "{found:#}");
}

#[test]
fn what_it_says_of_packages_is_what_the_server_does() {
    for (source, said, logged) in [
        ("import orjson", "shares the main one's GIL, because of orjson.orjson", Some("shares")),
        (
            "import lxml.etree",
            "moves it to the main interpreter, because of lxml.etree",
            Some("main interpreter"),
        ),
        ("import sqlalchemy", "one with its own GIL", None),
        (
            "try:\n    import orjson\nexcept ImportError:\n    pass",
            "it does without orjson.orjson",
            None,
        ),
    ] {
        let package =
            source.split_whitespace().skip_while(|word| *word != "import").nth(1).expect("a name");
        let package = package.split('.').next().expect("a name");
        let Some(venv) = extensions(&[package]) else { continue };
        let at = folder();
        let script = script(at.path(), source);
        let app = [text(&script), "--python-home", text(&venv)];
        let out = doctor(&app).expect_ok().out;
        assert!(out.contains(said), "{source}: {said:?} in\n{out}");
        let serving = Serving::start(app[0], &app[1..]);
        assert_eq!(serving.get("/"), "hello");
        let (_, log) = serving.end(libc::SIGTERM);
        let moved = log.lines().find(|line| line.contains("MNF0037"));
        assert_eq!(moved.is_some(), logged.is_some(), "{source}:\n{log}");
        if let Some((line, words)) = moved.zip(logged) {
            assert!(line.contains(words), "{line}");
        }
    }
}

#[test]
fn a_module_that_crashes_beside_the_main_interpreter() {
    let at = folder();
    let source = "#include <Python.h>\n#include <signal.h>\n\
        static int run(PyObject *module) {\n\
            if (PyInterpreterState_Get() != PyInterpreterState_Main()) raise(SIGSEGV);\n\
            return 0;\n\
        }\n\
        static PyModuleDef_Slot slots[] = {{Py_mod_exec, run}, {Py_mod_multiple_interpreters, \
            Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}, {0, NULL}};\n\
        static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, \"speed\", NULL, 0, NULL, slots};\n\
        PyMODINIT_FUNC PyInit_speed(void) { return PyModuleDef_Init(&def); }\n";
    let source = write(at.path(), "modules/speed.c", source);
    let show = "import sysconfig; print(sysconfig.get_path('include'))";
    let python = variable("MANIFOLD_TEST_VENV").join("bin/python");
    let include = run(Command::new(python).args(["-c", show])).expect_ok().out;
    let library = at.path().join("modules/speed.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-I", include.trim(), "-o"]).arg(&library).arg(source);
    run(&mut compiler).expect_ok();
    let script = script(at.path(), "import speed");
    let said =
        doctor(&[text(&script), "--python-path", text(&at.path().join("modules"))]).expect_ok();
    assert!(
        said.out.contains("main interpreter only; crashes in others (SIGSEGV)"),
        "{}",
        said.out
    );
    assert!(
        said.out.contains("Auto moves it to the main interpreter, because of speed"),
        "{}",
        said.out
    );
}

#[test]
fn an_application_that_does_not_load_is_told_with_what_it_lacks() {
    let at = folder();
    let lacking = script(at.path(), "import no_such_package");
    expect_problem(
        &[text(&lacking)],
        "application",
        "does not load",
        "install what has the module no_such_package",
    );
    let broken = write(at.path(), "broken.wsgi", "application = 1 / 0\n");
    expect_problem(&[text(&broken)], "application", "ZeroDivisionError", "mend it");
    expect_problem(
        &["/no/such.wsgi"],
        "application",
        "there is no file or folder /no/such.wsgi",
        "name a script",
    );
    // One that ends the process that loads it has no answer to give, and that is said too.
    let ending = write(at.path(), "ending.wsgi", "import os\nos._exit(3)\n");
    doctor(&[text(&ending)]).expect_failure("ended without an answer (exit status: 3)");
}

/// The virtual environment, if all of these packages have wheels for this Python.
fn extensions(packages: &[&str]) -> Option<PathBuf> {
    let venv = variable("MANIFOLD_EXTENSIONS_VENV");
    let unavailable =
        std::fs::read_to_string(venv.join("unavailable")).expect("scripts/test writes it");
    for package in packages {
        if unavailable.to_lowercase().lines().any(|line| line.starts_with(package)) {
            eprintln!("left out: there is no wheel of {package} for this Python");
            return None;
        }
    }
    Some(venv)
}
