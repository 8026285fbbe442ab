//! What `httpd -t` says about WSGIDaemonProcess, and what becomes of requests for process groups that
//! cannot be used.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Conf, Request, Server, at_once, config_test, write};

/// `text` is refused in one line that has all of these words.
#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let test = config_test(text);
    assert!(!test.ok, "accepted: {text}\n{}", test.said);
    let of_line = |said: &&str| words.iter().all(|word| said.contains(word));
    assert_eq!(test.said.lines().filter(of_line).count(), 1, "{text}: {words:?}: {}", test.said);
}

#[track_caller]
fn accepted(text: &str) {
    let test = config_test(text);
    assert!(test.ok, "refused: {text}\n{}", test.said);
}

fn is_root() -> bool {
    // SAFETY: it has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Each option with values that are accepted, with one that is not, and what the message says is.
const OPTIONS: [(&str, &[&str], &str, &str); 45] = [
    ("processes", &["1", "2"], "0", "a number from 1 to 65536"),
    ("threads", &["0", "1", "65533"], "65534", "a number from 0 to 65533"),
    ("replicas", &["1", "auto", "Auto"], "0", "auto or a number from 1 to 1024"),
    ("worker", &["/usr/bin/manifold-worker"], "manifold-worker", "absolute path of a program"),
    ("display-name", &["%{GROUP}", "'(wsgi:any thing)'", ""], "", ""),
    ("user", &["nobody"], "root", "other than root"),
    ("group", &["root", "#0", "#123456"], "no.such.group", "the name of a group"),
    ("supplementary-groups", &["root", "#1,#2"], "#1,", "a list of up to 65535 groups"),
    ("home", &["/", "'/a b'"], "srv", "an absolute path"),
    ("umask", &["0022", "77", "0"], "8", "an octal number"),
    ("python-home", &["/usr", ""], "", ""),
    ("python-path", &["/a:/b", ""], "", ""),
    ("python-eggs", &["/a", ""], "", ""),
    ("lang", &["C", ""], "", ""),
    ("locale", &["C.UTF-8", "no_SUCH", ""], "", ""),
    ("switch-interval", &["0.001", "5"], "0", "a number of seconds from 0.000001"),
    ("stack-size", &["262144", "8388608"], "65536", "a number from 262144 to"),
    ("cpu-time-limit", &["0", "60"], "-1", "a number from 0 to"),
    ("cpu-priority", &["0", "5", "-5"], "9999999999", "a number from -2147483647 to"),
    ("memory-limit", &["0", "4294967296"], "-1", "a number from 0 to"),
    ("virtual-memory-limit", &["0", "4294967296"], "-1", "a number from 0 to"),
    ("socket-user", &["nobody", "#0", "#123456"], "no.such.user", "the name of a user"),
    ("listen-backlog", &["0", "511"], "-1", "a number from 0 to"),
    ("send-buffer-size", &["0", "512"], "511", "0 or a number from 512"),
    ("receive-buffer-size", &["0", "512"], "1", "0 or a number from 512"),
    ("maximum-requests", &["0", "1000"], "-1", "a number from 0 to"),
    ("header-buffer-size", &["0", "8192"], "8191", "0 or a number from 8192"),
    ("response-buffer-size", &["0", "65536"], "65535", "0 or a number from 65536"),
    ("response-flush-delay", &["0", "5"], "-1", "a number from 0 to"),
    ("script-user", &["nobody", "root", "#0"], "#3999999999", "of a user who exists"),
    ("server-metrics", &["On", "oFF"], "perhaps", "On or Off"),
    ("restart-interval", &["0", "60"], "-1", "a number of seconds"),
    ("inactivity-timeout", &["0", "60"], "-1", "a number of seconds"),
    ("request-timeout", &["0", "60"], "-1", "a number of seconds"),
    ("interrupt-timeout", &["0", "60"], "-1", "a number of seconds"),
    ("deadlock-timeout", &["0", "60"], "-1", "a number of seconds"),
    ("startup-timeout", &["0", "60"], "-1", "a number of seconds"),
    ("graceful-timeout", &["0", "60"], "-1", "a number of seconds"),
    ("eviction-timeout", &["0", "60"], "-1", "a number of seconds"),
    ("shutdown-timeout", &["0", "60"], "-1", "a number of seconds"),
    ("connect-timeout", &["0", "60"], "-1", "a number of seconds"),
    ("socket-timeout", &["0", "60"], "-1", "a number of seconds"),
    ("queue-timeout", &["0", "60"], "-1", "a number of seconds"),
    ("response-socket-timeout", &["0", "60"], "-1", "a number of seconds"),
    ("script-group", &["root", "#0"], "no.such.group", "of a group that exists"),
];

#[test]
fn each_option_takes_its_values() {
    let mut text = String::new();
    for (option, values, ..) in OPTIONS {
        for (number, value) in values.iter().enumerate() {
            text += &format!("WSGIDaemonProcess {option}-{number} {option}={value}\n");
        }
    }
    let together = OPTIONS.iter().filter(|(option, ..)| *option != "script-group");
    let together: Vec<_> =
        together.map(|(name, values, ..)| format!("{name}={}", values[0])).collect();
    let last_holds = "processes=1 processes=2 processes=3";
    accepted(&format!("{text}WSGIDaemonProcess all {} {last_holds}", together.join(" ")));
}

#[test]
fn each_option_refuses_other_values_in_one_line_that_says_what_it_takes() {
    let cases: Vec<_> = OPTIONS.iter().filter(|(.., wrong, _)| !wrong.is_empty()).collect();
    assert_eq!(cases.len(), OPTIONS.len() - 6, "six take any text");
    for part in cases.chunks(8) {
        at_once(part.len(), |at| {
            let (option, _, wrong, takes) = part[at];
            let line = format!("WSGIDaemonProcess name {option}={wrong}");
            let given = format!("WSGIDaemonProcess: '{wrong}' is not ");
            refused(&line, &[&given, takes, &format!("({option}=)")]);
        });
    }
}

#[test]
fn a_name_is_needed_and_everything_else_is_an_option() {
    refused("WSGIDaemonProcess", &["WSGIDaemonProcess: the name of the process group is missing"]);
    refused("WSGIDaemonProcess \"\"", &["the name of the process group is empty"]);
    for option in ["restart-on-touch=1", "reload=On", "autoscale=2", "Threads=2"] {
        let given = format!("'{}' is not an option", option.split('=').next().expect("a name"));
        refused(&format!("WSGIDaemonProcess name {option}"), &[&given, "processes=", "threads="]);
    }
    for word in ["threads", "=2", "other"] {
        let given = format!("'{word}' is not an option (name=value)");
        refused(&format!("WSGIDaemonProcess name {word}"), &[&given, "accepted are processes="]);
    }
    refused(
        "WSGIDaemonProcess name script-user=root script-group=root",
        &["script-user=", "script-group=", "only one"],
    );
    accepted("WSGIDaemonProcess example.com:8080");
}

#[test]
fn a_name_stands_for_one_group_in_the_whole_server() {
    let host = |name: &str, line: &str| {
        format!("<VirtualHost *>\nServerName {name}.test\n{line}\n</VirtualHost>")
    };
    let (a, b) = (host("a", "WSGIDaemonProcess a"), host("b", "WSGIDaemonProcess b"));
    accepted(&format!("WSGIDaemonProcess c\n{a}\n{b}\nWSGIDaemonProcess A"));
    let again = |text: &str| refused(text, &["'a'", "already", "httpd.conf", "line "]);
    again("WSGIDaemonProcess a\nWSGIDaemonProcess a");
    again(&format!("WSGIDaemonProcess a\n{a}"));
    again(&format!("{a}\nWSGIDaemonProcess a threads=2"));
    again(&format!("{a}\n{}", host("b", "WSGIDaemonProcess a")));
    again(&host("b", "WSGIDaemonProcess a\nWSGIDaemonProcess a"));
}

#[test]
fn it_stands_in_servers_and_not_in_their_sections() {
    let line = "WSGIDaemonProcess name threads=2";
    accepted(line);
    accepted(&format!("<VirtualHost *>\n{line}\n</VirtualHost>"));
    for section in ["Directory /x", "Location /x", "Files *.x"] {
        let name = section.split(' ').next().expect("a word");
        let text = format!("<{section}>\n{line}\n</{name}>");
        refused(&text, &["WSGIDaemonProcess not allowed"]);
    }
}

#[test]
fn only_root_can_change_the_root_directory() {
    let line = "WSGIDaemonProcess name chroot=/srv";
    if is_root() {
        accepted(line);
    } else {
        refused(line, &["WSGIDaemonProcess: '/srv'", "(chroot=)", "root has started"]);
    }
    refused("WSGIDaemonProcess name chroot=srv", &["'srv' is not an absolute path", "(chroot=)"]);
}

#[test]
fn what_is_loaded_ahead_goes_to_a_group_that_is_defined_and_may_be_used() {
    let import = "WSGIImportScript /x.wsgi process-group=p application-group=a";
    let alias = "WSGIScriptAlias /x /x.wsgi process-group=p application-group=%{GLOBAL}";
    let host = |name: &str, lines: &str| {
        format!("<VirtualHost *>\nServerName {name}\n{lines}\n</VirtualHost>")
    };
    for line in [import, alias] {
        accepted(&format!("WSGIDaemonProcess p\n{line}\n{}", host("a.test", line)));
        accepted(&host("a.test", &format!("WSGIDaemonProcess p\n{line}")));
        let a = host("a.test", "WSGIDaemonProcess p");
        accepted(&format!("{a}\n{}", host("A.test:99", line)));
        // Nobody knows yet what this one will be called, but it is the same.
        accepted(&format!(
            "<VirtualHost *>\nWSGIDaemonProcess p\n{line}\nServerName a\n</VirtualHost>"
        ));

        let directive = line.split(' ').next().expect("a word");
        let so_far = [directive, "no daemon process 'p'", "so far"];
        refused(&format!("{line}\nWSGIDaemonProcess p"), &so_far);
        let elsewhere = [directive, "'p'", "'a.test'", "ServerName"];
        refused(&format!("{a}\n{}", host("b.test", line)), &elsewhere);
        refused(&format!("{a}\n{line}"), &elsewhere);
        let unnamed = format!("{a}\n<VirtualHost *>\n{line}\nServerName a.test\n</VirtualHost>");
        refused(&unnamed, &[&elsewhere[..], &["without a ServerName"]].concat());
    }
    // Without both groups, or where a request says which, nothing is loaded ahead.
    accepted("WSGIScriptAlias /x /x.wsgi process-group=p");
    accepted("WSGIScriptAlias /x /x.wsgi process-group=%{ENV:P} application-group=a");
}

#[test]
fn what_is_loaded_ahead_in_daemon_processes_is_not_loaded_in_httpds() {
    let script = "import mod_wsgi\n\
                  print('loaded by', repr(mod_wsgi.process_group), repr(mod_wsgi.application_group))\n\
                  def application(environ, start_response):\n    return []\n";
    let server = Server::start_with(
        Conf::new(
            "WSGIDaemonProcess p\n\
             WSGIImportScript ${APPS}/ahead.wsgi process-group=p application-group=a\n\
             WSGIImportScript ${APPS}/ahead.wsgi process-group=%{GLOBAL} application-group=b\n\
             WSGIScriptAlias /x ${APPS}/ahead.wsgi process-group=p application-group=c",
        ),
        |root| write(root, "apps/ahead.wsgi", script),
    );
    for loaded in ["'p' 'a'", "'p' 'c'", "'' 'b'"] {
        server.log().wait_for(&[&format!("loaded by {loaded}")]);
    }
    assert_eq!(server.get("/none").status, 404, "what is loaded ahead was loaded");
    let lines = server.log().lines_with(&["loaded by"]);
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[test]
fn a_number_that_is_none_is_taken_as_mod_wsgi_takes_it_and_said() {
    let server = Server::start(Conf::new(
        "WSGIDaemonProcess one threads=10x queue-timeout=abc processes=2\n\
         <VirtualHost *>\nWSGIDaemonProcess two graceful-timeout=1.5\n</VirtualHost>",
    ));
    let said = |words: &[&str]| {
        let lines = server.log().lines_with(&[&["MNF0029", "WSGIDaemonProcess"], words].concat());
        assert_eq!(lines.len(), 1, "{words:?}: {lines:?}");
        assert!(lines[0].contains(":warn]"), "{lines:?}");
    };
    said(&["'one'", "threads='10x'", "taken as 10"]);
    said(&["'one'", "queue-timeout='abc'", "taken as 0"]);
    said(&["'two'", "graceful-timeout='1.5'", "taken as 1"]);
    assert_eq!(server.log().lines_with(&["MNF0029", "WSGIDaemonProcess"]).len(), 3);
}

#[test]
fn a_request_for_a_group_that_is_not_defined_is_refused_in_one_line() {
    let server = Server::start(
        Conf::serving("hello.wsgi")
            .and("WSGIDaemonProcess other")
            .and("<Location /away>\nWSGIProcessGroup elsewhere\n</Location>"),
    );
    server.get("/here").expect(200, "Hello, world!\n");
    assert_eq!(server.get("/away").status, 500);
    server.log().wait_for(&[":error]", "MNF0003", "'elsewhere'", "no daemon process", "[client "]);
    assert_eq!(server.log().lines_with(&["elsewhere"]).len(), 1);
}

#[test]
fn a_group_of_a_virtual_host_is_for_hosts_of_its_name_only() {
    let host = |name: &str, lines: &str| {
        format!(
            "<VirtualHost *:${{PORT}}>\nServerName {name}\nDocumentRoot ${{DOCS}}\n{lines}\n\
             </VirtualHost>\n"
        )
    };
    let group = |name: &str| format!("<Location /{name}>\nWSGIProcessGroup {name}\n</Location>\n");
    let asking = group("everywhere") + &group("of-a");
    let server = Server::start(
        Conf::serving("hello.wsgi")
            .and("WSGIDaemonProcess everywhere")
            .and(&host("a.test", &format!("{asking}WSGIDaemonProcess of-a")))
            .and(&host("b.test", &asking)),
    );
    let ask = |host: &str, url: &str| server.send(&Request::get(url).header("Host", host));
    for (host, url) in [("a.test", "/of-a"), ("a.test", "/everywhere"), ("b.test", "/everywhere")] {
        ask(host, url).expect(200, "Hello, world!\n");
    }
    assert_eq!(ask("b.test", "/of-a").status, 500);
    let names = ["'of-a'", "'a.test'", "'b.test'", "line ", "httpd.conf"];
    server.log().wait_for(&[&[":error]", "MNF0046", "[client "], &names[..]].concat());
    assert_eq!(server.log().lines_with(&["MNF0046"]).len(), 1);
}

#[test]
fn only_files_of_the_script_user_are_served_and_a_handler_script_is_none_of_them() {
    let files = |root: &Path| {
        for (name, mode) in [("mine.txt", 0o644), ("open.txt", 0o646)] {
            write(root, &format!("docs/site/{name}"), "text");
            let file = root.join("docs/site").join(name);
            std::fs::set_permissions(file, Permissions::from_mode(mode)).expect("it is ours");
        }
        // Where anybody may write, as the administrator's scripts need not fear.
        let apps = Permissions::from_mode(0o777);
        std::fs::set_permissions(root.join("apps"), apps).expect("it is ours");
        let site = Permissions::from_mode(0o755);
        std::fs::set_permissions(root.join("docs/site"), site).expect("it is ours");
    };
    // SAFETY: it has no arguments and cannot fail.
    let user = unsafe { libc::geteuid() };
    let server = Server::start_with(
        Conf::serving("hello.wsgi")
            .and(&format!("WSGIDaemonProcess p script-user=#{user}\nWSGIProcessGroup p")),
        files,
    );
    server.get("/site/mine.txt").expect(200, "Hello, world!\n");
    for url in ["/site/open.txt", "/site/none.txt"] {
        assert_eq!(server.get(url).status, 403, "{url}");
        server.log().wait_for(&[":error]", "MNF0047", url, "script-user=", "[client "]);
    }
    assert_eq!(server.log().lines_with(&["MNF0047"]).len(), 2);
}
