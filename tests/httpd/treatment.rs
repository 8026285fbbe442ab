//! The small directives about the treatment of requests: WSGIPassApacheRequest,
//! WSGIIgnoreActivity, WSGIRestrictProcess and WSGICaseSensitivity.

use crate::harness::{Conf, Server, config_test, write};

/// Directives of .htaccess, and whether it is accepted there.
fn in_htaccess(line: &str) -> u16 {
    let conf = Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/environ.wsgi\nSetHandler app\n\
         <Directory ${DOCS}>\nAllowOverride FileInfo\n</Directory>",
    );
    let server = Server::start_with(conf, |root| write(root, "docs/here/.htaccess", line));
    server.get("/here/x").status
}

#[test]
fn no_request_record_is_passed_and_each_child_says_so_once() {
    let server = Server::start(Conf::serving("environ.wsgi").and("WSGIPassApacheRequest On"));
    for _ in 0..3 {
        let answer = server.get("/");
        assert_eq!((answer.status, answer.maybe_fact("apache.request_rec")), (200, None));
    }
    let said = server.log().wait_for_count(&[":warn]", "WSGIPassApacheRequest"], 1);
    assert_eq!(said.len(), 1, "{said:?}");
    let server = Server::start(Conf::serving("environ.wsgi").and("WSGIPassApacheRequest Off"));
    assert_eq!(server.get("/").status, 200);
    assert!(server.log().lines_with(&["WSGIPassApacheRequest"]).is_empty());
}

#[test]
fn the_directives_of_htaccess_are_accepted_there() {
    for line in [
        "WSGIPassApacheRequest On",
        "WSGIIgnoreActivity On",
        "WSGIChunkedRequest On",
        "WSGIErrorOverride On",
        "WSGIMapHEADToGET On",
        "WSGIEnableSendfile On",
    ] {
        assert_eq!(in_htaccess(line), 200, "{line}");
    }
    assert_eq!(
        in_htaccess("WSGIRestrictProcess a"),
        500,
        "a folder's owner may not widen the fence"
    );
    assert_eq!(in_htaccess("WSGICaseSensitivity Off"), 500);
}

#[test]
fn switches_take_their_two_words_only() {
    for name in [
        "WSGIPassApacheRequest",
        "WSGIIgnoreActivity",
        "WSGIChunkedRequest",
        "WSGIErrorOverride",
        "WSGIEnableSendfile",
        "WSGICaseSensitivity",
    ] {
        assert!(config_test(&format!("{name} On")).ok && config_test(&format!("{name} oFF")).ok);
        for bad in ["perhaps", "", "On Off"] {
            let test = config_test(&format!("{name} {bad}"));
            assert!(!test.ok && test.said.contains(name), "{name} {bad}: {}", test.said);
        }
    }
    let host = "<VirtualHost *>\nWSGICaseSensitivity Off\n</VirtualHost>";
    assert!(!config_test(host).ok, "it is about whole processes");
    assert!(!config_test("WSGIRestrictProcess").ok);
}

#[test]
fn a_process_group_outside_the_fence_is_refused() {
    let server = Server::start(
        Conf::serving("environ.wsgi")
            .and("WSGIProcessGroup %{GLOBAL}\nWSGIRestrictProcess one\nWSGIRestrictProcess two")
            .and("<Location /global>\nWSGIRestrictProcess %{GLOBAL} one\n</Location>")
            .and("<Location /two>\nWSGIProcessGroup two\n</Location>")
            .and("<Location /three>\nWSGIProcessGroup three\n</Location>"),
    );
    assert_eq!(server.get("/global").status, 200);
    assert_eq!(server.get("/").status, 500);
    server.log().wait_for(&[":error]", "'%{GLOBAL}'", "WSGIRestrictProcess", "one two"]);
    assert_eq!(server.get("/three").status, 500);
    server.log().wait_for(&[":error]", "'three'", "WSGIRestrictProcess", "one two"]);
    // Inside the fence the next step says what is wrong.
    assert_eq!(server.get("/two").status, 500);
    server.log().wait_for(&[":error]", "'two'", "no daemon process"]);
}

/// Says in which module and group it runs, and how often it was called there.
const COUNTING: &str = "
calls = 0

def handle_request(environ, start_response):
    global calls
    calls += 1
    start_response('200 OK', [('Content-Type', 'text/plain')])
    group = environ['mod_wsgi.application_group'].split('|')[-1]
    return [f'{__name__}\\t{calls}\\ngroup\\t{group!r}\\n'.encode()]

application = handle_request
";

fn counting(case: &str) -> Server {
    let conf = Conf::new(
        "WSGIHandlerScript lower ${APPS}/own.wsgi\nWSGIHandlerScript upper ${APPS}/OWN.wsgi\n\
         <Location /a>\nWSGIApplicationGroup a\nSetHandler lower\n</Location>\n\
         <Location /b>\nWSGIApplicationGroup a\nSetHandler upper\n</Location>\n\
         <LocationMatch (?i)^/own>\nSetHandler lower\n</LocationMatch>\n\
         WSGIScriptAlias /c ${APPS}/OWN.wsgi\n<Location /c>\nWSGIApplicationGroup a\n</Location>\n\
         <Directory ${APPS}>\nRequire all granted\n</Directory>",
    );
    Server::start_with(conf.and(case), |root| {
        write(root, "apps/own.wsgi", COUNTING);
        let apps = root.join("apps");
        std::fs::hard_link(apps.join("own.wsgi"), apps.join("OWN.wsgi"))
            .expect("one file, two names");
    })
}

#[test]
fn without_case_a_script_is_one_module_in_one_group() {
    let server = counting("WSGICaseSensitivity Off");
    let module = |target: &str| server.get(target).text().lines().next().unwrap_or("").to_owned();
    let calls = ["/a", "/b", "/c"].map(module);
    let names: Vec<_> = calls.iter().map(|line| line.split('\t').next().unwrap_or("")).collect();
    assert!(names[0].starts_with("_mod_wsgi_") && names.iter().all(|name| *name == names[0]));
    assert!(calls[2].ends_with("\t3"), "{calls:?}");
    assert_eq!(server.get("/oWn/X").fact("group"), "'/own'");
}

#[test]
fn with_case_they_are_two() {
    let server = counting("");
    let module = |target: &str| server.get(target).text().lines().next().unwrap_or("").to_owned();
    assert!(["/a", "/b"].map(module).iter().all(|line| line.ends_with("\t1")));
    assert!(module("/c").ends_with("\t2"), "the same file as /b");
    assert_eq!(server.get("/oWn/X").fact("group"), "'/oWn'");
}
