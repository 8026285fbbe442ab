//! The environ an application gets.

use crate::harness::{Conf, Request, Response, Server, by_daemon, process_group, write};

fn show() -> Conf {
    Conf::serving("environ.wsgi")
}

#[track_caller]
fn absent(answer: &Response, keys: &[&str]) {
    for key in keys {
        assert_eq!(answer.maybe_fact(key), None, "{key}");
    }
}

#[test]
fn the_request_is_described_as_cgi_has_it() {
    let server = Server::start(show());
    let answer =
        server.send(&Request::get("/place/more?a=1&b=%20").header("Host", "asked.test:81"));
    for (key, value) in [
        ("REQUEST_METHOD", "'GET'"),
        ("SERVER_PROTOCOL", "'HTTP/1.1'"),
        ("QUERY_STRING", "'a=1&b=%20'"),
        ("REQUEST_URI", "'/place/more?a=1&b=%20'"),
        ("SCRIPT_NAME", "'/place'"),
        ("PATH_INFO", "'/more'"),
        ("SERVER_NAME", "'asked.test'"),
        ("SERVER_ADDR", "'127.0.0.1'"),
        ("REMOTE_ADDR", "'127.0.0.1'"),
        ("REQUEST_SCHEME", "'http'"),
        ("CONTEXT_PREFIX", "''"),
        ("HTTP_HOST", "'asked.test:81'"),
        ("type(environ)", "dict"),
    ] {
        assert_eq!(answer.fact(key), value, "{key}");
    }
    let docs = server.path("docs").display().to_string();
    assert_eq!(answer.fact("DOCUMENT_ROOT"), format!("'{docs}'"));
    assert_eq!(answer.fact("CONTEXT_DOCUMENT_ROOT"), format!("'{docs}'"));
    assert_eq!(answer.fact("SCRIPT_FILENAME"), format!("'{docs}/place'"));
    assert!(answer.fact("SERVER_SOFTWARE").starts_with("'Apache"));
    for key in ["SERVER_PORT", "REMOTE_PORT"] {
        answer.fact(key).trim_matches('\'').parse::<u16>().expect(key);
    }
}

#[test]
fn the_wsgi_keys_are_there_with_their_types() {
    let server = Server::start(show());
    let answer = server.get("/place");
    assert_eq!(answer.fact("wsgi.version"), "(1, 0)");
    assert_eq!(answer.fact("wsgi.url_scheme"), "'http'");
    assert_eq!(answer.fact("wsgi.multithread"), "True");
    assert!(["True", "False"].contains(&answer.fact("wsgi.multiprocess").as_str()));
    assert_eq!(answer.fact("wsgi.run_once"), "False");
    assert_eq!(answer.fact("wsgi.input_terminated"), "True");
    for key in ["wsgi.input", "wsgi.errors", "wsgi.file_wrapper"] {
        assert!(answer.fact(key).starts_with('<'), "{key}");
    }
}

#[test]
fn the_module_says_what_serves_the_request() {
    let server = Server::start(show());
    let answer = server.get("/place/more");
    let script = server.path("apps/environ.wsgi").display().to_string();
    for (key, value) in [
        ("mod_wsgi.request_handler", "app".to_owned()),
        ("mod_wsgi.handler_script", script),
        ("mod_wsgi.callable_object", "handle_request".to_owned()),
        ("mod_wsgi.application_group", "app".to_owned()),
        ("mod_wsgi.process_group", process_group().to_owned()),
        ("mod_wsgi.script_name", "/place".to_owned()),
        ("mod_wsgi.path_info", "/more".to_owned()),
        ("mod_wsgi.listener_port", server.port().to_string()),
        ("mod_wsgi.server_pid", server.only_own_child().to_string()),
    ] {
        assert_eq!(answer.fact(key), format!("'{value}'"), "{key}");
    }
    assert!(answer.fact("mod_wsgi.listener_host").starts_with('\''));
    for key in ["apache.version", "mod_wsgi.version"] {
        let version = answer.fact(key);
        let numbers: Vec<_> = version.trim_matches(['(', ')']).split(", ").collect();
        assert!(
            numbers.len() == 3 && numbers.iter().all(|n| n.parse::<u32>().is_ok()),
            "{version}"
        );
    }
    assert!(answer.fact("mod_wsgi.thread_id").parse::<u32>().expect("an int") >= 1);
    assert!(answer.fact("mod_wsgi.request_start").parse::<f64>().expect("a float") > 1e9);
    assert!(answer.fact("mod_wsgi.application_start").parse::<f64>().expect("a float") > 1e9);
    let times = ["request", "queue", "daemon", "application"].map(|name| {
        answer.fact(&format!("mod_wsgi.{name}_start")).parse::<f64>().expect("a float")
    });
    assert!(by_daemon() && times.is_sorted() || times[1..3] == [0.0; 2], "{times:?}");
    assert_ne!(answer.fact("mod_wsgi.request_id"), server.get("/").fact("mod_wsgi.request_id"));
}

/// Everything that a plain request has (`mod_wsgi.connection_id` comes once httpd has logged something
/// about the connection), by what its `repr` looks like.
const COMPLETE: [(&str, &[&str]); 6] = [
    (
        "str",
        &[
            "CONTEXT_DOCUMENT_ROOT",
            "CONTEXT_PREFIX",
            "DOCUMENT_ROOT",
            "HTTP_CONNECTION",
            "HTTP_HOST",
            "PATH_INFO",
            "QUERY_STRING",
            "REMOTE_ADDR",
            "REMOTE_PORT",
            "REQUEST_METHOD",
            "REQUEST_SCHEME",
            "REQUEST_URI",
            "SCRIPT_FILENAME",
            "SCRIPT_NAME",
            "SERVER_ADDR",
            "SERVER_ADMIN",
            "SERVER_NAME",
            "SERVER_PORT",
            "SERVER_PROTOCOL",
            "SERVER_SOFTWARE",
            "mod_wsgi.application_group",
            "mod_wsgi.callable_object",
            "mod_wsgi.handler_script",
            "mod_wsgi.listener_host",
            "mod_wsgi.listener_port",
            "mod_wsgi.path_info",
            "mod_wsgi.process_group",
            "mod_wsgi.request_handler",
            "mod_wsgi.request_id",
            "mod_wsgi.script_name",
            "mod_wsgi.server_pid",
            "wsgi.url_scheme",
        ],
    ),
    ("bool", &["wsgi.input_terminated", "wsgi.multiprocess", "wsgi.multithread", "wsgi.run_once"]),
    ("int", &["mod_wsgi.thread_id"]),
    (
        "float",
        &[
            "mod_wsgi.application_start",
            "mod_wsgi.daemon_start",
            "mod_wsgi.queue_start",
            "mod_wsgi.request_start",
        ],
    ),
    ("tuple", &["apache.version", "mod_wsgi.version", "wsgi.version"]),
    ("object", &["wsgi.errors", "wsgi.file_wrapper", "wsgi.input"]),
];

#[test]
fn a_plain_request_has_these_keys_of_these_types_and_no_others() {
    let server = Server::start(show());
    let answer = server.get("/");
    let text = answer.text();
    let mut seen: Vec<_> = text.lines().filter_map(|line| line.split_once('\t')).collect();
    seen.retain(|(key, _)| *key != "type(environ)");
    let kind = |value: &str| match value {
        "True" | "False" => "bool",
        _ if value.starts_with('\'') => "str",
        _ if value.starts_with('(') => "tuple",
        _ if value.starts_with('<') => "object",
        _ if value.contains('.') => "float",
        _ => "int",
    };
    let seen: Vec<_> = seen.into_iter().map(|(key, value)| (key, kind(value))).collect();
    let mut expected: Vec<_> =
        COMPLETE.iter().flat_map(|(kind, keys)| keys.iter().map(|key| (*key, *kind))).collect();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[test]
fn nothing_is_there_that_should_not_be() {
    let server = Server::start(show().and("ServerSignature On"));
    let answer = server.send(&Request::get("/").header("Proxy", "http://evil.test"));
    absent(&answer, &["PATH", "PATH_TRANSLATED", "GATEWAY_INTERFACE", "SERVER_SIGNATURE"]);
    absent(&answer, &["REMOTE_HOST", "REMOTE_IDENT", "HTTPS", "LD_LIBRARY_PATH", "HTTP_PROXY"]);
    absent(
        &answer,
        &["CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"],
    );
    absent(&answer, &["REMOTE_USER", "AUTH_TYPE", "HTTP_AUTHORIZATION", "REDIRECT_URL"]);
    assert!(!answer.text().contains("mod_wsgi.x-"), "{}", answer.text());
}

#[test]
fn content_type_and_length_are_there_when_they_were_sent() {
    let server = Server::start(show());
    let answer = server.send(&Request::post("/", b"").header("Content-Type", "text/x-test"));
    assert_eq!(answer.fact("CONTENT_LENGTH"), "'0'");
    assert_eq!(answer.fact("CONTENT_TYPE"), "'text/x-test'");
    assert_eq!(server.send(&Request::post("/", b"abc")).fact("CONTENT_LENGTH"), "'3'");
}

#[test]
fn script_name_and_path_info_share_the_url() {
    let server = Server::start_with(show(), |root| {
        write(root, "docs/sub/file.txt", "static");
    });
    for (url, script_name, path_info) in [
        ("/place/foo/bar", "/place", "/foo/bar"),
        ("/sub/abc/def", "/sub/abc", "/def"),
        ("/sub/file.txt/x/", "/sub/file.txt", "/x/"),
        ("/place", "/place", ""),
        ("/place//x///y", "/place", "/x/y"),
        ("/place/a%20b%2Bc", "/place", "/a b+c"),
    ] {
        let answer = server.get(url);
        let seen = [answer.fact("SCRIPT_NAME"), answer.fact("PATH_INFO")];
        assert_eq!(seen, [format!("'{script_name}'"), format!("'{path_info}'")], "{url}");
    }
}

#[test]
fn bytes_of_the_url_and_of_headers_arrive_as_latin_1() {
    let server = Server::start(show());
    let answer = server.get("/place/caf%C3%A9?q=%C3%A9");
    assert_eq!(answer.fact("PATH_INFO"), r"'/caf\xc3\xa9'");
    assert_eq!(answer.fact("QUERY_STRING"), "'q=%C3%A9'");
    assert_eq!(answer.fact("REQUEST_URI"), "'/place/caf%C3%A9?q=%C3%A9'");
    let mut client = server.client();
    client.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Name: caf\xe9 \xc3\xa9\r\n\r\n");
    assert_eq!(client.read("GET").fact("HTTP_X_NAME"), r"'caf\xe9 \xc3\xa9'");
}

#[test]
fn headers_that_could_be_taken_for_others_are_dropped() {
    let server = Server::start(show());
    let answer = server.send(
        &Request::get("/").header("X-Plain", "1").header("X_Under", "2").header("X.Dot", "3"),
    );
    assert_eq!(answer.fact("HTTP_X_PLAIN"), "'1'");
    absent(&answer, &["HTTP_X_UNDER", "HTTP_X.DOT", "HTTP_X_DOT"]);
}

#[test]
fn repeated_headers_are_merged() {
    let server = Server::start(show());
    let answer = server.send(
        &Request::get("/")
            .header("X-A", "1")
            .header("X-A", "2")
            .header("Cookie", "a=1")
            .header("Cookie", "b=2"),
    );
    assert_eq!(answer.fact("HTTP_X_A"), "'1, 2'");
    assert_eq!(answer.fact("HTTP_COOKIE"), "'a=1, b=2'");
}

#[test]
fn many_and_long_headers_arrive_whole() {
    let server = Server::start(show());
    let long = "v".repeat(8000);
    let mut request = Request::get("/").header("X-Long", &long);
    for i in 0..80 {
        request = request.header(&format!("X-Number-{i}"), &i.to_string());
    }
    let answer = server.send(&request);
    assert_eq!(answer.fact("HTTP_X_LONG"), format!("'{long}'"));
    for i in 0..80 {
        assert_eq!(answer.fact(&format!("HTTP_X_NUMBER_{i}")), format!("'{i}'"));
    }
}

#[test]
fn variables_of_the_configuration_are_there() {
    let server = Server::start(show().with("env").with("setenvif").and(
        "SetEnv FROM_SETENV 'a value'\nSetEnv EMPTY\n\
             SetEnvIf X-Kind (.*) FROM_SETENVIF=kind-$1",
    ));
    let answer = server.send(&Request::get("/").header("X-Kind", "odd"));
    assert_eq!(answer.fact("FROM_SETENV"), "'a value'");
    assert_eq!(answer.fact("FROM_SETENVIF"), "'kind-odd'");
    assert_eq!(answer.fact("EMPTY"), "''");
}

#[test]
fn https_in_the_configuration_becomes_the_url_scheme() {
    let server = Server::start(show().with("env").and("SetEnv HTTPS On"));
    let answer = server.get("/");
    assert_eq!(answer.fact("wsgi.url_scheme"), "'https'");
    absent(&answer, &["HTTPS"]);
}

#[test]
fn authorization_is_withheld_unless_the_configuration_passes_it() {
    let server = Server::start(Conf::new(
        "WSGIApplicationGroup app\n\
         WSGIHandlerScript plain ${APPS}/environ.wsgi\n\
         WSGIHandlerScript on ${APPS}/environ.wsgi pass-authorization=On\n\
         WSGIHandlerScript off ${APPS}/environ.wsgi pass-authorization=Off\n\
         SetHandler plain\n\
         <Location /entry>\nSetHandler on\n</Location>\n\
         <Location /scope>\nWSGIPassAuthorization On\n</Location>\n\
         <Location /scope/inner>\nWSGIPassAuthorization Off\n</Location>\n\
         <Location /both>\nSetHandler off\nWSGIPassAuthorization On\n</Location>\n\
         <VirtualHost 127.0.0.1:${PORT}>\nServerName closed.test\n</VirtualHost>\n\
         <VirtualHost 127.0.0.1:${PORT}>\nServerName open.test\nWSGIPassAuthorization On\n</VirtualHost>",
    ));
    let passed = |host: &str, url: &str| {
        let request = Request::get(url).header("Host", host).header("Authorization", "Basic eDp5");
        let answer = server.send(&request.header("Proxy-Authorization", "Basic eDp5"));
        absent(&answer, &["HTTP_PROXY_AUTHORIZATION"]);
        answer.maybe_fact("HTTP_AUTHORIZATION").is_some()
    };
    assert!(!passed("closed.test", "/"));
    assert!(passed("closed.test", "/entry"));
    assert!(passed("closed.test", "/scope"));
    assert!(!passed("closed.test", "/scope/inner"));
    assert!(!passed("closed.test", "/both"), "the entry's own option counts");
    assert!(passed("open.test", "/"));
}

#[test]
fn an_error_document_sees_where_it_came_from() {
    let server = Server::start(
        show().and("<Location /gone>\nSetHandler None\n</Location>\nErrorDocument 404 /oops"),
    );
    let answer = server.get("/gone?a=1");
    assert_eq!(answer.fact("REDIRECT_STATUS"), "'404'");
    assert_eq!(answer.fact("REDIRECT_URL"), "'/gone'");
    assert_eq!(answer.fact("REDIRECT_QUERY_STRING"), "'a=1'");
    assert_eq!(answer.fact("SCRIPT_NAME"), "'/oops'");
}

#[test]
fn each_request_has_a_fresh_environ() {
    let server = Server::start(show());
    let mut client = server.client();
    let rich = Request::new("POST", "/a/b?c").header("X-Once", "1").body(b"");
    client.send(&rich);
    for _ in 0..3 {
        let answer = client.send(&Request::get("/"));
        assert_eq!(answer.fact("REQUEST_METHOD"), "'GET'");
        assert_eq!(answer.fact("QUERY_STRING"), "''");
        absent(&answer, &["left.behind", "HTTP_X_ONCE", "CONTENT_LENGTH"]);
    }
}

/// More shapes of requests than an interpreter keeps, and three so often that they take fresh values.
#[test]
fn environs_of_clients_with_different_headers_do_not_mix() {
    // Two names come twice: first as the configuration says, which is another value for each request.
    let conf = show().with("env").with("setenvif").and(
        "WSGIPassAuthorization On\nSetEnv HTTP_AUTHORIZATION configured\n\
         SetEnvIf X4 (.+) mod_wsgi.callable_object=$1",
    );
    let server = Server::start(conf);
    for round in 0..1500_usize {
        // Most requests have one of three shapes, the others one of 256.
        let often = [0, 0b1010_1011, 0b0111_1101][round % 3];
        let shape = if round % 4 == 0 { round / 4 % 256 } else { often };
        let mut names: Vec<_> = (0..8).filter(|bit| shape >> bit & 1 == 1).collect();
        let places = round / 100 % names.len().max(1);
        names.rotate_left(places);
        let mut sent = vec![("HTTP_HOST".to_owned(), "same.test".to_owned())];
        for name in names {
            // Some values are the same each time, some differ, one is secret and one is long.
            let value = match name {
                0 | 1 => "always".to_owned(),
                2 => "x".repeat(round % 1000),
                _ => format!("{name} of {round}"),
            };
            let header = if name == 3 { "AUTHORIZATION".to_owned() } else { format!("X{name}") };
            sent.push((format!("HTTP_{header}"), value));
        }
        let mut request = Request::get(&format!("/{}?{round}", round % 5));
        // What the client sends comes behind what the configuration says, under the same name.
        let configured = ("HTTP_AUTHORIZATION".to_owned(), "configured".to_owned());
        for (name, value) in &sent {
            request = request.header(name.trim_start_matches("HTTP_"), value);
        }
        if shape >> 3 & 1 == 0 {
            sent.push(configured);
        }
        let answer = server.send(&request);
        let text = answer.text();
        let mut seen: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .filter(|(name, _)| name.starts_with("HTTP_") && *name != "HTTP_CONNECTION")
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
            .collect();
        seen.sort();
        sent.sort();
        assert_eq!(seen, sent, "round {round}");
        assert_eq!(answer.fact("QUERY_STRING"), format!("'{round}'"));
        assert_eq!(answer.fact("REQUEST_URI"), format!("'/{}?{round}'", round % 5));
        assert_eq!(answer.fact("mod_wsgi.callable_object"), "'handle_request'");
        absent(&answer, &["left.behind"]);
    }
}

#[test]
fn http_1_0_is_served_and_named() {
    let server = Server::start(show());
    let answer = server.send(&Request::get("/").http_1_0());
    assert_eq!((answer.status, answer.fact("SERVER_PROTOCOL")), (200, "'HTTP/1.0'".to_owned()));
    assert_eq!(answer.header("Transfer-Encoding"), None);
}
