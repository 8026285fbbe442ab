//! Which Python runs: its home, its path, and what happens when it cannot start.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Conf, Server, write};

/// The application gets 500 and everything else works, in the same child, with one critical line.
fn serves_all_but_python(server: &Server, tried: &str) {
    let child = server.only_child();
    for _ in 0..3 {
        assert_eq!(server.get("/app").status, 500);
        server.get("/static.txt").expect(200, "static");
    }
    let critical = server.log().wait_for(&[":crit]", tried]);
    assert_eq!(server.log().lines_with(&[":crit]"]), [critical]);
    assert_eq!(server.only_child(), child, "the child stays up");
}

fn with_home(home: &str) -> Conf {
    Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/hello.wsgi\n\
         <Location /app>\nSetHandler app\n</Location>",
    )
    .python_home(home)
}

/// What the queue of a group needs to leave a thread alone that computes.
#[test]
fn whether_a_thread_has_the_gil_can_be_seen_in_this_python() {
    let server = Server::start(Conf::serving("hello.wsgi").and("LogLevel notice wsgi:debug"));
    assert_eq!(server.get("/").status, 200);
    server.log().wait_for(&["byte", "of a thread's state says that it is attached"]);
}

fn with_static(root: &std::path::Path) {
    write(root, "docs/static.txt", "static");
}

#[test]
fn a_python_home_that_is_not_there_costs_only_the_applications() {
    let server = Server::start_with(with_home("/no/such/python"), with_static);
    serves_all_but_python(&server, "/no/such/python");
}

#[test]
fn a_python_home_without_a_python_costs_only_the_applications() {
    let server = Server::start_with(with_home("${ROOT}/run"), with_static);
    serves_all_but_python(&server, &server.path("run").display().to_string());
}

#[test]
fn a_python_home_that_may_not_be_read_costs_only_the_applications() {
    let server = Server::start_with(with_home("${ROOT}/private"), |root| {
        with_static(root);
        write(root, "private/pyvenv.cfg", "home = /usr/bin\n");
        let closed = fs::Permissions::from_mode(0o000);
        fs::set_permissions(root.join("private"), closed).expect("the home is closed");
    });
    serves_all_but_python(&server, &server.path("private").display().to_string());
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(server.path("private"), open).expect("the home can be removed");
}

#[test]
fn a_python_home_that_cannot_be_one_is_named_with_what_is_wrong() {
    let server = Server::start_with(with_home("${ROOT}/docs/static.txt"), with_static);
    serves_all_but_python(&server, "docs/static.txt");
    let line = server.log().wait_for(&[":crit]"]);
    assert!(line.contains("Not a directory"), "{line}");
    server.stop();
    let server = Server::start_with(with_home("${ROOT}/venv"), |root| {
        with_static(root);
        write(root, "venv/pyvenv.cfg", "home = /usr/bin\nversion = 3.7.1\n");
    });
    serves_all_but_python(&server, "venv");
    let line = server.log().wait_for(&[":crit]"]);
    assert!(line.contains("a virtual environment of Python 3.7"), "{line}");
}

#[test]
fn a_virtual_environment_is_known_by_its_pyvenv_cfg() {
    let server = Server::start_with(
        crate::runtime_directives::asking("").python_home("${ROOT}/venv"),
        |root| {
            // What `python -m venv` makes, as far as it matters.
            let python = std::env::var("MANIFOLD_PYTHON").expect("MANIFOLD_PYTHON names a Python");
            let home = std::path::Path::new(&python).parent().expect("its folder").display();
            write(root, "venv/pyvenv.cfg", &format!("home = {home}\n"));
            fs::create_dir(root.join("venv/bin")).expect("its bin");
            std::os::unix::fs::symlink(&python, root.join("venv/bin/python")).expect("its python");
            let version = std::env::var("MANIFOLD_PYTHON_VERSION").expect("its version");
            let (minor, _) = version.rsplit_once('.').expect("three numbers");
            let folder = format!("venv/lib/python{minor}/site-packages");
            write(root, &format!("{folder}/in_the_venv.py"), "TASTE = 'venv'\n");
            write(root, &format!("{folder}/more.pth"), "../../../linked\n");
            write(root, "venv/linked/in_linked.py", "TASTE = 'linked'\n");
        },
    );
    for group in ["main", "sub"] {
        let ask = |expression| crate::runtime_directives::ask(&server, group, expression);
        assert_eq!(ask("sys.prefix"), format!("'{}'", server.path("venv").display()));
        assert_ne!(ask("sys.base_prefix"), ask("sys.prefix"));
        assert_eq!(ask("in_the_venv.TASTE"), "'venv'");
        assert_eq!(ask("in_linked.TASTE"), "'linked'");
    }
}

#[test]
fn the_python_path_of_httpds_environment_is_honoured_behind_the_directives() {
    let conf = crate::runtime_directives::asking("WSGIPythonPath ${ROOT}/first")
        .environment("PYTHONPATH", "${ROOT}/second");
    let server = Server::start_with(conf, |root| {
        write(root, "first/in_both.py", "TASTE = 'first'\n");
        write(root, "second/in_both.py", "TASTE = 'second'\n");
        write(root, "second/in_second.py", "TASTE = 'second'\n");
    });
    for group in ["main", "sub"] {
        let ask = |expression| crate::runtime_directives::ask(&server, group, expression);
        assert_eq!(ask("in_both.TASTE"), "'first'");
        assert_eq!(ask("in_second.TASTE"), "'second'");
    }
}

#[test]
fn a_directory_that_cannot_be_added_ends_its_list_and_no_other() {
    let server = Server::start_with(
        crate::runtime_directives::asking(
            "WSGIPythonPath ${ROOT}/base\n<WSGIInterpreterOptions>\n\
             WSGIPythonPath ${ROOT}/more:/no/such/folder:${ROOT}/never\n</WSGIInterpreterOptions>",
        ),
        |root| {
            for folder in ["base", "more", "never"] {
                write(root, &format!("{folder}/taste.py"), "");
            }
        },
    );
    let path = crate::runtime_directives::ask(&server, "sub", "sys.path");
    let place = |folder: &str| path.find(&format!("'{}'", server.path(folder).display()));
    assert!(place("more") < place("base") && place("more").is_some(), "{path}");
    assert_eq!(place("never"), None, "{path}");
    server.log().wait_for(&[":error]", "MNF0018", "/no/such/folder"]);
}

#[test]
fn a_graceful_restart_mends_a_server_whose_python_home_was_wrong() {
    let server = Server::start_with(with_home("/no/such/python"), with_static);
    serves_all_but_python(&server, "/no/such/python");
    let conf = fs::read_to_string(server.path("conf/httpd.conf")).expect("the configuration");
    let right =
        std::env::var("MANIFOLD_PYTHON_HOME").map(|home| format!("WSGIPythonHome \"{home}\""));
    let wrong = "WSGIPythonHome \"/no/such/python\"";
    server.write("conf/httpd.conf", &conf.replace(wrong, &right.unwrap_or_default()));
    server.graceful();
    crate::harness::eventually("the new generation serves", || {
        (server.get("/app").status == 200).then_some(())
    });
}

#[test]
fn the_python_path_comes_in_order_in_every_interpreter() {
    let server = Server::start_with(
        Conf::new(
            "WSGIPythonPath ${ROOT}/first:${ROOT}/second\n\
             WSGIHandlerScript main ${APPS}/flavours.wsgi application-group=%{GLOBAL}\n\
             WSGIHandlerScript sub ${APPS}/flavours.wsgi application-group=sub\n\
             <Location /main>\nSetHandler main\n</Location>\n\
             <Location /sub>\nSetHandler sub\n</Location>",
        ),
        |root| {
            write(root, "first/in_both.py", "TASTE = 'first'\n");
            write(root, "second/in_both.py", "TASTE = 'second'\n");
            write(root, "second/in_second.py", "TASTE = 'second'\n");
            write(root, "first/more.pth", "../linked\n");
            write(root, "linked/in_linked.py", "TASTE = 'linked'\n");
        },
    );
    for url in ["/main", "/sub"] {
        let answer = server.get(&format!("{url}?in_both&in_second&in_linked&nowhere"));
        assert_eq!(answer.fact("in_both"), "'first'", "{url}");
        assert_eq!(answer.fact("in_second"), "'second'", "{url}");
        assert_eq!(answer.fact("in_linked"), "'linked'", "{url}");
        assert_eq!(answer.fact("nowhere"), "ModuleNotFoundError", "{url}");
        assert_eq!(answer.fact("path 0"), format!("'{}'", server.path("first").display()), "{url}");
    }
}

#[test]
fn the_interpreter_is_set_up_as_applications_expect() {
    let conf = Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/own.wsgi\nSetHandler app",
    );
    let server = Server::start_with(conf, |root| {
        write(
            root,
            "apps/own.wsgi",
            "import os, sys\ndef handle_request(environ, start_response):\n    \
             start_response('200 OK', [])\n    \
             scripts = os.path.dirname(__file__) in sys.path\n    \
             facts = sys.argv, sys.getfilesystemencoding(), sys.stderr.errors, scripts, 'mod_wsgi' in sys.modules\n    \
             import mod_wsgi\n    yield ascii((facts[:2], scripts, mod_wsgi.application_group, mod_wsgi.version[0] > 0)).encode()\n",
        );
    });
    server.get("/").expect(200, "((['mod_wsgi'], 'utf-8'), False, 'app', True)");
}
