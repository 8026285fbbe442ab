//! `SetHandler wsgi-status` and `wsgi-health`, and the section in mod_status's page.

use crate::harness::{
    Conf, Request, Response, Server, by_daemon, eventually, process_group, write,
};
use serde_json::Value;
use std::process::{Command, Stdio};

/// What is asked beside the application.
pub(crate) const HANDLERS: &str = "<Location /status>\nSetHandler wsgi-status\n</Location>\n\
                        <Location /health>\nSetHandler wsgi-health\n</Location>";

fn conf() -> Conf {
    Conf::serving("metrics.wsgi").and(HANDLERS)
}

fn serve() -> Server {
    Server::start(conf())
}

fn json(server: &Server) -> Value {
    let response = server.get("/status?json");
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_str(&response.text()).expect("it is JSON")
}

/// Ends a process of this test's server as nothing should.
fn kill(process: u32) {
    let process = libc::pid_t::try_from(process).expect("a process id fits");
    // SAFETY: kill takes no pointers; the process is one of this test's server.
    assert_eq!(unsafe { libc::kill(process, libc::SIGKILL) }, 0, "it is there");
}

/// The entry of that name in a list.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let entries = list.as_array().expect("a list");
    entries
        .iter()
        .find(|entry| entry["name"] == name)
        .unwrap_or_else(|| panic!("no '{name}' in {list:#}"))
}

/// The application group that serves requests, in the process group that it runs in.
fn app(status: &Value) -> Value {
    named(&process_group_of(status)["application_groups"], "app").clone()
}

/// What is counted for the application group `app`, in the process group that it runs in.
pub(crate) fn total(server: &Server, counter: &str) -> u64 {
    count(&app(&json(server))["totals"][counter])
}

/// What is counted for a process group.
pub(crate) fn total_of(server: &Server, process_group: &str, counter: &str) -> u64 {
    count(&named(&json(server)["process_groups"], process_group)[counter])
}

fn process_group_of(status: &Value) -> &Value {
    named(&status["process_groups"], process_group())
}

fn count(of: &Value) -> u64 {
    of.as_u64().unwrap_or_else(|| panic!("{of} is no count"))
}

#[test]
fn requests_are_counted_by_their_status_and_time_and_bytes() {
    let server = serve();
    server.send(&Request::post("/echo", b"12345678")).expect(200, "12345678");
    assert_eq!(server.get("/missing").status, 404);
    assert_eq!(server.get("/raise").status, 500);
    let status = json(&server);
    let group = app(&status);
    let totals = &group["totals"];
    assert_eq!(totals["requests"], 3);
    for (class, expected) in [("1xx", 0), ("2xx", 1), ("3xx", 0), ("4xx", 1), ("5xx", 1)] {
        assert_eq!(totals["status"][class], expected, "{class}");
    }
    assert_eq!((&totals["bytes_in"], &totals["bytes_out"]), (&8.into(), &8.into()));
    let buckets = totals["latency"]["buckets"].as_array().expect("buckets");
    assert_eq!(buckets.iter().map(|bucket| count(&bucket["count"])).sum::<u64>(), 3);
    assert!(buckets.last().expect("a bucket")["le"].is_null());
    for time in ["p50", "p90", "p99", "seconds"] {
        assert!(totals["latency"][time].as_f64().expect(time) > 0.0, "{time}");
    }
    assert!(totals["application_seconds"].as_f64().expect("a time") > 0.0);
    assert_eq!(group["queue"]["waiting"], 0);
    assert!(count(&group["queue"]["limit"]) >= 8, "{group:#}");
    let replica = &group["replicas"][0];
    assert_eq!((&replica["state"], &replica["serving"]), (&"serving".into(), &0.into()));
    assert_eq!(replica["pid"], server.only_child());
    assert_eq!(count(&group["threads"]["idle"]), count(&replica["threads"]));
    let process = &process_group_of(&status)["processes"][0];
    assert_eq!(process["pid"], server.only_child());
    assert!(count(&process["resident_bytes"]) > 1 << 20);
    assert_eq!((&status["ready"], &status["reasons"]), (&true.into(), &Value::Array(vec![])));
}

#[test]
fn the_last_error_is_told_without_what_was_said_in_it() {
    let server = serve();
    server.get("/echo").expect(200, "");
    assert!(app(&json(&server))["last_error"].is_null());
    assert_eq!(server.get("/raise").status, 500);
    let group = app(&json(&server));
    let text = group["last_error"]["text"].as_str().expect("a text");
    assert!(text.contains("KeyError") && text.contains("MNF"), "{text}");
    assert!(!text.contains("on purpose"), "{text}");
    assert!(count(&group["last_error"]["time"]) > 1_700_000_000);
    assert_eq!(group["totals"]["errors"], 1);
}

#[test]
fn a_request_that_runs_and_those_that_wait_are_seen() {
    let conf = Conf::serving("busy.wsgi").and("WSGIInterpreterThreads 1").and(HANDLERS);
    let server = Server::start(conf);
    let flags = server.flags();
    let seen = |threads: Threads, waiting: u64| {
        eventually("it is seen", || {
            let group = app(&json(&server));
            let now = (Threads::of(&group), count(&group["queue"]["waiting"]));
            (now == (threads, waiting)).then_some(())
        });
    };
    let computes = Threads { serving: 1, running: 1, blocked: 0 };
    std::thread::scope(|scope| {
        scope.spawn(|| server.get("/"));
        flags.begun();
        seen(computes, 0);
        scope.spawn(|| server.get("/"));
        seen(computes, 1);
        flags.finish();
    });
    seen(Threads { serving: 0, running: 0, blocked: 0 }, 0);
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Threads {
    serving: u64,
    running: u64,
    blocked: u64,
}

impl Threads {
    fn of(group: &Value) -> Self {
        let [serving, running, blocked] =
            ["serving", "running", "blocked"].map(|name| count(&group["threads"][name]));
        Self { serving, running, blocked }
    }
}

#[test]
fn a_request_that_waits_for_something_is_seen_to_be_blocked() {
    let server = serve();
    server.get("/echo").expect(200, "");
    std::thread::scope(|scope| {
        scope.spawn(|| server.get("/wait"));
        let blocked = Threads { serving: 1, running: 0, blocked: 1 };
        eventually("it is seen", || (Threads::of(&app(&json(&server))) == blocked).then_some(()));
        server.get("/release").expect(200, "");
    });
}

#[test]
fn a_request_that_finds_no_room_is_counted_as_refused() {
    let limits = "WSGIInterpreterThreads 1\nWSGIQueueLimit 1";
    let conf = Conf::serving("busy.wsgi").and(limits).and(HANDLERS);
    let server = Server::start(conf.inside_httpd("the limit is that of httpd's own processes"));
    let group =
        || named(&named(&json(&server)["process_groups"], "")["application_groups"], "app").clone();
    let flags = server.flags();
    std::thread::scope(|scope| {
        scope.spawn(|| server.get("/"));
        flags.begun();
        scope.spawn(|| server.get("/"));
        eventually("it waits", || (count(&group()["queue"]["waiting"]) == 1).then_some(()));
        assert_eq!(server.get("/").status, 503);
        flags.finish();
    });
    let group = group();
    assert_eq!((&group["totals"]["refused"], &group["queue"]["limit"]), (&1.into(), &1.into()));
    assert_eq!(group["totals"]["requests"], 2);
}

#[test]
fn a_request_that_takes_too_long_and_its_thread_are_counted() {
    let server =
        Server::start(conf().and("<Location /wait>\nWSGIRequestTimeout 0.2 0.2\n</Location>"));
    assert_eq!(server.get("/wait").status, 504);
    eventually("its thread is given up", || {
        let group = app(&json(&server));
        let totals = &group["totals"];
        (totals["timeouts"] == 1 && totals["quarantined"] == 1).then_some(())
    });
    assert_eq!(app(&json(&server))["stuck"], 0);
    server.get("/release").expect(200, "");
}

#[test]
fn a_script_that_is_loaded_again_is_counted() {
    let script = "def handle_request(environ, start_response):\n    \
                  start_response('200 OK', [])\n    return [b'one']\n";
    let conf = Conf::new(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/changed.wsgi\n\
                          <Location />\nSetHandler app\n</Location>",
    )
    .and(HANDLERS)
    .inside_httpd("a process group replaces a process instead");
    let server = Server::start_with(conf, |root| write(root, "apps/changed.wsgi", script));
    server.get("/").expect(200, "one");
    server.write("apps/changed.wsgi", &script.replace("one", "two"));
    server.get("/").expect(200, "two");
    let reloads = || {
        let groups = json(&server)["process_groups"].clone();
        count(&named(&named(&groups, "")["application_groups"], "app")["totals"]["reloads"])
    };
    eventually("it is counted, when nobody waits for it", || (reloads() == 1).then_some(()));
}

#[test]
fn what_was_counted_survives_the_death_of_its_process_and_a_restart() {
    let server = serve();
    let requests = || count(&app(&json(&server))["totals"]["requests"]);
    for _ in 0..3 {
        server.get("/echo").expect(200, "");
    }
    let first = server.only_child();
    kill(first);
    eventually("another process serves", || {
        let next = server.children();
        (!next.is_empty() && !next.contains(&first)).then_some(())
    });
    server.get("/echo").expect(200, "");
    let before = requests();
    assert_eq!(before, 4);
    let status = json(&server);
    let group = app(&status);
    assert_eq!(group["replicas"].as_array().expect("a list").len(), 1, "{group:#}");
    assert_ne!(group["replicas"][0]["pid"], first);
    assert!(count(&process_group_of(&status)["starts"]) >= 2);
    if by_daemon() {
        assert_eq!(process_group_of(&status)["deaths"], 1);
        assert!(count(&process_group_of(&status)["connects"]) >= 2);
    }
    server.graceful();
    server.get("/echo").expect(200, "");
    eventually("it is counted", || (requests() > before).then_some(()));
}

#[test]
fn where_there_is_no_memory_for_counters_requests_are_served_and_a_line_says_why() {
    // Files may have 100 KiB, in blocks of 512 bytes: the counters have more, and are a file to the kernel.
    let server = Server::start(conf().behind("trap '' XFSZ; ulimit -f 200"));
    assert_eq!(server.get("/").status, 200);
    server.log().wait_for(&[":warn]", "MNF0054", "cannot share what they count", "File too large"]);
    json(&server);
    server.stop();
}

#[test]
fn a_client_gets_the_form_that_it_accepts() {
    let server = serve();
    let asked = |accept: &str| -> Response {
        server.send(&Request::get("/status").header("Accept", accept))
    };
    for (accept, kind) in [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("application/json", "application/json"),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", "text/plain"),
    ] {
        let response = asked(accept);
        let found = response.header("Content-Type").expect("a type");
        assert!(found.starts_with(kind), "{accept}: {found}");
        assert_eq!(response.header("Cache-Control").as_deref(), Some("no-store"));
    }
}

#[test]
fn only_a_get_is_answered_and_httpd_says_who_may_ask() {
    let denied = "<Location /denied>\nSetHandler wsgi-status\nRequire all denied\n</Location>";
    let server = Server::start(conf().and(denied));
    becomes_ready(&server, "/health");
    for path in ["/status", "/health"] {
        let refused = server.send(&Request::post(path, b"x"));
        assert_eq!(refused.status, 405);
        assert_eq!(server.send(&Request::new("HEAD", path)).status, 200);
    }
    assert_eq!(server.get("/denied?json").status, 403);
}

#[test]
fn it_is_ready_once_it_serves() {
    becomes_ready(&serve(), "/health");
}

/// Worker processes may still be starting when httpd answers.
pub(crate) fn becomes_ready(server: &Server, path: &str) {
    let ready = eventually("it is ready", || {
        let answer = server.get(path);
        (answer.status == 200).then_some(answer)
    });
    ready.expect(200, "ready\n");
}

#[test]
fn it_is_not_ready_while_no_process_of_a_group_runs_and_says_so() {
    let server = Server::start_with(
        Conf::new("WSGIDaemonProcess shop worker=${ROOT}/worker")
            .inside_httpd("it says itself what runs where")
            .and(HANDLERS),
        |root| {
            write(root, "worker", "#!/bin/sh\nexit 1\n");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(root.join("worker"), mode).expect("permissions");
        },
    );
    let refused = eventually("it is not ready", || {
        let answer = server.get("/health");
        (answer.status == 503).then_some(answer)
    });
    refused.expect(503, "not ready: no process of process group 'shop' runs\n");
    assert_eq!(refused.header("Retry-After").as_deref(), Some("1"));
    let status = json(&server);
    assert_eq!(status["ready"], false);
    let deaths = || count(&named(&json(&server)["process_groups"], "shop")["deaths"]);
    eventually("deaths are counted", || (deaths() > 0).then_some(()));
}

#[test]
fn the_page_of_mod_status_has_a_section() {
    let server = Server::start(
        Conf::serving("metrics.wsgi")
            .and("WSGIApplicationGroup \"<b>bold\"")
            .with("status")
            .and("<Location /all>\nSetHandler server-status\n</Location>"),
    );
    server.get("/echo").expect(200, "");
    let page = server.get("/all").text();
    assert!(page.contains("WSGI applications"), "{page}");
    assert!(page.contains("&lt;b&gt;bold") && !page.contains("<b>bold"), "{page}");
    let lines = server.get("/all?auto").text();
    assert!(lines.lines().any(|line| line == "WsgiRequests: 1"), "{lines}");
}

#[test]
fn an_application_sees_what_the_whole_server_counts_where_it_may() {
    let script = "import json, mod_wsgi\ndef application(environ, start_response):\n    \
                  start_response('200 OK', [])\n    \
                  return [json.dumps(mod_wsgi.server_metrics()).encode()]\n";
    let conf = |inside: &str, option: &str| {
        Conf::new(&format!(
            "WSGIServerMetrics {inside}\nWSGIDaemonProcess shop {option}\nWSGIDaemonProcess other\n\
             WSGIScriptAlias /inside ${{APPS}}/told.wsgi process-group=%{{GLOBAL}} application-group=a\n\
             WSGIScriptAlias /shop ${{APPS}}/told.wsgi process-group=shop application-group=b\n\
             WSGIScriptAlias /other ${{APPS}}/told.wsgi process-group=other application-group=c"
        ))
    };
    let start = |conf: Conf| Server::start_with(conf, |root| write(root, "apps/told.wsgi", script));
    let server = start(conf("On", "server-metrics=On"));
    for path in ["/inside", "/shop"] {
        server.get(path);
    }
    server.get("/other").expect(200, "null");
    for path in ["/inside", "/shop"] {
        let metrics: Value = serde_json::from_str(&server.get(path).text()).expect("JSON");
        let groups = &metrics["process_groups"];
        for (process_group, group) in [("", "a"), ("shop", "b"), ("other", "c")] {
            let group = named(&named(groups, process_group)["application_groups"], group).clone();
            assert!(count(&group["totals"]["requests"]) >= 1, "{path}: {group:#}");
        }
    }
    let server = start(conf("Off", "server-metrics=Off"));
    for path in ["/inside", "/shop"] {
        server.get(path).expect(200, "null");
    }
}

/// The names that browsers of Chromium's family have.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

#[test]
fn the_page_shows_the_figures_in_a_browser_and_names_are_text_in_it() {
    let found = BROWSERS
        .iter()
        .find(|name| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok());
    let Some(browser) = found else {
        println!("left out: none of {BROWSERS:?} is installed (apt-get install chromium)");
        return;
    };
    let server = Server::start(
        Conf::serving("metrics.wsgi").and("WSGIApplicationGroup \"<b>bold</b>\"").and(HANDLERS),
    );
    for _ in 0..7 {
        server.get("/echo").expect(200, "");
    }
    assert_eq!(server.get("/raise").status, 500);
    let profile = tempfile::tempdir().expect("a folder");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--dump-dom"])
        .arg("--virtual-time-budget=7000")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{}/status", server.address()))
        .output()
        .expect("the browser runs");
    let page = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    // It was filled in more than once.
    let shown = page.split("data-shown=\"").nth(1).and_then(|text| text.split('"').next());
    let shown: u32 = shown.and_then(|text| text.parse().ok()).unwrap_or(0);
    assert!(shown >= 2, "{shown} times: {page}\n{said}");
    for text in [
        "<h3>&lt;b&gt;bold&lt;/b&gt;</h3>",
        "<dt>requests</dt><dd>8</dd>",
        "7 · 0 · 0 · 1",
        "KeyError",
        "class=\"badge good\" role=\"status\">ready<",
        "<svg class=\"plot\"",
    ] {
        assert!(page.contains(text), "{text} in {page}\n{said}");
    }
    // A browser says in there what its policy has kept from being loaded, or has failed.
    for word in ["Refused to", "Uncaught", "violates"] {
        assert!(!said.contains(word), "{said}");
    }
}
