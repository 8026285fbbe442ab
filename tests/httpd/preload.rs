//! Scripts that are loaded when a child starts: `WSGIImportScript`, and aliases that name both
//! groups.

use crate::harness::{Conf, Server, config_test, write};

/// Says in the log when it is loaded, and answers with how often.
const COUNTED: &str = r#"
import builtins, sys, mod_wsgi
builtins.loads = getattr(builtins, "loads", 0) + 1
print("counted in", repr(mod_wsgi.application_group), "load", builtins.loads)

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"loads\t{builtins.loads}\n".encode()]

handle_request = application
"#;

fn started(conf: &str) -> Server {
    started_with(Conf::new(conf))
}

fn started_with(conf: Conf) -> Server {
    Server::start_with(conf, |root| write(root, "apps/counted.wsgi", COUNTED))
}

/// The test's server answers its first request only when everything is loaded, so what the log has
/// then was loaded before.
fn preloaded(server: &Server, group: &str) {
    let line = server.log().wait_for(&["counted in", &format!("'{group}'"), "load 1"]);
    assert!(line.contains(":error]"), "{line}");
}

#[test]
fn an_imported_script_is_loaded_before_the_first_request_and_once() {
    let server = started(
        "WSGIImportScript ${APPS}/counted.wsgi process-group=${GROUP} application-group=ready\n\
         WSGIHandlerScript counted ${APPS}/counted.wsgi application-group=ready\n\
         <Location /counted>\nSetHandler counted\n</Location>",
    );
    preloaded(&server, "ready");
    assert_eq!(server.get("/counted").fact("loads"), "1", "the handler script is the same module");
    assert_eq!(server.log().lines_with(&["counted in"]).len(), 1);
}

#[test]
fn it_may_be_the_main_interpreter_or_the_servers() {
    let server = started(
        "WSGIImportScript ${APPS}/counted.wsgi application-group=%{GLOBAL} process-group=${GROUP}\n\
         WSGIImportScript ${APPS}/counted.wsgi application-group=%{SERVER} process-group=${GROUP}\n\
         WSGIScriptAlias /app ${APPS}/counted.wsgi application-group=%{SERVER}",
    );
    preloaded(&server, "");
    preloaded(&server, &format!("manifold.test:{}", server.port()));
    assert_eq!(server.get("/app").fact("loads"), "1", "a request finds it under the same name");
}

#[test]
fn a_virtual_host_imports_for_itself_and_logs_to_its_own_log() {
    let server = started(
        "<VirtualHost 127.0.0.1:${PORT}>\nServerName first.test\nErrorLog logs/first.log\n\
         WSGIImportScript ${APPS}/counted.wsgi process-group=%{GLOBAL} application-group=vhost\n\
         </VirtualHost>",
    );
    let log = server.path("logs/first.log");
    crate::harness::eventually("the virtual host's log has the line", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains("counted in 'vhost' load 1").then_some(())
    });
    assert!(server.log().lines_with(&["counted in"]).is_empty());
}

#[test]
fn an_alias_with_both_groups_is_loaded_ahead_and_with_a_form_is_not() {
    let server = started(
        "WSGIScriptAlias /one ${APPS}/counted.wsgi process-group=${GROUP} application-group=one\n\
         WSGIScriptAliasMatch ^/two ${APPS}/counted.wsgi process-group=${GROUP} application-group=two\n\
         WSGIScriptAlias /late ${APPS}/counted.wsgi process-group=${GROUP} application-group=%{HOST}\n\
         WSGIScriptAliasMatch ^/(late2) ${APPS}/counted.$1 process-group=${GROUP} application-group=late2\n\
         WSGIScriptAlias /half ${APPS}/counted.wsgi application-group=half",
    );
    preloaded(&server, "one");
    preloaded(&server, "two");
    // A request is answered, so all that is loaded ahead was.
    assert_eq!(server.get("/one").fact("loads"), "1");
    assert_eq!(server.log().lines_with(&["counted in"]).len(), 2);
    assert_eq!(server.get("/half").fact("loads"), "1");
    server.log().wait_for(&["counted in 'half'"]);
}

#[test]
fn a_handler_script_with_both_groups_is_loaded_by_its_first_request() {
    let server = started(
        "WSGIHandlerScript counted ${APPS}/counted.wsgi process-group=${GROUP} application-group=late\n\
         <Location /counted>\nSetHandler counted\n</Location>",
    );
    assert_eq!(server.get("/none").status, 404);
    assert!(server.log().lines_with(&["counted in"]).is_empty());
    assert_eq!(server.get("/counted").fact("loads"), "1");
}

#[test]
fn a_script_that_fails_is_logged_and_tried_again_by_its_request() {
    let server = Server::start_with(
        Conf::new(
            "WSGIImportScript ${APPS}/mended.wsgi process-group=${GROUP} application-group=g\n\
             WSGIImportScript ${APPS}/missing.wsgi process-group=${GROUP} application-group=g\n\
             WSGIScriptAlias /app ${APPS}/mended.wsgi application-group=g",
        ),
        |root| write(root, "apps/mended.wsgi", "raise RuntimeError('not yet')\n"),
    );
    server.log().wait_for(&[":error]", "MNF0005", "mended.wsgi", "'g'", "not yet"]);
    server.log().wait_for(&[":error]", "MNF0004", "missing.wsgi", "'g'"]);
    assert_eq!(server.get("/app").status, 500);
    server.write("apps/mended.wsgi", COUNTED);
    assert_eq!(server.get("/app").fact("loads"), "1");
}

#[test]
fn with_embedded_restricted_an_import_runs_and_requests_do_not() {
    let conf = Conf::new(
        "WSGIRestrictEmbedded On\n\
         WSGIImportScript ${APPS}/counted.wsgi process-group=%{GLOBAL} application-group=ready\n\
         WSGIScriptAlias /app ${APPS}/counted.wsgi application-group=ready",
    );
    let server = started_with(conf.inside_httpd("what may run there is the question"));
    preloaded(&server, "ready");
    assert_eq!(server.get("/app").status, 500);
    server.log().wait_for(&[":error]", "WSGIRestrictEmbedded"]);
}

/// A child that is still importing when it is told to stop goes before it is killed. It hears that
/// with httpd's reminder after three seconds: until a child has started, it reads no other message.
#[test]
fn a_script_that_never_comes_back_does_not_keep_the_child_from_stopping() {
    let server = Server::start_with(
        Conf::new(
            "WSGIImportScript ${APPS}/stuck.wsgi process-group=${GROUP} application-group=stuck",
        ),
        |root| {
            // Only the child of the second generation is stuck: the first has to serve the test's
            // own first request.
            let text = "import os, time\nflag = os.path.join(os.path.dirname(__file__), 'once')\n\
                        if os.path.exists(flag):\n    print('stuck now')\n    time.sleep(3600)\n";
            write(root, "apps/stuck.wsgi", text);
        },
    );
    server.write("apps/once", "");
    server.graceful();
    server.log().wait_for(&["stuck now"]);
    server.begin_stop();
    server.ended_after_a_reminder();
}

#[test]
fn malformed_imports_are_refused_in_one_line_that_says_why() {
    let both = "process-group=%{GLOBAL} application-group=g";
    for (line, words) in [
        ("WSGIImportScript".to_owned(), &["path of the script", "missing"][..]),
        ("WSGIImportScript /x.wsgi".to_owned(), &["process-group=", "application-group="]),
        (
            "WSGIImportScript /x.wsgi application-group=g".to_owned(),
            &["process-group=", "%{GLOBAL}"],
        ),
        (
            "WSGIImportScript /x.wsgi process-group=%{GLOBAL}".to_owned(),
            &["application-group=", "needed"],
        ),
        (format!("WSGIImportScript /x.wsgi {both} callable-object=x"), &["accepted"]),
        (format!("WSGIImportScript /x.wsgi {both} colour=red"), &["'colour'", "accepted"]),
        (
            "WSGIImportScript /x.wsgi process-group=none application-group=g".to_owned(),
            &["'none'", "no daemon process"],
        ),
        (
            "WSGIScriptAlias /x /x.wsgi process-group=none application-group=g".to_owned(),
            &["'none'", "no daemon process"],
        ),
        (
            "WSGIImportScript /x.wsgi process-group=%{ENV:X} application-group=g".to_owned(),
            &["process-group=", "no request"],
        ),
    ] {
        let test = config_test(&line);
        assert!(!test.ok, "accepted: {line}");
        let of_line = |said: &&str| words.iter().all(|word| said.contains(word));
        let lines = test.said.lines().filter(of_line).count();
        assert_eq!(lines, 1, "{line}: {}", test.said);
    }
    let line = format!("WSGIImportScript /x.wsgi {both}");
    assert!(config_test(&line).ok);
    assert!(config_test(&format!("<VirtualHost *>\n{line}\n</VirtualHost>")).ok);
    let inside = config_test(&format!("<Directory /x>\n{line}\n</Directory>"));
    assert!(!inside.ok && inside.said.contains("not allowed"), "{}", inside.said);
}
