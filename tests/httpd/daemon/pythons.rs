//! Two Python versions under one httpd. The second worker program is built by `scripts/two-pythons`.

use super::{groups, signal};
use crate::harness::{Server, at_once, eventually, write};
use std::process::Command;

/// Says which Python it runs on, and uses something of that one's extension modules.
const VERSION: &str = "
import decimal, json, os, sys, zlib

def application(environ, start_response):
    assert zlib.decompress(zlib.compress(json.dumps(str(decimal.Decimal('0.1'))).encode())) == b'\"0.1\"'
    start_response('200 OK', [('X-Process', str(os.getpid()))])
    return ['.'.join(map(str, sys.version_info[:2])).encode()]
";

#[test]
fn two_groups_and_httpd_itself_run_two_python_versions() {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(worker) = variable("MANIFOLD_WORKER_OTHER") else {
        println!("left out: scripts/two-pythons builds a worker for another Python and runs this");
        return;
    };
    let home = variable("MANIFOLD_PYTHON_HOME_OTHER").expect("the home of that Python");
    let said = Command::new(&worker).arg("--version").output().expect("the worker runs").stdout;
    let said = String::from_utf8(said).expect("text");
    let (_, other) = said.trim_end().rsplit_once("Python ").expect("it says its Python");
    let own = manifold::PYTHON_VERSION;
    assert_ne!(other, own, "{worker} is for another Python");
    println!("httpd and one group on Python {own}, another group on Python {other}");

    let server = Server::start_with(
        groups(&format!(
            "WSGIDaemonProcess own threads=4\n\
             WSGIDaemonProcess other threads=4 worker={worker} python-home={home}\n\
             WSGIScriptAlias /own ${{APPS}}/version.wsgi process-group=own application-group=a\n\
             WSGIScriptAlias /other ${{APPS}}/version.wsgi process-group=other application-group=a\n\
             WSGIScriptAlias /httpd ${{APPS}}/version.wsgi application-group=a\n\
             <Location />\nRequire all granted\n</Location>"
        )),
        |root| write(root, "apps/version.wsgi", VERSION),
    );
    let expected = [("/own", own), ("/other", other), ("/httpd", own)];
    let asks = || {
        at_once(6, |number| {
            let (path, version) = expected[number % 3];
            (0..20).for_each(|_| server.get(path).expect(200, version));
        });
    };
    asks();
    server.graceful();
    asks();
    // Whoever takes the place of a process is of the same program.
    let process = || {
        let answer = server.get("/other");
        answer.header("X-Process").and_then(|id| id.parse::<u32>().ok()).expect("a process id")
    };
    let former = process();
    signal(former, libc::SIGTERM);
    eventually("another process", || Some(()).filter(|()| process() != former));
    asks();
}
