//! Which script answers which URL: `WSGIScriptAliasMatch`, and the order against other modules.

use crate::harness::{Conf, Server, config_test, write};

fn mapped(text: &str) -> Conf {
    Conf::new("WSGIApplicationGroup app").and(text)
}

/// The script that answered, SCRIPT_NAME and PATH_INFO.
fn seen(server: &Server, url: &str) -> (String, String, String) {
    let answer = server.get(url);
    assert_eq!(answer.status, 200, "{url}");
    let plain = |key: &str| answer.fact(key).trim_matches('\'').to_owned();
    let file = plain("SCRIPT_FILENAME");
    let name = file.rsplit('/').next().expect("a path").to_owned();
    (name, plain("SCRIPT_NAME"), plain("PATH_INFO"))
}

fn expect(server: &Server, url: &str, script: &str, script_name: &str, path_info: &str) {
    let wanted = (script.to_owned(), script_name.to_owned(), path_info.to_owned());
    assert_eq!(seen(server, url), wanted, "{url}");
}

/// The file that shows its environ, under several names.
fn with_scripts(conf: Conf, names: &[&str]) -> Server {
    Server::start_with(conf, |root| {
        let text = std::fs::read_to_string(root.join("apps/script.wsgi")).expect("it is there");
        for name in names {
            write(root, &format!("apps/{name}"), &text);
        }
    })
}

#[test]
fn groups_of_the_match_choose_the_script_and_what_follows_is_appended() {
    let server = with_scripts(
        mapped("WSGIScriptAliasMatch ^/sites/([a-z]+) ${APPS}/$1.wsgi"),
        &["one.wsgi", "two.wsgi"],
    );
    expect(&server, "/sites/one", "one.wsgi", "/sites/one", "");
    expect(&server, "/sites/two/x/y", "two.wsgi", "/sites/two", "/x/y");
    // Unlike an alias, a match may end in the middle of a name.
    assert_eq!(server.get("/sites/one2").status, 404, "there is no one.wsgi2");
    assert_eq!(server.get("/sites/none").status, 404);
    assert_eq!(server.get("/other/sites/one").status, 404, "it is anchored");
}

#[test]
fn an_expression_is_anchored_only_where_it_says_so() {
    let server = mapped("WSGIScriptAliasMatch /app ${APPS}/script.wsgi");
    let server = Server::start(server);
    expect(&server, "/app/x", "script.wsgi", "/app", "/x");
    expect(&server, "/deep/app/x", "script.wsgi", "/deep/app", "/x");
    assert_eq!(server.get("/deep").status, 404);
}

#[test]
fn a_match_of_nothing_is_none() {
    let server = Server::start(mapped(
        "WSGIScriptAliasMatch x* ${APPS}/missing.wsgi\nWSGIScriptAlias / ${APPS}/script.wsgi",
    ));
    expect(&server, "/y", "script.wsgi", "", "/y");
}

#[test]
fn the_target_may_use_the_whole_match() {
    let server = with_scripts(mapped("WSGIScriptAliasMatch ^/w\\.wsgi ${APPS}$0"), &["w.wsgi"]);
    expect(&server, "/w.wsgi/x", "w.wsgi", "/w.wsgi", "/x");
}

#[test]
fn aliases_of_both_kinds_are_tried_in_their_order() {
    let server = with_scripts(
        mapped(
            "WSGIScriptAliasMatch ^/a/b ${APPS}/one.wsgi\nWSGIScriptAlias /a ${APPS}/two.wsgi\n\
             WSGIScriptAliasMatch ^/ac ${APPS}/script.wsgi",
        ),
        &["one.wsgi", "two.wsgi"],
    );
    expect(&server, "/a/b/c", "one.wsgi", "/a/b", "/c");
    expect(&server, "/a/c", "two.wsgi", "/a", "/c");
    expect(&server, "/ac", "script.wsgi", "/ac", "");
}

#[test]
fn a_match_takes_the_options_of_an_alias() {
    let server = Server::start(Conf::new(
        "WSGIScriptAliasMatch ^/app ${APPS}/script.wsgi application-group=chosen callable-object=other",
    ));
    let answer = server.get("/app");
    assert_eq!(answer.fact("mod_wsgi.application_group"), "'chosen'");
    assert_eq!(answer.fact("called"), "'other'");
}

#[test]
fn malformed_matches_are_refused_in_one_line_that_says_why() {
    for (line, words) in [
        ("WSGIScriptAliasMatch", &["regular expression", "missing"][..]),
        ("WSGIScriptAliasMatch ^/x", &["script or directory", "missing"]),
        ("WSGIScriptAliasMatch ^/(x /x.wsgi", &["'^/(x'", "regular expression"]),
        ("WSGIScriptAliasMatch ^/x /x.wsgi colour=red", &["'colour'", "application-group="]),
    ] {
        let test = config_test(line);
        assert!(!test.ok, "accepted: {line}");
        let of_line = |said: &&str| words.iter().all(|word| said.contains(word));
        let lines = test.said.lines().filter(of_line).count();
        assert_eq!(lines, 1, "{line}: {}", test.said);
    }
    let inside = config_test("<Directory /x>\nWSGIScriptAliasMatch ^/x /x.wsgi\n</Directory>");
    assert!(!inside.ok && inside.said.contains("not allowed"), "{}", inside.said);
}

#[test]
fn what_mod_alias_maps_is_never_ours() {
    let ours = "WSGIScriptAliasMatch ^/ ${APPS}/script.wsgi";
    let theirs = "AliasMatch ^/static/(.*) ${DOCS}/$1\nRedirectMatch ^/old /new";
    for conf in [format!("{ours}\n{theirs}"), format!("{theirs}\n{ours}")] {
        let server = Server::start_with(mapped(&conf).with("alias"), |root| {
            write(root, "docs/x.txt", "static");
        });
        server.get("/static/x.txt").expect(200, "static");
        assert_eq!(server.get("/old").status, 302);
        assert_eq!(server.get("/").status, 200);
    }
}

#[test]
fn mod_rewrite_may_change_the_path_before_an_alias_sees_it() {
    let server = Server::start(
        mapped(
            "WSGIScriptAlias /app ${APPS}/script.wsgi\nRewriteEngine On\n\
             RewriteRule ^/nice/(.*)$ /app/$1 [PT,QSA]\nRewriteRule ^/gone$ - [G]",
        )
        .with("rewrite"),
    );
    expect(&server, "/nice/x", "script.wsgi", "/app", "/x");
    assert_eq!(server.get("/nice/x?y=z").fact("QUERY_STRING"), "'y=z'");
    assert_eq!(server.get("/nice/x").fact("REQUEST_URI"), "'/nice/x'");
    assert_eq!(server.get("/gone").status, 410);
}

/// What mod_wsgi's users write to serve files that exist and leave the rest to the application.
#[test]
fn files_that_exist_can_be_served_by_httpd_and_the_rest_by_a_script() {
    let server = Server::start_with(
        mapped(
            "AddHandler wsgi-script .wsgi\n<Directory ${DOCS}>\nOptions +ExecCGI\nRewriteEngine On\n\
             RewriteCond %{REQUEST_FILENAME} !-f\n\
             RewriteRule ^(.*)$ /site.wsgi/$1 [QSA,PT,L]\n</Directory>",
        )
        .with("rewrite")
        .with("mime"),
        |root| {
            let text = std::fs::read_to_string(root.join("apps/script.wsgi")).expect("it is there");
            write(root, "docs/site.wsgi", &text);
            write(root, "docs/style.css", "css");
        },
    );
    server.get("/style.css").expect(200, "css");
    expect(&server, "/page", "site.wsgi", "/site.wsgi", "/page");
    expect(&server, "/deep/page", "site.wsgi", "/site.wsgi", "/deep/page");
}

#[test]
fn the_index_file_of_a_folder_may_be_a_script() {
    let server = Server::start_with(
        mapped(
            "AddHandler wsgi-script .wsgi\nDirectoryIndex index.wsgi\n\
             <Directory ${DOCS}>\nOptions +ExecCGI\n</Directory>",
        )
        .with("dir")
        .with("mime"),
        |root| {
            let text = std::fs::read_to_string(root.join("apps/script.wsgi")).expect("it is there");
            write(root, "docs/shop/index.wsgi", &text);
        },
    );
    expect(&server, "/shop/", "index.wsgi", "/shop/index.wsgi", "");
    assert_eq!(server.get("/shop").status, 301);
}
