//! Which requests are a handler script's: every way httpd has to choose a handler, several names,
//! and how sections override each other.

use crate::harness::{Conf, Request, Server, write};

/// `environ.wsgi` under the name `show`, chosen by `text`.
fn chosen_by(text: &str) -> Conf {
    Conf::new("WSGIApplicationGroup app\nWSGIHandlerScript show ${APPS}/environ.wsgi").and(text)
}

#[test]
fn set_handler_chooses_it_in_location_directory_files_and_if() {
    let server = Server::start_with(
        chosen_by(
            "<Location /location>\nSetHandler show\n</Location>\n\
             <Directory ${DOCS}/directory>\nSetHandler show\n</Directory>\n\
             <Files *.shown>\nSetHandler show\n</Files>\n\
             <If \"%{REQUEST_URI} == '/if'\">\nSetHandler show\n</If>",
        ),
        |root| {
            write(root, "docs/directory/file.txt", "static");
            write(root, "docs/file.shown", "static");
            write(root, "docs/file.txt", "static");
        },
    );
    for url in ["/location", "/directory/file.txt", "/directory/none", "/file.shown", "/if"] {
        assert_eq!(server.get(url).fact("mod_wsgi.request_handler"), "'show'", "{url}");
    }
    server.get("/file.txt").expect(200, "static");
}

#[test]
fn htaccess_may_choose_it() {
    let conf = chosen_by("<Directory ${DOCS}>\nAllowOverride FileInfo\n</Directory>");
    let server = Server::start_with(conf, |root| {
        write(root, "docs/here/.htaccess", "SetHandler show\n");
    });
    assert_eq!(server.get("/here/x").fact("mod_wsgi.request_handler"), "'show'");
    assert_eq!(server.get("/x").status, 404);
}

#[test]
fn add_handler_and_add_type_choose_it_by_extension() {
    let server = Server::start(
        chosen_by(
            "WSGIHandlerScript x-my/handler ${APPS}/environ.wsgi\n\
             AddHandler show .ext1\nAddType x-my/handler .ext2",
        )
        .with("mime"),
    );
    assert_eq!(server.get("/none.ext1").fact("mod_wsgi.request_handler"), "'show'");
    assert_eq!(server.get("/none.ext1.html").fact("mod_wsgi.request_handler"), "'show'");
    assert_eq!(server.get("/none.ext2").fact("mod_wsgi.request_handler"), "'x-my/handler'");
    assert_eq!(server.get("/none.html").status, 404);
}

#[test]
fn a_rewrite_rule_chooses_it() {
    let server = Server::start_with(
        chosen_by(
            "RewriteEngine On\nRewriteRule ^/rewritten - [H=show,E=FROM_RULE:yes]\n\
             <Directory ${DOCS}/app>\nRewriteEngine On\nRewriteCond %{REQUEST_FILENAME} !-f\n\
             RewriteRule .* - [H=show]\n</Directory>",
        )
        .with("rewrite"),
        |root| write(root, "docs/app/file.txt", "static"),
    );
    let answer = server.get("/rewritten/x");
    assert_eq!(answer.fact("mod_wsgi.request_handler"), "'show'");
    assert_eq!(answer.fact("FROM_RULE"), "'yes'");
    assert_eq!(server.get("/app/any/thing").fact("mod_wsgi.request_handler"), "'show'");
    server.get("/app/file.txt").expect(200, "static");
}

#[test]
fn names_with_one_path_keep_their_own_options() {
    let server = Server::start(Conf::new(
        "WSGIApplicationGroup app\n\
         WSGIHandlerScript open ${APPS}/environ.wsgi pass-authorization=On application-group=one\n\
         WSGIHandlerScript shut ${APPS}/environ.wsgi pass-authorization=Off\n\
         <Location /open>\nSetHandler open\n</Location>\n\
         <Location /shut>\nSetHandler shut\n</Location>",
    ));
    let ask = |url: &str| server.send(&Request::get(url).header("Authorization", "Basic eDp5"));
    let (open, shut) = (ask("/open"), ask("/shut"));
    assert_eq!(open.fact("HTTP_AUTHORIZATION"), "'Basic eDp5'");
    assert_eq!(shut.maybe_fact("HTTP_AUTHORIZATION"), None);
    assert_eq!(open.fact("mod_wsgi.application_group"), "'one'");
    assert_eq!(shut.fact("mod_wsgi.application_group"), "'app'");
    assert_eq!(open.fact("mod_wsgi.handler_script"), shut.fact("mod_wsgi.handler_script"));
}

#[test]
fn the_later_of_two_entries_with_one_name_counts() {
    let server = Server::start(Conf::new(
        "WSGIHandlerScript app /nowhere.wsgi application-group=first\n\
         WSGIHandlerScript app ${APPS}/environ.wsgi application-group=second\nSetHandler app",
    ));
    assert_eq!(server.get("/").fact("mod_wsgi.application_group"), "'second'");
}

#[test]
fn a_virtual_host_overrides_a_name_whole() {
    let server = Server::start(Conf::new(
        "WSGIApplicationGroup scope\nSetHandler app\n\
         WSGIHandlerScript app ${APPS}/environ.wsgi application-group=main pass-authorization=On\n\
         <VirtualHost 127.0.0.1:${PORT}>\nServerName plain.test\n</VirtualHost>\n\
         <VirtualHost 127.0.0.1:${PORT}>\nServerName own.test\n\
         WSGIHandlerScript app ${APPS}/environ.wsgi\n</VirtualHost>",
    ));
    let ask = |host: &str| {
        server.send(&Request::get("/").header("Host", host).header("Authorization", "Basic eDp5"))
    };
    let (plain, own) = (ask("plain.test"), ask("own.test"));
    assert_eq!(plain.fact("mod_wsgi.application_group"), "'main'");
    assert!(plain.maybe_fact("HTTP_AUTHORIZATION").is_some());
    // Nothing of the main server's entry is left, not even what the new one does not mention.
    assert_eq!(own.fact("mod_wsgi.application_group"), "'scope'");
    assert_eq!(own.maybe_fact("HTTP_AUTHORIZATION"), None);
}

#[test]
fn a_narrower_section_overrides_a_name_whole() {
    let server = Server::start_with(
        Conf::new(
            "WSGIApplicationGroup scope\nSetHandler app\n\
             WSGIHandlerScript app ${APPS}/hello.wsgi application-group=server\n\
             <Directory ${DOCS}>\n\
             WSGIHandlerScript app ${APPS}/environ.wsgi application-group=directory\n</Directory>\n\
             <Directory ${DOCS}/deeper>\nWSGIHandlerScript app ${APPS}/environ.wsgi\n</Directory>\n\
             <Files *.file>\n\
             WSGIHandlerScript app ${APPS}/environ.wsgi application-group=files\n</Files>\n\
             <Location /location>\n\
             WSGIHandlerScript app ${APPS}/environ.wsgi application-group=location\n</Location>",
        ),
        |root| write(root, "docs/deeper/x.file", ""),
    );
    let group = |url: &str| server.get(url).fact("mod_wsgi.application_group");
    assert_eq!(group("/x"), "'directory'");
    assert_eq!(group("/deeper/x"), "'scope'");
    assert_eq!(group("/deeper/x.file"), "'files'");
    assert_eq!(group("/location"), "'location'");
}

#[test]
fn scalar_settings_merge_from_server_to_host_to_section() {
    let server = Server::start(Conf::new(
        "WSGIHandlerScript app ${APPS}/environ.wsgi\nSetHandler app\nWSGIApplicationGroup server\n\
         <VirtualHost 127.0.0.1:${PORT}>\nServerName plain.test\n</VirtualHost>\n\
         <VirtualHost 127.0.0.1:${PORT}>\nServerName own.test\nWSGIApplicationGroup host\n\
         <Location /section>\nWSGIApplicationGroup section\n</Location>\n</VirtualHost>",
    ));
    let group = |host: &str, url: &str| {
        server.send(&Request::get(url).header("Host", host)).fact("mod_wsgi.application_group")
    };
    assert_eq!(group("plain.test", "/section"), "'server'");
    assert_eq!(group("own.test", "/"), "'host'");
    assert_eq!(group("own.test", "/section"), "'section'");
}

#[test]
fn set_handler_none_switches_it_off() {
    let server = Server::start_with(
        chosen_by(
            "<Location />\nSetHandler show\n</Location>\n\
             <Location /static>\nSetHandler None\n</Location>\n\
             <Location /default>\nSetHandler default-handler\n</Location>",
        ),
        |root| {
            write(root, "docs/static/x.txt", "static");
            write(root, "docs/default/x.txt", "default");
        },
    );
    assert_eq!(server.get("/any").status, 200);
    server.get("/static/x.txt").expect(200, "static");
    server.get("/default/x.txt").expect(200, "default");
}

#[test]
fn the_target_need_not_exist_and_may_be_a_folder() {
    let server = Server::start_with(
        chosen_by("<Directory ${DOCS}>\nSetHandler show\n</Directory>"),
        |root| {
            write(root, "docs/folder/x.txt", "static");
        },
    );
    for url in ["/no/such/file", "/folder/", "/folder"] {
        assert_eq!(server.get(url).status, 200, "{url}");
    }
}

#[test]
fn mod_dir_still_redirects_a_folder_without_its_slash() {
    let conf = chosen_by("<Directory ${DOCS}>\nSetHandler show\n</Directory>").with("dir");
    let server = Server::start_with(conf, |root| {
        write(root, "docs/folder/x.txt", "static");
    });
    assert_eq!(server.get("/folder").status, 301);
    assert_eq!(server.get("/folder/").status, 200);
    assert_eq!(server.get("/other").status, 200);
}

#[test]
fn names_are_compared_exactly_and_unknown_ones_fall_through() {
    let server = Server::start_with(
        chosen_by(
            "WSGIHandlerScript UPPER ${APPS}/environ.wsgi\n\
             <Location /upper>\nSetHandler upper\n</Location>\n\
             <Location /unknown>\nSetHandler shown\n</Location>",
        ),
        |root| write(root, "docs/unknown/x.txt", "static"),
    );
    assert_eq!(server.get("/upper/x").status, 404);
    assert_eq!(server.get("/unknown/x").status, 404);
    server.get("/unknown/x.txt").expect(200, "static");
}

#[test]
fn every_method_reaches_the_application() {
    let server = Server::start(chosen_by("SetHandler show"));
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "FOO"] {
        let answer = server.send(&Request::new(method, "/"));
        assert_eq!((answer.status, answer.fact("REQUEST_METHOD")), (200, format!("'{method}'")));
    }
}

#[test]
fn access_control_comes_first() {
    let server = Server::start(chosen_by(
        "SetHandler show\n<Location /closed>\nRequire all denied\n</Location>",
    ));
    assert_eq!(server.get("/closed").status, 403);
    assert_eq!(server.get("/open").status, 200);
}

#[test]
fn accept_path_info_off_refuses_what_follows_the_script() {
    let server = Server::start_with(
        chosen_by("SetHandler show\n<Location /file.txt>\nAcceptPathInfo Off\n</Location>"),
        |root| write(root, "docs/file.txt", "static"),
    );
    assert_eq!(server.get("/file.txt").status, 200);
    assert_eq!(server.get("/file.txt/more").status, 404);
    assert_eq!(server.get("/other/more").status, 200);
}
