//! Directives about the Python of whole processes: what `httpd -t` says about each, and what
//! applications see of it.

use crate::harness::{Conf, Server, config_test, eventually, write};

/// `line` is refused with one line that names the directive and all of `words`.
#[track_caller]
fn refused(line: &str, words: &[&str]) {
    let test = config_test(line);
    assert!(!test.ok, "accepted: {line}\n{}", test.said);
    let directive = line.split_whitespace().find(|word| word.contains("WSGI")).expect("a name");
    let directive = directive.trim_start_matches('<');
    let message = test.said.lines().find(|line| line.contains(directive)).expect(&test.said);
    for word in words {
        assert!(message.contains(word), "{line}: the message lacks {word:?}: {message}");
    }
}

#[track_caller]
fn accepted(text: &str) {
    let test = config_test(text);
    assert!(test.ok, "refused: {text}\n{}", test.said);
}

/// `ask.wsgi` in the main interpreter and in another one.
pub(crate) fn asking(conf: &str) -> Conf {
    Conf::new(&format!(
        "WSGIHandlerScript main ${{APPS}}/ask.wsgi application-group=%{{GLOBAL}}\n\
         WSGIHandlerScript sub ${{APPS}}/ask.wsgi application-group=sub\n\
         WSGIHandlerScript other ${{APPS}}/ask.wsgi application-group=other\n\
         <Location /main>\nSetHandler main\n</Location>\n\
         <Location /sub>\nSetHandler sub\n</Location>\n\
         <Location /other>\nSetHandler other\n</Location>\n{conf}"
    ))
}

/// What an expression is in an interpreter.
pub(crate) fn ask(server: &Server, group: &str, expression: &str) -> String {
    let expression = expression.replace(' ', "%20");
    let answer = server.get(&format!("/{group}?{expression}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

#[test]
fn each_takes_its_values_and_refuses_others_by_name() {
    let on_off = [
        "WSGIDontWriteBytecode",
        "WSGIDestroyInterpreter",
        "WSGIFreeThreading",
        "WSGIRestrictStdin",
        "WSGIRestrictStdout",
        "WSGIRestrictSignal",
        "WSGIVerboseDebugging",
        "WSGIServerMetrics",
        "WSGISocketRotation",
    ];
    let all = on_off.map(|name| format!("{name} On\n{name} oFF")).join("\n");
    accepted(&all);
    for name in on_off {
        refused(&format!("{name} perhaps"), &["'perhaps'", "On or Off"]);
        refused(name, &["missing"]);
        refused(&format!("{name} On On"), &["one too many"]);
    }
    accepted("WSGIPythonOptimize 0\nWSGIPythonOptimize 2");
    for level in ["3", "-1", "x"] {
        refused(&format!("WSGIPythonOptimize {level}"), &[level, "0, 1 or 2"]);
    }
    accepted("WSGIPythonWarnings ignore\nWSGIPythonWarnings \"error::UserWarning\"");
    refused("WSGIPythonWarnings", &["missing"]);
    accepted("WSGIPythonHashSeed random\nWSGIPythonHashSeed 0\nWSGIPythonHashSeed 4294967295");
    for seed in ["Random", "4294967296", "-1", "+1", "1x", "0x1"] {
        refused(&format!("WSGIPythonHashSeed {seed}"), &[seed, "random", "4294967295"]);
    }
    accepted("WSGIPythonEggs /tmp/eggs");
    refused("WSGIPythonEggs", &["missing"]);
    accepted("WSGISwitchInterval 0.001\nWSGISwitchInterval 5");
    for interval in ["0", "-1", "0.0", "nan", "inf", "5s", "1e9"] {
        refused(&format!("WSGISwitchInterval {interval}"), &[interval, "number of seconds"]);
    }
    accepted("WSGISlowRequests 0\nWSGISlowRequests 2.5");
    for seconds in ["-1", "soon", "nan", "5s"] {
        refused(&format!("WSGISlowRequests {seconds}"), &[seconds, "number of seconds"]);
    }
}

#[test]
fn sockets_and_locks_of_daemon_processes_are_checked() {
    accepted("WSGISocketPrefix run/wsgi\nWSGISocketPrefix /var/run/wsgi");
    refused("WSGISocketPrefix", &["missing"]);
    accepted("WSGIAcceptMutex default\nWSGIAcceptMutex flock\nWSGIAcceptMutex PThread");
    refused("WSGIAcceptMutex padlock", &["'padlock'", "default, flock"]);
}

#[test]
fn telemetry_keeps_its_grammar() {
    accepted("WSGITelemetryService unix:/run/telemetry.sock");
    accepted("WSGITelemetryService unix:/run/telemetry.sock interval=0.5");
    for service in ["udp:127.0.0.1:1", "/run/x", "unix:", "unix:relative", "UNIX:/x"] {
        refused(&format!("WSGITelemetryService {service}"), &[service, "unix:"]);
    }
    for interval in ["0.4", "-1", "x", "nan", "inf"] {
        let line = format!("WSGITelemetryService unix:/x interval={interval}");
        refused(&line, &[interval, "interval="]);
    }
    refused("WSGITelemetryService unix:/x period=1", &["period"]);
    refused("WSGITelemetryService unix:/x 1", &["'1'"]);
    for options in ["None", "all", "CaptureUserAgent", "+CaptureUserAgent -CaptureUserAgent"] {
        accepted(&format!("WSGITelemetryOptions {options}"));
    }
    refused("WSGITelemetryOptions", &["missing"]);
    refused("WSGITelemetryOptions CaptureCookies", &["CaptureCookies", "CaptureUserAgent"]);
    refused("WSGITelemetryOptions +", &["'+'", "sign"]);
    refused("WSGITelemetryOptions +CaptureUserAgent CaptureUserAgent", &["mixes"]);
    refused("WSGITelemetryOptions +None", &["+None"]);
    refused("WSGITelemetryOptions None CaptureUserAgent", &["stand alone"]);
}

#[test]
fn what_is_about_processes_is_refused_in_virtual_hosts_and_sections() {
    for line in [
        "WSGIPythonOptimize 1",
        "WSGIPythonWarnings ignore",
        "WSGIPythonHashSeed random",
        "WSGIDontWriteBytecode On",
        "WSGIPythonEggs /x",
        "WSGISwitchInterval 1",
        "WSGIDestroyInterpreter Off",
        "WSGIRestrictStdin On",
        "WSGIRestrictStdout On",
        "WSGIRestrictSignal Off",
        "WSGIVerboseDebugging On",
        "WSGIAcceptMutex default",
        "WSGISocketPrefix run/x",
        "WSGISocketRotation Off",
        "WSGIFreeThreading On",
        "WSGIServerMetrics On",
        "WSGITelemetryService unix:/x",
        "WSGITelemetryOptions None",
        "WSGISlowRequests 1",
    ] {
        let inside = format!("<VirtualHost *>\n{line}\n</VirtualHost>");
        let test = config_test(&inside);
        assert!(!test.ok, "accepted: {inside}");
        let name = line.split(' ').next().expect("a name");
        let clear = format!("{name} is accepted in server config only, not here");
        assert!(test.said.contains(&clear), "{}", test.said);
        assert!(!config_test(&format!("<Location /x>\n{line}\n</Location>")).ok, "{line}");
    }
}

#[test]
fn directives_of_earlier_versions_leave_one_warning_each() {
    let server = Server::start(asking(
        "WSGILazyInitialization On\nWSGIPythonExecutable /usr/bin/python2 and more\n\
         WSGIPy3kWarningFlag On\nWSGIOutputBuffering Off\n\
         <Directory />\nAllowOverride All\nWSGIReloadMechanism Process\n</Directory>\n\
         <VirtualHost *>\nWSGIOutputBuffering On\nWSGIUserAuthoritative On\n</VirtualHost>\n\
         WSGIVerboseDebugging On\nWSGITelemetryService unix:/x\nWSGIFreeThreading On",
    ));
    for (name, level) in [
        ("WSGILazyInitialization", ":warn]"),
        ("WSGIPythonExecutable", ":warn]"),
        ("WSGIPy3kWarningFlag", ":warn]"),
        ("WSGIOutputBuffering", ":warn]"),
        ("WSGIReloadMechanism", ":warn]"),
        ("WSGIUserAuthoritative", ":warn]"),
        ("WSGIVerboseDebugging", ":info]"),
        ("WSGITelemetryService", ":warn]"),
        ("WSGIFreeThreading", ":warn]"),
    ] {
        let lines = server.log().lines_with(&["MNF", name]);
        assert_eq!(lines.len(), 1, "{name}: {lines:?}");
        assert!(lines[0].contains(level), "{lines:?}");
    }
    // One in .htaccess, which is read for each request, says nothing.
    server.write("docs/.htaccess", "WSGILazyInitialization Off\n");
    server.write("docs/page.txt", "page");
    server.get("/page.txt").expect(200, "page");
    assert_eq!(server.log().lines_with(&["WSGILazyInitialization"]).len(), 1);
}

#[test]
fn cpython_starts_as_the_directives_say_in_every_interpreter() {
    let server = Server::start(asking(
        "WSGIPythonOptimize 2\nWSGIDontWriteBytecode On\nWSGIPythonHashSeed 7\n\
         WSGIPythonWarnings ignore\nWSGIPythonWarnings error::UserWarning\n\
         WSGIPythonEggs ${STATE}/eggs\nWSGISwitchInterval 0.25",
    ));
    for group in ["main", "sub"] {
        let is = |expression: &str, value: &str| {
            assert_eq!(ask(&server, group, expression), value, "{expression} in {group}");
        };
        is("sys.flags.optimize", "2");
        is("sys.dont_write_bytecode", "True");
        is("sys.warnoptions", "['ignore', 'error::UserWarning']");
        is("warnings.warn('x')", "UserWarning: x");
        is("warnings.warn('x',DeprecationWarning)", "None");
        is("sys.getswitchinterval()", "0.25");
        let eggs = format!("'{}'", server.path("state/eggs").display());
        is("os.environ['PYTHON_EGG_CACHE']", &eggs);
        is("sys.flags.hash_randomization", "1");
    }
    let hash = ask(&server, "main", "hash('manifold')");
    assert_eq!(ask(&server, "sub", "hash('manifold')"), hash);
    let again =
        Server::start(asking("WSGIPythonHashSeed 7").environment("PYTHONDONTWRITEBYTECODE", ""));
    assert_eq!(ask(&again, "main", "hash('manifold')"), hash, "a fixed seed is one");
    assert_eq!(ask(&again, "main", "sys.flags.optimize"), "0");
    assert_eq!(ask(&again, "main", "sys.dont_write_bytecode"), "False");
}

#[test]
fn a_hash_seed_of_random_is_random_whatever_the_environment_says() {
    let hash = || {
        let conf = asking("WSGIPythonHashSeed random").environment("PYTHONHASHSEED", "0");
        let server = Server::start(conf);
        assert_eq!(ask(&server, "main", "sys.flags.hash_randomization"), "1");
        ask(&server, "main", "hash('manifold')")
    };
    assert_ne!(hash(), hash());
    let fixed = || {
        let server = Server::start(asking("WSGIPythonHashSeed 0"));
        ask(&server, "main", "hash('manifold')")
    };
    assert_eq!(fixed(), fixed());
}

#[test]
fn a_switch_interval_holds_for_gils_of_their_own_and_leaves_others_alone() {
    let server = Server::start(asking(
        "<WSGIInterpreterOptions application-group=sub>\nWSGISwitchInterval 0.5\n\
         </WSGIInterpreterOptions>",
    ));
    assert_eq!(ask(&server, "sub", "sys.getswitchinterval()"), "0.5");
    assert_eq!(ask(&server, "main", "sys.getswitchinterval()"), "0.005");
    assert_eq!(ask(&server, "other", "sys.getswitchinterval()"), "0.005");
}

#[test]
fn restricted_streams_raise_and_say_why() {
    let server = Server::start(asking("WSGIRestrictStdin On\nWSGIRestrictStdout On"));
    for group in ["main", "sub"] {
        for use_of in ["sys.stdin.read()", "input()", "list(sys.stdin)", "sys.stdin.fileno()"] {
            let said = ask(&server, group, use_of);
            assert!(said.starts_with("OSError") && said.contains("WSGIRestrictStdin"), "{said}");
        }
        for use_of in
            ["print('x')", "sys.stdout.write('x')", "sys.stdout.buffer", "sys.__stdout__.flush()"]
        {
            let said = ask(&server, group, use_of);
            assert!(said.starts_with("OSError") && said.contains("WSGIRestrictStdout"), "{said}");
        }
        assert_eq!(ask(&server, group, "sys.stderr.write('still%20there')"), "11");
    }
    server.stop();
    let server = Server::start(asking(""));
    assert_eq!(ask(&server, "sub", "print('to%20the%20log')"), "None");
    server.log().wait_for(&["to the log"]);
    assert_eq!(ask(&server, "main", "sys.stdin.readable()"), "True");
}

#[test]
fn a_signal_handler_is_not_registered_unless_that_is_allowed() {
    let server = Server::start(asking(
        "<WSGIInterpreterOptions application-group=other>\nWSGIRestrictSignal Off\n\
         </WSGIInterpreterOptions>",
    ));
    for group in ["main", "sub"] {
        assert_eq!(
            ask(&server, group, "signal.signal(signal.SIGUSR1,len)"),
            "<built-in function len>"
        );
        let line = server.log().wait_for(&[":info]", "WSGIRestrictSignal", "signal 10"]);
        assert!(line.contains("not registered"), "{line}");
    }
    // The stack says where.
    server.log().wait_for_count(&[":info]", "ask.wsgi", "in handle_request"], 2);
    let said = ask(&server, "other", "signal.signal(signal.SIGUSR1,len)");
    assert!(said.starts_with("ValueError"), "{said}");
    // httpd's own signals still do what they did.
    server.graceful();
    server.stop();
}

#[test]
fn a_forked_process_registers_its_own_signal_handlers() {
    let server = Server::start_with(asking(""), |root| {
        write(
            root,
            "apps/forks.py",
            "import os, signal\ndef registered():\n    child = os.fork()\n    if not child:\n        \
             code = 1\n        try:\n            signal.signal(signal.SIGUSR2, signal.SIG_IGN)\n            \
             code = 7 if signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN else 2\n        except ValueError:\n            \
             code = 8  # CPython itself: the process was forked on a thread that is not its main one\n        finally:\n            \
             os._exit(code)\n    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n",
        );
    });
    let path = server.path("apps").display().to_string();
    ask(&server, "main", &format!("sys.path.append('{path}')"));
    // 7: it is registered. After os.fork() the thread that forked is the main one.
    assert_eq!(ask(&server, "main", "forks.registered()"), "7");
    assert!(server.log().lines_with(&["WSGIRestrictSignal"]).is_empty());
}

#[test]
fn exit_functions_are_not_called_without_destroy_interpreter() {
    let conf = Conf::new(
        "WSGIDestroyInterpreter Off\n\
         WSGIHandlerScript sub ${APPS}/farewell.wsgi application-group=sub\n\
         WSGIHandlerScript main ${APPS}/farewell.wsgi application-group=%{GLOBAL}\n\
         <Location /sub>\nSetHandler sub\n</Location>\n\
         <Location /main>\nSetHandler main\n</Location>",
    );
    let server = Server::start(conf);
    server.get("/sub").expect(200, "hello");
    server.get("/main").expect(200, "hello");
    let old = server.only_child();
    // A child that a graceful restart replaces ends in the same way, and leaves the server here.
    server.graceful();
    eventually("the old child has gone", || (!server.children().contains(&old)).then_some(()));
    for group in ["sub", "main"] {
        assert!(!server.path(&format!("state/farewell-{group}")).exists(), "{group}");
    }
    server.stop();
}
