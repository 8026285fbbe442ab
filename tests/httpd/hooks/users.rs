//! WSGIAuthUserScript, for Basic and Digest authentication.

use super::{base64, basic, curl, hooked, login, prepare, refused};
use crate::harness::{Conf, Request, Response, Server, at_once, write};
use md5::{Digest, Md5};

const VALID: &str = "<Location />\nRequire valid-user\n</Location>";

/// Answers what the password says.
const ANSWERS: &str = r#"
ANSWERS = {"none": None, "true": True, "false": False, "name": "somebody", "empty": "",
           "one": 1, "zero": 0, "bytes": b"somebody", "list": ["somebody"], "wide": "\u20ac",
           "line": "some\nbody", "nul": "some\0body", "latin": "\xe9"}


def check_password(environ, user, password):
    if password == "raises":
        raise ValueError(f"nothing is known of {password!r}")
    return ANSWERS[password]
"#;

#[test]
fn each_result_has_its_status() {
    let server = hooked(basic(VALID), ANSWERS);
    for (password, status) in [
        ("true", 200),
        ("name", 200),
        ("latin", 200),
        ("none", 401),
        ("false", 401),
        ("empty", 500),
        ("one", 500),
        ("zero", 500),
        ("bytes", 500),
        ("list", 500),
        ("wide", 500),
        ("line", 500),
        ("nul", 500),
        ("raises", 500),
        ("unknown", 500),
    ] {
        let answer = server.send(&login("/file.txt", b"me", password.as_bytes()));
        assert_eq!(answer.status, status, "{password}");
        assert_eq!(answer.text() == "static", status == 200, "{password}");
        assert_eq!(answer.header("WWW-Authenticate").is_some(), status == 401, "{password}");
    }
    refused(&server.get("/file.txt"), 401);
    let log = server.log();
    for what in ["int", "bytes", "list", "beyond ISO-8859-1", "an empty str"] {
        log.wait_for(&[":error]", "MNF", "check_password()", "hook.py", "returned", what]);
    }
    log.wait_for(&[":error]", "MNF", "[client ", "ValueError raised by check_password"]);
}

#[test]
fn a_name_that_is_returned_is_the_users() {
    let conf = basic(VALID).and(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/environ.wsgi\n\
         <Location />\nSetHandler app\n</Location>\n\
         <Location /only>\nAuthType Basic\nRequire user somebody\n</Location>",
    );
    let server = hooked(conf, ANSWERS);
    let named = |password: &str| server.send(&login("/x", b"me", password.as_bytes()));
    assert_eq!(named("true").fact("REMOTE_USER"), "'me'");
    assert_eq!(named("name").fact("REMOTE_USER"), "'somebody'");
    assert_eq!(named("latin").fact("REMOTE_USER"), "'\\xe9'");
    assert_eq!(named("name").fact("AUTH_TYPE"), "'Basic'");
    assert_eq!(server.send(&login("/only", b"me", b"name")).status, 200);
    assert_eq!(server.send(&login("/only", b"me", b"true")).status, 401);
}

#[test]
fn credentials_arrive_byte_by_byte() {
    let text = r#"
KNOWN = {"": "", "me": "with:colon: and :", "e": "", "\xc3\xa9": "\xe2\x82\xac", "\xff\x01": "\x80",
         " me ": " p ", "long": "x" * 3000}


def check_password(environ, user, password):
    return KNOWN[user] == password
"#;
    let server = hooked(basic(VALID), text);
    let long = "x".repeat(3000);
    let right: [(&[u8], &[u8]); 7] = [
        (b"", b""),
        (b"me", b"with:colon: and :"),
        (b"e", b""),
        ("é".as_bytes(), "€".as_bytes()),
        (b"\xff\x01", b"\x80"),
        (b" me ", b" p "),
        (b"long", long.as_bytes()),
    ];
    for (user, password) in right {
        let answer = server.send(&login("/file.txt", user, password));
        assert_eq!(answer.status, 200, "{user:?}");
        let wrong = [password, b"!"].concat();
        refused(&server.send(&login("/file.txt", user, &wrong)), 401);
    }
    // As ISO-8859-1 the same name is another one, of whom nothing is known.
    refused(&server.send(&login("/file.txt", b"\xe9", "€".as_bytes())), 500);
}

#[test]
fn no_password_reaches_the_log() {
    let secret = "correct-horse-battery";
    for body in [
        "raise ValueError(password)",
        "raise ValueError(password) from KeyError(password)",
        "int(password)",
        "{}[password]",
        "raise ExceptionGroup(password, [ValueError(password)])",
        "raise type('Odd', (Exception,), {'__str__': lambda self: password})",
        "raise SystemExit(password)",
        "return [password]",
        "return password + '\\0'",
        "return ''.join(chr(8364) for _ in password)",
        "return environ['HTTP_AUTHORIZATION']",
    ] {
        let text = format!("def check_password(environ, user, password):\n    {body}\n");
        let conf = basic(VALID).and("LogLevel trace8");
        let server = hooked(conf.and("<Location />\nCGIPassAuth On\n</Location>"), &text);
        refused(&server.send(&login("/file.txt", b"me", secret.as_bytes())), 500);
        server.log().wait_for(&[":error]", "MNF", "check_password", "hook.py"]);
        server.get("/file.txt");
        let log = server.log().text();
        // httpd itself shows headers at trace4 and above.
        let ours = log.lines().filter(|line| line.contains("[wsgi:")).collect::<Vec<_>>();
        assert!(!ours.is_empty());
        let encoded = base64(format!("me:{secret}").as_bytes());
        for line in ours {
            assert!(!line.contains(secret) && !line.contains(&encoded), "{body}: {line}");
        }
    }
}

#[test]
fn a_traceback_says_where_although_not_what() {
    let text = "def check_password(environ, user, password):\n    return deeper(password)\n\n\n\
                def deeper(password):\n    return {}[password]\n";
    let server = hooked(basic(VALID), text);
    refused(&server.send(&login("/file.txt", b"me", b"secret")), 500);
    let log = server.log();
    log.wait_for(&[":error]", "hook.py\", line 2, in check_password"]);
    log.wait_for(&[":error]", "hook.py\", line 6, in deeper"]);
    log.wait_for(&[":error]", "KeyError (what it says is left out"]);
}

#[test]
fn without_a_script_nobody_is_let_in() {
    let conf = Conf::new(
        "<Location />\nAuthType Basic\nAuthName here\nAuthBasicProvider wsgi\nRequire valid-user\n</Location>",
    );
    let conf = conf.with("authn_core").with("auth_basic").with("authz_user");
    let server = hooked(conf, "");
    refused(&server.send(&login("/file.txt", b"me", b"true")), 500);
    server.log().wait_for(&[":error]", "MNF", "AuthBasicProvider wsgi", "WSGIAuthUserScript"]);
}

#[test]
fn the_next_provider_is_asked_about_whom_the_script_does_not_know() {
    let conf = Conf::new(
        "<Location />\nAuthType Basic\nAuthName here\nAuthBasicProvider wsgi file\n\
         AuthUserFile ${ROOT}/users\nWSGIAuthUserScript ${APPS}/hook.py\nRequire valid-user\n</Location>",
    );
    let conf = conf.with("authn_core").with("auth_basic").with("authz_user").with("authn_file");
    let server = Server::start_with(conf, |root| {
        prepare(
            root,
            "def check_password(environ, user, password):\n    \
             return {'both': False, 'broken': 1}.get(user)\n",
        );
        // The password is 'word', as SHA-1.
        let hash = "{SHA}PLzZCtxLGSqHpiWFC38jHK3fDrM=";
        let users = ["file", "both", "broken"].map(|user| format!("{user}:{hash}\n"));
        write(root, "users", &users.concat());
    });
    server.send(&login("/file.txt", b"file", b"word")).expect(200, "static");
    refused(&server.send(&login("/file.txt", b"file", b"other")), 401);
    refused(&server.send(&login("/file.txt", b"both", b"word")), 401);
    refused(&server.send(&login("/file.txt", b"broken", b"word")), 500);
    refused(&server.send(&login("/file.txt", b"nobody", b"word")), 401);
}

#[test]
fn curl_logs_in() {
    let text = "def check_password(environ, user, password):\n    return (user, password) == ('me', 'a:b')\n";
    let server = hooked(basic(VALID), text);
    let url = format!("http://{}/file.txt", server.address());
    assert_eq!(curl(&url, &["--user", "me:a:b"]), ("200".into(), "static".into()));
    assert_eq!(curl(&url, &["--user", "me:a"]).0, "401");
}

/// Digest authentication; `realms` is the body of get_realm_hash.
fn digest(realms: &str) -> Server {
    let conf = Conf::new(
        "<Location />\nAuthType Digest\nAuthName \"the realm\"\nAuthDigestProvider wsgi\n\
         WSGIAuthUserScript ${APPS}/hook.py\nRequire valid-user\n</Location>",
    );
    let conf = conf.with("authn_core").with("auth_digest").with("authz_user");
    let text = format!(
        "import hashlib\n\n\ndef of(*parts):\n    \
         return hashlib.md5(':'.join(parts).encode('latin-1')).hexdigest()\n\n\n\
         def get_realm_hash(environ, user, realm):\n    {realms}\n"
    );
    hooked(conf, &text)
}

/// Asks for `/file.txt` with a user's name as it is; curl 8.22 writes `%C3%A9` for an `é`.
fn digest_login(server: &Server, user: &str, password: &str) -> Response {
    let md5 = |parts: &[&str]| {
        let hash = Md5::digest(parts.join(":"));
        hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let challenge = server.get("/file.txt");
    let asks = challenge.header("WWW-Authenticate").expect("a challenge");
    let (_, nonce) = asks.split_once("nonce=\"").expect("a nonce");
    let (nonce, _) = nonce.split_once('"').expect("its end");
    let secret = md5(&[user, "the realm", password]);
    let what = md5(&["GET", "/file.txt"]);
    let response = md5(&[&secret, nonce, "00000001", "ours", "auth", &what]);
    let login = format!(
        "Digest username=\"{user}\", realm=\"the realm\", nonce=\"{nonce}\", uri=\"/file.txt\", \
         algorithm=MD5, qop=auth, nc=00000001, cnonce=\"ours\", response=\"{response}\""
    );
    server.send(&Request::get("/file.txt").header("Authorization", &login))
}

#[test]
fn digest_authentication_lets_in_who_knows_the_password() {
    let server = digest(
        "known = of(user, realm, 'word')\n    return {'me': known, 'b': known.encode(), \
         'big': known.upper(), '\\xc3\\xa9': known}.get(user)",
    );
    let url = format!("http://{}/file.txt", server.address());
    for user in ["me", "b", "big"] {
        let right = curl(&url, &["--digest", "--user", &format!("{user}:word")]);
        assert_eq!(right, ("200".into(), "static".into()), "{user}");
        let wrong = curl(&url, &["--digest", "--user", &format!("{user}:other")]);
        assert_eq!(wrong.0, "401", "{user}");
    }
    digest_login(&server, "é", "word").expect(200, "static");
    refused(&digest_login(&server, "é", "other"), 401);
    assert_eq!(curl(&url, &["--digest", "--user", "nobody:word"]).0, "401");
    assert_eq!(curl(&url, &["--basic", "--user", "me:word"]).0, "401");
}

#[test]
fn what_is_no_hash_lets_nobody_in() {
    for body in [
        "return ''",
        "return b''",
        "return True",
        "return False",
        "return 'word'",
        "return of(user, realm, 'word') + '0'",
        "return of(user, realm, 'word')[:-1] + 'g'",
        "return [of(user, realm, 'word')]",
        "raise ValueError(of(user, realm, 'word'))",
    ] {
        let server = digest(body);
        let url = format!("http://{}/file.txt", server.address());
        assert_eq!(curl(&url, &["--digest", "--user", "me:word"]).0, "500", "{body}");
        server.log().wait_for(&[":error]", "MNF", "get_realm_hash", "hook.py"]);
        let hash = "ValueError: ";
        assert!(server.log().lines_with(&[hash]).is_empty(), "a hash is as good as a password");
    }
}

#[test]
fn a_script_for_basic_only_lets_nobody_in_by_digest() {
    let conf = Conf::new(
        "<Location />\nAuthType Digest\nAuthName here\nAuthDigestProvider wsgi\n\
         WSGIAuthUserScript ${APPS}/hook.py\nRequire valid-user\n</Location>",
    );
    let conf = conf.with("authn_core").with("auth_digest").with("authz_user");
    let server = hooked(conf, ANSWERS);
    let url = format!("http://{}/file.txt", server.address());
    assert_eq!(curl(&url, &["--digest", "--user", "me:true"]).0, "500");
    server.log().wait_for(&[":error]", "MNF", "defines no 'get_realm_hash'"]);
}

#[test]
fn forty_clients_log_in_at_once_and_none_is_taken_for_another() {
    let conf = basic(VALID).and(
        "WSGIApplicationGroup app\nWSGIHandlerScript app ${APPS}/environ.wsgi\n\
         <Location />\nSetHandler app\n</Location>",
    );
    let text = "import time\n\n\ndef check_password(environ, user, password):\n    \
                time.sleep(0.01)\n    return password == user[::-1]\n";
    let server = hooked(conf, text);
    let answers = at_once(40, |i| {
        let user = format!("user{i:02}");
        let right: String = user.chars().rev().collect();
        let password = if i % 4 == 3 { &user } else { &right };
        server.send(&login("/x", user.as_bytes(), password.as_bytes()))
    });
    for (i, answer) in answers.into_iter().enumerate() {
        if i % 4 == 3 {
            assert_eq!(answer.status, 401, "client {i}");
        } else {
            assert_eq!(answer.fact("REMOTE_USER"), format!("'user{i:02}'"));
        }
    }
}
