//! `docs/compatibility.md` is true: what it promises of environ and modules is there.

use crate::harness::{Conf, Response, Server, write};

const PAGE: &str = include_str!("../../docs/compatibility.md");

/// The rows of a section's table, each as its cells.
fn rows(section: &str) -> Vec<Vec<&'static str>> {
    let (_, text) = PAGE.split_once(&format!("\n## {section}\n")).expect("the page has it");
    let text = text.split("\n## ").next().expect("it ends somewhere");
    let cells = |row: &'static str| row.trim_matches('|').split('|').map(str::trim).collect();
    text.lines().filter(|line| line.starts_with("| ")).skip(1).map(cells).collect()
}

/// Shows the type of each environ key, and all names in both modules.
const SCRIPT: &str = r#"
import mod_wsgi, apache

def handle_request(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    lines = [f"{key}\t{type(value).__name__}\n" for key, value in environ.items()]
    for module in (mod_wsgi, apache):
        lines += [f"{module.__name__}.{name} is there\tyes\n" for name in dir(module)]
    return [line.encode() for line in lines]
"#;

fn answer() -> Response {
    let conf = Conf::new(
        "WSGIHandlerScript names ${APPS}/names.wsgi application-group=names\n\
         <Location />\nSetHandler names\n</Location>",
    );
    Server::start_with(conf, |root| write(root, "apps/names.wsgi", SCRIPT)).get("/x")
}

#[test]
fn an_environ_has_every_key_the_page_promises_with_its_type() {
    let answer = answer();
    let rows = rows("Keys of the environ");
    let promised: Vec<_> = rows.iter().filter(|row| row[2] == "always").collect();
    assert!(promised.len() > 30, "the table was read: {}", promised.len());
    for row in promised {
        let class = answer.fact(row[0]);
        assert!(row[1] == "object" || row[1] == class, "{} is of type {class}", row[0]);
    }
}

#[test]
fn the_modules_have_every_attribute_the_page_promises() {
    let answer = answer();
    let rows = rows("Attributes of the Python modules");
    assert!(rows.len() > 20, "the table was read: {}", rows.len());
    for row in rows {
        let there = answer.maybe_fact(&format!("{} is there", row[0])).is_some();
        assert_eq!(there, row[1] != "not yet", "{}", row[0]);
    }
}

#[test]
fn every_state_is_one_of_those_the_page_explains() {
    for (section, cell) in [
        ("Directives", 1),
        ("Options of directives", 1),
        ("Keys of the environ", 3),
        ("Attributes of the Python modules", 1),
    ] {
        for row in rows(section) {
            let (state, remark) = (row[cell], row[cell + 1]);
            assert!(["same", "better", "differs", "not yet"].contains(&state), "{row:?}");
            let explained = !remark.is_empty() || ["same", "not yet"].contains(&state);
            assert!(explained, "{row:?} says how");
        }
    }
}
