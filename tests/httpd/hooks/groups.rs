//! WSGIAuthGroupScript, and WSGIGroupAuthoritative.

use super::{basic, hooked, login, refused};
use crate::harness::Server;

/// Everybody's password is right; the groups are what the user's name says.
const GROUPS: &str = r#"
def check_password(environ, user, password):
    return True


def some(*names):
    yield from names
    raise RuntimeError("and no more")


GROUPS = {"list": ["staff", "crew"], "tuple": ("crew",), "set": {"staff"}, "bytes": [b"staff"],
          "dict": {"staff": 1}, "none": [], "other": ["others"], "nothing": None, "text": "staff",
          "plain": b"staff", "number": 7, "mixed": ["staff", 7], "empty": [""],
          "wide": ["\u20ac", "staff"], "latin": ["\xe9"], "utf8": ["\xe9".encode()], "true": True}


def groups_for_user(environ, user):
    if user == "raises":
        raise LookupError("nobody of that name")
    if user == "generator":
        return (name for name in ["crew"])
    if user == "breaks":
        return some("staff")
    return GROUPS[user]
"#;

fn grouped(require: &str) -> Server {
    hooked(
        basic(&format!(
            "<Location />\nWSGIAuthGroupScript ${{APPS}}/hook.py\n{require}\n</Location>"
        )),
        GROUPS,
    )
}

fn status(server: &Server, user: &str) -> u16 {
    let answer = server.send(&login("/file.txt", user.as_bytes(), b"x"));
    assert_eq!(answer.text() == "static", answer.status == 200, "{user}");
    answer.status
}

#[test]
fn who_is_in_one_of_the_groups_is_let_in() {
    let server = grouped("Require wsgi-group staff crew");
    for user in ["list", "tuple", "set", "bytes", "dict", "generator"] {
        assert_eq!(status(&server, user), 200, "{user}");
    }
    for user in ["none", "other", "latin", "empty"] {
        assert_eq!(status(&server, user), 401, "{user}");
    }
    refused(&server.get("/file.txt"), 401);
}

#[test]
fn what_is_no_list_of_names_lets_nobody_in() {
    let server = grouped("Require wsgi-group staff s");
    for user in ["nothing", "text", "plain", "number", "mixed", "wide", "true", "raises", "breaks"]
    {
        assert_eq!(status(&server, user), 500, "{user}");
    }
    assert_eq!(status(&server, "unknown"), 500);
    let log = server.log();
    for what in ["returned None", "returned str", "returned bytes", "with int in it", "True"] {
        log.wait_for(&[":error]", "MNF", "groups_for_user()", "hook.py", what]);
    }
    for class in ["TypeError", "LookupError", "RuntimeError", "KeyError"] {
        log.wait_for(&[":error]", "MNF", class, "raised by groups_for_user"]);
    }
}

#[test]
fn a_failing_script_keeps_out_whom_it_was_to_keep_out() {
    // A denial would mean nothing here, and valid-user would let them in.
    for require in [
        "<RequireAll>\nRequire valid-user\nRequire not wsgi-group staff\n</RequireAll>",
        "<RequireAll>\nRequire valid-user\n<RequireNone>\nRequire wsgi-group staff\n</RequireNone>\n</RequireAll>",
    ] {
        let server = grouped(require);
        assert_eq!(status(&server, "other"), 200);
        assert_eq!(status(&server, "list"), 401);
        for user in ["raises", "text", "nothing", "unknown"] {
            assert_eq!(status(&server, user), 500, "{user}");
        }
    }
}

#[test]
fn without_a_script_nobody_is_in_any_group() {
    for require in [
        "Require wsgi-group staff",
        "<RequireAll>\nRequire valid-user\nRequire not wsgi-group staff\n</RequireAll>",
    ] {
        let server = hooked(basic(&format!("<Location />\n{require}\n</Location>")), GROUPS);
        assert_eq!(status(&server, "list"), 500);
        server.log().wait_for(&[":error]", "MNF", "Require wsgi-group", "WSGIAuthGroupScript"]);
    }
}

#[test]
fn a_group_combines_with_other_requirements() {
    let server =
        grouped("<RequireAny>\nRequire wsgi-group staff\nRequire user none\n</RequireAny>");
    for (user, wanted) in [("list", 200), ("none", 200), ("other", 401)] {
        assert_eq!(status(&server, user), wanted, "{user}");
    }
    let server =
        grouped("<RequireAll>\nRequire wsgi-group staff\nRequire user list\n</RequireAll>");
    for (user, wanted) in [("list", 200), ("set", 401), ("none", 401)] {
        assert_eq!(status(&server, user), wanted, "{user}");
    }
}

#[test]
fn names_of_groups_may_be_quoted_and_beyond_ascii() {
    let server = grouped("Require wsgi-group 'a b' \u{e9}");
    assert_eq!(status(&server, "utf8"), 200, "the configuration is UTF-8");
    assert_eq!(status(&server, "latin"), 401);
}

#[test]
fn a_requirement_names_a_group() {
    let test = crate::harness::config_test("<Location />\nRequire wsgi-group\n</Location>");
    assert!(
        !test.ok && test.said.contains("wsgi-group: the name of a group is missing"),
        "{}",
        test.said
    );
}

#[test]
fn the_user_that_the_user_script_has_named_is_asked_about() {
    let text = "def check_password(environ, user, password):\n    return 'renamed'\n\n\n\
                def groups_for_user(environ, user):\n    \
                return ['staff'] if (user, environ['REMOTE_USER']) == ('renamed',) * 2 else []\n";
    let conf = basic(
        "<Location />\nWSGIAuthGroupScript ${APPS}/hook.py\nRequire wsgi-group staff\n</Location>",
    );
    let server = hooked(conf, text);
    assert_eq!(status(&server, "me"), 200);
}

#[test]
fn group_authoritative_is_accepted_and_changes_nothing() {
    let server = grouped("WSGIGroupAuthoritative Off\nRequire wsgi-group staff");
    assert_eq!([status(&server, "list"), status(&server, "none")], [200, 401]);
    let test =
        crate::harness::config_test("<Location />\nWSGIGroupAuthoritative maybe\n</Location>");
    assert!(!test.ok && test.said.contains("'maybe' is not On or Off"), "{}", test.said);
}
