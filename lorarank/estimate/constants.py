"""Every number the estimate turns on, each with where it comes from (floor 2).

"First sweeps" are four tasks on SmolLM2-135M (banking77, e2e_nlg, gsm8k, pubmedqa), trained at every rank with one seed
on 61,000 tokens. The default rule was chosen on the pairs of data/evidence/bakeoff.json.
"""

from __future__ import annotations

from lorarank.heuristics import IN_DOUBT

CONSTANT = 16
"""The customary rank. On the pairs of data/evidence/bakeoff.json it loses less than the answers, which take two fifths
of its parameters on average, so below it the answer says so."""

ENERGY = 0.90
"""Share of Σσ² to keep. First sweeps: 90 % and the median give 2, 3, 4 and 6 where 2, 2, 4 and 4 to 16 suffice."""

ENERGY_RIGHT = "half"
"""Of the pairs of data/evidence/bakeoff.json on which that is within a doubling of what suffices."""

POWER, POWER_RANGE = 1.0, (0.75, 1.3)
"""A rank r loses the share of the gain that r = 1 loses, divided by r to this power; and the powers at the interval's
upper and lower end. Of the 33 sweeps of data/evidence/pairs that lose 2 % or more at r = 1, the loss falls from there
to r = 4 with powers of 0.61 to 1.20 on 28 and of 0.4 to 1.6 on all; a probe may lose nearly twice the sweep's share.
How often the interval then holds the sweep's rank is in data/evidence/answers.json, most of whose pairs were known when
this was set."""

KNOWN_TARGETS = 0.9
"""Share of held-out targets that training told, from which they ask for recall: all of them in the pairs of facts."""

CUT_FACTOR = 2.0
"""Times what the rank may lose, that the cut may lose whose rank the answer lies halfway to. Of the cuts that lose at
most 1, 2, 5 or 10 %, where the rank may lose 1, that of 2 % alone is the nearest to the sweeps of
data/evidence/bakeoff.json."""

ONE_SIDED = 1.645
"""Standard errors of a one-sided 95 %, where errors are normal: for claims that something is small or large enough, as
the companion's distance in training has to change by them between the last two quarters to say that it falls behind
further or catches up."""

ASKED_FOR_MORE = {"up": (4, 13), "stays": (6, 20), "down": (2, 26)}
"""Of how many runs whose companion fell behind further, kept its distance or caught up as training ended one of twice
the tokens asked for more, and of how many: data/evidence/longer-runs.json, all of it trained after that was settled. On
the four tasks known before, those of data/evidence/invariance.json, it was 4 of 5, 1 of 5 and 1 of 2."""

AT_TIMES = {2: (57, 59), 4: (37, 39), 8: (19, 19)}
"""Times the tokens, and of how many runs of data/evidence/longer-runs.json the answer for them is within a
doubling of the longer run's."""

SEED_SPREAD = 0.005
"""Standard deviation between seeds of one adapter's loss, as a share of the gain, beyond what a seed moves at all ranks
alike, where it is not measured. The sweeps of data/evidence/pairs measured 0.0047 together (root mean square), nearly 0
to 0.008 one by one, and 0.022 on Shakespeare."""

STANDARD_ERRORS = 1.96
"""The ends of intervals: 95 of 100 where errors are normal."""

QUANTILE = 0.5
"""Which module speaks for all, by energy. First sweeps: the 0.9 quantile overshoots, the largest more so."""

LOWER_STEP = 0.05
"""The interval's lower reading keeps this much less energy. A judgement: 85 % and 95 % bracket the sweeps' answers."""

UPPER_FRACTION = 0.5
"""The upper reading keeps half of what the rule leaves out: 95 % at 90 %. The same judgement."""

RANK_CEILING = 0.5
"""Largest answer as a share of the probe's rank: beyond it the probe's own ceiling shapes the spectrum."""

LOSS_SHARE = 0.01
"""How much of the gain a rank, a cut or a missing type may cost, unless another share is asked for: the definition of a
sufficient rank, of a sweep's ``r_sufficient`` too, which is held against the best rank."""

TOLD_LOSSES = (0.0075, 0.10)
"""What may be lost, from the least to the most that answers were held against sweeps at and were right: within a
doubling on nine pairs of ten, the geometric mean losing less than either reading, and always 16 less than the answers
(data/evidence/allowances.json). Below it sweeps hardly tell ranks apart, probes of r = 32 are too low for a quarter of
the pairs, and of the rest four in five are right."""

PLENTY, ENOUGH, ENOUGH_LOSES = 0.05, 2, 0.077
"""Where so much of the gain may be lost, this constant was within a doubling of what suffices on every pair, and right
more often than the rule (data/evidence/allowances.json); and what it lost at most (data/evidence/bakeoff.json)."""

REFUSED_GAIN = 2.0
"""Gain in standard errors, and below: no evidence that the probe learned anything (two-sided 5 %)."""

SURE_OF_PROMPTS = 4.0
"""What other rows' prompts lose, in standard errors, up to which it is said that prompts may be of no use. The answer
takes them as used from :data:`REFUSED_GAIN` on, but the documents are few and their differences have heavy tails: of 15
probes of shuffled labels one came to 3.6 (data/evidence/refusals.json, known when this was set). Of data/evidence/pairs
four lie between the two, three of them facts asked in other words; the rest that use prompts have 5.5 or more."""

LEAST_GAIN = 0.02
"""Share of the base's loss, up to which a gain says nothing of ranks: the base predicts the data already. Text the base
itself wrote gave 0.015 (data/evidence/refusals.json), the smallest pair of data/evidence/pairs 0.14."""

HIGHEST_RATE = 0.01
"""Learning rate above which no rank of any sweep of data/evidence/pairs did best."""

FAR_OFF = 10
"""Times that rate from which a given one is far off, however short trials come out beside it. Chosen, not fitted: the
probes at thirty times the best rate of data/evidence/refusals.json had up to 0.17, and their trials told all of them;
one at 0.3 looked better than a tenth and ten times of it in four steps."""

ROSE = 0.02
"""By how much of itself the training loss must have risen to be said to: less is chance where nothing is learned (on
data that the base knew it went from 1.036 to 1.038 at a good rate). Chosen, not fitted."""

LEAST_OVER_FREQUENCIES = 0.05
"""Gain over token frequencies, in nats per token, up to which nothing but them was learned."""

WEAK_GAIN = 5.0
"""Gain in standard errors below which a hundredth of it drowns in the noise of the truncation curve. A judgement."""

REFUSED_AGREEMENT = 0.10
"""Energy-weighted agreement of replicates below which, with no replicated component, the energy is noise. Good short
probes measured 0.37 (512 tokens a step) and 0.59 (1,024)."""

WEAK_AGREEMENT = 0.25
"""Agreement that lowers confidence: two thirds of the smallest measured on a good probe."""

GROWTH = 1.05
"""Rank at the end over rank at three quarters, from which it counts as still growing. With the rate falling linearly to
zero the last quarter is a sixteenth of the learning: 5 % there is a rank that grows as time to the power 0.75."""

GROWTH_POINT = 0.75
"""The point of the trajectory that the end is compared with."""

FEW_STEPS = 60
"""Optimiser steps below which confidence is low: half of what the first sweeps took (120)."""

MANY_EPOCHS = 4.0
"""Passes over the data above which repetition is no longer as good as fresh text. N. Muennighoff et al., Scaling
Data-Constrained Language Models, 2023 (arXiv:2305.16264)."""

WIDE_OCTAVES = 2.0
"""Width of the interval, in doublings, above which it says little. First sweeps: 85 to 95 % span two at most."""

KEEP_FACTOR = 4.0
"""Keep rank over train rank above which they contradict each other. First sweeps: 8 against 4 on gsm8k."""

RATE_CHANGE = 2.0
"""How far the probe's learning rate is scaled for another alpha. The first steps of B move ΔW in proportion to rate ×
alpha, but A moves at the rate itself, and nobody has measured further than this. A judgement."""

MEDIUM_DOUBTS = 2
"""Doubts that still leave medium confidence; none leaves high, more leave low. How often each is right is in
data/evidence/answers.json."""

FALLBACK = IN_DOUBT
"""What a refusal names instead: the reference table's rank for when nothing is known."""
