//! Pointers of the caller's as references, after the checks that can be made.

use std::ffi::{CStr, c_char};
use std::mem::{MaybeUninit, size_of};
use std::sync::{Mutex, MutexGuard, TryLockError};

use crate::status::{Failure, Status};

/// Structs beyond this size are taken for uninitialised.
const MAX_STRUCT: usize = 4096;

fn null(what: &str) -> Failure {
    Failure::new(Status::NullPointer, format!("{what} is NULL"))
}

fn check<T>(pointer: *const T, len: usize, what: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(null(what));
    }
    if !pointer.is_aligned() {
        let message = format!(
            "{what} is not aligned to {} bytes: copy it to an array of its type",
            align_of::<T>()
        );
        return Err(Failure::new(Status::Alignment, message));
    }
    if len > isize::MAX as usize / size_of::<T>().max(1) {
        let message = format!("{what} has {len} elements, more than memory can hold");
        return Err(Failure::new(Status::Length, message));
    }
    Ok(())
}

/// An array of the caller's. NULL is fine for no elements.
///
/// # Safety
/// Where the checks pass, `len` elements can be read for `'a`, and nobody writes to them meanwhile.
pub(crate) unsafe fn slice<'a, T>(
    pointer: *const T,
    len: usize,
    what: &str,
) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    check(pointer, len, what)?;
    // SAFETY: not null, aligned, not too long; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// An array of the caller's to write to.
///
/// # Safety
/// As [`slice`], and nobody else reads it meanwhile.
pub(crate) unsafe fn slice_mut<'a, T>(
    pointer: *mut T,
    len: usize,
    what: &str,
) -> Result<&'a mut [T], Failure> {
    if len == 0 {
        return Ok(&mut []);
    }
    check(pointer, len, what)?;
    // SAFETY: not null, aligned, not too long; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, len) })
}

/// An array of token ids.
///
/// # Safety
/// As [`slice`].
pub(crate) unsafe fn tokens<'a>(
    pointer: *const i32,
    len: usize,
    what: &str,
) -> Result<&'a [u32], Failure> {
    // SAFETY: the caller's promise; i32 and u32 have one layout.
    let ids = unsafe { slice(pointer.cast::<u32>(), len, what) }?;
    // A loop without an exit, which becomes vector code.
    if ids.iter().fold(0, |all, id| all | id) > i32::MAX as u32 {
        let at = ids.iter().position(|&id| id > i32::MAX as u32).unwrap_or(0);
        return Err(negative(what, at, ids[at] as i32));
    }
    Ok(ids)
}

fn negative(what: &str, at: usize, id: i32) -> Failure {
    let message = format!("{what}[{at}] is {id}; a token id is not negative");
    Failure::new(Status::Token, message)
}

/// One token id.
pub(crate) fn token(id: i32, what: &str) -> Result<u32, Failure> {
    u32::try_from(id).map_err(|_| {
        let message = format!("{what} is {id}; a token id is not negative");
        Failure::new(Status::Token, message)
    })
}

/// A handle.
///
/// # Safety
/// Where it is not null, it is a live handle of this library, for `'a`.
pub(crate) unsafe fn handle<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Failure> {
    check(pointer, 1, what)?;
    // SAFETY: not null and aligned; the rest is the caller's promise.
    Ok(unsafe { &*pointer })
}

/// A string of the caller's; `None` where it is NULL.
///
/// # Safety
/// Where it is not null, it ends with a NUL and lives for `'a`.
pub(crate) unsafe fn text<'a>(
    pointer: *const c_char,
    what: &str,
) -> Result<Option<&'a str>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: not null; the rest is the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) }.to_str();
    text.map(Some)
        .map_err(|_| Failure::new(Status::Text, format!("{what} is not UTF-8")))
}

/// Writes a value where the caller wants it.
///
/// # Safety
/// Where the checks pass, a `T` can be written there.
pub(crate) unsafe fn put<T>(pointer: *mut T, value: T, what: &str) -> Result<(), Failure> {
    check(pointer, 1, what)?;
    // SAFETY: not null and aligned; the rest is the caller's promise.
    unsafe { pointer.write(value) };
    Ok(())
}

/// A struct of the interface: plain fields, `struct_size` first.
///
/// # Safety
/// `#[repr(C)]`, its first field is `struct_size: usize`, and all zeros are a value of it.
pub(crate) unsafe trait Struct: Copy {
    /// Its C name.
    const NAME: &'static str;
    /// Its size in version 1 of the interface.
    const FIRST_SIZE: usize;

    /// Sets the field.
    fn set_struct_size(&mut self, size: usize);
}

/// Implements [`Struct`] for a struct that is still as version 1 had it. A field that is added later stands at the end, and
/// `FIRST_SIZE` becomes its offset.
macro_rules! versioned {
    ($type:ty, $name:literal) => {
        const _: () = assert!(::core::mem::offset_of!($type, struct_size) == 0);
        // SAFETY: a `repr(C)` struct of numbers and nullable pointers; the offset is asserted above.
        unsafe impl crate::memory::Struct for $type {
            const NAME: &'static str = $name;
            const FIRST_SIZE: usize = size_of::<$type>();
            fn set_struct_size(&mut self, size: usize) {
                self.struct_size = size;
            }
        }
    };
}
pub(crate) use versioned;

fn checked_size<T: Struct>(pointer: *const T) -> Result<usize, Failure> {
    check(pointer, 1, T::NAME)?;
    // SAFETY: not null and aligned, and every version of the struct starts with this field.
    let size = unsafe { pointer.cast::<usize>().read() };
    if size < T::FIRST_SIZE || size > MAX_STRUCT {
        let message = format!(
            "struct_size of {} is {size}, and this library knows {}: set it to sizeof({})",
            T::NAME,
            size_of::<T>(),
            T::NAME
        );
        return Err(Failure::new(Status::StructSize, message));
    }
    Ok(size)
}

/// A struct of the caller's, of any version: fields that it lacks are zero.
///
/// # Safety
/// Where it is not null, `struct_size` bytes of it can be read.
pub(crate) unsafe fn read<T: Struct>(pointer: *const T) -> Result<T, Failure> {
    let size = checked_size(pointer)?;
    let known = size.min(size_of::<T>());
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: so much can be read, and the copy is no longer than the struct.
    unsafe {
        let to = value.as_mut_ptr().cast::<u8>();
        to.copy_from_nonoverlapping(pointer.cast(), known);
    }
    // SAFETY: so much can be read.
    let tail = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if tail.iter().any(|&byte| byte != 0) {
        let message = format!(
            "{} has fields that this library ({}) does not know, and they are not zero: use the header of this \
             library, or a newer library",
            T::NAME,
            env!("CARGO_PKG_VERSION")
        );
        return Err(Failure::new(Status::StructSize, message));
    }
    // SAFETY: zeros and the caller's fields, by the trait's promise.
    Ok(unsafe { value.assume_init() })
}

/// Writes a struct for the caller, as much of it as the caller's version has; `struct_size` stays.
///
/// # Safety
/// Where it is not null, `struct_size` can be read and so many bytes written.
pub(crate) unsafe fn write<T: Struct>(pointer: *mut T, mut value: T) -> Result<(), Failure> {
    let size = checked_size(pointer)?;
    value.set_struct_size(size);
    // SAFETY: so much can be written, and the source is no shorter than the copy.
    unsafe {
        let from = (&raw const value).cast::<u8>();
        let known = size.min(size_of::<T>());
        pointer.cast::<u8>().copy_from_nonoverlapping(from, known);
    }
    Ok(())
}

/// Text into a buffer of the caller's, with a NUL; `needed` gets the length with the NUL.
///
/// # Safety
/// `len` bytes can be written at `buffer`, and a number at `needed` if it is not null.
pub(crate) unsafe fn put_text(
    text: &str,
    buffer: *mut c_char,
    len: usize,
    needed: *mut usize,
) -> Result<(), Failure> {
    if !needed.is_null() {
        // SAFETY: the caller's promise.
        unsafe { put(needed, text.len() + 1, "needed") }?;
    }
    // SAFETY: the caller's promise.
    let buffer = unsafe { slice_mut(buffer.cast::<u8>(), len, "buffer") }?;
    let Some(buffer) = buffer.get_mut(..=text.len()) else {
        let message = format!(
            "the text needs {} bytes, the buffer has {len}",
            text.len() + 1
        );
        return Err(Failure::new(Status::Buffer, message));
    };
    buffer[..text.len()].copy_from_slice(text.as_bytes());
    buffer[text.len()] = 0;
    Ok(())
}

/// A handle's lock, which nobody waits for.
pub(crate) fn lock<'a, T>(mutex: &'a Mutex<T>, what: &str) -> Result<MutexGuard<'a, T>, Failure> {
    mutex.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Failure::new(
            Status::Busy,
            format!("another call is using this {what}; one {what} serves one call at a time"),
        ),
        TryLockError::Poisoned(_) => Failure::new(
            Status::Poisoned,
            format!("an earlier call on this {what} panicked: free it and make another"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_in_use_or_left_by_a_panic_is_refused() {
        let mutex = Mutex::new(0);
        let refused = || {
            lock(&mutex, "session")
                .err()
                .map(|failure| failure.status())
        };
        let held = mutex.lock();
        assert_eq!(refused(), Some(Status::Busy));
        drop(held);
        assert_eq!(refused(), None);
        let panicked = std::panic::catch_unwind(|| {
            let _held = mutex.lock();
            panic!("injected");
        });
        assert!(panicked.is_err());
        assert_eq!(refused(), Some(Status::Poisoned));
    }
}
