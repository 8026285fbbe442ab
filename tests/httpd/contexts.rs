//! Where each directive may stand: what the head of its page says, asked of httpd for all of them.

use std::fs;
use std::path::Path;

use crate::harness::{Conf, Server, at_once, config_test, write};

/// Arguments that a directive of this syntax accepts.
fn arguments<'a>(name: &str, syntax: &'a str) -> &'a str {
    match name {
        "WSGIHandlerScript" => return "name /x.wsgi",
        "WSGIScriptAlias" => return "/elsewhere /x.wsgi",
        "WSGIScriptAliasMatch" => return "^/elsewhere$ /x.wsgi",
        "WSGIImportScript" => return "/x.wsgi process-group=%{GLOBAL} application-group=a",
        "WSGITelemetryOptions" => return "None",
        _ => {}
    }
    match syntax.split(['|', ' ', '[', ':']).next().expect("a first word") {
        "number" | "seconds" => "2",
        "bytes" => "1000000",
        "directory" => "/usr",
        "path" => "/x",
        "unix" => "unix:/x",
        "address" => "127.0.0.1",
        "filter" => "ignore",
        // A name of the user's, or a word that the directive knows.
        word => word,
    }
}

/// Each directive as a line, and where its page says that it may stand.
fn directives() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/directives");
    let mut directives: Vec<_> = fs::read_dir(folder)
        .expect("the pages of the directives")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name != "old.md"))
        .map(|path| {
            let page = fs::read_to_string(&path).expect("a page");
            let name = path.file_stem().expect("a name").to_str().expect("in ASCII").to_owned();
            let head = |what: &str| {
                let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {what} | ")));
                row.expect("a page has a head").trim_end_matches(" |").trim_matches('`').to_owned()
            };
            let syntax = head("Syntax");
            let line = match &name[..] {
                "WSGIInterpreterOptions" => format!("<{name}>\n</{name}>"),
                _ => {
                    let syntax = syntax.strip_prefix(&format!("{name} ")).expect("its own name");
                    format!("{name} {}", arguments(&name, syntax))
                }
            };
            (line, head("Context"))
        })
        .collect();
    directives.sort();
    assert!(directives.len() > 45, "the pages were read: {}", directives.len());
    directives
}

#[test]
fn each_directive_is_accepted_where_its_page_says_and_nowhere_else() {
    let cases: Vec<_> = directives()
        .into_iter()
        .flat_map(|(line, context)| {
            let host = format!("<VirtualHost *>\n{line}\n</VirtualHost>");
            let section = format!("<Directory /nowhere>\n{line}\n</Directory>");
            [
                (line, context.contains("server config")),
                (host, context.contains("virtual host")),
                (section, context.contains("directory")),
            ]
        })
        .collect();
    for part in cases.chunks(8) {
        at_once(part.len(), |i| {
            let (text, accepted) = &part[i];
            let test = config_test(text);
            assert_eq!(test.ok, *accepted, "{text}\n{}", test.said);
        });
    }
}

#[test]
fn each_directive_is_accepted_in_htaccess_under_its_class_only() {
    let classes = ["FileInfo", "AuthConfig", "Limit Indexes Options"];
    let mut conf = Conf::new("");
    for (number, class) in classes.iter().enumerate() {
        conf = conf
            .and(&format!("<Directory ${{DOCS}}/{number}>\nAllowOverride {class}\n</Directory>"));
    }
    let server = Server::start_with(conf, |root| {
        for number in 0..classes.len() {
            write(root, &format!("docs/{number}/file.txt"), "static");
        }
    });
    for (line, context) in directives() {
        for (number, class) in classes.iter().enumerate() {
            server.write(&format!("docs/{number}/.htaccess"), &line);
            // Refused directives make every request below a 500; those that are accepted may guard it.
            let accepted = server.get(&format!("/{number}/file.txt")).status != 500;
            let wanted = context.contains(&format!(".htaccess ({class})"));
            assert_eq!(accepted, wanted, "{line} under AllowOverride {class}");
        }
    }
}
