//! Scripts that change while a process group serves them. The whole application is loaded anew: from CPython
//! 3.14 on by a fresh interpreter, while the old one serves; before that by another process, which serves
//! the request that has found the change.

use crate::harness::{Conf, Request, Server, eventually, write};

use manifold::REPLACES_INTERPRETERS;

/// Says `text`, what the module `helper` says, and whether an earlier version has left something in it.
fn saying(text: &str) -> String {
    format!(
        "import helper\nfresh = not hasattr(helper, 'left')\nhelper.left = True\n\
         def handle_request(environ, start_response):\n    \
         start_response('200 OK', [])\n    \
         return [f'{text} {{helper.text}} {{fresh}}'.encode()]\n"
    )
}

/// A script that says this, in a process group with these options, and `helper` beside it.
fn serve(text: &str, options: &str, more: &str) -> Server {
    let conf = Conf::new(&format!(
        "WSGIDaemonProcess p python-path=${{ROOT}}/modules {options}\nWSGIProcessGroup p\n\
         WSGIApplicationGroup app\nWSGIHandlerScript app ${{APPS}}/own.wsgi\nSetHandler app\n{more}"
    ));
    Server::start_with(conf, |root| {
        write(root, "apps/own.wsgi", text);
        write(root, "modules/helper.py", "text = 'one'\n");
    })
}

/// Writes the script anew, with a time of its own.
fn edit(server: &Server, text: &str, seconds_from_now: i64) {
    server.write("apps/new.wsgi", text);
    server.set_time("apps/new.wsgi", seconds_from_now);
    let [new, own] = ["new", "own"].map(|name| server.path(&format!("apps/{name}.wsgi")));
    std::fs::rename(new, own).expect("it is moved");
}

/// Asks until the new version answers, which the next request gets where processes are replaced. What
/// comes on the way is the old one's answer.
#[track_caller]
fn becomes(server: &Server, url: &str, old: &str, new: &str) {
    if !REPLACES_INTERPRETERS {
        return server.get(url).expect(200, new);
    }
    eventually("the new version", || {
        let answer = server.get(url);
        let text = answer.text();
        assert!(answer.status == 200 && (text == old || text == new), "{answer:?}");
        (text == new).then_some(())
    });
}

/// Where processes are replaced, the new one cannot load a script that is broken: each request gets 500.
/// An interpreter that cannot load it takes nobody's place, and the old version goes on.
#[track_caller]
fn is_broken(server: &Server, old: &str, words: &[&str]) {
    for _ in 0..3 {
        let answer = server.get("/");
        match REPLACES_INTERPRETERS {
            true => answer.expect(200, old),
            false => assert_eq!(answer.status, 500),
        }
    }
    server.log().wait_for(&[words, &[":error]", "own.wsgi"]].concat());
    if REPLACES_INTERPRETERS {
        server.log().wait_for(&[":error]", "MNF0034", "'app'"]);
    }
}

#[test]
fn a_change_has_everything_loaded_anew() {
    for options in ["", "threads=1", "processes=2"] {
        let server = serve(&saying("first"), options, "");
        let before = server.workers();
        server.get("/").expect(200, "first one True");
        server.write("modules/helper.py", "text = 'two'\n");
        edit(&server, &saying("second"), 10);
        becomes(&server, "/", "first one True", "second two True");
        if options != "processes=2" {
            assert_eq!(server.workers() == before, REPLACES_INTERPRETERS);
            server.get("/").expect(200, "second two True");
            continue;
        }
        // The other one has its turn, and had loaded nothing.
        for _ in 0..10 {
            assert!(server.get("/").text().ends_with(" True"));
        }
    }
}

#[test]
fn the_main_interpreter_is_loaded_anew_by_another_process() {
    let server = serve(&saying("first"), "", "WSGIApplicationGroup %{GLOBAL}");
    server.get("/").expect(200, "first one True");
    let before = server.workers();
    server.write("modules/helper.py", "text = 'two'\n");
    edit(&server, &saying("second"), 10);
    server.get("/").expect(200, "second two True");
    assert_ne!(server.workers(), before);
}

#[test]
fn with_interpreter_a_change_has_everything_loaded_anew_as_well() {
    let more = "WSGIScriptReloading Interpreter\n<Location /main>\nWSGIApplicationGroup %{GLOBAL}\n\
                </Location>";
    let server = serve(&saying("first"), "", more);
    for url in ["/", "/main"] {
        server.get(url).expect(200, "first one True");
    }
    let before = server.workers();
    server.write("modules/helper.py", "text = 'two'\n");
    edit(&server, &saying("second"), 10);
    becomes(&server, "/", "first one True", "second two True");
    assert_eq!(server.workers() == before, REPLACES_INTERPRETERS);
    // Nothing but another process can load the main interpreter anew.
    server.get("/main").expect(200, "second two True");
    assert_ne!(server.workers(), before);
}

#[test]
fn the_process_that_has_found_the_change_says_so_and_leaves_no_error() {
    let server = serve(&saying("first"), "", "");
    server.get("/").expect(200, "first one True");
    edit(&server, &saying("second"), 10);
    becomes(&server, "/", "first one True", "second one True");
    if REPLACES_INTERPRETERS {
        server.log().wait_for(&[":info]", "has taken the place of", "a script has changed"]);
    } else {
        server.log().wait_for(&[":info]", "process group 'p' ends", "changed"]);
    }
    assert_eq!(server.log().lines_with(&[":error]"]), Vec::<String>::new());
}

#[test]
fn an_older_time_and_the_time_of_a_links_target_are_changes_too() {
    let server = serve(&saying("first"), "", "");
    server.get("/").expect(200, "first one True");
    edit(&server, &saying("older"), -3600);
    becomes(&server, "/", "first one True", "older one True");
    server.write("apps/elsewhere.wsgi", &saying("linked"));
    server.set_time("apps/elsewhere.wsgi", 10);
    std::fs::remove_file(server.path("apps/own.wsgi")).expect("the script goes");
    std::os::unix::fs::symlink("elsewhere.wsgi", server.path("apps/own.wsgi")).expect("a link");
    // Between the two it is gone; whoever looks then finds that, and tries again a second later.
    becomes_in_the_end(&server, "linked one True");
}

/// The same where an attempt may have failed before: the next comes not within a second of it, and with
/// another time.
fn becomes_in_the_end(server: &Server, new: &str) {
    let mut seconds = 100;
    eventually("the new version", || {
        seconds += 10;
        server.set_time("apps/own.wsgi", seconds);
        (server.get("/").text() == new).then_some(())
    });
}

#[test]
fn what_cannot_be_loaded_is_loaded_when_it_is_mended() {
    for (broken, words) in [
        ("def handle_request(:\n", &["SyntaxError"][..]),
        ("raise LookupError('half way')\n", &["MNF0005", "half way"]),
    ] {
        let server = serve(&saying("first"), "", "");
        server.get("/").expect(200, "first one True");
        edit(&server, broken, 10);
        is_broken(&server, "first one True", words);
        edit(&server, &saying("mended"), 20);
        becomes_in_the_end(&server, "mended one True");
    }
    let server = serve(&saying("first"), "", "");
    server.get("/").expect(200, "first one True");
    std::fs::remove_file(server.path("apps/own.wsgi")).expect("the script goes");
    is_broken(&server, "first one True", &["No such file"]);
    edit(&server, &saying("back"), 10);
    becomes_in_the_end(&server, "back one True");
}

#[test]
fn the_setting_in_scope_of_the_request_decides() {
    let more = "WSGIScriptReloading Off\n<Location /look>\nWSGIScriptReloading On\n</Location>";
    let server = serve(&saying("first"), "", more);
    server.get("/").expect(200, "first one True");
    edit(&server, &saying("second"), 10);
    for _ in 0..3 {
        server.get("/").expect(200, "first one True");
    }
    becomes(&server, "/look", "first one True", "second one True");
    server.get("/").expect(200, "second one True");
}

#[test]
fn reload_required_is_asked_with_the_target_and_its_yes_counts() {
    // It says yes once, and the next version finds that it was said.
    let script = "import os\nstate = os.path.join(os.path.dirname(os.path.dirname(__file__)), 'state')\n\
                  def reload_required(resource):\n    \
                  if not resource.endswith('/yes') or os.path.exists(state + '/said'):\n        \
                  return False\n    \
                  with open(state + '/said', 'w') as file:\n        file.write(resource)\n    \
                  return True\n\
                  import helper\n\
                  def handle_request(environ, start_response):\n    \
                  start_response('200 OK', [])\n    return [helper.text.encode()]\n";
    let server = serve(script, "", "");
    server.get("/no").expect(200, "one");
    server.write("modules/helper.py", "text = 'two'\n");
    server.get("/no").expect(200, "one");
    becomes(&server, "/yes", "one", "two");
    let said = std::fs::read_to_string(server.path("state/said")).expect("it was asked");
    assert_eq!(said, server.path("docs/yes").display().to_string());
}

#[test]
fn bodies_of_requests_that_find_a_change_arrive_whole() {
    let echo = "def handle_request(environ, start_response):\n    \
                start_response('200 OK', [])\n    return [environ['wsgi.input'].read()]\n";
    let server = serve(echo, "threads=2", "");
    let body = crate::harness::pattern(300_000);
    server.send(&Request::post("/", &body)).carries(&body);
    for round in 1..=5 {
        edit(&server, &format!("{echo}# {round}\n"), 10 * round);
        for answer in crate::harness::at_once(4, |_| server.send(&Request::post("/", &body))) {
            answer.carries(&body);
        }
    }
}
