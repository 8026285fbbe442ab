//! Who the worker processes of a process group are, where, and what they may use, as an application in
//! one sees it.

use crate::harness::{Conf, Response, Server};

/// What the application says in a process group with these options; nothing where httpd does not run
/// as root.
fn in_process_group(options: &str) -> Option<Response> {
    if !nix::unistd::geteuid().is_root() {
        println!("left out: it takes root to change the user");
        return None;
    }
    let conf = Conf::serving("identity.wsgi")
        .and(&format!("WSGIDaemonProcess workers {options}\nWSGIProcessGroup workers"));
    let answer = Server::start(conf).get("/");
    assert_eq!(answer.status, 200, "{}", answer.text());
    Some(answer)
}

#[test]
fn a_worker_process_is_who_where_and_what_its_options_say() {
    let Some(answer) = in_process_group(
        "user=nobody group=#47300 supplementary-groups=#47301,#47302 home=/usr umask=0027 lang=C \
         locale=C.UTF-8 cpu-priority=3 cpu-time-limit=1000 shutdown-timeout=7 \
         memory-limit=8589934592 display-name=%{GROUP}",
    ) else {
        return;
    };
    let nobody = nix::unistd::User::from_name("nobody").unwrap().expect("every system has it");
    let number = nobody.uid;
    for (key, value) in [
        ("users", format!("({number}, {number}, {number})")),
        ("groups", "(47300, 47300, 47300, 47300, 47301, 47302)".to_owned()),
        ("capabilities", "['0000000000000000']".to_owned()),
        ("umask", "'0o27'".to_owned()),
        ("directory", "'/usr'".to_owned()),
        ("first", "'/usr'".to_owned()),
        ("command", "b'(wsgi:workers)'".to_owned()),
        ("nice", "3".to_owned()),
        ("cpu", "(1000, 1008)".to_owned()),
        ("data", "(8589934592, 8589934592)".to_owned()),
        ("locale", "'C.UTF-8'".to_owned()),
    ] {
        assert_eq!(answer.fact(key), value, "{key}");
    }
    let home = nobody.dir.display();
    let environment = format!("{{'HOME': '{home}', 'LANG': 'C', 'LC_ALL': 'C.UTF-8'}}");
    assert_eq!(answer.fact("environment"), environment);
}

#[test]
fn without_options_a_worker_process_is_who_httpds_children_are() {
    let Some(answer) = in_process_group("") else { return };
    let conf = Conf::serving("identity.wsgi").inside_httpd("what runs there is the question");
    let embedded = Server::start(conf).get("/");
    for key in ["users", "groups", "capabilities", "umask", "directory", "nice", "cpu", "data"] {
        assert_eq!(answer.fact(key), embedded.fact(key), "{key}");
    }
}
