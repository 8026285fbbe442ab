//! Dictionaries for environs, made from those of earlier requests.
//!
//! Requests differ in little: most have the names of an earlier one, in the same order, and under most of
//! them the same values. So the dictionary of an earlier one is copied, which is a copy of its table,
//! and only what differs is made and set.

use crate::Fields;
use crate::interp::{Attached, Kept, Object, Raised};
use cpython_sys::PyDict_Copy;

/// How many are kept.
const SHAPES: usize = 8;

/// The most fields one may have, and the longest value that is kept with it: clients choose both.
const FIELDS: usize = 128;
const VALUE: usize = 256;

/// How often one is used until it takes its values from another request, and how many requests have none
/// until the one that was used last gives way.
const USES: u32 = 256;
const MISSES: u32 = 16;

/// By what a client proves who it is: these are not kept.
const CONFIDENTIAL: [&[u8]; 3] =
    [b"HTTP_AUTHORIZATION", b"HTTP_PROXY_AUTHORIZATION", b"HTTP_COOKIE"];

/// The name whose value differs for each request.
const ID: &[u8] = b"mod_wsgi.request_id";

/// Shapes of requests whose environs have the same beginning.
pub(super) struct Shapes {
    /// What stands in each of them before the variables of a request.
    base: Kept,
    /// The one that was used last is the first.
    shapes: Vec<Shape>,
    misses: u32,
}

/// The variables that a request had.
struct Shape {
    /// Their names, and their values as far as they are kept.
    fields: Fields,
    /// For each of them its name, and whether its value is kept.
    keys: Vec<(Kept, bool)>,
    /// The base and these; `None` stands for what is not kept.
    environ: Kept,
    uses: u32,
}

impl Shapes {
    /// For environs that begin with what is in `base`.
    pub(super) fn new(base: Object<'_>) -> Self {
        Self { base: Kept::new(base), shapes: Vec::new(), misses: 0 }
    }

    /// A new dictionary of the base and these variables, and the request's id in it. Nothing here runs
    /// code of an application.
    pub(super) fn environ<'py>(
        &mut self,
        py: Attached<'py>,
        variables: &Fields,
    ) -> Result<(Object<'py>, Option<Object<'py>>), Raised> {
        if let Some(at) = self.shapes.iter().position(|shape| shape.has_names_of(variables)) {
            self.shapes[..=at].rotate_right(1);
            let shape = &mut self.shapes[0];
            shape.uses += 1;
            if shape.uses < USES {
                return shape.environ(py, variables);
            }
            self.shapes.remove(0).release(py);
        } else {
            self.misses = self.misses.wrapping_add(1);
            if self.shapes.len() >= SHAPES {
                if !self.misses.is_multiple_of(MISSES) {
                    return self.without_shape(py, variables);
                }
                if let Some(last) = self.shapes.pop() {
                    last.release(py);
                }
            }
        }
        if variables.iter().len() > FIELDS {
            return self.without_shape(py, variables);
        }
        let shape = Shape::of(py, &self.base.get(py), variables)?;
        let made = shape.environ(py, variables);
        self.shapes.insert(0, shape);
        made
    }

    fn without_shape<'py>(
        &self,
        py: Attached<'py>,
        variables: &Fields,
    ) -> Result<(Object<'py>, Option<Object<'py>>), Raised> {
        let (environ, mut id) = (copy(&self.base.get(py))?, None);
        for (name, value) in variables.iter() {
            let value = object(py, name, value)?;
            environ.set_item(&Object::latin1(py, name)?, &value)?;
            if name == ID {
                id = Some(value);
            }
        }
        Ok((environ, id))
    }

    pub(super) fn release(self, py: Attached<'_>) {
        drop(self.base.release(py));
        self.shapes.into_iter().for_each(|shape| shape.release(py));
    }
}

impl Shape {
    fn of<'py>(py: Attached<'py>, base: &Object<'py>, variables: &Fields) -> Result<Self, Raised> {
        let (environ, none) = (copy(base)?, Object::none(py));
        let (mut fields, mut keys) = (Fields::default(), Vec::new());
        for (name, value) in variables.iter() {
            // What comes twice is set in its order, each time.
            let is_single = variables.iter().filter(|(other, _)| *other == name).count() == 1;
            let is_kept =
                is_single && value.len() <= VALUE && name != ID && !CONFIDENTIAL.contains(&name);
            let key = Object::latin1(py, name)?;
            if is_kept {
                environ.set_item(&key, &object(py, name, value)?)?;
            } else {
                environ.set_item(&key, &none)?;
            }
            fields.push(name, if is_kept { value } else { b"" });
            keys.push((Kept::new(key), is_kept));
        }
        Ok(Self { fields, keys, environ: Kept::new(environ), uses: 0 })
    }

    fn has_names_of(&self, variables: &Fields) -> bool {
        let names = |(name, _)| name;
        self.keys.len() == variables.iter().len()
            && self.fields.iter().map(names).eq(variables.iter().map(names))
    }

    /// A dictionary for variables of the same names.
    fn environ<'py>(
        &self,
        py: Attached<'py>,
        variables: &Fields,
    ) -> Result<(Object<'py>, Option<Object<'py>>), Raised> {
        let (environ, mut id) = (copy(&self.environ.get(py))?, None);
        let known = self.fields.iter().zip(&self.keys);
        for ((name, value), ((_, before), (key, is_kept))) in variables.iter().zip(known) {
            if *is_kept && value == before {
                continue;
            }
            let value = object(py, name, value)?;
            environ.set_item(&key.get(py), &value)?;
            if name == ID {
                id = Some(value);
            }
        }
        Ok((environ, id))
    }

    fn release(self, py: Attached<'_>) {
        drop(self.environ.release(py));
        self.keys.into_iter().for_each(|(key, _)| drop(key.release(py)));
    }
}

/// The value of a variable: one character for each byte; two are file names, which come in the encoding
/// that `open` expects.
fn object<'py>(py: Attached<'py>, name: &[u8], value: &[u8]) -> Result<Object<'py>, Raised> {
    match name {
        b"DOCUMENT_ROOT" | b"SCRIPT_FILENAME" => Object::path(py, value),
        _ => Object::latin1(py, value),
    }
}

fn copy<'py>(dictionary: &Object<'py>) -> Result<Object<'py>, Raised> {
    // SAFETY: attached, and it is a dict; a new reference or an exception.
    unsafe { Object::from_owned(dictionary.py(), PyDict_Copy(dictionary.as_ptr())) }
}
