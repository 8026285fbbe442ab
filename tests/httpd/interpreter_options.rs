//! `<WSGIInterpreterOptions>`: what it accepts, and which block decides.

use crate::harness::{Server, config_test, write};
use crate::runtime_directives::{ask, asking};

fn block(selectors: &str, inside: &str) -> String {
    format!("<WSGIInterpreterOptions{selectors}>\n{inside}\n</WSGIInterpreterOptions>\n")
}

/// It is refused with one line that names the directive and all of `words`.
#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let test = config_test(text);
    assert!(!test.ok, "accepted: {text}\n{}", test.said);
    let message = test.said.lines().find(|line| line.contains("WSGIInterpreterOptions"));
    let message = message.expect(&test.said);
    for word in words {
        assert!(message.contains(word), "{text}: the message lacks {word:?}: {message}");
    }
}

#[track_caller]
fn accepted(text: &str) {
    let test = config_test(text);
    assert!(test.ok, "refused: {text}\n{}", test.said);
}

#[test]
fn selectors_are_names_once_each_in_either_case() {
    accepted(&block("", "WSGIRestrictStdin On"));
    accepted(&block(" application-group=a", ""));
    accepted(&block(" Process-Group=%{GLOBAL} APPLICATION-GROUP='a b'", "WSGIPythonPath /x"));
    refused(&block(" colour=red", ""), &["'colour'", "application-group"]);
    refused(&block(" a", ""), &["'a'", "name=value"]);
    refused(&block(" =a", ""), &["'=a'"]);
    refused(&block(" application-group=", ""), &["empty"]);
    refused(&block(" application-group=a Application-Group=b", ""), &["twice"]);
    let open = "<WSGIInterpreterOptions application-group=a\n</WSGIInterpreterOptions>";
    refused(open, &["'>'", "missing"]);
}

#[test]
fn only_its_directives_may_stand_inside_and_an_error_names_its_line() {
    let all = "WSGIPerInterpreterGIL Off\nWSGIFreeThreading Off\nWSGISwitchInterval 1\n\
               WSGIPythonPath /x\nwsgirestrictstdin On\nWSGIRestrictStdout On\nWSGIRestrictSignal Off";
    accepted(&block("", all));
    accepted(&block("", "<IfModule wsgi_module>\nWSGIRestrictStdin On\n</IfModule>"));
    refused(&block("", "WSGIPythonHome /usr"), &["WSGIPythonHome", "accepted are"]);
    refused(&block("", "NoSuchDirective"), &["NoSuchDirective"]);
    for (line, words) in [
        ("WSGIRestrictStdin perhaps", "'perhaps' is not On or Off"),
        ("WSGISwitchInterval 0", "'0' is not a number of seconds"),
        ("WSGIPythonPath", "missing"),
        ("WSGIPerInterpreterGIL On Off", "one too many"),
    ] {
        let test = config_test(&block("", &format!("WSGIRestrictSignal On\n{line}")));
        assert!(!test.ok && test.said.contains(words), "{line}: {}", test.said);
        let text = config_test("# first\n# second\nNoSuchDirective");
        let number = |said: &str| -> u32 {
            let (_, rest) = said.split_once("on line ").expect(said);
            rest.split(' ').next().and_then(|number| number.parse().ok()).expect(said)
        };
        // The third line here as there.
        assert_eq!(number(&test.said), number(&text.said), "{}", test.said);
    }
}

#[test]
fn it_stands_in_the_main_server_only() {
    let test = config_test(&format!("<VirtualHost *>\n{}</VirtualHost>", block("", "")));
    assert!(!test.ok);
    let clear = "WSGIInterpreterOptions is accepted in server config only, not here";
    assert!(test.said.contains(clear), "{}", test.said);
}

#[test]
fn the_most_specific_block_decides_and_paths_add_up() {
    let conf = [
        "WSGIPythonPath ${ROOT}/base\nWSGIRestrictStdin On\n".to_owned(),
        block(
            " process-group=${GROUP} application-group=sub",
            "WSGIPythonPath ${ROOT}/both\nWSGIRestrictStdin Off",
        ),
        block(" application-group=sub", "WSGIPythonPath ${ROOT}/one\nWSGIRestrictStdout On"),
        block(" process-group=${GROUP}", "WSGIRestrictStdout Off\nWSGIRestrictStdin On"),
        block(" process-group=elsewhere", "WSGIRestrictStdout On\nWSGIPythonPath ${ROOT}/not"),
    ];
    let server = Server::start_with(asking(&conf.concat()), |root| {
        for folder in ["base", "one", "both", "not"] {
            write(root, &format!("{folder}/taste.py"), "");
        }
    });
    let path = |group, count| ask(&server, group, &format!("sys.path[:{count}]"));
    let folder = |name: &str| format!("'{}'", server.path(name).display());
    let expected = [folder("both"), folder("one"), folder("base")].join(", ");
    assert_eq!(path("sub", 3), format!("[{expected}]"));
    assert_eq!(path("main", 1), format!("[{}]", folder("base")));
    assert_eq!(ask(&server, "main", "[p for p in sys.path if p.endswith('/not')]"), "[]");
    // Each by itself: two selectors outweigh one, and of one each the later decides.
    assert_eq!(ask(&server, "sub", "sys.stdin.readable()"), "True");
    assert!(ask(&server, "main", "sys.stdin.readable()").contains("WSGIRestrictStdin"));
    assert_eq!(ask(&server, "sub", "sys.stdout.writable()"), "True");
}

#[test]
fn one_group_may_share_the_gil_and_then_has_no_interval_of_its_own() {
    let inside = "WSGIPerInterpreterGIL Off\nWSGISwitchInterval 0.5";
    let server = Server::start(asking(&block(" application-group=sub", inside)));
    assert_eq!(ask(&server, "sub", "sys.getswitchinterval()"), "0.005");
    assert_eq!(ask(&server, "other", "1"), "1");
    server.log().wait_for(&[":info]", "'sub'", "shared GIL"]);
    let made = server.log().wait_for(&[":info]", "'other'", "sub-interpreter"]);
    if !made.contains("own GIL") {
        eprintln!("not shown here: this Python shares one GIL anyway");
    }
    let line = server.log().wait_for(&[":warn]", "WSGISwitchInterval", "'sub'", "shares its GIL"]);
    assert!(line.contains("MNF"), "{line}");
}

#[test]
fn free_threading_for_one_group_is_ignored_with_a_warning() {
    let server = Server::start(asking(&block(" application-group=sub", "WSGIFreeThreading On")));
    let line = server.log().wait_for(&[":warn]", "WSGIFreeThreading", "ignored"]);
    assert!(line.contains("application-group="), "{line}");
    assert_eq!(ask(&server, "sub", "1"), "1");
}
