//! Whole applications: the validator of the standard library, Django with its admin, and Flask.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Conf, Request, Response, Server, at_once, pattern, test_venv, write};

/// Stops the server, so that nothing more can come, and checks that no error was logged.
#[track_caller]
fn ends_without_an_error(server: Server) {
    // The file can be read when its folder is gone with the server.
    let mut log = File::open(server.path("logs/error.log")).expect("the error log is opened");
    server.stop();
    let mut text = String::new();
    log.read_to_string(&mut text).expect("the error log is read");
    assert!(text.contains("shutting down"), "the whole log: {text}");
    assert!(!text.contains(":error]"), "{text}");
}

/// The probe behind the validator: as a handler script, and as an alias of the root and of `/in`.
fn validated() -> [Conf; 2] {
    let aliased = "WSGIApplicationGroup app\n\
                   WSGIScriptAlias /in ${APPS}/validated.wsgi\n\
                   WSGIScriptAlias / ${APPS}/validated.wsgi";
    [Conf::serving("validated.wsgi"), Conf::new(aliased)]
}

#[test]
fn the_validator_finds_no_fault_with_any_method() {
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"];
    let sent = "many lines\n".repeat(500);
    for server in validated().map(Server::start) {
        for (target, read) in [("/in", ""), ("/in/read/?a=b&c=%20", sent.as_str())] {
            for method in methods {
                let bare = Request::new(method, target);
                let full = bare
                    .clone()
                    .header("Content-Type", "text/plain")
                    .header("X-Name", "na\u{ef}ve")
                    .body(sent.as_bytes());
                for (request, read) in [(&bare, ""), (&full, read)] {
                    let whole = format!("{method} {read}");
                    let answer = server.send(request);
                    answer.expect(200, if method == "HEAD" { "" } else { &whole });
                    let length = answer.header("Content-Length");
                    assert_eq!(length, Some(whole.len().to_string()), "{method} {target}");
                }
            }
        }
        ends_without_an_error(server);
    }
}

#[test]
fn the_validator_finds_no_fault_with_the_root() {
    for server in validated().map(Server::start) {
        for target in ["/", "/?a=b", "//"] {
            server.get(target).expect(200, "GET ");
        }
        ends_without_an_error(server);
    }
}

#[test]
fn the_validator_finds_no_fault_with_any_way_to_read_and_to_answer() {
    let readings =
        ["read", "readline", "readline-size", "readlines", "readlines-hint", "iterate", "no"];
    let sent = "a line\n\na longer line, but without an end: ".repeat(100);
    for server in validated().map(Server::start) {
        for reading in readings {
            let whole = format!("POST {}", if reading == "no" { "" } else { &sent });
            for (answering, status) in
                [("", 200), ("write", 200), ("exc-info", 404), ("nothing", 204)]
            {
                let target = format!("/in/{reading}/{answering}");
                let answer = server.send(&Request::post(&target, sent.as_bytes()));
                answer.expect(status, if status == 204 { "" } else { &whole });
            }
        }
        let closed = readings.len() * 4;
        server.get("/closings").expect(200, &closed.to_string());
        ends_without_an_error(server);
    }
}

#[test]
fn the_validator_finds_no_fault_with_wsgi_errors() {
    for server in validated().map(Server::start) {
        server.get("/errors").expect(200, "GET ");
        for words in ["probe: written", "probe: one of two lines", "probe: the other"] {
            assert!(server.log().wait_for(&[":error]", words]).ends_with(words));
        }
        assert_eq!(server.log().lines_with(&[":error]"]).len(), 3);
    }
}

#[test]
fn a_fault_that_the_validator_finds_is_a_500() {
    for server in validated().map(Server::start) {
        assert_eq!(server.get("/faulty").status, 500);
        server.log().wait_for(&[":error]", "AssertionError", "No Content-Type"]);
    }
}

/// Someone who comes back with the cookies that the server has set.
struct Browser<'a> {
    server: &'a Server,
    cookies: BTreeMap<String, String>,
}

impl Browser<'_> {
    fn on(server: &Server) -> Browser<'_> {
        Browser { server, cookies: BTreeMap::new() }
    }

    fn send(&mut self, request: &Request) -> Response {
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = self.server.send(&request.clone().header("Cookie", &cookies.join("; ")));
        for line in answer.all("Set-Cookie") {
            let (cookie, attributes) = line.split_once(';').unwrap_or((&line, ""));
            let (name, value) = cookie.split_once('=').expect("a cookie has a name");
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// The page at `target`.
    #[track_caller]
    fn get(&mut self, target: &str) -> String {
        let answer = self.send(&Request::get(target));
        assert_eq!((answer.status, answer.whole), (200, true), "{target}: {}", answer.text());
        answer.text()
    }

    /// Takes the token of the form on `page` and sends `fields` with it to `action`.
    #[track_caller]
    fn submit_to(&mut self, action: &str, page: &str, fields: &[(&str, &str)]) -> Response {
        let token = token(&self.get(page));
        let mut body = format!("csrfmiddlewaretoken={token}");
        for (name, value) in fields {
            write!(body, "&{name}={}", escaped(value)).expect("a String takes all");
        }
        let form = Request::post(action, body.as_bytes());
        self.send(&form.header("Content-Type", "application/x-www-form-urlencoded"))
    }

    /// The same, for a form that is sent to its own page; returns where it sends us.
    #[track_caller]
    fn submit(&mut self, page: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.submit_to(page, page, fields);
        assert_eq!(answer.status, 302, "{page}: {}", answer.text());
        answer.header("Location").expect("a redirect has a target")
    }
}

/// The CSRF token in a page.
#[track_caller]
fn token(page: &str) -> String {
    let (_, rest) = page
        .split_once("name=\"csrfmiddlewaretoken\" value=\"")
        .unwrap_or_else(|| panic!("no form with a token in {page}"));
    rest.split('"').next().unwrap_or_default().to_owned()
}

/// As a form sends it.
fn escaped(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => text.push(char::from(byte)),
            _ => write!(text, "%{byte:02X}").expect("a String takes all"),
        }
        text
    })
}

const ADMIN: [(&str, &str); 2] = [("username", "admin"), ("password", "let me in, please")];

/// A server with Django on its path: the site's files are in the server root, and its database is
/// in a folder where httpd's children may write.
fn django(text: &str) -> Server {
    let venv = test_venv();
    let conf = Conf::new("WSGIPythonPath ${APPS}").and(text).python_home(&venv);
    Server::start_with(conf, |root| {
        put_django_site(root);
        make_database(&Path::new(&venv).join("bin/python"), root);
    })
}

/// The package of the site, without a database.
pub(crate) fn put_django_site(root: &Path) {
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/django_site");
    copy(&site, root, "apps/django_site");
}

/// The site at `/`.
fn django_at_the_root() -> Server {
    django("WSGIScriptAlias / ${APPS}/django.wsgi application-group=django")
}

/// Copies a folder of texts, so that httpd's children may read them.
fn copy(from: &Path, root: &Path, to: &str) {
    let entries = fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    let mut entries: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    entries.retain(|entry| !entry.ends_with("__pycache__"));
    entries.sort_by_key(|entry| entry.is_dir()); // a file's folder is opened before what it has
    for entry in entries {
        let name = entry.file_name().expect("it has a name").to_string_lossy();
        let to = format!("{to}/{name}");
        if entry.is_dir() {
            copy(&entry, root, &to);
        } else {
            write(root, &to, &fs::read_to_string(&entry).expect("a text"));
        }
    }
}

/// The site's tables and its administrator, made before httpd starts.
fn make_database(python: &Path, root: &Path) {
    let [(_, name), (_, password)] = ADMIN;
    let code = format!(
        "import django\n\
         django.setup()\n\
         from django.contrib.auth.models import User\n\
         from django.core.management import call_command\n\
         call_command('migrate', verbosity=0)\n\
         User.objects.create_superuser({name:?}, password={password:?})\n"
    );
    let made = Command::new(python)
        .args(["-B", "-c", &code])
        .env("PYTHONPATH", root.join("apps"))
        .env("DJANGO_SETTINGS_MODULE", "django_site.settings")
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let database = root.join("state/site.sqlite3");
    fs::set_permissions(database, Permissions::from_mode(0o666)).expect("its mode is set");
}

/// Logs in to the admin below `prefix`, adds a note, finds it, and logs out.
#[track_caller]
fn uses_the_admin(server: &Server, prefix: &str, title: &str) {
    let at = |inside: &str| format!("{prefix}/admin/{inside}");
    let mut browser = Browser::on(server);
    let refused = browser.send(&Request::get(&at("")));
    let login = format!("{}?next={}", at("login/"), at(""));
    assert_eq!((refused.status, refused.header("Location")), (302, Some(login.clone())));

    let wrong = [ADMIN[0], ("password", "a guess")];
    let wrong = browser.submit_to(&login, &login, &wrong);
    assert_eq!(wrong.status, 200, "the form again");
    assert!(wrong.text().contains("Please enter the correct username and password"));
    assert!(!browser.cookies.contains_key("sessionid"));

    assert_eq!(browser.submit(&login, &ADMIN), at(""));
    assert!(browser.cookies.contains_key("sessionid"), "{:?}", browser.cookies);
    assert!(browser.get(&at("")).contains("Site administration"));

    let note = [("title", title), ("text", "one\r\ntwo & caf\u{e9}"), ("_save", "Save")];
    let list = browser.submit(&at("django_site/note/add/"), &note);
    assert_eq!(list, at("django_site/note/"));
    let page = browser.get(&list);
    assert!(page.contains("was added successfully"), "a message: {page}");
    assert!(page.contains(&format!(">{title}</a></th>")), "the change list: {page}");
    assert!(!browser.get(&list).contains("was added successfully"), "a message is shown once");

    let out = browser.submit_to(&at("logout/"), &at(""), &[]);
    assert_eq!(out.status, 200);
    assert!(out.text().contains("Log in again"), "{}", out.text());
    assert!(!browser.cookies.contains_key("sessionid"));
    assert_eq!(browser.send(&Request::get(&at(""))).status, 302);
}

/// Sends the site's form below `prefix` and finds its traces in the next requests.
#[track_caller]
fn uses_the_form(server: &Server, prefix: &str, title: &str) {
    let page = format!("{prefix}/notes/");
    let last = format!("<p class=\"last\">{title}</p>");
    let mut browser = Browser::on(server);
    assert!(!browser.get(&page).contains("class=\"last\""));
    assert_eq!(browser.submit(&page, &[("title", title)]), page);
    let next = browser.get(&page);
    assert!(next.contains("<p class=\"message\">The note was kept.</p>"), "{next}");
    assert!(next.contains(&last), "{next}");
    assert!(next.contains(&format!("<li>{title}</li>")), "{next}");
    let later = browser.get(&page);
    assert!(later.contains(&last) && !later.contains("class=\"message\""), "{later}");
    let stranger = Browser::on(server).get(&page);
    assert!(!stranger.contains(&last), "{stranger}");
}

#[test]
fn the_admin_of_django_logs_in_adds_lists_and_logs_out() {
    let server = django_at_the_root();
    uses_the_admin(&server, "", "A first note");
    ends_without_an_error(server);
}

#[test]
fn a_form_of_django_fills_the_session_of_its_sender() {
    let server = django_at_the_root();
    uses_the_form(&server, "", "Bread");
    ends_without_an_error(server);
}

#[test]
fn a_form_of_django_is_refused_without_its_token_or_its_cookie() {
    let server = django_at_the_root();
    let mut browser = Browser::on(&server);
    let token = token(&browser.get("/notes/"));
    let form = |body: &str| {
        Request::post("/notes/", body.as_bytes())
            .header("Content-Type", "application/x-www-form-urlencoded")
    };
    let without_token = browser.send(&form("title=Bread"));
    let body = format!("title=Bread&csrfmiddlewaretoken={token}");
    let without_cookie = server.send(&form(&body));
    assert_eq!((without_token.status, without_cookie.status), (403, 403));
    let from_elsewhere = form(&body).header("Origin", "http://elsewhere.test");
    assert_eq!(browser.send(&from_elsewhere).status, 403);
    let from_here = form(&body).header("Origin", &format!("http://{}", server.address()));
    assert_eq!(browser.send(&from_here).status, 302);
}

#[test]
fn a_streaming_response_of_django_is_sent_as_it_comes() {
    let server = django_at_the_root();
    let gate = server.gate("gate");
    let mut client = server.client();
    // Without chunks, so that the body's bytes are all that follows the head.
    client.send_head(&Request::get("/stream/").http_1_0());
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.read_bytes(6), b"first,");
    gate.open();
    assert_eq!(client.read_bytes(6), b"second");
    drop(client);
    server.get("/stream/").expect(200, "first,second");
    ends_without_an_error(server);
}

#[test]
fn an_upload_to_django_arrives_whole() {
    let server = django_at_the_root();
    // Django keeps a small file in memory and a large one on a disk.
    for (size, on_disk, digest) in [
        (100_000, "False", "28cb595c158e9b74e34ae9e8da710fff"),
        (3_000_000, "True", "d85bc23258cf4ec207963f9f2f02c38d"),
    ] {
        let mut browser = Browser::on(&server);
        let token = token(&browser.get("/upload/"));
        let mut body = format!(
            "--edge\r\nContent-Disposition: form-data; name=\"csrfmiddlewaretoken\"\r\n\r\n\
             {token}\r\n--edge\r\nContent-Disposition: form-data; name=\"file\"; \
             filename=\"pattern.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend(pattern(size));
        body.extend(b"\r\n--edge--\r\n");
        let upload = Request::post("/upload/", &body)
            .header("Content-Type", "multipart/form-data; boundary=edge");
        let answer = browser.send(&upload);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let facts = ["name", "size", "digest", "on_disk"].map(|key| answer.fact(key));
        let [name, digest] = ["pattern.bin", digest].map(|text| format!("'{text}'"));
        assert_eq!(facts, [name, size.to_string(), digest, on_disk.to_owned()]);
    }
    ends_without_an_error(server);
}

#[test]
fn django_s_own_pages_answer_what_is_missing_and_what_fails() {
    let server = django_at_the_root();
    let missing = server.get("/no/such/page/");
    assert_eq!((missing.status, missing.whole), (404, true));
    assert!(missing.text().contains("<h1>Not Found</h1>"), "{}", missing.text());
    let failed = server.get("/fail/");
    assert_eq!((failed.status, failed.whole), (500, true));
    assert!(failed.text().contains("<h1>Server Error (500)</h1>"), "{}", failed.text());
    for line in [
        "Not Found: /no/such/page/",
        "Internal Server Error: /fail/",
        "Traceback (most recent call last):",
        "LookupError: a view that fails",
    ] {
        assert!(server.log().wait_for(&[line]).ends_with(line));
    }
    let slash = server.get("/notes");
    assert_eq!((slash.status, slash.header("Location")), (301, Some("/notes/".to_owned())));
    assert_eq!(server.send(&Request::get("/facts/").header("Host", "elsewhere.test")).status, 400);
    assert_eq!(server.get("/facts/").status, 200);
}

#[test]
fn one_django_site_in_two_groups_answers_in_both_at_once() {
    let server = django(
        "WSGIScriptAlias /a ${APPS}/django.wsgi application-group=a\n\
         WSGIScriptAlias /b ${APPS}/django.wsgi application-group=b",
    );
    let prefixes = ["/a", "/b"];
    at_once(4, |i| {
        let prefix = prefixes[i % 2];
        if i < 2 {
            uses_the_admin(&server, prefix, &format!("From the admin of {prefix}"));
        } else {
            uses_the_form(&server, prefix, &format!("From the form of {prefix}"));
        }
    });
    for prefix in prefixes {
        // Were these one interpreter, its module would have counted the other's visits too.
        for visit in 1..=3 {
            let facts = server.get(&format!("{prefix}/facts/"));
            let seen = ["group", "visits", "here", "address"].map(|key| facts.fact(key));
            let address = format!("'http://{}{prefix}/facts/'", server.address());
            let group = format!("'{}'", &prefix[1..]);
            assert_eq!(seen, [group, visit.to_string(), format!("'{prefix}/notes/'"), address]);
        }
        // What both have kept is in the one database.
        let notes = Browser::on(&server).get(&format!("{prefix}/notes/"));
        assert_eq!(notes.matches("<li>From the ").count(), 4, "{notes}");
    }
    ends_without_an_error(server);
}

#[test]
fn django_answers_as_a_handler_script() {
    let server = django(
        "WSGIHandlerScript site ${APPS}/django.wsgi application-group=django\n\
         <Location /site>\nSetHandler site\n</Location>",
    );
    uses_the_admin(&server, "/site", "By a handler");
    uses_the_form(&server, "/site", "By a form");
    ends_without_an_error(server);
}

const FLASK: &str = r#"
import os

from flask import Flask, jsonify, render_template_string, request, session, stream_template_string

application = Flask(__name__)
application.secret_key = "known to everyone who reads the tests"

GATE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "state", "gate")
COUNTDOWN = "{{ session['name'] }}:{% for number in numbers %} {{ number }}{% endfor %}"


@application.before_request
def check():
    if "fail" in request.args:
        raise LookupError("before the request")


@application.route("/name", methods=["GET", "POST"])
def name():
    if request.method == "POST":
        session["name"] = request.form["name"]
    return render_template_string("{{ session['name'] | default('nobody') }}")


@application.route("/countdown")
def countdown():
    def numbers():
        yield from (3, 2, 1)
        gate = os.open(GATE, os.O_RDONLY)
        os.read(gate, 1)
        os.close(gate)
        yield 0

    return stream_template_string(COUNTDOWN, numbers=numbers())


@application.route("/json", methods=["PUT"])
def json():
    return jsonify(seen=request.get_json(), path=request.full_path), 201
"#;

fn flask() -> Server {
    let conf = Conf::new("WSGIScriptAlias /site ${APPS}/flask.wsgi application-group=flask");
    Server::start_with(conf.python_home(&test_venv()), |root| {
        write(root, "apps/flask.wsgi", FLASK);
    })
}

/// Someone who has told the site this name.
fn named<'a>(server: &'a Server, name: &str) -> Browser<'a> {
    let mut browser = Browser::on(server);
    let form = Request::post("/site/name", format!("name={}", escaped(name)).as_bytes())
        .header("Content-Type", "application/x-www-form-urlencoded");
    browser.send(&form).expect(200, name);
    browser
}

#[test]
fn flask_finds_its_signed_session_again_and_no_other() {
    let server = flask();
    let mut browser = named(&server, "Zo\u{eb}");
    assert_eq!(browser.get("/site/name"), "Zo\u{eb}");
    assert_eq!(Browser::on(&server).get("/site/name"), "nobody");
    let session = browser.cookies.get_mut("session").expect("a session cookie");
    let (_, signature) = session.split_once('.').expect("a signature");
    *session = format!("eyJuYW1lIjoiZXZlcnlvbmUifQ.{signature}"); // {"name":"everyone"}
    assert_eq!(browser.get("/site/name"), "nobody");
    ends_without_an_error(server);
}

#[test]
fn a_streamed_template_of_flask_is_sent_as_it_comes() {
    let server = flask();
    let gate = server.gate("gate");
    let browser = named(&server, "Houston");
    let cookie = format!("session={}", browser.cookies["session"]);
    let mut client = server.client();
    client.send_head(&Request::get("/site/countdown").header("Cookie", &cookie).http_1_0());
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.read_bytes(14), b"Houston: 3 2 1");
    gate.open();
    assert_eq!(client.read_bytes(2), b" 0");
    drop(client);
    ends_without_an_error(server);
}

#[test]
fn flask_reads_and_answers_json() {
    let server = flask();
    let sent = r#"{"list":[1,2.5,null,true],"text":"caf\u00e9"}"#;
    let request = Request::new("PUT", "/site/json?a=b%26c")
        .header("Content-Type", "application/json")
        .body(sent.as_bytes());
    let answer = server.send(&request);
    answer.expect(201, &format!("{{\"path\":\"/json?a=b%26c\",\"seen\":{sent}}}\n"));
    assert_eq!(answer.header("Content-Type").as_deref(), Some("application/json"));
    let broken = Request::new("PUT", "/site/json").header("Content-Type", "application/json");
    assert_eq!(server.send(&broken.body(b"{")).status, 400);
    ends_without_an_error(server);
}

#[test]
fn an_error_before_a_request_of_flask_is_a_500_with_its_traceback_in_the_log() {
    let server = flask();
    let answer = server.get("/site/name?fail=1");
    assert_eq!((answer.status, answer.whole), (500, true));
    assert!(answer.text().contains("<h1>Internal Server Error</h1>"), "Flask's own page");
    for line in [
        "Exception on /name [GET]",
        "Traceback (most recent call last):",
        "in check",
        "LookupError: before the request",
    ] {
        server.log().wait_for(&[":error]", "[client 127.0.0.1:", line]);
    }
    server.get("/site/name").expect(200, "nobody");
}
