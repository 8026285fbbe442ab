//! An exchange inside another: a page that includes a second one by mod_include, which asks for it
//! on the same httpd thread while the first response is being passed down.

use crate::harness::{Conf, Server};

/// `/page` includes; `/inner` is a handler script of the same group.
fn pages(settings: &str) -> Conf {
    Conf::new(
        "WSGIApplicationGroup app\n\
         WSGIHandlerScript page ${APPS}/page.wsgi\nWSGIHandlerScript hello ${APPS}/hello.wsgi\n\
         <Location /page>\nSetHandler page\nOptions +Includes\nSetOutputFilter INCLUDES\n</Location>\n\
         <Location /inner>\nSetHandler hello\n</Location>",
    )
    .with("include")
    .and(settings)
}

const PAGE: &str = "<p>before</p>\nHello, world!\n\n<p>after</p>\n";

#[test]
fn a_page_may_include_another_of_its_group() {
    let server = Server::start(pages(""));
    for _ in 0..3 {
        server.get("/page?inner=/inner").expect(200, PAGE);
    }
    let long = server.get("/page?inner=/inner&blocks=64").text();
    assert!(
        long.starts_with("<p>before</p>\nHello, world!\n") && long.ends_with("-\n<p>after</p>\n")
    );
}

#[test]
fn pages_that_include_may_nest_and_come_together() {
    let server = Server::start(pages(""));
    for answer in crate::harness::at_once(4, |_| server.get("/page?inner=/page?inner=/inner")) {
        let text = answer.text();
        assert!(text.contains("Hello, world!"), "{text}");
        assert_eq!(text.matches("<p>after</p>").count(), 2);
    }
}

#[test]
fn a_small_page_includes_another_with_one_interpreter_thread() {
    let server = Server::start(pages("WSGIInterpreterThreads 1"));
    for _ in 0..3 {
        server.get("/page?inner=/inner").expect(200, PAGE);
    }
}

/// What the outer page has to say yet is put aside, and its thread is free.
#[test]
fn a_large_page_includes_another_with_one_interpreter_thread() {
    let server = Server::start(pages("WSGIInterpreterThreads 1"));
    let text = server.get("/page?inner=/inner&blocks=512").text();
    assert!(text.starts_with("<p>before</p>\nHello, world!\n"), "{}", &text[..200]);
    assert!(text.ends_with("-\n<p>after</p>\n"));
    assert_eq!(text.matches("-\n").count(), 512);
}

#[test]
fn an_inner_page_that_only_the_outer_could_let_in_fails_and_the_outer_is_completed() {
    let conf = pages("WSGIInterpreterThreads 1\nWSGIResponseBufferLimit 0").timeout(3);
    let server = Server::start(conf);
    let blocks = 512;
    let answer = server.get(&format!("/page?inner=/inner&blocks={blocks}"));
    assert_eq!((answer.status, answer.whole), (200, true));
    let text = answer.text();
    assert!(text.starts_with("<p>before</p>\n[an error occurred"), "{}", &text[..200]);
    assert!(text.ends_with("-\n<p>after</p>\n"));
    assert_eq!(text.matches("-\n").count(), blocks);
    server.log().wait_for(&[":error]", "MNF"]);
    server.get("/inner").expect(200, "Hello, world!\n");
}

#[test]
fn an_included_page_that_fails_leaves_the_outer_whole() {
    let server = Server::start(
        pages("").and(
            "WSGIHandlerScript broken ${APPS}/failing.wsgi\n<Location /before>\nSetHandler broken\n</Location>",
        ),
    );
    let text = server.get("/page?inner=/before").text();
    assert!(text.starts_with("<p>before</p>\n[an error occurred"), "{text}");
    assert!(text.ends_with("<p>after</p>\n"), "{text}");
    server.log().wait_for(&[":error]", "Mishap: before the headers"]);
}
