//! Deep recursion on the interpreters' own stacks.

use crate::harness::{Conf, Server};

/// `deep.wsgi` in a sub-interpreter and in the main one, on httpd threads with small stacks.
fn serve() -> Server {
    Server::start(Conf::new(
        "ThreadStackSize 131072\n\
         WSGIHandlerScript sub ${APPS}/deep.wsgi application-group=sub\n\
         WSGIHandlerScript main ${APPS}/deep.wsgi application-group=%{GLOBAL}\n\
         <Location /python>\nSetHandler sub\n</Location>\nSetHandler sub\n\
         <If \"%{HTTP_HOST} == 'main'\">\nSetHandler main\n</If>",
    ))
}

fn ask(server: &Server, case: &str) -> [String; 2] {
    use crate::harness::Request;
    ["sub", "main"].map(|host| server.send(&Request::get(case).header("Host", host)).text())
}

#[test]
fn recursion_goes_as_deep_as_the_application_allows() {
    let server = serve();
    assert_eq!(ask(&server, "/python"), ["4000", "4000"]);
    assert_eq!(ask(&server, "/c"), ["1000", "1000"]);
}

#[test]
fn runaway_recursion_is_an_exception_and_the_child_stays() {
    let server = serve();
    let child = server.only_child();
    for case in ["/runaway", "/runaway-c", "/json"] {
        assert_eq!(ask(&server, case), ["RecursionError", "RecursionError"], "{case}");
    }
    assert_eq!(ask(&server, "/python"), ["4000", "4000"]);
    assert_eq!(server.only_child(), child);
}
