//! WSGIDispatchScript.

use super::{hooked, noted};
use crate::harness::{Conf, Request, Server, write};

/// Every URL goes to `shown.wsgi`, whose two callables say what they were called as.
fn dispatched(text: &str, more: &str) -> Server {
    let conf = Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/shown.wsgi\nSetHandler app\n\
         WSGIDispatchScript ${APPS}/hook.py",
    );
    let shown = "import mod_wsgi\n\n\ndef show(name):\n    def answer(environ, start_response):\n        \
                 start_response('200 OK', [])\n        \
                 text = '%s %s %s' % (name, mod_wsgi.application_group, environ['mod_wsgi.callable_object'])\n        \
                 return [text.encode()]\n    return answer\n\n\n\
                 handle_request, other = show('handler'), show('other')\napplication = show('application')\n";
    Server::start_with(conf.and(more).with("setenvif"), |root| {
        write(root, "apps/shown.wsgi", shown);
        write(root, "apps/hook.py", text);
    })
}

const ASKED: &str =
    "\n\ndef application_group(environ):\n    return environ['QUERY_STRING'] or None\n";

#[test]
fn none_and_missing_functions_keep_what_is_configured() {
    for text in [
        "",
        "def process_group(environ):\n    return None\n",
        "def callable_object(environ):\n    return None\n",
        ASKED,
    ] {
        dispatched(text, "").get("/x").expect(200, "handler app handle_request");
    }
}

#[test]
fn the_application_group_may_be_chosen() {
    let server = dispatched(ASKED, "SetEnvIf Request_URI /named NAMED=by-env DEEPER=%{SERVER}");
    let here = format!("manifold.test:{}", server.port());
    for (asked, group) in [
        ("one", "one"),
        ("two", "two"),
        ("%{GLOBAL}", ""),
        ("%{SERVER}", &here),
        ("my%{SERVER}", "my%{SERVER}"),
        ("%{RESOURCE}", &format!("{here}|/named")),
        ("%{ENV:NAMED}", "by-env"),
        ("%{ENV:DEEPER}", &here),
        ("%{ENV:UNKNOWN}", "%{ENV:UNKNOWN}"),
    ] {
        server
            .get(&format!("/named?{asked}"))
            .expect(200, &format!("handler {group} handle_request"));
    }
}

#[test]
fn a_group_may_be_bytes_and_an_empty_one_is_the_main_interpreter() {
    let text = "def application_group(environ):\n    \
                return {'a': b'by-bytes', 'b': '', 'c': b''}[environ['QUERY_STRING']]\n";
    let server = dispatched(text, "");
    server.get("/x?a").expect(200, "handler by-bytes handle_request");
    server.get("/x?b").expect(200, "handler  handle_request");
    server.get("/x?c").expect(200, "handler  handle_request");
}

#[test]
fn the_callable_may_be_chosen_for_a_handler_script_too() {
    let text = "def callable_object(environ):\n    return environ['QUERY_STRING'] or None\n";
    let server = dispatched(text, "SetEnvIf Request_URI . NAMED=other");
    server.get("/x").expect(200, "handler app handle_request");
    server.get("/x?other").expect(200, "other app other");
    server.get("/x?%{ENV:NAMED}").expect(200, "other app other");
    server.get("/x?%").expect(200, "application app application");
    server.get("/x?%{SERVER}").expect(200, "application app application");
    assert_eq!(server.get("/x?none").status, 500);
    server.log().wait_for(&[":error]", "MNF", "shown.wsgi", "defines no 'none'"]);
    server.get("/x?other").expect(200, "other app other");
}

#[test]
fn it_overrides_the_options_of_a_script_alias() {
    let text = "def application_group(environ):\n    return 'chosen'\n\n\n\
                def callable_object(environ):\n    return 'other'\n";
    let server = dispatched(
        text,
        "WSGIScriptAlias /alias ${APPS}/shown.wsgi application-group=alias callable-object=handle_request\n\
         <Location /alias>\nSetHandler wsgi-script\n</Location>",
    );
    server.get("/alias").expect(200, "other chosen other");
}

#[test]
fn a_process_group_that_is_chosen_has_to_be_there() {
    let text = "def process_group(environ):\n    return environ['QUERY_STRING'] or None\n";
    let server = dispatched(text, "");
    server.get("/x?%{GLOBAL}").expect(200, "handler app handle_request");
    assert_eq!(server.get("/x?somewhere").status, 500);
    server.log().wait_for(&[":error]", "MNF", "process group 'somewhere'"]);
    let server =
        dispatched("def process_group(environ):\n    return ''\n", "WSGIProcessGroup somewhere");
    server.get("/x").expect(200, "handler app handle_request");
}

#[test]
fn what_is_no_name_is_a_500() {
    let text = "VALUES = {'true': True, 'one': 1, 'list': ['a'], 'wide': '\\u20ac', 'nul': 'a\\0b', \
                'bytearray': bytearray(b'a')}\n\n\ndef process_group(environ):\n    \
                return ask(environ, 'process')\n\n\ndef application_group(environ):\n    \
                return ask(environ, 'application')\n\n\ndef callable_object(environ):\n    \
                return ask(environ, 'callable')\n\n\ndef ask(environ, which):\n    \
                what, _, about = environ['QUERY_STRING'].partition('&')\n    \
                if about == which:\n        return VALUES[what]\n";
    let server = dispatched(text, "");
    server.get("/x?true&nobody").expect(200, "handler app handle_request");
    for which in ["process", "application", "callable"] {
        for what in ["true", "one", "list", "wide", "nul", "bytearray", "raises"] {
            assert_eq!(server.get(&format!("/x?{what}&{which}")).status, 500, "{which} {what}");
        }
        let name = match which {
            "callable" => "callable_object".to_owned(),
            _ => format!("{which}_group"),
        };
        let log = server.log();
        log.wait_for_count(&[":error]", "MNF", "[client ", &format!("{name}() of"), "returned"], 6);
        log.wait_for(&[":error]", "MNF", "KeyError raised by", &name]);
    }
}

#[test]
fn a_script_that_cannot_be_loaded_is_a_500() {
    for (text, words) in [
        ("import no_such_module\n", ["could not be executed", "no_such_module"]),
        ("this is no Python\n", ["could not be compiled", "SyntaxError"]),
    ] {
        let server = dispatched(text, "");
        assert_eq!(server.get("/x").status, 500);
        server.log().wait_for(&[":error]", "MNF", "hook.py", words[0], words[1]]);
    }
    let server = dispatched("", "WSGIDispatchScript ${APPS}/none.py");
    assert_eq!(server.get("/x").status, 500);
    server.log().wait_for(&[":error]", "MNF", "none.py", "could not be read"]);
}

#[test]
fn its_environ_is_that_of_the_request() {
    let text = "def application_group(environ):\n    for key, value in sorted(environ.items()):\n        \
                print(f' note {key}={value!r}', file=environ['wsgi.errors'])\n    \
                print(' note present=', sorted(environ), sep='', file=environ['wsgi.errors'])\n";
    let server = dispatched(
        text,
        "SetEnvIf Request_URI . FROM_ENV=yes\n\
         <Location /pass>\nWSGIPassAuthorization On\n</Location>",
    );
    let request =
        Request::get("/here/x?a=1").header("X-Own", "1").header("Authorization", "Basic eDp5");
    assert_eq!(server.send(&request).status, 200);
    for (key, value) in [
        ("REQUEST_METHOD", "'GET'"),
        ("QUERY_STRING", "'a=1'"),
        ("HTTP_X_OWN", "'1'"),
        ("FROM_ENV", "'yes'"),
        ("mod_wsgi.request_handler", "'app'"),
        ("mod_wsgi.process_group", "''"),
        ("mod_wsgi.application_group", "''"),
    ] {
        assert_eq!(noted(&server, key), value, "{key}");
    }
    assert!(noted(&server, "mod_wsgi.handler_script").ends_with("shown.wsgi'"));
    let present = noted(&server, "present");
    for key in ["wsgi.input", "mod_wsgi.callable_object", "HTTP_AUTHORIZATION"] {
        assert!(!present.contains(&format!("'{key}'")), "{key}: {present}");
    }
    server.send(&Request::get("/pass").header("Authorization", "Basic eDp5"));
    assert_eq!(noted(&server, "HTTP_AUTHORIZATION"), "'Basic eDp5'");
}

#[test]
fn it_is_not_asked_about_what_is_no_application() {
    let conf = Conf::new("WSGIDispatchScript ${APPS}/hook.py");
    let server = hooked(conf, "raise RuntimeError('asked')\n");
    server.get("/file.txt").expect(200, "static");
    assert!(server.log().lines_with(&["RuntimeError"]).is_empty());
}

#[test]
fn the_application_and_its_dispatch_script_agree_on_the_id_of_a_request() {
    let text = "def application_group(environ):\n    \
                print(f\" note id={environ['mod_wsgi.request_id']!r}\", file=environ['wsgi.errors'])\n";
    let conf = Conf::serving("environ.wsgi").and("WSGIDispatchScript ${APPS}/hook.py");
    let server = hooked(conf, text);
    let id = server.get("/x").fact("mod_wsgi.request_id");
    assert_eq!(noted(&server, "id"), id);
}
