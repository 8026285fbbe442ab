//! Scripts that change while the server runs: when they are loaded again, and what stays. In a process
//! group the whole application is loaded anew: see `reloading_groups`.

use std::path::Path;
use std::time::SystemTime;

use crate::harness::{Conf, Request, Server, at_once, resident, write};

/// Says `text`, and whether an earlier version has left something in the module.
fn saying(text: &str) -> String {
    format!(
        "import os, marks\nmarks.loads += 1\nfresh = 'left' not in globals()\nleft = True\n\
         def handle_request(environ, start_response):\n    \
         start_response('200 OK', [])\n    \
         return [f'{text} {{fresh}} {{marks.loads}} {{os.getpid()}}'.encode()]\n"
    )
}

/// Why scripts are reloaded inside httpd.
const MODULES: &str = "in a process group more than the module is loaded anew";

/// A script of the test's own, beside a module that it imports.
fn scripted(text: &str, more: &str) -> Server {
    let conf = Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/own.wsgi\nSetHandler app\n\
         WSGIPythonPath ${ROOT}/modules",
    );
    Server::start_with(conf.and(more).inside_httpd(MODULES), |root| {
        write(root, "apps/own.wsgi", text);
        write(root, "modules/marks.py", "loads = 0\n");
    })
}

/// Writes the script anew, with a time of its own.
fn edit(server: &Server, text: &str, seconds_from_now: i64) {
    server.write("apps/own.wsgi", text);
    server.set_time("apps/own.wsgi", seconds_from_now);
}

/// `loads.wsgi` as a handler script for every URL and, below `/alias`, as a script file.
fn counting(more: &str) -> Server {
    let conf = Conf::serving("loads.wsgi").and(&format!(
        "WSGIScriptAlias /alias ${{APPS}}/loads.wsgi\n\
         <Location /alias>\nSetHandler wsgi-script\n</Location>\n{more}"
    ));
    Server::start(conf.inside_httpd(MODULES))
}

#[test]
fn a_script_that_changed_is_run_again_as_a_fresh_module_in_the_same_process() {
    let server = scripted(&saying("first"), "");
    let child = server.only_child();
    server.get("/").expect(200, &format!("first True 1 {child}"));
    server.get("/").expect(200, &format!("first True 1 {child}"));
    edit(&server, &saying("second"), 10);
    // What it imports is not loaded again: the marks go on counting.
    server.get("/").expect(200, &format!("second True 2 {child}"));
    server.get("/").expect(200, &format!("second True 2 {child}"));
}

#[test]
fn the_body_of_the_request_that_finds_a_change_arrives_whole() {
    let server = Server::start_with(
        Conf::new(
            "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/own.wsgi\nSetHandler app",
        ),
        |root| write(root, "apps/own.wsgi", &saying("never called")),
    );
    let echo = "def handle_request(environ, start_response):\n    \
                start_response('200 OK', [])\n    return [environ['wsgi.input'].read()]\n";
    edit(&server, echo, 10);
    let body = crate::harness::pattern(100_000);
    server.send(&Request::post("/", &body)).carries(&body);
    edit(&server, &format!("{echo}# changed\n"), 20);
    server.send(&Request::post("/", &body)).carries(&body);
}

#[test]
fn an_older_time_is_a_change_too() {
    let server = scripted(&saying("first"), "");
    let child = server.only_child();
    server.get("/").expect(200, &format!("first True 1 {child}"));
    edit(&server, &saying("older"), -3600);
    server.get("/").expect(200, &format!("older True 2 {child}"));
}

#[test]
fn the_time_of_a_links_target_counts() {
    let server = scripted(&saying("first"), "");
    let child = server.only_child();
    server.write("apps/elsewhere.wsgi", &saying("linked"));
    server.set_time("apps/elsewhere.wsgi", 10);
    server.get("/").expect(200, &format!("first True 1 {child}"));
    std::fs::remove_file(server.path("apps/own.wsgi")).expect("the script goes");
    std::os::unix::fs::symlink("elsewhere.wsgi", server.path("apps/own.wsgi")).expect("a link");
    server.get("/").expect(200, &format!("linked True 2 {child}"));
    server.write("apps/elsewhere.wsgi", &saying("edited"));
    server.set_time("apps/elsewhere.wsgi", 20);
    server.get("/").expect(200, &format!("edited True 3 {child}"));
}

#[test]
fn with_reloading_off_the_script_stays_as_it_was_loaded() {
    let server = scripted(&saying("first"), "WSGIScriptReloading Off");
    let child = server.only_child();
    server.get("/").expect(200, &format!("first True 1 {child}"));
    edit(&server, &saying("second"), 10);
    server.get("/").expect(200, &format!("first True 1 {child}"));
    std::fs::remove_file(server.path("apps/own.wsgi")).expect("the script goes");
    server.get("/").expect(200, &format!("first True 1 {child}"));
}

#[test]
fn the_setting_in_scope_of_the_request_decides() {
    let server = scripted(
        &saying("first"),
        "WSGIScriptReloading Off\n<Location /look>\nWSGIScriptReloading On\n</Location>",
    );
    let child = server.only_child();
    server.get("/").expect(200, &format!("first True 1 {child}"));
    edit(&server, &saying("second"), 10);
    server.get("/").expect(200, &format!("first True 1 {child}"));
    server.get("/look").expect(200, &format!("second True 2 {child}"));
    server.get("/").expect(200, &format!("second True 2 {child}"));
}

#[test]
fn a_script_that_vanished_is_a_500_until_it_is_back() {
    let server = scripted(&saying("first"), "");
    let child = server.only_child();
    assert_eq!(server.get("/").status, 200);
    std::fs::remove_file(server.path("apps/own.wsgi")).expect("the script goes");
    for _ in 0..2 {
        assert_eq!(server.get("/").status, 500);
    }
    server.log().wait_for_count(&[":error]", "MNF0004", "own.wsgi", "No such file"], 2);
    edit(&server, &saying("back"), 10);
    server.get("/").expect(200, &format!("back True 2 {child}"));
}

#[test]
fn an_edit_that_fails_is_a_500_each_time_until_it_is_mended() {
    let server = scripted(&saying("first"), "");
    let child = server.only_child();
    assert_eq!(server.get("/").status, 200);
    for (seconds, text, words) in [
        (10, "def handle_request(:\n", ["MNF0004", "SyntaxError"]),
        (
            20,
            "import marks\nmarks.loads += 1\nraise LookupError('half way')\n",
            ["MNF0005", "half way"],
        ),
    ] {
        edit(&server, text, seconds);
        for _ in 0..2 {
            assert_eq!(server.get("/").status, 500, "the old version is not served instead");
        }
        server.log().wait_for_count(&[&words[..], &[":error]", "own.wsgi"]].concat(), 2);
    }
    edit(&server, &saying("mended"), 30);
    // The second kind of failure ran twice: a failed load is not remembered.
    server.get("/").expect(200, &format!("mended True 4 {child}"));
}

#[test]
fn a_failed_load_leaves_no_module_behind() {
    let server = scripted(&saying("first"), "");
    assert_eq!(server.get("/").status, 200);
    let broken =
        "import sys, marks\nmarks.name = __name__\nassert __name__ in sys.modules\n1 / 0\n";
    edit(&server, broken, 10);
    assert_eq!(server.get("/").status, 500);
    server.log().wait_for(&[":error]", "MNF0005", "ZeroDivisionError"]);
    let look = "import sys, marks\nsame = sys.modules[marks.name]\n\
                def handle_request(environ, start_response):\n    \
                start_response('200 OK', [])\n    \
                return [ascii((marks.name == __name__, vars(same) is globals())).encode()]\n";
    edit(&server, look, 20);
    server.get("/").expect(200, "(True, True)");
}

#[test]
fn a_request_in_the_old_module_finishes_there_while_a_new_one_is_loaded() {
    let server = counting("");
    let gate = server.gate("gate");
    std::thread::scope(|scope| {
        let old = scope.spawn(|| server.get("/gate"));
        gate.held();
        server.set_time("apps/loads.wsgi", 10);
        let new = server.get("/");
        assert_eq!((new.fact("load"), new.fact("fresh")), ("2".to_owned(), "True".to_owned()));
        gate.open();
        let old = old.join().expect("the client");
        assert_eq!((old.status, old.fact("load")), (200, "1".to_owned()));
        assert_eq!((old.fact("ours"), new.fact("ours")), ("False".to_owned(), "True".to_owned()));
    });
    assert_eq!(server.get("/").fact("load"), "2");
}

#[test]
fn requests_that_come_together_load_a_changed_script_once() {
    let server = counting("");
    assert_eq!(server.get("/").fact("load"), "1");
    server.set_time("apps/loads.wsgi", 10);
    for answer in at_once(8, |_| server.get("/")) {
        assert_eq!((answer.status, answer.fact("load")), (200, "2".to_owned()));
    }
}

#[test]
fn reload_required_is_asked_with_the_target_and_its_yes_reloads() {
    let server = counting("");
    assert_eq!(server.get("/first").fact("load"), "1");
    let docs = server.path("docs").display().to_string();
    let asked = |url: &str| {
        let answer = server.get(url);
        (answer.fact("load"), answer.fact("asked"))
    };
    assert_eq!(asked("/x"), ("1".to_owned(), format!("['{docs}/x']")));
    assert_eq!(asked("/caf%C3%A9"), ("1".to_owned(), format!(r"['{docs}/caf\xe9']")));
    assert_eq!(asked("/again").0, "2");
    assert_eq!(asked("/x"), ("2".to_owned(), format!("['{docs}/x']")));
    // A changed file needs no asking.
    server.set_time("apps/loads.wsgi", 10);
    assert_eq!(asked("/x"), ("3".to_owned(), "[]".to_owned()));
    // To a script file, its own path is the target.
    let own = server.path("apps/loads.wsgi").display().to_string();
    assert_eq!(asked("/alias"), ("3".to_owned(), format!("['{own}']")));
}

#[test]
fn a_script_that_always_wants_to_be_reloaded_is_loaded_once_by_a_request() {
    let server = counting("");
    assert_eq!(server.get("/again").fact("load"), "1");
    assert_eq!(server.get("/again").fact("load"), "2");
}

#[test]
fn with_reloading_off_reload_required_is_not_asked() {
    let server = counting("WSGIScriptReloading Off");
    for _ in 0..2 {
        let answer = server.get("/again");
        assert_eq!((answer.fact("load"), answer.fact("asked")), ("1".to_owned(), "[]".to_owned()));
    }
}

#[test]
fn an_exception_in_reload_required_is_logged_and_means_no() {
    let server = counting("");
    assert_eq!(server.get("/").fact("load"), "1");
    let answer = server.get("/broken");
    assert_eq!((answer.status, answer.fact("load")), (200, "1".to_owned()));
    server.log().wait_for(&[":error]", "MNF0007", "reload_required", "loads.wsgi", "cannot tell"]);
    assert_eq!(server.get("/again").fact("load"), "2");
}

#[test]
fn an_answer_of_reload_required_counts_by_its_truth() {
    let text = "import marks\nmarks.loads += 1\n\
                def reload_required(resource):\n    \
                return [] if resource.endswith('/no') else ['yes']\n\
                def handle_request(environ, start_response):\n    \
                start_response('200 OK', [])\n    return [str(marks.loads).encode()]\n";
    let server = scripted(text, "");
    server.get("/no").expect(200, "1");
    server.get("/no").expect(200, "1");
    server.get("/yes").expect(200, "2");
}

#[test]
fn a_module_knows_its_name_its_file_and_its_time() {
    let server = counting("");
    let path = server.path("apps/loads.wsgi");
    let microseconds = |path: &Path| {
        let time = std::fs::metadata(path).and_then(|data| data.modified()).expect("its time");
        time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_micros().to_string()
    };
    let first = server.get("/");
    let name = first.fact("name");
    let digits = name.trim_matches('\'').strip_prefix("_mod_wsgi_").expect("the prefix");
    assert!(digits.len() == 32 && digits.bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
    assert_eq!(first.fact("file"), format!("'{}'", path.display()));
    assert_eq!(first.fact("mtime"), microseconds(&path));
    assert_eq!(
        (first.fact("ours"), first.fact("modules")),
        ("True".to_owned(), format!("[{name}]"))
    );
    server.set_time("apps/loads.wsgi", 10);
    let second = server.get("/");
    assert_eq!((second.fact("load"), second.fact("name")), ("2".to_owned(), name.clone()));
    assert_eq!(second.fact("mtime"), microseconds(&path));
    assert_eq!(second.fact("modules"), format!("[{name}]"));
}

#[test]
fn a_file_that_is_alias_target_and_handler_script_is_one_module() {
    let server = counting("");
    let handler = server.get("/x");
    let alias = server.get("/alias");
    assert_eq!([handler.fact("kind"), alias.fact("kind")], ["'handler'", "'application'"]);
    assert_eq!((alias.fact("load"), alias.fact("served")), ("1".to_owned(), "2".to_owned()));
    server.set_time("apps/loads.wsgi", 10);
    assert_eq!(server.get("/alias").fact("load"), "2");
    let handler = server.get("/x");
    assert_eq!((handler.fact("load"), handler.fact("served")), ("2".to_owned(), "2".to_owned()));
}

/// A module that was replaced goes, with all it holds, once nothing runs in it: classes and
/// functions that refer to each other included.
#[test]
fn two_hundred_changes_do_not_make_the_child_grow() {
    let script = "import array\n\
                  class Site:\n    \
                      data = array.array('B', bytes(range(256)) * 4096)\n    \
                      def handle(self, environ, start_response):\n        \
                          start_response('200 OK', [])\n        \
                          return [str(len(self.data)).encode()]\n\
                  site = Site()\nhandle_request = site.handle\n";
    let server = scripted(script, "");
    let touched = |seconds: i64| {
        server.set_time("apps/own.wsgi", seconds);
        server.get("/").expect(200, "1048576");
        resident(server.only_child())
    };
    let settled = (1..=40).map(touched).max().expect("forty of them");
    let then = (41..=240).map(touched).max().expect("two hundred of them");
    println!("resident: {settled} KiB at most in 40 changes, {then} KiB in 200 more");
    assert!(then < settled + 16 * 1024, "each version holds one MiB: {settled} then {then} KiB");
    // Each was loaded; the last line may still be on its way.
    assert_eq!(server.log().wait_for_count(&["loading script"], 240).len(), 240);
}
