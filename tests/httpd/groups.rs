//! Application groups: which interpreter serves a request, whose GIL it takes, and how many
//! threads it has.

use crate::harness::{Conf, Request, Response, Server, at_once};

/// `/a`, `/b` and `/main` are served by `app` in groups of these names; `/main` is `%{GLOBAL}`.
fn three_groups(app: &str) -> Conf {
    Conf::new(&format!(
        "WSGIHandlerScript a ${{APPS}}/{app} application-group=a\n\
         WSGIHandlerScript b ${{APPS}}/{app} application-group=b\n\
         WSGIHandlerScript main ${{APPS}}/{app} application-group=%{{GLOBAL}}\n\
         <Location /a>\nSetHandler a\n</Location>\n\
         <Location /b>\nSetHandler b\n</Location>\n\
         <Location /main>\nSetHandler main\n</Location>"
    ))
}

/// Python 3.12 has no own GIL that real applications survive.
fn has_own_gil(answer: &Response) -> bool {
    answer.fact("python").as_str() >= "(3, 13)"
}

#[test]
fn each_group_has_an_interpreter_of_its_own_and_keeps_it() {
    let server = Server::start(three_groups("interpreter.wsgi"));
    let ids = || ["/a", "/b", "/main"].map(|url| server.get(url).fact("interpreter"));
    let first = ids();
    assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2], "{first:?}");
    assert_eq!(ids(), first);
    assert_eq!(server.get("/a").fact("group"), "'a'");
    assert_eq!(server.get("/main").fact("group"), "''");
}

#[test]
fn groups_do_not_see_each_others_modules_or_state() {
    let server = Server::start(three_groups("interpreter.wsgi"));
    let ask = |url: &str| server.get(&format!("{url}?modules=colorsys&attributes=mark"));
    assert_eq!(ask("/a/import/colorsys").fact("known"), "['colorsys']");
    assert_eq!(ask("/a/set/mark").fact("known"), "['colorsys', 'mark']");
    for other in ["/b", "/main"] {
        assert_eq!(ask(other).fact("known"), "[]", "{other}");
    }
    assert_eq!(ask("/a").fact("known"), "['colorsys', 'mark']");
    assert_eq!(ask("/a").fact("served"), "4");
}

#[test]
fn global_is_the_main_interpreter_and_nothing_else_is() {
    let server = Server::start(three_groups("interpreter.wsgi"));
    let is_main = ["/main", "/a", "/b"].map(|url| server.get(url).fact("is_main"));
    assert_eq!(is_main, ["True", "False", "False"]);
}

#[test]
fn a_group_has_its_own_gil_by_default_and_with_auto_and_on() {
    for setting in ["", "WSGIPerInterpreterGIL Auto", "WSGIPerInterpreterGIL On"] {
        let server = Server::start(three_groups("interpreter.wsgi").and(setting));
        let answer = server.get("/a");
        if has_own_gil(&answer) {
            assert_eq!(answer.fact("gil"), "'own'", "{setting}");
        }
        assert_eq!(server.get("/b").fact("gil"), answer.fact("gil"), "{setting}");
    }
}

#[test]
fn a_group_shares_the_gil_when_told_to() {
    let server = Server::start(three_groups("interpreter.wsgi").and("WSGIPerInterpreterGIL Off"));
    let (a, b) = (server.get("/a"), server.get("/b"));
    if has_own_gil(&a) {
        assert_eq!([a.fact("gil"), b.fact("gil")], ["'shared'", "'shared'"]);
    }
    assert_ne!(a.fact("interpreter"), b.fact("interpreter"));
    assert_eq!(server.get("/main").fact("is_main"), "True");
}

#[test]
fn a_group_that_keeps_its_gil_does_not_hold_up_another() {
    let conf = three_groups("busy.wsgi").and(
        "WSGIHandlerScript which ${APPS}/interpreter.wsgi application-group=b\n\
         WSGIHandlerScript which-main ${APPS}/interpreter.wsgi application-group=%{GLOBAL}\n\
         <Location /which>\nSetHandler which\n</Location>\n\
         <Location /which-main>\nSetHandler which-main\n</Location>",
    );
    let server = Server::start(conf);
    let flags = server.flags();
    if !has_own_gil(&server.get("/which")) {
        return; // one GIL for all: nothing to promise
    }
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| server.get("/a"));
        flags.begun();
        // Both answer while the other group holds its GIL for as long as it likes.
        let others = [server.get("/which").status, server.get("/which-main").status];
        flags.finish();
        assert_eq!(others, [200, 200]);
        busy.join().expect("the busy client").expect(200, "done computing");
    });
}

#[test]
fn a_group_held_in_the_middle_of_an_import_does_not_hold_up_another() {
    let server = Server::start(three_groups("hello.wsgi").and(
        "WSGIHandlerScript held ${APPS}/held.wsgi application-group=held\n\
             <Location /held>\nSetHandler held\n</Location>",
    ));
    let gate = server.gate("import");
    std::thread::scope(|scope| {
        let held_client = scope.spawn(|| server.get("/held"));
        gate.held();
        // These interpreters do not exist yet: making one, and importing in it, waits for nobody.
        for url in ["/a", "/b", "/main"] {
            server.get(url).expect(200, "Hello, world!\n");
        }
        gate.open();
        held_client.join().expect("the held client").expect(200, "loaded 1 time(s)");
    });
}

#[test]
fn requests_that_come_together_load_a_script_once() {
    let server = Server::start(Conf::serving("held.wsgi").threads(4));
    let gate = server.gate("import");
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| at_once(4, |_| server.get("/")));
        gate.open();
        for answer in clients.join().expect("the clients") {
            answer.expect(200, "loaded 1 time(s)");
        }
    });
}

#[test]
fn names_of_one_path_share_its_module_within_a_group() {
    let server = Server::start(Conf::new(
        "WSGIApplicationGroup shared\n\
         WSGIHandlerScript one ${APPS}/interpreter.wsgi\n\
         WSGIHandlerScript two ${APPS}/interpreter.wsgi pass-authorization=On\n\
         <Location /one>\nSetHandler one\n</Location>\n\
         <Location /two>\nSetHandler two\n</Location>",
    ));
    let (one, two) = (server.get("/one"), server.get("/two"));
    assert_eq!(two.fact("interpreter"), one.fact("interpreter"));
    assert_eq!([two.fact("times_loaded"), two.fact("served")], ["1", "2"]);
}

#[test]
fn group_names_are_expanded_from_the_request() {
    let server = Server::start(
        Conf::new(
            "WSGIHandlerScript which ${APPS}/interpreter.wsgi\nSetHandler which\n\
             SetEnv CHOSEN by-setenv\nSetEnv TWICE %{SERVER}\n\
             <Location /server>\nWSGIApplicationGroup %{SERVER}\n</Location>\n\
             <Location /host>\nWSGIApplicationGroup %{HOST}\n</Location>\n\
             <Location /env>\nWSGIApplicationGroup %{ENV:CHOSEN}\n</Location>\n\
             <Location /twice>\nWSGIApplicationGroup %{ENV:TWICE}\n</Location>\n\
             <Location /absent>\nWSGIApplicationGroup %{ENV:ABSENT}\n</Location>\n\
             <Location /resource>\nWSGIApplicationGroup %{RESOURCE}\n</Location>\n\
             <Location /literal>\nWSGIApplicationGroup my%{SERVER}\n</Location>\n\
             <Location /global>\nWSGIApplicationGroup %{GLOBAL}\n</Location>",
        )
        .with("env"),
    );
    let port = server.port();
    let group = |url: &str| {
        let host = format!("other.test:{port}");
        server.send(&Request::get(url).header("Host", &host)).fact("group")
    };
    assert_eq!(group("/server/x"), format!("'manifold.test:{port}'"));
    assert_eq!(group("/host/x"), format!("'other.test:{port}'"));
    assert_eq!(group("/env/x"), "'by-setenv'");
    assert_eq!(group("/twice/x"), format!("'manifold.test:{port}'"));
    assert_eq!(group("/absent/x"), "'%{ENV:ABSENT}'");
    assert_eq!(group("/resource/x"), format!("'manifold.test:{port}|/resource'"));
    assert_eq!(group("/literal/x"), "'my%{SERVER}'");
    assert_eq!(group("/global/x"), "''");
    assert_eq!(group("/unset/x"), format!("'manifold.test:{port}|/unset'"));
}

#[test]
fn an_undefined_variable_in_a_groups_name_is_said_once() {
    let server = Server::start(
        Conf::new(
            "WSGIHandlerScript which ${APPS}/interpreter.wsgi\nSetHandler which\n\
             WSGIHandlerScript option ${APPS}/interpreter.wsgi application-group=%{ENV:OPTION}\n\
             WSGIHandlerScript process ${APPS}/interpreter.wsgi process-group=%{ENV:PROCESS}\n\
             SetEnv DEFINED %{ENV:ELSEWHERE}\n\
             <Location /directive>\nWSGIApplicationGroup %{ENV:DIRECTIVE}\n</Location>\n\
             <Location /defined>\nWSGIApplicationGroup %{ENV:DEFINED}\n</Location>\n\
             <Location /option>\nSetHandler option\n</Location>\n\
             <Location /process>\nSetHandler process\n</Location>",
        )
        .with("env"),
    );
    for _ in 0..3 {
        assert_eq!(server.get("/directive/x").fact("group"), "'%{ENV:DIRECTIVE}'");
        assert_eq!(server.get("/option/x").fact("group"), "'%{ENV:OPTION}'");
        assert_eq!(server.get("/process/x").status, 500);
        assert_eq!(server.get("/defined/x").fact("group"), "'%{ENV:ELSEWHERE}'");
    }
    for (literal, variable) in [
        ("WSGIApplicationGroup %{ENV:DIRECTIVE}:", "'DIRECTIVE'"),
        ("application-group=%{ENV:OPTION}:", "'OPTION'"),
        ("process-group=%{ENV:PROCESS}:", "'PROCESS'"),
    ] {
        server.log().wait_for(&[":warn]", "MNF0024", literal, variable, "SetEnv", "[client "]);
    }
    server.log().wait_for_count(&["MNF0003"], 3);
    assert_eq!(server.log().lines_with(&["MNF0024"]).len(), 3);
}

#[test]
fn a_process_group_is_refused_in_one_line_that_names_it() {
    let server = Server::start(Conf::new(
        "WSGIHandlerScript away ${APPS}/hello.wsgi process-group=elsewhere\n\
         WSGIHandlerScript here ${APPS}/hello.wsgi process-group=%{GLOBAL}\n\
         <Location /away>\nSetHandler away\n</Location>\n\
         <Location /here>\nSetHandler here\n</Location>",
    ));
    assert_eq!(server.get("/away").status, 500);
    server.get("/here").expect(200, "Hello, world!\n");
    server.log().wait_for(&[":error]", "elsewhere"]);
    assert_eq!(server.log().lines_with(&["elsewhere"]).len(), 1);
}

#[test]
fn at_the_limit_of_interpreters_a_new_group_gets_503_and_the_others_stay() {
    let server = Server::start(Conf::new(
        "WSGIInterpreterLimit 3\n\
         WSGIHandlerScript which ${APPS}/interpreter.wsgi\nSetHandler which",
    ));
    let statuses = || (0..6).map(|i| server.get(&format!("/group{i}")).status).collect::<Vec<_>>();
    let first = statuses();
    let served = first.iter().filter(|&&status| status == 200).count();
    assert!(
        (2..=3).contains(&served),
        "three interpreters, the main one counted or not: {first:?}"
    );
    assert!(first[served..].iter().all(|&status| status == 503), "{first:?}");
    assert_eq!(statuses(), first);
    server.log().wait_for(&["WSGIInterpreterLimit"]);
}

#[test]
fn requests_of_one_group_run_at_the_same_time() {
    let server = Server::start(Conf::serving("waiting.wsgi"));
    for answer in at_once(4, |_| server.get("/meet?parties=4")) {
        answer.expect(200, "4 have met");
    }
}

#[test]
fn a_group_has_as_many_threads_as_httpd_by_default() {
    let server = Server::start(Conf::serving("waiting.wsgi").threads(16));
    for answer in at_once(16, |_| server.get("/meet?parties=16")) {
        answer.expect(200, "16 have met");
    }
}

#[test]
fn a_group_has_no_more_threads_than_it_is_given() {
    let conf = Conf::serving("waiting.wsgi").and("WSGIInterpreterThreads 2");
    let server = Server::start(conf);
    for answer in at_once(2, |_| server.get("/meet?parties=2")) {
        answer.expect(200, "2 have met");
    }
    let peaks = at_once(8, |_| server.get("/peak").text());
    assert!(peaks.iter().all(|peak| peak == "1" || peak == "2"), "{peaks:?}");
}
