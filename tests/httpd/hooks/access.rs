//! WSGIAccessScript.

use super::{hooked, prepare, refused};
use crate::harness::{Conf, Request, Server, at_once, write};

/// Answers what the query says.
const ANSWERS: &str = r#"
ANSWERS = {"true": True, "none": None, "false": False, "one": 1, "zero": 0, "text": "yes",
           "nothing": "", "dict": {"a": 1}}


def allow_access(environ, host):
    what = environ["QUERY_STRING"]
    if what == "exit":
        raise SystemExit(0)
    if what == "interrupt":
        raise KeyboardInterrupt
    return ANSWERS[what]
"#;

fn guarded(more: &str) -> Conf {
    Conf::new("<Directory ${DOCS}>\nWSGIAccessScript ${APPS}/hook.py\n</Directory>").and(more)
}

#[test]
fn true_and_none_let_in_and_nothing_else_does() {
    let server = hooked(guarded(""), ANSWERS);
    for what in ["true", "none"] {
        server.get(&format!("/file.txt?{what}")).expect(200, "static");
    }
    for what in ["false", "one", "zero", "text", "nothing", "dict", "exit", "interrupt", "unknown"]
    {
        refused(&server.get(&format!("/file.txt?{what}")), 403);
    }
    let log = server.log();
    log.wait_for(&[":error]", "[client ", "the client is refused by access script", "hook.py"]);
    for (what, count) in [("int", 2), ("dict", 1), ("returned str;", 1), ("an empty str", 1)] {
        let words = [":error]", "MNF", "allow_access()", "hook.py", "returned", what];
        assert_eq!(log.wait_for_count(&words, count).len(), count, "{what}");
    }
    for class in ["SystemExit", "KeyboardInterrupt", "KeyError"] {
        log.wait_for(&[":error]", "MNF", "[client ", class, "raised by allow_access", "hook.py"]);
    }
    // The traceback follows, a line each.
    log.wait_for(&[":error]", "return ANSWERS[what]"]);
    log.wait_for(&[":error]", "KeyError: 'unknown'"]);
}

#[test]
fn a_script_that_cannot_be_used_refuses_everybody() {
    for (text, words) in [
        ("def other(environ, host):\n    return True\n", ["hook.py", "defines no 'allow_access'"]),
        ("allow_access = True\n", ["TypeError", "raised by allow_access"]),
        ("def allow_access(environ):\n    return True\n", ["TypeError", "allow_access"]),
        ("this is no Python\n", ["hook.py", "could not be compiled"]),
        ("raise RuntimeError('not today')\n", ["could not be executed", "not today"]),
        ("raise SystemExit(0)\n", ["could not be executed", "SystemExit"]),
    ] {
        let server = hooked(guarded(""), text);
        for _ in 0..2 {
            refused(&server.get("/file.txt"), 403);
        }
        server.log().wait_for_count(&[":error]", "MNF", "[client ", words[0], words[1]], 2);
    }
    let conf = guarded("<Location /file.txt>\nWSGIAccessScript ${APPS}/none.py\n</Location>");
    let server = hooked(conf, ANSWERS);
    refused(&server.get("/file.txt?true"), 403);
    server.log().wait_for(&[":error]", "MNF", "none.py", "could not be read"]);
}

#[test]
fn without_a_python_everybody_is_refused() {
    let server = hooked(guarded("").python_home("/nowhere"), ANSWERS);
    refused(&server.get("/file.txt?true"), 403);
    server.log().wait_for(&[":error]", "MNF", "[client ", "Python does not run in this process"]);
}

#[test]
fn a_group_that_cannot_be_made_refuses_everybody() {
    let conf = Conf::new(
        "WSGIInterpreterLimit 2\n<Location />\n\
         WSGIAccessScript ${APPS}/hook.py application-group=one\n</Location>\n<Location /more>\n\
         WSGIAccessScript ${APPS}/hook.py application-group=two\n</Location>",
    );
    let server = Server::start_with(conf, |root| {
        prepare(root, ANSWERS);
        write(root, "docs/more/file.txt", "static");
    });
    server.get("/file.txt?true").expect(200, "static");
    refused(&server.get("/more/file.txt?true"), 403);
    server.log().wait_for(&[":error]", "MNF", "'two'", "WSGIInterpreterLimit"]);
}

#[test]
fn it_is_told_the_address_of_the_client() {
    let text = "def allow_access(environ, host):\n    return host == '127.0.0.1' == environ['REMOTE_ADDR']\n";
    let server = hooked(guarded(""), text);
    server.get("/file.txt").expect(200, "static");
}

#[test]
fn it_guards_handler_scripts_as_well() {
    let conf = Conf::serving("hello.wsgi")
        .and("<Location />\nWSGIAccessScript ${APPS}/hook.py\n</Location>");
    let server = hooked(conf, ANSWERS);
    server.get("/x?true").expect(200, "Hello, world!\n");
    assert_eq!(server.get("/x?false").status, 403);
}

#[test]
fn the_most_specific_script_decides() {
    let conf = guarded("<Location /open>\nWSGIAccessScript ${APPS}/open.py\n</Location>");
    let server = Server::start_with(conf, |root| {
        prepare(root, ANSWERS);
        write(root, "apps/open.py", "def allow_access(environ, host):\n    return True\n");
        write(root, "docs/open/file.txt", "static");
    });
    server.get("/open/file.txt?false").expect(200, "static");
    refused(&server.get("/file.txt?false"), 403);
}

#[test]
fn under_satisfy_any_it_lets_in_without_a_password() {
    let conf = super::basic(
        "<Location />\nSatisfy Any\nRequire valid-user\nWSGIAccessScript ${APPS}/access.py\n</Location>",
    );
    let server = Server::start_with(conf.with("access_compat"), |root| {
        prepare(root, "def check_password(environ, user, password):\n    return user == 'me'\n");
        write(root, "apps/access.py", ANSWERS);
    });
    server.get("/file.txt?true").expect(200, "static");
    for what in ["false", "one", "raise"] {
        refused(&server.get(&format!("/file.txt?{what}")), 401);
        server.send(&super::login(&format!("/file.txt?{what}"), b"me", b"")).expect(200, "static");
    }
}

#[test]
fn several_clients_are_asked_about_at_once() {
    let text = format!("import time\n{ANSWERS}")
        .replace("    what = environ", "    time.sleep(0.01)\n    what = environ");
    let server = hooked(guarded(""), &text);
    let answers = at_once(40, |i| {
        let what = if i % 2 == 0 { "true" } else { "false" };
        server.send(&Request::get(&format!("/file.txt?{what}"))).status
    });
    for (i, status) in answers.into_iter().enumerate() {
        assert_eq!(status, if i % 2 == 0 { 200 } else { 403 }, "client {i}");
    }
}
