//! What clients see when a worker process fails, and what the log says.

use super::{conf, connections, halt, process, serve, signal};
use crate::harness::{Request, Server, at_once, eventually, write};
use crate::status::{HANDLERS, total_of};

#[test]
fn a_process_that_is_killed_before_it_answers_is_a_502_and_another_takes_its_place() {
    let server = serve("");
    let former = process(&server);
    assert_eq!(server.get("/killed").status, 502);
    server.log().wait_for(&[":error]", "MNF0040", "process group 'shop'", "worker.wsgi"]);
    server.log().wait_for(&[":error]", "MNF0048", &former.to_string(), "signal 9", "'shop'"]);
    assert_ne!(process(&server), former);
}

#[test]
fn a_response_whose_process_is_killed_can_be_seen_not_to_be_whole() {
    let server = serve("");
    let gate = server.gate("held");
    let mut client = server.client();
    client.send_head(&Request::get("/part"));
    assert_eq!(client.read_head().status, 200);
    let begun = b"6\r\nbegun,\r\n";
    assert_eq!(client.read_bytes(begun.len()), begun);
    gate.open();
    assert_eq!(client.read_rest(), b"", "no last chunk");
    server.log().wait_for(&[":error]", "MNF0040"]);
    process(&server);
}

#[test]
fn a_process_that_leaves_by_itself_is_a_502_and_its_status_is_logged() {
    let server = serve("");
    process(&server);
    assert_eq!(server.get("/left").status, 502);
    server.log().wait_for(&[":error]", "MNF0048", "exit status 3"]);
    process(&server);
}

#[test]
fn a_request_that_had_not_started_is_served_by_the_next_process_whatever_its_method() {
    let server = serve("");
    let former = process(&server);
    // It cannot start anything, but its socket takes what comes.
    halt(former);
    let body = crate::harness::pattern(300_000);
    let answers = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let mut client = server.client();
                client.send_head(&Request::post("/", &body));
                let body = &body;
                scope.spawn(move || {
                    client.write(body);
                    client.read("POST")
                })
            })
            .collect();
        eventually("the requests are under way", || {
            Some(()).filter(|()| connections(&server) >= 4)
        });
        signal(former, libc::SIGKILL);
        clients.into_iter().map(|client| client.join().expect("a client")).collect::<Vec<_>>()
    });
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().ends_with(" 300000"), "{}", answer.text());
        assert_ne!(answer.header("X-Process"), Some(former.to_string()));
    }
    assert!(server.log().lines_with(&["MNF0040"]).is_empty());
}

#[test]
fn a_request_that_was_sent_again_is_counted_and_those_who_are_told_of_events_know() {
    let script = "import os, mod_wsgi\nseen = []\n\
        @mod_wsgi.subscribe_events\ndef told(name, **event):\n    \
        if name == 'request_started':\n        seen.append(event['daemon_restarts'])\n\
        def application(environ, start_response):\n    \
        start_response('200 OK', [('X-Process', str(os.getpid()))])\n    \
        return [str(seen[-1]).encode()]\n";
    let server =
        Server::start_with(conf("").and(HANDLERS), |root| write(root, "apps/worker.wsgi", script));
    let former = process(&server);
    // The next request goes by the connection that is kept, whoever is at its other end.
    halt(former);
    signal(former, libc::SIGKILL);
    server.get("/").expect(200, "1");
    assert_eq!(total_of(&server, "shop", "resent"), 1);
    assert_eq!(total_of(&server, "shop", "deaths"), 1);
}

#[test]
fn a_process_that_never_answers_is_a_504_after_socket_timeout() {
    let server = serve("socket-timeout=1 shutdown-timeout=1");
    process(&server);
    assert_eq!(server.get("/silent").status, 504);
    server.log().wait_for(&[":error]", "MNF0041", "socket-timeout (1 s)", "still busy"]);
    process(&server);
}

#[test]
fn a_process_that_stands_still_is_a_504_or_a_503_where_it_takes_no_connection() {
    let server = serve("socket-timeout=1 connect-timeout=1");
    let former = process(&server);
    halt(former);
    assert_eq!(server.get("/").status, 504);
    server.log().wait_for(&[":error]", "MNF0041", "no thread became free"]);
    assert_eq!(server.get("/").status, 503);
    server.log().wait_for(&[":error]", "MNF0039", "connect-timeout (1 s"]);
    signal(former, libc::SIGCONT);
    assert_eq!(process(&server), former);
}

#[test]
fn what_finds_no_room_in_the_backlog_is_a_503() {
    let server =
        Server::start(conf("listen-backlog=1 socket-timeout=1 connect-timeout=1").threads(16));
    let former = process(&server);
    halt(former);
    let statuses = at_once(12, |_| server.get("/").status);
    // One goes on the connection that was kept, which the process had taken.
    let late = statuses.iter().filter(|status| **status == 504).count();
    assert!(late <= 1 && statuses.iter().all(|status| matches!(status, 503 | 504)), "{statuses:?}");
    server.log().wait_for(&[":error]", "MNF0039", "'shop'", "connect-timeout (1 s"]);
    signal(former, libc::SIGCONT);
    assert_eq!(process(&server), former);
}

#[test]
fn a_process_that_stops_in_the_middle_of_a_body_is_a_504() {
    let server = serve("socket-timeout=1");
    let former = process(&server);
    let body = crate::harness::pattern(300_000);
    let mut client = server.client();
    let length = body.len().to_string();
    let post = Request::new("POST", "/").header("Content-Length", &length);
    client.send_head(&post.header("Expect", "100-continue"));
    assert_eq!(client.read_head().status, 100, "the application reads");
    halt(former);
    client.write(&body);
    assert_eq!(client.read("POST").status, 504);
    server.log().wait_for(&[":error]", "MNF0041", "socket-timeout (1 s)", "still busy"]);
    signal(former, libc::SIGCONT);
    assert_eq!(process(&server), former);
}

#[test]
fn requests_that_wait_too_long_are_504_and_never_run() {
    let server = serve("threads=1 queue-timeout=1");
    process(&server);
    let (mut first, gate) = server.hold("/held");
    assert_eq!(server.get("/killed").status, 504);
    server.log().wait_for(&[":error]", "MNF0042", "queue-timeout (1 s)"]);
    gate.open();
    assert_eq!(first.read("GET").status, 200);
}

#[test]
fn a_header_line_that_is_too_long_is_a_500() {
    let server = serve("");
    assert_eq!(server.get("/wide").status, 500);
    server.log().wait_for(&[":error]", "MNF0043", "X-Wide", "32768", "header-buffer-size"]);
    let server = serve("header-buffer-size=65536");
    server.get("/wide").expect(200, "wide");
}

#[test]
fn processes_that_cannot_start_are_a_503_and_the_reason_is_logged() {
    let server = serve("connect-timeout=1 home=/nowhere/at/all");
    assert_eq!(server.get("/").status, 503);
    server.log().wait_for(&[":error]", "MNF0045", "/nowhere/at/all"]);
    server.log().wait_for(&[":error]", "MNF0039", "connect-timeout (1 s"]);
    server.log().wait_for(&[":error]", "MNF0048", "starts in"]);
}

#[test]
fn a_python_home_that_does_not_exist_is_a_500_and_one_critical_line() {
    let server = serve("python-home=/nowhere/at/all");
    assert_eq!(server.get("/").status, 500);
    server.log().wait_for(&[":crit]", "MNF0001", "/nowhere/at/all"]);
}

#[test]
fn a_worker_program_that_is_not_there_is_named() {
    let server = serve("connect-timeout=1 worker=/nowhere/manifold-worker");
    assert_eq!(server.get("/").status, 503);
    server.log().wait_for(&[":crit]", "MNF0045", "/nowhere/manifold-worker", "worker="]);
}

#[test]
fn a_worker_program_that_may_not_be_run_is_named_with_what_selinux_wants() {
    let server = serve("connect-timeout=1 worker=/etc/passwd");
    assert_eq!(server.get("/").status, 503);
    server.log().wait_for(&[":crit]", "MNF0045", "/etc/passwd", "Permission denied", "bin_t"]);
}

#[test]
fn a_thousand_requests_while_the_process_is_replaced_are_all_answered() {
    let server = Server::start(conf("").threads(16));
    let former = process(&server);
    let statuses = at_once(8, |number| {
        (0..125)
            .map(|turn| {
                if (number, turn) == (0, 30) {
                    signal(former, libc::SIGTERM);
                }
                server.get("/").status
            })
            .collect::<Vec<_>>()
    });
    assert!(statuses.iter().flatten().all(|status| *status == 200), "{statuses:?}");
    assert_ne!(process(&server), former);
}

#[test]
fn several_processes_share_the_requests_and_one_that_dies_costs_no_other_request() {
    let server = serve("processes=2 threads=2");
    eventually("both answer", || {
        let both: std::collections::HashSet<_> = (0..8).map(|_| process(&server)).collect();
        Some(()).filter(|()| both.len() == 2)
    });
    let victim = server.workers()[0];
    signal(victim, libc::SIGKILL);
    (0..20).for_each(|_| assert_ne!(process(&server), victim));
}

#[test]
fn a_request_goes_to_the_process_that_has_least_to_do() {
    let server = serve("processes=2 threads=4");
    let (mut client, gate) = server.hold("/held");
    let idle = process(&server);
    (0..9).for_each(|_| assert_eq!(process(&server), idle));
    gate.open();
    let busy = client.read("GET").header("X-Process").and_then(|id| id.parse().ok());
    assert!(busy.is_some_and(|busy: u32| busy != idle), "{busy:?}");
    // From now on it has its turn as well.
    eventually("both answer", || Some(()).filter(|()| process(&server) != idle));
}
