//! WSGIMapHEADToGET: which method an application sees.

use crate::harness::{Conf, Request, Server, config_test, write};

/// Says the method in a header, which HEAD shows too.
const APP: &str = r#"
def handle_request(environ, start_response):
    method = environ["REQUEST_METHOD"]
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Method", method)])
    return [] if method == "HEAD" else [b"a body " * 1000]
"#;

fn serve(conf: &str) -> Server {
    let conf = Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/own.wsgi\n\
         <Location />\nSetHandler app\n</Location>",
    )
    .with("filter")
    .with("deflate")
    .and(conf);
    Server::start_with(conf, |root| write(root, "apps/own.wsgi", APP))
}

#[track_caller]
fn seen(server: &Server, method: &str, target: &str) -> String {
    let request = Request::new(method, target).header("Accept-Encoding", "gzip");
    server.send(&request).header("X-Method").expect("the application says it")
}

#[test]
fn auto_means_get_where_a_filter_looks_at_the_content() {
    let server = serve("<Location /deflated>\nSetOutputFilter DEFLATE\n</Location>");
    assert_eq!(seen(&server, "HEAD", "/"), "HEAD");
    assert_eq!(seen(&server, "HEAD", "/deflated"), "GET");
    assert_eq!(seen(&server, "POST", "/deflated"), "POST");
    assert_eq!(seen(&server, "GET", "/"), "GET");
    // So HEAD has the headers of GET.
    let ask = |method| {
        let request = Request::new(method, "/deflated").header("Accept-Encoding", "gzip");
        server.send(&request).header("Content-Encoding")
    };
    assert_eq!(ask("HEAD"), ask("GET"));
    assert_eq!(ask("HEAD").as_deref(), Some("gzip"));
}

#[test]
fn on_and_off_say_it_always() {
    let server = serve(
        "SetOutputFilter DEFLATE\nWSGIMapHEADToGET oFF\n\
         <Location /on>\nSetOutputFilter none\nWSGIMapHEADToGET On\n</Location>\n\
         <Location /on/auto>\nSetOutputFilter DEFLATE\nWSGIMapHEADToGET Auto\n</Location>",
    );
    assert_eq!(seen(&server, "HEAD", "/"), "HEAD");
    assert_eq!(seen(&server, "HEAD", "/on"), "GET");
    assert_eq!(seen(&server, "HEAD", "/on/auto"), "GET");
    assert_eq!(seen(&server, "POST", "/on"), "POST");
}

#[test]
fn no_body_is_sent_in_either_case() {
    let server = serve("<Location /on>\nWSGIMapHEADToGET On\n</Location>");
    let mut client = server.client();
    for target in ["/on", "/", "/on"] {
        assert_eq!(client.send(&Request::new("HEAD", target)).status, 200);
    }
    // A byte of a body would be taken for the beginning of this answer.
    assert_eq!(client.send(&Request::get("/")).body.len(), 7000);
}

#[test]
fn only_its_three_words_are_accepted() {
    let test = config_test("WSGIMapHEADToGET perhaps");
    assert!(!test.ok && test.said.contains("perhaps") && test.said.contains("On, Off or Auto"));
    assert!(config_test("<Location /x>\nWSGIMapHEADToGET auto\n</Location>").ok);
}
