//! What functions return, and the message beside it.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What became of a call. Codes keep their meaning; new ones may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A pointer is NULL that must not be.
    NullPointer = 1,
    /// struct_size is too small, absurdly large, or covers fields that this library does not know and that are not zero.
    StructSize = 2,
    /// An array is too short for what it should hold, or too long for the address space.
    Length = 3,
    /// A pointer is not aligned for its type.
    Alignment = 4,
    /// A token id is negative, or outside the vocabulary that the profile pins.
    Token = 5,
    /// A number that stands for a choice is none of the choices, or two fields contradict each other.
    Argument = 6,
    /// A string is not UTF-8.
    Text = 7,
    /// The profile is unknown, is not JSON, has an unknown field, or a value out of range.
    Profile = 8,
    /// The key is not one, or is garbled.
    Key = 9,
    /// The key file cannot be opened, belongs to another user, or can be read by others.
    KeyFile = 10,
    /// The key is of another slot than asked for, or the slot is a decoy.
    Slot = 11,
    /// Temperature, top-p or top-k is out of range.
    Sampling = 12,
    /// No candidate of a row has a finite logit or a positive weight.
    NoCandidate = 13,
    /// The scheme or the processor cannot do this.
    Unsupported = 14,
    /// Another call is using the session or exhibit.
    Busy = 15,
    /// An earlier call on the handle panicked: free it.
    Poisoned = 16,
    /// A buffer of the caller's is too small for the text; the length that it needs was written.
    Buffer = 17,
    /// The system gives no threads.
    Threads = 18,
    /// A defect of the library, caught. Free the handles that were in use.
    Panic = 19,
    /// The profile is enforced: its mark cannot be switched off or rationed for one sequence.
    Enforced = 20,
}

impl Status {
    fn text(code: i32) -> &'static std::ffi::CStr {
        match code {
            0 => c"done",
            1 => c"a pointer is NULL",
            2 => c"struct_size is wrong",
            3 => c"an array has the wrong length",
            4 => c"a pointer is not aligned",
            5 => c"a token id is negative",
            6 => c"an argument is none of the choices",
            7 => c"a string is not UTF-8",
            8 => c"the profile cannot be used",
            9 => c"the key is not one",
            10 => c"the key file cannot be used",
            11 => c"the key is of another slot",
            12 => c"a sampling parameter is out of range",
            13 => c"a row has no candidate",
            14 => c"not supported by this scheme or processor",
            15 => c"the handle is in use by another call",
            16 => c"an earlier call on the handle panicked",
            17 => c"the buffer is too small",
            18 => c"the system gives no threads",
            19 => c"a defect of the library was caught",
            20 => c"the profile is enforced",
            _ => c"no status of this version",
        }
    }
}

/// A few words for a status; never NULL. The message of a failure says more: wmk_last_error.
#[unsafe(no_mangle)]
pub extern "C" fn wmk_status_string(status: i32) -> *const c_char {
    Status::text(status).as_ptr()
}

/// A failure on its way out.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    message: String,
}

impl Failure {
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> Status {
        self.status
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// The message of the last failure on this thread, "" before the first: what happened, where, and what to do. Valid
/// until the next failure on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn wmk_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}

fn remember(message: String) {
    // A path given by the caller may hold anything but a NUL; so may a JSON message.
    let message = CString::new(message.replace('\0', "?")).unwrap_or_default();
    // On a thread that is ending there is nobody to read it.
    let _ = LAST.try_with(|last| *last.borrow_mut() = message);
}

/// Every entry point: failures become a status with a message, and so do panics.
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> Status {
    // Unwind safety: what a panic leaves behind is a handle, whose lock then says so.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Status::Ok,
        Ok(Err(Failure { status, message })) => {
            remember(message);
            status
        }
        Err(payload) => {
            // Dropping it could panic again.
            std::mem::forget(payload);
            remember(
                "a defect of the library was caught (a panic; its message is on standard error): free the handles \
                 that were in use, and report it"
                    .to_owned(),
            );
            Status::Panic
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn last() -> String {
        // SAFETY: the pointer is that of this thread's message, and no failure comes between.
        let message = unsafe { CStr::from_ptr(wmk_last_error()) };
        message.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_is_a_status_and_the_thread_goes_on() {
        assert_eq!(guard(|| panic!("injected")), Status::Panic);
        assert!(last().contains("defect") && !last().contains("injected"));
        assert_eq!(guard(|| Ok(())), Status::Ok);
        let failure = || Err(Failure::new(Status::Token, "id\0 -1"));
        assert_eq!(guard(failure), Status::Token);
        assert_eq!(last(), "id? -1");
    }

    #[test]
    fn every_status_has_words() {
        let words: std::collections::HashSet<_> = (0..=21).map(Status::text).collect();
        assert_eq!(words.len(), 22);
        assert_eq!(Status::text(-1), Status::text(21));
        assert_eq!(Status::Enforced as i32, 20);
    }
}
