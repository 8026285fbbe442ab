//! WSGITrustedProxies and WSGITrustedProxyHeaders: what a proxy says about a request, and what
//! becomes of it when somebody else says it. Every client here is 127.0.0.1.

use crate::harness::{Conf, Request, Response, Server, config_test, write};

fn serve(lines: &str) -> Server {
    Server::start(Conf::serving("environ.wsgi").and(lines))
}

fn ask(server: &Server, target: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::get(target);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    server.send(&request)
}

#[track_caller]
fn says(answer: &Response, facts: &[(&str, &str)]) {
    for (key, value) in facts {
        assert_eq!(answer.fact(key), format!("'{value}'"), "{key}");
    }
}

const TRUSTED: &str = "WSGITrustedProxies 127.0.0.0/8 10.0.0.0/8 2001:db8::/32\n";

#[test]
fn without_the_directives_nothing_is_changed_or_removed() {
    let server = serve("");
    let answer =
        ask(&server, "/x", &[("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Proto", "https")]);
    says(&answer, &[("REMOTE_ADDR", "127.0.0.1"), ("HTTP_X_FORWARDED_FOR", "1.1.1.1")]);
    says(&answer, &[("wsgi.url_scheme", "http"), ("HTTP_X_FORWARDED_PROTO", "https")]);
    assert_eq!(answer.maybe_fact("mod_wsgi.mount_point"), None);
}

#[test]
fn each_kind_takes_its_place_in_the_environ() {
    let server = serve(&format!(
        "{TRUSTED}WSGITrustedProxyHeaders X-Forwarded-For X-Forwarded-Host x-forwarded-server\n\
         WSGITrustedProxyHeaders X-Forwarded-Port X-Script-Name X-Forwarded-Proto X-Unknown"
    ));
    let sent = [
        ("X-Forwarded-For", "9.9.9.9, 2.2.2.2, 10.1.1.1"),
        ("X-Forwarded-Host", "shop.test"),
        ("X-Forwarded-Server", "edge.test"),
        ("X-Forwarded-Port", "8443"),
        ("X-Script-Name", "/shop/"),
        ("X-Forwarded-Proto", "https"),
    ];
    let answer = ask(&server, "/x", &sent);
    says(
        &answer,
        &[
            ("REMOTE_ADDR", "2.2.2.2"),
            ("HTTP_X_FORWARDED_FOR", "2.2.2.2, 10.1.1.1"),
            ("HTTP_HOST", "shop.test"),
            ("SERVER_NAME", "edge.test"),
            ("SERVER_PORT", "8443"),
            ("SCRIPT_NAME", "/shop"),
            ("mod_wsgi.mount_point", "/shop"),
            ("mod_wsgi.script_name", "/x"),
            ("mod_wsgi.path_info", ""),
            ("wsgi.url_scheme", "https"),
        ],
    );
    // Every other header of these kinds is not believed, and not shown.
    let spoofed = [
        ("X-Client-IP", "6.6.6.6"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Host", "evil.test"),
        ("X-Forwarded-Script-Name", "/evil"),
        ("X-Forwarded-Scheme", "https"),
        ("X-Scheme", "https"),
        ("X-Forwarded-HTTPS", "on"),
        ("X-Forwarded-SSL", "on"),
        ("X-HTTPS", "1"),
    ];
    let answer = ask(&server, "/x", &spoofed);
    says(&answer, &[("REMOTE_ADDR", "127.0.0.1"), ("SCRIPT_NAME", "/x")]);
    says(&answer, &[("wsgi.url_scheme", "http"), ("SERVER_NAME", "127.0.0.1")]);
    for (name, _) in spoofed {
        let variable = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
        assert_eq!(answer.maybe_fact(&variable), None);
    }
}

#[test]
fn the_other_headers_of_each_kind_work_too() {
    let server =
        serve("WSGITrustedProxyHeaders X-Real-IP X-Host X-Forwarded-Script-Name X-Forwarded-SSL");
    let sent = [("X-Real-IP", "2001:db8::7"), ("X-Host", "shop.test:81")];
    let answer = ask(&server, "/x", &[&sent[..], &[("X-Forwarded-SSL", "On")]].concat());
    says(&answer, &[("REMOTE_ADDR", "2001:db8::7"), ("HTTP_HOST", "shop.test:81")]);
    says(&answer, &[("wsgi.url_scheme", "https"), ("SCRIPT_NAME", "/x")]);
    let answer = ask(&server, "/x", &[("X-Forwarded-Script-Name", "/"), ("X-Forwarded-SSL", "0")]);
    says(
        &answer,
        &[("SCRIPT_NAME", ""), ("mod_wsgi.mount_point", ""), ("wsgi.url_scheme", "http")],
    );
}

#[test]
fn nothing_of_a_stranger_is_believed_or_shown() {
    let server = serve(
        "WSGITrustedProxies 10.0.0.0/8\nWSGITrustedProxyHeaders X-Forwarded-For X-Forwarded-Proto X-Script-Name",
    );
    let sent = [
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Real-IP", "10.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-SSL", "on"),
        ("X-Script-Name", "/evil"),
        ("X-Forwarded-Host", "kept.test"),
    ];
    let answer = ask(&server, "/x", &sent);
    says(&answer, &[("REMOTE_ADDR", "127.0.0.1"), ("wsgi.url_scheme", "http")]);
    says(&answer, &[("SCRIPT_NAME", "/x"), ("HTTP_X_FORWARDED_HOST", "kept.test")]);
    for gone in ["FORWARDED_FOR", "REAL_IP", "FORWARDED_PROTO", "FORWARDED_SSL", "SCRIPT_NAME"] {
        assert_eq!(answer.maybe_fact(&format!("HTTP_X_{gone}")), None);
    }
    assert_eq!(answer.maybe_fact("mod_wsgi.mount_point"), None);
}

#[test]
fn repeated_headers_are_one_list() {
    let server = serve(&format!("{TRUSTED}WSGITrustedProxyHeaders X-Forwarded-For"));
    let sent = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "2.2.2.2")];
    let answer = ask(&server, "/", &sent);
    says(&answer, &[("REMOTE_ADDR", "2.2.2.2"), ("HTTP_X_FORWARDED_FOR", "2.2.2.2")]);
}

/// The scheme that a proxy says counts for more than what httpd knows of its own connection.
#[test]
fn a_trusted_scheme_overrides_https() {
    let lines = "WSGITrustedProxyHeaders X-Forwarded-Proto\nSetEnv HTTPS on";
    let server = Server::start(Conf::serving("environ.wsgi").with("env").and(lines));
    says(&ask(&server, "/", &[]), &[("wsgi.url_scheme", "https")]);
    says(&ask(&server, "/", &[("X-Forwarded-Proto", "http")]), &[("wsgi.url_scheme", "http")]);
    says(&ask(&server, "/", &[("X-Forwarded-Proto", "gopher")]), &[("wsgi.url_scheme", "https")]);
}

#[test]
fn no_header_chooses_an_interpreter() {
    let server = serve(
        "WSGIApplicationGroup %{RESOURCE}\nWSGITrustedProxyHeaders X-Script-Name X-Forwarded-Host X-Forwarded-Server X-Forwarded-Port",
    );
    let plain = ask(&server, "/x", &[]).fact("mod_wsgi.application_group");
    let sent = [
        ("X-Script-Name", "/other"),
        ("X-Forwarded-Host", "other.test"),
        ("X-Forwarded-Server", "other.test"),
        ("X-Forwarded-Port", "99"),
    ];
    let answer = ask(&server, "/x", &sent);
    assert_eq!(answer.fact("mod_wsgi.application_group"), plain);
    says(&answer, &[("SCRIPT_NAME", "/other")]);
}

#[test]
fn a_more_specific_list_replaces_the_other_as_a_whole() {
    let server = serve(
        "WSGITrustedProxies 127.0.0.1\nWSGITrustedProxyHeaders X-Real-IP X-Forwarded-Proto\n\
         <Location /strange>\nWSGITrustedProxies 10.0.0.1\n</Location>\n\
         <Location /other>\nWSGITrustedProxyHeaders X-Client-IP\n</Location>",
    );
    let sent =
        [("X-Real-IP", "2.2.2.2"), ("X-Client-IP", "3.3.3.3"), ("X-Forwarded-Proto", "https")];
    says(&ask(&server, "/", &sent), &[("REMOTE_ADDR", "2.2.2.2"), ("wsgi.url_scheme", "https")]);
    says(&ask(&server, "/strange", &sent), &[("REMOTE_ADDR", "127.0.0.1")]);
    let answer = ask(&server, "/other", &sent);
    says(&answer, &[("REMOTE_ADDR", "3.3.3.3"), ("wsgi.url_scheme", "http")]);
    assert_eq!(answer.maybe_fact("HTTP_X_REAL_IP"), None);
}

#[test]
fn they_may_stand_in_htaccess() {
    let conf = Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/environ.wsgi\nSetHandler app\n\
         <Directory ${DOCS}>\nAllowOverride FileInfo\n</Directory>",
    );
    let server = Server::start_with(conf, |root| {
        let text = "WSGITrustedProxies 127.0.0.1 ::1\nWSGITrustedProxyHeaders X-Real-IP\n";
        write(root, "docs/here/.htaccess", text);
    });
    let sent = [("X-Real-IP", "2.2.2.2")];
    says(&ask(&server, "/here/x", &sent), &[("REMOTE_ADDR", "2.2.2.2")]);
    says(&ask(&server, "/elsewhere", &sent), &[("REMOTE_ADDR", "127.0.0.1")]);
}

#[test]
fn a_bad_address_is_refused_by_name() {
    for bad in ["proxy.test", "10.0.0.0/33", "::1/129", "10.0.0.0/255.0.255.0", "300.1.1.1"] {
        let test = config_test(&format!("WSGITrustedProxies 10.0.0.1 {bad}"));
        assert!(!test.ok, "accepted: {bad}");
        assert!(
            test.said.contains("WSGITrustedProxies") && test.said.contains(bad),
            "{}",
            test.said
        );
    }
    for good in ["10.0.0.1", "10.0.0.0/8 ::1", "2001:db8::/32", "10.1", "10.0.0.0/255.255.0.0"] {
        assert!(config_test(&format!("WSGITrustedProxies {good}")).ok, "refused: {good}");
    }
    for empty in ["WSGITrustedProxies", "WSGITrustedProxyHeaders"] {
        let test = config_test(empty);
        assert!(!test.ok && test.said.contains("is missing"), "{}", test.said);
    }
}
