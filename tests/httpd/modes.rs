//! Where an application in a process group rightly differs from one inside httpd: docs/daemon-mode.md has
//! a row for each. Every server here has both, however the other tests run theirs.

use crate::harness::{Conf, Request, Response, Server, eventually, write};

/// `own.wsgi` in httpd's own processes below `/inside`, and in a process group below `/daemon`, of which
/// this is what stands behind its name.
fn conf(options: &str) -> Conf {
    Conf::new(&format!(
        "WSGIDaemonProcess p {options}\nWSGIApplicationGroup app\n\
         WSGIScriptAlias /inside ${{APPS}}/own.wsgi process-group=%{{GLOBAL}}\n\
         WSGIScriptAlias /daemon ${{APPS}}/own.wsgi process-group=p"
    ))
}

/// A server with this script, and a file at `/file.txt`.
fn serve(conf: Conf, script: &str) -> Server {
    Server::start_with(conf, |root| {
        write(root, "apps/own.wsgi", script);
        write(root, "docs/file.txt", "the file");
    })
}

/// What the script has noted in the folder `state`, once it is there.
fn note(server: &Server, name: &str) -> String {
    let path = server.path("state").join(name);
    eventually("a note", || std::fs::read_to_string(&path).ok().filter(|text| !text.is_empty()))
}

/// Shows its environ; with `?location=...` the response says that, `&status=` and sets a cookie.
const SHOWING: &str = r#"
import pathlib, urllib.parse

class Body(list):
    def close(self):
        state = pathlib.Path(__file__).parent.parent / "state"
        (state / "closed").write_text("yes")

def application(environ, start_response):
    asked = dict(urllib.parse.parse_qsl(environ["QUERY_STRING"]))
    if "location" in asked:
        headers = [("Location", asked["location"]), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"),
                   ("X-Own", "yes"), ("Content-Type", "text/x-own")]
        start_response(asked.get("status", "200 OK"), headers)
        return Body([b"its own body, "] * int(asked.get("blocks", "1")))
    start_response("200 OK", [("Content-Type", "text/plain")])
    read = environ["wsgi.input"].read()
    facts = {**environ, "read": read}
    return [f"{key}\t{value!r}\n".encode() for key, value in facts.items()]
"#;

/// The answer of an application itself, and not of what it names.
#[track_caller]
fn is_its_own(answer: &Response, status: u16, location: &str) {
    answer.expect(status, "its own body, ");
    assert_eq!(answer.header("Location").as_deref(), Some(location));
    assert_eq!(answer.header("X-Own").as_deref(), Some("yes"));
}

/// The answer of `/file.txt`, with the cookies of the application that has named it.
#[track_caller]
fn is_the_file(answer: &Response) {
    answer.expect(200, "the file");
    assert_eq!(answer.all("Set-Cookie"), ["a=1", "b=2"]);
    for name in ["Location", "X-Own"] {
        assert_eq!(answer.header(name), None);
    }
    assert_ne!(answer.header("Content-Type").as_deref(), Some("text/x-own"));
}

#[test]
fn a_200_that_names_a_path_of_the_server_is_answered_by_what_is_there() {
    let server = serve(conf(""), SHOWING);
    is_its_own(&server.get("/inside?location=/file.txt"), 200, "/file.txt");
    let mut client = server.client();
    for blocks in [1, 3, 100_000] {
        is_the_file(
            &client.send(&Request::get(&format!("/daemon?location=/file.txt&blocks={blocks}"))),
        );
        assert_eq!(note(&server, "closed"), "yes");
        std::fs::remove_file(server.path("state/closed")).expect("the note goes");
    }
    let head = client.send(&Request::new("HEAD", "/daemon?location=/file.txt"));
    assert_eq!((head.status, head.header("Content-Length").as_deref()), (200, Some("8")));
    assert_eq!(client.send(&Request::get("/daemon?location=/none.txt")).status, 404);
    for (status, location) in [
        (201, "/file.txt"),
        (302, "/file.txt"),
        (200, "http://other.test/file.txt"),
        (200, "file.txt"),
    ] {
        let url = format!("/daemon?location={location}&status={status}%20Said");
        is_its_own(&client.send(&Request::get(&url)), status, location);
    }
}

#[test]
fn what_answers_in_place_of_an_application_is_asked_by_get_without_a_body() {
    // With one thread, the application that is named needs the one that has named it.
    let server = serve(conf("threads=1").and("WSGIChunkedRequest On"), SHOWING);
    let mut client = server.client();
    let url = "/daemon/first?location=/daemon/second%3Fa%3D1";
    let chunks = [b"3\r\nabc\r\n".repeat(10_000), b"0\r\n\r\n".to_vec()].concat();
    let chunked = Request::new("POST", url).header("Transfer-Encoding", "chunked");
    for chunked in [None, Some(chunked)] {
        let answer = match chunked {
            None => client.send(&Request::post(url, &[b'x'; 100_000])),
            Some(request) => {
                client.send_head(&request);
                client.write(&chunks);
                client.read("POST")
            }
        };
        assert_eq!(answer.status, 200);
        for (key, value) in [
            ("REQUEST_METHOD", "'GET'"),
            ("PATH_INFO", "'/second'"),
            ("QUERY_STRING", "'a=1'"),
            ("REDIRECT_URL", "'/daemon/first'"),
            ("read", "b''"),
        ] {
            assert_eq!(answer.fact(key), value, "{key}");
        }
        for absent in ["CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"] {
            assert_eq!(answer.maybe_fact(absent), None);
        }
    }
    assert_eq!(client.send(&Request::get("/daemon")).status, 200, "the connection goes on");
}

#[test]
fn an_application_that_names_itself_is_a_500_and_no_loop() {
    let script = "def application(environ, start_response):\n    \
                  start_response('200 OK', [('Location', '/daemon')])\n    return []\n";
    let server = serve(conf("threads=1"), script);
    assert_eq!(server.get("/daemon").status, 500);
    server.log().wait_for(&["AH00124", "internal redirects"]);
    server.get("/file.txt").expect(200, "the file");
}

#[test]
fn the_environ_says_what_the_options_of_the_group_say() {
    let shown = |options: &str| {
        let answer = serve(conf(options), SHOWING).get("/daemon");
        ["wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"].map(|key| answer.fact(key))
    };
    assert_eq!(shown(""), ["True", "False", "False"]);
    assert_eq!(shown("threads=1"), ["False", "False", "False"]);
    assert_eq!(shown("processes=1"), ["True", "True", "False"]);
    assert_eq!(shown("threads=1 maximum-requests=1"), ["False", "False", "True"]);
}

#[test]
fn the_module_says_what_the_options_of_the_group_say() {
    let script = "import mod_wsgi\ndef application(environ, start_response):\n    \
                  start_response('200 OK', [])\n    \
                  yield ascii((mod_wsgi.process_group, mod_wsgi.threads_per_process, \
                  mod_wsgi.maximum_processes)).encode()\n";
    let server = serve(conf("processes=3 threads=5").threads(7), script);
    server.get("/daemon").expect(200, "('p', 5, 3)");
    server.get("/inside").expect(200, "('', 7, 1)");
}

#[test]
fn times_of_the_way_to_a_worker_process_come_in_their_order() {
    let server = serve(conf(""), SHOWING);
    let times = |url: &str| {
        let answer = server.get(url);
        ["request", "queue", "daemon", "application"].map(|name| {
            answer.fact(&format!("mod_wsgi.{name}_start")).parse::<f64>().expect("a float")
        })
    };
    let daemon = times("/daemon");
    assert!(daemon[0] > 1e9 && daemon.is_sorted(), "{daemon:?}");
    assert_eq!(times("/inside")[1..3], [0.0, 0.0]);
}

#[test]
fn a_header_line_of_a_process_group_has_a_limit() {
    let script = "def application(environ, start_response):\n    \
                  value = 'v' * (int(environ['QUERY_STRING']) - len('X-Long: '))\n    \
                  start_response('200 OK', [('X-Long', value)])\n    return [b'fine']\n";
    let server = serve(conf("header-buffer-size=10000"), script);
    for url in ["/daemon?10000", "/inside?10000", "/inside?10001"] {
        server.get(url).expect(200, "fine");
    }
    assert_eq!(server.get("/daemon?10001").status, 500);
    server.log().wait_for(&[":error]", "MNF0043", "'X-Long'", "10001", "'p'", "[client "]);
    let server = serve(conf(""), script);
    server.get("/daemon?32768").expect(200, "fine");
    assert_eq!(server.get("/daemon?32769").status, 500);
}

/// Whether Python runs in httpd's own child, by the threads of its main interpreter.
fn runs_python(server: &Server) -> bool {
    let tasks = format!("/proc/{}/task", server.only_own_child());
    let tasks = std::fs::read_dir(tasks).expect("its threads").flatten();
    let mut names = tasks.filter_map(|it| std::fs::read_to_string(it.path().join("comm")).ok());
    names.any(|name| name.starts_with("mnf-0-"))
}

#[test]
fn a_process_group_is_named_by_the_server_the_host_the_mount_or_a_variable() {
    let named =
        ["manifold.test:${PORT}", "asked.test:${PORT}", "manifold.test:${PORT}|/mount", "chosen"];
    let groups: String = named.map(|name| format!("WSGIDaemonProcess \"{name}\"\n")).concat();
    let place = |path: &str, more: &str| format!("<Location /{path}>\n{more}\n</Location>\n");
    let conf = Conf::new(&groups)
        .with("setenvif")
        .and("WSGIScriptAlias /option ${APPS}/own.wsgi process-group=%{ENV:CHOICE}")
        .and("WSGIScriptAlias /mount ${APPS}/own.wsgi process-group=%{RESOURCE}")
        .and("WSGIScriptAlias / ${APPS}/own.wsgi application-group=app")
        .and("SetEnvIf Request_URI . CHOICE=chosen\nSetEnvIf Request_URI /again CHOICE=%{SERVER}")
        .and(&place("server", "WSGIProcessGroup %{SERVER}"))
        .and(&place("host", "WSGIProcessGroup %{HOST}"))
        .and(&place("variable", "WSGIProcessGroup %{ENV:CHOICE}"))
        .and(&place("again", "WSGIProcessGroup %{ENV:CHOICE}"))
        .and("<Location />\nRequire all granted\n</Location>");
    let server = serve(conf, SHOWING);
    let port = server.port();
    for (path, name) in [
        ("/server", format!("manifold.test:{port}")),
        ("/host", format!("asked.test:{port}")),
        ("/variable", "chosen".to_owned()),
        ("/option", "chosen".to_owned()),
        ("/again", format!("manifold.test:{port}")),
        ("/mount/x", format!("manifold.test:{port}|/mount")),
    ] {
        let answer = server.send(&Request::get(path).header("Host", &format!("asked.test:{port}")));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.fact("mod_wsgi.process_group"), format!("'{name}'"), "{path}");
    }
}

#[test]
fn httpd_runs_no_python_where_all_applications_are_in_process_groups() {
    let server = serve(conf(""), SHOWING);
    assert_eq!(server.get("/daemon").status, 200);
    assert!(!runs_python(&server));
    assert_eq!(server.get("/inside").status, 200);
    assert!(runs_python(&server), "it is started when it is needed first");
}

#[test]
fn with_restrict_embedded_process_groups_serve_and_httpd_runs_no_python() {
    let server = serve(conf("").and("WSGIRestrictEmbedded On"), SHOWING);
    for _ in 0..2 {
        assert_eq!(server.get("/daemon").status, 200);
        assert_eq!(server.get("/inside").status, 500);
    }
    server.log().wait_for_count(&[":error]", "MNF0020", "[client 127.0.0.1:"], 2);
    assert!(!runs_python(&server));
    server.graceful();
    assert_eq!(server.get("/daemon").status, 200);
    server.stop();
}

#[test]
fn with_restrict_embedded_a_hook_script_of_htaccess_is_refused_beside_a_process_group() {
    let conf = conf("").and(
        "WSGIRestrictEmbedded On\n<Directory ${DOCS}>\nAllowOverride AuthConfig\n</Directory>",
    );
    let server = Server::start_with(conf, |root| {
        write(root, "docs/here/file.txt", "the file");
        write(root, "docs/here/.htaccess", "WSGIAccessScript /nowhere.py\n");
    });
    assert_eq!(server.get("/here/file.txt").status, 500);
    server.log().wait_for(&[":error]", "MNF0020", ".htaccess only", "[client "]);
    assert!(!runs_python(&server));
}

#[test]
fn what_is_said_of_httpds_own_interpreters_is_not_said_of_a_process_group() {
    let script = "import os, sys\ndef application(environ, start_response):\n    \
                  start_response('200 OK', [])\n    \
                  facts = {'path': sys.path[0], 'interval': sys.getswitchinterval(), \
                  'eggs': os.environ.get('PYTHON_EGG_CACHE')}\n    \
                  return [f'{key}\\t{value!r}\\n'.encode() for key, value in facts.items()]\n";
    let more = "WSGIPythonPath ${ROOT}/inside\nWSGISwitchInterval 0.5\nWSGIPythonEggs /inside";
    let folders = |options: &str| {
        let server = Server::start_with(conf(options).and(more), |root| {
            write(root, "apps/own.wsgi", script);
            write(root, "inside/x.py", "");
            write(root, "group/x.py", "");
        });
        let facts = |url| {
            let answer = server.get(url);
            let path =
                answer.fact("path").rsplit('/').next().map(|it| it.trim_matches('\'').to_owned());
            (path.expect("a path"), answer.fact("interval"), answer.fact("eggs"))
        };
        (facts("/inside"), facts("/daemon"))
    };
    let inside = ("inside".to_owned(), "0.5".to_owned(), "'/inside'".to_owned());
    let (at_inside, daemon) = folders("");
    assert_eq!(at_inside, inside);
    assert_ne!(daemon.0, "inside");
    assert_eq!([&daemon.1, &daemon.2], ["0.005", "None"]);
    let (at_inside, daemon) =
        folders("python-path=${ROOT}/group switch-interval=0.25 python-eggs=/group");
    assert_eq!(at_inside, inside);
    assert_eq!(daemon, ("group".to_owned(), "0.25".to_owned(), "'/group'".to_owned()));
}

#[test]
fn what_is_said_of_interpreters_by_their_names_is_said_of_a_process_group_as_well() {
    let script = "import sys\ndef application(environ, start_response):\n    \
                  start_response('200 OK', [])\n    return [str(sys.getswitchinterval()).encode()]\n";
    let block = |selectors: &str, interval: &str| {
        format!(
            "<WSGIInterpreterOptions {selectors}>\nWSGISwitchInterval {interval}\n\
             </WSGIInterpreterOptions>\n"
        )
    };
    let both = block("application-group=app", "0.5");
    let server = serve(conf("").and(&both), script);
    server.get("/inside").expect(200, "0.5");
    server.get("/daemon").expect(200, "0.5");
    let one = both + &block("process-group=p application-group=app", "0.125");
    let server = serve(conf("").and(&one), script);
    server.get("/inside").expect(200, "0.5");
    server.get("/daemon").expect(200, "0.125");
}

#[test]
fn the_limit_of_a_request_in_scope_is_kept_and_the_process_stays() {
    let script = "import time\ndef application(environ, start_response):\n    \
                  while environ['PATH_INFO'] == '/late':\n        time.sleep(0.01)\n    \
                  start_response('200 OK', [])\n    return [b'fine']\n";
    let conf =
        conf("threads=1").and("<Location /daemon/late>\nWSGIRequestTimeout 0.3\n</Location>");
    let server = serve(conf, script);
    server.get("/daemon").expect(200, "fine");
    let workers = server.workers();
    assert_eq!(server.get("/daemon/late").status, 504);
    server.log().wait_for(&["MNF0030", "'/daemon/late'", "has ended, after"]);
    server.get("/daemon").expect(200, "fine");
    assert_eq!(server.workers(), workers);
    assert_eq!(workers.len(), 1);
}

#[test]
fn what_is_about_no_request_has_httpds_usual_form_in_the_log_of_the_groups_host() {
    let script = "import sys, threading\ndef say(text):\n    print(text, file=sys.stderr)\n\
                  def application(environ, start_response):\n    \
                  start_response('200 OK', [])\n    say('said in the request')\n    \
                  thread = threading.Thread(target=say, args=['said by a thread'])\n    \
                  thread.start()\n    thread.join()\n    return [b'fine']\n";
    let host = |name: &str, line: &str| {
        format!(
            "<VirtualHost 127.0.0.1:${{PORT}}>\nServerName {name}.test\nErrorLog logs/{name}.log\n\
             {line}\n</VirtualHost>\n"
        )
    };
    let server = serve(
        conf("").and("ErrorLogFormat \"own form: %M\"").and(&host("without", "")).and(&host(
            "own",
            "WSGIDaemonProcess q\nWSGIScriptAlias /q ${APPS}/own.wsgi process-group=q",
        )),
        script,
    );
    let ask = |host: &str, url: &str| {
        server.send(&Request::get(url).header("Host", host)).expect(200, "fine");
    };
    let said = |log: &str, text: &str| {
        eventually("a line in that log", || {
            let lines = std::fs::read_to_string(server.path("logs").join(log)).unwrap_or_default();
            lines.lines().find(|line| line.ends_with(text)).map(str::to_owned)
        })
    };
    let usual = |line: &str| line.contains("[wsgi:error] [pid ") && !line.contains("own form");
    ask("without.test", "/inside");
    assert_eq!(said("error.log", "said by a thread"), "own form: said by a thread");
    std::fs::write(server.path("logs/error.log"), "").expect("it is emptied");
    ask("without.test", "/daemon");
    assert_eq!(said("without.log", "said in the request"), "own form: said in the request");
    assert!(usual(&said("error.log", "said by a thread")));
    ask("own.test", "/q");
    assert_eq!(said("own.log", "said in the request"), "own form: said in the request");
    assert!(usual(&said("own.log", "said by a thread")));
}
