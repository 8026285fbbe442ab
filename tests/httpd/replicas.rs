//! Several interpreters for one application group.

use crate::harness::{Conf, Server, at_once, config_test, write};
use std::collections::BTreeSet;

/// One application that says which interpreter serves it, and another that keeps the GIL of its
/// interpreter until it is told to stop; both in one group.
fn conf(replicas: &str) -> Conf {
    Conf::new(&format!(
        "WSGIReplicas {replicas}\nWSGIApplicationGroup app\n\
         WSGIHandlerScript busy ${{APPS}}/busy.wsgi\n\
         WSGIHandlerScript which ${{APPS}}/interpreter.wsgi\n\
         <Location /busy>\nSetHandler busy\n</Location>\n\
         <Location /which>\nSetHandler which\n</Location>"
    ))
}

fn made(server: &Server, group: &str) -> usize {
    server.log().lines_with(&[&format!("application group '{group}': sub-interpreter")]).len()
}

/// Python 3.12 has one GIL for all.
fn has_own_gil(server: &Server) -> bool {
    let own = server.get("/which").fact("python").as_str() >= "(3, 13)";
    if !own {
        println!("skipped: this Python has no own GIL");
    }
    own
}

#[test]
fn a_replica_that_computes_holds_up_no_request_that_another_can_take() {
    let server = Server::start(conf("2"));
    if !has_own_gil(&server) {
        return;
    }
    let flags = server.flags();
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| server.get("/busy"));
        flags.begun();
        let answers = at_once(20, |_| server.get("/which").maybe_fact("interpreter"));
        flags.finish();
        let interpreters: BTreeSet<_> = answers.iter().map(|it| it.as_deref()).collect();
        assert!(interpreters.len() == 1 && !interpreters.contains(&None), "{interpreters:?}");
        busy.join().expect("the busy client").expect(200, "done computing");
    });
    assert_eq!(made(&server, "app"), 2);
}

#[test]
fn every_replica_is_preloaded_before_the_first_request() {
    let server = Server::start_with(
        Conf::new(
            "WSGIReplicas 3\nWSGIScriptAlias /app ${APPS}/counted.wsgi process-group=${GROUP} \
             application-group=ready",
        ),
        |root| {
            let script = "import sys\nprint('loaded once more')\n\
                          def application(environ, start_response):\n    \
                          start_response('200 OK', [])\n    return [b'ready']\n";
            write(root, "apps/counted.wsgi", script);
        },
    );
    server.get("/app").expect(200, "ready");
    let loaded = || server.log().lines_with(&["loaded once more"]).len();
    let wanted = if made(&server, "ready") == 1 { 1 } else { 3 };
    assert_eq!(loaded(), wanted, "the first request came after that");
    for answer in at_once(12, |_| server.get("/app")) {
        answer.expect(200, "ready");
    }
    assert_eq!(loaded(), wanted);
}

#[test]
fn auto_is_as_many_as_there_are_processors() {
    let server = Server::start(conf("Auto"));
    if !has_own_gil(&server) {
        return;
    }
    let processors = std::thread::available_parallelism().expect("a number").get();
    let lines = server.log().wait_for_count(&["application group 'app': sub-"], processors);
    assert_eq!(lines.len(), processors);
}

#[test]
fn a_group_may_have_another_number_than_the_others() {
    let conf = conf("2").and(
        "<WSGIInterpreterOptions application-group=single>\nWSGIReplicas 1\n\
         </WSGIInterpreterOptions>\n\
         WSGIHandlerScript single ${APPS}/interpreter.wsgi application-group=single\n\
         <Location /single>\nSetHandler single\n</Location>",
    );
    let server = Server::start(conf);
    let answers = at_once(16, |_| server.get("/single").fact("interpreter"));
    assert_eq!(answers.iter().collect::<BTreeSet<_>>().len(), 1, "{answers:?}");
    assert_eq!(made(&server, "single"), 1);
}

#[test]
fn what_can_be_only_one_is_one_and_a_line_says_so() {
    let conf = conf("3").and(
        "<WSGIInterpreterOptions application-group=shared>\nWSGIPerInterpreterGIL Off\n\
         </WSGIInterpreterOptions>\n\
         WSGIHandlerScript shared ${APPS}/interpreter.wsgi application-group=shared\n\
         WSGIHandlerScript main ${APPS}/interpreter.wsgi application-group=%{GLOBAL}\n\
         <Location /shared>\nSetHandler shared\n</Location>\n\
         <Location /main>\nSetHandler main\n</Location>",
    );
    let server = Server::start(conf);
    for (path, group, why) in [("/main", "%{GLOBAL}", "main"), ("/shared", "shared", "one GIL")] {
        let answers = at_once(8, |_| server.get(path).fact("interpreter"));
        assert_eq!(answers.iter().collect::<BTreeSet<_>>().len(), 1, "{answers:?}");
        let line = server.log().wait_for(&["MNF0029", &format!("'{group}'"), "WSGIReplicas", why]);
        assert!(line.contains("one replica and not 3"), "{line}");
    }
}

#[test]
fn each_replica_counts_for_the_limit_of_interpreters() {
    let server = Server::start(conf("3").and("WSGIInterpreterLimit 3"));
    if server.get("/which").status == 200 {
        println!("skipped: this Python has no own GIL");
        return;
    }
    assert_eq!(server.get("/which").status, 503);
    let line = server.log().wait_for(&["MNF0010", "'app'", "WSGIInterpreterLimit (3)"]);
    assert!(line.contains("1 interpreter more"), "{line}");
}

#[test]
fn a_number_or_auto_is_accepted_and_nothing_else() {
    for word in ["1", "8", "auto", "AUTO"] {
        assert!(config_test(&format!("WSGIReplicas {word}")).ok);
    }
    for word in ["0", "-1", "two", "1025", "2x", "\"\""] {
        let test = config_test(&format!("WSGIReplicas {word}"));
        let said = &test.said;
        assert!(!test.ok && said.contains("WSGIReplicas"), "{word}: {said}");
    }
    let in_a_host = config_test("<VirtualHost *>\nWSGIReplicas 2\n</VirtualHost>");
    assert!(!in_a_host.ok);
}
