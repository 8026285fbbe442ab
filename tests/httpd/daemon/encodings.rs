//! File names in an encoding that CPython leaves to Python.

use super::groups;
use crate::harness::{Request, Server, at_once, write};
use std::fs;
use std::process::Command;

/// Its codec for file names lets the GIL go, as any code of Python's may.
const SLOW: &str = r#"
import codecs, encodings, sys, time
from encodings import iso8859_15


def decode(data, errors="strict"):
    time.sleep(0.005)
    return iso8859_15.Codec().decode(bytes(data), errors)


def search(name):
    if name.replace("-", "_") == "iso8859_15":
        return codecs.CodecInfo(iso8859_15.Codec().encode, decode, name="iso8859-15")


assert sys.getfilesystemencoding() == "iso8859-15"
codecs.unregister(encodings.search_function)
codecs.register(search)
codecs.register(encodings.search_function)


def handle_request(environ, start_response):
    start_response("200 OK", [])
    return [ascii(environ["SCRIPT_FILENAME"].rpartition("/")[2]).encode()]
"#;

#[test]
fn requests_whose_file_names_are_decoded_by_python_do_not_meet() {
    let conf = groups(
        "WSGIDaemonProcess shop locale=en_US.ISO-8859-15 threads=8\n\
         WSGIHandlerScript own ${APPS}/own.wsgi process-group=shop application-group=shop\n\
         <Location />\nSetHandler own\n</Location>",
    );
    let mut why_not = None;
    let server = Server::start_with(conf.environment("LOCPATH", "${ROOT}/locales"), |root| {
        write(root, "apps/own.wsgi", SLOW);
        fs::create_dir(root.join("locales")).expect("a folder");
        let made = Command::new("localedef")
            .args(["--no-archive", "-i", "en_US", "-f", "ISO-8859-15"])
            .arg(root.join("locales/en_US.ISO-8859-15"))
            .output();
        why_not = match made {
            Ok(made) if made.status.success() => None,
            Ok(made) => Some(String::from_utf8_lossy(&made.stderr).into_owned()),
            Err(error) => Some(error.to_string()),
        };
    });
    if let Some(why) = why_not {
        println!("left out: localedef makes no locale (Debian's package locales has them): {why}");
        return;
    }
    let answers = at_once(8, |client| {
        let ask = |turn| server.send(&Request::get(&format!("/{client}-{turn}-%E9%A4")));
        (0..20).map(|turn| (turn, ask(turn))).collect::<Vec<_>>()
    });
    for (client, answers) in answers.iter().enumerate() {
        for (turn, answer) in answers {
            answer.expect(200, &format!(r"'{client}-{turn}-\xe9\u20ac'"));
        }
    }
}
