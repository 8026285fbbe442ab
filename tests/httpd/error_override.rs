//! WSGIErrorOverride: whose page an error has.

use crate::harness::{Conf, Request, Response, Server};

fn conf() -> Conf {
    Conf::serving("answers.wsgi").and(
        "WSGIErrorOverride On\nErrorDocument 404 \"httpd's own text\"\nErrorDocument 503 /sorry.html\n\
         Alias /sorry.html ${DOCS}/sorry.html\n\
         <Directory ${DOCS}>\nRequire all granted\n</Directory>\n\
         <Location /sorry.html>\nSetHandler none\n</Location>",
    )
}

fn serve() -> Server {
    Server::start_with(conf().with("alias"), |root| {
        crate::harness::write(root, "docs/sorry.html", "a static page");
    })
}

/// What an application says about an error stays; what it says about its page goes with it.
#[track_caller]
fn has_the_right_headers(answer: &Response) {
    assert_eq!(answer.all("Set-Cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.all("WWW-Authenticate"), ["Basic realm=\"one\"", "Bearer realm=\"two\""]);
    assert_eq!(answer.header("Retry-After").as_deref(), Some("7"));
    assert_eq!(answer.header("X-Own").as_deref(), Some("kept"));
    assert_eq!(answer.header("Content-Encoding"), None);
    assert_ne!(answer.header("ETag").as_deref(), Some("\"own\""));
    assert_ne!(answer.header("Last-Modified").as_deref(), Some("Thu, 01 Jan 2015 00:00:00 GMT"));
    assert!(answer.header("Content-Type").is_some_and(|kind| kind.starts_with("text/html")));
}

#[test]
fn an_error_has_httpds_page_and_the_applications_headers() {
    let server = serve();
    let mut client = server.client();
    for way in ["", "/generator", "/length", "/file"] {
        let answer = client.send(&Request::get(&format!("/404{way}")));
        answer.expect(404, "httpd's own text");
        has_the_right_headers(&answer);
    }
    for status in [400, 401, 403, 410, 429, 500, 504] {
        let answer = server.get(&format!("/{status}"));
        assert_eq!((answer.status, answer.whole), (status, true));
        assert!(!answer.text().contains("its own page"), "{status}: {}", answer.text());
        has_the_right_headers(&answer);
    }
}

#[test]
fn an_error_document_is_used() {
    let server = Server::start_with(
        conf().with("alias").with("mime").and("AddType text/html .html"),
        |root| {
            crate::harness::write(root, "docs/sorry.html", "a static page");
        },
    );
    let answer = server.get("/503");
    answer.expect(503, "a static page");
    has_the_right_headers(&answer);
    assert_eq!(answer.header("Content-Length").as_deref(), Some("13"));
}

/// httpd has pages for the statuses it knows only; it would make a 500 of the others.
#[test]
fn other_statuses_are_the_applications() {
    let server = serve();
    for status in [200, 201, 302, 399, 418, 599, 600] {
        let answer = server.get(&format!("/{status}"));
        answer.expect(status, "its own page");
        assert_eq!(answer.header("ETag").as_deref(), Some("\"own\""), "{status}");
        assert_eq!(answer.reason, "Own Reason");
    }
}

#[test]
fn without_it_an_error_has_the_applications_page() {
    let server = Server::serving("answers.wsgi");
    for way in ["", "/generator", "/length"] {
        let answer = server.get(&format!("/404{way}"));
        answer.expect(404, "its own page");
        assert_eq!(answer.header("Content-Type").as_deref(), Some("application/x-own"));
    }
}

#[test]
fn the_application_runs_to_its_end_and_is_closed() {
    let server = serve();
    for way in ["generator", "raises", "length"] {
        assert_eq!(server.get(&format!("/404/{way}")).status, 404, "{way}");
        assert_eq!(server.get("/closings").text(), "1", "{way}");
    }
    server.log().wait_for(&[":error]", "ValueError", "broken off"]);
}

#[test]
fn head_and_post_are_treated_alike() {
    let server = serve();
    let mut client = server.client();
    assert_eq!(client.send(&Request::new("HEAD", "/404")).status, 404);
    client.send(&Request::post("/404/generator", &[7; 100_000])).expect(404, "httpd's own text");
    client.send(&Request::get("/200")).expect(200, "its own page");
}

#[test]
fn what_answers_as_an_error_document_is_not_overridden() {
    let server = Server::start(
        Conf::serving("answers.wsgi").and("WSGIErrorOverride On\nErrorDocument 404 /404/page"),
    );
    server.get("/404").expect(404, "its own page");
    // The original status counts, as with every ErrorDocument.
    let server = Server::start(
        Conf::serving("answers.wsgi").and("WSGIErrorOverride On\nErrorDocument 503 /200/page"),
    );
    server.get("/503").expect(200, "its own page");
}

#[test]
fn it_may_stand_in_htaccess() {
    let conf = Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/answers.wsgi\nSetHandler app\n\
         <Directory ${DOCS}>\nAllowOverride FileInfo\n</Directory>",
    );
    let server = Server::start_with(conf, |root| {
        crate::harness::write(root, "docs/404/.htaccess", "WSGIErrorOverride On\n");
    });
    assert!(!server.get("/404/x").text().contains("its own page"));
    server.get("/403").expect(403, "its own page");
}
