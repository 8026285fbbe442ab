//! `manifold serve`: what can be served, and how it is stopped.

use crate::harness::{
    Serving, answering, eventually, folder, is_root, manifold, open_to_all, run, variable, write,
};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

#[test]
fn a_script_is_served_and_ctrl_c_stops_httpd_and_leaves_nothing() {
    let at = folder();
    let script = write(at.path(), "shop.wsgi", &answering("'hello from ' + environ['PATH_INFO']"));
    let serving = Serving::start(script.to_str().expect("a name"), &[]);
    assert_eq!(serving.get("/a/b"), "hello from /a/b");
    assert_eq!(serving.get(""), "hello from /");
    let out = serving.out();
    assert!(out.contains("application group \"shop\""), "{out}");
    let (_, root) = out.split_once("configuration in ").expect("it says where");
    let root = root.lines().next().expect("a line").to_owned();
    assert!(Path::new(&root).join("httpd.conf").is_file());
    let url = serving.url.clone();
    let (status, log) = serving.end(libc::SIGINT);
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("GET /a/b"), "requests are shown:\n{log}");
    assert!(!Path::new(&root).exists(), "{root} is left");
    let address = url.trim_start_matches("http://");
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn httpd_ends_with_a_command_that_is_killed() {
    let at = folder();
    let script = write(at.path(), "app.wsgi", &answering("'hello'"));
    let root = folder();
    let kept = root.path().join("root");
    let serving = Serving::start(
        script.to_str().expect("a name"),
        &["--server-root", kept.to_str().expect("a name")],
    );
    assert_eq!(serving.get("/"), "hello");
    let address = serving.url.trim_start_matches("http://").to_owned();
    serving.end(libc::SIGKILL);
    eventually("httpd has ended", || {
        (std::net::TcpStream::connect(&address).is_err() && !kept.join("run/httpd.pid").exists())
            .then_some(())
    });
}

#[test]
fn an_httpd_that_ends_by_itself_is_told() {
    let at = folder();
    let script = write(at.path(), "app.wsgi", &answering("'hello'"));
    let root = folder();
    let root = root.path().join("root");
    let options = ["--server-root", root.to_str().expect("a name")];
    let serving = Serving::start(script.to_str().expect("a name"), &options);
    // It may answer before.
    let pid = eventually("httpd has written it", || {
        let pid = fs::read_to_string(root.join("run/httpd.pid")).ok()?;
        pid.ends_with('\n').then_some(pid)
    });
    // As if somebody had stopped it by other means.
    let (status, log) = serving.end_of(pid.trim().parse().expect("a number"));
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("httpd ended by itself (exit status: 0)"), "{log}");
}

#[test]
fn a_module_is_served_by_its_name_from_the_working_directory() {
    let at = folder();
    write(at.path(), "pages/__init__.py", "");
    let text = answering("f'{__name__} in {os.getcwd()}'").replace("def application", "def make");
    write(at.path(), "pages/site.py", &text);
    let here = at.path().to_str().expect("a name");
    let serving = Serving::start("pages.site:make", &["--working-directory", here]);
    assert_eq!(serving.get("/"), format!("pages.site in {here}"));
}

#[test]
fn a_django_project_is_served_by_its_folder() {
    let at = folder();
    write(
        at.path(),
        "manage.py",
        "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n",
    );
    write(at.path(), "shop/__init__.py", "");
    write(
        at.path(),
        "shop/settings.py",
        "SECRET_KEY = 'for a test'\nALLOWED_HOSTS = ['*']\nROOT_URLCONF = 'shop.urls'\nDEBUG = False\n\
         STATIC_URL = 'static/'\nSTATIC_ROOT = 'collected'\nprint('a line that is in nobody\\'s way')\n",
    );
    write(at.path(), "collected/admin/base.css", "body {}\n");
    write(
        at.path(),
        "shop/urls.py",
        "from django.http import HttpResponse\nfrom django.urls import path\n\
         urlpatterns = [path('stock/<int:n>', lambda request, n: HttpResponse(f'{n} at {request.path}'))]\n",
    );
    let venv = variable("MANIFOLD_TEST_VENV");
    let serving = Serving::start(
        at.path().to_str().expect("a name"),
        &["--python-home", venv.to_str().expect("a name"), "--mount-point", "/shop"],
    );
    assert_eq!(serving.get("/stock/7"), "7 at /shop/stock/7");
    assert_eq!(serving.curl("/none", &[]).status, 404);
    assert_eq!(serving.get("/static/admin/base.css"), "body {}\n");
}

#[test]
fn saving_a_source_file_reloads_and_the_terminal_says_so() {
    for mode in [&[][..], &["--embedded-mode"]] {
        let at = folder();
        write(at.path(), "stock.py", "COUNT = 1\n");
        let script = write(at.path(), "app.wsgi", &answering("__import__('stock').COUNT"));
        let options = [&["--reload-on-changes"], mode].concat();
        let serving = Serving::start(script.to_str().expect("a name"), &options);
        assert!(serving.out().contains("the main interpreter"), "{}", serving.out());
        assert_eq!(serving.get("/"), "1");
        let changed = write(at.path(), "stock.py", "COUNT = 2222\n");
        assert_eq!(serving.get("/"), "2222", "{mode:?}");
        serving.wait_for_log(&format!("{} has changed", changed.display()));
        // A mistake is answered by 500 and shown; the next save is served.
        write(at.path(), "stock.py", "COUNT = \n");
        assert_eq!(serving.curl("/", &[]).status, 500);
        serving.wait_for_log("SyntaxError");
        write(at.path(), "stock.py", "COUNT = 33333\n");
        assert_eq!(serving.get("/"), "33333");
    }
}

#[test]
fn a_named_group_is_reloaded_as_well() {
    let at = folder();
    write(at.path(), "stock.py", "COUNT = 1\n");
    let script = write(at.path(), "app.wsgi", &answering("__import__('stock').COUNT"));
    let options = ["--reload-on-changes", "--application-group", "mine"];
    let serving = Serving::start(script.to_str().expect("a name"), &options);
    assert_eq!(serving.get("/"), "1");
    write(at.path(), "stock.py", "COUNT = 2222\n");
    eventually("the new code is served", || (serving.get("/") == "2222").then_some(()));
}

#[test]
fn without_reloading_an_imported_file_stays_and_the_script_does_not() {
    let at = folder();
    write(at.path(), "stock.py", "COUNT = 1\n");
    let script = write(at.path(), "app.wsgi", &answering("__import__('stock').COUNT"));
    let serving = Serving::start(script.to_str().expect("a name"), &[]);
    assert_eq!(serving.get("/"), "1");
    write(at.path(), "stock.py", "COUNT = 2222\n");
    assert_eq!(serving.get("/"), "1");
    write(at.path(), "app.wsgi", &answering("'another'"));
    // Where interpreters can be replaced, the old one serves until the new one has loaded it.
    eventually("the new script is served", || (serving.get("/") == "another").then_some(()));
}

#[test]
fn an_application_that_does_not_load_is_shown_before_any_request() {
    let at = folder();
    let script = write(at.path(), "app.wsgi", "import no_such_package\n");
    let serving = Serving::start(script.to_str().expect("a name"), &[]);
    serving.wait_for_log("No module named 'no_such_package'");
    assert_eq!(serving.curl("/", &[]).status, 500);
}

#[test]
fn an_ordinary_user_serves_as_himself() {
    let at = folder();
    let script = write(at.path(), "app.wsgi", &answering("os.getuid()"));
    let mut command = manifold();
    let mut uid = nobody();
    if is_root() {
        // Copies, where that user can read them.
        for (name, file) in [
            ("manifold", env!("CARGO_BIN_EXE_manifold").into()),
            ("libmod_manifold.so", variable("MANIFOLD_MODULE")),
            ("manifold-worker", variable("MANIFOLD_MODULE").with_file_name("manifold-worker")),
        ] {
            fs::copy(file, at.path().join(name)).expect("a copy");
            open_to_all(&at.path().join(name), 0o755);
        }
        command = std::process::Command::new(at.path().join("manifold"));
        command.uid(uid).gid(uid).env_remove("MANIFOLD_MODULE").env_remove("MANIFOLD_WORKER");
        command
            .env_remove("MANIFOLD_USER")
            .env("HOME", "/")
            .env_remove("VIRTUAL_ENV")
            .current_dir("/");
    } else {
        // SAFETY: it takes nothing, and cannot fail.
        uid = unsafe { libc::geteuid() };
    }
    command.arg("serve").arg(&script).args(["--port", "0"]);
    let serving = Serving::spawn(command);
    assert_eq!(serving.get("/"), uid.to_string());
    let (status, log) = serving.end(libc::SIGTERM);
    assert!(status.success(), "{log}");
}

#[test]
fn root_drops_to_a_user_who_must_be_able_to_read_the_script() {
    if !is_root() {
        eprintln!("left out: only root's httpd becomes another user");
        return;
    }
    let at = folder();
    let script = write(at.path(), "app.wsgi", &answering("os.getuid()"));
    let name = script.to_str().expect("a name");
    let serving = Serving::start(name, &["--user", "nobody"]);
    assert_eq!(serving.get("/"), nobody().to_string());
    drop(serving);
    open_to_all(&script, 0o600);
    let said = run(manifold().args(["serve", name, "--user", "nobody"]));
    said.expect_failure("as nobody, who cannot read");
    said.expect_failure("app.wsgi (mode 600)");
    open_to_all(&script, 0o644);
    open_to_all(at.path(), 0o700);
    let said = run(manifold().args(["serve", name, "--user", "nobody"]));
    said.expect_failure(&format!("{} (mode 700)", at.path().display()));
}

/// The number of a user who can do nothing.
fn nobody() -> u32 {
    let output = std::process::Command::new("id").args(["-u", "nobody"]).output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

#[test]
fn what_cannot_be_served_is_said_before_httpd_starts() {
    let at = folder();
    let script = write(at.path(), "app.wsgi", &answering("'hello'"));
    let script = script.to_str().expect("a name");
    let here = at.path().to_str().expect("a name");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for (arguments, text) in [
        (&["/no/such/script.wsgi"][..], "there is no file or folder /no/such/script.wsgi"),
        (&[here], "a folder without manage.py"),
        (&[script, "--port", &port], "cannot listen on 127.0.0.1"),
        (&[script, "--python-home", here], "is no Python home: it has neither"),
        (
            &[script, "--document-root", "/no/such"],
            "--document-root /no/such: there is no such folder",
        ),
        (&[script, "--mount-point", "shop"], "--mount-point shop: a path of a URL begins with /"),
        (&[script, "--log-level", "loud"], "httpd does not accept"),
        (&[script, "--module", "/no/module.so"], "there is no file /no/module.so"),
    ] {
        let said = run(manifold().arg("serve").args(arguments));
        said.expect_failure(text);
    }
}
