//! Worker processes that cannot be started, or whose sockets cannot be made; and what is left behind.

use super::{conf, groups, process, serve, sockets};
use crate::harness::{Server, eventually, fails_to_start, test_venv};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// A worker program at this place.
fn put_worker(place: &Path) {
    // Written whole before it can be started.
    let text = format!("#!/bin/sh\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_manifold-worker"));
    fs::write(place.with_extension("new"), text).expect("a program");
    fs::set_permissions(place.with_extension("new"), Permissions::from_mode(0o755)).expect("ours");
    fs::rename(place.with_extension("new"), place).expect("it is moved");
}

#[test]
fn a_worker_program_that_comes_later_is_started_then() {
    let server = serve("connect-timeout=1 worker=${ROOT}/apps/late-worker");
    assert_eq!(server.get("/").status, 503);
    server.log().wait_for(&[":crit]", "MNF0045", "/apps/late-worker", "tries again"]);
    put_worker(&server.path("apps/late-worker"));
    eventually("it is tried again", || Some(()).filter(|()| server.get("/").status == 200));
    server.graceful();
    process(&server);
}

#[test]
fn httpd_restarts_and_stops_where_no_worker_process_can_be_started() {
    for more in ["", "WSGISocketRotation Off"] {
        let server =
            Server::start(conf("connect-timeout=1 worker=/nowhere/manifold-worker").and(more));
        assert_eq!(server.get("/").status, 503);
        server.graceful();
        assert_eq!(server.get("/").status, 503);
        assert_eq!(sockets(&server).len(), 1);
        // The end of every test looks whether a socket is left.
        server.stop();
    }
}

/// A small file system, which goes with this.
struct Small(tempfile::TempDir);

impl Small {
    /// `None` where this process may not mount any.
    fn mount() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("manifold-").tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "mode=755,nr_inodes=8", "manifold-test"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            Ok(output) => {
                println!("left out: no mount: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                println!("left out: no mount: {error}");
                None
            }
        }
    }

    /// Fills it.
    fn fill(&self) {
        let full = (0..100).any(|number| fs::write(self.file(number), "").is_err());
        assert!(full, "it has an end");
    }

    /// Makes some room.
    fn clear(&self) {
        (0..3).for_each(|number| fs::remove_file(self.file(number)).expect("a file goes"));
    }

    fn file(&self, number: u32) -> std::path::PathBuf {
        self.0.path().join(format!("file{number}"))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Where it fails, the folder cannot be removed either, and that shows.
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_file_system_at_the_socket_is_a_503_until_there_is_room() {
    let Some(small) = Small::mount() else { return };
    small.fill();
    let prefix = format!("WSGISocketPrefix {}/wsgi", small.0.path().display());
    let inside = "<Location /inside>\nWSGIProcessGroup %{GLOBAL}\nSetHandler app\n</Location>\n\
                  WSGIHandlerScript app ${APPS}/hello.wsgi application-group=app";
    let server = Server::start(conf("connect-timeout=1").and(&prefix).and(inside));
    assert_eq!(server.get("/").status, 503);
    let line = ["MNF0045", "No space left", "'shop'", "make room", "WSGISocketPrefix"];
    server.log().wait_for(&[&[":crit]"], &line[..]].concat());
    // httpd's other work goes on, and so do its restarts.
    server.graceful();
    assert_eq!(server.get("/").status, 503);
    small.clear();
    eventually("it is tried again", || Some(()).filter(|()| server.get("/").status == 200));
    server.graceful();
    process(&server);
    server.stop();
    let left: Vec<_> = fs::read_dir(small.0.path()).expect("a folder").flatten().collect();
    assert!(left.iter().all(|entry| entry.path().extension().is_none()), "{left:?}");
}

#[test]
fn a_start_that_fails_half_way_leaves_no_socket_behind() {
    let conf = groups("WSGIDaemonProcess one processes=2\nWSGIDaemonProcess two");
    // The second group's socket cannot be made: a folder has its name.
    let conf = conf.behind("mkdir -p run/wsgi.$$.0.2.sock/in/the/way");
    let (root, said) = fails_to_start(&conf);
    assert!(said.contains("MNF0045") && said.contains("'two'"), "{said}");
    let left: Vec<_> = fs::read_dir(root.path().join("run")).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].path().is_dir());
}

#[test]
fn httpd_as_one_process_leaves_no_socket_behind() {
    // What `httpd -X` does.
    let server = Server::start(conf("").and("Define DEBUG"));
    process(&server);
    assert_eq!(sockets(&server).len(), 1);
    server.begin_stop_at_rest();
    eventually("its socket goes", || Some(()).filter(|()| sockets(&server).is_empty()));
    server.ended();
}

#[test]
fn the_smallest_stack_that_is_accepted_is_enough_for_a_framework() {
    let conf = groups(
        "WSGIDaemonProcess small threads=4 stack-size=262144\nWSGIProcessGroup small\n\
         WSGIScriptAlias /main ${APPS}/site.wsgi application-group=%{GLOBAL} callable-object=app\n\
         WSGIScriptAlias /own ${APPS}/site.wsgi application-group=own callable-object=app\n\
         <Location />\nRequire all granted\n</Location>",
    );
    let server = Server::start(conf.python_home(&test_venv()));
    for url in ["/main/", "/own/", "/main/items", "/own/items"] {
        assert_eq!(server.get(url).status, 200, "{url}");
    }
}
