//! Per-directory configuration by those who own a folder, and the other ways in which httpd makes
//! a request into another: error documents, actions and sub-requests.

use std::path::Path;

use crate::harness::{Conf, Request, Response, Server, by_daemon, eventually, write};

/// `${DOCS}/here` has `htaccess` as its .htaccess, of which `allowed` is allowed; `more` is in
/// server scope.
fn owned(allowed: &str, htaccess: &str, more: &str) -> Server {
    Server::start_with(owned_conf(allowed, more), |root| own(root, htaccess))
}

fn owned_conf(allowed: &str, more: &str) -> Conf {
    Conf::new("WSGIApplicationGroup app")
        .and(&format!("<Directory ${{DOCS}}>\nAllowOverride {allowed}\n</Directory>\n{more}"))
}

fn own(root: &Path, htaccess: &str) {
    let apps = root.join("apps").display().to_string();
    write(root, "docs/here/.htaccess", &htaccess.replace("${APPS}", &apps));
    write(root, "docs/here/file.txt", "static");
}

fn kind(answer: &Response) -> String {
    answer.maybe_fact("mod_wsgi.request_handler").unwrap_or_else(|| answer.status.to_string())
}

const SHOW: &str = "WSGIHandlerScript show ${APPS}/environ.wsgi";

#[test]
fn a_handler_script_may_be_registered_in_htaccess() {
    let server = owned("FileInfo", &format!("{SHOW} pass-authorization=On\nSetHandler show\n"), "");
    let request = Request::get("/here/x").header("Authorization", "Basic eDp5");
    let answer = server.send(&request);
    assert_eq!((answer.status, kind(&answer)), (200, "'show'".to_owned()));
    assert_eq!(answer.fact("HTTP_AUTHORIZATION"), "'Basic eDp5'");
    assert_eq!(answer.fact("mod_wsgi.application_group"), "'app'");
    assert_eq!(server.get("/elsewhere").status, 404);
}

#[test]
fn htaccess_replaces_a_handler_script_of_the_server_whole() {
    let server = owned(
        "FileInfo",
        SHOW,
        "WSGIHandlerScript show ${APPS}/hello.wsgi application-group=server\nSetHandler show",
    );
    server.get("/elsewhere").expect(200, "Hello, world!\n");
    assert_eq!(server.get("/here/x").fact("mod_wsgi.application_group"), "'app'");
}

#[test]
fn an_htaccess_that_changes_counts_at_once() {
    let server = owned("FileInfo", &format!("{SHOW}\nSetHandler show\n"), "");
    assert_eq!(kind(&server.get("/here/x")), "'show'");
    server.write("docs/here/.htaccess", "");
    assert_eq!(server.get("/here/x").status, 404);
    let apps = server.path("apps").display().to_string();
    let other = format!("WSGIHandlerScript other {apps}/environ.wsgi\nSetHandler other\n");
    server.write("docs/here/.htaccess", &other);
    assert_eq!(kind(&server.get("/here/x")), "'other'");
}

/// What may stand in .htaccess, one directive each.
const OURS: [&str; 4] =
    [SHOW, "WSGIPassAuthorization On", "WSGIScriptReloading Off", "WSGICallableObject other"];

#[test]
fn without_file_info_they_are_refused_with_a_line() {
    for directive in OURS {
        let server = owned("AuthConfig", directive, "");
        assert_eq!(server.get("/here/file.txt").status, 500, "{directive}");
        let name = directive.split(' ').next().expect("a word");
        server.log().wait_for(&["here/.htaccess", name, "not allowed here"]);
    }
}

#[test]
fn under_allow_override_none_htaccess_is_not_read() {
    for directive in OURS {
        let server = owned("None", directive, "");
        server.get("/here/file.txt").expect(200, "static");
    }
}

#[test]
fn under_file_info_they_are_accepted() {
    let server = owned("FileInfo", &OURS.join("\n"), "");
    server.get("/here/file.txt").expect(200, "static");
}

#[test]
fn directives_of_the_server_are_refused_in_htaccess() {
    for directive in [
        "WSGIApplicationGroup other",
        "WSGIProcessGroup other",
        "WSGIScriptAlias /x /x.wsgi",
        "WSGIRestrictEmbedded On",
        "WSGIPythonPath /x",
        "WSGIInterpreterLimit 5",
    ] {
        let server = owned("All", directive, "");
        assert_eq!(server.get("/here/file.txt").status, 500, "{directive}");
        let name = directive.split(' ').next().expect("a word");
        server.log().wait_for(&["here/.htaccess", name]);
    }
}

#[test]
fn a_mistake_in_htaccess_is_a_500_with_a_line_that_says_why() {
    for (directive, word) in [
        ("WSGIHandlerScript show", "path"),
        ("WSGIHandlerScript show /x.wsgi colour=red", "colour"),
        ("WSGIPassAuthorization perhaps", "perhaps"),
        ("WSGICallableObject", "WSGICallableObject"),
    ] {
        let server = owned("FileInfo", directive, "");
        assert_eq!(server.get("/here/file.txt").status, 500, "{directive}");
        server.log().wait_for(&["here/.htaccess", word]);
    }
}

#[test]
fn pass_authorization_in_htaccess_counts_below_it() {
    let server = owned(
        "FileInfo",
        "WSGIPassAuthorization On\n",
        &format!("{SHOW}\nSetHandler show\nWSGIPassAuthorization Off"),
    );
    let passed = |url: &str| {
        let answer = server.send(&Request::get(url).header("Authorization", "Basic eDp5"));
        answer.maybe_fact("HTTP_AUTHORIZATION").is_some()
    };
    assert_eq!([passed("/here/x"), passed("/elsewhere")], [true, false]);
}

#[test]
fn script_reloading_in_htaccess_counts_below_it() {
    let server = Server::start_with(
        owned_conf("FileInfo", "WSGIHandlerScript own ${APPS}/own.wsgi\nSetHandler own"),
        |root| {
            own(root, "WSGIScriptReloading Off\n");
            write(root, "apps/own.wsgi", "handle_request = 'an old one'\n");
        },
    );
    let saying = |text: &str| {
        format!(
            "def handle_request(environ, start_response):\n    \
             start_response('200 OK', [])\n    return [b'{text}']\n"
        )
    };
    server.write("apps/own.wsgi", &saying("first"));
    server.set_time("apps/own.wsgi", 10);
    server.get("/here/x").expect(200, "first");
    server.write("apps/own.wsgi", &saying("second"));
    server.set_time("apps/own.wsgi", 20);
    server.get("/here/x").expect(200, "first");
    if by_daemon() {
        // A fresh interpreter may still be on its way.
        let counts = || (server.get("/elsewhere").text() == "second").then_some(());
        return eventually("the change counts", counts);
    }
    server.get("/elsewhere").expect(200, "second");
}

#[test]
fn the_callable_and_its_handler_may_be_chosen_in_htaccess() {
    let conf = owned_conf("FileInfo Options", "SetEnvIf Request_URI env WHICH=handle_request");
    let server = Server::start_with(conf.with("mime").with("setenvif"), |root| {
        own(root, "AddHandler wsgi-script .wsgi\nOptions +ExecCGI\nWSGICallableObject other\n");
        let script = std::fs::read_to_string(root.join("apps/script.wsgi")).expect("the script");
        for folder in ["here", "here/deeper", "here/env"] {
            write(root, &format!("docs/{folder}/script.wsgi"), &script);
        }
        write(root, "docs/here/deeper/.htaccess", "WSGICallableObject application\n");
        write(root, "docs/here/env/.htaccess", "WSGICallableObject %{ENV:WHICH}\n");
    });
    for (folder, name) in
        [("here", "other"), ("here/deeper", "application"), ("here/env", "handle_request")]
    {
        let answer = server.get(&format!("/{folder}/script.wsgi"));
        assert_eq!(answer.fact("called"), format!("'{name}'"), "{folder}");
    }
}

#[test]
fn sections_of_expressions_and_files_count_in_htaccess() {
    let server = owned(
        "FileInfo",
        &format!(
            "<If \"%{{HTTP:X-Ours}} == 'yes'\">\n{SHOW}\nSetHandler show\n</If>\n\
             <Files shown.*>\n{SHOW}\nSetHandler show\n</Files>\n"
        ),
        "",
    );
    server.get("/here/file.txt").expect(200, "static");
    let asked = server.send(&Request::get("/here/file.txt").header("X-Ours", "yes"));
    assert_eq!(kind(&asked), "'show'");
    assert_eq!(kind(&server.get("/here/shown.x")), "'show'");
}

#[test]
fn settings_in_an_expression_section_count_where_it_is_true() {
    let server = Server::start(Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript show ${APPS}/environ.wsgi\nSetHandler show\n\
         <If \"%{QUERY_STRING} == 'other'\">\nWSGIApplicationGroup other\nWSGIPassAuthorization On\n</If>",
    ));
    let ask = |url: &str| server.send(&Request::get(url).header("Authorization", "Basic eDp5"));
    assert_eq!(ask("/").fact("mod_wsgi.application_group"), "'app'");
    assert_eq!(ask("/").maybe_fact("HTTP_AUTHORIZATION"), None);
    assert_eq!(ask("/?other").fact("mod_wsgi.application_group"), "'other'");
    assert!(ask("/?other").maybe_fact("HTTP_AUTHORIZATION").is_some());
}

#[test]
fn an_error_document_by_a_handler_script_sees_what_failed() {
    let server = Server::start(
        Conf::new("WSGIApplicationGroup app").and(SHOW).and(
            "WSGIHandlerScript failing ${APPS}/failing.wsgi\n\
             <Location /page>\nSetHandler show\n</Location>\n\
             <Location /before>\nSetHandler failing\n</Location>\n\
             <Location /closed>\nRequire all denied\n</Location>\n\
             ErrorDocument 403 /page/403?from=403\nErrorDocument 404 /page/404\nErrorDocument 500 /page/500",
        ),
    );
    for (url, status) in [("/none?a=1", 404), ("/closed/x?a=1", 403), ("/before?a=1", 500)] {
        let answer = server.get(url);
        assert_eq!(answer.fact("REDIRECT_STATUS"), format!("'{status}'"), "{url}");
        assert_eq!(answer.fact("REDIRECT_URL"), format!("'{}'", url.trim_end_matches("?a=1")));
        assert_eq!(answer.fact("REDIRECT_QUERY_STRING"), "'a=1'", "{url}");
        assert_eq!(answer.fact("PATH_INFO"), format!("'/{status}'"), "{url}");
        assert_eq!(answer.fact("REQUEST_METHOD"), "'GET'", "{url}");
    }
    assert_eq!(server.get("/closed").fact("QUERY_STRING"), "'from=403'");
}

#[test]
fn an_action_of_another_name_leads_to_the_handler_script() {
    let server = Server::start_with(
        Conf::new("WSGIApplicationGroup app")
            .and(SHOW)
            .and(
                "<Location /target>\nSetHandler show\n</Location>\n\
                 Action acted /target virtual\nAction strict /target\n\
                 <Location /virtual>\nSetHandler acted\n</Location>\n\
                 <Location /strict>\nSetHandler strict\n</Location>",
            )
            .with("actions"),
        |root| write(root, "docs/strict/file.txt", "static"),
    );
    let answer = server.get("/virtual/x?a=1");
    assert_eq!((answer.status, kind(&answer)), (200, "'show'".to_owned()));
    assert_eq!(answer.fact("REDIRECT_URL"), "'/virtual/x'");
    assert_eq!(answer.fact("PATH_INFO"), "'/virtual/x'");
    assert_eq!(answer.fact("QUERY_STRING"), "'a=1'");
    assert_eq!(kind(&server.get("/strict/file.txt")), "'show'");
    assert_eq!(server.get("/strict/none.txt").status, 404, "without virtual the file has to exist");
}

#[test]
fn a_handler_script_wins_over_an_action_of_the_same_name() {
    let server = Server::start(
        Conf::new("WSGIApplicationGroup app")
            .and(SHOW)
            .and("Action show /elsewhere virtual\n<Location /x>\nSetHandler show\n</Location>")
            .with("actions"),
    );
    let answer = server.get("/x");
    assert_eq!(answer.fact("SCRIPT_NAME"), "'/x'");
    assert_eq!(answer.maybe_fact("REDIRECT_URL"), None);
}

#[test]
fn a_body_reaches_the_target_of_an_action() {
    let server = Server::start(
        Conf::new(
            "WSGIApplicationGroup app\nWSGIHandlerScript echo ${APPS}/echo.wsgi\n\
             <Location /target>\nSetHandler echo\n</Location>\n\
             Action acted /target virtual\n<Location /acted>\nSetHandler acted\n</Location>",
        )
        .with("actions"),
    );
    server.send(&Request::post("/acted/whole", b"a body")).expect(200, "a body");
}

#[test]
fn a_page_includes_what_a_handler_script_answers() {
    let server = Server::start_with(
        Conf::new("WSGIApplicationGroup app\nOptions +Includes")
            .and(SHOW)
            .and(
                "WSGIHandlerScript failing ${APPS}/failing.wsgi\n\
                 <Location /inner>\nSetHandler show\n</Location>\n\
                 <Location /before>\nSetHandler failing\n</Location>\n\
                 <Files *.shtml>\nSetOutputFilter INCLUDES\n</Files>",
            )
            .with("include"),
        |root| {
            let page = |url: &str| format!("[<!--#include virtual=\"{url}\" -->]\nthe end");
            write(root, "docs/page.shtml", &page("/inner/x?b=2"));
            write(root, "docs/broken.shtml", &page("/before"));
        },
    );
    let answer = server.get("/page.shtml?a=1");
    assert_eq!((answer.status, answer.whole), (200, true));
    assert!(answer.text().ends_with("]\nthe end"), "{}", answer.text());
    for (key, value) in
        [("PATH_INFO", "'/x'"), ("QUERY_STRING", "'b=2'"), ("REQUEST_METHOD", "'GET'")]
    {
        assert_eq!(answer.fact(key), value, "{key}");
    }
    let broken = server.get("/broken.shtml");
    assert_eq!((broken.status, broken.whole), (200, true));
    assert!(broken.text().starts_with('[') && broken.text().ends_with("]\nthe end"));
    server.log().wait_for(&[":error]", "MNF0007", "failing.wsgi"]);
}
