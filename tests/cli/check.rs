//! `manifold check`: httpd's own test, explained, and what differs from mod_wsgi.

use crate::harness::{Said, folder, manifold, run, variable, write};
use std::path::Path;
use std::process::Command;

/// A configuration that httpd accepts with these lines.
fn configuration(at: &Path, lines: &str) -> String {
    let folder = modules();
    let built_in = Command::new(variable("MANIFOLD_HTTPD")).arg("-l").output().expect("httpd runs");
    let built_in = String::from_utf8_lossy(&built_in.stdout).into_owned();
    let load = |name: &str, file: &str| match built_in.contains(file) {
        true => String::new(),
        false => format!("LoadModule {name}_module {folder}/mod_{name}.so\n"),
    };
    [
        load("mpm_event", " event.c"),
        load("authz_core", "mod_authz_core.c"),
        load("unixd", "mod_unixd.c"),
        format!(
            "ServerRoot {0}\nServerName localhost\nListen 127.0.0.1:1\nPidFile {0}/pid\nErrorLog log\n",
            at.display()
        ),
        lines.to_owned(),
    ]
    .concat()
}

fn modules() -> String {
    let output = Command::new(variable("MANIFOLD_APXS"))
        .args(["-q", "LIBEXECDIR"])
        .output()
        .expect("apxs runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn check(at: &Path, lines: &str) -> Said {
    let conf = write(at, "httpd.conf", &configuration(at, lines));
    run(manifold().arg("check").arg(conf))
}

#[test]
fn a_mod_wsgi_configuration_is_accepted_and_its_differences_are_listed_with_their_places() {
    let at = folder();
    let script = write(
        at.path(),
        "app.wsgi",
        "import mod_wsgi\nmetrics = mod_wsgi.server_metrics()\ndef application(e, s): ...\n",
    );
    write(at.path(), "site.conf", "WSGIPassApacheRequest On\n");
    let said = check(
        at.path(),
        &format!(
            "LoadModule wsgi_module /usr/lib/apache2/modules/mod_wsgi.so\n\
             WSGIDaemonProcess shop processes=2 \\\n  response-buffer-size=100000 threads=4\n\
             WSGIScriptAlias / {} process-group=shop application-group=%{{GLOBAL}}\n\
             WSGILazyInitialization On\n\
             Include site.conf\n",
            script.display()
        ),
    )
    .expect_ok();
    let load = "LoadModule wsgi_module /usr/lib/apache2/modules/mod_wsgi.so\n  to be changed: let it load ";
    for text in ["httpd accepts", load] {
        assert!(said.out.contains(text), "{text:?} in\n{}", said.out);
    }
    // Each as the page has it today, at its place; what becomes the same is no longer told.
    let conf = at.path().join("httpd.conf").display().to_string();
    let rows = [
        ("WSGIDaemonProcess threads=", &*conf, "WSGIDaemonProcess threads=4"),
        (
            "WSGIDaemonProcess response-buffer-size=",
            &conf,
            "WSGIDaemonProcess response-buffer-size=100000",
        ),
        ("WSGIPassApacheRequest", "site.conf:1", "WSGIPassApacheRequest"),
        ("mod_wsgi.server_metrics", &conf, "app.wsgi uses mod_wsgi.server_metrics"),
        ("WSGILazyInitialization", &conf, "WSGILazyInitialization"),
    ];
    let mut told = 1;
    for (row, place, shown) in rows {
        let (state, remark) = page_says(row);
        let differs =
            state != "same" && state != "better" || remark.starts_with("of an old version");
        let lines: Vec<_> = said.out.lines().collect();
        let heading = lines.iter().position(|line| line.contains(place) && line.ends_with(shown));
        assert_eq!(heading.is_some(), differs, "{row} in\n{}", said.out);
        if let Some(heading) = heading {
            told += 1;
            let words = remark.split(['[', '`']).next().unwrap_or_default();
            assert!(
                lines[heading + 1].starts_with(&format!("  {state}: {words}")),
                "{}",
                lines[heading + 1]
            );
        }
    }
    assert!(said.out.contains(&format!("{told} things differ from mod_wsgi")), "{}", said.out);
}

/// State and remark of a row in docs/compatibility.md.
fn page_says(name: &str) -> (&'static str, &'static str) {
    let page = include_str!("../../docs/compatibility.md");
    let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {name} | ")));
    let cells: Vec<_> =
        row.unwrap_or_else(|| panic!("no row {name}")).split('|').map(str::trim).collect();
    (cells[0], cells[1])
}

#[test]
fn a_configuration_without_differences_has_none() {
    let at = folder();
    let said = check(at.path(), "WSGIApplicationGroup %{GLOBAL}\n").expect_ok();
    assert!(said.out.contains("Nothing in it differs"), "{}", said.out);
}

#[test]
fn what_httpd_refuses_is_explained_with_its_cure() {
    let at = folder();
    let module = write(at.path(), "mod_empty.so", "no library");
    let module = module.to_str().expect("a name");
    for (lines, explanations) in [
        (
            "WSGIScriptAlais / /app.wsgi\n",
            &[
                "There is no directive WSGIScriptAlais",
                "nearest is WSGIScriptAlias",
                ": WSGIScriptAlais / /app.wsgi",
            ][..],
        ),
        (
            "RewriteEngine On\n",
            &[
                "RewriteEngine is a directive of mod_rewrite, which is not loaded",
                "a2enmod rewrite",
            ],
        ),
        ("NoSuchThing On\n", &["has a directive NoSuchThing: it is misspelled"]),
        ("<Directory />\n", &["needs its end"]),
        ("ErrorLog /no/such/log\n", &["makes files in this folder, not the folder"]),
        ("User no-such-user\n", &["somebody whom the system knows"]),
        (
            "LoadModule x_module /no/such/mod_x.so\n",
            &["There is no such file, or none of a library that it needs"],
        ),
        (&format!("LoadModule x_module {module}\n"), &["cannot be loaded"]),
        ("<Directory />\nWSGIPythonHome /x\n</Directory>\n", &["may not stand in this section"]),
    ] {
        let said = check(at.path(), lines);
        assert_eq!(said.code, Some(1), "{}", said.out);
        for text in explanations {
            said.expect_failure(text);
        }
    }
    let said = run(manifold().args(["check", "/no/such.conf"]));
    said.expect_failure("there is no configuration /no/such.conf");
}
