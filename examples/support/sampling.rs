//! How tokens are chosen, as options; docs/sampling.md says what they mean.

use std::str::FromStr;

use clap::Args;
use tritwise::{Params, Sampling, Step};

/// How a token is chosen. The same seed gives the same text on every machine.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Seed of the draws.
    #[arg(long, short, default_value_t = 0)]
    pub seed: u64,
    /// Temperature; 0 always takes the likeliest token.
    #[arg(long, value_name = "T", default_value_t = 0.7)]
    pub temp: f32,
    /// Let the temperature move by up to RANGE as the model is more or less sure; 0 for a fixed one.
    #[arg(long, value_name = "RANGE", default_value_t = 0.0)]
    pub dynatemp_range: f32,
    /// The power of the share of entropy that moves the temperature.
    #[arg(long, value_name = "POWER", default_value_t = 1.0)]
    pub dynatemp_exponent: f32,
    /// Draw from the K likeliest tokens; 0 for all.
    #[arg(long, value_name = "K", default_value_t = 40)]
    pub top_k: usize,
    /// Draw from the likeliest tokens that reach probability P; 1 for all.
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    pub top_p: f32,
    /// Drop tokens less than P times as likely as the likeliest; 0 for none.
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    pub min_p: f32,
    /// Draw from the most typical tokens that reach probability P; 1 for all.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub typical_p: f32,
    /// Drop tokens more than N standard deviations below the likeliest; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub top_n_sigma: f32,
    /// Chance to drop the top choices but the least likely of them; 0 for never.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub xtc_probability: f32,
    /// Probability from which a token is a top choice.
    #[arg(long, value_name = "P", default_value_t = 0.1)]
    pub xtc_threshold: f32,
    /// Hold the mean surprise at TAU bits per token, in place of all that drops tokens; 0 for no Mirostat.
    #[arg(long, value_name = "TAU", default_value_t = 0.0)]
    pub mirostat_tau: f32,
    /// How fast Mirostat learns.
    #[arg(long, value_name = "ETA", default_value_t = 0.1)]
    pub mirostat_eta: f32,
    /// Make recent tokens less likely, which small models need; 1 leaves them.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.15)]
    pub repetition_penalty: f32,
    /// Take this from a token's logit for each time it occurred recently.
    #[arg(long, value_name = "PENALTY", default_value_t = 0.0, allow_negative_numbers = true)]
    pub frequency_penalty: f32,
    /// Take this from a token's logit if it occurred recently.
    #[arg(long, value_name = "PENALTY", default_value_t = 0.0, allow_negative_numbers = true)]
    pub presence_penalty: f32,
    /// How many tokens are recent.
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    pub penalty_window: usize,
    /// Take MULTIPLIER · BASE^(n − LENGTH) from a token that would repeat more than n tokens; 0 for no DRY.
    #[arg(long, value_name = "MULTIPLIER", default_value_t = 0.0)]
    pub dry_multiplier: f32,
    /// See --dry-multiplier.
    #[arg(long, value_name = "BASE", default_value_t = 1.75)]
    pub dry_base: f32,
    /// How many tokens have to repeat before DRY acts.
    #[arg(long, value_name = "LENGTH", default_value_t = 2)]
    pub dry_allowed_length: usize,
    /// How many tokens DRY looks back [default: all].
    #[arg(long, value_name = "TOKENS")]
    pub dry_window: Option<usize>,
    /// Text over which no repeat reaches; can be given several times [default: a line's end, `:`, `"`, `*`].
    #[arg(long, value_name = "TEXT")]
    pub dry_breaker: Vec<String>,
    /// Add BIAS to the logit of token ID; can be given several times.
    #[arg(long, value_name = "ID=BIAS", value_parser = bias)]
    pub logit_bias: Vec<(u32, f32)>,
    /// Never choose token ID; can be given several times.
    #[arg(long, value_name = "ID")]
    pub ban: Vec<u32>,
    /// The order of the steps, as `penalties,temperature,top-k,top-p,min-p` [default: as in docs/sampling.md].
    #[arg(long, value_name = "STEPS", value_delimiter = ',', value_parser = Step::from_str)]
    pub order: Vec<Step>,
}

impl SamplingArgs {
    /// These choices.
    pub fn sampling(&self) -> Sampling {
        let params = Params {
            temperature: self.temp,
            dynamic_temperature_range: self.dynatemp_range,
            dynamic_temperature_exponent: self.dynatemp_exponent,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            top_n_sigma: self.top_n_sigma,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            mirostat_tau: self.mirostat_tau,
            mirostat_eta: self.mirostat_eta,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            penalty_window: self.penalty_window,
            dry_multiplier: self.dry_multiplier,
            dry_base: self.dry_base,
            dry_allowed_length: self.dry_allowed_length,
            dry_window: self.dry_window.unwrap_or(usize::MAX),
            logit_bias: self.logit_bias.clone(),
            banned: self.ban.clone(),
            order: if self.order.is_empty() { Step::DEFAULT_ORDER.to_vec() } else { self.order.clone() },
            seed: self.seed,
            dry_breakers: Vec::new(),
        };
        let sampling = Sampling::new(params);
        if self.dry_breaker.is_empty() { sampling } else { sampling.dry_breakers(&self.dry_breaker) }
    }
}

/// A token and what is added to its logit: `ID=BIAS`.
fn bias(text: &str) -> Result<(u32, f32), String> {
    let pair = text.split_once('=').and_then(|(id, bias)| Some((id.parse().ok()?, bias.parse().ok()?)));
    pair.ok_or_else(|| "expected a token id and a number, as 42=-1.5".to_owned())
}
