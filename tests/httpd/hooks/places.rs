//! Where the directives of hook scripts may stand, and what they accept.

use super::refused;
use crate::harness::{Conf, Server, config_test, write};
use std::path::Path;

const GUARDS: [&str; 3] = ["WSGIAccessScript", "WSGIAuthUserScript", "WSGIAuthGroupScript"];

fn accepted(text: &str) {
    let test = config_test(text);
    assert!(test.ok, "{text}: {}", test.said);
}

fn rejected(text: &str, words: &[&str]) {
    let test = config_test(text);
    assert!(!test.ok, "{text} was accepted");
    for word in words {
        assert!(test.said.contains(word), "{text}: no {word} in {}", test.said);
    }
}

#[test]
fn guards_stand_in_sections_only() {
    for line in GUARDS
        .map(|name| format!("{name} /x.py"))
        .iter()
        .chain(&["WSGIGroupAuthoritative Off".to_owned()])
    {
        for section in
            ["Directory /x", "Location /x", "Files x", "DirectoryMatch x", "LocationMatch x"]
        {
            let name = section.split(' ').next().expect("a word");
            accepted(&format!("<{section}>\n{line}\n</{name}>"));
            accepted(&format!("<VirtualHost *>\n<{section}>\n{line}\n</{name}>\n</VirtualHost>"));
        }
        let name = line.split(' ').next().expect("a word");
        rejected(line, &[name, "not allowed here"]);
        rejected(&format!("<VirtualHost *>\n{line}\n</VirtualHost>"), &[name, "not allowed in"]);
    }
}

#[test]
fn a_dispatch_script_stands_everywhere() {
    let line = "WSGIDispatchScript /x.py application-group=x";
    accepted(line);
    accepted(&format!("<VirtualHost *>\n{line}\n</VirtualHost>"));
    accepted(&format!("<Location /x>\n{line}\n</Location>"));
}

#[test]
fn what_is_missing_or_unknown_is_refused_with_a_line() {
    for name in GUARDS.iter().chain(&["WSGIDispatchScript"]) {
        let within = |line: &str| format!("<Location /x>\n{name} {line}\n</Location>");
        for group in ["x", "%{GLOBAL}", "%{SERVER}", "'a b'", "x application-group=y"] {
            accepted(&within(&format!("/x.py application-group={group}")));
        }
        rejected(&within(""), &[name, "path of the script is missing"]);
        rejected(&within("\"\""), &[name, "path of the script is empty"]);
        rejected(&within("/x.py application-group="), &[name, "application-group= is empty"]);
        for word in ["process-group=x", "callable-object=x", "colour=red", "word", "=x"] {
            let given = word.split('=').next().filter(|name| !name.is_empty()).unwrap_or("=x");
            rejected(
                &within(&format!("/x.py {word}")),
                &[name, given, "accepted is application-group="],
            );
        }
    }
}

/// `${DOCS}/here` has `htaccess` as its .htaccess, of which `allowed` is allowed.
fn owned(allowed: &str, htaccess: &str, more: &str) -> Server {
    let conf =
        Conf::new(&format!("<Directory ${{DOCS}}>\nAllowOverride {allowed}\n</Directory>\n{more}"));
    Server::start_with(conf, |root| own(root, htaccess))
}

fn own(root: &Path, htaccess: &str) {
    let apps = root.join("apps").display().to_string();
    write(root, "docs/here/.htaccess", &htaccess.replace("${APPS}", &apps));
    write(root, "docs/here/file.txt", "static");
    write(
        root,
        "apps/hook.py",
        "def allow_access(environ, host):\n    return environ['QUERY_STRING'] != 'no'\n",
    );
}

#[test]
fn guards_may_stand_in_htaccess_where_auth_config_is_allowed() {
    let server = owned("AuthConfig", "WSGIAccessScript ${APPS}/hook.py\n", "");
    server.get("/here/file.txt").expect(200, "static");
    refused(&server.get("/here/file.txt?no"), 403);
    let lines = GUARDS.map(|name| format!("{name} ${{APPS}}/hook.py\n")).concat();
    let server = owned("AuthConfig", &format!("{lines}WSGIGroupAuthoritative Off\n"), "");
    refused(&server.get("/here/file.txt?no"), 403);
    server.get("/here/file.txt").expect(200, "static");
}

#[test]
fn without_auth_config_they_are_refused_with_a_line() {
    for name in GUARDS.iter().chain(&["WSGIGroupAuthoritative"]) {
        let server = owned("FileInfo", &format!("{name} On\n"), "");
        refused(&server.get("/here/file.txt"), 500);
        server.log().wait_for(&["here/.htaccess", name, "not allowed here"]);
        let server = owned("None", &format!("{name} On\n"), "");
        server.get("/here/file.txt").expect(200, "static");
    }
    let server = owned("AuthConfig", "WSGIDispatchScript ${APPS}/hook.py\n", "");
    refused(&server.get("/here/file.txt"), 500);
    server.log().wait_for(&["here/.htaccess", "WSGIDispatchScript", "not allowed here"]);
}

#[test]
fn a_dispatch_script_may_stand_in_htaccess_where_file_info_is_allowed() {
    let conf = Conf::new(
        "<Directory ${DOCS}>\nAllowOverride FileInfo\n</Directory>\nWSGIApplicationGroup app\n\
         WSGIHandlerScript show ${APPS}/environ.wsgi\nSetHandler show",
    );
    let server = Server::start_with(conf, |root| {
        own(root, "WSGIDispatchScript ${APPS}/choose.py application-group=hooks\n");
        write(root, "apps/choose.py", "def application_group(environ):\n    return 'chosen'\n");
    });
    assert_eq!(server.get("/here/x").fact("mod_wsgi.application_group"), "'chosen'");
    assert_eq!(server.get("/x").fact("mod_wsgi.application_group"), "'app'");
}

#[test]
fn an_htaccess_that_changes_counts_at_once() {
    let server = owned("AuthConfig", "", "");
    server.get("/here/file.txt?no").expect(200, "static");
    let apps = server.path("apps").display().to_string();
    server.write("docs/here/.htaccess", &format!("WSGIAccessScript {apps}/hook.py\n"));
    refused(&server.get("/here/file.txt?no"), 403);
}

#[test]
fn groups_of_hook_scripts_are_expanded_as_far_as_documented() {
    let text = "import mod_wsgi\n\n\ndef allow_access(environ, host):\n    \
                print(f' note group={mod_wsgi.application_group!r}', file=environ['wsgi.errors'])\n    \
                return True\n";
    for (option, group) in [
        ("", "''"),
        ("application-group=%{GLOBAL}", "''"),
        ("application-group=own", "'own'"),
        ("application-group=%{SERVER}", "'manifold.test:PORT'"),
        ("application-group=%{HOST}", "'127.0.0.1:PORT'"),
        ("application-group=%{RESOURCE}", "'%{RESOURCE}'"),
        ("application-group=%{ENV:PATH}", "'%{ENV:PATH}'"),
        ("application-group=%{server}", "'%{server}'"),
    ] {
        let line =
            format!("<Location />\nWSGIAccessScript ${{APPS}}/hook.py {option}\n</Location>");
        let server = super::hooked(Conf::new(&line), text);
        server.get("/file.txt").expect(200, "static");
        let group = group.replace("PORT", &server.port().to_string());
        assert_eq!(super::noted(&server, "group"), group, "{option}");
    }
}

const EMBEDDED: &str = "WSGIRestrictEmbedded On\nWSGIHandlerScript hello ${APPS}/hello.wsgi\n\
                        <Location /hello>\nSetHandler hello\n</Location>";

#[test]
fn hook_scripts_run_where_embedded_applications_may_not() {
    for place in [
        "<Location />\nWSGIAccessScript ${APPS}/hook.py\n</Location>",
        "<VirtualHost *>\n<Location />\nWSGIAccessScript ${APPS}/hook.py\n</Location>\n</VirtualHost>",
    ] {
        let conf = Conf::new(EMBEDDED).inside_httpd("what may run there is the question");
        let server = Server::start_with(conf.and(place), |root| own(root, ""));
        server.get("/here/file.txt").expect(200, "static");
        refused(&server.get("/here/file.txt?no"), 403);
        refused(&server.get("/hello"), 500);
        server.log().wait_for(&[":error]", "MNF", "WSGIRestrictEmbedded is on"]);
    }
}

#[test]
fn a_dispatch_script_runs_where_embedded_applications_may_not() {
    let conf = Conf::new(EMBEDDED).and("WSGIDispatchScript ${APPS}/choose.py");
    let server = Server::start_with(conf, |root| {
        write(root, "apps/choose.py", "def process_group(environ):\n    return 'elsewhere'\n");
    });
    refused(&server.get("/hello"), 500);
    server.log().wait_for(&[":error]", "MNF", "process group 'elsewhere'"]);
}

#[test]
fn a_script_that_only_htaccess_names_is_a_500_where_no_python_runs() {
    let server =
        owned("AuthConfig", "WSGIAccessScript ${APPS}/hook.py\n", "WSGIRestrictEmbedded On");
    refused(&server.get("/here/file.txt"), 500);
    server.log().wait_for(&[
        ":error]",
        "MNF",
        "[client ",
        ".htaccess only",
        "WSGIRestrictEmbedded",
    ]);
}
