//! `manifold setup`: a folder for keeping.

use crate::harness::{answering, curl, eventually, folder, manifold, run, write};
use crate::port::Port;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

fn control(root: &Path, order: &str) {
    run(Command::new(root.join("apachectl")).arg(order)).expect_ok();
}

#[test]
fn a_server_that_is_set_up_is_started_reloaded_and_stopped_by_its_apachectl() {
    let at = folder();
    let script = write(at.path(), "app.wsgi", &answering("'one'"));
    let root = at.path().join("server");
    let held = Port::hold("127.0.0.1:0").expect("a port");
    let port = held.number();
    let url = format!("http://127.0.0.1:{port}/");
    let set_up = |options: &[&str]| {
        let mut command = manifold();
        command.arg("setup").arg(&script).arg("--server-root").arg(&root);
        run(command.args(["--port", &port.to_string()]).args(options)).expect_ok()
    };
    let said = set_up(&["--access-log"]);
    assert_eq!(said.out.trim(), root.join("apachectl").to_str().expect("a name"));
    // It may hold what --setenv says.
    let mode = fs::metadata(root.join("httpd.conf")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    control(&root, "configtest");
    control(&root, "start");
    let is_up = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let _stop = Stop(&root);
    eventually("httpd is up", || is_up().then_some(()));
    assert_eq!(curl(&url, &[]).body, "one");
    let log = fs::read_to_string(root.join("logs/error_log")).expect("a log");
    assert!(log.contains("resuming normal operations"), "{log}");
    eventually("the request is logged", || {
        fs::read_to_string(root.join("logs/access_log")).ok().filter(|log| log.contains("GET /"))
    });
    control(&root, "graceful");
    assert_eq!(curl(&url, &[]).body, "one");
    control(&root, "stop");
    eventually("httpd has stopped", || (!is_up()).then_some(()));
    // What was written is written over, with other options.
    set_up(&["--mount-point", "/below"]);
    let conf = fs::read_to_string(root.join("httpd.conf")).expect("a configuration");
    assert!(conf.contains("/below"), "{conf}");
}

/// Whatever a test comes to.
struct Stop<'a>(&'a Path);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        if self.0.join("run/httpd.pid").exists() {
            let _ = Command::new(self.0.join("apachectl")).arg("stop").output();
        }
    }
}

#[test]
fn a_folder_with_files_of_somebody_else_is_left_alone() {
    let at = folder();
    let script = write(at.path(), "app.wsgi", &answering("'one'"));
    let mut command = manifold();
    command.arg("setup").arg(&script).arg("--server-root").arg(at.path()).args(["--port", "0"]);
    run(&mut command).expect_failure("holds files that are not manifold's");
    assert!(!at.path().join("httpd.conf").exists());
    let long = at.path().join("x".repeat(90));
    let mut command = manifold();
    command.arg("setup").arg(&script).arg("--server-root").arg(&long).args(["--port", "0"]);
    run(&mut command).expect_failure("bytes, and 107 fit: choose a shorter --server-root");
    assert!(!long.exists());
}
