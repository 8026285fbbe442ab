//! What `httpd -t` accepts, and what it says about the rest.

use crate::harness::config_test;

/// `line` is refused, and the message has its directive and all of `words`.
#[track_caller]
fn refused(line: &str, words: &[&str]) {
    let test = config_test(line);
    let directive =
        line.split_whitespace().find(|word| word.starts_with("WSGI")).expect("a directive");
    assert!(!test.ok, "accepted: {line}\n{}", test.said);
    for word in [&[directive], words].concat() {
        assert!(test.said.contains(word), "{line}: the message lacks {word:?}:\n{}", test.said);
    }
}

#[track_caller]
fn accepted(text: &str) {
    let test = config_test(text);
    assert!(test.ok, "refused: {text}\n{}", test.said);
}

#[test]
fn a_handler_script_needs_a_name_and_a_path() {
    refused("WSGIHandlerScript", &["name"]);
    refused("WSGIHandlerScript \"\" /x.wsgi", &["name"]);
    refused("WSGIHandlerScript name", &["path"]);
    refused("WSGIHandlerScript name \"\"", &["path"]);
}

#[test]
fn a_handler_script_refuses_options_it_does_not_know() {
    refused("WSGIHandlerScript name /x.wsgi colour=red", &["colour"]);
    refused("WSGIHandlerScript name /x.wsgi callable-object=app", &["callable-object"]);
    refused("WSGIHandlerScript name /x.wsgi Process-Group=x", &["Process-Group"]);
    refused("WSGIHandlerScript name /x.wsgi process-group", &["process-group"]);
    refused("WSGIHandlerScript name /x.wsgi =x", &["=x"]);
    refused("WSGIHandlerScript name /x.wsgi process-group = x", &["process-group"]);
}

#[test]
fn a_handler_script_refuses_empty_and_wrong_values() {
    refused("WSGIHandlerScript name /x.wsgi process-group=", &["process-group"]);
    refused("WSGIHandlerScript name /x.wsgi application-group=", &["application-group"]);
    refused("WSGIHandlerScript name /x.wsgi application-group=\"\"", &["application-group"]);
    refused("WSGIHandlerScript name /x.wsgi pass-authorization=", &["pass-authorization"]);
    refused(
        "WSGIHandlerScript name /x.wsgi pass-authorization=maybe",
        &["pass-authorization", "maybe"],
    );
}

#[test]
fn a_handler_script_takes_its_options_in_any_order_quoted_and_twice() {
    accepted("WSGIHandlerScript name /x.wsgi");
    accepted("WSGIHandlerScript \"a name\" '/a path/x.wsgi' application-group='a group'");
    accepted(
        "WSGIHandlerScript name /x.wsgi pass-authorization=oN application-group=%{GLOBAL} process-group=p",
    );
    accepted("WSGIHandlerScript name /x.wsgi process-group=p process-group=q");
    accepted("WSGIHandlerScript name relative/x.wsgi");
}

#[test]
fn a_handler_script_may_stand_in_every_context_but_htaccess() {
    let line = "WSGIHandlerScript name /x.wsgi pass-authorization=On";
    accepted(line);
    accepted(&format!("<VirtualHost *>\n{line}\n</VirtualHost>"));
    for section in ["Directory /x", "Location /x", "Files *.x", "LocationMatch ^/x", "If true"] {
        let name = section.split(' ').next().expect("a word");
        accepted(&format!("<{section}>\n{line}\n</{name}>"));
    }
}

#[test]
fn a_message_names_the_line_it_is_about() {
    let test = config_test("# a comment\nWSGIHandlerScript name /x.wsgi colour=red");
    let at =
        test.said.lines().find(|line| line.contains("Syntax error on line")).expect(&test.said);
    assert!(at.contains("httpd.conf"), "{at}");
}

#[test]
fn the_python_home_and_path_belong_to_the_whole_server() {
    for line in ["WSGIPythonHome /usr", "WSGIPythonPath /a:/b", "WSGIPerInterpreterGIL On"] {
        accepted(line);
        refused(&format!("<VirtualHost *>\n{line}\n</VirtualHost>"), &[]);
        refused(&format!("<Location /x>\n{line}\n</Location>"), &[]);
    }
}

#[test]
fn switches_take_only_their_words() {
    for word in ["On", "off", "AUTO"] {
        accepted(&format!("WSGIPerInterpreterGIL {word}"));
    }
    refused("WSGIPerInterpreterGIL perhaps", &["perhaps"]);
    refused("WSGIPerInterpreterGIL", &[]);
    accepted("WSGIPassAuthorization on\n<Location /x>\nWSGIPassAuthorization Off\n</Location>");
    refused("WSGIPassAuthorization perhaps", &[]);
}

#[test]
fn numbers_are_positive_numbers() {
    for directive in ["WSGIInterpreterThreads", "WSGIInterpreterLimit"] {
        accepted(&format!("{directive} 5"));
        for number in ["0", "-1", "five", "\"\"", "5x"] {
            refused(&format!("{directive} {number}"), &[number.trim_matches('"')]);
        }
    }
}

#[test]
fn an_application_group_needs_a_name() {
    accepted("WSGIApplicationGroup %{GLOBAL}\n<Location /x>\nWSGIApplicationGroup x\n</Location>");
    refused("WSGIApplicationGroup", &[]);
    refused("WSGIApplicationGroup \"\"", &[]);
}

#[test]
fn both_spellings_of_if_module_match() {
    accepted("<IfModule !mod_wsgi.c>\nNoSuchDirective\n</IfModule>");
    accepted("<IfModule !wsgi_module>\nNoSuchDirective\n</IfModule>");
}

#[test]
fn limits_are_numbers() {
    accepted("WSGIQueueLimit 1\nWSGIResponseBufferLimit 0");
    accepted("WSGIQueueLimit 65536\nWSGIResponseBufferLimit 1000000000000");
    for wrong in ["0", "-1", "65537", "many", ""] {
        refused(&format!("WSGIQueueLimit \"{wrong}\""), &[]);
    }
    refused("WSGIQueueLimit 0", &["'0'", "from 1 to 65536"]);
    refused("WSGIQueueLimit", &["number", "missing"]);
    for wrong in ["-1", "+1", "1.5", "64M", "99999999999999999999"] {
        refused(&format!("WSGIResponseBufferLimit {wrong}"), &[wrong, "number of bytes"]);
    }
    refused("WSGIResponseBufferLimit 1 2", &["'2'"]);
    let inside = |line| format!("<WSGIInterpreterOptions>\n{line}\n</WSGIInterpreterOptions>");
    accepted(&inside("WSGIQueueLimit 7"));
    refused(&inside("WSGIResponseBufferLimit 7"), &["WSGIResponseBufferLimit", "WSGIQueueLimit"]);
    for line in ["WSGIQueueLimit 7", "WSGIResponseBufferLimit 7"] {
        refused(&format!("<VirtualHost *>\n{line}\n</VirtualHost>"), &["server config"]);
    }
}
