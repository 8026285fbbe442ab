//! Which interpreter a group ends up in when its code needs what one with its own GIL refuses:
//! extension modules and `os.fork`. The packages are real ones, from tests/apps/extensions.txt.

mod extensions;
mod forks;
mod modules;
mod standard;

use crate::harness::{Conf, Response, Server, write};
use std::path::Path;

/// The program that is a URL of its own: `imports` is run when the script is loaded, `serve` for each
/// request and sets `answer`.
struct Script<'a> {
    name: &'a str,
    imports: &'a str,
    serve: &'a str,
}

const SCRIPT: &str = r#"
try:
    import _interpreters
except ImportError:  # Python 3.12
    import _xxsubinterpreters as _interpreters

IMPORTS

def number(interpreter):
    return int(interpreter[0] if isinstance(interpreter, tuple) else interpreter)

def application(environ, start_response):
    answer = None
SERVE
    current, main = number(_interpreters.get_current()), number(_interpreters.get_main())
    try:
        gil = _interpreters.get_config(current).gil
    except AttributeError:
        gil = "unknown"
    place = "main" if current == main else gil
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"place\t{place}\nanswer\t{answer!r}\n".encode()]
"#;

impl Script<'_> {
    fn text(&self) -> String {
        let serve = self.serve.replace('\n', "\n    ");
        SCRIPT.replace("IMPORTS", self.imports).replace("SERVE", &format!("    {serve}"))
    }

    /// The script as `/name`, in an application group of its own.
    fn alias(&self) -> String {
        let name = self.name;
        format!("WSGIScriptAlias /{name} ${{APPS}}/{name}.wsgi application-group={name}")
    }
}

/// A server of these scripts, with the packages of `venv`.
fn serve(venv: &Path, more: &str, scripts: &[Script<'_>]) -> Server {
    let aliases: Vec<_> = scripts.iter().map(Script::alias).collect();
    let conf = Conf::new(&aliases.join("\n")).and(more).python_home(&venv.display().to_string());
    Server::start_with(conf, |root| {
        for script in scripts {
            write(root, &format!("apps/{}.wsgi", script.name), &script.text());
        }
    })
}

/// Where `/name` is served, and what it answers.
#[track_caller]
fn ask(server: &Server, name: &str) -> (String, String) {
    let answer = server.get(&format!("/{name}"));
    assert_eq!(answer.status, 200, "/{name}: {}\n{}", answer.text(), server.log().text());
    facts(&answer)
}

fn facts(answer: &Response) -> (String, String) {
    (answer.fact("place"), answer.fact("answer"))
}

/// The warnings that a group has moved.
fn moves(server: &Server, name: &str) -> Vec<String> {
    server.log().lines_with(&["MNF0037", ":warn]", &format!("group '{name}' moves")])
}
