//! numpy arrays as views. An array that is not what it should be is refused with a word on how to make it so.
//!
//! Token ids are `uint32`; other integer types are copied and checked. Floats are `float32` and never converted: a
//! silent copy of logits would be the cost of the whole step, and nothing could be written in place.

use std::borrow::Cow;

use ndarray::{Array, ArrayView, ArrayView1, Dimension, Ix1, Ix2};
use numpy::{
    BorrowError, Element, PyArray, PyArrayDescrMethods, PyArrayMethods, PyReadonlyArray,
    PyReadwriteArray, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::error::{value, wrong_type};

/// Token ids: the caller's array, or a checked copy.
pub(crate) enum Ids<'py, D: Dimension> {
    Borrowed(PyReadonlyArray<'py, u32, D>),
    Owned(Array<u32, D>),
}

impl<D: Dimension> Ids<'_, D> {
    pub(crate) fn view(&self) -> ArrayView<'_, u32, D> {
        match self {
            Self::Borrowed(array) => array.as_array(),
            Self::Owned(array) => array.view(),
        }
    }
}

impl Ids<'_, Ix1> {
    /// The ids in one piece.
    pub(crate) fn to_slice(&self) -> Cow<'_, [u32]> {
        in_one_piece(self.view())
    }
}

/// The row itself where it lies in one piece, else a copy.
pub(crate) fn in_one_piece<'a, T: Clone>(row: ArrayView1<'a, T>) -> Cow<'a, [T]> {
    match row.to_slice() {
        Some(slice) => slice.into(),
        None => row.to_vec().into(),
    }
}

/// One id a sequence position: an array or a list of integers.
pub(crate) fn ids<'py>(what: &str, given: &Bound<'py, PyAny>) -> PyResult<Ids<'py, Ix1>> {
    any_ids(what, given)
}

/// Rows of windows, `[rows, h]`.
pub(crate) fn windows<'py>(given: &Bound<'py, PyAny>) -> PyResult<Ids<'py, Ix2>> {
    any_ids("windows", given)
}

/// Rows of token ids.
pub(crate) fn id_rows<'py>(what: &str, given: &Bound<'py, PyAny>) -> PyResult<Ids<'py, Ix2>> {
    any_ids(what, given)
}

fn any_ids<'py, D: Dimension>(what: &str, given: &Bound<'py, PyAny>) -> PyResult<Ids<'py, D>> {
    if let Ok(array) = given.cast::<PyArray<u32, D>>()
        && is_plain(array)
    {
        return Ok(Ids::Borrowed(
            array.try_readonly().map_err(|e| borrowed(what, e))?,
        ));
    }
    let py = given.py();
    let array = if given.is_instance_of::<PyUntypedArray>() {
        given.clone()
    } else if given.is_instance_of::<pyo3::types::PyString>() {
        return Err(wrong_type(format!(
            "{what}: text is not token ids; tokenize it first"
        )));
    } else {
        py.import("numpy")?.call_method1("asarray", (given,))?
    };
    let array = array.cast::<PyUntypedArray>().map_err(PyErr::from)?;
    let dimensions = D::NDIM.unwrap_or(0);
    if array.ndim() != dimensions {
        return Err(shape_error(what, dimensions, array.shape()));
    }
    let shape = || D::from_dimension(&ndarray::IxDyn(array.shape())).expect("as many dimensions");
    if array.is_empty() {
        return Ok(Ids::Owned(Array::default(shape())));
    }
    let kind = array.dtype().kind();
    if kind != b'i' && kind != b'u' {
        return Err(wrong_type(format!(
            "{what}: token ids are integers, not {}; use uint32",
            array.dtype()
        )));
    }
    // A copy in the machine's order; ids above 2^63 become negative and are refused with the others.
    let wide = array.call_method1("astype", ("int64",))?;
    let wide: Vec<i64> = wide
        .call_method0("ravel")?
        .cast::<PyArray<i64, Ix1>>()?
        .to_vec()?;
    let narrow = wide.iter().map(|&id| {
        u32::try_from(id).map_err(|_| {
            value(format!(
                "{what}: {id} is not a token id; ids are from 0 to 4294967295 (padding such as -100 must be cut off)"
            ))
        })
    });
    let narrow = narrow.collect::<PyResult<Vec<u32>>>()?;
    Ok(Ids::Owned(
        Array::from_shape_vec(shape(), narrow).expect("as many elements"),
    ))
}

fn shape_error(what: &str, dimensions: usize, shape: &[usize]) -> PyErr {
    let wanted = match dimensions {
        1 => "one dimension",
        _ => "two dimensions, a row each (array[None, :] makes one row of a vector)",
    };
    value(format!("{what} has shape {shape:?}; it needs {wanted}"))
}

fn borrowed(what: &str, error: BorrowError) -> PyErr {
    value(match error {
        BorrowError::NotWriteable => {
            format!("{what} is read-only and cannot be changed in place; pass a copy")
        }
        _ => format!("{what} is in use by another call"),
    })
}

/// Aligned, and strides are whole elements: what a view can express.
fn is_plain<T: Element, D: Dimension>(array: &Bound<'_, PyArray<T, D>>) -> bool {
    let size = size_of::<T>();
    !array.is_empty()
        && (array.data() as usize).is_multiple_of(align_of::<T>())
        && array
            .strides()
            .iter()
            .all(|stride| stride.unsigned_abs().is_multiple_of(size))
}

/// Whether two indices may name one element, as `as_strided` can make it.
fn overlaps_itself<T: Element, D: Dimension>(array: &Bound<'_, PyArray<T, D>>) -> bool {
    let mut axes: Vec<(usize, usize)> = array
        .strides()
        .iter()
        .map(|stride| stride.unsigned_abs())
        .zip(array.shape().iter().copied())
        .filter(|&(_, len)| len > 1)
        .collect();
    axes.sort_unstable();
    let mut reach = size_of::<T>();
    axes.into_iter().any(|(stride, len)| {
        let overlaps = stride < reach;
        reach += stride * (len - 1);
        overlaps
    })
}

fn float_array<'a, 'py, D: Dimension>(
    what: &str,
    given: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyArray<f32, D>>> {
    if let Ok(array) = given.cast::<PyArray<f32, D>>() {
        if array.is_empty() {
            return Err(value(format!("{what} is empty")));
        }
        if !is_plain(array) {
            return Err(value(format!(
                "{what} lies askew in memory; use numpy.ascontiguousarray"
            )));
        }
        return Ok(array);
    }
    let Ok(array) = given.cast::<PyUntypedArray>() else {
        return Err(wrong_type(format!(
            "{what} is a {}, not a numpy array; a torch tensor on the CPU gives one without a copy by .numpy()",
            given.get_type().name()?
        )));
    };
    let dimensions = D::NDIM.unwrap_or(0);
    if array.ndim() != dimensions {
        return Err(shape_error(what, dimensions, array.shape()));
    }
    Err(wrong_type(format!(
        "{what} is {}; it must be float32 in the machine's byte order: use .astype(numpy.float32)",
        array.dtype()
    )))
}

/// Floats to read.
pub(crate) fn floats<'py, D: Dimension>(
    what: &str,
    given: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArray<'py, f32, D>> {
    let array = float_array(what, given)?;
    array.try_readonly().map_err(|e| borrowed(what, e))
}

/// Floats to change in place.
pub(crate) fn floats_mut<'py, D: Dimension>(
    what: &str,
    given: &Bound<'py, PyAny>,
) -> PyResult<PyReadwriteArray<'py, f32, D>> {
    writeable(what, float_array(what, given)?)
}

/// A row of words to fill.
pub(crate) fn words_mut<'py>(
    what: &str,
    given: &Bound<'py, PyAny>,
) -> PyResult<PyReadwriteArray<'py, u32, Ix2>> {
    match given.cast::<PyArray<u32, Ix2>>() {
        Ok(array) if is_plain(array) => writeable(what, array),
        _ => Err(wrong_type(format!(
            "{what} must be a uint32 array of two dimensions"
        ))),
    }
}

fn writeable<'py, T: Element, D: Dimension>(
    what: &str,
    array: &Bound<'py, PyArray<T, D>>,
) -> PyResult<PyReadwriteArray<'py, T, D>> {
    if overlaps_itself(array) {
        return Err(value(format!(
            "{what} overlaps itself in memory and cannot be changed in place; pass a copy"
        )));
    }
    array.try_readwrite().map_err(|e| borrowed(what, e))
}

/// A list of id sequences: an array or list each.
pub(crate) fn texts(what: &str, given: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u32>>> {
    if !given.is_instance_of::<PyList>() && !given.is_instance_of::<pyo3::types::PyTuple>() {
        return Err(wrong_type(format!(
            "{what} is a {}; it must be a list of sequences of token ids",
            given.get_type().name()?
        )));
    }
    let each = given.try_iter()?.enumerate().map(|(index, text)| {
        let ids = ids(&format!("{what}[{index}]"), &text?)?;
        Ok(ids.to_slice().into_owned())
    });
    each.collect()
}
