//! The steps of a chain by name, and their usual order.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// One step of the chain that [`Params`](crate::Params) builds, by the name that [`Params::order`](crate::Params::order)
/// and command lines use.
///
/// ```
/// use tritwise_sampling::Step;
///
/// assert_eq!("top-k".parse(), Ok(Step::TopK));
/// assert_eq!(Step::TopK.to_string(), "top-k");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// [`Ban`](crate::Ban).
    Ban,
    /// [`LogitBias`](crate::LogitBias).
    LogitBias,
    /// [`Penalties`](crate::Penalties).
    Penalties,
    /// [`Dry`](crate::Dry).
    Dry,
    /// [`TopNSigma`](crate::TopNSigma).
    TopNSigma,
    /// [`TopK`](crate::TopK).
    TopK,
    /// [`TypicalP`](crate::TypicalP).
    TypicalP,
    /// [`TopP`](crate::TopP).
    TopP,
    /// [`MinP`](crate::MinP).
    MinP,
    /// [`Xtc`](crate::Xtc).
    Xtc,
    /// [`Temperature`](crate::Temperature), [`DynamicTemperature`](crate::DynamicTemperature) or
    /// [`Greedy`](crate::Greedy).
    Temperature,
    /// [`Mirostat`](crate::Mirostat).
    Mirostat,
}

impl Step {
    /// Every step, in the default order.
    ///
    /// What concerns single tokens comes first, so that every cut judges what
    /// is really on offer. Then come the cuts, the cheapest early: top-n-sigma
    /// alone before top-k, since it is defined on the whole row. Temperature follows
    /// the cuts, so that these judge the model's own probabilities: a high
    /// temperature then adds variety among the tokens the model thinks
    /// possible, and does not bring the impossible ones back. Mirostat is
    /// last, because it steers the surprise of what is drawn. It is llama.cpp's order.
    pub const DEFAULT_ORDER: [Self; 12] = [
        Self::Ban,
        Self::LogitBias,
        Self::Penalties,
        Self::Dry,
        Self::TopNSigma,
        Self::TopK,
        Self::TypicalP,
        Self::TopP,
        Self::MinP,
        Self::Xtc,
        Self::Temperature,
        Self::Mirostat,
    ];

    /// The step's name, as [`FromStr`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::LogitBias => "logit-bias",
            Self::Penalties => "penalties",
            Self::Dry => "dry",
            Self::TopNSigma => "top-n-sigma",
            Self::TopK => "top-k",
            Self::TypicalP => "typical-p",
            Self::TopP => "top-p",
            Self::MinP => "min-p",
            Self::Xtc => "xtc",
            Self::Temperature => "temperature",
            Self::Mirostat => "mirostat",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Step {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let step = Self::DEFAULT_ORDER.into_iter().find(|step| step.name() == name);
        step.ok_or_else(|| Error::UnknownStep { name: name.to_owned() })
    }
}
