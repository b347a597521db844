//! All parameters, as one plain value.

use crate::stages::{
    Ban, Dry, DynamicTemperature, Greedy, LogitBias, MinP, Mirostat, Penalties, Temperature, TopK, TopNSigma, TopP,
    TypicalP, Xtc,
};
use crate::{Chain, Error, Sampler, Stage, Step};

/// All parameters of sampling, and the order of the steps.
///
/// A step whose parameters are neutral is left out of the chain. Two values take others out:
///
/// * `temperature` 0 means greedy. The best token is taken where the temperature stands, and the cuts right before
///   it that never drop the best token (top-k, top-p, min-p, top-n-sigma) are left out, since they make no difference.
/// * `mirostat_tau` above 0 takes the place of all cuts, which are left out (top-n-sigma, top-k, typical-p, top-p,
///   min-p, XTC), as llama.cpp does: it could not reach its target among what they leave.
///
/// For other chains, build a [`Chain`] by hand.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// 0 means greedy: the best token, no draw that matters. See [`Temperature`].
    pub temperature: f32,
    /// How far the temperature may move as the model is more or less sure; 0 for a fixed one. See [`DynamicTemperature`].
    pub dynamic_temperature_range: f32,
    /// The power of the share of entropy that moves it.
    pub dynamic_temperature_exponent: f32,
    /// 0 keeps all. See [`TopK`].
    pub top_k: usize,
    /// 1 keeps all. See [`TopP`].
    pub top_p: f32,
    /// 0 keeps all. See [`MinP`].
    pub min_p: f32,
    /// 1 keeps all. See [`TypicalP`].
    pub typical_p: f32,
    /// 0 keeps all. See [`TopNSigma`].
    pub top_n_sigma: f32,
    /// The chance to exclude the top choices; 0 is none. See [`Xtc`].
    pub xtc_probability: f32,
    /// How probable a top choice is.
    pub xtc_threshold: f32,
    /// 1 is none. See [`Penalties`].
    pub repetition_penalty: f32,
    /// 0 is none.
    pub frequency_penalty: f32,
    /// 0 is none.
    pub presence_penalty: f32,
    /// How many of the last tokens these three look at.
    pub penalty_window: usize,
    /// 0 is none. See [`Dry`].
    pub dry_multiplier: f32,
    /// How much stronger each further token of a repeat makes it.
    pub dry_base: f32,
    /// How many tokens have to match before the next one costs something.
    pub dry_allowed_length: usize,
    /// How many of the last tokens are searched for repeats.
    pub dry_window: usize,
    /// Sequences of tokens over which no repeat reaches.
    pub dry_breakers: Vec<Vec<u32>>,
    /// The mean surprise, in bits per token, to hold; 0 is no Mirostat. See [`Mirostat`].
    pub mirostat_tau: f32,
    /// How fast it is approached.
    pub mirostat_eta: f32,
    /// What is added to the logits of single tokens. See [`LogitBias`].
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that are never chosen. See [`Ban`].
    pub banned: Vec<u32>,
    /// The order of the steps. Each at most once; one may be missing if its parameters are neutral.
    pub order: Vec<Step>,
    /// Where the random generator starts.
    pub seed: u64,
}

impl Default for Params {
    /// Temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, seed 0. All else is neutral; the values that go with it
    /// once it is not are the usual ones: a window of 64 for penalties, XTC from 0.1, DRY with base 1.75 from 2
    /// tokens on and over the whole text, Mirostat at the rate 0.1, exponent 1.
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, ..Self::neutral() }
    }
}

impl Params {
    /// No step at all: the draw is from the model's own distribution. The rest as in [`default`](Self::default).
    pub fn neutral() -> Self {
        Self {
            temperature: 1.0,
            dynamic_temperature_range: 0.0,
            dynamic_temperature_exponent: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            top_n_sigma: 0.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_window: 64,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_window: usize::MAX,
            dry_breakers: Vec::new(),
            mirostat_tau: 0.0,
            mirostat_eta: 0.1,
            logit_bias: Vec::new(),
            banned: Vec::new(),
            order: Step::DEFAULT_ORDER.to_vec(),
            seed: 0,
        }
    }

    /// The best token every time.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::neutral() }
    }

    /// The stages these parameters ask for, in their order.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a value outside its range, also one that is not used; [`Error::RepeatedStep`] and
    /// [`Error::MissingStep`] for an order that names a step twice, or not though its parameters ask for it.
    pub fn chain(&self) -> Result<Chain, Error> {
        let mut stages: Vec<(Step, Box<dyn Stage>)> = Vec::new();
        for (i, &step) in self.order.iter().enumerate() {
            if self.order.iter().take(i).any(|before| *before == step) {
                return Err(Error::RepeatedStep { step });
            }
            if step == Step::Temperature && self.temperature == 0.0 {
                while stages.pop_if(|(step, _)| KEEP_THE_BEST.contains(step)).is_some() {}
            }
            stages.extend(self.stage(step)?.map(|stage| (step, stage)));
        }
        for step in Step::DEFAULT_ORDER.into_iter().filter(|step| !self.order.contains(step)) {
            if self.stage(step)?.is_some() {
                return Err(Error::MissingStep { step });
            }
        }
        let mut chain = Chain::new();
        stages.into_iter().for_each(|(_, stage)| chain.push(stage));
        Ok(chain)
    }

    /// A sampler with [`chain`](Self::chain) and the seed.
    ///
    /// # Errors
    /// As [`chain`](Self::chain).
    pub fn sampler(&self) -> Result<Sampler, Error> {
        Ok(Sampler::new(self.chain()?, self.seed))
    }

    /// The stage of one step; none if its parameters are neutral.
    fn stage(&self, step: Step) -> Result<Option<Box<dyn Stage>>, Error> {
        let mirostat = self.mirostat_tau != 0.0;
        Ok(match step {
            Step::Ban => stage(!self.banned.is_empty(), Ban::new(self.banned.clone())),
            Step::LogitBias => stage(!self.logit_bias.is_empty(), LogitBias::new(self.logit_bias.clone())?),
            Step::Penalties => {
                let (repetition, frequency, presence) =
                    (self.repetition_penalty, self.frequency_penalty, self.presence_penalty);
                let penalises = repetition != 1.0 || frequency != 0.0 || presence != 0.0;
                let penalties = Penalties::new(repetition, frequency, presence, self.penalty_window)?;
                stage(penalises && self.penalty_window > 0, penalties)
            }
            Step::Dry => {
                let (length, breakers) = (self.dry_allowed_length, self.dry_breakers.clone());
                let dry = Dry::new(self.dry_multiplier, self.dry_base, length, self.dry_window, breakers)?;
                stage(self.dry_multiplier > 0.0 && self.dry_window > 0, dry)
            }
            Step::TopNSigma => stage(self.top_n_sigma > 0.0 && !mirostat, TopNSigma::new(self.top_n_sigma)?),
            Step::TopK => stage(self.top_k > 0 && !mirostat, TopK::new(self.top_k)),
            Step::TypicalP => stage(self.typical_p < 1.0 && !mirostat, TypicalP::new(self.typical_p)?),
            Step::TopP => stage(self.top_p < 1.0 && !mirostat, TopP::new(self.top_p)?),
            Step::MinP => stage(self.min_p > 0.0 && !mirostat, MinP::new(self.min_p)?),
            Step::Xtc => {
                let xtc = Xtc::new(self.xtc_probability, self.xtc_threshold)?;
                stage(self.xtc_probability > 0.0 && !mirostat, xtc)
            }
            Step::Temperature => self.temperature_stage()?,
            // With a stand-in for the neutral value, so that the rate is looked at in any case.
            Step::Mirostat => {
                stage(mirostat, Mirostat::new(if mirostat { self.mirostat_tau } else { 1.0 }, self.mirostat_eta)?)
            }
        })
    }

    fn temperature_stage(&self) -> Result<Option<Box<dyn Stage>>, Error> {
        let (range, exponent) = (self.dynamic_temperature_range, self.dynamic_temperature_exponent);
        if self.temperature == 0.0 {
            DynamicTemperature::new(1.0, range, exponent)?;
            return Ok(stage(true, Greedy));
        }
        let dynamic = DynamicTemperature::new(self.temperature, range, exponent)?;
        if range > 0.0 {
            return Ok(stage(true, dynamic));
        }
        Ok(stage(self.temperature != 1.0, Temperature::new(self.temperature)?))
    }
}

/// Cuts that leave the best candidate in any case.
const KEEP_THE_BEST: [Step; 4] = [Step::TopNSigma, Step::TopK, Step::TopP, Step::MinP];

fn stage(active: bool, stage: impl Stage + 'static) -> Option<Box<dyn Stage>> {
    active.then(|| Box::new(stage) as Box<dyn Stage>)
}
