//! The quick starts: each page's application with each page's configuration, as its reader has them.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::harness::{Conf, Request, Server, extensions_venv, test_venv, write};
use crate::pages;

/// A server as the page has its reader set it up, with the packages of a virtual environment.
fn follow(name: &str, venv: &Path) -> Server {
    let page = format!("docs/quick-starts/{name}.md");
    let site = pages::block(&page, "id=site").text.replace("/srv/", "${ROOT}/srv/");
    let conf = Conf::new(&site).python_home(&venv.display().to_string()).with("alias");
    Server::start_with(conf, |root| {
        write(root, "srv/hello/nothing", "");
        symlink(venv, root.join("srv/hello/venv")).expect("a link to the virtual environment");
        let at_srv = |text: &str| text.replace("/srv/", &format!("{}/srv/", root.display()));
        for block in pages::blocks(&page) {
            if block.has("id=project") {
                let text = at_srv(&block.text);
                let output =
                    Command::new("bash").args(["-euc", &text]).output().expect("bash runs");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
            if let Some(file) = block.value("file") {
                write(root, file.trim_start_matches('/'), &block.text);
            }
        }
        // httpd's children read it, whatever the umask of whoever runs the tests.
        let opened =
            Command::new("chmod").args(["-R", "a+rX"]).arg(root.join("srv/hello")).output();
        assert!(opened.expect("chmod runs").status.success(), "the folder is opened");
    })
}

/// The page of `name` works, in an interpreter of its own.
fn works(name: &str, framework: &str) {
    let server = follow(name, Path::new(&test_venv()));
    let answer = server.get("/");
    assert_eq!((answer.status, answer.text()), (200, format!("Hello from {framework}\n")));
    assert_eq!(server.get("/no-such-page").status, 404);
    // Nothing had to move to another interpreter.
    assert_eq!(server.log().lines_with(&["MNF0037"]), Vec::<String>::new());
}

#[test]
fn flask_is_served_as_its_page_says() {
    works("flask", "Flask");
}

#[test]
fn django_is_served_as_its_page_says() {
    works("django", "Django");
}

#[test]
fn bottle_is_served_as_its_page_says() {
    works("bottle", "Bottle");
}

#[test]
fn falcon_is_served_as_its_page_says() {
    works("falcon", "Falcon");
}

#[test]
fn pyramid_is_served_as_its_page_says() {
    works("pyramid", "Pyramid");
}

/// Where there are no wheels of it for this Python, says so.
fn has_fastapi(venv: &Path) -> bool {
    let unavailable =
        std::fs::read_to_string(venv.join("unavailable")).expect("scripts/test writes it");
    let lacks = |name: &&str| unavailable.lines().any(|line| line.starts_with(name));
    match ["fastapi", "pydantic_core", "a2wsgi"].iter().find(|name| lacks(name)) {
        Some(name) => eprintln!("left out: there is no wheel of {name} for this Python"),
        None => return true,
    }
    false
}

#[test]
fn fastapi_is_served_as_its_page_says() {
    let venv = extensions_venv();
    if !has_fastapi(&venv) {
        return;
    }
    let server = follow("fastapi", &venv);
    let answer = server.get("/");
    assert_eq!((answer.status, answer.text()), (200, "Hello from FastAPI\n".to_owned()));
    let add = |body: &[u8]| {
        let request = Request::post("/items", body).header("Content-Type", "application/json");
        let answer = server.send(&request);
        (answer.status, answer.text())
    };
    assert_eq!(add(b"{\"name\": \"tea\"}"), (200, "{\"name\":\"tea\",\"count\":2}".to_owned()));
    assert_eq!(add(b"{\"count\": 1}").0, 422);
    assert_eq!(server.log().lines_with(&["MNF0037"]), Vec::<String>::new());
}

#[test]
fn fastapi_in_a_group_of_its_own_moves_to_the_main_interpreter_with_a_warning_that_names_pydantic()
{
    let venv = extensions_venv();
    if !has_fastapi(&venv) {
        return;
    }
    let application = pages::block("docs/quick-starts/fastapi.md", "file=/srv/hello/app.wsgi").text;
    let conf = Conf::new("WSGIScriptAlias / ${APPS}/fastapi.wsgi application-group=hello");
    let server = Server::start_with(conf.python_home(&venv.display().to_string()), |root| {
        write(root, "apps/fastapi.wsgi", &application);
    });
    let answer = server.get("/");
    assert_eq!((answer.status, answer.text()), (200, "Hello from FastAPI\n".to_owned()));
    let line = server.log().wait_for(&["MNF0037", ":warn]", "group 'hello' moves"]);
    assert!(line.contains("pydantic_core") && line.contains("main interpreter"), "{line}");
}
