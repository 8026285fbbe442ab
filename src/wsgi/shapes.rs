//! Dictionaries for environs, made from those of earlier requests.
//!
//! Requests differ in little: most have the names of an earlier one, in the same order, and under most of
//! them the same values. So the dictionary of an earlier one is copied, which is a copy of its table,
//! and only what differs is made and set.

use super::residents::Guarded;
use crate::Fields;
use crate::interp::{Attached, Kept, Object, Raised};
use cpython_sys::PyDict_Copy;
use std::sync::Arc;

/// How many are kept.
const SHAPES: usize = 8;

/// The most fields one may have, and the longest value that is kept with it: clients choose both.
const FIELDS: usize = 128;
const VALUE: usize = 256;

/// How often one is used until another with fresh values takes its place; and, where as many are kept as
/// may be, how many requests have none until one of them takes the place of the one that was not used for
/// longest.
const USES: u32 = 256;
const MISSES: u32 = 16;

/// By what a client proves who it is: these are not kept.
const CONFIDENTIAL: [&[u8]; 3] =
    [b"HTTP_AUTHORIZATION", b"HTTP_PROXY_AUTHORIZATION", b"HTTP_COOKIE"];

/// Shapes of requests whose environs have the same beginning.
pub(super) struct Shapes {
    /// What stands in each of them before the variables of a request.
    base: Kept,
    recent: Guarded<Recent>,
}

/// Those that are kept. Whoever uses one shares it, since a value is decoded by Python where file names
/// are in no encoding that CPython knows by itself, and Python may let the GIL go.
#[derive(Default)]
struct Recent {
    /// And how often each was used. The one that was used last is the first.
    shapes: Vec<(Arc<Shape>, u32)>,
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
}

/// What there is for a request.
enum Found {
    Known(Arc<Shape>),
    /// Its own is to be kept.
    Wanted,
    Unwanted,
}

impl Shapes {
    /// For environs that begin with what is in `base`.
    pub(super) fn new(base: Object<'_>) -> Self {
        Self { base: Kept::new(base), recent: Guarded::default() }
    }

    /// A new dictionary of the base and these variables.
    pub(super) fn environ<'py>(
        &self,
        py: Attached<'py>,
        variables: &Fields,
    ) -> Result<Object<'py>, Raised> {
        let found = self.recent.borrow(py).find(variables);
        let shape = match found {
            Found::Known(shape) => shape,
            Found::Wanted => {
                let shape = Arc::new(Shape::of(py, &self.base.get(py), variables)?);
                let former = self.recent.borrow(py).keep(Arc::clone(&shape));
                former.into_iter().for_each(|former| former.let_go(py));
                shape
            }
            Found::Unwanted => {
                let environ = copy(&self.base.get(py))?;
                for (name, value) in variables.iter() {
                    environ.set_item(&Object::latin1(py, name)?, &object(py, name, value)?)?;
                }
                return Ok(environ);
            }
        };
        let environ = shape.environ(py, variables);
        shape.let_go(py);
        environ
    }

    pub(super) fn release(self, py: Attached<'_>) {
        drop(self.base.release(py));
        let shapes = self.recent.into_inner().shapes;
        shapes.into_iter().for_each(|(shape, _)| shape.let_go(py));
    }
}

impl Recent {
    fn find(&mut self, variables: &Fields) -> Found {
        if let Some(at) = self.shapes.iter().position(|(shape, _)| shape.has_names_of(variables)) {
            self.shapes[..=at].rotate_right(1);
            let (shape, uses) = &mut self.shapes[0];
            *uses += 1;
            return if *uses < USES { Found::Known(Arc::clone(shape)) } else { Found::Wanted };
        }
        if variables.iter().len() > FIELDS {
            return Found::Unwanted;
        }
        self.misses = self.misses.wrapping_add(1);
        match self.shapes.len() < SHAPES || self.misses.is_multiple_of(MISSES) {
            true => Found::Wanted,
            false => Found::Unwanted,
        }
    }

    /// Keeps a shape, and returns the one whose place it takes.
    fn keep(&mut self, shape: Arc<Shape>) -> Option<Arc<Shape>> {
        let same = self.shapes.iter().position(|(known, _)| known.has_names_of(&shape.fields));
        let full = self.shapes.len() >= SHAPES;
        let place = same.or_else(|| full.then(|| self.shapes.len() - 1));
        let former = place.map(|at| self.shapes.remove(at).0);
        self.shapes.insert(0, (shape, 0));
        former
    }
}

impl Shape {
    fn of<'py>(py: Attached<'py>, base: &Object<'py>, variables: &Fields) -> Result<Self, Raised> {
        let (environ, none) = (copy(base)?, Object::none(py));
        let (mut fields, mut keys) = (Fields::default(), Vec::new());
        for (name, value) in variables.iter() {
            // What comes twice is set in its order, each time.
            let is_single = variables.iter().filter(|(other, _)| *other == name).count() == 1;
            let is_kept = is_single && value.len() <= VALUE && !CONFIDENTIAL.contains(&name);
            let key = Object::latin1(py, name)?;
            if is_kept {
                environ.set_item(&key, &object(py, name, value)?)?;
            } else {
                environ.set_item(&key, &none)?;
            }
            fields.push(name, if is_kept { value } else { b"" });
            keys.push((key, is_kept));
        }
        let keys = keys.into_iter().map(|(key, is_kept)| (Kept::new(key), is_kept)).collect();
        Ok(Self { fields, keys, environ: Kept::new(environ) })
    }

    fn has_names_of(&self, variables: &Fields) -> bool {
        let names = |(name, _)| name;
        self.keys.len() == variables.iter().len()
            && self.fields.iter().map(names).eq(variables.iter().map(names))
    }

    /// A dictionary for variables of the same names.
    fn environ<'py>(&self, py: Attached<'py>, variables: &Fields) -> Result<Object<'py>, Raised> {
        let environ = copy(&self.environ.get(py))?;
        let known = self.fields.iter().zip(&self.keys);
        for ((name, value), ((_, before), (key, is_kept))) in variables.iter().zip(known) {
            if !is_kept || value != before {
                environ.set_item(&key.get(py), &object(py, name, value)?)?;
            }
        }
        Ok(environ)
    }

    /// Shares it no more; the last to do so releases what it holds.
    fn let_go(self: Arc<Self>, py: Attached<'_>) {
        if let Some(shape) = Arc::into_inner(self) {
            drop(shape.environ.release(py));
            shape.keys.into_iter().for_each(|(key, _)| drop(key.release(py)));
        }
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
