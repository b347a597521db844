//! Strings that end a generation, found wherever the pieces of text are cut.

use crate::Error;

/// Looks for stop strings in a text that arrives in pieces.
///
/// Text that may be the start of a stop string is held back until the next
/// piece decides; everything else is released at once. The match is the stop
/// string that is complete first, the longest if several end at the same place:
/// a rule that depends on the text alone and not on its cuts.
///
/// ```
/// use tritwise_tokenizer::StopStrings;
///
/// let mut stops = StopStrings::new(["User:", "\n\n"])?;
/// let mut text = String::new();
/// assert_eq!(stops.push("Fine.\nUs", &mut text), None);
/// assert_eq!(text, "Fine.\n"); // "Us" may become "User:"
/// assert_eq!(stops.push("er: and", &mut text), Some(0));
/// assert_eq!(text, "Fine.\n");
/// # Ok::<(), tritwise_tokenizer::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    /// The longest end of the text so far that begins a stop string.
    held: String,
}

impl StopStrings {
    /// Looks for any of `stops`; none of them is fine.
    ///
    /// # Errors
    /// [`Error::EmptyStop`] for an empty string.
    pub fn new<S: Into<String>>(stops: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let stops: Vec<String> = stops.into_iter().map(Into::into).collect();
        match stops.iter().position(String::is_empty) {
            Some(index) => Err(Error::EmptyStop(index)),
            None => Ok(Self { stops, held: String::new() }),
        }
    }

    /// The strings looked for, in the order given.
    pub fn stops(&self) -> &[String] {
        &self.stops
    }

    /// Takes the next piece and appends to `out` what is certainly not part of a stop string.
    ///
    /// On a match, `out` has received the text up to the stop string, the
    /// string and what follows it are dropped, and its index is returned.
    pub fn push(&mut self, piece: &str, out: &mut String) -> Option<usize> {
        self.held.push_str(piece);
        if let Some((index, start)) = self.first_match() {
            self.held.truncate(start);
            self.finish(out);
            return Some(index);
        }
        let keep = self.undecided();
        let release = self.held.len() - keep;
        out.push_str(self.held.drain(..release).as_str());
        None
    }

    /// Ends the text: what was held back is released.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// The index and start of the match that ends first, the longest of those.
    fn first_match(&self) -> Option<(usize, usize)> {
        let matches = self.stops.iter().enumerate().filter_map(|(index, stop)| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, index))
        });
        matches.min().map(|(_, start, index)| (index, start))
    }

    /// The length of the longest end of the text that begins a stop string.
    fn undecided(&self) -> usize {
        let begins = |stop: &String| {
            let starts = (1..stop.len()).rev().filter_map(|len| stop.get(..len));
            starts.into_iter().find(|start| self.held.ends_with(start)).map_or(0, str::len)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }
}
