//! What keeps clients from making a process grow: the limits of interpreters and of queues.

use std::collections::BTreeSet;

use crate::harness::{Conf, Request, Response, Server, at_once, eventually};

/// `interpreter.wsgi` for every URL, in a group for each, and at most eight interpreters.
fn serve(more: &str) -> Server {
    Server::start(Conf::new(&format!(
        "WSGIInterpreterLimit 8\nWSGIHandlerScript which ${{APPS}}/interpreter.wsgi\n\
         SetHandler which\n{more}"
    )))
}

/// Splits answers into those of applications and the refusals, which have to be good ones.
fn sort(answers: &[Response]) -> (BTreeSet<String>, usize) {
    let mut interpreters = BTreeSet::new();
    let mut refused = 0;
    for answer in answers {
        match answer.status {
            200 => {
                interpreters.insert(answer.fact("interpreter"));
            }
            503 => {
                assert_eq!(answer.header("Retry-After").as_deref(), Some("1"));
                assert!(answer.whole);
                refused += 1;
            }
            status => panic!("{status}: {}", answer.text()),
        }
    }
    (interpreters, refused)
}

/// How many interpreters there were ever in all children, by what the log says.
fn made(server: &Server) -> usize {
    server.log().lines_with(&["wsgi:info", "interpreter", "own GIL"]).len()
}

#[test]
fn forty_invented_urls_make_no_more_interpreters_than_allowed() {
    let server = serve("");
    let child = server.only_child();
    let ask = |i: usize| server.get(&format!("/invented{i}"));
    let first: Vec<_> = (0..40).map(ask).collect();
    let (interpreters, refused) = sort(&first);
    // The main interpreter is the eighth.
    assert_eq!((interpreters.len(), refused), (7, 33));
    assert_eq!(made(&server), 8);
    let lines = server.log().wait_for_count(&[":error]", "MNF0010", "[client 127.0.0.1:"], 33);
    assert!(lines.len() == 33 && lines.iter().all(|line| line.contains("WSGIInterpreterLimit")));
    // Those of the first seven still answer, each in its interpreter; the others are refused again.
    for (i, before) in first.iter().enumerate() {
        let now = ask(i);
        assert_eq!(now.status, before.status, "/invented{i}");
        if now.status == 200 {
            assert_eq!(now.fact("interpreter"), before.fact("interpreter"));
            assert_eq!(now.fact("served"), "2", "nothing was thrown away");
        }
    }
    assert_eq!(server.only_child(), child);
    server.stop();
}

#[test]
fn forty_urls_that_come_together_make_no_more_interpreters_than_allowed() {
    let server = serve("");
    let answers = at_once(40, |i| server.get(&format!("/invented{i}")));
    let (interpreters, refused) = sort(&answers);
    assert_eq!((interpreters.len(), refused), (7, 33));
    assert_eq!(made(&server), 8);
    server.stop();
}

#[test]
fn hosts_that_clients_invent_count_too() {
    let server = serve("UseCanonicalName Off\nWSGIApplicationGroup %{HOST}");
    let ask = |i: usize| server.send(&Request::get("/").header("Host", &format!("h{i}.test")));
    let (interpreters, refused) = sort(&(0..12).map(ask).collect::<Vec<_>>());
    assert_eq!((interpreters.len(), refused), (7, 5));
}

#[test]
fn the_main_interpreter_answers_at_the_limit() {
    let server = serve("<Location /main>\nWSGIApplicationGroup %{GLOBAL}\n</Location>");
    for i in 0..10 {
        server.get(&format!("/invented{i}"));
    }
    let answer = server.get("/main");
    assert_eq!((answer.status, answer.fact("is_main")), (200, "True".to_owned()));
}

#[test]
fn paths_below_one_script_share_its_group() {
    let server = Server::start(Conf::new(
        "WSGIInterpreterLimit 3\nWSGIScriptAlias /app ${APPS}/interpreter.wsgi callable-object=handle_request",
    ));
    let ask = |i: usize| server.get(&format!("/app/invented{i}"));
    let (interpreters, refused) = sort(&(0..10).map(ask).collect::<Vec<_>>());
    assert_eq!((interpreters.len(), refused), (1, 0));
}

#[test]
fn slashes_do_not_make_another_group() {
    let server = serve("MergeSlashes Off");
    let groups: BTreeSet<_> =
        ["/x", "//x", "///x"].map(|url| server.get(url).fact("group")).into_iter().collect();
    assert_eq!(groups.len(), 1, "{groups:?}");
}

#[test]
fn an_error_document_replaces_the_page_of_a_503() {
    let server = serve("ErrorDocument 503 \"come back later\"");
    for i in 0..10 {
        server.get(&format!("/invented{i}"));
    }
    let last = server.get("/invented10");
    last.expect(503, "come back later");
    assert_eq!(last.header("Retry-After").as_deref(), Some("1"));
}

/// A request holds the only thread of its group at a gate while six more come. `limit` of them wait and
/// are served when it opens; the others have been refused by then, as they should be.
#[track_caller]
fn so_many_wait(limit: usize, conf: &str) {
    let conf = Conf::serving("waiting.wsgi").and("WSGIInterpreterThreads 1").and(conf);
    let server = Server::start(conf);
    let gate = server.gate("gate");
    let mut first = server.client();
    first.send_head(&Request::get("/gate"));
    gate.held();
    let answers = std::thread::scope(|scope| {
        let others: Vec<_> = (0..6).map(|_| scope.spawn(|| server.get("/at-once"))).collect();
        eventually("the others are refused", || {
            (others.iter().filter(|other| other.is_finished()).count() == 6 - limit).then_some(())
        });
        gate.open();
        others.into_iter().map(|other| other.join().expect("a client")).collect::<Vec<_>>()
    });
    first.read("GET").expect(200, "past the gate");
    let (refused, served): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 503);
    assert_eq!((refused.len(), served.len()), (6 - limit, limit));
    for answer in refused {
        assert_eq!(answer.header("Retry-After").as_deref(), Some("1"));
        assert!(answer.whole);
    }
    served.iter().for_each(|answer| answer.expect(200, "at once"));
    let lines = server.log().lines_with(&[":error]", "MNF0008", "[client 127.0.0.1:"]);
    assert_eq!(lines.len(), 6 - limit);
    assert!(lines.iter().all(|line| line.contains(&format!("{limit} requests wait"))), "{lines:?}");
    server.get("/at-once").expect(200, "at once");
}

#[test]
fn what_a_queue_has_no_room_for_is_told_to_come_again() {
    so_many_wait(1, "WSGIQueueLimit 1");
    so_many_wait(4, "WSGIQueueLimit 4");
}

#[test]
fn the_queue_of_a_group_has_the_limit_of_the_group() {
    let block = |group, limit| {
        format!(
            "<WSGIInterpreterOptions application-group={group}>\nWSGIQueueLimit {limit}\n\
             </WSGIInterpreterOptions>\n"
        )
    };
    so_many_wait(2, &format!("WSGIQueueLimit 5\n{}{}", block("app", 2), block("another", 3)));
}

#[test]
fn a_graceful_restart_begins_anew() {
    let server = serve("");
    for i in 0..10 {
        server.get(&format!("/invented{i}"));
    }
    assert_eq!(server.get("/new").status, 503);
    let old = server.only_child();
    server.graceful();
    crate::harness::eventually("the next child", || {
        (!server.children().contains(&old)).then_some(())
    });
    assert_eq!(server.get("/new").status, 200);
}
