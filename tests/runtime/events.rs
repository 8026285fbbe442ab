//! Events, as far as they need no web server: who is told, and who waits for whom.

use crate::harness::{App, Folder};
use manifold::Outcome;

/// Answers with the paths of the requests that were told about so far.
const NOTING: &str = r#"
import mod_wsgi

started = []

@mod_wsgi.subscribe_events
def note(name, **event):
    if name == "request_started":
        started.append(event["request_environ"]["PATH_INFO"])

def application(environ, start_response):
    if environ["PATH_INFO"] == "/stop":
        mod_wsgi.event_callbacks.clear()
    start_response("200 OK", [])
    return [" ".join(started).encode()]
"#;

#[test]
fn callbacks_are_told_about_their_own_interpreter_until_they_are_taken_off_the_list() {
    let folder = Folder::new();
    let script = folder.script("app.wsgi", NOTING);
    let [one, other] = ["events-one", "events-other"].map(|name| App::of(script.clone(), name));
    assert_eq!(one.get("/1"), "/1");
    assert_eq!(other.get("/2"), "/2");
    assert_eq!(one.get("/stop"), "/1 /stop");
    assert_eq!(one.get("/3"), "/1 /stop");
    assert_eq!(other.get("/4"), "/2 /4");
}

#[test]
fn a_client_does_not_wait_for_those_who_are_told_that_its_request_has_finished() {
    let folder = Folder::new();
    let gate = folder.pipe("gate");
    let script = folder.script(
        "app.wsgi",
        r#"
import mod_wsgi

@mod_wsgi.subscribe_events
def wait(name, **event):
    if name == "request_finished":
        with open("FOLDER/gate") as gate:
            gate.read()

def application(environ, start_response):
    start_response("200 OK", [])
    return [b"answered"]
"#,
    );
    let answered = App::of(script, "events-late").request("/").finish(b"");
    assert_eq!((answered.outcome, &answered.body[..]), (Some(Outcome::Complete), &b"answered"[..]));
    drop(gate);
}
