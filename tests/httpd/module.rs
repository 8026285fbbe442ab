//! The modules `mod_wsgi` and `apache` that every interpreter has.

use crate::harness::{Conf, Request, Server, eventually, process_group, write};

fn serve() -> Server {
    Server::serving("module.wsgi")
}

#[test]
fn mod_wsgi_says_where_an_application_runs() {
    let server = serve();
    let answer = server.get("/");
    for (name, value) in [
        ("version", "tuple (6, 1, 1)"),
        ("application_group", "str 'app'"),
        ("threads_per_process", "int 8"),
        ("event_callbacks", "list []"),
    ] {
        assert_eq!(answer.fact(&format!("mod_wsgi.{name}")), value, "{name}");
    }
    assert_eq!(answer.fact("mod_wsgi.process_group"), format!("str '{}'", process_group()));
    assert!(answer.fact("mod_wsgi.maximum_processes").starts_with("int "));
    for name in ["FileWrapper", "RequestTimeout", "LogHandler"] {
        assert!(answer.fact(&format!("mod_wsgi.{name}")).starts_with("type <class "), "{name}");
    }
    for name in ["subscribe_events", "subscribe_shutdown", "subscribe_signals", "request_data"] {
        assert!(answer.fact(&format!("mod_wsgi.{name}")).contains("function"), "{name}");
    }
    assert_eq!([answer.fact("missing"), answer.fact("path")], ["False", "False"]);
}

#[test]
fn apache_says_what_the_server_is() {
    let server = serve();
    let answer = server.get("/");
    assert!(answer.fact("apache.version").starts_with("tuple (2, 4, "));
    assert!(answer.fact("apache.description").starts_with("str 'Apache/2.4."));
    assert!(answer.fact("apache.build_date").len() > "str ''".len());
    assert_eq!(answer.fact("apache.mpm_name"), "str 'event'");
    assert_eq!(answer.fact("apache.threads_per_process"), "int 8");
    let processes = answer.fact("apache.maximum_processes");
    assert_eq!(processes, answer.fact("mod_wsgi.maximum_processes"));
}

#[test]
fn an_apache_module_and_a_mod_wsgi_package_of_an_application_are_extended() {
    let conf = Conf::serving("module.wsgi").and("WSGIPythonPath ${ROOT}/own");
    let server = Server::start_with(conf, |root| {
        write(root, "own/apache.py", "mine = 'kept'\n");
        write(root, "own/mod_wsgi/__init__.py", "raise ImportError('never run')\n");
        write(root, "own/mod_wsgi/express.py", "NAME = 'the real one'\n");
    });
    let answer = server.get("/");
    assert_eq!(answer.fact("apache.mine"), "str 'kept'");
    assert_eq!(answer.fact("apache.mpm_name"), "str 'event'");
    assert_eq!(answer.fact("path"), "True");
    server.get("/express").expect(200, "the real one");
}

#[test]
fn the_banner_names_this_module_and_the_one_it_stands_for() {
    let answer = serve().get("/");
    let banner = answer.header("Server").expect("a Server header");
    for token in ["mod_manifold/", "mod_wsgi/6.1.1", "Python/3."] {
        assert!(banner.contains(token), "{banner}");
    }
}

#[test]
fn request_data_belongs_to_the_request_of_the_thread() {
    let server = serve();
    for _ in 0..2 {
        let answer = server.get("/");
        assert_eq!(answer.fact("data"), "{'here': 'yes'}", "a new one for each request");
        assert_eq!(answer.fact("same"), "True");
        assert_eq!(answer.fact("at import"), "RuntimeError");
        assert_eq!(answer.fact("elsewhere"), "RuntimeError");
    }
}

#[test]
fn active_requests_shows_all_that_run() {
    let server = serve();
    let answer = server.get("/");
    assert_eq!(answer.fact("active"), "True");
    assert_eq!(answer.fact("active elsewhere"), "[]");
    assert_eq!(answer.fact("active unknown"), "None");
    let mut waiting = server.client();
    let request = Request::new("POST", "/wait").header("Content-Length", "1");
    waiting.send_head(&request);
    eventually("both are shown", || {
        (server.get("/").fact("active elsewhere") == "['waiting']").then_some(())
    });
    server.get("/count").expect(200, "2");
    waiting.write(b"x");
    assert_eq!(waiting.read("POST").status, 200);
    eventually("one is left", || (server.get("/count").text() == "1").then_some(()));
}

#[test]
fn nothing_of_a_request_outlives_it() {
    let server = serve();
    assert_eq!(server.get("/keep").status, 200);
    server.get("/dropped").expect(200, "True");
}
