//! Where the mutants' choices come from.

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): small, and the same
/// everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }

    /// Whether something happens that does once in `n` times.
    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// A place in something of `len` that has room for `size`, and how much of it there is.
    pub(crate) fn range(&mut self, len: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.below(len);
        let size = 1 + self.below(most.min(len.saturating_sub(start)).max(1));
        start..(start + size).min(len)
    }

    /// An integer near which things go wrong, or near `old`.
    pub(crate) fn integer(&mut self, old: u64) -> u64 {
        match self.below(8) {
            0 => self.below(9) as u64,
            1 => old.wrapping_add(1),
            2 => old.wrapping_sub(1),
            3 => old.wrapping_mul(2 + self.below(3) as u64),
            4 => old / 2,
            5 => (1u64 << self.below(64)).wrapping_add(self.below(3) as u64).wrapping_sub(1),
            6 => *self
                .pick(&[u64::MAX, i64::MAX as u64, 1 << 63, u32::MAX as u64, i32::MAX as u64, 1 << 31, (1 << 42) + 1])
                .unwrap_or(&0),
            _ => self.next(),
        }
    }

    /// A float near which things go wrong.
    pub(crate) fn float(&mut self) -> f64 {
        let wrong = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-6, 1e6, 3e38, 1e308, -3e38, 1e39];
        match self.below(6) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            3 => f64::from_bits(self.next()),
            _ => self.pick(&wrong).copied().unwrap_or_default(),
        }
    }

    /// A text that nobody expects.
    pub(crate) fn text(&mut self, old: &str) -> String {
        let texts = [
            "",
            " ",
            "\0",
            "../../etc/passwd",
            "\u{1b}[2J",
            "<0x-1>",
            "<0xZZ>",
            "▁",
            "Ġ",
            "<|end|>",
            "\u{10ffff}",
            "é",
            "llama",
            "gpt2",
            "bitnet",
            "qwen3",
            "gemma3",
            "F32",
            "U8",
            "I64",
            "(a*)*b",
            "((((((((((a{1,30}){1,30}){1,30}",
            "[\\p{L}--",
            "{% for i in range(999999999) %}x{% endfor %}",
            "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
            "{{ 'x' * 999999999 }}",
            "{{",
            "NFC",
            "BPE",
            "silu",
        ];
        match self.below(6) {
            0 => old.repeat(2),
            1 => old.chars().skip(1).collect(),
            2 => "x".repeat(1 << self.below(17)),
            3 => old.chars().rev().collect(),
            _ => self.pick(&texts).copied().unwrap_or_default().to_owned(),
        }
    }
}
