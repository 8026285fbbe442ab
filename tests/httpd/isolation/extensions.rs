//! Packages as they are installed everywhere.

use super::{Script, ask, facts, moves, serve};
use crate::harness::{Conf, Server, at_once, extensions_venv, test_venv, write};
use std::fs;
use std::path::Path;

/// A package, the module of it that is refused, and where it works.
struct Package {
    requirement: &'static str,
    script: Script<'static>,
    module: &'static str,
    place: &'static str,
    answer: &'static str,
}

macro_rules! package {
    ($requirement:literal, $name:literal, $imports:literal, $serve:literal, $module:literal, $place:literal, $answer:literal) => {
        Package {
            requirement: $requirement,
            script: Script { name: $name, imports: $imports, serve: concat!("answer = ", $serve) },
            module: $module,
            place: $place,
            answer: $answer,
        }
    };
}

const NUMPY: Package = package!(
    "numpy",
    "numpy",
    "import numpy",
    "int(numpy.arange(5).sum())",
    "numpy._core._multiarray_umath",
    "main",
    "10"
);
const LXML: Package = package!(
    "lxml",
    "lxml",
    "from lxml import etree",
    "etree.fromstring('<a><b/></a>')[0].tag",
    "lxml.etree",
    "main",
    "'b'"
);
const CRYPTOGRAPHY: Package = package!(
    "cryptography",
    "cryptography",
    "from cryptography.fernet import Fernet",
    "(lambda f: f.decrypt(f.encrypt(b'secret')))(Fernet(Fernet.generate_key()))",
    "cryptography.hazmat.bindings._rust",
    "main",
    "b'secret'"
);
const PSYCOPG2: Package = package!(
    "psycopg2-binary",
    "psycopg2",
    "import psycopg2.extensions",
    "psycopg2.extensions.parse_dsn('dbname=x'), str(psycopg2.extensions.Float(1.5))",
    "psycopg2._psycopg",
    "main",
    "({'dbname': 'x'}, '1.5')"
);
const PILLOW: Package = package!(
    "pillow",
    "pillow",
    "from PIL import Image",
    "Image.new('RGB', (4, 3), 'red').resize((2, 1)).getpixel((0, 0))",
    "PIL._imaging",
    "shared",
    "(255, 0, 0)"
);
const ORJSON: Package = package!(
    "orjson",
    "orjson",
    "import orjson",
    "orjson.loads(orjson.dumps({'a': [1, 2]}))",
    "orjson.orjson",
    "shared",
    "{'a': [1, 2]}"
);
const BROTLICFFI: Package = package!(
    "brotlicffi",
    "brotlicffi",
    "import brotlicffi",
    "brotlicffi.decompress(brotlicffi.compress(b'squeeze me'))",
    "brotlicffi._brotlicffi",
    "shared",
    "b'squeeze me'"
);
const MERCURIAL: Package = package!(
    "mercurial",
    "mercurial",
    "from mercurial.cext import base85, bdiff, mpatch, osutil, parsers",
    "base85.b85decode(base85.b85encode(b'versions')), len(bdiff.bdiff(b'a\\n', b'b\\n'))",
    "mercurial.cext.base85",
    "shared",
    "(b'versions', 14)"
);

/// Those of them that there is a wheel of.
fn installed(venv: &Path, packages: Vec<Package>) -> Vec<Package> {
    let unavailable = fs::read_to_string(venv.join("unavailable")).expect("scripts/test writes it");
    let available = |package: &Package| {
        let wanted = format!("{}==", package.requirement);
        let line = unavailable.lines().find(|line| line.starts_with(&wanted));
        if let Some(line) = line {
            println!("skipped: there is no wheel of {line} for this Python");
        }
        line.is_none()
    };
    packages.into_iter().filter(available).collect()
}

fn works_where_it_loads(package: Package) {
    let venv = extensions_venv();
    for package in installed(&venv, vec![package]) {
        let Package { script, module, place, answer, .. } = package;
        let name = script.name;
        let server = serve(&venv, "", &[script]);
        for _ in 0..2 {
            assert_eq!(ask(&server, name), (place.to_owned(), answer.to_owned()));
        }
        let moves = moves(&server, name);
        assert_eq!(moves.len(), 1, "{moves:?}");
        assert!(moves[0].contains(&format!("extension module '{module}'")), "{}", moves[0]);
        let pin = if place == "main" {
            "application-group=%{GLOBAL}"
        } else {
            "WSGIPerInterpreterGIL Off"
        };
        assert!(moves[0].contains(pin), "{}", moves[0]);
        assert!(!server.log().text().contains(":error]"), "{}", server.log().text());
        server.stop();
    }
}

#[test]
fn numpy_works_in_the_main_interpreter() {
    works_where_it_loads(NUMPY);
}

#[test]
fn lxml_works_in_the_main_interpreter() {
    works_where_it_loads(LXML);
}

#[test]
fn cryptography_works_in_the_main_interpreter() {
    works_where_it_loads(CRYPTOGRAPHY);
}

#[test]
fn psycopg2_works_in_the_main_interpreter_and_was_not_broken_by_a_first_attempt() {
    works_where_it_loads(PSYCOPG2);
}

#[test]
fn pillow_works_with_a_shared_gil() {
    works_where_it_loads(PILLOW);
}

#[test]
fn orjson_works_with_a_shared_gil() {
    works_where_it_loads(ORJSON);
}

#[test]
fn brotlicffi_works_with_a_shared_gil() {
    works_where_it_loads(BROTLICFFI);
}

#[test]
fn extensions_of_mercurial_work_with_a_shared_gil() {
    works_where_it_loads(MERCURIAL);
}

#[test]
fn sqlalchemy_keeps_its_own_gil_and_does_without_its_speed_ups() {
    let venv = extensions_venv();
    let script = Script {
        name: "sqlalchemy",
        imports: "import sqlalchemy",
        serve: "with sqlalchemy.create_engine('sqlite://').connect() as connection:\n    \
                answer = connection.execute(sqlalchemy.text('select 6 * 7')).scalar()",
    };
    let server = serve(&venv, "", &[script]);
    assert_eq!(ask(&server, "sqlalchemy"), ("own".to_owned(), "42".to_owned()));
    assert!(moves(&server, "sqlalchemy").is_empty());
    assert!(!server.log().text().contains(":error]"), "{}", server.log().text());
}

#[test]
fn flask_and_django_keep_their_own_gil_with_a_speed_up_that_allows_it() {
    let venv = test_venv();
    let server = serve(
        Path::new(&venv),
        "",
        &[
            Script {
                name: "flask",
                imports: "import flask, markupsafe._speedups",
                serve: "answer = flask.__name__, str(markupsafe.escape('<'))",
            },
            Script {
                name: "django",
                imports: "import django.template, django.db",
                serve: "answer = django.template.__name__",
            },
        ],
    );
    assert_eq!(ask(&server, "flask"), ("own".to_owned(), "('flask', '&lt;')".to_owned()));
    assert_eq!(ask(&server, "django"), ("own".to_owned(), "'django.template'".to_owned()));
    let log = server.log();
    assert!(!log.text().contains("MNF0037"), "{}", log.text());
    // Tried once; what CPython brings along is not tried at all.
    assert_eq!(log.wait_for_count(&["tried for interpreters"], 1).len(), 1, "{}", log.text());
}

#[test]
fn requests_that_come_together_all_move_and_none_fails() {
    let venv = extensions_venv();
    for package in installed(&venv, vec![NUMPY, PILLOW]) {
        let name = package.script.name;
        let server = serve(&venv, "WSGIReplicas 2", &[package.script]);
        let answers = at_once(12, |_| server.get(&format!("/{name}")));
        for answer in answers {
            assert_eq!(answer.status, 200, "{}", server.log().text());
            assert_eq!(facts(&answer), (package.place.to_owned(), package.answer.to_owned()));
        }
        assert_eq!(moves(&server, name).len(), 1);
    }
}

#[test]
fn a_script_that_is_loaded_with_the_child_moves_before_the_first_request() {
    let venv = extensions_venv();
    for package in installed(&venv, vec![NUMPY, ORJSON]) {
        let name = package.script.name;
        let more = format!(
            "WSGIReplicas 2\nWSGIScriptAlias /preloaded ${{APPS}}/{name}.wsgi process-group=${{GROUP}} \
             application-group={name}"
        );
        let server = serve(&venv, &more, &[package.script]);
        server.log().wait_for(&["MNF0037", ":warn]", package.module]);
        let answer = facts(&server.get("/preloaded"));
        assert_eq!(answer, (package.place.to_owned(), package.answer.to_owned()));
        assert_eq!(moves(&server, name).len(), 1);
        assert!(!server.log().text().contains(":error]"), "{}", server.log().text());
    }
}

#[test]
fn a_group_that_is_pinned_to_its_own_gil_fails_with_the_cure() {
    let venv = extensions_venv();
    for package in installed(&venv, vec![PILLOW, NUMPY]) {
        let name = package.script.name;
        let server = serve(&venv, "WSGIPerInterpreterGIL On", &[package.script]);
        assert_eq!(server.get(&format!("/{name}")).status, 500);
        let line = server.log().wait_for(&["MNF0037", ":error]", package.module]);
        for cure in ["%{GLOBAL}", "process group", "WSGIPerInterpreterGIL"] {
            assert!(line.contains(cure), "{cure}: {line}");
        }
        assert!(moves(&server, name).is_empty());
        server.log().wait_for(&["MNF0005", "does not support loading in subinterpreters"]);
    }
}

#[test]
fn the_second_group_that_needs_the_main_interpreter_is_told_so() {
    let venv = extensions_venv();
    let two = [NUMPY, LXML].map(|package| package.script);
    if installed(&venv, vec![NUMPY, LXML]).len() < two.len() {
        return;
    }
    let server = serve(&venv, "", &two);
    assert_eq!(ask(&server, "numpy").0, "main");
    for _ in 0..2 {
        assert_eq!(server.get("/lxml").status, 500);
    }
    let line = server.log().wait_for(&["MNF0037", ":error]", "'lxml'", "'numpy'"]);
    for cure in ["%{GLOBAL}", "process group"] {
        assert!(line.contains(cure), "{cure}: {line}");
    }
    assert_eq!(ask(&server, "numpy").0, "main");
}

#[test]
fn nobody_is_moved_beside_a_group_that_is_configured_for_the_main_interpreter() {
    let venv = extensions_venv();
    for package in installed(&venv, vec![NUMPY]) {
        let more = "WSGIScriptAlias /first ${APPS}/hello.wsgi application-group=%{GLOBAL}\n\
                    WSGICallableObject handle_request\n<Location /numpy>\nWSGICallableObject application\n</Location>";
        let server = serve(&venv, more, &[package.script]);
        assert_eq!(server.get("/first").status, 200);
        assert_eq!(server.get("/numpy").status, 500);
        server.log().wait_for(&["MNF0037", ":error]", "'numpy'", "'%{GLOBAL}'"]);
    }
}

#[test]
fn groups_whose_modules_load_in_several_share_one_gil_and_no_modules() {
    let venv = extensions_venv();
    let scripts = [PILLOW, ORJSON, MERCURIAL].map(|package| package.script);
    let available = installed(&venv, vec![PILLOW, ORJSON, MERCURIAL]);
    let names: Vec<_> = available.iter().map(|package| package.script.name).collect();
    let server = serve(&venv, "", &scripts);
    for name in &names {
        assert_eq!(ask(&server, name).0, "shared");
    }
}

#[test]
fn an_import_inside_a_function_fails_one_request_and_moves_the_group() {
    let venv = extensions_venv();
    for package in installed(&venv, vec![NUMPY, ORJSON]) {
        let Package { script, place, answer, module, .. } = package;
        let serve_text = format!("{}\n{}", script.imports, script.serve);
        let late = Script { name: "late", imports: "", serve: &serve_text };
        let server = serve(&venv, "", &[late]);
        assert_eq!(server.get("/late").status, 500);
        server.log().wait_for(&["MNF0007", "ImportError"]);
        assert_eq!(ask(&server, "late"), (place.to_owned(), answer.to_owned()));
        let moves = moves(&server, "late");
        assert!(moves.len() == 1 && moves[0].contains(module), "{moves:?}");
    }
}

#[test]
fn what_a_framework_has_caught_and_answered_by_500_moves_the_group_as_well() {
    let venv = test_venv();
    // Django imports the views for the first request, and answers for what they raise.
    let imports = "import sys, types, django, django.http, django.urls\n\
                   from django.conf import settings\n\
                   settings.configure(ROOT_URLCONF='urls', ALLOWED_HOSTS=['*'], SECRET_KEY='x')\n\
                   django.setup()\n\
                   from django.core.handlers.wsgi import WSGIHandler\n\
                   handler = WSGIHandler()";
    let conf = Conf::new("WSGIScriptAlias /site ${APPS}/site_of.wsgi application-group=site")
        .and("WSGIPythonPath ${ROOT}/modules")
        .python_home(&venv);
    let server = Server::start_with(conf, |root| {
        let script =
            format!("{imports}\ndef application(*request):\n    return handler(*request)\n");
        write(root, "apps/site_of.wsgi", &script);
        let views = "import _curses\nfrom django.http import HttpResponse\nfrom django.urls import path\n\
                     urlpatterns = [path('page', lambda request: HttpResponse(_curses.__name__))]\n";
        write(root, "modules/urls.py", views);
    });
    assert_eq!(server.get("/site/page").status, 500);
    server.log().wait_for(&["MNF0037", ":warn]", "'site' moves", "'_curses'"]);
    server.get("/site/page").expect(200, "_curses");
}

#[test]
fn a_wrapped_refusal_is_found_and_a_caught_one_changes_nothing() {
    let venv = extensions_venv();
    for package in installed(&venv, vec![ORJSON]) {
        let wrapped =
            "try:\n    import orjson\nexcept ImportError:\n    raise RuntimeError('no') from None";
        let caught =
            "try:\n    import orjson\nexcept ImportError as error:\n    orjson = repr(error.name)";
        let server = serve(
            &venv,
            "",
            &[
                Script { name: "wrapped", imports: wrapped, serve: package.script.serve },
                Script { name: "caught", imports: caught, serve: "answer = orjson" },
            ],
        );
        assert_eq!(ask(&server, "wrapped"), ("shared".to_owned(), package.answer.to_owned()));
        assert_eq!(ask(&server, "caught"), ("own".to_owned(), "\"'orjson.orjson'\"".to_owned()));
        assert!(moves(&server, "caught").is_empty());
    }
}
