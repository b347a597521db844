//! A file's normalizers, each given a text that nothing has touched.
//!
//! The `tokenizers` crate carries, through all steps, where each character of
//! the normalized text came from. Nobody here asks, and some harmless-looking
//! sequences (prepending nothing, then NFC) leave that record short, which the
//! next step answers with a panic. So each step gets a new text.

use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper};

/// Steps applied one after the other.
#[derive(Debug, Default)]
pub(crate) struct Normalizers(Vec<NormalizerWrapper>);

impl Normalizers {
    pub(crate) fn new(steps: impl IntoIterator<Item = NormalizerWrapper>) -> Self {
        let mut flat = Vec::new();
        for step in steps {
            match step {
                NormalizerWrapper::Sequence(steps) => flat.extend(Self::new(steps).0),
                step => flat.push(step),
            }
        }
        Self(flat)
    }
}

impl Normalizer for Normalizers {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        for step in &self.0 {
            let mut fresh = NormalizedString::from(text.get());
            step.normalize(&mut fresh)?;
            *text = NormalizedString::from(fresh.get());
        }
        Ok(())
    }
}

/// Normalizers for a text with marks: what they make of it without, and the marks still in it.
pub(crate) struct Marked<'a> {
    pub(crate) normalizers: &'a Normalizers,
    pub(crate) mark: char,
}

impl Normalizer for Marked<'_> {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        let without = |text: &NormalizedString| text.get().replace(self.mark, "");
        let mut unmarked = NormalizedString::from(without(text));
        self.normalizers.normalize(&mut unmarked)?;
        self.normalizers.normalize(text)?;
        // Characters on both sides of a mark may have become one, or a mark may be all there is. There is no name
        // of a control token to keep apart then.
        if without(text) != unmarked.get() {
            *text = unmarked;
        }
        Ok(())
    }
}
