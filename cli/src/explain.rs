//! What httpd's complaints about a configuration mean, and what helps.
#![forbid(unsafe_code)]

use crate::compatibility::Table;
use crate::httpd::{Httpd, Module};
use std::fs;

/// An explanation of each line that has one.
pub(crate) fn all(said: &[String], httpd: &Httpd) -> Vec<String> {
    let mut explanations = Vec::new();
    for line in said {
        let found = [place(line), meaning(line, httpd)];
        for explanation in found.into_iter().flatten() {
            if !explanations.contains(&explanation) {
                explanations.push(explanation);
            }
        }
    }
    explanations
}

/// The line of the file that httpd names.
fn place(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("Syntax error on line ")?;
    let (number, rest) = rest.split_once(" of ")?;
    let path = rest.split(": ").next()?.trim_end_matches(':');
    let text = fs::read_to_string(path).ok()?;
    let number: usize = number.parse().ok()?;
    let text = text.lines().nth(number.checked_sub(1)?)?;
    Some(format!("{path}:{number} is: {}", text.trim()))
}

fn meaning(line: &str, httpd: &Httpd) -> Option<String> {
    if let Some((_, rest)) = line.split_once("Invalid command '") {
        return Some(unknown_directive(rest.split('\'').next()?, httpd));
    }
    if let Some((_, rest)) = line.split_once("Cannot load ") {
        let (module, why) = rest.split_once(" into server: ")?;
        return Some(unloadable(module, why));
    }
    let plain = [
        (
            "No MPM loaded",
            "A configuration loads one multi-processing module: mod_mpm_event is the best for this module \
             (Debian: a2enmod mpm_event).",
        ),
        (
            "More than one MPM loaded",
            "One multi-processing module is all that httpd takes: remove the other LoadModule lines (Debian: \
             a2dismod mpm_prefork).",
        ),
        (
            "garbled",
            "The module was built with the headers of another httpd: build it with the apxs of this one.",
        ),
        (
            "is not compatible with this version of Apache",
            "The module was built with the headers of another httpd: build it with the apxs of this one.",
        ),
        (
            "Config variable ${",
            "A variable of the configuration is set neither by Define nor in httpd's environment. Debian's are in \
             /etc/apache2/envvars, which apache2ctl reads and the bare program does not.",
        ),
        ("bad user name", "User has to be somebody whom the system knows: see getent passwd."),
        ("bad group name", "Group has to be a group that the system knows: see getent group."),
        (
            "Could not reliably determine the server's fully qualified domain name",
            "This is a warning only: a line ServerName localhost ends it.",
        ),
        (
            "ServerRoot must be a valid directory",
            "ServerRoot is the folder that relative paths begin at: let it name one that is there.",
        ),
        (
            "not closed",
            "A section that is opened (<Directory ...>) needs its end (</Directory>) in the same file.",
        ),
        (
            "without matching",
            "An end of a section (</Directory>) has no beginning before it in the same file.",
        ),
        (
            "Cannot access directory",
            "httpd makes files in this folder, not the folder: make it, or let the directive name another one.",
        ),
        (
            "not allowed in",
            "The directive may not stand in this section; the context in its page of docs/directives says where it may.",
        ),
        (
            "not allowed here",
            "The directive may not stand in this section; the context in its page of docs/directives says where it may.",
        ),
        (
            "no listening sockets available",
            "A line such as Listen 80 says where httpd is to be reached.",
        ),
        (
            "does not exist or is empty",
            "The file that the line names has to be there, and readable for root.",
        ),
    ];
    plain.iter().find(|(sign, _)| line.contains(sign)).map(|(_, text)| (*text).to_owned())
}

fn unknown_directive(name: &str, httpd: &Httpd) -> String {
    if name.to_ascii_uppercase().starts_with("WSGI") {
        let close =
            |row: &str| strsim::damerau_levenshtein(&row.to_lowercase(), &name.to_lowercase());
        let nearest = Table::Directives.rows().min_by_key(|row| close(row.name));
        let advice = nearest
            .filter(|row| close(row.name) <= 4)
            .map_or(String::new(), |row| format!(" The nearest is {}.", row.name));
        return format!("There is no directive {name}, in mod_wsgi neither.{advice}");
    }
    match module_with(name, httpd) {
        Some(module) => format!(
            "{name} is a directive of mod_{module}, which is not loaded: LoadModule {module}_module {} \
             (Debian: a2enmod {module}).",
            httpd.modules.join(format!("mod_{module}.so")).display()
        ),
        None => format!(
            "No module in {} has a directive {name}: it is misspelled, or of a module that is not installed.",
            httpd.modules.display()
        ),
    }
}

/// The module in whose file the name of a directive stands, as a whole.
fn module_with(directive: &str, httpd: &Httpd) -> Option<String> {
    let sign = format!("\0{directive}\0");
    let files = httpd.modules.read_dir().ok()?.flatten();
    let mut names: Vec<_> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
    names.sort();
    let names = names.iter().filter_map(|name| name.strip_prefix("mod_")?.strip_suffix(".so"));
    let mut names = names.filter(|name| match httpd.module(name) {
        Module::File(path) => {
            let text = fs::read(path).unwrap_or_default();
            text.windows(sign.len()).any(|part| part.eq_ignore_ascii_case(sign.as_bytes()))
        }
        Module::CompiledIn | Module::Missing(_) => false,
    });
    names.next().map(str::to_owned)
}

fn unloadable(module: &str, why: &str) -> String {
    if why.contains("libpython") {
        return format!(
            "{module} is linked with a Python that the loader does not find. Build it with the Python that is to \
             be used, install that Python's library again, or tell the loader where it is (ldconfig)."
        );
    }
    if why.contains("undefined symbol: Py") || why.contains("undefined symbol: _Py") {
        return format!(
            "{module} was linked with another Python than the one that it was built for: build it anew."
        );
    }
    if why.contains("undefined symbol: ap") {
        return format!(
            "{module} was built for another httpd: build it with the apxs of this one."
        );
    }
    if why.contains("No such file") {
        return format!(
            "There is no such file, or none of a library that it needs: ldd {module} shows them."
        );
    }
    if why.contains("Permission denied") {
        return format!(
            "Whoever runs httpd may not read {module}: see its mode, and SELinux (ls -Z)."
        );
    }
    format!("{module} cannot be loaded; ldd {module} shows what it needs.")
}
