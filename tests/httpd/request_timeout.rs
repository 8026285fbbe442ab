//! `WSGIRequestTimeout`: what becomes of a request that takes too long, of its thread, and of others.
//! The order of events is tested; how long they take depends on the machine.

use crate::harness::{Conf, Request, Server, at_once, config_test, eventually};

/// `late.wsgi` in the group `app` below `/app`, and in the main interpreter below `/main`. What is to
/// be late has a limit; other requests, which may be the first of an interpreter, have none.
fn conf(timeout: &str, more: &str) -> Conf {
    Conf::new(&format!(
        "WSGIApplicationGroup app\n\
         <LocationMatch \"/(loop|head|gate|stubborn|near|busy|late)\">\n\
         WSGIRequestTimeout {timeout}\n</LocationMatch>\n\
         WSGIHandlerScript late ${{APPS}}/late.wsgi\n\
         WSGIHandlerScript main ${{APPS}}/late.wsgi application-group=%{{GLOBAL}}\n\
         WSGIHandlerScript busy ${{APPS}}/busy.wsgi\n\
         WSGIHandlerScript busy-main ${{APPS}}/busy.wsgi application-group=%{{GLOBAL}}\n\
         <Location /app>\nSetHandler late\n</Location>\n\
         <Location /main>\nSetHandler main\n</Location>\n\
         <Location /busy>\nSetHandler busy\n</Location>\n\
         <Location /busy-main>\nSetHandler busy-main\n</Location>\n{more}"
    ))
}

/// A server whose interpreters are made, so that no time is counted for that.
fn started(conf: Conf) -> Server {
    let server = Server::start(conf);
    server.get("/app").expect(200, "in time");
    server.get("/main").expect(200, "in time");
    server
}

/// The places of lines with these words in the log, which all have to be there, one after the other.
fn in_this_order(server: &Server, lines: &[&[&str]]) {
    lines.iter().for_each(|words| drop(server.log().wait_for(words)));
    let text = server.log().text();
    let place = |words: &&[&str]| {
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        text.lines().position(has_all).expect("it was there")
    };
    let places: Vec<_> = lines.iter().map(place).collect();
    assert!(places.is_sorted(), "{places:?} in\n{text}");
}

fn is_served(server: &Server, path: &str) {
    eventually("a request that is served", || (server.get(path).status == 200).then_some(()));
}

#[test]
fn a_request_that_computes_for_ever_is_a_504_is_seen_and_then_interrupted() {
    let server = started(conf("0.3", "WSGIInterpreterThreads 1"));
    let answer = server.get("/app/loop?token=secret");
    assert_eq!(answer.status, 504);
    in_this_order(
        &server,
        &[
            &[":warn]", "MNF0030", "'/app/loop'", "late.wsgi", "'app'", "RequestTimeout is raised"],
            &["late.wsgi\", line", "in compute"],
            &["interrupted by mod_wsgi RequestTimeout"],
        ],
    );
    server.log().wait_for(&["MNF0030", "[client 127.0.0.1", "longer than WSGIRequestTimeout"]);
    server.log().wait_for(&["MNF0030", "'/app/loop'", "has ended, after"]);
    assert!(server.log().lines_with(&["secret"]).is_empty());
    // The only thread there may be is free again, and nothing is left to interrupt what comes now.
    for _ in 0..20 {
        server.get("/app").expect(200, "in time");
    }
    assert!(server.log().lines_with(&["MNF0035"]).is_empty());
    server.stop();
}

#[test]
fn a_response_that_has_begun_breaks_off() {
    let server = started(conf("0.3", ""));
    let answer = server.get("/app/head");
    assert!(answer.status == 200 && !answer.whole, "{answer:?}");
    server.log().wait_for(&["MNF0030", "RequestTimeout is raised", "'/app/head'"]);
    server.get("/app").expect(200, "in time");
    server.stop();
}

#[test]
fn only_the_late_request_is_interrupted_and_never_the_next_of_its_thread() {
    let server = started(conf("0.2", "WSGIInterpreterThreads 1"));
    for _ in 0..15 {
        let late = server.get("/app/near/0.2").status;
        assert!(late == 200 || late == 504, "{late}");
        for _ in 0..5 {
            server.get("/app/near/0.001").expect(200, "in time");
        }
    }
    let raised = server.log().lines_with(&["interrupted by"]).len();
    assert!(raised <= 15, "{raised}");
}

#[test]
fn a_thread_that_waits_in_native_code_is_given_up_and_others_serve() {
    let server = started(conf("0.3 0.3", "WSGIInterpreterThreads 1"));
    let gate = server.gate("gate");
    std::thread::scope(|scope| {
        let late = scope.spawn(|| server.get("/app/gate").status);
        gate.held();
        assert_eq!(late.join().expect("the client"), 504);
    });
    in_this_order(
        &server,
        &[
            &[":warn]", "MNF0030", "'/app/gate'", "RequestTimeout is raised"],
            &["late.wsgi\", line", "in stand_at_the_gate"],
            &[":error]", "MNF0035", "'/app/gate'", "did not end when it was interrupted"],
        ],
    );
    // It was the only thread there may be; now it does not count.
    is_served(&server, "/app");
    for answer in at_once(4, |_| server.get("/app")) {
        answer.expect(200, "in time");
    }
    gate.open();
    server.log().wait_for(&["MNF0035", "'/app/gate'", "has ended, after"]);
    for _ in 0..10 {
        server.get("/app").expect(200, "in time");
    }
    server.stop();
}

#[test]
fn an_application_that_catches_everything_is_given_up() {
    let server = started(conf("0.3 0.3", ""));
    assert_eq!(server.get("/app/stubborn").status, 504);
    in_this_order(
        &server,
        &[&["not impressed by RequestTimeout"], &[":error]", "MNF0035", "'/app/stubborn'"]],
    );
    is_served(&server, "/app");
    server.write("state/enough", "");
    server.log().wait_for(&["MNF0035", "has ended, after"]);
    is_served(&server, "/app");
    server.stop();
}

#[test]
fn a_call_that_keeps_the_gil_costs_one_interpreter_and_the_group_serves_on() {
    let server = started(conf("0.3 0.3", ""));
    let flags = server.flags();
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| server.get("/busy").status);
        flags.begun();
        assert_eq!(busy.join().expect("the client"), 504);
    });
    in_this_order(
        &server,
        &[
            &[":warn]", "MNF0030", "'/busy'", "native code"],
            &[":error]", "MNF0035", "'/busy'", "keeps the GIL", "another takes its place"],
        ],
    );
    // The GIL is still kept.
    is_served(&server, "/app");
    for answer in at_once(4, |_| server.get("/app")) {
        answer.expect(200, "in time");
    }
    flags.finish();
    server.log().wait_for(&["MNF0035", "'/busy'", "has ended, after"]);
    is_served(&server, "/app");
    server.stop();
}

#[test]
fn a_process_stops_with_a_gil_that_is_kept() {
    let server = started(conf("0.3 0.3", ""));
    let flags = server.flags();
    let mut busy = server.client();
    busy.send_head(&Request::get("/busy"));
    flags.begun();
    server.log().wait_for(&[":error]", "MNF0035"]);
    server.begin_stop();
    server.ended();
}

#[test]
fn a_main_interpreter_whose_gil_is_kept_answers_503_until_it_is_let_go() {
    let server = started(conf("0.3 0.3", ""));
    let flags = server.flags();
    // That the interpreter of `app` is there already matters: to import an extension module, as a new
    // one does, takes the main one's GIL for a moment.
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| server.get("/busy-main").status);
        flags.begun();
        assert_eq!(busy.join().expect("the client"), 504);
    });
    server.log().wait_for(&[":error]", "MNF0035", "'/busy-main'", "serves no request"]);
    let refused = server.get("/main");
    assert!(refused.status == 503 && refused.header("Retry-After").is_some(), "{refused:?}");
    server.log().wait_for(&["MNF0036", "%{GLOBAL}"]);
    server.get("/app").expect(200, "in time");
    flags.finish();
    is_served(&server, "/main");
    server.stop();
}

#[test]
fn when_too_many_threads_are_given_up_the_group_answers_503_until_one_is_back() {
    let server = started(conf("0.2 0.2", "WSGIInterpreterThreads 1"));
    let gate = server.gate("gate");
    for number in 1..=4 {
        // It may have to wait for the thread that takes the place of the one before.
        eventually("a request that has begun", || {
            let answer = server.get("/app/gate").status;
            assert!(answer == 504 || number == 4, "{answer}");
            (server.log().lines_with(&["MNF0035", "'/app/gate'"]).len() >= number).then_some(())
        });
    }
    let refused =
        eventually("a refusal", || Some(server.get("/app")).filter(|it| it.status == 503));
    assert!(refused.header("Retry-After").is_some());
    server.log().wait_for(&["MNF0036", "'app'"]);
    server.get("/main").expect(200, "in time");
    gate.open();
    is_served(&server, "/app");
    server.stop();
}

#[test]
fn a_request_that_no_thread_is_free_for_in_time_is_a_504() {
    let more =
        "WSGIInterpreterThreads 1\n<Location /app/gate>\nWSGIRequestTimeout Off\n</Location>";
    let server = started(conf("0.3", more));
    let gate = server.gate("gate");
    let mut held = server.client();
    held.send_head(&Request::get("/app/gate"));
    gate.held();
    assert_eq!(server.get("/app/late").status, 504);
    let line = server.log().wait_for(&["MNF0030", "no thread became free"]);
    assert!(line.contains("'app'") && line.contains("[client"), "{line}");
    // The one that may take as long as it likes does.
    gate.open();
    held.read("GET").expect(200, "in time");
    assert!(server.log().lines_with(&["interrupted by"]).is_empty());
    server.stop();
}

#[test]
fn it_takes_one_or_two_times_or_off_anywhere_but_in_htaccess() {
    for words in ["60", "0.5", "60 10", "Off", "off"] {
        let test = config_test(&format!("WSGIRequestTimeout {words}"));
        assert!(test.ok, "{words}: {}", test.said);
    }
    for section in ["VirtualHost *", "Location /x", "Directory /x"] {
        let name = section.split(' ').next().expect("a word");
        let test = config_test(&format!("<{section}>\nWSGIRequestTimeout 5\n</{name}>"));
        assert!(test.ok, "{section}: {}", test.said);
    }
    for words in ["", "0", "-1", "soon", "5 soon", "1 2 3", "\"\"", "Off 5", "1e30"] {
        let test = config_test(&format!("WSGIRequestTimeout {words}"));
        assert!(!test.ok && test.said.contains("WSGIRequestTimeout"), "{words}: {}", test.said);
    }
}
