//! Directives about the Python of httpd's processes: what CPython is told when it starts, what its
//! interpreters may do, and what is said about slow requests.

use super::Directive;
use super::process::os_path;
use manifold::HashSeed;
use std::time::Duration;

/// `WSGIPythonOptimize level`: as `python -O` and `-OO`.
pub(super) fn python_optimize(directive: &mut Directive<'_>) -> Result<(), String> {
    let word = directive.only("level")?;
    let level = match &word[..] {
        b"0" => 0,
        b"1" => 1,
        b"2" => 2,
        _ => return Err(directive.refuse(&word, "0, 1 or 2")),
    };
    directive.server().python.start.optimize = Some(level);
    Ok(())
}

/// `WSGIPythonWarnings filter`: as `python -W`; each adds one.
pub(super) fn python_warnings(directive: &mut Directive<'_>) -> Result<(), String> {
    let word = directive.only("filter")?;
    let filter = String::from_utf8(word)
        .map_err(|error| directive.refuse(error.as_bytes(), "a warning filter in UTF-8"))?;
    directive.server().python.start.warnings.push(filter);
    Ok(())
}

/// `WSGIPythonHashSeed random|number`: what hashes depend on.
pub(super) fn python_hash_seed(directive: &mut Directive<'_>) -> Result<(), String> {
    let word = directive.only("seed")?;
    let seed = match &word[..] {
        b"random" => HashSeed::Random,
        digits => {
            let number = parse(digits).filter(|_| digits.iter().all(u8::is_ascii_digit));
            HashSeed::Fixed(number.ok_or_else(|| {
                directive.refuse(&word, "'random' or a number from 0 to 4294967295")
            })?)
        }
    };
    directive.server().python.start.hash_seed = Some(seed);
    Ok(())
}

/// `WSGIDontWriteBytecode On|Off`: whether no `.pyc` file is written.
pub(super) fn dont_write_bytecode(directive: &mut Directive<'_>) -> Result<(), String> {
    let flag = directive.on_off()?;
    directive.server().python.start.dont_write_bytecode = flag;
    Ok(())
}

/// `WSGIPythonEggs directory`: where eggs are unpacked.
pub(super) fn python_eggs(directive: &mut Directive<'_>) -> Result<(), String> {
    let path = directive.only("directory")?;
    directive.server().python.eggs = Some(os_path(path));
    Ok(())
}

/// `WSGIDestroyInterpreter On|Off`: whether interpreters come to an orderly end.
pub(super) fn destroy_interpreter(directive: &mut Directive<'_>) -> Result<(), String> {
    let flag = directive.on_off()?;
    directive.server().python.destroy_interpreter = Some(flag);
    Ok(())
}

/// `WSGISlowRequests seconds`: after what time a line says where a request is.
pub(super) fn slow_requests(directive: &mut Directive<'_>) -> Result<(), String> {
    let word = directive.only("number of seconds")?;
    let seconds = parse::<f64>(&word).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let accepted = "a number of seconds, 0 or more";
    directive.server().python.slow_requests =
        Some(seconds.ok_or_else(|| directive.refuse(&word, accepted))?);
    Ok(())
}

/// `WSGIVerboseDebugging On|Off`: read, and does nothing.
pub(super) fn verbose_debugging(directive: &mut Directive<'_>) -> Result<(), String> {
    directive.on_off()?;
    directive.note_info("does nothing any more; LogLevel wsgi:debug says more");
    Ok(())
}

/// `WSGIServerMetrics On|Off`: whether applications may ask for httpd's scoreboard.
pub(super) fn server_metrics(directive: &mut Directive<'_>) -> Result<(), String> {
    let flag = directive.on_off()?;
    directive.server().python.server_metrics = Some(flag);
    Ok(())
}

/// A number that fills its word.
pub(super) fn parse<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}
