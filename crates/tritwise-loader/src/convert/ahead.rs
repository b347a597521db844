//! Work on several threads whose results are taken one after the other.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::thread;

use tritwise_tensor::CheckpointError;

/// What the pieces that are being made may take together, in bytes, unless a single one takes more.
const BUDGET: usize = 512 << 20;

/// Calls `make` for every piece, each on a thread of its own and a few at a time, and `take` for
/// the results in the order of the pieces, on this thread. On WebAssembly, which has no threads, this one does all.
///
/// `memory` says how many bytes a piece takes while it is made.
///
/// # Errors
/// The first that `make` or `take` gives, in the order of the pieces.
pub(super) fn ahead<P: Sync, T: Send>(
    pieces: &[P],
    memory: impl Fn(&P) -> usize,
    make: impl Fn(&P) -> Result<T, CheckpointError> + Sync,
    mut take: impl FnMut(&P, T) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    if cfg!(target_family = "wasm") {
        return pieces.iter().try_for_each(|piece| take(piece, make(piece)?));
    }
    // Twice the threads, since the first result is waited for while later ones, smaller perhaps, are ready.
    let most = 2 * thread::available_parallelism().map_or(1, usize::from);
    let make = &make;
    thread::scope(|scope| {
        let mut running = VecDeque::new();
        let mut in_use = 0;
        let mut waiting = pieces.iter().peekable();
        loop {
            while let Some(&piece) = waiting.peek()
                && running.len() < most
                && (running.is_empty() || in_use + memory(piece) <= BUDGET)
            {
                in_use += memory(piece);
                running.push_back((piece, scope.spawn(move || make(piece))));
                waiting.next();
            }
            let Some((piece, thread)) = running.pop_front() else { return Ok(()) };
            let made = thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            take(piece, made)?;
            in_use -= memory(piece);
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_order_whatever_they_take() {
        let pieces: Vec<usize> = (0..100).collect();
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut taken = Vec::new();
        // Every third piece takes the whole budget, so it shares it with no other.
        let memory = |piece: &usize| if piece.is_multiple_of(3) { BUDGET } else { 1 };
        let make = |piece: &usize| {
            let together = now.fetch_add(memory(piece), Ordering::SeqCst) + memory(piece);
            most.fetch_max(together, Ordering::SeqCst);
            if piece.is_multiple_of(2) {
                thread::yield_now();
            }
            now.fetch_sub(memory(piece), Ordering::SeqCst);
            Ok(2 * piece)
        };
        ahead(&pieces, memory, make, |piece, made| {
            taken.push((*piece, made));
            Ok(())
        })
        .unwrap();
        assert_eq!(taken, pieces.iter().map(|piece| (*piece, 2 * piece)).collect::<Vec<_>>());
        assert_eq!(most.into_inner(), BUDGET);
    }

    #[test]
    fn the_first_error_ends_it() {
        let error = |message: String| CheckpointError { file: "f".into(), tensor: None, message };
        let made = |piece: &usize| if *piece >= 5 { Err(error(format!("{piece}"))) } else { Ok(()) };
        let mut taken = 0;
        let found = ahead(
            &[0, 1, 2, 5, 6, 7],
            |_| 1,
            made,
            |_, ()| {
                taken += 1;
                Ok(())
            },
        );
        assert_eq!((found, taken), (Err(error("5".into())), 3));
        let found = ahead(&[0, 1], |_| 1, made, |_, ()| Err(error("taken".into())));
        assert_eq!(found, Err(error("taken".into())));
    }
}
