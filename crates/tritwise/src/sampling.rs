//! How a token is chosen, and when to end.

use tritwise_model::{Keep, Wanted};
use tritwise_sampling::{Needs, Params, Sampler, Step};
use tritwise_tokenizer::{Special, Tokenizer};

use crate::Error;
use crate::model::Inner;
use crate::writer::Guide;

/// How tokens are chosen and when a generation ends.
///
/// The default is that of [`Params`]: temperature 0.8 over the 40 likeliest
/// tokens, cut by top-p 0.95 and min-p 0.05, with seed 0; it goes on until the
/// model ends the text or the context is full. The same seed gives the same
/// text on every machine. What each choice means, and in which order they are
/// applied, is in docs/sampling.md.
///
/// ```
/// let sampling = tritwise::Sampling::default().seed(7).max_tokens(64).stop("\n\n");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    params: Params,
    dry_breakers: Vec<String>,
    pub(crate) logprobs: Option<usize>,
    pub(crate) max_tokens: usize,
    pub(crate) stops: Vec<String>,
    #[cfg(feature = "grammar")]
    grammar: Option<crate::Constraint>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self::new(Params::default())
    }
}

impl Sampling {
    /// Chooses by `params`, without a limit on length.
    pub fn new(params: Params) -> Self {
        let dry_breakers = DRY_BREAKERS.map(str::to_owned).into();
        Self {
            params,
            dry_breakers,
            logprobs: None,
            max_tokens: usize::MAX,
            stops: Vec::new(),
            #[cfg(feature = "grammar")]
            grammar: None,
        }
    }

    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self::new(Params::greedy())
    }

    /// Divides the logits: below 1 sharpens, above 1 flattens, 0 is greedy.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.params.temperature = temperature;
        self
    }

    /// Keeps the `k` likeliest tokens; 0 keeps all.
    pub fn top_k(mut self, k: usize) -> Self {
        self.params.top_k = k;
        self
    }

    /// Keeps the likeliest tokens that together reach probability `p`; 1 keeps all.
    pub fn top_p(mut self, p: f32) -> Self {
        self.params.top_p = p;
        self
    }

    /// Keeps tokens at least `p` times as likely as the likeliest; 0 keeps all.
    pub fn min_p(mut self, p: f32) -> Self {
        self.params.min_p = p;
        self
    }

    /// Keeps the tokens whose information is nearest to the expected one, until they reach probability `p`; 1 keeps all.
    pub fn typical_p(mut self, p: f32) -> Self {
        self.params.typical_p = p;
        self
    }

    /// Keeps tokens whose logit is at most `n` standard deviations below the best; 0 keeps all.
    pub fn top_n_sigma(mut self, n: f32) -> Self {
        self.params.top_n_sigma = n;
        self
    }

    /// Drops, with the chance `probability` for each token, all choices of at least `threshold` but the least likely
    /// of them; a `probability` of 0 never does.
    pub fn xtc(mut self, probability: f32, threshold: f32) -> Self {
        self.params.xtc_probability = probability;
        self.params.xtc_threshold = threshold;
        self
    }

    /// Lets the temperature move by up to `range`: down where the model is sure, up where it is not. 0 keeps it fixed.
    /// The share of entropy that moves it is raised to `exponent`, 1 as a rule.
    pub fn dynamic_temperature(mut self, range: f32, exponent: f32) -> Self {
        self.params.dynamic_temperature_range = range;
        self.params.dynamic_temperature_exponent = exponent;
        self
    }

    /// Holds the text's mean surprise near `tau` bits per token, approached at the rate `eta`, 0.1 as a rule, in place
    /// of all that keeps some tokens only; a `tau` of 0 does not.
    pub fn mirostat(mut self, tau: f32, eta: f32) -> Self {
        self.params.mirostat_tau = tau;
        self.params.mirostat_eta = eta;
        self
    }

    /// Divides the logits of recent tokens, or multiplies negative ones; 1 leaves them.
    pub fn repetition_penalty(mut self, penalty: f32) -> Self {
        self.params.repetition_penalty = penalty;
        self
    }

    /// Takes this from a token's logit for each time it occurs among the recent ones; 0 takes nothing.
    pub fn frequency_penalty(mut self, penalty: f32) -> Self {
        self.params.frequency_penalty = penalty;
        self
    }

    /// Takes this from the logits of recent tokens; 0 takes nothing.
    pub fn presence_penalty(mut self, penalty: f32) -> Self {
        self.params.presence_penalty = penalty;
        self
    }

    /// How many tokens are recent to these three penalties: 64, unless another number is asked for.
    pub fn penalty_window(mut self, tokens: usize) -> Self {
        self.params.penalty_window = tokens;
        self
    }

    /// Takes `multiplier · base^(n − allowed_length)` from the logit of a token that would go on repeating what was
    /// said before, where `n` tokens match already. 1.75 and 2 are usual; a `multiplier` of 0 takes nothing.
    pub fn dry(mut self, multiplier: f32, base: f32, allowed_length: usize) -> Self {
        self.params.dry_multiplier = multiplier;
        self.params.dry_base = base;
        self.params.dry_allowed_length = allowed_length;
        self
    }

    /// How many of the last tokens [`dry`](Self::dry) searches for repeats: all, unless another number is asked for.
    pub fn dry_window(mut self, tokens: usize) -> Self {
        self.params.dry_window = tokens;
        self
    }

    /// Texts over which no repeat of [`dry`](Self::dry) reaches: every token that contains one, and the tokens that
    /// spell one. Takes the place of the usual ones: a line's end, `:`, `"` and `*`.
    pub fn dry_breakers<T: Into<String>>(mut self, texts: impl IntoIterator<Item = T>) -> Self {
        self.dry_breakers = texts.into_iter().map(Into::into).collect();
        self
    }

    /// Adds `bias` to the logit of `token`. Can be given for several tokens.
    pub fn logit_bias(mut self, token: u32, bias: f32) -> Self {
        self.params.logit_bias.push((token, bias));
        self
    }

    /// Never chooses `token`. Can be given for several tokens.
    pub fn ban(mut self, token: u32) -> Self {
        self.params.banned.push(token);
        self
    }

    /// The order in which all this is applied, in place of [`Step::DEFAULT_ORDER`]. Each step at most once, and those
    /// that have something to do. Where the temperature comes first, the whole output head has to be read.
    pub fn order(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.params.order = steps.into();
        self
    }

    /// Has every [`Piece`](crate::Piece) tell its tokens' log-probabilities, and the `best` likeliest tokens in the
    /// place of each; 0 for the tokens alone. The whole output head is then read.
    pub fn logprobs(mut self, best: usize) -> Self {
        self.logprobs = Some(best);
        self
    }

    /// Seed of the draws.
    pub fn seed(mut self, seed: u64) -> Self {
        self.params.seed = seed;
        self
    }

    /// Ends after this many tokens.
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = tokens;
        self
    }

    /// Ends where the text reaches `text`, which is left out. Can be given several times.
    pub fn stop(mut self, text: impl Into<String>) -> Self {
        self.stops.push(text.into());
        self
    }

    /// Has the text follow a grammar, from its first token on: no token is made that the grammar does not allow, and
    /// where it allows no more, the text ends with [`StopReason::End`](crate::StopReason::End). Comes before all that
    /// is said here of probabilities. docs/grammar.md has more.
    #[cfg(feature = "grammar")]
    pub fn grammar(mut self, constraint: &crate::Constraint) -> Self {
        self.grammar = Some(constraint.clone());
        self
    }

    /// What says which tokens may come next in a new text of `model`, if something does.
    pub(crate) fn guide(&self, model: &Inner) -> Result<Option<Box<dyn Guide>>, Error> {
        #[cfg(feature = "grammar")]
        if let Some(constraint) = &self.grammar {
            return Ok(Some(Box::new(constraint.follow(model)?)));
        }
        let _ = model;
        Ok(None)
    }

    /// A sampler for a text of `model` that begins with `history`.
    pub(crate) fn sampler(&self, model: &Inner, history: &[u32]) -> Result<Sampler, Error> {
        let vocab = model.network.config().vocab;
        let named = self.params.logit_bias.iter().map(|(token, _)| token).chain(&self.params.banned);
        if let Some(&id) = named.into_iter().find(|&&id| id as usize >= vocab) {
            return Err(tritwise_sampling::Error::OutOfVocabulary { id, vocab }.into());
        }
        let mut params = self.params.clone();
        if params.dry_multiplier > 0.0 {
            for text in self.dry_breakers.iter().filter(|text| !text.is_empty()) {
                add_breakers(model.tokenizer()?, text, &mut params.dry_breakers)?;
            }
        }
        let mut sampler = params.sampler()?;
        sampler.prompt(history);
        Ok(sampler)
    }

    /// The same for text `index` of a batch, whose seed is `index` further.
    pub(crate) fn nth(&self, index: u64) -> Self {
        let seed = self.params.seed.wrapping_add(index);
        self.clone().seed(seed)
    }

    /// Which logits of the next token make a difference.
    pub(crate) fn wanted<'a>(&self, sampler: &'a mut Sampler, allowed: Option<&'a [u32]>) -> Wanted<'a> {
        match self.keep(sampler.needs(), allowed) {
            Keep { best: 0, .. } => Wanted::Last,
            keep => Wanted::Best(keep),
        }
    }

    /// The same for the token after `ahead`, should the text go on so.
    pub(crate) fn wanted_after<'a>(
        &self,
        sampler: &'a mut Sampler,
        ahead: &[u32],
        allowed: Option<&'a [u32]>,
    ) -> Keep<'a> {
        self.keep(sampler.needs_after(ahead), allowed)
    }

    /// What has to be computed of a row of which only what is `allowed` is looked at.
    fn keep<'a>(&self, needs: Needs<'a>, allowed: Option<&'a [u32]>) -> Keep<'a> {
        match (needs, allowed) {
            // Log-probabilities are those of the whole row.
            _ if self.logprobs.is_some() => Keep::best(0),
            (Needs::Best { best, within, always }, allowed) => Keep { best, within, always, allowed },
            (Needs::All, Some(_)) => Keep { best: usize::MAX, allowed, ..Keep::best(0) },
            (Needs::All, None) => Keep::best(0),
        }
    }
}

/// Where a repeat ends as a rule: the form of lists, dialogues and emphasis may recur.
const DRY_BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

/// The sequences of tokens in which `text` occurs: single ones that contain it, and its own.
fn add_breakers(tokenizer: &Tokenizer, text: &str, breakers: &mut Vec<Vec<u32>>) -> Result<(), Error> {
    let contains = |id: &u32| tokenizer.token_bytes(*id).windows(text.len()).any(|part| part == text.as_bytes());
    let ids = 0..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    breakers.extend(ids.filter(contains).map(|id| vec![id]));
    breakers.push(tokenizer.encode(text, Special::Text)?);
    Ok(())
}
