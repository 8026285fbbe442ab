//! `manifold check`: what httpd says of a configuration, with an explanation, and what in it differs from
//! mod_wsgi.
#![forbid(unsafe_code)]

use crate::compatibility::{Difference, Table};
use crate::explain;
use crate::failure::{During as _, Outcome, fail};
use crate::httpd::{Httpd, text_of};
use crate::installation::Installation;
use crate::options::Check;
use crate::terminal::{BAD, BOLD, DIM, DOUBTFUL, GOOD};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// `manifold check`
pub(crate) fn run(options: &Check) -> Outcome<ExitCode> {
    let httpd = Httpd::find(&options.at)?;
    let installation = Installation::find(&options.at, &httpd)?;
    let conf = match &options.conf {
        Some(conf) => crate::user::absolute(conf)?,
        None => httpd.root.join(&httpd.configuration),
    };
    if !conf.is_file() {
        return fail(format!("there is no configuration {}", conf.display()));
    }
    let text = read(&conf)?;
    let examined = Examined { httpd: &httpd, installation: &installation, conf: &conf };

    let (accepted, said) = examined.test(&text, &[])?;
    let said = without_echo(&said);
    let files = if accepted { examined.files(&text)? } else { vec![conf.clone()] };
    if accepted {
        anstream::println!("{GOOD}httpd accepts{GOOD:#} {}", conf.display());
    } else {
        anstream::println!("{BAD}httpd refuses{BAD:#} {}", conf.display());
    }
    for line in said.iter().filter(|line| line.as_str() != "Syntax OK") {
        anstream::println!("  {DIM}{line}{DIM:#}");
    }
    for explanation in explain::all(&said, &httpd) {
        anstream::println!("\n  {explanation}");
    }

    let mut found = 0;
    for file in &files {
        for directive in directives(&read(file)?) {
            for difference in directive.differences(&installation) {
                found += 1;
                show(file, &directive, &difference);
            }
        }
    }
    anstream::println!(
        "\n{}",
        match found {
            0 => "Nothing in it differs from mod_wsgi.".to_owned(),
            1 => "One thing differs from mod_wsgi.".to_owned(),
            several => format!("{several} things differ from mod_wsgi."),
        }
    );
    Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(file: &Path, directive: &Directive, difference: &(String, &str, String)) {
    let (name, state, remark) = difference;
    let at = format!("{}:{}", file.display(), directive.line);
    anstream::println!(
        "\n{BOLD}{at}{BOLD:#}: {name}\n  {DOUBTFUL}{state}{DOUBTFUL:#}: {}",
        without_links(remark)
    );
}

/// Markdown's `[text](where)` as text.
fn without_links(text: &str) -> String {
    let mut parts = text.split("](");
    let mut plain = parts.next().unwrap_or_default().replacen('[', "", 1);
    for part in parts {
        let (_, rest) = part.split_once(')').unwrap_or(("", part));
        plain.push_str(&rest.replacen('[', "", 1));
    }
    plain
}

struct Examined<'a> {
    httpd: &'a Httpd,
    installation: &'a Installation,
    conf: &'a Path,
}

impl Examined<'_> {
    /// `httpd -t`, with this module in the place of whichever is loaded, and with the variables that the
    /// system's own httpd is started with.
    fn test(&self, text: &str, more: &[&str]) -> Outcome<(bool, String)> {
        let own = directives(text).iter().any(|directive| {
            directive.is("LoadModule")
                && directive.words.get(2).is_some_and(|path| path.contains("manifold"))
        });
        let program = &self.httpd.program;
        let variables = [self.conf.with_file_name("envvars"), self.httpd.root.join("envvars")];
        let mut command = match variables.iter().find(|file| file.is_file()) {
            Some(file) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", ". \"$0\" && exec \"$@\""]).arg(file).arg(program);
                shell
            }
            None => Command::new(program),
        };
        command.arg("-t").args(more).arg("-f").arg(self.conf);
        if !own {
            // httpd skips the second module of a name, so the configuration's own line does nothing then.
            command
                .arg("-C")
                .arg(format!("LoadModule wsgi_module \"{}\"", self.installation.module.display()));
        }
        let output = command.output().during(|| format!("{} cannot be run", program.display()))?;
        Ok((output.status.success(), text_of(&output)))
    }

    /// Every file of a configuration that is accepted.
    fn files(&self, text: &str) -> Outcome<Vec<PathBuf>> {
        let (_, said) = self.test(text, &["-D", "DUMP_INCLUDES"])?;
        // "  (*) /etc/apache2/apache2.conf", "    (146) /etc/apache2/ports.conf"
        let lines = said.lines().filter_map(|line| line.trim().strip_prefix('(')?.split_once(") "));
        let mut files: Vec<_> = lines.map(|(_, path)| PathBuf::from(path.trim())).collect();
        if files.is_empty() {
            files.push(self.conf.to_owned());
        }
        files.dedup();
        Ok(files)
    }
}

/// What httpd says, but for what is there because of how it was asked.
fn without_echo(said: &str) -> Vec<String> {
    let lines = said.lines().filter(|line| !line.contains("module wsgi_module is already loaded"));
    lines.filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

fn read(path: &Path) -> Outcome<String> {
    let bytes = fs::read(path).during(|| format!("{} cannot be read", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line of a configuration, with those that it goes on in.
struct Directive {
    line: usize,
    words: Vec<String>,
}

impl Directive {
    fn is(&self, name: &str) -> bool {
        self.words.first().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    /// What it is about, the state, and the remark, of everything that differs.
    fn differences(&self, installation: &Installation) -> Vec<(String, &'static str, String)> {
        let Some(name) = self.words.first() else { return Vec::new() };
        let mut found = Vec::new();
        let mut add =
            |name: String, row: Difference| found.push((name, row.state, row.remark.to_owned()));
        for row in Table::Directives.differences().filter(|row| self.is(row.name)) {
            add(row.name.to_owned(), row);
        }
        for row in Table::Options.differences() {
            let Some((directive, option)) = row.name.split_once(' ') else { continue };
            let given = |word: &&String| word.to_ascii_lowercase().starts_with(option);
            if let Some(word) = self.words.iter().skip(1).find(given).filter(|_| self.is(directive))
            {
                add(format!("{directive} {word}"), row);
            }
        }
        let loads_another = self.is("LoadModule")
            && self.words.get(1).is_some_and(|module| module == "wsgi_module")
            && !self.words.get(2).is_some_and(|path| path.contains("manifold"));
        if loads_another {
            let instead = format!("let it load {}", installation.module.display());
            found.push((self.words.join(" "), "to be changed", instead));
        }
        if name.to_ascii_lowercase().starts_with("wsgi") {
            for script in self.words.iter().skip(1).filter(|word| word.starts_with('/')) {
                found.extend(differences_in(Path::new(script)));
            }
        }
        found
    }
}

/// What a script uses that differs, by its text.
fn differences_in(script: &Path) -> Vec<(String, &'static str, String)> {
    if !script.is_file() {
        return Vec::new();
    }
    let text = read(script).unwrap_or_default();
    let keys = Table::Environ.differences().map(|row| (row.name, row));
    let attributes =
        Table::Modules.differences().filter_map(|row| Some((row.name.split_once('.')?.1, row)));
    keys.chain(attributes)
        .filter(|(word, _)| text.contains(word))
        .map(|(_, row)| {
            let remark = if row.remark.is_empty() {
                "it is not there".to_owned()
            } else {
                row.remark.to_owned()
            };
            (format!("{} uses {}", script.display(), row.name), row.state, remark)
        })
        .collect()
}

fn directives(text: &str) -> Vec<Directive> {
    let mut found = Vec::new();
    let mut whole = String::new();
    let mut first = 1;
    for (number, line) in text.lines().enumerate() {
        if whole.is_empty() {
            first = number + 1;
        }
        if let Some(part) = line.strip_suffix('\\') {
            whole.push_str(part);
            whole.push(' ');
            continue;
        }
        whole.push_str(line);
        let line = std::mem::take(&mut whole);
        if !line.trim_start().starts_with('#') {
            let words = words(line.trim().trim_start_matches('<').trim_end_matches('>'));
            if !words.is_empty() {
                found.push(Directive { line: first, words });
            }
        }
    }
    found
}

/// The words of a line; quotes keep spaces, wherever in a word they begin.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut begun) = (String::new(), None, false);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(end), _) if letter == end => quote = None,
            (Some(_), _) => word.push(letter),
            (None, '"' | '\'') => (quote, begun) = (Some(letter), true),
            (None, _) if letter.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (None, _) => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_become_their_text() {
        assert_eq!(without_links("as [A](a.md#x) and [B](b.md), read"), "as A and B, read");
        assert_eq!(without_links("plain (text)"), "plain (text)");
    }

    #[test]
    fn lines_that_go_on_and_quotes_are_read_as_httpd_does() {
        let text = "# WSGIx\nWSGIDaemonProcess a \\\n  home='/a b' \\\n threads=3\n\n<WSGIInterpreterOptions application-group=\"x\">\n";
        let found = directives(text);
        assert_eq!(found[0].words, ["WSGIDaemonProcess", "a", "home=/a b", "threads=3"]);
        assert_eq!(found[0].line, 2);
        assert_eq!(found[1].words, ["WSGIInterpreterOptions", "application-group=x"]);
        assert_eq!(found[1].line, 6);
    }
}
