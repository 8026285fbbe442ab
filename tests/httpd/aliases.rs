//! Script files: `WSGIScriptAlias`, the handler `wsgi-script`, and which callable answers.

use std::fs;

use crate::harness::{Conf, Request, Response, Server, config_test, process_group, write};

/// `text` in an application group that all its requests share.
fn mapped(text: &str) -> Conf {
    Conf::new("WSGIApplicationGroup app").and(text)
}

fn called(answer: &Response) -> String {
    answer.fact("called").trim_matches('\'').to_owned()
}

/// SCRIPT_NAME and PATH_INFO of a request for each URL.
#[track_caller]
fn splits(server: &Server, table: &[(&str, &str, &str)]) {
    for (url, script_name, path_info) in table {
        let answer = server.get(url);
        assert_eq!(answer.status, 200, "{url}");
        let seen = [answer.fact("SCRIPT_NAME"), answer.fact("PATH_INFO")];
        assert_eq!(seen, [format!("'{script_name}'"), format!("'{path_info}'")], "{url}");
    }
}

/// `line` is refused in one line that has its directive and all of `words`.
#[track_caller]
fn refused(line: &str, words: &[&str]) {
    let test = config_test(line);
    let directive =
        line.split_whitespace().find(|word| word.starts_with("WSGI")).expect("a directive");
    assert!(!test.ok, "accepted: {line}\n{}", test.said);
    let whole =
        |said: &&str| said.contains(directive) && words.iter().all(|word| said.contains(word));
    let lines = test.said.lines().filter(whole).count();
    assert_eq!(lines, 1, "{line}: lines with {directive} and {words:?}:\n{}", test.said);
}

#[track_caller]
fn accepted(text: &str) {
    let test = config_test(text);
    assert!(test.ok, "refused: {text}\n{}", test.said);
}

#[test]
fn an_alias_answers_what_begins_with_it_and_stops_at_a_slash() {
    let server = Server::start(mapped("WSGIScriptAlias /app ${APPS}/script.wsgi"));
    splits(
        &server,
        &[
            ("/app", "/app", ""),
            ("/app/", "/app", "/"),
            ("/app/x/y", "/app", "/x/y"),
            ("/app//x///y", "/app", "/x/y"),
            ("//app/x", "/app", "/x"),
            ("/app/x/", "/app", "/x/"),
            ("/app/x?/y=z", "/app", "/x"),
        ],
    );
    for url in ["/application", "/ap", "/APP", "/other/app", "/"] {
        assert_eq!(server.get(url).status, 404, "{url}");
    }
}

#[test]
fn runs_of_slashes_match_where_httpd_leaves_them() {
    let conf = mapped("MergeSlashes Off\nWSGIScriptAlias /deep//app ${APPS}/script.wsgi");
    let server = Server::start(conf);
    for url in ["/deep/app/x", "/deep///app//x"] {
        let answer = server.get(url);
        assert_eq!((answer.status, answer.fact("PATH_INFO")), (200, "'/x'".to_owned()), "{url}");
    }
    assert_eq!(server.get("/deepapp").status, 404);
}

#[test]
fn an_alias_of_the_root_answers_everything_with_an_empty_script_name() {
    let server = Server::start(mapped("WSGIScriptAlias / ${APPS}/script.wsgi"));
    splits(&server, &[("/", "", "/"), ("/x/y", "", "/x/y"), ("/x/", "", "/x/")]);
    let options = server.send(&Request::new("OPTIONS", "*"));
    assert_ne!(options.status, 500, "a request for the server itself is not the script's");
}

#[test]
fn a_folder_of_scripts_may_be_the_target() {
    let server = Server::start(mapped("WSGIScriptAlias /d/ ${APPS}/"));
    splits(
        &server,
        &[
            ("/d/script.wsgi", "/d/script.wsgi", ""),
            ("/d/script.wsgi/x/y", "/d/script.wsgi", "/x/y"),
        ],
    );
    assert_eq!(server.get("/d/none.wsgi").status, 404);
    assert_eq!(server.get("/d").status, 404);
    server.log().wait_for(&[":error]", "MNF0021", "none.wsgi"]);
    assert_eq!(server.get("/d/").status, 403, "the folder itself");
    server.log().wait_for(&[":error]", "MNF0021", "directory"]);
}

#[test]
fn what_follows_the_alias_is_appended_to_the_target_as_it_is() {
    let server = Server::start(mapped(
        "WSGIScriptAlias /half/ ${APPS}/scr\nWSGIScriptAlias /twice ${APPS}/",
    ));
    splits(
        &server,
        &[
            ("/half/ipt.wsgi/x", "/half/ipt.wsgi", "/x"),
            ("/twice/script.wsgi/x", "/twice/script.wsgi", "/x"),
        ],
    );
    let file = server.path("apps/script.wsgi").display().to_string();
    assert_eq!(server.get("/half/ipt.wsgi").fact("SCRIPT_FILENAME"), format!("'{file}'"));
}

#[test]
fn the_first_alias_that_matches_wins() {
    let text = |first: &str, second: &str| {
        mapped(&format!(
            "WSGIScriptAlias {first} ${{APPS}}/script.wsgi\nWSGIScriptAlias {second} ${{APPS}}/script.wsgi"
        ))
    };
    let server = Server::start(text("/app", "/app/deep"));
    splits(&server, &[("/app/deep/x", "/app", "/deep/x")]);
    let server = Server::start(text("/app/deep", "/app"));
    splits(&server, &[("/app/deep/x", "/app/deep", "/x"), ("/app/x", "/app", "/x")]);
}

#[test]
fn a_virtual_hosts_aliases_come_before_the_main_servers() {
    let server = Server::start(mapped(
        "WSGIScriptAlias /app ${APPS}/script.wsgi callable-object=other\n\
         <VirtualHost 127.0.0.1:${PORT}>\nServerName plain.test\n</VirtualHost>\n\
         <VirtualHost 127.0.0.1:${PORT}>\nServerName own.test\n\
         WSGIScriptAlias / ${APPS}/script.wsgi\n</VirtualHost>",
    ));
    let ask = |host: &str, url: &str| server.send(&Request::get(url).header("Host", host));
    assert_eq!(called(&ask("plain.test", "/app")), "other");
    assert_eq!(ask("plain.test", "/x").status, 404);
    assert_eq!(called(&ask("own.test", "/app")), "application");
    assert_eq!(ask("own.test", "/app").fact("PATH_INFO"), "'/app'");
}

#[test]
fn alias_and_redirect_beat_it_wherever_they_stand() {
    let ours = "WSGIScriptAlias / ${APPS}/script.wsgi";
    let theirs = "Alias /static ${DOCS}/static\nRedirect /old /new";
    for conf in [format!("{ours}\n{theirs}"), format!("{theirs}\n{ours}")] {
        let server = Server::start_with(mapped(&conf).with("alias"), |root| {
            write(root, "docs/static/x.txt", "static");
        });
        server.get("/static/x.txt").expect(200, "static");
        assert_eq!(server.get("/static/none.txt").status, 404);
        assert_eq!(server.get("/old").status, 302);
        assert_eq!(called(&server.get("/statics")), "application");
    }
}

#[test]
fn urls_are_decoded_before_they_are_compared_and_split() {
    let server = Server::start(mapped("WSGIScriptAlias /app ${APPS}/script.wsgi"));
    splits(
        &server,
        &[
            ("/%61pp/x", "/app", "/x"),
            ("/app/a%20b%2Bc", "/app", "/a b+c"),
            ("/app/caf%C3%A9", "/app", r"/caf\xc3\xa9"),
            ("/app/%25", "/app", "/%"),
            ("/app/a%3Fb", "/app", "/a?b"),
            ("/app/./x/../y", "/app", "/y"),
        ],
    );
    assert_eq!(server.get("/app/%C3%A9").fact("REQUEST_URI"), "'/app/%C3%A9'");
    assert_eq!(server.get("/app/a%2Fb").status, 404);
    assert_eq!(server.get("/app/%zz").status, 400);
    let conf = mapped("AllowEncodedSlashes On\nWSGIScriptAlias /app ${APPS}/script.wsgi");
    splits(&Server::start(conf), &[("/app/a%2Fb", "/app", "/a/b")]);
}

#[test]
fn the_environ_of_a_script_file_names_it() {
    let server = Server::start(Conf::new("WSGIScriptAlias /app ${APPS}/script.wsgi"));
    let answer = server.get("/app/x");
    let file = server.path("apps/script.wsgi").display().to_string();
    for (key, value) in [
        ("SCRIPT_FILENAME", format!("'{file}'")),
        ("mod_wsgi.request_handler", "'wsgi-script'".to_owned()),
        ("mod_wsgi.handler_script", "''".to_owned()),
        ("mod_wsgi.callable_object", "'application'".to_owned()),
        ("mod_wsgi.script_name", "'/app'".to_owned()),
        ("mod_wsgi.path_info", "'/x'".to_owned()),
        ("mod_wsgi.process_group", format!("'{}'", process_group())),
        ("mod_wsgi.application_group", format!("'manifold.test:{}|/app'", server.port())),
    ] {
        assert_eq!(answer.fact(key), value, "{key}");
    }
    assert_eq!(answer.maybe_fact("PATH_TRANSLATED"), None);
}

#[test]
fn an_alias_of_the_root_names_its_group_by_the_server_alone() {
    let server = Server::start(Conf::new("WSGIScriptAlias / ${APPS}/script.wsgi"));
    let name = format!("'manifold.test:{}|'", server.port());
    for url in ["/", "/x/y"] {
        assert_eq!(server.get(url).fact("mod_wsgi.application_group"), name, "{url}");
    }
}

#[test]
fn options_override_the_directives_in_scope() {
    let server = Server::start(mapped(
        "WSGIPassAuthorization On\nWSGICallableObject nothing\n\
         WSGIScriptAlias /a ${APPS}/script.wsgi callable-object=other application-group=one pass-authorization=Off\n\
         WSGIScriptAlias /b ${APPS}/script.wsgi callable-object=application application-group=%{GLOBAL}\n\
         WSGIScriptAlias /c ${APPS}/script.wsgi process-group=%{GLOBAL} callable-object='other'\n\
         <Location />\nWSGIProcessGroup elsewhere\n</Location>\n\
         <LocationMatch ^/[ab]>\nWSGIProcessGroup %{GLOBAL}\n</LocationMatch>",
    ));
    let ask = |url: &str| server.send(&Request::get(url).header("Authorization", "Basic eDp5"));
    let (a, b, c) = (ask("/a"), ask("/b"), ask("/c"));
    assert_eq!([called(&a), called(&b), called(&c)], ["other", "application", "other"]);
    let group = |answer: &Response| answer.fact("mod_wsgi.application_group");
    assert_eq!([group(&a), group(&b), group(&c)], ["'one'", "''", "'app'"]);
    let passed = |answer: &Response| answer.maybe_fact("HTTP_AUTHORIZATION").is_some();
    assert_eq!([passed(&a), passed(&b), passed(&c)], [false, true, true]);
}

#[test]
fn group_options_are_expanded_from_the_request() {
    let server = Server::start(
        Conf::new(
            "SetEnvIf Request_URI ^/env CHOSEN=by-setenvif\n\
             WSGIScriptAlias /server ${APPS}/script.wsgi application-group=%{SERVER}\n\
             WSGIScriptAlias /host ${APPS}/script.wsgi application-group=%{HOST}\n\
             WSGIScriptAlias /resource ${APPS}/script.wsgi application-group=%{RESOURCE}\n\
             WSGIScriptAlias /env ${APPS}/script.wsgi application-group=%{ENV:CHOSEN}",
        )
        .with("setenvif"),
    );
    let port = server.port();
    let group = |url: &str| {
        let request = Request::get(url).header("Host", &format!("other.test:{port}"));
        server.send(&request).fact("mod_wsgi.application_group")
    };
    assert_eq!(group("/server/x"), format!("'manifold.test:{port}'"));
    assert_eq!(group("/host/x"), format!("'other.test:{port}'"));
    assert_eq!(group("/resource/x"), format!("'manifold.test:{port}|/resource'"));
    assert_eq!(group("/env/x"), "'by-setenvif'");
}

#[test]
fn the_callable_of_an_option_is_taken_as_it_stands() {
    let server = Server::start(
        mapped(
            "SetEnv WHICH other\n\
             WSGIScriptAlias /app ${APPS}/script.wsgi callable-object=%{ENV:WHICH}\n\
             WSGIScriptAlias /none ${APPS}/script.wsgi callable-object=missing",
        )
        .with("env"),
    );
    assert_eq!(server.get("/app").status, 500);
    server.log().wait_for(&[":error]", "MNF0006", "script.wsgi", "'%{ENV:WHICH}'"]);
    assert_eq!(server.get("/none").status, 500, "500, and not 404");
    server.log().wait_for(&[":error]", "MNF0006", "script.wsgi", "'missing'"]);
}

#[test]
fn malformed_aliases_are_refused_in_one_line_that_says_why() {
    let all = ["process-group=", "application-group=", "callable-object=", "pass-authorization="];
    refused("WSGIScriptAlias", &["URL path", "missing"]);
    refused("WSGIScriptAlias /x", &["script or directory", "missing"]);
    refused("WSGIScriptAlias \"\" /x.wsgi", &["URL path", "empty"]);
    refused("WSGIScriptAlias /x \"\"", &["script or directory", "empty"]);
    refused("WSGIScriptAlias /x /x.wsgi colour=red", &[&["'colour'"], &all[..]].concat());
    refused(
        "WSGIScriptAlias /x /x.wsgi Callable-Object=x",
        &[&["'Callable-Object'"], &all[..]].concat(),
    );
    refused("WSGIScriptAlias /x /x.wsgi word", &[&["'word'"], &all[..]].concat());
    refused("WSGIScriptAlias /x /x.wsgi =x", &[&["'=x'"], &all[..]].concat());
    for option in ["process-group=", "application-group=", "callable-object="] {
        refused(&format!("WSGIScriptAlias /x /x.wsgi {option}"), &[option, "empty"]);
    }
    refused("WSGIScriptAlias /x /x.wsgi pass-authorization=maybe", &["'maybe'", "On or Off"]);
    refused(
        "WSGIScriptAlias /x /x.wsgi pass-authorization=",
        &["pass-authorization=", "On or Off"],
    );
}

#[test]
fn aliases_stand_in_server_config_and_virtual_hosts_only() {
    let line = "WSGIScriptAlias /x /x.wsgi application-group=g process-group='%{GLOBAL}' callable-object=\"c d\"";
    accepted(line);
    accepted(&format!("<VirtualHost *>\n{line}\n</VirtualHost>"));
    accepted(
        "WSGIScriptAlias /x relative.wsgi callable-object=a callable-object=b pass-authorization=oFF",
    );
    for section in ["Directory /x", "Location /x", "Files *.x", "If true"] {
        let name = section.split(' ').next().expect("a word");
        // httpd's own words.
        refused(
            &format!("<{section}>\nWSGIScriptAlias /x /x.wsgi\n</{name}>"),
            &["not allowed", name],
        );
    }
}

#[test]
fn malformed_settings_are_refused_in_one_line_that_says_why() {
    refused("WSGICallableObject", &["missing"]);
    refused("WSGICallableObject \"\"", &["empty"]);
    refused("WSGICallableObject one two", &["'two'", "one argument"]);
    for directive in ["WSGIScriptReloading", "WSGIRestrictEmbedded", "WSGIPassAuthorization"] {
        accepted(&format!("{directive} oN\n{directive} OFF"));
        refused(&format!("{directive} perhaps"), &["'perhaps'", "On", "Off"]);
        refused(directive, &["missing"]);
        refused(&format!("{directive} On Off"), &["'Off'", "one argument"]);
    }
    accepted("<Directory /x>\nWSGICallableObject x\nWSGIScriptReloading Off\n</Directory>");
    refused("<VirtualHost *>\nWSGIRestrictEmbedded On\n</VirtualHost>", &["server config only"]);
    refused("<Directory /x>\nWSGIRestrictEmbedded On\n</Directory>", &[]);
}

#[test]
fn an_unknown_directive_is_refused_by_its_name() {
    let test = config_test("WSGINoSuchThing On");
    assert!(!test.ok && test.said.contains("WSGINoSuchThing"), "{}", test.said);
}

#[test]
fn a_script_file_needs_exec_cgi_and_has_to_be_a_file() {
    let server = Server::start_with(
        mapped(
            "AddHandler wsgi-script .wsgi\n<Directory ${DOCS}/open>\nOptions +ExecCGI\n</Directory>\n\
             <Directory ${DOCS}/open/folder>\nSetHandler wsgi-script\n</Directory>",
        )
        .with("mime"),
        |root| {
            let script = fs::read_to_string(root.join("apps/script.wsgi")).expect("the script");
            for place in ["docs/shut/x.wsgi", "docs/open/x.wsgi", "docs/open/folder/x.txt"] {
                write(root, place, &script);
            }
        },
    );
    let child = server.only_child();
    assert_eq!(server.get("/shut/x.wsgi").status, 403);
    server.log().wait_for(&[":error]", "MNF0021", "shut/x.wsgi", "ExecCGI"]);
    assert_eq!(server.get("/open/none.wsgi").status, 404);
    server.log().wait_for(&[":error]", "MNF0021", "open/none.wsgi", "not exist"]);
    assert_eq!(server.get("/open/folder/").status, 403);
    server.log().wait_for(&[":error]", "MNF0021", "open/folder", "directory"]);
    assert_eq!(server.get("/shut/none.wsgi").status, 403, "ExecCGI is asked for first");
    splits(&server, &[("/open/x.wsgi/more", "/open/x.wsgi", "/more")]);
    assert_eq!(server.only_child(), child);
}

#[test]
fn an_alias_needs_no_exec_cgi_but_access_to_the_file() {
    let server = Server::start(mapped(
        "WSGIScriptAlias /app ${APPS}/script.wsgi\nWSGIScriptAlias /gone ${APPS}/none.wsgi\n\
         <Directory ${APPS}>\nOptions None\n</Directory>\n\
         <Location /app/closed>\nRequire all denied\n</Location>",
    ));
    assert_eq!(server.get("/app").status, 200);
    assert_eq!(server.get("/app/closed").status, 403);
    assert_eq!(server.get("/gone").status, 404);
    server.log().wait_for(&[":error]", "MNF0021", "none.wsgi"]);
    let closed = mapped(
        "WSGIScriptAlias /app ${APPS}/script.wsgi\n<Directory ${APPS}>\nRequire all denied\n</Directory>",
    );
    assert_eq!(Server::start(closed).get("/app").status, 403);
}

#[test]
fn the_media_type_is_another_name_of_the_handler() {
    let server = Server::start(
        mapped(
            "AddType application/x-httpd-wsgi .wsgi\n<Directory ${APPS}>\nOptions +ExecCGI\n</Directory>\n\
             Alias /d ${APPS}\nAlias /e ${APPS}\n<Location /e>\nSetHandler application/x-httpd-wsgi\n</Location>",
        )
        .with("mime")
        .with("alias"),
    );
    for url in ["/d/script.wsgi/x", "/e/script.wsgi/x"] {
        let answer = server.get(url);
        assert_eq!(
            (called(&answer).as_str(), answer.fact("PATH_INFO").as_str()),
            ("application", "'/x'")
        );
        assert_eq!(answer.fact("mod_wsgi.request_handler"), "'application/x-httpd-wsgi'");
    }
}

#[test]
fn a_handler_script_cannot_take_the_handlers_own_names() {
    let server = Server::start(mapped(
        "WSGIHandlerScript wsgi-script ${APPS}/hello.wsgi\nWSGIScriptAlias /app ${APPS}/script.wsgi",
    ));
    assert_eq!(called(&server.get("/app")), "application");
}

#[test]
fn the_callable_is_chosen_by_the_directive_in_scope() {
    let server = Server::start(
        mapped(
            "WSGIScriptAlias / ${APPS}/script.wsgi\n\
             WSGIHandlerScript hand ${APPS}/script.wsgi\n\
             SetEnvIf Request_URI ^/env WHICH=other\n\
             <Location /fixed>\nWSGICallableObject other\n</Location>\n\
             <Location /env>\nWSGICallableObject %{ENV:WHICH}\n</Location>\n\
             <Location /set>\nSetEnv WHICH handle_request\nWSGICallableObject %{ENV:WHICH}\n</Location>\n\
             <Location /absent>\nWSGICallableObject %{ENV:WHICH}\n</Location>\n\
             <Location /form>\nWSGICallableObject %{GLOBAL}\n</Location>\n\
             <Location /missing>\nWSGICallableObject missing\n</Location>\n\
             <Location /handler>\nSetHandler hand\nWSGICallableObject other\n</Location>",
        )
        .with("env")
        .with("setenvif"),
    );
    for (url, name) in [
        ("/", "application"),
        ("/fixed", "other"),
        ("/env", "other"),
        ("/set", "handle_request"),
        ("/absent", "application"),
        ("/form", "application"),
        ("/handler", "handle_request"),
    ] {
        let answer = server.get(url);
        assert_eq!(called(&answer), name, "{url}");
        assert_eq!(answer.fact("mod_wsgi.callable_object"), format!("'{name}'"), "{url}");
    }
    assert_eq!(server.get("/missing").status, 500);
    server.log().wait_for(&[":error]", "MNF0006", "script.wsgi", "'missing'"]);
}

#[test]
fn accept_path_info_off_refuses_what_follows_a_script_file() {
    let server = Server::start(mapped(
        "WSGIScriptAlias /app ${APPS}/script.wsgi\n<Location /app>\nAcceptPathInfo Off\n</Location>",
    ));
    assert_eq!(server.get("/app").status, 200);
    assert_eq!(server.get("/app/more").status, 404);
    server.log().wait_for(&[":error]", "AcceptPathInfo"]);
}

#[test]
fn a_script_may_be_the_index_of_a_folder() {
    let server = Server::start_with(
        mapped(
            "DirectoryIndex script.wsgi\nWSGIScriptAlias /d/ ${APPS}/ callable-object=other\n\
             AddHandler wsgi-script .wsgi\n<Directory ${DOCS}>\nOptions +ExecCGI\n</Directory>",
        )
        .with("dir")
        .with("mime"),
        |root| {
            let script = fs::read_to_string(root.join("apps/script.wsgi")).expect("the script");
            write(root, "docs/folder/script.wsgi", &script);
        },
    );
    let aliased = server.get("/d/");
    assert_eq!(
        (aliased.status, called(&aliased).as_str()),
        (200, "other"),
        "with the alias's options"
    );
    assert_eq!(aliased.fact("SCRIPT_NAME"), "'/d/script.wsgi'");
    let plain = server.get("/folder/");
    assert_eq!((plain.status, called(&plain).as_str()), (200, "application"));
    assert_eq!(plain.fact("SCRIPT_NAME"), "'/folder/script.wsgi'");
}

/// The names of the threads of the one child.
fn threads(server: &Server) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.only_child())).expect("its threads");
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    tasks.flatten().filter_map(name).collect()
}

#[test]
fn with_restrict_embedded_python_is_not_started_and_applications_get_500() {
    let text = "WSGIScriptAlias /app ${APPS}/script.wsgi\nWSGIHandlerScript hand ${APPS}/script.wsgi\n\
                <Location /hand>\nSetHandler hand\n</Location>";
    let mapped = |text| mapped(text).inside_httpd("what runs there is the question");
    let with_static = |root: &std::path::Path| write(root, "docs/static.txt", "static");
    let ours = |server: &Server| threads(server).iter().any(|name| name.starts_with("mnf"));
    let open = Server::start_with(mapped(text).and("WSGIRestrictEmbedded Off"), with_static);
    assert_eq!(open.get("/app").status, 200);
    assert!(ours(&open), "{:?}", threads(&open));
    let shut = Server::start_with(mapped(text).and("WSGIRestrictEmbedded On"), with_static);
    let child = shut.only_child();
    for url in ["/app", "/hand"] {
        assert_eq!(shut.get(url).status, 500, "{url}");
    }
    shut.log()
        .wait_for_count(&[":error]", "[client 127.0.0.1:", "MNF0020", "WSGIRestrictEmbedded"], 2);
    shut.get("/static.txt").expect(200, "static");
    assert!(!ours(&shut), "{:?}", threads(&shut));
    assert!(shut.log().lines_with(&["wsgi:info"]).is_empty());
    assert_eq!(shut.only_child(), child);
    shut.stop();
}
