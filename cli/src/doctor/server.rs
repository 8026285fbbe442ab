//! httpd, the module in it, the worker program, and where sockets go.
#![forbid(unsafe_code)]

use super::Patient;
use crate::explain;
use crate::failure::{During as _, Outcome};
use crate::httpd::{Httpd, Module, OLDEST, text_of};
use crate::installation::Installation;
use crate::options::Doctor;
use crate::server_root::too_long;
use crate::user::{self, Use};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) fn look(patient: &mut Patient, options: &Doctor) -> Outcome<()> {
    match Httpd::find(&options.at) {
        Err(failure) => {
            patient.problem("httpd", failure.to_string(), "install httpd, or name it by --httpd");
            return Ok(());
        }
        Ok(httpd) if httpd.version < OLDEST => patient.problem(
            "httpd",
            format!("{} is httpd {}", httpd.program.display(), httpd.version_text()),
            "2.4.49 is the oldest that the module runs in: upgrade httpd",
        ),
        Ok(httpd) => {
            patient.ok("httpd", format!("{}, {}", httpd.banner, httpd.program.display()));
            mpm(patient, &httpd)?;
            patient.httpd = Some(httpd);
        }
    }
    let Some(httpd) = &patient.httpd else { return Ok(()) };
    match Installation::find(&options.at, httpd) {
        Err(failure) => patient.problem(
            "module",
            failure.to_string(),
            "build it (scripts/build), or install it (manifold install)",
        ),
        Ok(installation) => {
            module(patient, &installation)?;
            worker(patient, &installation)?;
            patient.installation = Some(installation);
        }
    }
    socket(patient, options)
}

fn mpm(patient: &mut Patient, httpd: &Httpd) -> Outcome<()> {
    // Only where httpd can read a whole configuration does it say which one it loads.
    let output = Command::new(&httpd.program).arg("-V").output();
    let said = text_of(&output.during(|| format!("{} cannot be run", httpd.program.display()))?);
    let configured = said.lines().find_map(|line| line.strip_prefix("Server MPM:")).map(str::trim);
    match configured.filter(|name| !name.is_empty()) {
        Some("prefork") => patient.warning(
            "mpm",
            "prefork: each of httpd's processes serves one request at a time",
            "event lets the interpreters of a process work at the same time (Debian: a2dismod mpm_prefork && \
             a2enmod mpm_event)",
        ),
        Some(name) => patient.ok("mpm", format!("{name}, by the system's configuration")),
        None => match httpd.mpm(None) {
            Ok("prefork") => patient.warning(
                "mpm",
                "prefork is the only one there",
                "install the MPM event of your distribution",
            ),
            Ok(name) => {
                patient.ok("mpm", format!("{name} is there (no configuration of the system's says which)"));
            }
            Err(failure) => {
                patient.problem("mpm", failure.to_string(), "install the MPM event of your distribution");
            }
        },
    }
    Ok(())
}

/// Has httpd load the module in a configuration with nothing else.
fn module(patient: &mut Patient, installation: &Installation) -> Outcome<()> {
    let Some(httpd) = &patient.httpd else { return Ok(()) };
    let folder = tempfile::tempdir().during(|| "a temporary folder cannot be made".to_owned())?;
    let mut text = format!(
        "ServerRoot \"{0}\"\nErrorLog log\nPidFile pid\nListen 127.0.0.1:1\n",
        folder.path().display()
    );
    text += "ServerName localhost\n";
    let mpm = httpd.mpm(None).unwrap_or("event");
    for name in [format!("mpm_{mpm}"), "unixd".to_owned(), "authz_core".to_owned()] {
        if let Module::File(file) = httpd.module(&name) {
            text += &format!("LoadModule {name}_module \"{}\"\n", file.display());
        }
    }
    text += &format!("LoadModule wsgi_module \"{}\"\n", installation.module.display());
    let conf = folder.path().join("httpd.conf");
    std::fs::write(&conf, text).during(|| format!("{} cannot be written", conf.display()))?;
    let (accepted, said) = httpd.test(&["-f".as_ref(), conf.as_ref()])?;
    if accepted {
        patient.ok("module", format!("{} loads in httpd", installation.module.display()));
        return Ok(());
    }
    let lines: Vec<_> = said.lines().map(str::to_owned).collect();
    let cure = explain::all(&lines, httpd);
    let cure = cure.into_iter().next_back().unwrap_or_else(|| "build it for this httpd".to_owned());
    patient.problem("module", format!("httpd does not load it:\n{}", said.trim()), cure);
    Ok(())
}

fn worker(patient: &mut Patient, installation: &Installation) -> Outcome<()> {
    let worker = &installation.worker;
    let cure = "put manifold-worker beside the module, or where httpd's user can run it, and name that place by \
                WSGIDaemonWorker (here: --worker)";
    if let Err(failure) = installation.python() {
        patient.problem("worker", failure.to_string(), cure);
        return Ok(());
    }
    match user::obstacle_to(Use::Pass, patient.user.as_ref(), &[worker])? {
        Some(obstacle) => {
            let whom = user::called(patient.user.as_ref());
            let found = format!(
                "{whom} cannot run {} because of {obstacle} (MNF0038, MNF0045)",
                worker.display()
            );
            patient.problem("worker", found, cure);
        }
        None => patient.ok("worker", worker.display().to_string()),
    }
    Ok(())
}

fn socket(patient: &mut Patient, options: &Doctor) -> Outcome<()> {
    let usual = ["/var/run/apache2", "/run/httpd", "/usr/local/apache2/logs"];
    let usual = usual.iter().map(Path::new).find(|folder| folder.is_dir());
    let prefix = match (&options.socket_prefix, usual) {
        (Some(prefix), _) => user::absolute(prefix)?,
        (None, Some(folder)) => folder.join("wsgi"),
        (None, None) => {
            patient.skipped(
                "socket-folder",
                "httpd has no folder for sockets here yet; --socket-prefix names one",
            );
            return Ok(());
        }
    };
    let folder = prefix.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let cure = "let WSGISocketPrefix name a folder that httpd's user may enter, and root write to: mkdir \
                /run/wsgi && chmod 711 /run/wsgi, then WSGISocketPrefix /run/wsgi/wsgi";
    if let Some(problem) = too_long(&prefix) {
        patient.problem("socket-folder", problem, cure);
        return Ok(());
    }
    let enters = user::obstacle_to(Use::Pass, patient.user.as_ref(), &[&folder])?;
    let fills = user::obstacle_to(Use::Fill, None, &[&folder])?;
    if let Some(obstacle) = enters {
        let whom = user::called(patient.user.as_ref());
        let found = format!(
            "{whom} cannot reach sockets in {} because of {obstacle} (MNF0039)",
            folder.display()
        );
        patient.problem("socket-folder", found, cure);
    } else if let Some(obstacle) = fills {
        let found = format!("sockets cannot be made in {} because of {obstacle}", folder.display());
        // For an ordinary user the system's folder is none of his.
        match options.socket_prefix {
            None if patient.user.is_none() => patient.skipped("socket-folder", found),
            _ => patient.problem("socket-folder", found, cure),
        }
    } else {
        patient.ok("socket-folder", folder.display().to_string());
    }
    Ok(())
}
