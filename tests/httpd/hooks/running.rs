//! Hook scripts while the server runs: reloading, sub-requests, stopping.

use super::{hooked, prepare, refused};
use crate::harness::{Conf, Server, write};

const GUARDED: &str = "<Location />\nWSGIAccessScript ${APPS}/hook.py\n</Location>";

fn answering(value: &str) -> String {
    format!(
        "fresh = 'old' not in globals()\nold = 1\n\n\ndef allow_access(environ, host):\n    return fresh and {value}\n"
    )
}

/// Writes the hook script anew, with a time that is its own.
fn edit(server: &Server, text: &str, seconds: i64) {
    server.write("apps/hook.py", text);
    server.set_time("apps/hook.py", seconds);
}

#[test]
fn a_hook_script_that_changed_is_loaded_again() {
    let server = hooked(Conf::new(GUARDED), &answering("True"));
    let child = server.only_child();
    server.get("/file.txt").expect(200, "static");
    edit(&server, &answering("False"), 10);
    refused(&server.get("/file.txt"), 403);
    edit(&server, "broken", 20);
    refused(&server.get("/file.txt"), 403);
    edit(&server, &answering("True"), 30);
    server.get("/file.txt").expect(200, "static");
    std::fs::remove_file(server.path("apps/hook.py")).expect("it goes");
    refused(&server.get("/file.txt"), 403);
    assert_eq!(server.only_child(), child);
}

#[test]
fn without_reloading_it_stays_as_it_is() {
    let server = hooked(Conf::new(GUARDED).and("WSGIScriptReloading Off"), &answering("True"));
    server.get("/file.txt").expect(200, "static");
    edit(&server, &answering("False"), 10);
    server.get("/file.txt").expect(200, "static");
}

#[test]
fn what_it_prints_is_logged_with_its_request() {
    let text = "import sys\n\n\ndef allow_access(environ, host):\n    print('to stdout')\n    \
                print('to stderr', file=sys.stderr)\n    environ['wsgi.errors'].write('half a line')\n    \
                return True\n";
    let server = hooked(Conf::new(GUARDED), text);
    server.get("/file.txt").expect(200, "static");
    for line in ["to stdout", "to stderr", "half a line"] {
        server.log().wait_for(&[":error]", "[client ", line]);
    }
}

/// A page of a handler script that includes `/inner/file.txt`, which a hook script guards.
fn including(settings: &str, timeout: u32) -> Server {
    let conf = Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript page ${APPS}/page.wsgi\n\
         <Location /page>\nSetHandler page\nOptions +Includes\nSetOutputFilter INCLUDES\n</Location>\n\
         <Location /inner>\nWSGIAccessScript ${APPS}/hook.py application-group=app\n</Location>",
    );
    let text = "def allow_access(environ, host):\n    return environ['QUERY_STRING'] != 'no'\n";
    Server::start_with(conf.and(settings).with("include").timeout(timeout), |root| {
        prepare(root, text);
        write(root, "docs/inner/file.txt", "inside");
    })
}

#[test]
fn a_sub_request_is_asked_about() {
    let server = including("", 60);
    server.get("/page?inner=/inner/file.txt").expect(200, "<p>before</p>\ninside\n<p>after</p>\n");
    let text = server.get("/page?inner=/inner/file.txt%3Fno").text();
    assert!(text.contains("[an error occurred") && !text.contains("inside"), "{text}");
    assert!(text.ends_with("<p>after</p>\n"), "{text}");
}

#[test]
fn a_sub_request_that_only_the_outer_could_let_in_is_refused() {
    // The page in a process group would not be in the hook script's way.
    let more = "WSGIProcessGroup %{GLOBAL}\nWSGIInterpreterThreads 1\nWSGIResponseBufferLimit 0";
    let server = including(more, 3);
    let answer = server.get("/page?inner=/inner/file.txt&blocks=512");
    assert_eq!((answer.status, answer.whole), (200, true));
    let text = answer.text();
    assert!(text.contains("[an error occurred") && !text.contains("inside"), "{}", &text[..200]);
    server.log().wait_for(&[":error]", "MNF", "became free for this request"]);
    server.get("/inner/file.txt").expect(200, "inside");
}

const WAITING: &str = "import os\n\n\ndef allow_access(environ, host):\n    \
                       if environ['QUERY_STRING']:\n        \
                       open(environ['QUERY_STRING'], 'rb').read(1)\n    return True\n";

#[test]
fn a_client_that_waits_for_a_hook_script_does_not_hold_up_a_stop() {
    let server = hooked(Conf::new(GUARDED), WAITING);
    let gate = server.gate("gate");
    let mut client = server.client();
    let target = format!("/file.txt?{}", server.path("state/gate").display());
    client.send_head(&crate::harness::Request::get(&target));
    gate.held();
    server.begin_stop();
    server.ended();
}

#[test]
fn a_graceful_stop_waits_for_a_hook_script() {
    let server = hooked(Conf::new(GUARDED), WAITING);
    let gate = server.gate("gate");
    let mut client = server.client();
    let target = format!("/file.txt?{}", server.path("state/gate").display());
    client.send_head(&crate::harness::Request::get(&target));
    gate.held();
    server.begin_graceful_stop();
    gate.open();
    client.read("GET").expect(200, "static");
    server.ended();
}

#[test]
fn the_worker_mpm_asks_hook_scripts() {
    let server = hooked(Conf::new(GUARDED).on_worker(), WAITING);
    for status in crate::harness::at_once(8, |i| {
        server.get(if i % 2 == 0 { "/file.txt" } else { "/file.txt?/nowhere" }).status
    })
    .into_iter()
    .enumerate()
    .map(|(i, status)| (i % 2 == 0, status))
    {
        assert!(matches!(status, (true, 200) | (false, 403)), "{status:?}");
    }
    server.stop();
}
