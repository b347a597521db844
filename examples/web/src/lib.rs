//! A model behind five functions that JavaScript can call; `tritwise.mjs` calls them.
//!
//! WebAssembly passes numbers only, so a text is a pointer and a length in this module's memory. JavaScript asks for room
//! ([`allocate`]), writes there, and hands it over; what goes the other way it copies before it returns.

mod random;

use std::cell::RefCell;

use tritwise::{Model, Sampling};

// What JavaScript provides, in the module `host`.
#[link(wasm_import_module = "host")]
unsafe extern "C" {
    /// Takes a piece of new text.
    safe fn piece(text: *const u8, len: usize);
    /// Takes the reason of a failure, before the call that failed returns 0, or before a panic traps.
    safe fn failed(message: *const u8, len: usize);
}

thread_local! {
    /// The model that [`open`] opened. A program of its own would hold several.
    static MODEL: RefCell<Option<Model>> = const { RefCell::new(None) };
}

/// `len` bytes for JavaScript to write to; the call that they are handed to frees them.
#[unsafe(no_mangle)]
extern "C" fn allocate(len: usize) -> *mut u8 {
    Box::into_raw(vec![0_u8; len].into_boxed_slice()).cast()
}

/// Opens the GGUF file in `bytes`, in the place of the model before. Returns 1, or 0 for a failure.
///
/// # Safety
/// `bytes` and `len` are those of an [`allocate`], and are not used again.
#[unsafe(no_mangle)]
unsafe extern "C" fn open(bytes: *mut u8, len: usize) -> i32 {
    std::panic::set_hook(Box::new(|panic| {
        fail(&panic.to_string());
    }));
    // SAFETY: that is this function's own contract.
    let bytes = unsafe { taken(bytes, len) };
    match Model::builder().open_bytes("model", bytes) {
        Ok(model) => {
            MODEL.set(Some(model));
            1
        }
        Err(error) => fail(&error.to_string()),
    }
}

/// Continues a text with at most `max_tokens` tokens, piece by piece. Returns 1, or 0 for a failure.
///
/// # Safety
/// As for [`open`].
#[unsafe(no_mangle)]
unsafe extern "C" fn generate(prompt: *mut u8, len: usize, seed: u64, max_tokens: usize) -> i32 {
    // SAFETY: that is this function's own contract.
    let prompt = unsafe { taken(prompt, len) };
    let sampling = Sampling::default().seed(seed).max_tokens(max_tokens);
    let generated = MODEL.with_borrow(|model| {
        let model = model.as_ref().ok_or("no model is open")?;
        let mut session = model.session();
        session.push(str::from_utf8(&prompt)?)?;
        for text in session.generate(&sampling)? {
            let text = text?.text;
            piece(text.as_ptr(), text.len());
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    });
    generated.map_or_else(|error| fail(&error.to_string()), |()| 1)
}

/// The instruction set in use, as a [`piece`].
#[unsafe(no_mangle)]
extern "C" fn isa() {
    let isa = MODEL.with_borrow(|model| model.as_ref().map_or("", Model::isa));
    piece(isa.as_ptr(), isa.len());
}

/// What [`allocate`] gave.
///
/// # Safety
/// `bytes` and `len` are those of an [`allocate`], and are not used again.
unsafe fn taken(bytes: *mut u8, len: usize) -> Vec<u8> {
    // SAFETY: `allocate` made a box of this place and length, and nobody else will free it.
    unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(bytes, len)) }.into_vec()
}

fn fail(message: &str) -> i32 {
    failed(message.as_ptr(), message.len());
    0
}
