//! `manifold install`, `module-config`, `completions` and `man-pages`.

use crate::harness::{folder, manifold, run, variable, write};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

#[test]
fn httpd_loads_what_was_installed_and_the_administrators_file_is_kept() {
    let at = folder();
    let install = |more: &[&str]| {
        let mut command = manifold();
        command
            .arg("install")
            .arg("--root")
            .arg(at.path())
            .args(["--modules-directory", "/modules"]);
        run(command.args(more))
    };
    let said = install(&[]).expect_ok();
    let modules = at.path().join("modules");
    for name in ["mod_manifold.so", "manifold-worker"] {
        let mode = fs::metadata(modules.join(name)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{name}");
    }
    let worker = run(Command::new(modules.join("manifold-worker")).arg("--version")).expect_ok();
    assert!(worker.out.starts_with("manifold-worker "), "{}", worker.out);

    let written = |name: &str| {
        let line = said.out.lines().find(|line| line.ends_with(name));
        line.map(|line| Path::new(line).to_owned())
            .unwrap_or_else(|| panic!("no {name}: {}", said.out))
    };
    let debian = said.out.contains("mods-available");
    let load =
        written(if debian { "mods-available/wsgi.load" } else { "conf.modules.d/10-wsgi.conf" });
    let settings = written("wsgi.conf");
    let text = fs::read_to_string(&load).expect("it is there");
    assert!(text.contains("LoadModule wsgi_module /modules/mod_manifold.so\n"), "{text}");

    // As it would be in place.
    let text = text.replace("/modules/", &format!("{}/", modules.display()));
    write(at.path(), "loads.conf", &text);
    let conf = format!(
        "ServerRoot {0}\nServerName localhost\nErrorLog log\nListen 127.0.0.1:1\n{1}\nInclude loads.conf\nInclude {2}\n",
        at.path().display(),
        mpm(),
        settings.display()
    );
    let conf = write(at.path(), "httpd.conf", &conf);
    run(Command::new(variable("MANIFOLD_HTTPD")).arg("-t").arg("-f").arg(conf)).expect_ok();

    // Again, as for an upgrade; what the administrator has changed stays.
    fs::write(&settings, "WSGIPythonHome /mine\n").expect("it is written");
    install(&[]).expect_ok();
    assert_eq!(fs::read_to_string(&settings).expect("it is there"), "WSGIPythonHome /mine\n");
    fs::write(&load, "LoadModule wsgi_module mod_wsgi.so\n").expect("it is written");
    install(&[]).expect_failure("is there, and not written by this");
    install(&["--force"]).expect_ok();
    if debian {
        enable(at.path(), &load);
    }
}

/// With Debian's own a2enmod, where that is installed.
fn enable(at: &Path, load: &Path) {
    let program = ["/usr/sbin/a2enmod", "/usr/local/sbin/a2enmod"]
        .into_iter()
        .find(|path| Path::new(path).is_file());
    let confdir = load.parent().and_then(Path::parent).expect("two folders above");
    let enabled = confdir.join("mods-enabled");
    fs::create_dir_all(&enabled).expect("a folder");
    match program {
        Some(program) => {
            // It looks at the names of these folders only.
            let said = run(Command::new(program)
                .arg("wsgi")
                .env("APACHE_CONFDIR", confdir)
                .env("APACHE_STATE_DIRECTORY", at.join("state")))
            .expect_ok();
            assert!(said.out.contains("Enabling module wsgi"), "{}\n{}", said.out, said.err);
        }
        None => {
            eprintln!("a2enmod is not installed here: its links are made by hand");
            symlink("../mods-available/wsgi.load", enabled.join("wsgi.load")).expect("a link");
            symlink("../mods-available/wsgi.conf", enabled.join("wsgi.conf")).expect("a link");
        }
    }
    assert!(enabled.join("wsgi.load").is_file());
    assert!(enabled.join("wsgi.conf").is_file());
}

/// Lines that load an MPM, unless one is compiled in.
fn mpm() -> String {
    let said = run(Command::new(variable("MANIFOLD_HTTPD")).arg("-l")).expect_ok();
    if [" event.c", " worker.c", " prefork.c"].iter().any(|mpm| said.out.contains(mpm)) {
        return String::new();
    }
    let folder =
        run(Command::new(variable("MANIFOLD_APXS")).args(["-q", "LIBEXECDIR"])).expect_ok();
    format!("LoadModule mpm_event_module {}/mod_mpm_event.so", folder.out.trim())
}

#[test]
fn the_lines_for_a_configuration_name_the_module_and_the_home() {
    let home = variable("MANIFOLD_PYTHON_HOME");
    let said = run(manifold().arg("module-config").arg("--python-home").arg(&home)).expect_ok();
    let lines: Vec<_> = said.out.lines().collect();
    let module = variable("MANIFOLD_MODULE");
    assert_eq!(lines[0], format!("LoadModule wsgi_module \"{}\"", module.display()));
    assert_eq!(lines[lines.len() - 1], format!("WSGIPythonHome \"{}\"", home.display()));
}

#[test]
fn shells_take_the_completions() {
    for (shell, syntax) in [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")] {
        let said = run(manifold().args(["completions", shell])).expect_ok();
        assert!(said.out.contains("reload-on-changes"), "{shell}");
        let at = folder();
        let file = write(at.path(), "completions", &said.out);
        match Command::new(syntax).arg("-n").arg(&file).output() {
            Ok(output) => assert!(
                output.status.success(),
                "{shell}: {}",
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => eprintln!("{shell} is not asked whether it can read them: {error}"),
        }
    }
}

#[test]
fn each_command_has_a_manual_page_with_its_options() {
    let at = folder();
    run(manifold().arg("man-pages").arg(at.path().join("man1"))).expect_ok();
    let page = |name: &str| {
        let text = fs::read_to_string(at.path().join("man1").join(name));
        text.unwrap_or_else(|error| panic!("{name}: {error}")).replace("\\-", "-")
    };
    for command in ["serve", "setup", "check", "doctor", "module-config", "install"] {
        assert!(page("manifold.1").contains(&format!("manifold-{command}(1)")), "{command}");
        let own = page(&format!("manifold-{command}.1"));
        let help = run(manifold().args([command, "--help"])).expect_ok().out;
        let words = help.split_whitespace().filter(|word| word.starts_with("--"));
        let names = words.map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
        for name in names.map(|name| name.split(|c| "=[<.".contains(c)).next().unwrap_or(name)) {
            assert!(own.contains(name), "{name} in manifold-{command}.1");
        }
    }
}
